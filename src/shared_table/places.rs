//! The records of the locks, found by the hash of their ids.

use super::layout::*;
use super::lists::PLACE;
use super::memory::{Fault, Result};
use super::table::{Hash, Table, holders, waiters};

impl Table {
    pub(super) fn find(&self, hash: &Hash) -> Result<Option<u32>> {
        let mut place = self.memory.load(bucket(hash))?;
        for _ in 0..=PLACE_COUNT {
            if place == 0 {
                return Ok(None);
            }
            let at = self.memory.record(PLACE, place)?;
            if self.hash(at)? == *hash {
                return Ok(Some(place));
            }
            place = self.memory.load(at + PLACE_NEXT)?;
        }
        Err(Fault::Damaged)
    }

    pub(super) fn hash(&self, at: usize) -> Result<Hash> {
        let mut hash = [0; HASH_WORDS];
        for (number, word) in hash.iter_mut().enumerate() {
            *word = self.memory.load(at + PLACE_HASH + number)?;
        }
        Ok(hash)
    }

    pub(super) fn find_or_add(&self, hash: &Hash) -> Result<u32> {
        if let Some(place) = self.find(hash)? {
            return Ok(place);
        }
        let memory = &self.memory;
        let place = memory.take(PLACE, &self.reserve)?;
        let at = memory.record(PLACE, place)?;
        for ends in [holders(at).ends, waiters(at).ends] {
            memory.store_long(ends, 0)?;
        }
        for (number, word) in hash.iter().enumerate() {
            memory.store(at + PLACE_HASH + number, *word)?;
        }
        memory.store(at + PLACE_NEXT, memory.load(bucket(hash))?)?;
        memory.store(bucket(hash), place)?;
        Ok(place)
    }

    /// Gives the record of a lock back that nobody holds or waits for.
    pub(super) fn forget_if_idle(&self, place: u32) -> Result<()> {
        let memory = &self.memory;
        let at = memory.record(PLACE, place)?;
        if memory.load(holders(at).ends)? != 0 || memory.load(waiters(at).ends)? != 0 {
            return Ok(());
        }
        let next = memory.load(at + PLACE_NEXT)?;
        let mut link = bucket(&self.hash(at)?);
        for _ in 0..=PLACE_COUNT {
            let here = memory.load(link)?;
            if here == place {
                memory.store(link, next)?;
                return memory.give_back(PLACE, place);
            }
            link = memory.record(PLACE, here)? + PLACE_NEXT;
        }
        Err(Fault::Damaged)
    }
}

fn bucket(hash: &Hash) -> usize {
    BUCKETS + hash[0] as usize % BUCKET_COUNT
}
