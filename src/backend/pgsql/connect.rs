//! From an address to a connection that is fit for locks: is this a server that can keep them, and on our terms?

use super::login::{self, Login, Pooler, SessionId};
use super::sql;
use super::wire::{self, Wire};
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::url::Address;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// How often two connections through a pooler are compared.
const COMPARISONS: usize = 5;

/// The part of a connection that moves bytes; its end is the end of the connection.
pub type Pump = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// Which start of which server a session belongs to. Sessions of different ones share no locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Microseconds since 1970, by the server's clock.
    pub started: i64,
    /// As `server_version_num`.
    pub version: i32,
}

/// A connection that the server has let in.
pub struct Link {
    pub client: Client,
    pub pump: Pump,
    /// `host:port`, for messages.
    pub peer: String,
}

/// What a server says about itself and the session.
pub struct Introduction {
    pub id: SessionId,
    pub server: Instance,
    /// When it was asked for.
    pub sent: Moment,
    is_replica: bool,
}

/// Connects to `address` within `limit`, and makes sure that locks can be kept there.
///
/// # Errors
/// `Connect`, `Auth`, `Tls`, and `Server` for a read-only replica (its locks exclude nobody elsewhere) where nobody has let us in yet, and for a connection pooler
/// that does not keep one server session per client.
pub async fn connect(login: &Login, address: &Address, limit: Duration) -> Result<(Link, Introduction)> {
    let begun = tokio::time::Instant::now();
    let mut link = dial(login, address, limit).await?;
    let left = limit.saturating_sub(begun.elapsed());
    match timeout(left, meet(login, address, left, &mut link)).await {
        Ok(met) => met.map(|introduction| (link, introduction)),
        Err(_) if login.pooler.get() == Pooler::PerSession => Err(no_session(&link.peer)),
        Err(_) => {
            let message = format!(
                "PostgreSQL at {} accepted a connection but did not answer in {limit:?}",
                link.peer
            );
            Err(Error::new(Kind::Connect, message)
                .because("a connection pooler whose sessions are all in use does that as well"))
        }
    }
}

async fn meet(login: &Login, address: &Address, limit: Duration, link: &mut Link) -> Result<Introduction> {
    let introduction = introduce(login, link).await?;
    if introduction.is_replica {
        let message = format!(
            "PostgreSQL at {} is a read-only replica: its locks exclude nobody elsewhere",
            link.peer
        );
        // In a failover the former primary, or the next one, is a replica for a moment.
        let kind = if login.was_in.get() {
            Kind::Connect
        } else {
            Kind::Server
        };
        return Err(Error::new(kind, message));
    }
    if login.pooler.get() == Pooler::None && pid_told_to(&link.client).await != Some(introduction.id.pid) {
        let peer = link.peer.clone();
        let compared = refuse_shared_sessions(login, address, limit, link, introduction.id.pid);
        // A pool of one lets a second connection wait until the first is closed.
        timeout(limit / 2, compared)
            .await
            .unwrap_or_else(|_| Err(no_session(&peer)))?;
        login.pooler.set(Pooler::PerSession);
    }
    Ok(introduction)
}

fn no_session(peer: &str) -> Error {
    Error::new(
        Kind::Connect,
        format!("a connection pooler at {peer} has no further session for this process: raise its pool size"),
    )
    .because("a process needs a session for its locks, up to two to look after them, and one for each lock that it waits for")
}

/// Asks who answers, once a role's own time limit for statements is switched off. The connection is not yet anybody's, so it is moved
/// by this very future.
async fn introduce(login: &Login, link: &mut Link) -> Result<Introduction> {
    loop {
        let sent = clock::now();
        let client = &link.client;
        let both = async {
            tokio::join!(
                client.simple_query(sql::NO_STATEMENT_TIMEOUT),
                client.simple_query(sql::INTRODUCTION)
            )
        };
        let answers = tokio::select! {
            biased;
            (set, told) = both => set.and(told),
            Err(failure) = &mut link.pump => Err(failure),
        };
        match answers {
            Ok(rows) => {
                let understood = rows.iter().find_map(|message| read(message, sent));
                return understood.ok_or_else(|| login::not_postgresql(&link.peer));
            }
            // The limit of a role is so tight that it hit the statement that ends it.
            Err(failure) if failure.code() == Some(&SqlState::QUERY_CANCELED) => {}
            Err(failure) => return Err(login::describe(login, &link.peer, &failure)),
        }
    }
}

fn read(message: &SimpleQueryMessage, sent: Moment) -> Option<Introduction> {
    let SimpleQueryMessage::Row(row) = message else {
        return None;
    };
    Some(Introduction {
        id: SessionId {
            pid: row.get(0)?.parse().ok()?,
            started: row.get(2)?.parse().ok()?,
        },
        is_replica: row.get(1)? == "t",
        server: Instance {
            version: row.get(3)?.parse().ok()?,
            started: row.get(4)?.parse().ok()?,
        },
        sent,
    })
}

async fn ask(link: &mut Link, sql: &str) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
    tokio::select! {
        biased;
        answer = link.client.simple_query(sql) => answer,
        Err(failure) = &mut link.pump => Err(failure),
    }
}

