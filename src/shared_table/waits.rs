//! What a process waits for.

use super::member::Name;
use super::memory::Result;
use super::table::Hash;
use crate::core::ids::Ticket;
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
pub(super) struct Waits {
    all: HashMap<Name, Wait>,
    /// Those at each lock, in the order in which they are granted.
    queues: HashMap<Hash, BTreeMap<u64, Name>>,
    last: u64,
    /// The locks at which the keeper has not seen all of them.
    unseen: HashSet<Hash>,
}

struct Wait {
    ticket: Ticket,
    hash: Hash,
    /// Its place in the queue.
    order: u64,
}

impl Waits {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One more. Says whether the keeper has to be told.
    pub fn add(&mut self, name: Name, ticket: Ticket, hash: Hash) -> bool {
        self.last += 1;
        let order = self.last;
        self.queues.entry(hash).or_default().insert(order, name);
        self.all.insert(name, Wait { ticket, hash, order });
        let is_first = self.unseen.is_empty();
        self.unseen.insert(hash);
        is_first
    }

    pub fn remove(&mut self, name: Name) -> Option<Ticket> {
        let wait = self.all.remove(&name)?;
        if let Some(queue) = self.queues.get_mut(&wait.hash) {
            queue.remove(&wait.order);
            if queue.is_empty() {
                self.queues.remove(&wait.hash);
                // Or the keeper, which has nothing to look at, would never be told of the next one.
                self.unseen.remove(&wait.hash);
            }
        }
        Some(wait.ticket)
    }

    /// All, which end.
    pub fn take(&mut self) -> impl Iterator<Item = Name> + use<> {
        std::mem::take(self).all.into_keys()
    }

    pub fn of_environment(&self, environment: u32) -> Vec<Name> {
        self.all.keys().filter(|name| name.0 == environment).copied().collect()
    }

    /// The locks at which something is new since the last call.
    pub fn unseen(&mut self) -> HashSet<Hash> {
        std::mem::take(&mut self.unseen)
    }

    pub fn locks(&self) -> impl Iterator<Item = &Hash> {
        self.queues.keys()
    }

    /// Those that are granted by now; `state` says it of one: granted with what, or waiting, or nothing any more.
    pub fn granted<T>(&self, state: impl Fn(Ticket) -> Result<Option<Option<T>>>) -> Result<Vec<(Name, T)>> {
        let mut granted = Vec::new();
        for queue in self.queues.values() {
            for name in queue.values() {
                let Some(wait) = self.all.get(name) else { continue };
                match state(wait.ticket)? {
                    Some(Some(with)) => granted.push((*name, with)),
                    // Nobody is granted before those that are before it.
                    Some(None) => break,
                    None => {}
                }
            }
        }
        Ok(granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Index;

    #[test]
    fn the_keeper_is_told_of_a_wait_behind_one_that_was_over_before_it_looked() {
        let mut waits = Waits::default();
        let ticket = Ticket::new(Index::of(0).unwrap(), 0);
        assert!(waits.add((1, 1), ticket, [1; 8]));
        assert!(!waits.add((1, 2), ticket, [2; 8]));
        waits.remove((1, 1)).unwrap();
        waits.remove((1, 2)).unwrap();
        assert!(waits.is_empty());
        assert!(waits.add((1, 3), ticket, [1; 8]));
        assert_eq!(waits.unseen().len(), 1);
    }
}
