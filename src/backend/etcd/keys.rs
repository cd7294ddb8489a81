//! The names of a lock's keys, and what stands in them.
//!
//! ```text
//! IPC-Mutex-RPM-<id>-lock              exists while anybody holds the lock: 1.1.2 takes it by creating it
//! IPC-Mutex-RPM-<id>-queue/<owner>     one waiter; the queue's order is the order of the create revisions
//! IPC-Mutex-RPM-<id>-readers/<owner>   one shared hold
//! IPC-Mutex-RPM-<id>-demand            since when others have wanted the lock, see the module `legacy`
//! IPC-Mutex-RPM-<id>-gap               the lock is left to 1.1.2 for the moment, likewise
//! IPC-Mutex-RPM-<id>-gone/<owner>      a withdrawn ask whose first message may still be on its way
//! ```
//!
//! An id has no slash, so the first slash of a key ends the part that names the lock: no lock's prefix reaches into
//! the keys of another.
//!
//! The values say who waits or holds, as JSON, for whoever asks.

use crate::backend::{Ask, Identity, Info, Owner};
use crate::core::mode::Mode;
use etcd_client::{Compare, CompareOp, GetOptions, SortOrder, SortTarget, TxnOp};
use serde::{Deserialize, Serialize};

/// The names of one lock's keys.
pub struct Keys {
    pub main: String,
    queue: String,
    readers: String,
    gone: String,
    pub demand: String,
    pub gap: String,
}

impl Keys {
    pub fn new(id: &str) -> Self {
        let stem = format!("IPC-Mutex-RPM-{id}");
        Self {
            main: format!("{stem}-lock"),
            queue: format!("{stem}-queue/"),
            readers: format!("{stem}-readers/"),
            gone: format!("{stem}-gone/"),
            demand: format!("{stem}-demand"),
            gap: format!("{stem}-gap"),
        }
    }

    pub fn place(&self, owner: &Owner) -> String {
        format!("{}{}", self.queue, owner.0)
    }

    pub fn reader(&self, owner: &Owner) -> String {
        format!("{}{}", self.readers, owner.0)
    }

    fn tombstone(&self, owner: &Owner) -> String {
        format!("{}{}", self.gone, owner.0)
    }

    /// Nobody holds the lock exclusively, and no 1.1.2 process holds it at all.
    pub fn is_free(&self) -> Compare {
        absent(&*self.main)
    }

    pub fn main_is(&self, value: &[u8]) -> Compare {
        Compare::value(&*self.main, CompareOp::Equal, value)
    }

    pub fn nobody_waits(&self) -> Compare {
        absent(&*self.queue).with_prefix()
    }

    pub fn nobody_reads(&self) -> Compare {
        absent(&*self.readers).with_prefix()
    }

    /// Two ranges around the one key, because a comparison cannot count.
    pub fn nobody_else_reads(&self, owner: &Owner) -> [Compare; 2] {
        let own = self.reader(owner);
        let end = format!("{}0", &self.readers[..self.readers.len() - 1]);
        [
            absent(&*self.readers).with_range(&*own),
            absent(format!("{own}\0")).with_range(end),
        ]
    }

    /// The place in the queue that was taken at revision `place` still exists.
    pub fn waits_since(&self, owner: &Owner, place: i64) -> Compare {
        Compare::create_revision(self.place(owner), CompareOp::Equal, place)
    }

    /// No room is being made for 1.1.2, but for that of revision `passed`, if not 0, whose time is over.
    pub fn no_gap_but(&self, passed: i64) -> Compare {
        Compare::mod_revision(&*self.gap, CompareOp::Equal, passed)
    }

    /// The ask was not withdrawn by a message that overtook this one.
    pub fn not_withdrawn(&self, owner: &Owner) -> Compare {
        absent(self.tombstone(owner))
    }

    /// Makes whatever `owner` still has on its way ineffective, for as long as the lease that it carries lives.
    pub fn put_tombstone(&self, owner: &Owner, lease: i64) -> TxnOp {
        TxnOp::put(self.tombstone(owner), "", Some(lease_of(lease)))
    }

    pub fn first_waiters(&self, limit: i64) -> TxnOp {
        TxnOp::get(&*self.queue, Some(by_age(SortOrder::Ascend).with_limit(limit)))
    }

    pub fn all_waiters(&self) -> TxnOp {
        TxnOp::get(&*self.queue, Some(by_age(SortOrder::Ascend)))
    }

    pub fn all_readers(&self) -> TxnOp {
        TxnOp::get(&*self.readers, Some(by_age(SortOrder::Ascend)))
    }

    /// The last waiters, the latest first; with `before`, only those that came before that revision.
    pub fn last_waiters(&self, limit: i64, before: Option<i64>) -> TxnOp {
        let mut options = by_age(SortOrder::Descend).with_limit(limit).with_keys_only();
        if let Some(before) = before {
            options = options.with_max_create_revision(before - 1);
        }
        TxnOp::get(&*self.queue, Some(options))
    }

    /// Where the waiters' keys are, for a watch on all of them.
    pub fn queue(&self) -> &str {
        &self.queue
    }

    /// Where the readers' keys are, for a watch on all of them.
    pub fn readers(&self) -> &str {
        &self.readers
    }
}

