//! The words of the table, and the log that undoes an unfinished change.

use super::layout::{UNDO, UNDO_CAPACITY, UNDO_COUNT};
use std::sync::atomic::{AtomicU32, Ordering, compiler_fence};

/// Why the table cannot do what it was asked. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What is in the memory cannot be a table: another program has written to it.
    Damaged,
    /// There is no room for another process, lock or request.
    Full,
    /// The file system has no room.
    NoSpace,
}

pub type Result<T, E = Fault> = std::result::Result<T, E>;

/// The words. Only for whoever holds the table's mutex.
#[derive(Clone, Copy)]
pub struct Memory {
    words: &'static [AtomicU32],
}

impl Memory {
    pub fn new(words: &'static [AtomicU32]) -> Self {
        Self { words }
    }

    pub fn load(&self, at: usize) -> Result<u32> {
        let word = self.words.get(at).ok_or(Fault::Damaged)?;
        Ok(word.load(Ordering::Acquire))
    }

    pub fn load_long(&self, at: usize) -> Result<u64> {
        Ok(u64::from(self.load(at)?) | u64::from(self.load(at + 1)?) << 32)
    }

    /// Writes a word that `roll_back` restores until `commit`.
    ///
    /// The order of the writes matters only to a process that takes over after this one has died. The kernel's lock orders the memory of the two, so it
    /// is enough that the compiler keeps the order.
    pub fn store(&self, at: usize, value: u32) -> Result<()> {
        let old = self.load(at)?;
        if old == value {
            return Ok(());
        }
        let count = self.load(UNDO_COUNT)?;
        if count as usize >= UNDO_CAPACITY {
            return Err(Fault::Full);
        }
        let entry = UNDO + 2 * count as usize;
        self.put(entry, at as u32);
        self.put(entry + 1, old);
        self.put(UNDO_COUNT, count + 1);
        self.put(at, value);
        Ok(())
    }

    pub fn store_long(&self, at: usize, value: u64) -> Result<()> {
        self.store(at, value as u32)?;
        self.store(at + 1, (value >> 32) as u32)
    }

    /// Makes one change of all that `change` does, or, if it fails, nothing.
    pub fn change<T>(&self, change: impl FnOnce() -> Result<T>) -> Result<T> {
        match change() {
            Ok(value) => {
                self.put(UNDO_COUNT, 0);
                Ok(value)
            }
            Err(fault) => {
                self.roll_back()?;
                Err(fault)
            }
        }
    }

    /// Undoes what was not committed, newest first. Can itself be cut off and repeated, because it restores whole values.
    pub fn roll_back(&self) -> Result<()> {
        let mut count = self.load(UNDO_COUNT)? as usize;
        if count > UNDO_CAPACITY {
            return Err(Fault::Damaged);
        }
        while count > 0 {
            count -= 1;
            let entry = UNDO + 2 * count;
            let at = self.load(entry)? as usize;
            if at >= self.words.len() {
                return Err(Fault::Damaged);
            }
            self.put(at, self.load(entry + 1)?);
            self.put(UNDO_COUNT, count as u32);
        }
        Ok(())
    }

    /// Writes a word of a place that is known to exist, without the log.
    pub fn put(&self, at: usize, value: u32) {
        #[cfg(test)]
        super::tests::step();
        compiler_fence(Ordering::SeqCst);
        if let Some(word) = self.words.get(at) {
            word.store(value, Ordering::Release);
        }
        compiler_fence(Ordering::SeqCst);
    }
}
