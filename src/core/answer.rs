//! What the lock table answers.

use super::ids::{LockKey, OwnerId, Ticket, Token};
use super::mode::Mode;
use super::request::State;

/// The immediate answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The caller holds the lock.
    Granted(Ticket, Token),
    /// The caller waits; the [`Grant`] with this ticket comes out of a later call.
    Queued(Ticket),
    /// The lock was not to be had at once, and the table has no trace of the request. To a request that would wait, the
    /// answer only if 2^24 requests are in the table already.
    Busy,
}

/// A waiting request was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub ticket: Ticket,
    pub owner: OwnerId,
    pub token: Token,
}

/// The ticket is not that of a hold of this owner: it was released before, still waits, or is somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHeld;

/// What became of a cancelled wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled<T> {
    /// The request is gone and will never be granted.
    Withdrawn(T),
    /// Too late: the caller holds the lock, and has to release it.
    AlreadyGranted,
    /// There is no such request of this owner.
    Unknown,
}

/// A request that ended with its owner, or a hold that was stolen.
#[derive(Debug, PartialEq, Eq)]
pub struct Left<T> {
    pub ticket: Ticket,
    pub owner: OwnerId,
    pub lock: LockKey,
    pub mode: Mode,
    pub state: State,
    pub tag: T,
}

/// A request as [`Table::snapshot`] shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen<'a, T> {
    pub ticket: Ticket,
    pub owner: OwnerId,
    pub mode: Mode,
    /// `None` for those who wait.
    pub token: Option<Token>,
    pub tag: &'a T,
}

/// Everybody at one lock.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot<'a, T> {
    /// In the order of their grants.
    pub held: Vec<Seen<'a, T>>,
    /// In the order of the queue.
    pub pending: Vec<Seen<'a, T>>,
}