/// Any key that begins like ours: where a user without rights on a single lock can be told from one without any.
pub const PROBE: &str = "IPC-Mutex-RPM-";

/// The end of the range of keys that begin so.
const BEHIND: &str = "IPC-Mutex-RPM.";

/// Every key of every lock from `from` on, as of `revision` (0: now), at most `limit`.
pub fn every(from: Vec<u8>, revision: i64, limit: u32) -> TxnOp {
    let options = GetOptions::new()
        .with_range(BEHIND)
        .with_revision(revision)
        .with_limit(i64::from(limit));
    TxnOp::get(from, Some(options))
}

/// What a key tells of its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Main,
    Place,
    Reader,
}

/// The lock of a key that tells who holds or waits, and what of it this is.
pub fn part_of(key: &str) -> Option<(&str, Part)> {
    let rest = key.strip_prefix(PROBE)?;
    match rest.split_once('/') {
        None => rest.strip_suffix("-lock").map(|id| (id, Part::Main)),
        Some((lock, _)) => {
            let place = lock.strip_suffix("-queue").map(|id| (id, Part::Place));
            place.or_else(|| lock.strip_suffix("-readers").map(|id| (id, Part::Reader)))
        }
    }
}

pub fn absent(key: impl Into<Vec<u8>>) -> Compare {
    Compare::create_revision(key, CompareOp::Equal, 0)
}

pub fn present(key: impl Into<Vec<u8>>) -> Compare {
    Compare::create_revision(key, CompareOp::Greater, 0)
}

pub fn lease_of(lease: i64) -> etcd_client::PutOptions {
    etcd_client::PutOptions::new().with_lease(lease)
}

fn by_age(order: SortOrder) -> GetOptions {
    GetOptions::new().with_prefix().with_sort(SortTarget::Create, order)
}

/// The value of the main key while shared holds are in; who they are stands in their own keys. Constant, so that a
/// transaction can compare it.
pub const SHARED: &[u8] = b"{\"mode\":\"shared\"}";

/// One waiter or holder. The same ask always gives the same text, which therefore tells whose key it is.
#[derive(Serialize, Deserialize)]
struct Note {
    owner: String,
    mode: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
}

/// The value of `ask`'s keys.
pub fn value_of(ask: &Ask, identity: &Identity) -> Vec<u8> {
    let note = Note {
        owner: ask.owner.0.to_string(),
        mode: ask.mode.name().to_owned(),
        host: Some(identity.host.clone()),
        pid: Some(identity.pid),
        thread: Some(ask.thread),
        label: ask.label.as_deref().map(str::to_owned),
        since: Some(ask.since),
    };
    // A struct of strings and numbers always has a JSON form; an empty value would only be anonymous.
    serde_json::to_vec(&note).unwrap_or_default()
}

/// How the waiter of this value wants the lock; `None` if the value is not ours.
pub fn mode_of(value: &[u8]) -> Option<Mode> {
    let note: Note = serde_json::from_slice(value).ok()?;
    match &*note.mode {
        "exclusive" => Some(Mode::Exclusive),
        "shared" => Some(Mode::Shared),
        _ => None,
    }
}

/// What the value tells, with `token` from the key's revision. A value that is not ours belongs to an exclusive holder of
/// whom nothing is known.
pub fn info_of(value: &[u8], token: Option<u64>) -> Info {
    match serde_json::from_slice::<Note>(value) {
        Ok(note) => Info {
            mode: if note.mode == "shared" {
                Mode::Shared
            } else {
                Mode::Exclusive
            },
            token,
            host: note.host,
            pid: note.pid,
            thread: note.thread,
            label: note.label,
            since: note.since,
        },
        Err(_) => Info {
            mode: Mode::Exclusive,
            token: None,
            host: None,
            pid: None,
            thread: None,
            label: None,
            since: None,
        },
    }
}

/// Whether this value of the main key is 1.1.2's.
pub fn is_legacy(value: &[u8]) -> bool {
    value != SHARED && mode_of(value).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_lock() {
        let owner = Owner("p-1".into());
        for id in ["a", "a-queue", "a-lock", "a-readers", "-", "a%2F"] {
            let keys = Keys::new(id);
            assert_eq!(part_of(&keys.main), Some((id, Part::Main)));
            assert_eq!(part_of(&keys.place(&owner)), Some((id, Part::Place)));
            assert_eq!(part_of(&keys.reader(&owner)), Some((id, Part::Reader)));
            for other in [&keys.demand, &keys.gap, &keys.tombstone(&owner)] {
                assert_eq!(part_of(other), None, "{other}");
            }
        }
    }

    #[test]
    fn no_lock_reaches_into_the_keys_of_another() {
        let ids = ["a", "a-queue", "a-lock", "a-readers", "a-queue-x", "", "a%2F"];
        let owner = Owner("p-1".into());
        for one in ids {
            for other in ids.into_iter().filter(|other| *other != one) {
                let one = Keys::new(one);
                let other = Keys::new(other);
                for prefix in [&one.queue, &one.readers, &one.gone] {
                    for key in [
                        &other.main,
                        &other.demand,
                        &other.gap,
                        &other.place(&owner),
                        &other.reader(&owner),
                        &other.tombstone(&owner),
                    ] {
                        assert!(!key.starts_with(&**prefix), "{key} lies under {prefix}");
                    }
                }
            }
        }
    }
}
