//! Requests to one Consul server: three lanes of connections, time limits, and what went wrong in our own words.

use super::keys;
use super::txn::{self, Op, Outcome};
use crate::backend::tls;
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::options::{RemoteOptions, Tls};
use crate::secret::Secret;
use crate::url::Server;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode};
use std::cell::Cell;
use std::error::Error as StdError;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many blocking queries of waiting asks may be under way, each on a connection of its own. Consul itself allows 200
/// connections per client address by default (`limits.http_max_conns_per_client`), for all processes of a machine.
const WATCHES: usize = 16;
/// Beyond half of that, waiters take turns with short looks instead of long ones.
const SHORT_LOOK: Duration = Duration::from_millis(500);
/// A connection that watched is kept this long for the next watch.
const WATCH_IDLE: Duration = Duration::from_secs(5);

/// Which connection a request goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What a call waits for: one connection, one request at a time.
    Foreground,
    /// Renewals, which nothing may hold up.
    Renewal,
    /// Blocking queries.
    Watch,
}

/// A failed request, and whether the server may have carried it out all the same.
#[derive(Debug)]
pub struct Fault {
    pub error: Error,
    pub unanswered: bool,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

/// An answer of the server that is not an error.
pub struct Reply {
    pub status: StatusCode,
    /// `X-Consul-Index`.
    pub index: u64,
    pub body: Vec<u8>,
}

/// The connections of one process to one server.
pub struct Link {
    foreground: Client,
    renewal: Client,
    watch: Client,
    foreground_turn: Semaphore,
    watch_turn: Semaphore,
    base: String,
    /// `host:port`, for messages.
    peer: String,
    token: Option<Secret>,
    patience: Duration,
    /// Shorter where the ttl is short, so that a renewal that got lost can be tried again in time.
    renewal_patience: Duration,
    read_wait: Duration,
    answered: Cell<Option<Moment>>,
}

impl Link {
    /// Prepares the connections; none is made before the first request.
    pub fn new(server: &Server) -> Result<Self> {
        let address = server
            .addresses
            .first()
            .ok_or_else(|| Error::new(Kind::InvalidUrl, "no host in URL"))?;
        let host = if address.host.contains(':') {
            format!("[{}]", address.host)
        } else {
            address.host.clone()
        };
        let peer = format!("{host}:{}", address.port);
        let scheme = if server.options.tls == Tls::Off {
            "http"
        } else {
            "https"
        };
        let token = server
            .credentials
            .password
            .clone()
            .filter(|token| !token.reveal().is_empty());
        Ok(Self {
            foreground: client(server, token.as_ref(), 1, None)?,
            renewal: client(server, token.as_ref(), 1, None)?,
            watch: client(server, token.as_ref(), WATCHES, Some(WATCH_IDLE))?,
            foreground_turn: Semaphore::new(1),
            watch_turn: Semaphore::new(WATCHES),
            base: format!("{scheme}://{peer}"),
            peer,
            token,
            patience: patience(&server.options),
            renewal_patience: patience(&server.options).min(server.options.ttl / 8),
            read_wait: server.options.read_wait,
            answered: Cell::new(None),
        })
    }

    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// When the server last answered anything.
    pub fn answered(&self) -> Option<Moment> {
        self.answered.get()
    }

    /// One exchange that the server should answer at once. Statuses 200, 404 and 409 are
    /// replies, everything else is a [`Fault`].
    pub async fn request(&self, lane: Lane, method: Method, path: &str, body: Vec<u8>) -> Result<Reply, Fault> {
        let _turn = match lane {
            Lane::Foreground => self.foreground_turn.acquire().await.ok(),
            Lane::Renewal | Lane::Watch => None,
        };
        let limit = match lane {
            Lane::Renewal => self.renewal_patience,
            Lane::Foreground | Lane::Watch => self.patience,
        };
        self.exchange(lane, method, path, body, limit).await
    }

    /// Reads the key, or with `below` every key under the prefix, and the index from which a change would be one.
    pub async fn read(&self, lane: Lane, key: &str, below: bool) -> Result<(Vec<txn::Pair>, u64), Fault> {
        let reply = self
            .request(lane, Method::GET, &keys::path(key, below), Vec::new())
            .await?;
        Ok((self.pairs(&reply)?, reply.index))
    }

