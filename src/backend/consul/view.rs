//! One lock as the server shows it at one index, and what an ask has to do next. Pure.

use super::keys;
use super::record::{Occupant, Record};
use super::txn::Pair;
use crate::backend::{Ask, Info, Owner, Snapshot};
use crate::core::mode::Mode;
use std::collections::BTreeMap;

/// The value of a leader key that was left unlocked for 1.1.2 processes.
pub const ROOM: &[u8] = br#"{"room":true}"#;

/// A process that somebody waits for: its key, and its session that locks leader keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub process: String,
    pub leads: String,
}

/// The leader key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leader {
    Absent,
    /// It is there, and nobody has it locked.
    Free {
        index: u64,
        /// It was left for 1.1.2 processes to take.
        room: bool,
    },
    Locked {
        index: u64,
        session: String,
        occupant: Occupant,
    },
}

/// A ticket in the queue, or the key of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub index: u64,
    pub session: String,
    pub record: Record,
    pub value: Vec<u8>,
    created: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub leader: Leader,
    /// In the order of arrival.
    pub queue: Vec<Entry>,
    pub readers: Vec<Entry>,
}

/// The index of whatever shows that this ask is in, in line, or not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It has the lock for itself since `index`.
    Sole {
        index: u64,
    },
    /// It is one of the readers since `index`; their leader key is locked by `group`.
    Reader {
        index: u64,
        group: String,
    },
    /// Its reader's key is there, but the leader key is not the readers' any more.
    Stray {
        index: u64,
    },
    Waiter {
        place: usize,
    },
    Nobody,
}

/// What an ask that is not in has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Enqueue,
    /// Take the leader key, which nobody has locked, or which the last of the readers has left locked.
    Take,
    /// Go in beside the readers that are in.
    Join,
    /// Wait until this key or, with `below`, one that begins with it changes.
    Await {
        key: String,
        below: bool,
    },
}

impl View {
    /// Of several pairs with one key, the last counts. Keys without a live session or a readable value are nobody's.
    pub fn new(id: &str, pairs: &[Pair]) -> Self {
        let latest: BTreeMap<&str, &Pair> = pairs.iter().map(|pair| (pair.key.as_str(), pair)).collect();
        let leader = match latest.get(keys::leader(id).as_str()) {
            None => Leader::Absent,
            Some(pair) => match pair.session() {
                None => Leader::Free {
                    index: pair.modify_index,
                    room: pair.value() == ROOM,
                },
                Some(session) => Leader::Locked {
                    index: pair.modify_index,
                    session: session.to_owned(),
                    occupant: Occupant::parse(&pair.value()),
                },
            },
        };
        Self {
            leader,
            queue: entries(&latest, &keys::queue(id)),
            readers: entries(&latest, &keys::readers(id)),
        }
    }

    /// What `owner` is here, whose process locks leader keys with the session `leads`.
    pub fn role(&self, owner: &Owner, leads: &str) -> Role {
        if let Leader::Locked {
            index,
            session,
            occupant: Occupant::One(record),
        } = &self.leader
            && *record.owner == *owner.0
            && session == leads
        {
            return Role::Sole { index: *index };
        }
        if let Some(reader) = self.readers.iter().find(|entry| *entry.record.owner == *owner.0) {
            return match self.group() {
                Some((_, group)) => Role::Reader {
                    index: reader.index,
                    group: group.to_owned(),
                },
                None => Role::Stray { index: reader.index },
            };
        }
        match self.queue.iter().position(|entry| *entry.record.owner == *owner.0) {
            Some(place) => Role::Waiter { place },
            None => Role::Nobody,
        }
    }

    /// The leader key's index and the session that has it locked for all readers.
    pub fn group(&self) -> Option<(u64, &str)> {
        match &self.leader {
            Leader::Locked {
                index,
                session,
                occupant: Occupant::Readers { .. },
            } => Some((*index, session)),
            _ => None,
        }
    }

