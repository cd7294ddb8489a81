//! What our sessions call themselves in `pg_stat_activity`, so that whoever asks learns who holds a lock.
//!
//! `ipc-mutex <host> <pid>`, and behind it, where a session was used for a request with a label,
//! ` #<mark> <thread> <label>`. The mark says which lock that is about, because a session may hold several. The server
//! keeps 63 bytes of it all, in ASCII, so that a long label is cut.

use super::key::Key;
use crate::backend::{Ask, Identity};

/// The longest `application_name` that the server keeps.
const LENGTH: usize = 63;
/// The longest part of a host name; process id and the beginning of a label must fit as well.
const HOST: usize = 28;
const PACKAGE: &str = "ipc-mutex";

/// The name of a session that is used for nothing in particular.
pub fn plain(identity: &Identity) -> String {
    let host: String = identity
        .host
        .chars()
        .filter(char::is_ascii_graphic)
        .take(HOST)
        .collect();
    let host = if host.is_empty() { "-" } else { host.as_str() };
    format!("{PACKAGE} {host} {}", identity.pid)
}

/// The name of a session that is used for `ask`, if there is a label to show.
pub fn noted(identity: &Identity, key: Key, ask: &Ask) -> Option<String> {
    let label: String = ask.label.as_ref()?.chars().filter(|c| matches!(c, ' '..='~')).collect();
    let mut name = format!("{} #{} {} {label}", plain(identity), mark(key), ask.thread);
    name.truncate(LENGTH);
    name.truncate(name.trim_end().len());
    Some(name)
}

/// Who goes by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    pub host: String,
    pub pid: u32,
    pub thread: Option<u32>,
    pub label: Option<String>,
}

/// Who goes by `name` and uses the lock `key`; nothing for any program's name that is not one of ours.
pub fn read(name: &str, key: Key) -> Option<Who> {
    let mut words = name.splitn(4, ' ');
    if words.next() != Some(PACKAGE) {
        return None;
    }
    let (host, pid) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    let note = words.next().and_then(|note| note.strip_prefix('#'));
    let about = note
        .and_then(|note| note.strip_prefix(mark(key).as_str()))
        .and_then(|note| note.strip_prefix(' '));
    let (thread, label) = match about {
        None => (None, None),
        Some(about) => {
            let (thread, label) = about.split_once(' ').unwrap_or((about, ""));
            (
                thread.parse().ok(),
                Some(label.to_owned()).filter(|label| !label.is_empty()),
            )
        }
    };
    Some(Who {
        host,
        pid,
        thread,
        label,
    })
}

/// Four hexadecimal digits that tell the locks of one session apart.
fn mark(key: Key) -> String {
    let (class, object, _) = key.locator();
    let mixed = (class ^ object).cast_unsigned();
    format!("{:04x}", (mixed ^ mixed >> 16) & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Attempt, Owner, Stage};
    use crate::core::lease::{Lease, Terms};
    use crate::core::mode::Mode;
    use std::cell::Cell;
    use std::time::Duration;

    fn ask(label: Option<&str>, thread: u32) -> Ask {
        Ask {
            id: "foo".into(),
            owner: Owner("o".into()),
            mode: Mode::Exclusive,
            attempt: Attempt::Wait,
            fenced: false,
            label: label.map(Into::into),
            thread,
            since: 0,
            stage: Cell::new(Stage::Waiting),
            lease: Lease::new(Terms {
                ttl: Duration::from_secs(10),
                renew_every: Duration::from_secs(3),
            }),
        }
    }

    fn identity(host: &str) -> Identity {
        Identity {
            host: host.into(),
            pid: 4711,
            instance: "0".into(),
        }
    }

    fn who(host: &str, thread: Option<u32>, label: Option<&str>) -> Option<Who> {
        Some(Who {
            host: host.into(),
            pid: 4711,
            thread,
            label: label.map(Into::into),
        })
    }

    #[test]
    fn a_note_is_read_for_its_own_lock_only() {
        let (key, other) = (Key::Big(1), Key::Big(2));
        let name = noted(&identity("db-7"), key, &ask(Some("nightly report"), 3)).unwrap();
        assert_eq!(read(&name, key), who("db-7", Some(3), Some("nightly report")));
        assert_eq!(read(&name, other), who("db-7", None, None));
        let name = noted(&identity("db-7"), key, &ask(Some(""), 2)).unwrap();
        assert_eq!(read(&name, key), who("db-7", Some(2), None));
        assert_eq!(noted(&identity("db-7"), key, &ask(None, 2)), None);
        assert_eq!(plain(&identity("db-7")), "ipc-mutex db-7 4711");
    }

    #[test]
    fn what_is_too_long_or_not_ascii_is_cut() {
        let key = Key::Pair(-1, 5);
        let name = noted(&identity(&"h".repeat(80)), key, &ask(Some(&"ä label ".repeat(20)), 0)).unwrap();
        assert!(name.len() <= LENGTH && name.is_ascii(), "{name}");
        let who = read(&name, key).unwrap();
        assert_eq!((who.pid, who.thread), (4711, Some(0)));
        assert!(who.label.unwrap().contains("label"));
    }

    #[test]
    fn only_our_own_names_are_understood() {
        for foreign in [
            "",
            "psql",
            "ipc-mutex",
            "ipc-mutex 1.1.2",
            "ipc-mutex x y",
            "my ipc-mutex x 1",
        ] {
            assert_eq!(read(foreign, Key::Big(1)), None, "{foreign}");
        }
        assert_eq!(read("ipc-mutex a b", Key::Big(1)), None);
    }
}
