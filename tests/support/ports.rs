//! Ports for the servers of tests.

use std::collections::HashSet;
use std::net::TcpStream;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Below the range from which the kernel takes the ports of outgoing connections: a server may start a while after its port was
/// chosen, and again on the same port.
const FIRST: u16 = 20_000;
const BEYOND: u16 = 32_000;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A loopback port on which nobody listens, and which this process has not been given before.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        let random = getrandom::u32().expect("the system gives random numbers");
        let port = FIRST + (random % u32::from(BEYOND - FIRST)) as u16;
        // Asked by a connection: a listener of ours could live on for a moment in a process that another thread starts just now.
        if given.insert(port) && TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {BEYOND}");
}