    /// Reads every key that begins with this, as of now, even if a new leader was elected a moment ago.
    pub async fn read_now(&self, lane: Lane, prefix: &str) -> Result<Vec<txn::Pair>, Fault> {
        let path = format!("{}&consistent", keys::path(prefix, true));
        let reply = self.request(lane, Method::GET, &path, Vec::new()).await?;
        self.pairs(&reply)
    }

    /// The keys in the answer to a read; with 404 there is none.
    fn pairs(&self, reply: &Reply) -> Result<Vec<txn::Pair>, Fault> {
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        serde_json::from_slice(&reply.body).map_err(|error| self.nonsense(error))
    }

    pub async fn txn(&self, lane: Lane, ops: &[Op]) -> Result<Outcome, Fault> {
        let reply = self.request(lane, Method::PUT, "/v1/txn", txn::to_body(ops)).await?;
        let outcome = Outcome::parse(&reply.body).ok_or_else(|| self.nonsense("not the reply of a transaction"))?;
        if let Outcome::Refused(objections) = &outcome
            && let Some(denied) = objections.iter().find(|why| why.what.contains("Permission denied"))
        {
            return Err(Fault {
                error: self.denied(&denied.what),
                unanswered: false,
            });
        }
        Ok(outcome)
    }

    /// Returns what is at the key (or below the prefix) when it was written after `index`, or after a while.
    pub async fn await_change(&self, key: &str, below: bool, index: u64) -> Result<Vec<txn::Pair>, Fault> {
        let _turn = self.watch_turn.acquire().await;
        let wait = if self.watch_turn.available_permits() >= WATCHES / 2 {
            self.read_wait
        } else {
            SHORT_LOOK.min(self.read_wait)
        };
        let reply = self.block(&keys::path(key, below), index, wait).await?;
        self.pairs(&reply)
    }

    /// Returns when the key is no longer as it was written at `index`, or after a while; then that was not so. Outside the
    /// turns of the waiters.
    pub async fn has_left(&self, key: &str, index: u64, wait: Duration) -> Result<bool, Fault> {
        let reply = self.block(&keys::path(key, false), index, wait).await?;
        Ok(!self.pairs(&reply)?.iter().any(|pair| pair.modify_index == index))
    }

    /// A blocking query outside the turns of the waiters.
    pub async fn block(&self, path: &str, index: u64, wait: Duration) -> Result<Reply, Fault> {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{join}index={}&wait={}ms", index.max(1), wait.as_millis().max(1));
        // The server adds up to a sixteenth, so that not all clients come back at once.
        let limit = wait + wait / 16 + self.patience;
        self.exchange(Lane::Watch, Method::GET, &path, Vec::new(), limit).await
    }

    async fn exchange(
        &self,
        lane: Lane,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Reply, Fault> {
        let client = match lane {
            Lane::Foreground => &self.foreground,
            Lane::Renewal => &self.renewal,
            Lane::Watch => &self.watch,
        };
        let request = client
            .request(method, format!("{}{path}", self.base))
            .timeout(limit)
            .body(body);
        let response = request.send().await.map_err(|error| self.failure(error, limit))?;
        let status = response.status();
        let index = response
            .headers()
            .get("X-Consul-Index")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let body = response
            .bytes()
            .await
            .map_err(|error| self.failure(error, limit))?
            .to_vec();
        match status {
            StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                self.answered.set(Some(clock::now()));
                Ok(Reply { status, index, body })
            }
            _ => Err(self.refusal(status, &body)),
        }
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Fault {
        let text = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
        let peer = &self.peer;
        let (error, unanswered) = match status {
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                return Fault {
                    error: self.denied(&text),
                    unanswered: false,
                };
            }
            StatusCode::BAD_REQUEST if text.contains("HTTP request to an HTTPS server") => (
                Error::new(
                    Kind::Tls,
                    format!("the server at {peer} speaks TLS only (see option `tls`)"),
                ),
                false,
            ),
            StatusCode::INTERNAL_SERVER_ERROR if text.contains("Invalid Session TTL") => (
                Error::new(Kind::Server, format!("Consul at {peer} does not accept the ttl")),
                false,
            ),
            _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => (
                Error::new(
                    Kind::Connect,
                    format!("Consul at {peer} cannot serve now (status {})", status.as_u16()),
                ),
                true,
            ),
            _ => (
                Error::new(
                    Kind::Server,
                    format!("unexpected answer from {peer} (status {})", status.as_u16()),
                ),
                false,
            ),
        };
        Fault {
            error: error.because(self.masked(&text)),
            unanswered,
        }
    }

