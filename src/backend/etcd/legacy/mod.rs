//! Room for 1.1.2 processes beside a busy queue: what this process remembers, and for how long room is made.
//!
//! A 1.1.2 process asks every 500 ms whether the main key exists and leaves no trace of its waiting. Hand-overs from one of
//! our processes to the next never let the key vanish, and where it does, one of ours has it back at once; so while a lock
//! is in demand a 1.1.2 process would wait for ever. Now and then a release therefore deletes the key instead of handing it over,
//! and puts the gap's key: none of ours takes the main key until it has seen that key stand for its time. The moments in
//! which a busy lock is free by accident are too short to count.
//!
//! When room was last made, or since when others wait, stands on the server too: the demand key has a lease of its own,
//! which nobody renews in between, so its age tells the time by the server's clock to every process, also to those that
//! come for one turn only. See [`room`].

pub mod room;

use crate::clock;
use crate::core::time::Moment;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

/// How long the key is left alone: longer than 1.1.2 pauses between two tries,
const USUAL: Duration = Duration::from_millis(600);
/// and longer where the server answers slowly: 1.1.2 has three exchanges from one try to the next.
const EXCHANGES: u32 = 4;
/// But no longer than this.
const LONGEST: Duration = Duration::from_secs(3);
/// How long the demand may last when no 1.1.2 process was seen on this lock.
pub const ALONE: Duration = Duration::from_secs(15);
/// And when one was.
const MIXED: Duration = Duration::from_secs(1);
/// For how long a 1.1.2 process that was seen is remembered.
const MEMORY: Duration = Duration::from_secs(600);
/// A process that has the lock for itself need not make room if it left it free for this long in sum.
const ENOUGH: Duration = Duration::from_secs(1);
/// More locks than this are not remembered without need.
const MANY: usize = 1000;

/// For how long to make room when the server takes `exchange` for an answer.
pub fn length(exchange: Duration) -> Duration {
    (USUAL + exchange * EXCHANGES).min(LONGEST)
}

/// The length that stands in a gap's key; what cannot be read counts as the usual one.
pub fn written_length(value: &[u8]) -> Duration {
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map_or(USUAL, Duration::from_millis).min(LONGEST)
}

/// The demand key as this process knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub revision: i64,
    /// When the time began that it counts.
    pub began: Moment,
}

/// Whether room is to be made, as far as this process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Since when others want the lock must be asked for.
    Unknown,
    No,
    Yes,
}

/// What this process has seen of the locks that others want too.
#[derive(Default)]
pub struct Demand(RefCell<HashMap<String, Seen>>);

struct Seen {
    last_use: Moment,
    /// When others were last seen to have the lock or to wait for it.
    demand: Moment,
    legacy: Option<Moment>,
    mark: Option<Mark>,
    /// When a 1.1.2 process last held the lock or this process, alone with it, made room.
    room: Moment,
    /// How long the lock was free since then, as far as this process knows.
    free: Duration,
    freed: Option<Moment>,
}

impl Demand {
    /// A 1.1.2 process holds the lock.
    pub fn saw_legacy(&self, id: &str) {
        self.with(id, |seen, now| {
            seen.demand = now;
            seen.legacy = Some(now);
            seen.made_room(now);
        });
    }

    /// Somebody has the lock whom we wait for, or waits for us.
    pub fn saw_demand(&self, id: &str) {
        self.with(id, |seen, now| seen.demand = now);
    }

    /// Whether others have wanted the lock lately.
    pub fn is_in_demand(&self, id: &str) -> bool {
        let now = clock::now();
        let all = self.0.borrow();
        all.get(id).is_some_and(|seen| now.since(seen.demand) < ALONE)
    }

    /// The lock was free and nobody waited.
    pub fn saw_free(&self, id: &str) {
        let now = clock::now();
        if let Some(seen) = self.0.borrow_mut().get_mut(id)
            && let Some(freed) = seen.freed.take()
        {
            seen.free += now.since(freed);
        }
    }

    /// This process gave the lock back, and nobody waited.
    pub fn saw_release(&self, id: &str) {
        let now = clock::now();
        if let Some(seen) = self.0.borrow_mut().get_mut(id) {
            seen.last_use = now;
            seen.freed = Some(now);
        }
    }

    pub fn mark(&self, id: &str) -> Option<Mark> {
        self.0.borrow().get(id)?.mark
    }

