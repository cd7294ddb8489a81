//! Which process id the server gave this connection at its start.
//!
//! The driver keeps it to itself, but writes it into cancel requests. One is written here, to a stream that leads
//! nowhere, and read back. A connection pooler makes up a process id of its own, and so gives itself away.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// A cancel request is its length, the code of a cancel request, the process id and the secret key: four integers of 32
/// bits, big-endian (PostgreSQL's documentation, "Message Formats").
const REQUEST: usize = 16;

/// The process id in the server's `BackendKeyData`.
pub async fn pid_of(client: &Client) -> Option<i32> {
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
