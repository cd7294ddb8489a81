//! The open mutex objects of a process.

use super::who::{Tag, Who};
use crate::core::ids::{LockKey, OwnerId, Ticket};
use crate::core::spread::BuildSpread;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// An open mutex object, in a number from 1 to 2^31 - 1 that fits the word of its lock. Not used again while the object is
/// open, and after that only when all other numbers have been used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Handle(pub u32);

/// What is known about a handle.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) lock: LockKey,
    pub(super) owner: OwnerId,
    pub(super) who: Who,
    /// The hold of this handle that was last moved from the word into the table. It may have ended since; the table knows.
    pub(super) moved: Option<Ticket>,
}

impl Open {
    /// What the table remembers with a request through this object.
    #[inline(always)]
    pub(super) fn tag(&self, handle: Handle, cookie: u32, since: Option<u64>) -> Tag {
        Tag {
            handle,
            cookie,
            since,
            who: self.who.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<Handle, Open, BuildSpread>,
    last: u32,
}

impl Handles {
    const LARGEST: u32 = (1 << 31) - 1;

    /// `None` if all numbers are in use.
    pub(super) fn add(&mut self, open: Open) -> Option<Handle> {
        if self.open.len() >= Self::LARGEST as usize {
            return None;
        }
        loop {
            self.last = if self.last < Self::LARGEST { self.last + 1 } else { 1 };
            let handle = Handle(self.last);
            if let Entry::Vacant(vacant) = self.open.entry(handle) {
                vacant.insert(open);
                return Some(handle);
            }
        }
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&Open> {
        self.open.get(&handle)
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Open> {
        self.open.get_mut(&handle)
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<Open> {
        self.open.remove(&handle)
    }

    pub(super) fn all_of(&self, owner: OwnerId) -> impl Iterator<Item = (Handle, &Open)> {
        self.open
            .iter()
            .filter(move |(_, open)| open.owner == owner)
            .map(|(handle, open)| (*handle, open))
    }

    pub(super) fn remove_all_of(&mut self, owner: OwnerId) -> Vec<(Handle, Open)> {
        self.open.extract_if(|_, open| open.owner == owner).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        Open {
            lock: LockKey::at(0).unwrap(),
            owner: OwnerId(1),
            who: Who::default(),
            moved: None,
        }
    }

    #[test]
    fn a_number_comes_again_only_after_all_others_and_never_while_it_is_open() {
        let mut handles = Handles::default();
        let first = handles.add(open()).unwrap();
        let second = handles.add(open()).unwrap();
        handles.remove(second);
        assert_eq!(handles.add(open()), Some(Handle(3)));
        handles.last = Handles::LARGEST - 1;
        assert_eq!(handles.add(open()), Some(Handle(Handles::LARGEST)));
        assert_eq!(handles.add(open()), Some(second));
        assert!(handles.get(first).is_some());
    }
}