    pub fn remember(&self, id: &str, mark: Mark) {
        self.with(id, |seen, _| seen.mark = Some(mark));
    }

    /// Whether others have waited for long without any room for 1.1.2.
    pub fn is_due(&self, id: &str) -> Due {
        let now = clock::now();
        let all = self.0.borrow();
        let Some(seen) = all.get(id) else { return Due::Unknown };
        match seen.mark {
            None => Due::Unknown,
            Some(mark) if now.since(mark.began) < seen.patience(now) => Due::No,
            Some(_) => Due::Yes,
        }
    }

    /// Whether this process alone has kept out a 1.1.2 process that it has seen, though nobody else waits.
    pub fn is_due_alone(&self, id: &str) -> bool {
        let now = clock::now();
        self.0
            .borrow()
            .get(id)
            .is_some_and(|seen| seen.patience(now) == MIXED && now.since(seen.room) > ALONE && seen.free < ENOUGH)
    }

    /// Room was made by this process, which was alone with the lock.
    pub fn made_room(&self, id: &str) {
        self.with(id, Seen::made_room);
    }

    /// The locks that others were seen at.
    pub fn ids(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    fn with(&self, id: &str, change: impl FnOnce(&mut Seen, Moment)) {
        let now = clock::now();
        let mut all = self.0.borrow_mut();
        if all.len() > MANY && !all.contains_key(id) {
            all.retain(|_, seen| now.since(seen.last_use) < MIXED);
        }
        let seen = all.entry(id.to_owned()).or_insert_with(|| Seen {
            last_use: now,
            demand: now,
            legacy: None,
            mark: None,
            room: now,
            free: Duration::ZERO,
            freed: None,
        });
        seen.last_use = now;
        change(seen, now);
    }
}

impl Seen {
    fn patience(&self, now: Moment) -> Duration {
        let mixed = self.legacy.is_some_and(|at| now.since(at) < MEMORY);
        if mixed { MIXED } else { ALONE }
    }

    fn made_room(&mut self, now: Moment) {
        self.room = now;
        self.free = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_longer_than_an_old_process_pauses_however_slow_the_server_and_has_an_end() {
        let pause = Duration::from_millis(500);
        for exchange in [1, 10, 100, 500].map(Duration::from_millis) {
            assert!(length(exchange) > pause + exchange * 3);
        }
        assert_eq!(length(Duration::from_secs(60)), LONGEST);
        assert_eq!(written_length(b"999999999"), LONGEST);
        assert_eq!(written_length(b"750"), Duration::from_millis(750));
        assert_eq!(written_length(b"?"), USUAL);
    }

    #[test]
    fn a_lock_that_was_long_in_demand_is_due_and_one_that_is_not_known_must_be_asked_for() {
        let demand = Demand::default();
        assert_eq!(demand.is_due("x"), Due::Unknown);
        demand.saw_demand("x");
        assert_eq!(demand.is_due("x"), Due::Unknown);
        let now = clock::now();
        let since = |began| Mark { revision: 7, began };
        demand.remember("x", since(now));
        assert_eq!(demand.is_due("x"), Due::No);
        demand.remember("x", since(now - ALONE));
        assert_eq!(demand.is_due("x"), Due::Yes);
        demand.remember("x", since(now - MIXED));
        assert_eq!(demand.is_due("x"), Due::No);
        demand.saw_legacy("x");
        assert_eq!(demand.is_due("x"), Due::Yes);
    }

    #[test]
    fn a_process_alone_makes_room_if_it_saw_1_1_2_and_leaves_the_lock_free_for_too_short() {
        let demand = Demand::default();
        let backdate = |free| {
            let mut all = demand.0.borrow_mut();
            let seen = all.get_mut("x").unwrap();
            // And a little more: two looks at the clock may show the same.
            seen.room = seen.room - ALONE - Duration::from_millis(1);
            seen.free = free;
        };
        demand.saw_demand("x");
        backdate(Duration::ZERO);
        assert!(!demand.is_due_alone("x"), "never saw 1.1.2");
        demand.saw_legacy("x");
        assert!(!demand.is_due_alone("x"), "1.1.2 was in just now");
        backdate(Duration::ZERO);
        assert!(demand.is_due_alone("x"));
        backdate(ENOUGH);
        assert!(!demand.is_due_alone("x"), "it was free for long enough");
        backdate(Duration::ZERO);
        demand.made_room("x");
        assert!(!demand.is_due_alone("x"), "room was made just now");
    }
}
