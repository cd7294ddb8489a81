//! How a connection to one address is made: TCP without delay, TLS after the crate's own configuration, HTTP/2.

use crate::backend::tls;
use crate::error::Result;
use crate::options::{RemoteOptions, Tls};
use crate::url::Address;
use etcd_client::{BalancedChannelBuilder, Channel};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::Service;
use tonic::transport::{Endpoint, Uri, channel::Change};

/// etcd refuses clients that ping more often than every five seconds.
const PING_EVERY: Duration = Duration::from_secs(10);

/// A channel that connects with the first message and again whenever the connection was cut.
pub fn lazy(address: &Address, options: &RemoteOptions) -> Result<tonic::transport::Channel> {
    let authority = authority(address);
    let connector = connector(address, options)?;
    // The endpoint itself must not know of TLS, or it insists on a connector of its own; the origin is what the server sees.
    let origin = if connector.secure.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|error| unusable(&authority).because(error))?
        .origin(
            format!("{origin}://{authority}")
                .parse::<Uri>()
                .map_err(|error| unusable(&authority).because(error))?,
        )
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(options.connect_timeout);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// What makes connections to `address`.
pub fn connector(address: &Address, options: &RemoteOptions) -> Result<Connector> {
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

fn unusable(authority: &str) -> crate::error::Error {
    crate::error::Error::new(
        crate::error::Kind::InvalidUrl,
        format!("etcd cannot be addressed as {authority}"),
    )
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
pub struct Connector {
    host: Arc<str>,
    port: u16,
    secure: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    /// A new connection.
    pub async fn dial(self) -> io::Result<Stream> {
        let tcp = TcpStream::connect((&*self.host, self.port)).await?;
        tcp.set_nodelay(true)?;
        Ok(match self.secure {
            None => Stream::Plain(tcp),
            Some((connector, name)) => Stream::Secure(Box::new(connector.connect(name, tcp).await?)),
        })
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
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

pub enum Stream {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Stream::Secure(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Stream::Secure(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_flush(cx),
            Stream::Secure(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Stream::Secure(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Stream::Secure(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(io) => io.is_write_vectored(),
            Stream::Secure(io) => io.is_write_vectored(),
        }
    }
}
