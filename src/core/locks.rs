//! The locks of a table by id: only those that somebody holds, waits for or has pinned.

use super::ids::Index;
use super::queue::Queue;
use super::slab::Slab;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// One lock: those who have it and those who want it. Its mode is the mode of its holders.
#[derive(Debug)]
pub(crate) struct Lock {
    id: Arc<str>,
    /// In the order of their grants. Never empty while somebody waits.
    pub(crate) holders: Queue,
    /// In the order of their requests.
    pub(crate) waiters: Queue,
    pins: u32,
}

impl Lock {
    pub(crate) fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.holders.is_empty() && self.waiters.is_empty()
    }
}

/// The hasher has fixed keys: core draws no random numbers, and nothing depends on the order of the map.
type ById = HashMap<Arc<str>, Index, BuildHasherDefault<DefaultHasher>>;

#[derive(Debug)]
pub(crate) struct Locks {
    slab: Slab<Lock>,
    by_id: ById,
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self {
            slab: Slab::new(u32::MAX as usize - 1, u32::MAX),
            by_id: ById::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_id.keys()
    }

    pub(crate) fn find(&self, id: &str) -> Option<Index> {
        self.by_id.get(id).copied()
    }

    /// The lock of this id, made if need be; `None` if there are 2^32 locks already. Whoever calls this calls
    /// [`Locks::forget_if_unused`] in the end.
    pub(crate) fn find_or_add(&mut self, id: &str) -> Option<Index> {
        if let Some(index) = self.find(id) {
            return Some(index);
        }
        let id = Arc::<str>::from(id);
        let (index, _) = self.slab.insert(Lock {
            id: id.clone(),
            holders: Queue::default(),
            waiters: Queue::default(),
            pins: 0,
        })?;
        self.by_id.insert(id, index);
        Some(index)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Lock> {
        self.slab.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut Lock> {
        self.slab.get_mut(index)
    }

    pub(crate) fn pin(&mut self, index: Index) {
        if let Some(lock) = self.slab.get_mut(index) {
            lock.pins += 1;
        }
    }

    pub(crate) fn unpin(&mut self, index: Index) {
        if let Some(lock) = self.slab.get_mut(index) {
            lock.pins = lock.pins.saturating_sub(1);
        }
        self.forget_if_unused(index);
    }

    pub(crate) fn forget_if_unused(&mut self, index: Index) {
        let unused = self
            .slab
            .get(index)
            .is_some_and(|lock| lock.pins == 0 && lock.is_idle());
        if unused && let Some(lock) = self.slab.remove(index) {
            self.by_id.remove(&lock.id);
        }
    }
}