    /// The step of an ask at `place` in the queue, or without a ticket.
    pub fn step(&self, ask: &Ask, place: Option<usize>) -> Step {
        match place {
            None if !self.queue.is_empty() => return Step::Enqueue,
            Some(place) if place > 0 => return await_key(self.queue[place - 1].key.clone()),
            _ => {}
        }
        let step = match &self.leader {
            Leader::Absent | Leader::Free { .. } => Step::Take,
            Leader::Locked {
                occupant: Occupant::Readers { .. },
                ..
            } => match ask.mode {
                Mode::Shared => Step::Join,
                Mode::Exclusive if self.readers.is_empty() => Step::Take,
                Mode::Exclusive => Step::Await {
                    key: keys::readers(&ask.id),
                    below: true,
                },
            },
            Leader::Locked { .. } => await_key(keys::leader(&ask.id)),
        };
        match (place, &step) {
            (None, Step::Await { .. }) => Step::Enqueue,
            _ => step,
        }
    }

    /// The processes that the ask at `place` waits for: the one before it and, as one of the first two, the holders. Without the
    /// process of this key, which asks.
    pub fn suspects(&self, place: usize, asking: &str) -> Vec<Suspect> {
        let before = place.checked_sub(1).and_then(|before| self.queue.get(before));
        let mut records: Vec<&Record> = before.iter().map(|ticket| &ticket.record).collect();
        if place < 2
            && let Leader::Locked { occupant, .. } = &self.leader
        {
            match occupant {
                Occupant::One(record) => records.push(record),
                Occupant::Readers { .. } => records.extend(self.readers.iter().map(|reader| &reader.record)),
                Occupant::Stranger => {}
            }
        }
        let mut suspects: Vec<Suspect> = Vec::new();
        for record in records {
            let is_known = suspects.iter().any(|known| known.process == record.process);
            if !is_known && record.process != asking {
                suspects.push(Suspect {
                    process: record.process.clone(),
                    leads: record.leads.clone(),
                });
            }
        }
        suspects
    }

    pub fn snapshot(&self) -> Snapshot {
        let held = match &self.leader {
            Leader::Absent | Leader::Free { .. } => Vec::new(),
            Leader::Locked { index, occupant, .. } => match occupant {
                Occupant::One(record) => vec![record.info(Some(*index))],
                Occupant::Readers { .. } => self
                    .readers
                    .iter()
                    .map(|reader| reader.record.info(Some(reader.index)))
                    .collect(),
                Occupant::Stranger => vec![Info {
                    mode: Mode::Exclusive,
                    token: None,
                    host: None,
                    pid: None,
                    thread: None,
                    label: None,
                    since: None,
                }],
            },
        };
        Snapshot {
            held,
            pending: self.queue.iter().map(|ticket| ticket.record.info(None)).collect(),
        }
    }
}

fn await_key(key: String) -> Step {
    Step::Await { key, below: false }
}

