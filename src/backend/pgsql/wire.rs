//! The socket below a session: how it is opened, what it tells about who answers, and how it ends.

use crate::url::Address;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The first byte that the other side sent.
pub type FirstByte = Arc<OnceLock<u8>>;

/// Whether a PostgreSQL server may begin like this: with a yes or no to TLS, a request for authentication, an error, a
/// notice, or a word about protocol versions.
pub fn is_postgresql(byte: u8) -> bool {
    b"SNREv".contains(&byte)
}

/// A connection to a server, before TLS.
pub struct Wire {
    stream: Stream,
    first: FirstByte,
}

enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

impl Wire {
    /// Connects to `address`, or to the socket in a directory if the host begins with a slash. A connection on which
    /// nothing is heard for about `silence` is ended by the operating system.
    ///
    /// A name with several addresses shares `limit` among them, so that a dead one does not hide a living one.
    pub async fn open(address: &Address, limit: Duration, silence: Duration) -> io::Result<Self> {
        #[cfg(unix)]
        if address.host.starts_with('/') {
            let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
            let stream = timed(limit, UnixStream::connect(path)).await?;
            return Ok(Self::new(Stream::Unix(stream)));
        }
        let begun = tokio::time::Instant::now();
        let found = timed(limit, tokio::net::lookup_host((address.host.as_str(), address.port))).await?;
        let mut found: Vec<_> = found.collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        while !found.is_empty() {
            let share = limit.saturating_sub(begun.elapsed()) / u32::try_from(found.len()).unwrap_or(u32::MAX);
            let machine = found.remove(0);
            match timed(share, TcpStream::connect(machine)).await {
                Ok(stream) => {
                    tune(&stream, silence)?;
                    return Ok(Self::new(Stream::Tcp(stream)));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn new(stream: Stream) -> Self {
        Self {
            stream,
            first: FirstByte::default(),
        }
    }

    pub fn first_byte(&self) -> FirstByte {
        self.first.clone()
    }
}

async fn timed<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer in {limit:?}"),
        ))
    })
}

fn tune(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let second = Duration::from_secs(1);
    let probes = TcpKeepalive::new()
        .with_time((silence / 2).max(second))
        .with_interval((silence / 6).max(second));
    #[cfg(not(windows))]
    let probes = probes.with_retries(3);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(silence.max(second)))?;
    Ok(())
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if let Some(&byte) = buf.filled().get(before) {
            self.first.get_or_init(|| byte);
        }
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(unix)]
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
