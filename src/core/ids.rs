//! Names of things in the lock table: who asks, one request, one grant, one lock.

use std::num::NonZeroU32;

/// Whoever goes away at once, with everything it holds and waits for: a JavaScript environment, a cluster worker, a mutex
/// object. The number is the master's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u32);

/// A fencing token: of two grants of one table, the later one has the larger token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Place of a record in a slab, counted from 1 so that an absent one costs no extra byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Index(NonZeroU32);

impl Index {
    /// The index of the record at `position` of the slab's vector.
    pub(crate) fn of(position: usize) -> Option<Self> {
        u32::try_from(position)
            .ok()
            .and_then(|position| position.checked_add(1))
            .and_then(NonZeroU32::new)
            .map(Index)
    }

    pub(crate) fn position(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// One request, and the hold that it becomes. No two requests of a table ever have the same ticket, so that a stale one
/// is recognised however late it comes.
///
/// It is the place of the request's record and how many requests had that place before; both together fit the 53 bits
/// that a JavaScript number carries exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    const POSITION_BITS: u32 = 24;
    const GENERATION_BITS: u32 = 29;
    /// How many requests can be in the table at once.
    pub(crate) const POSITIONS: usize = 1 << Self::POSITION_BITS;
    /// The last generation of a place; after it the place is never used again. One less than fits, so that one can be
    /// added to a ticket.
    pub(crate) const LAST_GENERATION: u32 = (1 << Self::GENERATION_BITS) - 2;

    pub(crate) fn new(index: Index, generation: u32) -> Self {
        debug_assert!(index.position() < Self::POSITIONS && generation <= Self::LAST_GENERATION);
        Ticket(u64::from(generation) << Self::POSITION_BITS | index.position() as u64)
    }

    pub(crate) fn index(self) -> Option<Index> {
        Index::of((self.0 & (Self::POSITIONS as u64 - 1)) as usize)
    }

    pub(crate) fn generation(self) -> u32 {
        (self.0 >> Self::POSITION_BITS) as u32
    }

    /// The ticket as a number above 0 and below 2^53, so that JavaScript can carry it with a sign and use 0 for none.
    pub fn to_u64(self) -> u64 {
        self.0 + 1
    }

    /// The ticket that [`Ticket::to_u64`] gave; `None` for a number that is no ticket's. Whether the request still exists
    /// is for the table to say.
    pub fn from_u64(number: u64) -> Option<Self> {
        let packed = number.checked_sub(1)?;
        (packed >> Self::POSITION_BITS <= u64::from(Self::LAST_GENERATION)).then_some(Ticket(packed))
    }
}

/// A lock that is kept in the table, used or not, until it is unpinned: the way past the look-up of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey(pub(crate) Index);

impl LockKey {
    /// A small number, unique among the locks that the table keeps now, for whoever lays an array beside the table.
    pub fn position(self) -> usize {
        self.0.position()
    }

    /// The key with this [`LockKey::position`].
    pub fn at(position: usize) -> Option<Self> {
        Index::of(position).map(LockKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_survive_the_way_through_a_javascript_number() {
        let last = Index::of(Ticket::POSITIONS - 1).unwrap();
        let ticket = Ticket::new(last, Ticket::LAST_GENERATION);
        assert!(ticket.to_u64() < 1 << 53);
        assert_eq!(Ticket::from_u64(ticket.to_u64() as f64 as u64), Some(ticket));
        assert_eq!(ticket.index(), Some(last));
        assert_eq!(ticket.generation(), Ticket::LAST_GENERATION);
    }

    #[test]
    fn zero_and_numbers_of_more_than_53_bits_are_no_tickets() {
        let first = Ticket::new(Index::of(0).unwrap(), 0);
        assert_eq!(first.to_u64(), 1);
        assert_eq!(Ticket::from_u64(0), None);
        assert_eq!(Ticket::from_u64(1 << 53), None);
        assert_eq!(Ticket::from_u64(u64::MAX), None);
    }
}