/// Somebody between us and the server has given us a process id of his own. That is well as long as a server session stays
/// ours while we are idle; otherwise another client would be handed the session with our locks, and enter at once.
///
/// A pooler that shares sessions gives away the one just used first, or takes turns: either our own session changes
/// from one statement to the next, or a second connection finds itself in ours.
async fn refuse_shared_sessions(
    login: &Login,
    address: &Address,
    limit: Duration,
    ours: &mut Link,
    pid: i32,
) -> Result<()> {
    let mut other = dial(login, address, limit).await?;
    for _ in 0..COMPARISONS {
        let seen = [
            session_of(login, &mut other).await?,
            session_of(login, ours).await?,
            session_of(login, ours).await?,
        ];
        if seen[0] == pid || seen[1] != pid || seen[2] != pid {
            let message = format!(
                "a connection pooler at {} shares server sessions between clients: locks need one session each \
                 (pool_mode = session), or a direct connection",
                ours.peer
            );
            return Err(Error::new(Kind::Server, message));
        }
    }
    Ok(())
}

async fn session_of(login: &Login, link: &mut Link) -> Result<i32> {
    let answer = ask(link, "SELECT pg_catalog.pg_backend_pid()").await;
    let rows = answer.map_err(|failure| login::describe(login, &link.peer, &failure))?;
    let pid = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    pid.ok_or_else(|| login::not_postgresql(&link.peer))
}

/// Connects and authenticates within `limit`.
async fn dial(login: &Login, address: &Address, limit: Duration) -> Result<Link> {
    let peer = peer(address);
    let begun = tokio::time::Instant::now();
    let mut config = match timeout(limit, login.current()).await {
        Ok(config) => config?,
        Err(_) => {
            let message =
                format!("option credentials gave none in {limit:?} (connect_timeout) for PostgreSQL at {peer}");
            return Err(Error::new(Kind::Connect, message));
        }
    };
    let limit = limit.saturating_sub(begun.elapsed());
    let begun = tokio::time::Instant::now();
    let wire = Wire::open(address, limit, login.ttl()).await;
    let wire = wire.map_err(|error| unreachable(address).because(error))?;
    let first = wire.first_byte();
    let handshake = async {
        match connector(login, address) {
            Some(tls) => {
                let (client, pump) = config.connect_raw(wire, tls).await?;
                Ok((client, Box::pin(pump) as Pump))
            }
            None => {
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                let (client, pump) = config.connect_raw(wire, NoTls).await?;
                Ok((client, Box::pin(pump) as Pump))
            }
        }
    };
    let outcome = timeout(limit.saturating_sub(begun.elapsed()), handshake).await;
    let stranger = first.get().is_some_and(|byte| !wire::is_postgresql(*byte));
    match outcome {
        Ok(Ok((client, pump))) => Ok(Link { client, pump, peer }),
        Ok(Err(failure)) if stranger => Err(login::not_postgresql(&peer).because(failure)),
        Err(_) if stranger => Err(login::not_postgresql(&peer)),
        Ok(Err(failure)) => Err(login::describe(login, &peer, &failure)),
        Err(_) => Err(Error::new(
            Kind::Connect,
            format!("PostgreSQL at {peer} did not answer in {limit:?} (connect_timeout)"),
        )),
    }
}

fn unreachable(address: &Address) -> Error {
    Error::new(
        Kind::Connect,
        format!("PostgreSQL at {} cannot be reached", peer(address)),
    )
}

type Connector = <tokio_postgres_rustls::MakeRustlsConnect as MakeTlsConnect<Wire>>::TlsConnect;

/// A socket in the file system needs no encryption, as everywhere with PostgreSQL.
fn connector(login: &Login, address: &Address) -> Option<Connector> {
    if address.host.starts_with('/') {
        return None;
    }
    let mut make = login.tls()?;
    let made: Result<Connector, std::convert::Infallible> =
        MakeTlsConnect::<Wire>::make_tls_connect(&mut make, &address.host);
    match made {
        Ok(connector) => Some(connector),
        Err(never) => match never {},
    }
}

fn peer(address: &Address) -> String {
    match address.host.contains(':') {
        true => format!("[{}]:{}", address.host, address.port),
        false => format!("{}:{}", address.host, address.port),
    }
}

/// A cancel request is its length, the code of a cancel request, the process id and the secret key: four integers of 32
/// bits, big-endian (PostgreSQL's documentation, "Message Formats").
const REQUEST: usize = 16;

/// The process id in the server's `BackendKeyData`. The driver keeps it to itself, but writes it into cancel requests. One is written
/// here, to a stream that leads nowhere, and read back. A connection pooler makes up a process id of its own, and so gives itself away.
async fn pid_told_to(client: &Client) -> Option<i32> {
    let sink = Sink::default();
    let written = sink.written.clone();
    client.cancel_token().cancel_query_raw(sink, Pretence).await.ok()?;
    let bytes = written.lock().ok()?;
    let request = bytes.len().checked_sub(REQUEST)?;
    let pid = bytes.get(request + 8..request + 12)?;
    Some(i32::from_be_bytes(pid.try_into().ok()?))
}

/// Keeps what is written, and says yes (`S`) to the question for TLS.
#[derive(Default)]
struct Sink {
    written: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Sink {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() > 0 {
            buf.put_slice(b"S");
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.written.lock() {
            Ok(mut written) => written.extend_from_slice(bytes),
            Err(_) => return Poll::Ready(Err(io::ErrorKind::Other.into())),
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Sink {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// Encrypts nothing: what is written goes nowhere.
struct Pretence;

impl TlsConnect<Sink> for Pretence {
    type Stream = Sink;
    type Error = io::Error;
    type Future = Ready<io::Result<Sink>>;

    fn connect(self, stream: Sink) -> Self::Future {
        ready(Ok(stream))
    }
}
