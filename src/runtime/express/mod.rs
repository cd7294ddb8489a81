//! The express lane: locks that at most one request of this process wants, without a change of threads.
//!
//! A call that goes to the runtime's thread and comes back wakes two threads, which costs as much as the server itself. So for a lock
//! that nobody else in this process has or wants, the JavaScript thread asks the server by itself: JavaScript owns a plain socket and moves
//! bytes, this module makes them and reads the answers. Where another process has the lock, the request waits in the server's queue and hears
//! of the grant on the same socket; its release hands the lock on. The lane is optional at every moment. It knows four steps, asking, waiting,
//! holding and releasing ([`table`]), and whatever is not exactly that is *adopted* by the runtime, whose rules then apply as if the request had
//! always been there:
//!
//! | what happens | who adopts |
//! |---|---|
//! | another request for the same lock, from any thread | the call that makes it, before it goes to the runtime itself |
//! | cancel, `close()`, `query()` of what is on its way | that call |
//! | an answer other than held, queued, free or freed; a lock that is taken where the server may not bring news; a waiter that is put off | whoever reads that |
//! | anything older than a moment: unanswered, a place or a hold that needs renewal | the keeper, when it looks |
//! | the connection breaks | whoever hears of that |
//! | a JavaScript thread ends; the process ends | that thread's clean-up; `shutdown` |
//!
//! So renewal, loss, the lease rule, cancel and retries exist once, in the runtime.
//!
//! **Order.** Every decision is made under one lock, inside the JavaScript call, and everything for the runtime is sent to it under that
//! lock. A request comes into the lane only while the runtime has none of that lock, in any thread's name ([`table::Presence`]), and none comes
//! to the runtime before the one in the lane was handed over.
//!
//! **Twice asked.** An adopted ask is asked again by the runtime, under the same owner's name; the scripts recognise what the first question took. What
//! is still on its way in the lane must not take the lock for an owner that is gone: before the runtime releases such an ask it
//! waits until the lane has been answered, and when that does not come or cannot come any more it has the server end the lane's connection
//! first ([`Late`]).
//!
//! A grant that is brought to a waiter which was adopted meanwhile is not heard: the runtime finds it when it asks.
//!
//! **The lease** counts from before the bytes were given to JavaScript; that of a waiter too, from the question
//! that was answered by a place in the queue: the grant came later.

mod answers;
mod calls;
mod line;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use line::Departure;
pub use state::Place;
pub use table::{Presence, Stage};

use self::state::State;
use super::commands::{Call, Command, MutexId};
use crate::backend::express::Name;
use crate::backend::{Ask, Identity};
use crate::core::lease::Lease;
use crate::core::time::Moment;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

/// The lane of this process, for all servers and all JavaScript threads.
pub struct Express {
    state: Mutex<State>,
    commands: mpsc::UnboundedSender<Command>,
    identity: Arc<Identity>,
}

/// What the runtime takes over.
#[derive(Debug)]
pub struct Adoption {
    pub mutex: MutexId,
    pub call: Call,
    pub ask: Ask,
    pub stage: Stage,
    /// When the last question for it was made.
    pub sent: Moment,
    /// The lane's question for the lock may still arrive at the server.
    pub late: Option<Late>,
    /// The lane's release may have freed the lock.
    pub unanswered: bool,
    pub presence: Presence,
}

/// A question for a lock that is still on its way in the lane.
#[derive(Debug, Clone)]
pub struct Late {
    /// Hears `true` when it was answered; ends when it cannot be any more.
    pub answered: watch::Receiver<bool>,
    /// The connection that it went by.
    pub line: Name,
}

/// Which way a call went.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    Runtime,
    /// To the runtime, because this thread has no connection in the lane; it may open one.
    NoLine,
    Lane(Departure),
}

/// What JavaScript learns from bytes that it brought.
#[derive(Debug)]
pub enum Told {
    Granted(Option<u64>, Lease),
    Busy,
    Done,
}

/// The connection is of no use any more and is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over;

impl Express {
    /// What is adopted goes to `commands`, together with everything else for the runtime.
    pub fn new(commands: mpsc::UnboundedSender<Command>, identity: Arc<Identity>) -> Self {
        Self {
            state: Mutex::default(),
            commands,
            identity,
        }
    }
}
