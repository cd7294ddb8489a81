//! What etcd and the connection to it say when something fails, sorted by what may be done about it.
//!
//! Three questions have three answers: whether another address, connection or token is worth a try ([`Fault::Unusable`],
//! [`Fault::OldToken`], answered in the module `link`); whether an acquire may wait on (the conversion to [`Refusal`]); and whether
//! clearing away may stop, to which no fault says yes.

use crate::backend::{Refusal, tls};
use crate::error::{Error, Kind};
use std::error::Error as StdError;
use std::time::Duration;
use tonic::{Code, Status};

/// A failed exchange.
#[derive(Debug)]
pub enum Fault {
    /// The lease that the message carried does not exist (any more).
    LeaseGone,
    /// A lease of this number exists already: an earlier message of ours arrived after all.
    LeaseExists,
    /// The user may not do this to these keys; everything else about the exchange is fine.
    Forbidden(Error),
    /// The server takes nothing new, only what deletes.
    Full(Error),
    /// The server, or this client, does not take so much in one message.
    TooMuch(Error),
    /// Users, roles or the server have changed since the token was given; a new one will do.
    OldToken(Error),
    /// Nobody answers there, or somebody who is not an etcd that can be trusted: another address or a later time may do.
    Unusable(Error),
    /// The server's last word.
    Refused(Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Forbidden(error)
            | Fault::Full(error)
            | Fault::TooMuch(error)
            | Fault::OldToken(error)
            | Fault::Unusable(error)
            | Fault::Refused(error) => error,
            Fault::LeaseGone => Error::new(Kind::LockLost, "the etcd lease of this process has ended"),
            Fault::LeaseExists => Error::new(Kind::Server, "etcd has another lease of the same number"),
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            // A certificate that nobody trusts is not waited for.
            Fault::Unusable(error) | Fault::OldToken(error) if error.kind != Kind::Tls => Refusal::Away(error),
            other => Refusal::Failed(other.into()),
        }
    }
}

/// Sorts out what `peer` (`host:port`) or the way to it said.
pub fn sort(error: &etcd_client::Error, peer: &str) -> Fault {
    let status = match error {
        etcd_client::Error::GRpcStatus(status) => status,
        etcd_client::Error::TransportError(transport) => {
            return Fault::Unusable(tls::describe(transport, peer).unwrap_or_else(|| away(peer, root(transport))));
        }
        // A stream that ended before its first message, a channel of ours that closed: the connection is gone.
        other => return unreachable(peer, other),
    };
    if let Some(error) = tls::describe(status, peer) {
        return Fault::Unusable(error);
    }
    if is_foreign(status) {
        let foreign = format!("what answers at {peer} is not etcd");
        return Fault::Unusable(Error::new(Kind::Server, foreign).because(reason(status)));
    }
    let text = status.message();
    let says = |words: &str| text.contains(words);
    let error = |kind, message: String| Error::new(kind, message).because(text);
    match status.code() {
        Code::NotFound if says("lease not found") => Fault::LeaseGone,
        Code::FailedPrecondition if says("lease already exists") => Fault::LeaseExists,
        _ if says("revision of auth store is old") || says("invalid auth token") => {
            let message = format!("etcd at {peer} accepts no token of this user while users or roles change");
            Fault::OldToken(error(Kind::Connect, message))
        }
        Code::PermissionDenied => {
            let message = format!("etcd at {peer}: the user has no permission on the lock's keys");
            Fault::Forbidden(error(Kind::Auth, message))
        }
        Code::Unauthenticated => refused(peer, text),
        Code::InvalidArgument if says("authentication failed") || says("user name is empty") => refused(peer, text),
        Code::FailedPrecondition if says("authentication is not enabled") => {
            let message = format!("etcd at {peer} has no authentication enabled, but the URL names a user");
            Fault::Refused(error(Kind::Auth, message))
        }
        Code::ResourceExhausted if says("database space exceeded") => {
            let message = format!("etcd at {peer} is full (its database quota is used up)");
            Fault::Full(error(Kind::Server, message))
        }
        Code::InvalidArgument if says("too many operations") || says("request is too large") => too_much(peer, text),
        // What the gRPC library says of an answer.
        Code::OutOfRange if says("message length too large") => too_much(peer, text),
        Code::ResourceExhausted if says("too many requests") => unreachable(peer, text),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
            unreachable(peer, reason(status))
        }
        Code::Unknown | Code::Internal if is_passing(text) || !text.starts_with("etcdserver:") => {
            unreachable(peer, reason(status))
        }
        _ => Fault::Refused(error(Kind::Server, format!("etcd at {peer} refused: {text}"))),
    }
}

/// What a node that stops, or hands its leadership to another, says without sorting it out itself.
fn is_passing(text: &str) -> bool {
    text.starts_with("raft") || text.starts_with("context ")
}

/// Nothing came back in time.
pub fn silent(peer: &str, within: Duration) -> Fault {
    let message = format!("etcd at {peer} did not answer within {:.1} s", within.as_secs_f64());
    Fault::Unusable(Error::new(Kind::Connect, message))
}

/// Nobody can be reached there, or the connection does not hold.
pub fn unreachable(peer: &str, cause: impl std::fmt::Display) -> Fault {
    Fault::Unusable(away(peer, cause))
}

fn away(peer: &str, cause: impl std::fmt::Display) -> Error {
    Error::new(Kind::Connect, format!("etcd at {peer} cannot be reached")).because(cause)
}

fn too_much(peer: &str, cause: &str) -> Fault {
    Fault::TooMuch(Error::new(Kind::Server, format!("etcd at {peer} refused: {cause}")))
}

fn refused(peer: &str, cause: &str) -> Fault {
    Fault::Refused(Error::new(Kind::Auth, format!("etcd at {peer} refused the user or password")).because(cause))
}

/// Whether the other side answered something that is not HTTP/2 with gRPC in it. The HTTP/2 library keeps its own kinds
/// to itself, hence the words.
fn is_foreign(status: &Status) -> bool {
    if matches!(status.code(), Code::Unimplemented) {
        return true;
    }
    let mut words = status.message().to_owned();
    let mut next = status.source();
    while let Some(error) = next {
        words.push(' ');
        words.push_str(&error.to_string());
        next = error.source();
    }
    [
        "frame with invalid size",
        "protocol error",
        "PROTOCOL_ERROR",
        "FRAME_SIZE",
        "invalid compression flag",
        "HTTP status",
    ]
    .iter()
    .any(|sign| words.contains(sign))
}

fn reason(status: &Status) -> String {
    match status.source() {
        Some(source) => root(source),
        None => status.message().to_owned(),
    }
}

/// The innermost cause, which is the one that says something.
fn root(error: &dyn StdError) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What `read` finds in an answer; `None` if it is of a kind that etcd-client does not know, at which it panics. No etcd says that, but a confused
/// server or something between us and it may, and the calls of this process must not wait for ever then.
pub fn sensible<T>(read: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).ok()
}
