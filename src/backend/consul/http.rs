//! Requests to one Consul server: which connection they go over, and how long they may take.

use super::fault::{Fault, Peer};
use super::keys;
use super::turns::Turns;
use super::txn::{self, Op, Outcome, Pair};
use crate::backend::tls;
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::options::{Credentials, RemoteOptions, Tls};
use crate::url::Server;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, StatusCode};
use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How many requests that a call waits for are under way at a time. Consul allows 200 connections per client address by default
/// (`limits.http_max_conns_per_client`), for all processes of a machine.
const CALLS: usize = 8;
/// How many blocking queries of those who wait are under way at a time, each on a connection of its own.
const WAITS: usize = 16;
/// All connections but one are closed when they were not used for this long.
const IDLE: Duration = Duration::from_secs(5);

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A call. There are a few at a time.
    Call,
    /// A hold, whose renewal nothing may hold up.
    Renewal,
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
    /// One connection that is open from the first exchange on, also when the server has none left to give.
    lasting: Client,
    lasting_turn: Semaphore,
    /// Those beside it while that one is busy.
    brief: Client,
    blocking: Client,
    calls: Turns,
    pub waits: Turns,
    base: String,
    pub peer: Peer,
    credentials: Credentials,
    /// How long to wait for anything that should be answered at once.
    pub patience: Duration,
    /// Shorter where the ttl is short, so that a renewal that got lost can be tried again in time.
    renewal_patience: Duration,
    addresses: Arc<Addresses>,
    answered: Cell<Option<Moment>>,
}

impl Link {
    /// Prepares the connections; none is made before the first request.
    pub fn new(server: &Server) -> Result<Self> {
        let address = server
            .addresses
            .first()
            .ok_or_else(|| Error::new(Kind::InvalidUrl, "no host in URL"))?;
        let name = address.to_string();
        let scheme = if server.options.tls == Tls::Off {
            "http"
        } else {
            "https"
        };
        let patience = patience(&server.options);
        let renewal_patience = patience.min(server.options.ttl / 8);
        let addresses = Arc::new(Addresses::default());
        let client = |keep, idle, limit| client(server, &addresses, keep, idle, limit);
        Ok(Self {
            lasting: client(1, None, patience)?,
            lasting_turn: Semaphore::new(1),
            brief: client(CALLS, Some(IDLE), patience)?,
            blocking: client(CALLS, Some(IDLE), patience)?,
            calls: Turns::new(CALLS),
            waits: Turns::new(WAITS),
            base: match socket(server) {
                Some(_) => "http://localhost".to_owned(),
                None => format!("{scheme}://{name}"),
            },
            peer: Peer {
                name,
                token: RefCell::new(None),
                is_consul: Cell::new(false),
            },
            credentials: server.credentials.clone(),
            patience,
            renewal_patience,
            addresses,
            answered: Cell::new(None),
        })
    }

    /// When the server last answered anything.
    pub fn answered(&self) -> Option<Moment> {
        self.answered.get()
    }

    /// One exchange that the server should answer at once. Statuses 200, 404 and 409 are replies, everything else is a [`Fault`].
    /// The time limit begins when the request leaves.
    pub async fn request(&self, lane: Lane, method: Method, path: &str, body: Vec<u8>) -> Result<Reply, Fault> {
        let (_turn, limit) = match lane {
            Lane::Call => (self.calls.turn().await, self.patience),
            Lane::Renewal => (None, self.renewal_patience),
        };
        let lasting = self.lasting_turn.try_acquire().ok();
        let (first, second) = match lasting {
            Some(_) => (&self.lasting, &self.brief),
            None => (&self.brief, &self.lasting),
        };
        let answer = self.exchange(first, method.clone(), path, body.clone(), limit).await;
        match answer {
            // It never left, for want of a connection: another one may be open.
            Err(fault) if fault.error.kind == Kind::Connect && !fault.unanswered => {
                let _lasting = match lasting {
                    Some(turn) => Some(turn),
                    None => self.lasting_turn.acquire().await.ok(),
                };
                self.exchange(second, method, path, body, limit).await
            }
            answer => answer,
        }
    }

    /// Whom the server takes for the leader of the cluster. A [`Fault`] if there is none.
    pub async fn leader(&self, lane: Lane) -> Result<String, Fault> {
        let reply = self.request(lane, Method::GET, "/v1/status/leader", Vec::new()).await?;
        let leader: String = match reply.status {
            StatusCode::OK => serde_json::from_slice(&reply.body).map_err(|error| self.peer.nonsense(error))?,
            status => return Err(self.peer.nonsense(format!("status {}", status.as_u16()))),
        };
        if leader.is_empty() {
            let message = format!("the Consul cluster of {} has no leader", self.peer.name);
            return Err(self.peer.away(message));
        }
        self.peer.is_consul.set(true);
        Ok(leader)
    }

    /// Reads the key, or with `below` every key under the prefix, and the index from which a change would be one.
    pub async fn read(&self, key: &str, below: bool) -> Result<(Vec<Pair>, u64), Fault> {
        let path = keys::path(key, below);
        let reply = self.request(Lane::Call, Method::GET, &path, Vec::new()).await?;
        Ok((self.pairs(&reply)?, reply.index))
    }

    /// Reads every key that begins with this, as of now: whoever answers has made sure that it is the leader.
    pub async fn read_now(&self, lane: Lane, prefix: &str) -> Result<Vec<Pair>, Fault> {
        let path = format!("{}&consistent", keys::path(prefix, true));
        let reply = self.request(lane, Method::GET, &path, Vec::new()).await?;
        self.pairs(&reply)
    }

