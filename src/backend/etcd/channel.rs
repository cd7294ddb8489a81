//! How a connection to one address is made: TCP without delay, TLS, HTTP/2. And what a server is that is not etcd.

use crate::backend::tls;
use crate::error::{Error, Kind, Result};
use crate::options::{RemoteOptions, Tls};
use crate::url::Address;
use etcd_client::{BalancedChannelBuilder, Channel};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::transport::{Endpoint, Uri, channel::Change};

/// etcd refuses clients that ping more often than every five seconds.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long one address of a name may take before the next one is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// What an HTTP/2 client says first (RFC 9113, section 3.4), with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// An HTTP/2 frame begins with three bytes of length and one of type; a server's first one is SETTINGS.
const HEAD: usize = 4;
const SETTINGS: u8 = 4;

/// A channel that connects with the first message and again whenever the connection was cut. Each `turn` begins with another
/// address of a name that has several.
pub fn lazy(address: &Address, options: &RemoteOptions, turn: u64) -> Result<tonic::transport::Channel> {
    let authority = authority(address);
    let connector = connector(address, options, turn)?;
    let unusable = || Error::new(Kind::InvalidUrl, format!("etcd cannot be addressed as {authority}"));
    // The endpoint itself must not know of TLS, or it insists on a connector of its own; the origin is what the server sees.
    let origin = if connector.secure.is_some() { "https" } else { "http" };
    let origin = format!("{origin}://{authority}").parse::<Uri>();
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| unusable().because(error))?
        .origin(origin.map_err(|error| unusable().because(error))?)
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(options.connect_timeout);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn connector(address: &Address, options: &RemoteOptions, turn: u64) -> Result<Connector> {
    let secure = match options.tls {
        Tls::Off => None,
        Tls::Verify | Tls::Insecure | Tls::Chain | Tls::Prefer => {
            let mut config = ClientConfig::clone(&*tls::client_config(options)?);
            config.alpn_protocols = vec![b"h2".to_vec()];
            let name = tls::server_name(&address.host)?;
            Some((TlsConnector::from(Arc::new(config)), name))
        }
    };
    Ok(Connector {
        host: address.host.clone().into(),
        port: address.port,
        turn,
        secure,
    })
}

/// Host and port as they stand in a URL.
pub fn authority(address: &Address) -> String {
    if address.host.contains(':') {
        format!("[{}]:{}", address.host, address.port)
    } else {
        format!("{}:{}", address.host, address.port)
    }
}

/// Hands a ready-made channel to etcd-client, which would otherwise balance over all addresses, dead ones included.
pub struct Given {
    pub channel: tonic::transport::Channel,
    pub updates: mpsc::Sender<Change<Uri, Endpoint>>,
}

impl BalancedChannelBuilder for Given {
    type Error = etcd_client::Error;

    fn balanced_channel(self, _: usize) -> Result<(Channel, mpsc::Sender<Change<Uri, Endpoint>>), Self::Error> {
        Ok((Channel::Tonic(self.channel), self.updates))
    }
}

#[derive(Clone)]
struct Connector {
    host: Arc<str>,
    port: u16,
    turn: u64,
    secure: Option<(TlsConnector, ServerName<'static>)>,
}

/// Plain or encrypted.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    async fn dial(self) -> io::Result<Box<dyn Stream>> {
        let mut addresses: Vec<_> = lookup_host((&*self.host, self.port)).await?.collect();
        let count = addresses.len().max(1);
        addresses.rotate_left(usize::try_from(self.turn).unwrap_or(0) % count);
        let tcp = race(addresses).await?;
        tcp.set_nodelay(true)?;
        Ok(match self.secure {
            None => Box::new(tcp),
            Some((connector, name)) => Box::new(connector.connect(name, tcp).await?),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { Ok(TokioIo::new(connector.dial().await?)) })
    }
}

/// The first connection that comes about to any of these addresses: one that swallows what is sent there costs a moment only.
pub async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut rest = addresses.into_iter();
    let mut under_way = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        if let Some(address) = rest.next() {
            under_way.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            done = under_way.join_next() => match done {
                None => return Err(failure),
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = io::Error::other(error),
            },
            () = sleep(HEAD_START), if rest.len() > 0 => {}
        }
    }
}

/// Why whatever answers at `address` cannot be used; `None` if nothing does, or what does speaks HTTP/2.
///
/// A server of another protocol answers HTTP/2's first words in its own way and often hangs up at once; the HTTP/2 library then
/// reports whichever it notices first, the strange answer or the broken pipe. Likewise a server that wants another client
/// certificate says so only after the handshake (TLS 1.3), when our first words are on their way.
pub async fn identify(address: &Address, options: &RemoteOptions, limit: Duration) -> Option<Error> {
    timeout(limit, talk(address, options)).await.ok()?
}

async fn talk(address: &Address, options: &RemoteOptions) -> Option<Error> {
    let peer = authority(address);
    let mut stream = connector(address, options, 0).ok()?.dial().await.ok()?;
    // A failure to write hides what the server said before it hung up, which a read still finds.
    let _ = stream.write_all(PREFACE).await;
    let _ = stream.flush().await;
    let mut head = [0; HEAD];
    match stream.read_exact(&mut head).await {
        Ok(_) if head[HEAD - 1] == SETTINGS => None,
        Ok(_) => Some(Error::new(Kind::Server, format!("what answers at {peer} is not etcd"))),
        Err(error) => tls::describe(&error, &peer),
    }
}
