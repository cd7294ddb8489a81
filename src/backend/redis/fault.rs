//! What a failure of the connection or an answer of the server means for a lock, and what may be done about it.

use crate::backend::{Refusal, tls};
use crate::error::{Error, Kind};
use crate::url::Server;
use redis::{ErrorKind, RedisError};

/// What may end a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cure {
    /// Nothing before somebody changes something.
    Nothing,
    /// Time.
    Time,
    /// Another connection: it may lead to another server, or log in anew.
    Connection,
}

/// An error, and what may end it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub error: Error,
    pub cure: Cure,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault.cure {
            Cure::Nothing => Refusal::Failed(fault.error),
            Cure::Time | Cure::Connection => Refusal::Away(fault.error),
        }
    }
}

/// Only time helps against failures to connect, and nothing against others.
impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let cure = match error.kind {
            Kind::Connect => Cure::Time,
            _ => Cure::Nothing,
        };
        Self { error, cure }
    }
}

/// Which server an error is about, for messages, and what must not be in them.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// `host:port`, with brackets around an IPv6 address.
    pub name: String,
    server: Server,
}

impl Peer {
    pub fn new(server: &Server) -> Self {
        let name = match server.addresses.first() {
            Some(address) if address.host.contains(':') => format!("[{}]:{}", address.host, address.port),
            Some(address) => format!("{}:{}", address.host, address.port),
            None => String::new(),
        };
        let server = server.clone();
        Self { name, server }
    }

    pub fn error(&self, kind: Kind, what: &str) -> Error {
        Error::new(kind, format!("Redis at {}: {what}", self.name))
    }

    /// Nobody answers there.
    pub fn unreachable(&self) -> Error {
        Error::new(Kind::Connect, format!("Redis at {} cannot be reached", self.name))
    }

    /// The server did not answer within the time limit: whether it did what it was asked is unknown.
    pub fn silent(&self) -> Error {
        self.error(Kind::Connect, "no answer in time")
    }

    /// The server answered something that no script of ours returns.
    pub fn unexpected(&self) -> Error {
        self.error(Kind::Server, "unexpected answer")
    }

    pub fn explain(&self, error: &RedisError) -> Fault {
        if let Some(tls) = tls::describe(error, &self.name) {
            return tls.into();
        }
        let text = self.masked(&error.to_string());
        let fault = Fault::from(self.classify(error).because(text));
        Fault {
            cure: cure(error).unwrap_or(fault.cure),
            ..fault
        }
    }

    /// The same while a connection is set up, where nothing but a change helps against a wrong password.
    pub fn refused(&self, cause: &RedisError) -> Fault {
        let Fault { error, cure } = self.explain(cause);
        match error.kind {
            Kind::Auth => error.into(),
            // Whoever does not understand the first words hangs up.
            Kind::Connect if cause.is_io_error() => Fault {
                error: Error {
                    cause: error.cause,
                    ..self.error(
                        Kind::Connect,
                        "the connection was cut before the first answer (does a Redis listen there?)",
                    )
                },
                cure,
            },
            _ => Fault { error, cure },
        }
    }

