//! What a failure at the server means to a lock.

use super::login::Login;
use crate::backend::tls;
use crate::error::{Error, Kind};
use std::error::Error as StdError;
use tokio_postgres::Error as Failure;
use tokio_postgres::error::SqlState;

/// How a statement failed.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The connection is gone, and with it the session and all it held.
    Gone(Error),
    /// The statement was cancelled. What it had done to a lock before that stays done.
    Cancelled(Error),
    /// The server refused it. What it had done to a lock before that stays done.
    Refused(Error),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone(error) | Fault::Cancelled(error) | Fault::Refused(error) => error,
        }
    }
}

/// What the failure of a statement means.
pub fn of_statement(login: &Login, peer: &str, failure: &Failure) -> Fault {
    let error = describe(login, peer, failure);
    match failure.code() {
        Some(code) if *code == SqlState::QUERY_CANCELED => Fault::Cancelled(error),
        Some(code) if ends_session(code) => Fault::Gone(error),
        Some(_) => Fault::Refused(error),
        None if is_misunderstanding(failure) => Fault::Refused(error),
        None => Fault::Gone(error),
    }
}

/// What the end of a connection, or of an attempt to make one, means.
pub fn describe(login: &Login, peer: &str, failure: &Failure) -> Error {
    if let Some(error) = failure.as_db_error() {
        let kind = kind_of(error.code());
        let what = match kind {
            Kind::Auth => format!("PostgreSQL at {peer} refuses access"),
            Kind::Connect => format!("PostgreSQL at {peer} is not available"),
            _ => format!("PostgreSQL at {peer} reports: {}", login.masked(error.message())),
        };
        let mut cause = format!("{} (SQLSTATE {})", error.message(), error.code().code());
        for more in [error.detail(), error.hint()].into_iter().flatten() {
            cause.push_str("; ");
            cause.push_str(more);
        }
        return Error::new(kind, what).because(login.masked(&cause));
    }
    if let Some(error) = tls::describe(failure, peer) {
        return error;
    }
    let cause = login.masked(&chain(failure));
    // The kind of these failures is private to the driver; their texts are what can be told apart.
    match failure.to_string().as_str() {
        "error performing TLS handshake" => {
            Error::new(Kind::Tls, format!("TLS to PostgreSQL at {peer} failed")).because(cause)
        }
        "authentication error" | "invalid configuration" => {
            Error::new(Kind::Auth, format!("PostgreSQL at {peer} refuses access")).because(cause)
        }
        _ if is_misunderstanding(failure) => not_postgresql(peer).because(cause),
        _ => Error::new(
            Kind::Connect,
            format!("the connection to PostgreSQL at {peer} was lost"),
        )
        .because(cause),
    }
}

/// Whatever answers there, it is something else.
pub fn not_postgresql(peer: &str) -> Error {
    Error::new(Kind::Server, format!("what answers at {peer} is not PostgreSQL"))
}

fn is_misunderstanding(failure: &Failure) -> bool {
    let text = failure.to_string();
    text == "unexpected message from server"
        || text == "error parsing response from server"
        || text.starts_with("error deserializing")
        || chain(failure).contains("invalid message")
}

/// Codes after which the server itself closes the connection.
fn ends_session(code: &SqlState) -> bool {
    let ends = [
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::IDLE_SESSION_TIMEOUT,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::DATABASE_DROPPED,
    ];
    ends.contains(code) || code.code().starts_with("08")
}

fn kind_of(code: &SqlState) -> Kind {
    match code.code() {
        code if code.starts_with("28") => Kind::Auth,
        "42501" => Kind::Auth,
        // Connection exceptions, shutdown and start-up, too many connections: all of them pass.
        code if code.starts_with("08") => Kind::Connect,
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "53300" => Kind::Connect,
        _ => Kind::Server,
    }
}

/// A failure and what caused it, in one line. An `io::Error` hides nothing here: its text is that of what it wraps.
fn chain(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut next = failure.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
