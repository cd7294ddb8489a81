//! Against a private etcd.

mod bundle;
mod faults;
mod legacy;
#[path = "../../../../tests/support/ports.rs"]
mod ports;
mod shared;

use super::*;
use crate::backend::{Attempt, Event, Identity, Stage};
use crate::options::{Credentials, RemoteOptions, Tls};
use crate::url::{Address, Scheme};
use ports::free_port;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

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

fn spawn(folder: &std::path::Path, port: u16) -> Child {
    Command::new("etcd")
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
    let port = free_port();
    let base = std::path::Path::new("/dev/shm");
    let base = if base.exists() {
        base.to_owned()
    } else {
        std::env::temp_dir()
    };
    let folder = base.join(format!("ipc-mutex-etcd-{}-{port}", std::process::id()));
    let child = spawn(&folder, port);
    PrivateServer { child, folder, port }
}

impl PrivateServer {
    fn restart(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.child = spawn(&self.folder, self.port);
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
        connect_timeout: Duration::from_secs(5),
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
    let deadline = Instant::now() + Duration::from_secs(10);
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
        })
    }

    async fn take(&self, ask: &Rc<Ask>) -> Taken {
        let taken = timeout(Duration::from_secs(20), self.backend.acquire(ask.clone()))
            .await
            .unwrap()
            .unwrap();
        ask.stage.set(Stage::Held);
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
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let seen = process.backend.query(id.into()).await.unwrap();
        if seen.pending.len() == count {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn hand_over_goes_in_order_and_tokens_grow() {
    run(async {
        let etcd = start();
        let server = etcd.server(5);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let asks: Vec<_> = (0..6)
            .map(|n| {
                if n % 2 == 0 {
                    a.ask("x", Mode::Exclusive, Attempt::Wait)
                } else {
                    b.ask("x", Mode::Exclusive, Attempt::Wait)
                }
            })
            .collect();
        let mut token = a.take(&asks[0]).await.token;
        let mut waiting = Vec::new();
        for (n, ask) in asks.iter().enumerate().skip(1) {
            let of = if n % 2 == 0 { &a } else { &b };
            waiting.push(of.take_later(ask));
            until_pending(&a, "x", n).await;
        }
        let refused = b.backend.acquire(b.ask("x", Mode::Exclusive, Attempt::Try)).await;
        assert_eq!(refused, Err(Refusal::Busy));
        for n in 0..5 {
            let of = if n % 2 == 0 { &a } else { &b };
            let at = Instant::now();
            assert_eq!(of.backend.release(asks[n].clone()).await.unwrap(), Released::Freed);
            let next = timeout(Duration::from_secs(2), &mut waiting[n])
                .await
                .unwrap()
                .unwrap()
                .token;
            eprintln!("hand-over {:?}", at.elapsed());
            assert!(next > token);
            token = next;
            for later in &waiting[n + 1..] {
                assert!(!later.is_finished());
            }
            assert_eq!(of.backend.release(asks[n].clone()).await.unwrap(), Released::NotHeld);
        }
        assert_eq!(b.backend.release(asks[5].clone()).await.unwrap(), Released::Freed);
        let seen = a.backend.query("x".into()).await.unwrap();
        assert_eq!(seen, Snapshot::default());
        a.backend.close().await;
        b.backend.close().await;
    });
}

#[test]
fn readers_share_and_a_waiting_writer_holds_back_later_readers() {
    run(async {
        let etcd = start();
        let server = etcd.server(5);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let r1 = a.ask("x", Mode::Shared, Attempt::Wait);
        let r2 = b.ask("x", Mode::Shared, Attempt::Wait);
        let t1 = a.take(&r1).await;
        let t2 = b.take(&r2).await;
        assert!(t2.token > t1.token);
        let w = a.ask("x", Mode::Exclusive, Attempt::Wait);
        let writer = a.take_later(&w);
        until_pending(&a, "x", 1).await;
        assert_eq!(
            b.backend.acquire(b.ask("x", Mode::Shared, Attempt::Try)).await,
            Err(Refusal::Busy)
        );
        let late: Vec<_> = (0..3).map(|_| b.ask("x", Mode::Shared, Attempt::Wait)).collect();
        let mut later = Vec::new();
        for (n, ask) in late.iter().enumerate() {
            later.push(b.take_later(ask));
            until_pending(&a, "x", n + 2).await;
        }
        assert_eq!(a.backend.query("x".into()).await.unwrap().held.len(), 2);
        assert_eq!(a.backend.release(r1).await.unwrap(), Released::Freed);
        assert!(!writer.is_finished());
        assert_eq!(b.backend.release(r2).await.unwrap(), Released::Freed);
        let t3 = timeout(Duration::from_secs(2), writer).await.unwrap().unwrap();
        assert!(t3.token > t2.token);
        assert!(later.iter().all(|reader| !reader.is_finished()));
        assert_eq!(a.backend.release(w).await.unwrap(), Released::Freed);
        for reader in later {
            let taken = timeout(Duration::from_secs(2), reader).await.unwrap().unwrap();
            assert!(taken.token > t3.token);
        }
        for ask in late {
            assert_eq!(b.backend.release(ask).await.unwrap(), Released::Freed);
        }
        let again = b.ask("x", Mode::Exclusive, Attempt::Try);
        b.take(&again).await;
        b.backend.release(again).await.unwrap();
        a.backend.close().await;
        b.backend.close().await;
    });
}

#[test]
fn a_dropped_wait_leaves_nothing_and_those_behind_move_up() {
    run(async {
        let etcd = start();
        let server = etcd.server(5);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let held = a.ask("x", Mode::Exclusive, Attempt::Wait);
        a.take(&held).await;
        let quits = b.ask("x", Mode::Exclusive, Attempt::Wait);
        let first = b.take_later(&quits);
        until_pending(&a, "x", 1).await;
        let stays = a.ask("x", Mode::Exclusive, Attempt::Wait);
        let second = a.take_later(&stays);
        until_pending(&a, "x", 2).await;
        first.abort();
        assert_eq!(b.backend.release(quits).await.unwrap(), Released::NotHeld);
        until_pending(&a, "x", 1).await;
        a.backend.release(held).await.unwrap();
        timeout(Duration::from_secs(2), second).await.unwrap().unwrap();
        // Cancelled at every possible moment of its first message.
        for micros in (0..2000).step_by(100) {
            let ask = b.ask("y", Mode::Exclusive, Attempt::Wait);
            let _ = timeout(Duration::from_micros(micros), b.backend.acquire(ask.clone())).await;
            b.backend.release(ask).await.unwrap();
            let seen = a.backend.query("y".into()).await.unwrap();
            assert_eq!(seen, Snapshot::default());
        }
        a.backend.release(stays).await.unwrap();
        a.backend.close().await;
        b.backend.close().await;
    });
}

#[test]
fn a_dead_holders_lock_goes_to_the_waiter_when_its_lease_ends() {
    run(async {
        let etcd = start();
        let server = etcd.server(2);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        for mode in [Mode::Exclusive, Mode::Shared] {
            let held = a.ask("x", mode, Attempt::Wait);
            a.take(&held).await;
            let at = Instant::now();
            let waits = b.ask("x", Mode::Exclusive, Attempt::Wait);
            let waiter = b.take_later(&waits);
            while !waiter.is_finished() {
                assert!(at.elapsed() < Duration::from_secs(5));
                b.backend.renew(vec![waits.clone()]).await.unwrap();
                sleep(Duration::from_millis(300)).await;
            }
            assert!(at.elapsed() > Duration::from_secs(2));
            assert_eq!(
                a.backend.renew(vec![held.clone()]).await.unwrap(),
                vec![held.owner.clone()]
            );
            assert_eq!(a.backend.release(held).await.unwrap(), Released::NotHeld);
            b.backend.release(waits).await.unwrap();
            while a.events.borrow_mut().try_recv().is_ok() {}
        }
    });
}

#[test]
fn a_deleted_key_and_a_revoked_lease_are_noticed_by_the_renewal() {
    run(async {
        let etcd = start();
        let server = etcd.server(5);
        let a = process(&server, "a").await;
        let mut raw = Client::connect([format!("127.0.0.1:{}", etcd.port)], None)
            .await
            .unwrap();
        for mode in [Mode::Exclusive, Mode::Shared] {
            let held = a.ask("x", mode, Attempt::Wait);
            let other = a.ask("y", mode, Attempt::Wait);
            a.take(&held).await;
            a.take(&other).await;
            assert_eq!(
                a.backend.renew(vec![held.clone(), other.clone()]).await.unwrap(),
                vec![]
            );
            raw.delete("IPC-Mutex-RPM-x-lock", None).await.unwrap();
            assert_eq!(
                a.backend.renew(vec![held.clone(), other.clone()]).await.unwrap(),
                vec![held.owner.clone()]
            );
            a.backend.release(held).await.unwrap();
            for lease in raw.leases().await.unwrap().leases() {
                raw.lease_revoke(lease.id()).await.unwrap();
            }
            assert_eq!(
                a.backend.renew(vec![other.clone()]).await.unwrap(),
                vec![other.owner.clone()]
            );
            assert_eq!(a.backend.release(other).await.unwrap(), Released::NotHeld);
        }
        let again = a.ask("x", Mode::Exclusive, Attempt::Try);
        a.take(&again).await;
        a.backend.release(again).await.unwrap();
        a.backend.close().await;
    });
}

#[test]
fn the_lock_survives_a_restart_of_the_server() {
    run(async {
        let mut etcd = start();
        let server = etcd.server(10);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let held = a.ask("x", Mode::Exclusive, Attempt::Wait);
        let before = a.take(&held).await;
        let waits = b.ask("x", Mode::Exclusive, Attempt::Wait);
        let waiter = {
            let backend = b.backend.clone();
            let waits = waits.clone();
            spawn_local(async move {
                loop {
                    match backend.acquire(waits.clone()).await {
                        Ok(taken) => return taken,
                        Err(Refusal::Failed(error)) if error.is_transient() => sleep(Duration::from_millis(20)).await,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        };
        until_pending(&a, "x", 1).await;
        etcd.restart();
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = a.backend.renew(vec![held.clone()]).await {
            assert_eq!(error.kind, Kind::Connect, "{error:?}");
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(a.backend.release(held).await.unwrap(), Released::Freed);
        let after = timeout(Duration::from_secs(5), waiter).await.unwrap().unwrap();
        assert!(after.token > before.token);
        b.backend.release(waits).await.unwrap();
    });
}
