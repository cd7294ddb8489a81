//! The records of the locks, found by the hash of their ids, and the ids themselves for whoever asks what there is.

use super::layout::*;
use super::lists::{PLACE, TEXT};
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

    pub(super) fn find_or_add(&self, id: &str, hash: &Hash) -> Result<u32> {
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
        self.store_id(at, id)?;
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
                self.forget_id(at)?;
                return memory.give_back(PLACE, place);
            }
            link = memory.record(PLACE, here)? + PLACE_NEXT;
        }
        Err(Fault::Damaged)
    }
}

impl Table {
    fn store_id(&self, at: usize, id: &str) -> Result<()> {
        let memory = &self.memory;
        memory.store(at + PLACE_ID_BYTES, id.len() as u32)?;
        let mut link = at + PLACE_ID;
        for piece in id.as_bytes().chunks(TEXT_BYTES) {
            let text = memory.take(TEXT, &self.reserve)?;
            memory.store(link, text)?;
            let record = memory.record(TEXT, text)?;
            memory.store_bytes(record + 1, piece)?;
            link = record + TEXT_NEXT;
        }
        Ok(())
    }

    /// The record of each piece of an id, and how many bytes there are in it.
    fn pieces(&self, at: usize) -> impl Iterator<Item = Result<(u32, usize)>> {
        let memory = self.memory;
        let length = memory.load(at + PLACE_ID_BYTES).unwrap_or_default() as usize;
        let mut link = at + PLACE_ID;
        (0..length.min(ID_BYTES)).step_by(TEXT_BYTES).map(move |from| {
            let text = memory.load(link)?;
            link = memory.record(TEXT, text)? + TEXT_NEXT;
            Ok((text, (length - from).min(TEXT_BYTES)))
        })
    }

    fn forget_id(&self, at: usize) -> Result<()> {
        // Giving one back changes its link to the next.
        for piece in self.pieces(at).collect::<Result<Vec<_>>>()? {
            self.memory.give_back(TEXT, piece.0)?;
        }
        Ok(())
    }

    pub(super) fn id(&self, at: usize) -> Result<String> {
        let mut id = Vec::new();
        for piece in self.pieces(at) {
            let (text, bytes) = piece?;
            id.extend(self.memory.load_bytes(self.memory.record(TEXT, text)? + 1, bytes)?);
        }
        Ok(String::from_utf8_lossy(&id).into_owned())
    }

    /// The records of all locks that are held or waited for.
    pub(super) fn places(&self) -> Result<Vec<usize>> {
        let mut places = Vec::new();
        for bucket in BUCKETS..BUCKETS + BUCKET_COUNT {
            let mut place = self.memory.load(bucket)?;
            while place != 0 {
                if places.len() >= PLACE_COUNT as usize {
                    return Err(Fault::Damaged);
                }
                let at = self.memory.record(PLACE, place)?;
                places.push(at);
                place = self.memory.load(at + PLACE_NEXT)?;
            }
        }
        Ok(places)
    }
}

fn bucket(hash: &Hash) -> usize {
    BUCKETS + hash[0] as usize % BUCKET_COUNT
}
