//! Opening a connection: TCP, TLS, authentication, database, and a look at who answers.

use super::fault::{Cure, Fault, Peer};
use crate::backend::tls;
use crate::error::{Error, Kind, Result};
use crate::options::{Credentials, Tls};
use crate::url::{Address, Server};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, PushInfo, RedisConnectionInfo, Value};
use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that is ready for use once somebody polls its driver.
pub(super) struct Opened {
    pub connection: MultiplexedConnection,
    pub driver: Pin<Box<dyn Future<Output = ()>>>,
    /// The server's number for this connection.
    pub client_id: Option<i64>,
    /// Where the server was reached, if by TCP.
    pub address: Option<SocketAddr>,
}

/// A connection as the server knows it. A server that was restarted gives its numbers anew, so the name tells whether it is still the same.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub id: i64,
    pub name: String,
}

/// Where a server may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    Tcp(SocketAddr),
    Unix(&'a str),
}

/// Opens a connection called `name` within `connect_timeout`, and makes the server drop the connection `before`, whose last commands may
/// still be on their way. Needs Redis 6.2 or Valkey, as a primary.
///
/// A name may have several addresses: each in turn has its share of the time, `reached` first.
pub(super) async fn open(
    server: &Server,
    peer: &Peer,
    name: &str,
    pushes: Option<mpsc::UnboundedSender<PushInfo>>,
    before: Option<Known>,
    reached: Option<SocketAddr>,
) -> Result<Opened, Fault> {
    let deadline = Instant::now() + patience(server);
    let host = server
        .addresses
        .first()
        .ok_or_else(|| Error::new(Kind::InvalidUrl, "no host in URL"))?;
    let addresses: Vec<Place> = if host.host.starts_with('/') {
        vec![Place::Unix(&host.host)]
    } else {
        let mut found: Vec<SocketAddr> = timeout_at(deadline, lookup_host((host.host.as_str(), host.port)))
            .await
            .map_err(|_| peer.error(Kind::Connect, "its name was not resolved in time"))?
            .map_err(|error| peer.unreachable().because(error))?
            .collect();
        found.sort_by_key(|address| reached != Some(*address));
        found.into_iter().map(Place::Tcp).collect()
    };
    let mut failure = Fault::from(peer.error(Kind::Connect, "its name has no address"));
    for (at, address) in (0_u32..).zip(&addresses) {
        let rest = u32::try_from(addresses.len()).unwrap_or(u32::MAX) - at;
        let share = deadline.saturating_duration_since(Instant::now()) / rest;
        let step = Cell::new("no TCP connection in time");
        let attempt = attempt(
            server,
            peer,
            host,
            *address,
            name,
            pushes.clone(),
            before.as_ref(),
            &step,
        );
        let failed = match timeout(share, attempt).await {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(fault)) => fault,
            Err(_) => peer.error(Kind::Connect, step.get()).into(),
        };
        // What a server has said tells more than that another did not answer.
        if failure.error.kind == Kind::Connect {
            failure = failed;
        }
    }
    Err(failure)
}

/// How long to wait for anything that should be answered at once: a little less than `connect_timeout`, so that whoever waits
/// that long hears from here what was missing.
pub(super) fn patience(server: &Server) -> Duration {
    server.options.connect_timeout - server.options.connect_timeout / 20
}

#[allow(clippy::too_many_arguments)]
async fn attempt(
    server: &Server,
    peer: &Peer,
    host: &Address,
    place: Place<'_>,
    name: &str,
    pushes: Option<mpsc::UnboundedSender<PushInfo>>,
    before: Option<&Known>,
    step: &Cell<&'static str>,
) -> Result<Opened, Fault> {
    step.set("no credentials in time (option credentials)");
    // A function that fails now may succeed later.
    let current = server.credentials.current().await;
    let credentials = current.map_err(|error| Fault {
        error,
        cure: Cure::Time,
    })?;
    step.set("no TCP connection in time");
    let stream = dial(server, peer, host, place, step).await?;
    step.set("no answer in time");
    // No time limit inside: each call brings its own.
    let mut config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None);
    let listens = pushes.is_some();
    if let Some(pushes) = pushes {
        config = config.set_push_sender(pushes);
    }
    let (mut connection, driver) = MultiplexedConnection::new_with_config(&login(server, &credentials), stream, config)
        .await
        .map_err(|error| peer.refused(&error))?;
    let mut driver: Pin<Box<dyn Future<Output = ()>>> = Box::pin(driver);
    let hello = tokio::select! {
        hello = introduce(&mut connection, name, before, listens) => hello.map_err(|error| peer.refused(&error))?,
        () = &mut driver => return Err(peer.error(Kind::Connect, "the connection was cut").into()),
    };
    let client_id = inspect(&hello, peer)?;
    Ok(Opened {
        connection,
        driver,
        client_id,
        address: match place {
            Place::Tcp(address) => Some(address),
            Place::Unix(_) => None,
        },
    })
}

async fn dial(
    server: &Server,
    peer: &Peer,
    host: &Address,
    place: Place<'_>,
    step: &Cell<&'static str>,
) -> Result<Box<dyn Stream>> {
    let unreachable = |error| peer.unreachable().because(error);
    let address = match place {
        Place::Tcp(address) => address,
        #[cfg(unix)]
        Place::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path).await.map_err(unreachable)?;
            return Ok(Box::new(stream));
        }
        #[cfg(not(unix))]
        Place::Unix(_) => return Err(peer.error(Kind::InvalidUrl, "this system has no Unix sockets")),
    };
    let stream = TcpStream::connect(address).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    if server.options.tls == Tls::Off {
        return Ok(Box::new(stream));
    }
    let connector = TlsConnector::from(tls::client_config(&server.options)?);
    let name = tls::server_name(&host.host)?;
    step.set("no answer to TLS in time (does the server speak TLS there?)");
    let stream = connector.connect(name, stream).await.map_err(|error| {
        tls::describe(&error, &peer.name).unwrap_or_else(|| {
            peer.error(Kind::Connect, "the connection was cut while TLS was set up")
                .because(&error)
        })
    })?;
    Ok(Box::new(stream))
}

