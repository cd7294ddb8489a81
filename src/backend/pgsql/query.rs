//! Who holds a lock and who waits for it, as far as PostgreSQL tells, and what our sessions call themselves for that.
//!
//! `pg_locks` knows modes and sessions, `pg_stat_activity` the names of the sessions' programs. Ours are `ipc-mutex <host> <pid>`, and
//! behind it, where a session was used for a request with a label, ` #<mark> <thread> <label>`. The mark says which lock that is about,
//! because a session may hold several. The server keeps 63 bytes of it all, in ASCII, so that a long label is cut.
//! What this process itself asked, it knows better.

use super::control::Control;
use super::key::{Key, Shape};
use super::request::{Phase, Request};
use super::session::{Parameter, Session};
use super::sql;
use crate::backend::{Ask, Attempt, Identity, Info, Snapshot, Snapshots};
use crate::core::mode::Mode;
use crate::error::Result;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

type Requests = Vec<Rc<Request>>;

/// Asks the server about the lock `key`; `ours` are this process's requests for it.
pub async fn query(control: &Control, key: Key, ours: Requests, identity: &Identity) -> Result<Snapshot> {
    let (class, object, sub) = key.locator();
    let parameters: [Parameter<'_>; 3] = [(&class, Type::INT8), (&object, Type::INT8), (&sub, Type::INT2)];
    let rows = control.ask(sql::who, &parameters).await?;
    Ok(shown(&rows.iter().collect::<Vec<_>>(), key, ours, identity))
}

/// Asks the server about all locks, and tells of the `wanted` ones: it knows them by their keys, from which no name can be told. Those of
/// the API of the package advisory-lock are not among them, for a pair of numbers is no name.
pub async fn list(
    control: &Control,
    wanted: Vec<(Arc<str>, Key)>,
    ours: Requests,
    identity: &Identity,
) -> Result<Snapshots> {
    let rows = control.ask(sql::who_at_all, &[]).await?;
    let mut by_key: HashMap<(i64, i64, i16), Vec<&Row>> = HashMap::new();
    for row in &rows {
        let number = |column| row.try_get(column).unwrap_or_default();
        let locator = (number(5), number(6), row.try_get(7).unwrap_or_default());
        by_key.entry(locator).or_default().push(row);
    }
    let mut ours_by_key: HashMap<Key, Requests> = HashMap::new();
    for request in ours {
        ours_by_key.entry(request.key).or_default().push(request);
    }
    let wanted = wanted.into_iter().filter(|(_, key)| key.shape() == Shape::Big);
    let snapshot = |(id, key): (_, Key)| {
        let rows = by_key.get(&key.locator()).map_or(&[][..], Vec::as_slice);
        (
            id,
            shown(rows, key, ours_by_key.get(&key).cloned().unwrap_or_default(), identity),
        )
    };
    Ok(wanted.map(snapshot).collect())
}

/// What the server's rows about the lock `key` say, and what this process knows of its own requests.
fn shown(rows: &[&Row], key: Key, mut ours: Requests, identity: &Identity) -> Snapshot {
    // Several may stand at one session; among themselves they are shown in the order of their asking. Owners are numbered.
    ours.sort_by_key(|request| {
        let owner = &request.ask.owner.0;
        (request.ask.since, owner.len(), owner.clone())
    });
    let mut snapshot = Snapshot::default();
    let mut told: HashSet<*const Request> = HashSet::new();
    for row in rows {
        let pid: i32 = row.try_get(0).unwrap_or_default();
        let mode = if row.try_get(1).unwrap_or(false) {
            Mode::Shared
        } else {
            Mode::Exclusive
        };
        let granted: bool = row.try_get(2).unwrap_or(false);
        let known: Vec<_> = ours.iter().filter(|request| stands_at(request, pid, granted)).collect();
        let list = if granted {
            &mut snapshot.held
        } else {
            &mut snapshot.pending
        };
        if known.is_empty() {
            let who = read(row.try_get(3).unwrap_or_default(), key);
            let since: Option<i64> = row.try_get(4).unwrap_or_default();
            list.push(Info {
                mode,
                token: None,
                host: who.as_ref().map(|who| who.host.clone()),
                pid: who.as_ref().map(|who| who.pid),
                thread: who.as_ref().and_then(|who| who.thread),
                label: who.and_then(|who| who.label),
                since: since.and_then(|since| u64::try_from(since).ok()),
            });
        }
        for request in known {
            told.insert(Rc::as_ptr(request));
            list.push(describe(request, identity));
        }
    }
    // Those that wait in this process for a side session are behind all that wait at the server.
    let rest = ours
        .iter()
        .filter(|request| request.ask.attempt == Attempt::Wait && matches!(request.phase(), Phase::Asking))
        .filter(|request| !told.contains(&Rc::as_ptr(request)));
    snapshot.pending.extend(rest.map(|request| describe(request, identity)));
    snapshot
}

fn stands_at(request: &Request, pid: i32, granted: bool) -> bool {
    if granted {
        request
            .hold
            .borrow()
            .as_ref()
            .is_some_and(|hold| hold.session.id.pid == pid)
    } else {
        request.wait.borrow().pid.get() == Some(pid)
    }
}

fn describe(request: &Request, identity: &Identity) -> Info {
    let hold = request.hold.borrow();
    Info {
        mode: request.ask.mode,
        token: hold.as_ref().and_then(|hold| hold.token.get()),
        host: Some(identity.host.clone()),
        pid: Some(identity.pid),
        thread: Some(request.ask.thread),
        label: request.ask.label.as_deref().map(str::to_owned),
        since: Some(hold.as_ref().map_or(request.ask.since, |hold| hold.since)),
    }
}

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

/// The name of `session` while it is used for `request`, if that is to be another one: without a label it keeps its name, unless that
/// was given for this lock, for a former label must not be taken for this one's.
pub async fn rename(session: &Session, request: &Request, identity: &Identity) {
    let name = match noted(identity, request.key, &request.ask) {
        Some(name) => name,
        None if session.is_named_for(request.key) => plain(identity),
        None => return,
    };
    session.rename(request.key, name).await;
}

/// The name of a session that is used for `ask`, if there is a label to show.
fn noted(identity: &Identity, key: Key, ask: &Ask) -> Option<String> {
    let label: String = ask.label.as_ref()?.chars().filter(|c| matches!(c, ' '..='~')).collect();
    let mut name = format!("{} #{} {} {label}", plain(identity), mark(key), ask.thread);
    name.truncate(LENGTH);
    name.truncate(name.trim_end().len());
    Some(name)
}

/// Who goes by a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Who {
    host: String,
    pid: u32,
    thread: Option<u32>,
    label: Option<String>,
}

/// Who goes by `name` and uses the lock `key`; nothing for any program's name that is not one of ours.
fn read(name: &str, key: Key) -> Option<Who> {
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
            waited: Cell::new(false),
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