    fn denied(&self, text: &str) -> Error {
        let peer = &self.peer;
        let message = if text.contains("ACL not found") {
            format!("Consul at {peer} does not know the token")
        } else {
            let who = if self.token.is_some() {
                "the token"
            } else {
                "whoever has no token"
            };
            format!(
                "Consul at {peer} refuses: {who} needs key_prefix \"IPC-Mutex-RPM/\" and session_prefix \"\", policy write"
            )
        };
        Error::new(Kind::Auth, message).because(self.masked(text))
    }

    /// An error for an answer that no Consul server would give.
    pub fn nonsense(&self, why: impl std::fmt::Display) -> Fault {
        Fault {
            error: Error::new(Kind::Server, format!("the server at {} is not Consul", self.peer))
                .because(self.masked(&why.to_string())),
            unanswered: false,
        }
    }

    fn failure(&self, error: reqwest::Error, limit: Duration) -> Fault {
        let error = error.without_url();
        if let Some(error) = tls::describe(&error, &self.peer) {
            return Fault {
                error,
                unanswered: true,
            };
        }
        let deepest = deepest(&error);
        // The HTTP client's words for an answer it cannot read, and for one that comes before the request.
        let foreign = ["invalid HTTP", "unexpected message"];
        if foreign.iter().any(|words| deepest.contains(words)) {
            return Fault {
                error: Error::new(Kind::Server, format!("the server at {} does not speak HTTP", self.peer))
                    .because(deepest),
                unanswered: true,
            };
        }
        let message = if error.is_connect() {
            format!("cannot connect to Consul at {}", self.peer)
        } else if error.is_timeout() {
            format!("no answer from Consul at {} within {limit:?}", self.peer)
        } else {
            format!("the connection to Consul at {} failed", self.peer)
        };
        Fault {
            unanswered: !error.is_connect(),
            error: Error::new(Kind::Connect, message).because(self.masked(&deepest)),
        }
    }

    fn masked(&self, text: &str) -> String {
        match &self.token {
            Some(token) => token.mask(text),
            None => text.to_owned(),
        }
    }
}

/// How long to wait for anything that should be answered at once: a little less than `connect_timeout`, so that whoever waits
/// that long hears from here what was missing.
pub fn patience(options: &RemoteOptions) -> Duration {
    options.connect_timeout - options.connect_timeout / 20
}

fn client(server: &Server, token: Option<&Secret>, keep: usize, idle: Option<Duration>) -> Result<Client> {
    // Without TLS nobody asks for the configuration, and no root certificate needs to be there.
    let config = match server.options.tls {
        Tls::Off => tls::client_config(&RemoteOptions {
            tls: Tls::Insecure,
            ca: None,
            crt: None,
            key: None,
            ..server.options.clone()
        })?,
        _ => tls::client_config(&server.options)?,
    };
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| {
            Error::new(
                Kind::Auth,
                "the token in the URL has characters that no Consul token has",
            )
        })?;
        value.set_sensitive(true);
        headers.insert("X-Consul-Token", value);
    }
    Client::builder()
        .tls_backend_preconfigured(config.as_ref().clone())
        .default_headers(headers)
        .connect_timeout(server.options.connect_timeout)
        .pool_max_idle_per_host(keep)
        .pool_idle_timeout(idle)
        .tcp_nodelay(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Error::new(Kind::Connect, "the HTTP client cannot be set up").because(error))
}

fn deepest(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
