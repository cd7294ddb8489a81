//! How a grant reaches an owner other than the one whose call brought it about.

use super::handles::Handle;
use crate::core::ids::{OwnerId, Ticket, Token};

/// A request that waited was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    pub ticket: Ticket,
    pub owner: OwnerId,
    pub token: Token,
    /// The request's own, see [`super::Tag::cookie`].
    pub cookie: u32,
}

/// A hold was stolen: it has ended without its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stolen {
    pub owner: OwnerId,
    pub handle: Handle,
    /// `None` for a hold that was taken on the fast path. Its owner asks [`super::LocalTable::holds`] when it hears of this: it may have
    /// taken the lock again meanwhile.
    pub ticket: Option<Ticket>,
}

/// Carries grants to the threads (or processes) of their owners.
pub trait Deliver: Send + Sync {
    /// All of `grants` are `owner`'s, in the order in which they were given. Called on the thread that released, after
    /// the table's mutex was let go, so it may call the table.
    ///
    /// Meanwhile the owner may have gone away, which has freed the hold: then there is nothing to do. Or it may have
    /// found out by itself (its cancel answered `AlreadyGranted`) and released: an owner ignores a grant whose ticket it
    /// no longer waits for.
    fn granted(&self, owner: OwnerId, grants: &[Granted]);

    /// A hold of `stolen.owner` has ended. Called like `granted`; never where nobody steals.
    fn stolen(&self, _stolen: Stolen) {}
}