    fn classify(&self, error: &RedisError) -> Error {
        match error.kind() {
            ErrorKind::Io => return self.error(Kind::Connect, "the connection failed or was cut"),
            ErrorKind::AuthenticationFailed => return self.wrong_password(),
            ErrorKind::RESP3NotSupported => return self.error(Kind::Server, "too old, 6.2 or newer is needed"),
            ErrorKind::Parse => return self.error(Kind::Server, "what answers there is not Redis"),
            _ => {}
        }
        let detail = error.detail().unwrap_or("").to_ascii_lowercase();
        match code(error) {
            "WRONGPASS" => self.wrong_password(),
            "NOAUTH" => self.error(Kind::Auth, "a password is required"),
            "NOPERM" => self.error(Kind::Auth, "the user lacks a permission"),
            "DENIED" => self.error(Kind::Auth, "the server accepts local clients only (protected mode)"),
            "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" => {
                self.error(Kind::Connect, "the server is not ready")
            }
            "READONLY" => self.error(Kind::Server, "the server is a read-only replica"),
            "OOM" => self.error(Kind::Server, "the server is out of memory"),
            "MISCONF" => self.error(Kind::Server, "the server cannot write to its disk"),
            "NOREPLICAS" => self.error(Kind::Server, "the server lacks replicas to write to"),
            "MOVED" | "ASK" => self.error(Kind::Server, "the lock's slot is on another node of the Redis Cluster"),
            "CROSSSLOT" => self.error(
                Kind::Server,
                "the lock's name spreads its keys over slots of the Redis Cluster",
            ),
            _ if detail.contains("the user executing the script can't") => {
                self.error(Kind::Auth, "the user lacks a permission")
            }
            _ if detail.contains("max number of clients") => {
                self.error(Kind::Connect, "the server has no connection left")
            }
            _ if detail.contains("auth")
                || detail.contains("invalid password")
                || detail.contains("user is disabled") =>
            {
                self.error(Kind::Auth, "user or password refused")
            }
            _ if detail.contains("db index") => self.error(Kind::Server, "there is no such database (option `db`)"),
            _ => self.error(Kind::Server, "the server refused a command"),
        }
    }

    fn wrong_password(&self) -> Error {
        let ignores_user = self.server.credentials.has_ignored_user && self.server.options.redis_user.is_none();
        let hint = if ignores_user {
            "user or password refused; the user before the colon is ignored, write user=<name> in the query for an ACL user"
        } else {
            "user or password refused"
        };
        self.error(Kind::Auth, hint)
    }

    fn masked(&self, text: &str) -> String {
        self.server.credentials.mask(text)
    }
}

/// What may end a refusal of the server. After a failover, the endpoint may lead to the new primary while connections to the old one stay.
pub(super) fn cure(error: &RedisError) -> Option<Cure> {
    match code(error) {
        "READONLY" | "MASTERDOWN" | "LOADING" | "CLUSTERDOWN" | "NOAUTH" => Some(Cure::Connection),
        _ => None,
    }
}

/// The first word of the server's answer. Redis before 7 hides the error of a command inside a script in its own:
/// `ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -OOM command not allowed …`.
fn code(error: &RedisError) -> &str {
    let detail = error.detail().unwrap_or("");
    let inner = detail
        .strip_prefix("Error running script")
        .and_then(|text| text.split_once(": -"))
        .and_then(|(_, answer)| answer.split_ascii_whitespace().next());
    inner.or(error.code()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::{self, Target};
    use redis::{Value, parse_redis_value};

    fn explained(answer: &str) -> (Kind, String, Cure) {
        let Target::Remote(remote) = url::parse("rpm+redis://[::1]:7/x").unwrap().target else {
            unreachable!();
        };
        let Ok(Value::ServerError(refusal)) = parse_redis_value(format!("-{answer}\r\n").as_bytes()) else {
            panic!("{answer} is no error");
        };
        let Fault { error, cure } = Peer::new(&remote.server).explain(&refusal.into());
        (error.kind, error.message, cure)
    }

    #[test]
    fn a_refusal_inside_a_script_is_told_by_all_versions() {
        let wrapped = "ERR Error running script (call to f_ff96): @user_script:1: @user_script: 1: ";
        for (answer, kind, words, cure) in [
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                Kind::Server,
                "out of memory",
                Cure::Nothing,
            ),
            (
                "READONLY You can't write against a read only replica.",
                Kind::Server,
                "read-only replica",
                Cure::Connection,
            ),
            (
                "NOREPLICAS Not enough good replicas to write.",
                Kind::Server,
                "lacks replicas",
                Cure::Nothing,
            ),
            (
                "CLUSTERDOWN The cluster is down",
                Kind::Connect,
                "not ready",
                Cure::Connection,
            ),
        ] {
            for text in [answer.to_owned(), format!("{wrapped}-{answer}")] {
                let (found, message, by) = explained(&text);
                assert_eq!((found, by), (kind, cure), "{text}");
                assert!(message.contains(words), "{text}: {message}");
            }
        }
        let denied = "The user executing the script can't run this command or subcommand";
        assert_eq!(explained(&format!("{wrapped}{denied}")).0, Kind::Auth);
    }
}
