//! What went wrong with a request, in our own words, without the token.

use crate::backend::tls;
use crate::error::{Error, Kind};
use crate::secret::Secret;
use reqwest::StatusCode;
use std::cell::{Cell, RefCell};
use std::error::Error as StdError;
use std::time::Duration;

/// A failed request, and whether the server may have carried it out all the same.
#[derive(Debug, Clone)]
pub struct Fault {
    pub error: Error,
    pub unanswered: bool,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

impl Fault {
    /// The server has certainly not carried it out.
    pub fn without_effect(error: Error) -> Self {
        Self {
            error,
            unanswered: false,
        }
    }
}

/// Whom we talk to, and with which token.
pub struct Peer {
    /// `host:port`.
    pub name: String,
    /// The token, or that there is none; unknown before the first request, and after one was refused.
    pub token: RefCell<Option<Option<Secret>>>,
    /// It has answered as Consul does. From then on, whatever else answers in its place stands between us for a while.
    pub is_consul: Cell<bool>,
}

impl Peer {
    /// What a status says that is no answer to the request.
    pub fn refusal(&self, status: StatusCode, body: &[u8]) -> Fault {
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
        let peer = &self.name;
        let fault = match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => return self.denied(&text),
            StatusCode::BAD_REQUEST if text.contains("HTTP request to an HTTPS server") => carried_out_never(
                Kind::Tls,
                format!("the server at {peer} speaks TLS only (see option `tls`)"),
            ),
            StatusCode::INTERNAL_SERVER_ERROR if text.contains("Invalid Session TTL") => {
                carried_out_never(Kind::Server, format!("Consul at {peer} does not accept the ttl"))
            }
            StatusCode::TOO_MANY_REQUESTS => carried_out_never(
                Kind::Connect,
                format!("Consul at {peer} has too many connections from here (status 429)"),
            ),
            _ if status.is_server_error() || self.is_consul.get() => Fault {
                error: Error::new(
                    Kind::Connect,
                    format!("Consul at {peer} cannot serve now (status {})", status.as_u16()),
                ),
                unanswered: true,
            },
            _ => carried_out_never(
                Kind::Server,
                format!("unexpected answer from {peer} (status {})", status.as_u16()),
            ),
        };
        Fault {
            error: fault.error.because(self.masked(&text)),
            ..fault
        }
    }

    pub fn denied(&self, text: &str) -> Fault {
        let peer = &self.name;
        let message = if text.contains("ACL not found") {
            format!("Consul at {peer} does not know the token")
        } else {
            let who = match *self.token.borrow() {
                Some(Some(_)) => "the token",
                _ => "whoever has no token",
            };
            format!(
                "Consul at {peer} refuses: {who} needs key_prefix \"IPC-Mutex-RPM/\" and session_prefix \"\", policy write"
            )
        };
        let error = Error::new(Kind::Auth, message).because(self.masked(text));
        self.token.take();
        Fault::without_effect(error)
    }

    /// For an answer that no Consul server would give, such as a load balancer's page.
    pub fn nonsense(&self, why: impl std::fmt::Display) -> Fault {
        let error = if self.is_consul.get() {
            Error::new(
                Kind::Connect,
                format!("something else answers in place of Consul at {}", self.name),
            )
        } else {
            Error::new(Kind::Server, format!("the server at {} is not Consul", self.name))
        };
        Fault {
            error: error.because(self.masked(&why.to_string())),
            unanswered: true,
        }
    }

    /// What the HTTP client says.
    pub fn failure(&self, error: reqwest::Error, limit: Duration) -> Fault {
        let error = error.without_url();
        if let Some(error) = tls::describe(&error, &self.name) {
            return Fault {
                error,
                unanswered: true,
            };
        }
        let deepest = deepest(&error);
        // The HTTP client's words for an answer it cannot read, and for one that comes before the request.
        let foreign = ["invalid HTTP", "unexpected message"];
        if !self.is_consul.get() && foreign.iter().any(|words| deepest.contains(words)) {
            return Fault {
                error: Error::new(Kind::Server, format!("the server at {} does not speak HTTP", self.name))
                    .because(deepest),
                unanswered: true,
            };
        }
        let message = if error.is_connect() {
            format!("Consul at {} cannot be reached", self.name)
        } else if error.is_timeout() {
            format!("no answer from Consul at {} within {limit:?}", self.name)
        } else {
            format!("the connection to Consul at {} failed", self.name)
        };
        Fault {
            // Whoever waited for a connection in vain need not wait for another.
            unanswered: !error.is_connect() || error.is_timeout(),
            error: Error::new(Kind::Connect, message).because(self.masked(&deepest)),
        }
    }

    /// An error for a server that the request did not reach in any way, or that is in no state to answer it.
    pub fn away(&self, message: String) -> Fault {
        carried_out_never(Kind::Connect, message)
    }

    fn masked(&self, text: &str) -> String {
        match &*self.token.borrow() {
            Some(Some(token)) => token.mask(text),
            _ => text.to_owned(),
        }
    }
}

fn carried_out_never(kind: Kind, message: String) -> Fault {
    Fault::without_effect(Error::new(kind, message))
}

fn deepest(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
