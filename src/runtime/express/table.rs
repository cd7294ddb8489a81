//! Which request of the process is in the lane, for each lock: a state machine without I/O, clock and threads.
//!
//! ```text
//!               granted            release            over
//!  enter ---> Asking -----> Held ---> Releasing ---> (gone: answered by the lane)
//!               | \  taken  / |           |
//!               |  Waiting-+  |           |
//!               |     |       |           |
//!               +-----+-------+-----------+--- adopt ---> (gone: answered by the runtime)
//! ```
//!
//! At most one request of a lock is in the lane, and only while the runtime has none of that lock. Every request leaves exactly
//! once, by `over` or by `adopt`, and is answered by whoever has it then.

use crate::core::time::Moment;
use crate::runtime::commands::Call;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::sync::Arc;

/// A lock of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The server's number among those that have a lane.
    pub lane: u32,
    pub id: Arc<str>,
}

/// What the runtime keeps with each request of a lock for as long as it has that request. Those who give it back need not
/// tell the table.
#[derive(Debug, Clone, Default)]
pub struct Presence(Arc<()>);

impl Presence {
    /// Whether nobody but the table has it. Only the table hands out more, so that a yes stays true until it does.
    fn is_alone(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Where a request in the lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Asking,
    /// In the server's queue; the grant will come on the connection.
    Waiting,
    Held,
    Releasing,
}

/// A request in the lane; `load` is what else its owner wants to know about it.
#[derive(Debug)]
pub struct Entry<L> {
    pub key: Key,
    pub stage: Stage,
    /// Others want the lock as well: who asks may have to wait, and a release hands it on.
    pub is_crowded: bool,
    pub load: L,
}

#[derive(Debug, Default)]
struct Lock {
    inside: Option<Call>,
    presence: Presence,
    /// Until then it counts as crowded: somebody else had it or waited a moment ago.
    crowded_until: Option<Moment>,
    /// Until then the lane does not try it.
    shut_until: Option<Moment>,
}

/// Who is in the lane.
#[derive(Debug)]
pub struct Table<L> {
    locks: HashMap<Key, Lock>,
    entries: HashMap<Call, Entry<L>>,
}

impl<L> Default for Table<L> {
    fn default() -> Self {
        Self {
            locks: HashMap::new(),
            entries: HashMap::new(),
        }
    }
}

impl<L> Table<L> {
    /// Lets a request in if neither the lane nor the runtime has one of this lock, and the lock is not shut, nor crowded unless the request
    /// `can_wait` here; `load` is made only then. Gives what was let in.
    pub fn enter(
        &mut self,
        key: &Key,
        call: Call,
        now: Moment,
        can_wait: bool,
        load: impl FnOnce() -> L,
    ) -> Option<&mut Entry<L>> {
        let lock = self.locks.entry(key.clone()).or_default();
        let is_free = lock.inside.is_none() && lock.presence.is_alone();
        lock.crowded_until = lock.crowded_until.filter(|until| now < *until);
        lock.shut_until = lock.shut_until.filter(|until| now < *until);
        let is_crowded = lock.crowded_until.is_some();
        if !is_free || lock.shut_until.is_some() || (is_crowded && !can_wait) {
            return None;
        }
        let Place::Vacant(place) = self.entries.entry(call) else {
            return None;
        };
        lock.inside = Some(call);
        Some(place.insert(Entry {
            key: key.clone(),
            stage: Stage::Asking,
            is_crowded,
            load: load(),
        }))
    }

    /// For a request of this lock that goes to the runtime. What [`Table::inside`] names must be adopted before it.
    pub fn presence(&mut self, key: &Key) -> Presence {
        self.locks.entry(key.clone()).or_default().presence.clone()
    }

    /// Which request of this lock is in the lane.
    pub fn inside(&self, key: &Key) -> Option<Call> {
        self.locks.get(key)?.inside
    }

    pub fn get(&self, call: Call) -> Option<&Entry<L>> {
        self.entries.get(&call)
    }

    pub fn get_mut(&mut self, call: Call) -> Option<&mut Entry<L>> {
        self.entries.get_mut(&call)
    }

    /// The request, if it is in the lane and in this stage, moves on to that one.
    pub fn advance(&mut self, call: Call, from: Stage, to: Stage) -> Option<&mut Entry<L>> {
        let entry = self.entries.get_mut(&call).filter(|entry| entry.stage == from)?;
        entry.stage = to;
        Some(entry)
    }

    /// The request is answered, and nothing of it is left.
    pub fn over(&mut self, call: Call) -> Option<Entry<L>> {
        let entry = self.entries.remove(&call)?;
        if let Some(lock) = self.locks.get_mut(&entry.key) {
            lock.inside = None;
        }
        Some(entry)
    }

    /// The runtime takes the request over, as it is.
    pub fn adopt(&mut self, call: Call) -> Option<(Entry<L>, Presence)> {
        let entry = self.over(call)?;
        let presence = self.presence(&entry.key);
        Some((entry, presence))
    }

    /// The lock was found taken, or awaited: it counts as crowded until then, for what is in the lane now as well.
    pub fn crowded(&mut self, key: &Key, until: Moment) {
        let lock = self.locks.entry(key.clone()).or_default();
        lock.crowded_until = Some(until);
        if let Some(entry) = lock.inside.and_then(|call| self.entries.get_mut(&call)) {
            entry.is_crowded = true;
        }
    }

    /// Until then its requests go to the runtime.
    pub fn shut(&mut self, key: &Key, until: Moment) {
        self.locks.entry(key.clone()).or_default().shut_until = Some(until);
    }

    pub fn calls_where(&self, wanted: impl Fn(Call, &Entry<L>) -> bool) -> Vec<Call> {
        self.entries
            .iter()
            .filter(|(call, entry)| wanted(**call, entry))
            .map(|(call, _)| *call)
            .collect()
    }

    /// Forgets locks that nobody has anything of.
    pub fn sweep(&mut self, now: Moment) {
        self.locks.retain(|_, lock| {
            let is_marked = [lock.crowded_until, lock.shut_until]
                .into_iter()
                .flatten()
                .any(|until| now < until);
            lock.inside.is_some() || !lock.presence.is_alone() || is_marked
        });
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty() && self.entries.is_empty()
    }
}
