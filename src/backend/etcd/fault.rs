//! What etcd and the connection to it say when something fails, in the crate's own kinds.

use crate::backend::tls;
use crate::error::{Error, Kind};
use std::error::Error as StdError;
use tonic::{Code, Status};

/// A failed exchange.
#[derive(Debug)]
pub enum Fault {
    /// The lease that the message carried does not exist (any more).
    LeaseGone,
    /// A lease of this number exists already: an earlier message of ours arrived after all.
    LeaseExists,
    /// The user may not do this; everything else about the exchange is fine.
    Forbidden(Error),
    Failed(Error),
}

impl Fault {
    pub fn is_transient(&self) -> bool {
        matches!(self, Fault::Failed(error) if error.is_transient())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Forbidden(error) | Fault::Failed(error) => error,
            Fault::LeaseGone => Error::new(Kind::LockLost, "the etcd lease of this process has ended"),
            Fault::LeaseExists => Error::new(Kind::Server, "etcd has another lease of the same number"),
        }
    }
}

/// Sorts out what `peer` (`host:port`) or the way to it said.
pub fn sort(error: &etcd_client::Error, peer: &str) -> Fault {
    if let etcd_client::Error::LeaseKeepAliveError(text) = error
        && text == "lease not found"
    {
        return Fault::LeaseGone;
    }
    let status = match error {
        etcd_client::Error::GRpcStatus(status) => status,
        etcd_client::Error::TransportError(transport) => {
            return Fault::Failed(tls::describe(transport, peer).unwrap_or_else(|| unreachable(peer, root(transport))));
        }
        // A stream that ended before its first message, a channel of ours that closed: the connection is gone.
        other => return Fault::Failed(unreachable(peer, other.to_string())),
    };
    if let Some(error) = tls::describe(status, peer) {
        return Fault::Failed(error);
    }
    let text = status.message();
    match status.code() {
        Code::NotFound if text.contains("lease not found") => Fault::LeaseGone,
        Code::FailedPrecondition if text.contains("lease already exists") => Fault::LeaseExists,
        Code::PermissionDenied => Fault::Forbidden(
            Error::new(
                Kind::Auth,
                format!("etcd at {peer}: the user has no permission on the lock's keys"),
            )
            .because(text),
        ),
        Code::Unauthenticated => Fault::Failed(refused(peer, text)),
        Code::InvalidArgument if text.contains("authentication failed") || text.contains("user name is empty") => {
            Fault::Failed(refused(peer, text))
        }
        Code::FailedPrecondition if text.contains("authentication is not enabled") => Fault::Failed(
            Error::new(
                Kind::Auth,
                format!("etcd at {peer} has no authentication enabled, but the URL names a user"),
            )
            .because(text),
        ),
        Code::ResourceExhausted if text.contains("database space exceeded") => Fault::Failed(
            Error::new(
                Kind::Server,
                format!("etcd at {peer} is full (its database quota is used up)"),
            )
            .because(text),
        ),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
            Fault::Failed(if is_foreign(status) {
                foreign(peer, status)
            } else {
                unreachable(peer, reason(status))
            })
        }
        Code::ResourceExhausted if text.contains("too many requests") => {
            Fault::Failed(unreachable(peer, text.to_owned()))
        }
        Code::Unknown if is_passing(text) => Fault::Failed(unreachable(peer, text.to_owned())),
        Code::Unknown | Code::Internal if !text.starts_with("etcdserver:") => {
            Fault::Failed(if is_foreign(status) || status.source().is_none() {
                foreign(peer, status)
            } else {
                unreachable(peer, reason(status))
            })
        }
        Code::Unimplemented => Fault::Failed(foreign(peer, status)),
        _ => Fault::Failed(Error::new(Kind::Server, format!("etcd at {peer} refused: {text}")).because(text)),
    }
}

/// What a node that stops, or hands its leadership to another, says without sorting it out itself.
fn is_passing(text: &str) -> bool {
    text.starts_with("raft") || text.starts_with("context ")
}

/// Nothing came back in time.
pub fn silent(peer: &str, within: std::time::Duration) -> Error {
    Error::new(
        Kind::Connect,
        format!("etcd at {peer} did not answer within {:.1} s", within.as_secs_f64()),
    )
}

/// The stream of watches does not hold.
pub fn broken(peer: &str) -> Error {
    unreachable(peer, "the stream of watches ended".to_owned())
}

fn unreachable(peer: &str, cause: String) -> Error {
    Error::new(Kind::Connect, format!("etcd at {peer} cannot be reached")).because(cause)
}

fn refused(peer: &str, cause: &str) -> Error {
    Error::new(Kind::Auth, format!("etcd at {peer} refused the user or password")).because(cause)
}

fn foreign(peer: &str, status: &Status) -> Error {
    Error::new(Kind::Server, format!("what answers at {peer} is not etcd")).because(reason(status))
}

/// Whether the other side answered something that is not HTTP/2 with gRPC in it. The HTTP/2 library keeps its own kinds
/// to itself, hence the words.
fn is_foreign(status: &Status) -> bool {
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
