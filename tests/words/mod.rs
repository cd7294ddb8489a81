//! What JavaScript does to the words of locks, for tests in Rust.

// Each test uses a part of it.
#![allow(dead_code)]

use crate::local::Handle;
use crate::local::words::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

/// `lib/models/spm.js` takes a free lock. False: ask the table.
pub fn take(word: &AtomicU32, handle: Handle) -> bool {
    word.compare_exchange(0, handle.0, SeqCst, SeqCst).is_ok()
}

/// `lib/models/spm.js` frees a lock that it took. False: the hold was moved into the table, to be ended by `release_fast`.
pub fn free(word: &AtomicU32, handle: Handle) -> bool {
    word.compare_exchange(handle.0, 0, SeqCst, SeqCst).is_ok()
}

/// The memory that a cluster's primary lends, word by word.
pub trait Memory {
    fn load(&self, at: usize) -> u32;
    fn store(&self, at: usize, value: u32);
    /// What stood there before.
    fn compare_exchange(&self, at: usize, from: u32, to: u32) -> u32;
    /// Milliseconds since 1970.
    fn now(&self) -> u64;
}

/// The twin of the class in `lib/cluster/word.js`; `tests/word_twin.rs` makes sure of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Where the lock's word is.
    pub at: usize,
    pub handle: u32,
    /// Where the memory says whose requests are served.
    pub sign: usize,
    pub owner: u32,
}

/// What stands beside the word, as in `src/local/lent.rs`.
pub const SINCE: usize = 1;
pub const MARK: usize = 2;

impl Word {
    pub fn take(&self, memory: &impl Memory) -> bool {
        if memory.compare_exchange(self.at, 0, self.handle) != 0 {
            return false;
        }
        if memory.load(self.sign) != self.owner {
            self.free(memory);
            return false;
        }
        memory.store(self.at + SINCE, (memory.now() as u32).max(1));
        true
    }

    pub fn free(&self, memory: &impl Memory) -> bool {
        memory.store(self.at + SINCE, 0);
        memory.compare_exchange(self.at, self.handle, 0) == self.handle
    }

    pub fn leave(&self, memory: &impl Memory) -> bool {
        loop {
            let before = memory.load(self.at + MARK);
            if memory.load(self.sign) != self.owner {
                return false;
            }
            if memory.compare_exchange(self.at + MARK, before, self.handle) == before {
                return true;
            }
        }
    }
}
