//! Telling a server that is not etcd, or refuses our certificate, from one that cannot be reached.
//!
//! A server of another protocol answers HTTP/2's first words in its own way and often hangs up at once; the HTTP/2 library
//! then reports whichever it notices first, the strange answer or the broken pipe. Likewise a server that wants another
//! client certificate says so only after the handshake (TLS 1.3), when our first words are on their way.

use super::channel::{authority, connector};
use crate::backend::tls;
use crate::error::{Error, Kind};
use crate::options::RemoteOptions;
use crate::url::Address;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// What a client says first (RFC 9113, section 3.4), with an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// An HTTP/2 frame begins with three bytes of length and one of type; a server's first one is SETTINGS.
const HEAD: usize = 4;
const SETTINGS: u8 = 4;

/// Why whatever answers at `address` cannot be used; `None` if nothing does, or what does speaks HTTP/2.
pub async fn unmask(address: &Address, options: &RemoteOptions, limit: Duration) -> Option<Error> {
    timeout(limit, talk(address, options)).await.ok()?
}

async fn talk(address: &Address, options: &RemoteOptions) -> Option<Error> {
    let peer = authority(address);
    let mut stream = connector(address, options).ok()?.dial().await.ok()?;
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
