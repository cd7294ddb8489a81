//! Against a private etcd.

mod bundle;
mod credentials;
mod faults;
mod legacy;
mod loss;
#[path = "../../../../tests/support/ports.rs"]
mod ports;
mod queue;
mod reading;
mod renewing;
mod shared;
mod slow;
mod withdrawing;

use super::*;
use crate::backend::{Attempt, Event, Identity, Stage};
use crate::core::lease::Lease;
use crate::options::{Credentials, RemoteOptions, Tls};
use crate::url::{Address, Scheme};
use etcd_client::{Client, Txn};
use ports::free_port;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

/// How long anything may take that should happen at once, on a machine that may stand still for seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// The time to live of holds in seconds, unless a test says otherwise: longer than [`LIMIT`], so that nothing ends by itself while a test
/// waits for its end.
const TTL: u64 = 300;

struct PrivateServer {
    child: Child,
    folder: std::path::PathBuf,
    port: u16,
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &std::path::Path, port: u16, more: &[&str]) -> Child {
    Command::new("etcd")
        .args(more)
        .args(["--data-dir", folder.to_str().unwrap()])
        .args(["--listen-client-urls", &format!("http://127.0.0.1:{port}")])
        .args(["--advertise-client-urls", &format!("http://127.0.0.1:{port}")])
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", free_port())])
        .args(["--log-level", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn start() -> PrivateServer {
    start_with(&[])
}

/// With `more` words on its command line.
fn start_with(more: &[&str]) -> PrivateServer {
    let port = free_port();
    let base = std::path::Path::new("/dev/shm");
    let base = if base.exists() {
        base.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = base.join(format!("ipc-mutex-etcd-{}-{port}", std::process::id()));
    let child = spawn(&folder, port, more);
    PrivateServer { child, folder, port }
}

impl PrivateServer {
    fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(&self.folder, self.port, &[]);
    }

    fn server(&self, ttl: u64) -> Server {
        Server {
            scheme: Scheme::Etcd,
            addresses: vec![Address {
                host: "127.0.0.1".into(),
                port: self.port,
            }],
            credentials: Credentials::default(),
            database: None,
            options: options(ttl),
        }
    }
}

fn options(ttl: u64) -> RemoteOptions {
    RemoteOptions {
        tls: Tls::Off,
        ca: None,
        crt: None,
        key: None,
        ttl: Duration::from_secs(ttl),
        connect_timeout: LIMIT,
        lock_delay: Duration::from_millis(500),
        read_wait: Duration::from_secs(10),
        max_hold: None,
        ..RemoteOptions::default()
    }
}

/// One process, as far as the server can tell.
struct Process {
    name: &'static str,
    backend: Rc<dyn Backend>,
    events: RefCell<mpsc::UnboundedReceiver<Event>>,
    count: Cell<u32>,
}

async fn process(server: &Server, name: &'static str) -> Process {
    let (sender, events) = mpsc::unbounded_channel();
    let context = Context {
        identity: Arc::new(Identity {
            host: name.into(),
            pid: 7,
            instance: "0".repeat(32),
        }),
        events: sender,
    };
    let deadline = Instant::now() + LIMIT;
    let backend = loop {
        match connect(server, context.clone()).await {
            Ok(backend) => break backend,
            Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    };
    Process {
        name,
        backend,
        events: RefCell::new(events),
        count: Cell::new(0),
    }
}

impl Process {
    fn ask(&self, id: &str, mode: Mode, attempt: Attempt) -> Rc<Ask> {
        self.count.set(self.count.get() + 1);
        Rc::new(Ask {
            id: id.into(),
            owner: Owner(format!("{}-{}", self.name, self.count.get()).into()),
            mode,
            attempt,
            fenced: true,
            label: None,
            thread: 0,
            since: 1,
            stage: Cell::new(Stage::Waiting),
            waited: Cell::new(false),
            lease: Lease::new(self.backend.terms()),
        })
    }

    async fn take(&self, ask: &Rc<Ask>) -> Taken {
        let taken = timeout(LIMIT, self.backend.acquire(ask.clone()))
            .await
            .unwrap()
            .unwrap();
        ask.stage.set(Stage::Held);
        ask.lease.begin(taken.leased_at, clock::now());
        taken
    }

    /// What the runtime does all the time.
    fn keep_alive(&self) -> tokio::task::JoinHandle<()> {
        let backend = self.backend.clone();
        spawn_local(async move {
            loop {
                sleep(backend.terms().renew_every).await;
                backend.renew(vec![]).await.unwrap();
            }
        })
    }

    fn take_later(&self, ask: &Rc<Ask>) -> tokio::task::JoinHandle<Taken> {
        let backend = self.backend.clone();
        let ask = ask.clone();
        spawn_local(async move { backend.acquire(ask).await.unwrap() })
    }
}

async fn until_pending(process: &Process, id: &str, count: usize) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = process.backend.query(id.into()).await.unwrap();
        if seen.pending.len() == count {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Closes the backends. Whether each had the time to clear everything away; what it did not get done ends with its lease.
async fn closed_in_time<const N: usize>(processes: [Process; N]) -> bool {
    let mut in_time = true;
    for process in processes {
        let begun = Instant::now();
        process.backend.close().await;
        in_time &= begun.elapsed() < LIMIT / 2;
    }
    in_time
}

/// Until the server has no more than `count` leases. Those of a test live so long that they do not end by themselves.
async fn until_leases(raw: &mut Client, count: usize) {
    let deadline = Instant::now() + LIMIT;
    loop {
        let seen = raw.leases().await.unwrap();
        if seen.leases().len() <= count {
            return;
        }
        assert!(Instant::now() < deadline, "{} leases", seen.leases().len());
        sleep(Duration::from_millis(20)).await;
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}
