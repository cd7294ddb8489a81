//! What JavaScript asks of the runtime, and what it is told.

use super::express::{Adoption, Presence};
use crate::backend::{Attempt, Snapshot, Snapshots};
use crate::core::lease::Lease;
use crate::core::mode::Mode;
use crate::error::Error;
use crate::url::Remote;
use std::sync::mpsc;

/// One JavaScript environment: the main thread or a worker thread.
pub type EnvId = u32;

/// A call made by JavaScript, by the number that its environment chose. A request for a lock keeps the name of its call
/// while it waits and while it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Call {
    pub env: EnvId,
    pub cookie: u32,
}

/// One open mutex object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MutexId(pub u32);

/// What JavaScript asks for. Each is answered by exactly one [`Notice`] to its `call`, except where stated.
#[derive(Debug)]
pub enum Command {
    /// Connects, or makes sure that the server still answers.
    Open {
        mutex: MutexId,
        call: Call,
        remote: Box<Remote>,
        label: Option<String>,
        /// 0 for the main thread.
        thread: u32,
        /// Whether another mutex of the caller is open at this server: then no answer of the server is waited for, and requests may
        /// follow at once.
        joins: bool,
    },
    /// Asks for the lock. Answered by `Granted`, `Busy` or `Failed`; after `Granted` a `Lost` may follow.
    Request {
        mutex: MutexId,
        call: Call,
        mode: Mode,
        attempt: Attempt,
        fenced: bool,
        /// Keeps others of the same lock out of the express lane.
        presence: Option<Presence>,
    },
    /// Takes a request over from the express lane, as it is; what is said of `Request` goes on for it. No answer of its own.
    Adopt(Box<Adoption>),
    /// What `request` holds was stolen; it was adopted just before. No answer but `Lost`.
    Stolen { request: Call },
    /// Withdraws `request`, giving back what it may have been granted. `request` hears no more; `call` hears `Done` when the
    /// server has no trace of it, at the latest after a second; `Failed` instead, with the reason, if it had to wait because the
    /// server was away.
    Cancel { request: Call, call: Call },
    /// Frees what `request` holds; it hears `Done` or `Failed`.
    Release { request: Call },
    /// Who holds and who waits: `Snapshot` or `Failed`.
    Query { mutex: MutexId, call: Call },
    /// The same for all locks of the mutex's server: `Snapshots` or `Failed`.
    List { mutex: MutexId, call: Call },
    /// Withdraws and frees everything of the mutex; its requests hear no more. `Done` comes within `connect_timeout` and a
    /// second. The last mutex of a server ends the connections.
    Close { mutex: MutexId, call: Call },
    /// An environment ended: everything of it is withdrawn and freed. No answer.
    EnvGone { env: EnvId },
    /// The process ends: everything is freed. `done` hears when.
    Shutdown { done: mpsc::Sender<()> },
}

/// What JavaScript is told.
#[derive(Debug)]
pub enum Notice {
    Granted {
        token: Option<u64>,
        /// How long the holder may believe in its hold, kept up to date by renewal.
        lease: Lease,
    },
    Busy,
    Done,
    Snapshot(Snapshot),
    Snapshots(Snapshots),
    Failed(Error),
    Lost(Error),
    /// The connection to the server is gone; `call.cookie` is the mutex.
    Disconnected,
    /// The server is back after a cut connection; `call.cookie` is the mutex.
    Reconnected,
}

/// Where notices go. Called on the runtime's thread; must not block.
pub trait Sink: Send + Sync + 'static {
    fn notify(&self, call: Call, notice: Notice);
}
