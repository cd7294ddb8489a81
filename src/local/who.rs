//! Who asks, and what is shown of it to whoever asks who holds a lock.

use super::handles::Handle;
use crate::core::ids::{OwnerId, Ticket, Token};
use crate::core::mode::Mode;
use std::sync::Arc;

/// Whose code asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Who {
    /// What the user wants to be shown.
    pub label: Option<Arc<str>>,
    /// The JavaScript thread (0 is the main thread).
    pub thread: u32,
    /// The process.
    pub pid: u32,
}

/// What the table remembers with a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tag {
    /// Through which it was asked.
    pub handle: Handle,
    /// By which the owner finds what waits for the grant.
    pub cookie: u32,
    /// When the user asked, in milliseconds since 1970; `None` if nobody looked at the clock.
    pub since: Option<u64>,
    pub who: Who,
}

/// A holder or waiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub owner: OwnerId,
    /// `None` for a hold or wait that the table has not seen.
    pub ticket: Option<Ticket>,
    pub mode: Mode,
    /// `None` for waiters, and for a hold that never asked for a token.
    pub token: Option<Token>,
    pub tag: Tag,
}

impl Info {
    /// An exclusive holder or waiter of whom the table was told nothing yet.
    pub(super) fn untold(owner: OwnerId, who: Who) -> Self {
        Self {
            owner,
            ticket: None,
            mode: Mode::Exclusive,
            token: None,
            tag: Tag {
                handle: Handle::default(),
                cookie: 0,
                since: None,
                who,
            },
        }
    }
}

/// Everybody at one lock, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// In the order of their grants.
    pub held: Vec<Info>,
    /// In the order of the queue.
    pub pending: Vec<Info>,
}
