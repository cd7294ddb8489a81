//! What a server must offer for an express lane: its requests as bytes and its answers from bytes, without any I/O.
//!
//! The lane itself, and what it is for, is in `runtime/express`. It carries questions for an exclusive lock and for its release, over a
//! connection that somebody else owns, and hears there when a lock that was waited for is handed over.

use super::{Ask, Owner};

/// A connection of the lane, by which the server's own view of it can be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// What the server shows of it; no other connection of any process has this name.
    pub text: String,
    /// The server's number for it.
    pub client: Option<i64>,
}

/// What was sent, in the order in which the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    Greeting,
    Ask,
    Release,
    /// A release that hands the lock on if somebody waits.
    HandOver,
}

/// What the server said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The greeting was accepted; with the server's number for the connection where it says that.
    Welcome {
        client: Option<i64>,
    },
    Held {
        token: Option<u64>,
    },
    /// Somebody else has the lock, or is before us; nothing of the ask is at the server.
    Busy,
    /// The ask waits at the server, and [`News`] will come when it is granted.
    Queued,
    Freed,
    /// Nothing was done: somebody may wait, so that [`Question::HandOver`] is what to say.
    Awaited,
    /// An error, or an answer that does not belong to the question: somebody else must ask again.
    Unclear,
    /// As before, and nothing else would be answered better on this connection: it is to be closed.
    Elsewhere,
}

/// What came is not what the server speaks: nothing on this connection can be understood any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbled;

/// What the server says without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The lock was handed to an owner that waited, after it was told to wait.
    Granted { owner: Owner, token: Option<u64> },
    /// What this owner knows is no longer true: somebody else must ask again.
    Changed { owner: Owner },
}

/// One connection's language.
pub trait Wire: Send {
    /// The first bytes on a connection that is to be called `name`; gives the number of answers that follow.
    fn greet(&mut self, name: &str, out: &mut Vec<u8>) -> usize;

    /// Whether an ask can wait here: the server brings news to this connection.
    fn listens(&self) -> bool;

    /// Takes the lock if it is free; for an exclusive ask. Else it waits at the server if `may_queue`, or takes nothing. `Backend::acquire` and
    /// `Backend::release` of the same owner must find what this has taken.
    fn ask(&mut self, ask: &Ask, may_queue: bool, out: &mut Vec<u8>);

    /// Frees the lock, if there is nothing else to do with that; else does nothing.
    fn release(&mut self, ask: &Ask, out: &mut Vec<u8>);

    /// Frees the lock, or hands it to whoever waits for it.
    fn hand_over(&mut self, ask: &Ask, out: &mut Vec<u8>);

    /// What came in; in pieces of any size.
    fn feed(&mut self, bytes: &[u8]);

    /// The next answer, if all of it has come; it is the one to `question`. What the server says before it, or instead, is kept as news.
    ///
    /// # Errors
    /// What came cannot be understood.
    fn answer(&mut self, question: Question) -> Result<Option<Answer>, Garbled>;

    /// The next of the news; for a connection on which no answer is to come, `unasked`, what has come is all news.
    ///
    /// # Errors
    /// What came cannot be understood, or is an answer although it is `unasked`.
    fn news(&mut self, unasked: bool) -> Result<Option<News>, Garbled>;
}