/// As in 1.1.2 the user in the URL is ignored; an ACL user is named by option `user`, or by the function that gives the credentials.
fn login(server: &Server, credentials: &Credentials) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name()
        .set_db(i64::from(server.options.redis_database));
    if let Some(password) = &credentials.password {
        info = info.set_password(password.reveal());
    }
    if let Some(user) = credentials.user.as_ref().or(server.options.redis_user.as_ref()) {
        info = info.set_username(user);
    }
    info
}

/// Names the connection, looks who answers, and ends the connection before this one if the server still has it. A connection that `listens` hears
/// from now on which holds of its process are stolen: who may not subscribe finds that with a renewal.
async fn introduce(
    connection: &mut MultiplexedConnection,
    name: &str,
    before: Option<&Known>,
    listens: bool,
) -> redis::RedisResult<Value> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("CLIENT").arg("SETNAME").arg(name);
    pipeline.cmd("HELLO");
    if let Some(before) = before {
        pipeline.add_command(list(before.id));
    }
    let count = pipeline.len();
    let mut listener = connection.clone();
    let subscribed = async {
        if listens {
            // The channel of lua/steal.lua is that of the process, whose name is all before the number.
            let process = name.rsplit_once('-').map_or(name, |(process, _)| process);
            let _ = listener.subscribe(format!("IPC-Mutex-rpm:{process}")).await;
        }
    };
    let (answers, ()) = tokio::join!(connection.send_packed_commands(&pipeline, 0, count), subscribed);
    let mut answers = answers?.into_iter().skip(1);
    let hello = match answers.next() {
        Some(Value::ServerError(error)) => return Err(error.into()),
        answer => answer.unwrap_or_default(),
    };
    // The number may be somebody else's by now, another connection of this process too. A user without the
    // permission for this leaves it to time: what comes late is undone by its expiry.
    if let (Some(before), Some(listed)) = (before, answers.next())
        && is_called(&listed, &before.name)
    {
        connection.send_packed_command(&kill(before.id)).await?;
    }
    Ok(hello)
}

/// Shows the connection that the server numbers so.
pub(super) fn list(id: i64) -> Cmd {
    let mut list = redis::cmd("CLIENT");
    list.arg("LIST").arg("ID").arg(id);
    list
}

/// Ends the connection that the server numbers so: nothing that is still on its way on it is done any more.
pub(super) fn kill(id: i64) -> Cmd {
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("ID").arg(id);
    kill
}

/// Whether the connection that [`list`] shows has this name.
pub(super) fn is_called(listed: &Value, name: &str) -> bool {
    redis::from_redis_value_ref::<String>(listed).is_ok_and(|line| line.contains(&format!(" name={name} ")))
}

/// What a connection says first that is made by hand: the same as [`login`] and [`introduce`].
pub(super) fn greeting(server: &Server, name: &str) -> Vec<Cmd> {
    let mut hello = redis::cmd("HELLO");
    hello.arg(3);
    if let Some(password) = &server.credentials.password {
        let user = server.options.redis_user.as_deref().unwrap_or("default");
        hello.arg("AUTH").arg(user).arg(password.reveal());
    }
    hello.arg("SETNAME").arg(name);
    let mut commands = vec![hello];
    if server.options.redis_database != 0 {
        let mut select = redis::cmd("SELECT");
        select.arg(server.options.redis_database);
        commands.push(select);
    }
    commands
}

/// Whether an answer to [`greeting`] is a good one, and the server's number for the connection if that is in it.
pub(super) fn welcomed(answer: &Value) -> Option<Option<i64>> {
    match answer {
        Value::Okay => Some(None),
        Value::Map(fields) => {
            let (_, id) = fields.iter().find(|(key, _)| is_text(key, "id"))?;
            if is_replica(fields) {
                return None;
            }
            redis::from_redis_value_ref::<i64>(id).ok().map(Some)
        }
        _ => None,
    }
}

/// Reads the answer to HELLO: version, role, and the number of the connection.
fn inspect(hello: &Value, peer: &Peer) -> Result<Option<i64>, Fault> {
    let Value::Map(fields) = hello else {
        return Err(peer.unexpected().into());
    };
    let text = |name: &str| {
        let (_, value) = fields.iter().find(|(key, _)| is_text(key, name))?;
        redis::from_redis_value_ref::<String>(value).ok()
    };
    if is_replica(fields) {
        return Err(Fault {
            error: peer.error(Kind::Server, "the server is a read-only replica"),
            cure: Cure::Connection,
        });
    }
    if let Some(version) = text("version") {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        if (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < (6, 2) {
            return Err(peer
                .error(Kind::Server, "too old, 6.2 or newer is needed")
                .because(format!("version {version}"))
                .into());
        }
    }
    Ok(text("id").and_then(|id| id.parse().ok()))
}

fn is_replica(hello: &[(Value, Value)]) -> bool {
    let role = hello.iter().find(|(key, _)| is_text(key, "role"));
    role.is_some_and(|(_, role)| is_text(role, "replica") || is_text(role, "slave"))
}

fn is_text(value: &Value, expected: &str) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == expected.as_bytes(),
        Value::SimpleString(text) => text == expected,
        _ => false,
    }
}