fn entries(latest: &BTreeMap<&str, &Pair>, prefix: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = latest
        .range(prefix..)
        .take_while(|(key, _)| key.starts_with(prefix))
        .filter_map(|(_, pair)| {
            let value = pair.value();
            Some(Entry {
                key: pair.key.clone(),
                index: pair.modify_index,
                session: pair.session()?.to_owned(),
                record: Record::parse(&value)?,
                value,
                created: pair.create_index,
            })
        })
        .collect();
    found.sort_by_key(|entry| entry.created);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Attempt, Stage};
    use crate::core::lease::{Lease, Terms};
    use base64::Engine;
    use std::cell::Cell;
    use std::time::Duration;

    fn ask(owner: &str, mode: Mode) -> Ask {
        Ask {
            id: "x".into(),
            owner: Owner(owner.into()),
            mode,
            attempt: Attempt::Wait,
            fenced: true,
            label: None,
            thread: 0,
            since: 0,
            stage: Cell::new(Stage::Waiting),
            waited: Cell::new(false),
            lease: Lease::new(Terms {
                ttl: Duration::from_secs(10),
                renew_every: Duration::from_secs(3),
            }),
        }
    }

    fn pair(key: String, value: &[u8], session: Option<&str>, index: u64) -> Pair {
        let value = base64::engine::general_purpose::STANDARD.encode(value);
        let text = serde_json::json!({
            "Key": key, "Value": value, "Session": session, "CreateIndex": index, "ModifyIndex": index
        });
        serde_json::from_value(text).unwrap()
    }

    fn value(owner: &str, mode: Mode) -> Vec<u8> {
        let identity = crate::backend::Identity {
            host: "h".into(),
            pid: 1,
            instance: "i".into(),
        };
        Record::new(&ask(owner, mode), &identity, "leads", "process").to_bytes()
    }

    fn ticket(owner: &str, mode: Mode, index: u64) -> Pair {
        let key = keys::ticket("x", &Owner(owner.into()));
        pair(key, &value(owner, mode), Some("own"), index)
    }

    fn leader(value: &[u8], session: Option<&str>) -> Pair {
        pair(keys::leader("x"), value, session, 5)
    }

    #[test]
    fn a_free_lock_is_taken_unless_somebody_waits() {
        let me = ask("me", Mode::Exclusive);
        assert_eq!(View::new("x", &[]).step(&me, None), Step::Take);
        assert_eq!(View::new("x", &[leader(b"leader", None)]).step(&me, None), Step::Take);
        let waiting = View::new("x", &[ticket("other", Mode::Exclusive, 7)]);
        assert_eq!(waiting.step(&me, None), Step::Enqueue);
    }

    #[test]
    fn waiters_stand_in_the_order_in_which_their_tickets_were_made() {
        let view = View::new(
            "x",
            &[
                leader(b"leader", Some("old")),
                ticket("a", Mode::Exclusive, 9),
                ticket("b", Mode::Shared, 8),
            ],
        );
        let (a, b) = (ask("a", Mode::Exclusive), ask("b", Mode::Shared));
        assert_eq!(view.role(&a.owner, "leads"), Role::Waiter { place: 1 });
        assert_eq!(view.step(&a, Some(1)), await_key(keys::ticket("x", &b.owner)));
        assert_eq!(view.step(&b, Some(0)), await_key(keys::leader("x")));
        assert_eq!(view.snapshot().held[0].pid, None);
    }

    #[test]
    fn a_leader_key_of_a_former_session_is_not_mine() {
        let mine = value("me", Mode::Exclusive);
        let me = Owner("me".into());
        let view = View::new("x", &[leader(&mine, Some("leads"))]);
        assert_eq!(view.role(&me, "leads"), Role::Sole { index: 5 });
        assert_eq!(view.role(&me, "newer"), Role::Nobody);
        assert_eq!(View::new("x", &[leader(&mine, None)]).role(&me, "leads"), Role::Nobody);
    }

    #[test]
    fn a_writer_waits_for_the_readers_and_takes_over_what_the_last_of_them_left_locked() {
        let me = ask("me", Mode::Exclusive);
        let group = leader(&crate::backend::consul::record::readers("e", None), Some("group"));
        let reader = pair(keys::reader("x", "r"), &value("r", Mode::Shared), Some("own"), 6);
        let waiting = View::new("x", &[group.clone(), reader, ticket("me", Mode::Exclusive, 7)]);
        let readers = Step::Await {
            key: keys::readers("x"),
            below: true,
        };
        assert_eq!(waiting.step(&me, Some(0)), readers);
        assert_eq!(waiting.step(&ask("s", Mode::Shared), Some(0)), Step::Join);
        assert_eq!(waiting.step(&ask("s", Mode::Shared), None), Step::Enqueue);
        let left = View::new("x", &[group, ticket("me", Mode::Exclusive, 7)]);
        assert_eq!(left.step(&me, Some(0)), Step::Take);
    }
    #[test]
    fn each_waiter_looks_after_the_one_before_it_and_the_first_two_after_the_holder() {
        let of = |owner: &str, process: &str, mode| {
            let mut record = Record::parse(&value(owner, mode)).unwrap();
            record.process = process.into();
            record.to_bytes()
        };
        let waiter = |owner: &str, index| {
            let key = keys::ticket("x", &Owner(owner.into()));
            pair(key, &of(owner, owner, Mode::Exclusive), Some("own"), index)
        };
        let holder = leader(&of("h", "h", Mode::Exclusive), Some("leads"));
        let view = View::new("x", &[holder, waiter("a", 6), waiter("b", 7), waiter("c", 8)]);
        let processes = |place, asking| -> Vec<String> {
            let suspects = view.suspects(place, asking);
            suspects.into_iter().map(|suspect| suspect.process).collect()
        };
        assert_eq!(processes(0, "a"), ["h"]);
        assert_eq!(processes(1, "b"), ["a", "h"]);
        assert_eq!(processes(2, "c"), ["b"]);
        // Nobody looks after itself.
        assert_eq!(processes(1, "h"), ["a"]);
    }
}
