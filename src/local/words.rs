//! The words that JavaScript and this crate share, one per lock. See [`super`] for their meaning.

use super::handles::Handle;
use super::lent::{Lent, Place};
pub use super::sync::AtomicU32;
use super::sync::Ordering;
use crate::core::ids::LockKey;
use std::sync::Arc;

/// The word of a lock that the table knows more about.
pub const INFLATED: u32 = 0x8000_0000;

/// How many words a chunk has. As many line lengths follow them: how many wait in the line of the word's holder, see
/// [`super`].
#[cfg(not(loom))]
pub const CHUNK: usize = 8192;
#[cfg(loom)]
pub const CHUNK: usize = 2;

/// Words at an address that never changes, all 0 in the beginning.
pub type Chunk = Arc<[AtomicU32]>;

/// Where the word of a lock is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Which chunk.
    pub chunk: u32,
    /// Which word of the chunk.
    pub offset: u32,
}

impl Slot {
    pub(super) fn of(lock: LockKey) -> Self {
        // A position is below 2^32.
        Self {
            chunk: (lock.position() / CHUNK) as u32,
            offset: (lock.position() % CHUNK) as u32,
        }
    }
}

/// What a word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Free,
    Fast(Handle),
    Inflated,
}

impl Word {
    pub(super) fn read(word: &AtomicU32) -> Self {
        match word.load(Ordering::SeqCst) {
            0 => Word::Free,
            handle if handle < INFLATED => Word::Fast(Handle(handle)),
            _ => Word::Inflated,
        }
    }

    fn number(self) -> u32 {
        match self {
            Word::Free => 0,
            Word::Fast(handle) => handle.0,
            Word::Inflated => INFLATED,
        }
    }

    /// Changes the word from `self` to `to`, and tells whether it still was `self`.
    pub(super) fn exchange(self, word: &AtomicU32, to: Word) -> bool {
        word.compare_exchange(self.number(), to.number(), Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// All words of a table. They stay where they are as long as anybody has their chunk.
#[derive(Debug, Default)]
pub(super) struct Words {
    chunks: Vec<Chunk>,
    /// Where the words of the first locks are instead, if other processes are to see them.
    lent: Option<Lent>,
}

impl Words {
    pub(super) fn lent(lent: Lent) -> Self {
        Self {
            chunks: Vec::new(),
            lent: Some(lent),
        }
    }

    /// What there is for this lock in memory that other processes see.
    pub(super) fn place(&self, lock: LockKey) -> Option<Place<'_>> {
        self.lent.as_ref()?.place(lock)
    }

    /// Since when the holder by the word has the lock, as far as it is known.
    pub(super) fn since(&self, lock: LockKey) -> Option<u64> {
        let lent = self.lent.as_ref()?;
        lent.since(lent.place(lock)?)
    }

    pub(super) fn chunk(&self, chunk: u32) -> Option<&Chunk> {
        self.chunks.get(chunk as usize)
    }

    /// The word of a lock, with its chunk made if need be.
    pub(super) fn word(&mut self, lock: LockKey) -> &AtomicU32 {
        if let Some(place) = self.lent.as_ref().and_then(|lent| lent.place(lock)) {
            return place.word();
        }
        let slot = Slot::of(lock);
        while self.chunks.len() <= slot.chunk as usize {
            self.chunks.push((0..2 * CHUNK).map(|_| AtomicU32::new(0)).collect());
        }
        &self.chunks[slot.chunk as usize][slot.offset as usize]
    }

    /// How many wait in the line of the lock's holder. Another thread may be changing it.
    pub(super) fn line(&self, lock: LockKey) -> usize {
        self.line_of(lock)
            .map_or(0, |line| line.load(Ordering::SeqCst) as usize)
    }

    pub(super) fn set_line(&self, lock: LockKey, length: u32) {
        if let Some(line) = self.line_of(lock) {
            line.store(length, Ordering::SeqCst);
        }
    }

    fn line_of(&self, lock: LockKey) -> Option<&AtomicU32> {
        let slot = Slot::of(lock);
        self.chunks.get(slot.chunk as usize)?.get(slot.offset as usize + CHUNK)
    }
}
