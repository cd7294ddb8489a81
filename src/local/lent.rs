//! Words in memory that other processes see too, so that a cluster's workers take a free lock without a message.
//!
//! The word of such a lock is changed as [`super`] says, by the threads of any process to which the table's process has lent the memory. Three
//! things are different there, because such a thread ends, or is cut off, without the table's mutex.
//!
//! **It may go on for a moment after the table has closed its handles.** Each owner has a *sign* in the memory, a word with its number, which the table's
//! side sets to 0 before it ends the owner. Whoever has changed a word from 0 to its handle looks at its sign afterwards, and believes
//! in the hold only if the sign is there. All accesses are sequentially consistent, so the change came before the end of the owner, which
//! then frees the hold, or the thread sees that it is cut off. A word with anything but the handle of an open object of this very
//! lock is therefore the hold of nobody, and counts as free.
//!
//! **It does not call the table to give back a hold that was moved there.** It leaves its handle in the *mark* beside the word, and tells the
//! table's process to look. Whoever asks the table about the lock makes it look first ([`super::LocalTable::settle`]), so from the
//! moment of the mark on the lock is free for everybody. A mark counts only if it names an open handle of this lock whose owner holds
//! it exclusively; so one that was left by somebody who is cut off ends nobody's hold. The next mark replaces it: the
//! holder reads what is there *before* it looks at its sign, and changes it from just that, so one that is cut off cannot replace the mark of its
//! successor.
//!
//! **Nobody can ask it since when it holds.** It writes that beside the word, as the lower half of the milliseconds since 1970, and 0
//! before it frees the word.

use super::handles::Handle;
use super::sync::{AtomicU32, Ordering};
use crate::core::ids::LockKey;
use std::fmt;
use std::sync::Arc;

/// Memory that stays where it is as long as anybody has it.
pub type Memory = Arc<dyn AsRef<[AtomicU32]> + Send + Sync>;

/// The memory, and the clock by which those write who share it.
#[derive(Clone)]
pub struct Lent {
    memory: Memory,
    /// Milliseconds since 1970.
    now: fn() -> u64,
}

/// What there is for one lock.
#[derive(Clone, Copy)]
pub(super) struct Place<'a>(&'a [AtomicU32]);

impl Lent {
    /// How many words a place has, three of them in use: a cache line, so that two locks do not slow each other down.
    #[cfg(not(loom))]
    pub const PLACE: usize = 16;
    #[cfg(loom)]
    pub const PLACE: usize = 3;

    /// `memory` is all 0 in the beginning.
    pub fn new(memory: Memory, now: fn() -> u64) -> Self {
        Self { memory, now }
    }

    /// The place of a lock; `None` if the memory has none for it.
    pub(super) fn place(&self, lock: LockKey) -> Option<Place<'_>> {
        let at = lock.position().checked_mul(Self::PLACE)?;
        let memory: &[AtomicU32] = (*self.memory).as_ref();
        memory.get(at..at + Self::PLACE).map(Place)
    }

    /// What a holder wrote of the time, if it has.
    pub(super) fn since(&self, place: Place<'_>) -> Option<u64> {
        match place.0[SINCE].load(Ordering::SeqCst) {
            0 => None,
            written => {
                let now = (self.now)();
                // Its clock may be a little ahead of this one. A hold of more than 24 days shows as a younger one.
                let ago = i64::from((now as u32).wrapping_sub(written).cast_signed());
                now.checked_add_signed(-ago)
            }
        }
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lent").finish_non_exhaustive()
    }
}

const WORD: usize = 0;
const SINCE: usize = 1;
const MARK: usize = 2;

impl<'a> Place<'a> {
    pub(super) fn word(self) -> &'a AtomicU32 {
        &self.0[WORD]
    }

    /// Takes the mark away. 0: there was none.
    pub(super) fn take_mark(self) -> Handle {
        let mark = &self.0[MARK];
        if mark.load(Ordering::SeqCst) == 0 {
            return Handle(0);
        }
        Handle(mark.swap(0, Ordering::SeqCst))
    }
}

// loom's atomics exist in its models only.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// So many places, none of them in use.
    fn lent(places: usize, now: fn() -> u64) -> Lent {
        let memory: Vec<_> = (0..places * Lent::PLACE).map(|_| AtomicU32::new(0)).collect();
        Lent::new(Arc::new(memory), now)
    }

    fn lock(position: usize) -> LockKey {
        LockKey::at(position).unwrap()
    }

    #[test]
    fn locks_beyond_the_memory_have_no_place_there() {
        let lent = lent(2, || 0);
        assert!(lent.place(lock(1)).is_some());
        assert!(lent.place(lock(2)).is_none());
        assert!(lent.place(lock(u32::MAX as usize - 1)).is_none());
    }

    #[test]
    fn the_time_of_a_hold_is_told_from_its_lower_half() {
        const NOW: u64 = (7 << 32) + 5;
        let lent = lent(1, || NOW);
        let place = lent.place(lock(0)).unwrap();
        assert_eq!(lent.since(place), None);
        // Before now, also beyond the place where the half begins anew, and a little after it by another clock.
        for since in [NOW - 1, NOW - 10_000, NOW + 3] {
            place.0[SINCE].store(since as u32, Ordering::SeqCst);
            assert_eq!(lent.since(place), Some(since));
        }
    }

    #[test]
    fn a_mark_is_taken_once() {
        let lent = lent(1, || 0);
        let place = lent.place(lock(0)).unwrap();
        place.0[MARK].store(9, Ordering::SeqCst);
        assert_eq!(place.take_mark(), Handle(9));
        assert_eq!(place.take_mark(), Handle(0));
    }
}