    /// The keys in the answer to a read; with 404 there is none.
    pub fn pairs(&self, reply: &Reply) -> Result<Vec<Pair>, Fault> {
        if reply.status == StatusCode::NOT_FOUND {
            // Consul tells the index also where there is nothing; a page of something else does not.
            return match reply.index {
                0 => Err(self.peer.nonsense("404 without an index")),
                _ => Ok(Vec::new()),
            };
        }
        serde_json::from_slice(&reply.body).map_err(|error| self.peer.nonsense(error))
    }

    pub async fn txn(&self, lane: Lane, ops: &[Op]) -> Result<Outcome, Fault> {
        let reply = self.request(lane, Method::PUT, "/v1/txn", txn::to_body(ops)).await?;
        let outcome =
            Outcome::parse(&reply.body).ok_or_else(|| self.peer.nonsense("not the reply of a transaction"))?;
        if let Outcome::Refused(objections) = &outcome
            && let Some(denied) = objections.iter().find(|why| why.what.contains("Permission denied"))
        {
            return Err(self.peer.denied(&denied.what));
        }
        Ok(outcome)
    }

    /// A blocking query: answered when there is something newer than `index` at the path, or after `wait`.
    pub async fn block(&self, path: &str, index: u64, wait: Duration) -> Result<Reply, Fault> {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{join}index={}&wait={}ms", index.max(1), wait.as_millis().max(1));
        // The server adds up to a sixteenth, so that not all clients come back at once.
        let limit = wait + wait / 16 + self.patience;
        self.exchange(&self.blocking, Method::GET, &path, Vec::new(), limit)
            .await
    }

    async fn exchange(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Reply, Fault> {
        let mut request = client
            .request(method, format!("{}{path}", self.base))
            .timeout(limit)
            .body(body);
        let late = |_| Err(self.peer.away(format!("option credentials gave none within {limit:?}")));
        if let Some(token) = tokio::time::timeout(limit, self.token()).await.unwrap_or_else(late)? {
            request = request.header("X-Consul-Token", token);
        }
        let response = request.send().await.map_err(|error| {
            // Consul says 429 and cuts the connection, and only one of the two may get here.
            if !error.is_connect() && !error.is_timeout() {
                self.narrow();
            }
            self.peer.failure(error, limit)
        })?;
        self.addresses.prefer(response.remote_addr().map(|from| from.ip()));
        let status = response.status();
        let index = response
            .headers()
            .get("X-Consul-Index")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .unwrap_or(0);
        let body = response
            .bytes()
            .await
            .map_err(|error| self.peer.failure(error, limit))?
            .to_vec();
        match status {
            StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
                self.answered.set(Some(clock::now()));
                Ok(Reply { status, index, body })
            }
            _ => {
                if status == StatusCode::TOO_MANY_REQUESTS {
                    self.narrow();
                }
                Err(self.peer.refusal(status, &body))
            }
        }
    }

    /// Leaves more of the server's connections to others.
    fn narrow(&self) {
        self.calls.narrow();
        self.waits.narrow();
    }

    /// What goes along with each request. Asked for at the first one, and again after one was refused. Bounded by the caller.
    async fn token(&self) -> Result<Option<HeaderValue>, Fault> {
        let known = self.peer.token.borrow().clone();
        let token = match known {
            Some(token) => token,
            None => {
                let current = self.credentials.current().await.map_err(Fault::without_effect)?;
                let token = current.password.filter(|token| !token.reveal().is_empty());
                *self.peer.token.borrow_mut() = Some(token.clone());
                token
            }
        };
        let Some(token) = token else { return Ok(None) };
        let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| {
            let message = "the token has characters that no Consul token has";
            Fault::without_effect(Error::new(Kind::Auth, message))
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// A little less than `connect_timeout`, so that whoever waits that long hears from here what was missing.
fn patience(options: &RemoteOptions) -> Duration {
    options.connect_timeout - options.connect_timeout / 20
}

/// The addresses of the server's name, the one that answered last before the others: where one of them swallows what it is sent, only
/// the first connection pays for finding out.
#[derive(Debug, Default)]
struct Addresses(parking_lot::Mutex<Option<IpAddr>>);

impl Addresses {
    fn prefer(&self, address: Option<IpAddr>) {
        if address.is_some() {
            *self.0.lock() = address;
        }
    }
}

struct Resolver(Arc<Addresses>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let preferred = *self.0.0.lock();
        Box::pin(async move {
            let mut found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            found.sort_by_key(|address| Some(address.ip()) != preferred);
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// `limit` is for connecting; each of several addresses has its share of it.
/// The Unix socket of the server, if it is reached by one.
fn socket(server: &Server) -> Option<&str> {
    let address = server.addresses.first()?;
    (address.port == 0).then_some(address.host.as_str())
}

fn client(
    server: &Server,
    addresses: &Arc<Addresses>,
    keep: usize,
    idle: Option<Duration>,
    limit: Duration,
) -> Result<Client> {
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
    let builder = Client::builder();
    #[cfg(unix)]
    let builder = match socket(server) {
        Some(path) => builder.unix_socket(path.to_owned()),
        None => builder,
    };
    builder
        .tls_backend_preconfigured(config.as_ref().clone())
        .dns_resolver(Arc::new(Resolver(addresses.clone())))
        .connect_timeout(limit)
        .pool_max_idle_per_host(keep)
        .pool_idle_timeout(idle)
        .tcp_nodelay(true)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| Error::new(Kind::Connect, "the HTTP client cannot be set up").because(error))
}
