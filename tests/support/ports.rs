//! Ports for the servers of tests.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Below the range from which the kernel takes the ports of outgoing connections: a server may start a while after its port was
/// chosen, and again on the same port.
const FIRST: u16 = 20_000;
const BEYOND: u16 = 32_000;

static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A loopback port on which nobody listens, and which no test of this machine has been given, in this process or in another one
/// that still runs.
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        let random = getrandom::u32().expect("the system gives random numbers");
        let port = FIRST + (random % u32::from(BEYOND - FIRST)) as u16;
        // Asked by a connection: a listener of ours could live on for a moment in a process that another thread starts just now.
        if given.insert(port) && reserve(port) && TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {BEYOND}");
}

/// Writes this process's number into a file for the port, as `__test__/support/ports.mjs` does. What an ended process has left is cleared
/// when somebody comes across it, and the port is free at the next try.
fn reserve(port: u16) -> bool {
    let folder = std::env::temp_dir().join("ipc-mutex-test-ports");
    fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
    let path = folder.join(port.to_string());
    match File::create_new(&path) {
        Ok(mut file) => file.write_all(std::process::id().to_string().as_bytes()).is_ok(),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let owner = fs::read_to_string(&path).ok().and_then(|text| text.parse::<u32>().ok());
            if owner.is_some_and(has_ended) {
                let _ = fs::remove_file(&path);
            }
            false
        }
        // A folder of another user's: the connection must do.
        Err(_) => true,
    }
}

/// Known on Linux only.
fn has_ended(process: u32) -> bool {
    Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{process}")).exists()
}
