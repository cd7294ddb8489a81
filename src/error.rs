//! The one error of the crate: what kind it is, what to tell the user, and what the server itself said.
//!
//! Errors are made fresh each time and are data. Messages name host and port, never a secret; whoever makes a message
//! out of foreign text (a server's own words, a URL) is responsible for that.

use std::fmt;

/// What went wrong, in the words a program can act upon. Every kind has one stable code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The URL or one of its options cannot be used.
    InvalidUrl,
    /// `open()` on a mutex that is open.
    AlreadyOpen,
    /// A call on a mutex that is not open.
    NotOpen,
    /// `release()` of what is not held.
    NotAcquired,
    /// The caller's own time limit ended the wait.
    Timeout,
    /// `close()` ended the call.
    Closed,
    /// The server cannot be reached or does not answer. The only kind that is worth another try.
    Connect,
    /// The server refuses the user, password, token or permission.
    Auth,
    /// The encrypted connection cannot be set up or trusted.
    Tls,
    /// The server answered, but not with what a lock needs.
    Server,
    /// A hold ended without `release()`.
    LockLost,
    /// No answer from the cluster's primary.
    Primary,
    /// The caller waits for itself.
    Deadlock,
}

impl Kind {
    /// The stable `code` that JavaScript sees.
    pub const fn code(self) -> &'static str {
        match self {
            Kind::InvalidUrl => "ERR_INVALID_URL",
            Kind::AlreadyOpen => "ERR_ALREADY_OPEN",
            Kind::NotOpen => "ERR_NOT_OPEN",
            Kind::NotAcquired => "ERR_NOT_ACQUIRED",
            Kind::Timeout => "ERR_TIMEOUT",
            Kind::Closed => "ERR_CLOSED",
            Kind::Connect => "ERR_CONNECT",
            Kind::Auth => "ERR_AUTH",
            Kind::Tls => "ERR_TLS",
            Kind::Server => "ERR_SERVER",
            Kind::LockLost => "ERR_LOCK_LOST",
            Kind::Primary => "ERR_PRIMARY",
            Kind::Deadlock => "ERR_DEADLOCK",
        }
    }
}

/// An error with a [`Kind`], a message for people and, where there is one, the foreign message that caused it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// The server's (or the operating system's) own message, without secrets.
    pub cause: Option<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            cause: None,
        }
    }

    /// Keeps the foreign message beside our own.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

pub type Result<T, E = Error> = std::result::Result<T, E>;
