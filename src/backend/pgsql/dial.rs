//! From an address to an authenticated connection, and the other kind of connection: a cancel request.

use super::failure;
use super::login::Login;
use super::wire::{self, Wire};
use crate::error::{Error, Kind, Result};
use crate::url::Address;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, NoTls};

/// The part of a connection that moves bytes; its end is the end of the connection.
pub type Pump = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// A connection that the server has let in.
pub struct Dialled {
    pub client: Client,
    pub pump: Pump,
    pub address: Address,
    /// The very machine, where a cancel request has to go.
    pub machine: Option<SocketAddr>,
    /// `host:port`, for messages.
    pub peer: String,
}

/// Connects and authenticates within `limit`.
pub async fn dial(login: &Login, address: &Address, limit: Duration) -> Result<Dialled> {
    let peer = peer(address);
    let begun = tokio::time::Instant::now();
    let wire = Wire::open(address, limit, login.ttl()).await;
    let wire = wire.map_err(|error| unreachable(address).because(error))?;
    let (first, machine) = (wire.first_byte(), wire.machine);
    let handshake = async {
        match connector(login, address) {
            Some(tls) => {
                let (client, pump) = login.config.connect_raw(wire, tls).await?;
                Ok((client, Box::pin(pump) as Pump))
            }
            None => {
                let mut config = login.config.clone();
                config.ssl_mode(tokio_postgres::config::SslMode::Disable);
                let (client, pump) = config.connect_raw(wire, NoTls).await?;
                Ok((client, Box::pin(pump) as Pump))
            }
        }
    };
    let outcome = timeout(limit.saturating_sub(begun.elapsed()), handshake).await;
    let stranger = first.get().is_some_and(|byte| !wire::is_postgresql(*byte));
    match outcome {
        Ok(Ok((client, pump))) => Ok(Dialled {
            client,
            pump,
            address: address.clone(),
            machine,
            peer,
        }),
        Ok(Err(failure)) if stranger => Err(failure::not_postgresql(&peer).because(failure)),
        Err(_) if stranger => Err(failure::not_postgresql(&peer)),
        Ok(Err(failure)) => Err(failure::describe(login, &peer, &failure)),
        Err(_) => Err(Error::new(
            Kind::Connect,
            format!("PostgreSQL at {peer} did not answer in {limit:?} (connect_timeout)"),
        )),
    }
}

/// Sends the protocol's cancel request for the session of `token` to the machine that serves it. On `Ok` the server has
/// handed it on: it hits what that session executes now, or nothing at all if it is idle, but nothing that is sent later.
pub async fn cancel(
    login: &Login,
    address: &Address,
    machine: Option<SocketAddr>,
    token: &CancelToken,
    limit: Duration,
) -> Result<()> {
    let peer = peer(address);
    let request = async {
        let wire = Wire::open_again(address, machine, limit).await;
        let wire = wire.map_err(|error| unreachable(address).because(error))?;
        let sent = match connector(login, address) {
            Some(tls) => token.cancel_query_raw(wire, tls).await,
            None => token.cancel_query_raw(wire, NoTls).await,
        };
        sent.map_err(|failure| failure::describe(login, &peer, &failure))
    };
    timeout(limit, request).await.unwrap_or_else(|_| {
        let message = format!("PostgreSQL at {peer} did not answer a cancel request in {limit:?}");
        Err(Error::new(Kind::Connect, message))
    })
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
