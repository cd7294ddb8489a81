//! The Consul backend against a private server of its own. Each backend here stands for a process.
//!
//! The server is the one that the JavaScript tests unpack into the cache folder, or the one that `CONSUL` names.

#[path = "support/stall.rs"]
mod stall;
mod support;

use ipc_mutex::backend::consul::connect;
use ipc_mutex::backend::{Ask, Attempt, Event, Owner, Released};
use ipc_mutex::clock;
use ipc_mutex::core::mode::Mode;
use ipc_mutex::error::{Error, Kind};
use ipc_mutex::options::{Credentials, RemoteOptions, Tls};
use ipc_mutex::secret::Secret;
use ipc_mutex::url::{Address, Scheme, Server};
use stall::Stalls;
use std::cell::Cell;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{
    LIMIT, Process, TTL, ask_for, begin, busy, exclusive, free, free_port, granted, impostor, run, shared, take,
};
use tokio::task::spawn_local;

fn binary() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(path) = variable("CONSUL") {
        return path;
    }
    let cache = variable("IPC_MUTEX_TEST_CACHE").unwrap_or_else(|| {
        let caches = variable("XDG_CACHE_HOME");
        caches
            .unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".cache"))
            .join("ipc-mutex-test")
    });
    let cached = cache.join("consul");
    if cached.exists() { cached } else { "consul".into() }
}

/// A Consul agent in development mode, killed when dropped.
struct Private {
    child: Child,
    port: u16,
}

impl Private {
    async fn start() -> Self {
        let port = free_port();
        let mut command = Command::new(binary());
        command.args([
            "agent",
            "-dev",
            "-node",
            "test",
            "-bind",
            "127.0.0.1",
            "-client",
            "127.0.0.1",
        ]);
        for (flag, port) in [
            ("-http-port", port.to_string()),
            ("-serf-lan-port", free_port().to_string()),
            ("-server-port", free_port().to_string()),
            ("-serf-wan-port", "-1".into()),
            ("-dns-port", "-1".into()),
            ("-grpc-port", "-1".into()),
        ] {
            command.args([flag, &port]);
        }
        let child = command
            .args(["-log-level", "err"])
            .stdout(Stdio::null())
            .spawn()
            .expect("consul is needed for this test: see CONSUL");
        let mut private = Self { child, port };
        let until = Instant::now() + LIMIT;
        loop {
            if let Ok(probe) = join(&private.server(), "probe").await {
                probe.backend.close().await;
                private.end_sessions().await;
                break;
            }
            let ended = private.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "consul did not start: {ended:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        private
    }

    /// Also of those who joined in vain, or did not get everything done at their close.
    async fn end_sessions(&self) {
        while let serde_json::Value::Array(sessions) = self.get("/v1/session/list").await
            && !sessions.is_empty()
        {
            for session in sessions {
                let id = session["ID"].as_str().unwrap();
                self.put(&format!("/v1/session/destroy/{id}")).await;
            }
        }
    }

    fn server(&self) -> Server {
        server(self.port)
    }

    fn server_with(&self, ttl: Duration) -> Server {
        let mut server = self.server();
        server.options.ttl = ttl;
        server
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn get(&self, path: &str) -> serde_json::Value {
        let text = reqwest_text(reqwest::Method::GET, &self.url(path)).await;
        serde_json::from_str(&text).unwrap_or(serde_json::Value::Null)
    }

    async fn put(&self, path: &str) -> String {
        let text = reqwest_text(reqwest::Method::PUT, &self.url(path)).await;
        text.trim().to_owned()
    }

    /// The session of a 1.1.2 process, which depends on the health of the server's node. An agent that has just started may not know that yet,
    /// and refuses.
    async fn old_session(&self) -> String {
        let asked = r#"{"Name":"IPC-Mutex-RPM/lock/session","Behavior":"release","TTL":"600s","LockDelay":"500ms"}"#;
        let until = Instant::now() + LIMIT;
        loop {
            let request = client().put(self.url("/v1/session/create")).body(asked);
            let text = request.send().await.unwrap().text().await.unwrap();
            if let Ok(created) = serde_json::from_str::<serde_json::Value>(&text) {
                return created["ID"].as_str().unwrap().to_owned();
            }
            assert!(Instant::now() < until, "{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn keys(&self) -> Vec<String> {
        match self.get("/v1/kv/IPC-Mutex-RPM/?keys").await {
            serde_json::Value::Array(keys) => keys.iter().map(|key| key.as_str().unwrap().to_owned()).collect(),
            _ => Vec::new(),
        }
    }
}

/// Whatever the environment says of proxies.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn reqwest_text(method: reqwest::Method, url: &str) -> String {
    let request = client().request(method, url);
    request.send().await.unwrap().text().await.unwrap()
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(port: u16) -> Server {
    Server {
        scheme: Scheme::Consul,
        addresses: vec![Address {
            host: "127.0.0.1".into(),
            port,
        }],
        credentials: Credentials::default(),
        database: None,
        options: RemoteOptions {
            tls: Tls::Off,
            ca: None,
            crt: None,
            key: None,
            ttl: TTL,
            connect_timeout: LIMIT,
            lock_delay: Duration::from_millis(500),
            // Longer than anything is waited for: what is noticed is noticed because it happened.
            read_wait: 2 * LIMIT,
            max_hold: None,
            ..RemoteOptions::default()
        },
    }
}

async fn join(server: &Server, name: &str) -> Result<Process, Error> {
    Process::join(name, |context| connect(server, context)).await
}

async fn process(server: &Private, name: &str) -> Process {
    join(&server.server(), name).await.unwrap()
}

/// Waits until as many wait as expected.
async fn pending(process: &Process, count: usize) {
    let until = Instant::now() + LIMIT;
    while process.backend.query("lock".into()).await.unwrap().pending.len() != count {
        assert!(Instant::now() < until, "the queue did not reach {count}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Renews once. A short time to live leaves an answer a second or so; the runtime, too, tries again then.
async fn lives_on(process: &Process, ask: &Rc<Ask>) {
    match process.backend.renew(vec![ask.clone()]).await {
        Ok(lost) => assert_eq!(lost, vec![]),
        Err(error) => assert!(error.kind == Kind::Connect, "{error:?}"),
    }
}

/// The next hold that a process is told to have lost, and why.
async fn loss(process: &mut Process) -> (Owner, Error) {
    loop {
        let event = tokio::time::timeout(LIMIT, process.events.recv()).await.unwrap();
        if let Some(Event::Lost { owner, error }) = event {
            return (owner, error);
        }
    }
}

/// Closes the backends. Whether each had the time to clear everything away; what it did not get done ends with its time to live.
async fn closed_in_time(processes: &[&Process]) -> bool {
    let mut in_time = true;
    for process in processes {
        let begun = Instant::now();
        process.backend.close().await;
        in_time &= begun.elapsed() < LIMIT / 2;
    }
    in_time
}

/// Closes the backends; then nothing is left. Nothing is waited for: what is left when that has resolved is left for good by a process
/// that ends.
async fn clean(server: &Private, processes: &[&Process]) {
    if closed_in_time(processes).await {
        let (left, sessions) = (server.keys().await, server.get("/v1/session/list").await);
        let is_clean = left.is_empty() && sessions == serde_json::json!([]);
        assert!(is_clean, "left behind: {left:?} {sessions}");
    }
}

#[test]
fn holders_exclude_each_other_and_come_in_the_order_of_asking() {
    run(async {
        let server = Private::start().await;
        let (p1, p2, p3) = (
            process(&server, "p1").await,
            process(&server, "p2").await,
            process(&server, "p3").await,
        );
        let (a, b, c) = (exclusive("a"), exclusive("b"), exclusive("c"));
        let first = take(&p1, &a).await;
        assert!(busy(&p2, Mode::Exclusive).await && busy(&p2, Mode::Shared).await);
        let second = begin(&p2, &b);
        pending(&p1, 1).await;
        let third = begin(&p3, &c);
        pending(&p1, 2).await;
        let info = p3.backend.query("lock".into()).await.unwrap();
        assert_eq!(info.held[0].token, first.token);
        assert_eq!(info.held[0].label.as_deref(), Some("some label"));
        assert_eq!(free(&p1, &a).await, Released::Freed);
        let second = granted(second).await;
        assert!(second.token > first.token);
        assert!(!third.is_finished());
        assert_eq!(free(&p2, &b).await, Released::Freed);
        assert_eq!(free(&p2, &b).await, Released::NotHeld);
        let third = granted(third).await;
        assert!(third.token > second.token);
        free(&p3, &c).await;
        let again = exclusive("d");
        assert!(take(&p1, &again).await.token > third.token);
        free(&p1, &again).await;
        clean(&server, &[&p1, &p2, &p3]).await;
    });
}

#[test]
fn a_holder_and_a_waiter_of_one_process_exclude_each_other() {
    run(async {
        let server = Private::start().await;
        let p1 = process(&server, "p1").await;
        let (a, b) = (exclusive("a"), exclusive("b"));
        let first = take(&p1, &a).await;
        let second = begin(&p1, &b);
        pending(&p1, 1).await;
        assert!(!second.is_finished());
        free(&p1, &a).await;
        assert!(granted(second).await.token > first.token);
        assert_eq!(p1.backend.renew(vec![b.clone()]).await.unwrap(), vec![]);
        free(&p1, &b).await;
        clean(&server, &[&p1]).await;
    });
}

#[test]
fn a_withdrawn_waiter_is_gone_and_the_next_moves_up() {
    run(async {
        let server = Private::start().await;
        let (p1, p2, p3) = (
            process(&server, "p1").await,
            process(&server, "p2").await,
            process(&server, "p3").await,
        );
        let (a, b, c) = (exclusive("a"), exclusive("b"), exclusive("c"));
        take(&p1, &a).await;
        let second = begin(&p2, &b);
        pending(&p1, 1).await;
        let third = begin(&p3, &c);
        pending(&p1, 2).await;
        second.abort();
        let _ = second.await;
        assert_eq!(free(&p2, &b).await, Released::NotHeld);
        pending(&p1, 1).await;
        free(&p1, &a).await;
        granted(third).await;
        free(&p3, &c).await;
        clean(&server, &[&p1, &p2, &p3]).await;
    });
}

#[test]
fn a_wait_dropped_at_any_point_leaves_nothing() {
    run(async {
        let server = Private::start().await;
        let (p1, p2) = (process(&server, "p1").await, process(&server, "p2").await);
        for round in 0..60u64 {
            for mode in [Mode::Exclusive, Mode::Shared] {
                let ask = ask_for("lock", &format!("r{round}-{}", mode.name()), mode, Attempt::Wait, true);
                let task = begin(&p1, &ask);
                tokio::time::sleep(Duration::from_micros(round * 60)).await;
                task.abort();
                let _ = task.await;
                free(&p1, &ask).await;
                let state = p2.backend.query("lock".into()).await.unwrap();
                assert!(state.held.is_empty() && state.pending.is_empty(), "{round}: {state:?}");
            }
        }
        clean(&server, &[&p1, &p2]).await;
    });
}

#[test]
fn a_wait_dropped_while_sessions_are_made_leaves_none() {
    run(async {
        let server = Private::start().await;
        for round in 0..40u64 {
            let p1 = process(&server, "p1").await;
            let ask = exclusive(&format!("r{round}"));
            // Whoever renews finds out that there are none.
            server.end_sessions().await;
            let _ = p1.backend.renew(vec![ask.clone()]).await;
            let task = begin(&p1, &ask);
            tokio::time::sleep(Duration::from_micros(round * 200)).await;
            task.abort();
            let _ = task.await;
            if round % 2 == 0 {
                free(&p1, &ask).await;
            }
            if closed_in_time(&[&p1]).await {
                let sessions = server.get("/v1/session/list").await;
                assert_eq!(sessions, serde_json::json!([]), "round {round}");
            }
        }
    });
}

#[test]
fn whoever_gives_up_while_it_closes_behind_readers_leaves_no_session_of_theirs() {
    run(async {
        let server = Private::start().await;
        let (p1, p2) = (process(&server, "p1").await, process(&server, "p2").await);
        for round in 0..60u64 {
            let reader = ask_for("lock", &format!("r{round}"), Mode::Shared, Attempt::Wait, true);
            take(&p1, &reader).await;
            // What a reader leaves that ended without a word.
            let key = server.url(&format!("/v1/kv/IPC-Mutex-RPM/lock/readers/r{round}"));
            reqwest_text(reqwest::Method::DELETE, &key).await;
            let writer = ask_for("lock", &format!("w{round}"), Mode::Exclusive, Attempt::Wait, true);
            let task = begin(&p2, &writer);
            tokio::time::sleep(Duration::from_micros(round * 60)).await;
            task.abort();
            let _ = task.await;
            free(&p2, &writer).await;
            free(&p1, &reader).await;
        }
        clean(&server, &[&p1, &p2]).await;
    });
}

#[test]
fn a_readers_session_that_ended_while_it_locked_nothing_is_replaced() {
    run(async {
        let server = Private::start().await;
        let p1 = process(&server, "p1").await;
        let (r1, r2) = (shared("r1"), shared("r2"));
        let first = take(&p1, &r1).await;
        let key = server.get("/v1/kv/IPC-Mutex-RPM/lock/leader").await;
        let session = key[0]["Session"].as_str().unwrap().to_owned();
        free(&p1, &r1).await;
        server.put(&format!("/v1/session/destroy/{session}")).await;
        assert!(take(&p1, &r2).await.token > first.token);
        assert_eq!(free(&p1, &r2).await, Released::Freed);
        clean(&server, &[&p1]).await;
    });
}

#[test]
fn a_renewal_proves_every_hold_by_itself() {
    run(async {
        let server = Private::start().await;
        let (p1, p2) = (process(&server, "p1").await, process(&server, "p2").await);
        let of = |id: &str, mode| ask_for(id, id, mode, Attempt::Wait, true);
        let asks = [
            of("lock0", Mode::Exclusive),
            of("lock1", Mode::Exclusive),
            of("lock2", Mode::Shared),
        ];
        let guest = ask_for("lock2", "guest", Mode::Shared, Attempt::Wait, true);
        for ask in &asks {
            take(&p1, ask).await;
        }
        // The readers' session is one that another process has made.
        take(&p2, &guest).await;
        let before = clock::now();
        reqwest_text(
            reqwest::Method::DELETE,
            &server.url("/v1/kv/IPC-Mutex-RPM/lock0/leader"),
        )
        .await;
        let _ = p1.backend.renew(asks.to_vec()).await.unwrap();
        assert_eq!(p2.backend.renew(vec![guest.clone()]).await.unwrap(), vec![]);
        assert!(asks[0].lease.proven_at().unwrap() < before);
        for ask in [&asks[1], &asks[2], &guest] {
            let proven = ask.lease.proven_at().unwrap();
            assert!(proven >= before && proven <= clock::now());
        }
        assert_eq!(free(&p1, &asks[0]).await, Released::NotHeld);
        for ask in &asks[1..] {
            assert_eq!(free(&p1, ask).await, Released::Freed);
        }
        assert_eq!(free(&p2, &guest).await, Released::Freed);
        clean(&server, &[&p1, &p2]).await;
    });
}

#[test]
fn readers_share_and_a_waiting_writer_holds_back_later_readers() {
    run(async {
        let server = Private::start().await;
        let (p1, p2, p3) = (
            process(&server, "p1").await,
            process(&server, "p2").await,
            process(&server, "p3").await,
        );
        let (r1, r2, w, r3, r4) = (shared("r1"), shared("r2"), exclusive("w"), shared("r3"), shared("r4"));
        let first = take(&p1, &r1).await;
        let second = take(&p2, &r2).await;
        assert!(second.token > first.token);
        let writer = begin(&p3, &w);
        pending(&p1, 1).await;
        assert!(busy(&p1, Mode::Shared).await);
        let later = begin(&p1, &r3);
        pending(&p1, 2).await;
        let last = begin(&p2, &r4);
        pending(&p1, 3).await;
        assert_eq!(p1.backend.query("lock".into()).await.unwrap().held.len(), 2);
        assert_eq!(free(&p1, &r1).await, Released::Freed);
        assert!(!writer.is_finished());
        assert_eq!(p2.backend.renew(vec![r2.clone()]).await.unwrap(), vec![]);
        assert_eq!(free(&p2, &r2).await, Released::Freed);
        let writer = granted(writer).await;
        assert!(writer.token > second.token && !later.is_finished());
        free(&p3, &w).await;
        let (later, last) = (granted(later).await, granted(last).await);
        assert!(writer.token < later.token && later.token < last.token);
        let holds = p3.backend.query("lock".into()).await.unwrap();
        assert_eq!((holds.held.len(), holds.pending.len()), (2, 0));
        free(&p1, &r3).await;
        assert!(busy(&p3, Mode::Exclusive).await);
        free(&p2, &r4).await;
        assert!(!busy(&p3, Mode::Exclusive).await);
        clean(&server, &[&p1, &p2, &p3]).await;
    });
}

#[test]
fn a_destroyed_session_is_a_loss_at_once_and_the_process_goes_on_with_a_new_one() {
    run(async {
        let server = Private::start().await;
        let (mut p1, p2) = (process(&server, "p1").await, process(&server, "p2").await);
        let (a, b) = (exclusive("a"), exclusive("b"));
        let first = take(&p1, &a).await;
        let waiting = begin(&p2, &b);
        pending(&p1, 1).await;
        let key = server.get("/v1/kv/IPC-Mutex-RPM/lock/leader").await;
        let session = key[0]["Session"].as_str().unwrap().to_owned();
        server.put(&format!("/v1/session/destroy/{session}")).await;
        let (owner, error) = loss(&mut p1).await;
        assert_eq!((owner, error.kind), (a.owner.clone(), Kind::LockLost));
        assert_eq!(free(&p1, &a).await, Released::NotHeld);
        assert!(granted(waiting).await.token > first.token);
        let c = exclusive("c");
        let third = begin(&p1, &c);
        pending(&p2, 1).await;
        free(&p2, &b).await;
        granted(third).await;
        free(&p1, &c).await;
        clean(&server, &[&p1, &p2]).await;
    });
}

#[test]
fn a_deleted_leader_key_is_noticed_by_the_renewal() {
    run(async {
        let server = Private::start().await;
        let mut p1 = process(&server, "p1").await;
        let a = exclusive("a");
        take(&p1, &a).await;
        assert_eq!(p1.backend.renew(vec![a.clone()]).await.unwrap(), vec![]);
        reqwest_text(reqwest::Method::DELETE, &server.url("/v1/kv/IPC-Mutex-RPM/lock/leader")).await;
        let mut lost = p1.backend.renew(vec![a.clone()]).await.unwrap();
        if lost.is_empty() {
            // A hold that has lasted is watched: it may be given up while the renewal is on its way.
            assert_eq!(loss(&mut p1).await.0, a.owner);
            lost = p1.backend.renew(vec![a.clone()]).await.unwrap();
        }
        assert_eq!(lost, vec![a.owner.clone()]);
        assert_eq!(free(&p1, &a).await, Released::NotHeld);
        clean(&server, &[&p1]).await;
    });
}

#[test]
fn the_holder_of_a_deleted_leader_key_is_told_without_a_renewal_and_before_the_first_in_line_comes_in() {
    run(async {
        let server = Private::start().await;
        let (mut p1, p2) = (process(&server, "p1").await, process(&server, "p2").await);
        let (a, b) = (exclusive("a"), exclusive("b"));
        let first = take(&p1, &a).await;
        let waiting = begin(&p2, &b);
        pending(&p1, 1).await;
        // The first in line gives the holder two seconds, of which it takes one at most; it cannot if it, or the server, does not get its turn meanwhile.
        let status = server.url("/v1/status/leader");
        let stalls = Stalls::watch(async move || drop(reqwest_text(reqwest::Method::GET, &status).await));
        let told = spawn_local(async move {
            let loss = loss(&mut p1).await;
            (p1, loss)
        });
        reqwest_text(reqwest::Method::DELETE, &server.url("/v1/kv/IPC-Mutex-RPM/lock/leader")).await;
        assert!(granted(waiting).await.token > first.token);
        let was_told = told.is_finished();
        assert!(
            was_told || stalls.longest().await > Duration::from_millis(300),
            "the waiter came in while the holder believed"
        );
        let (p1, (owner, error)) = told.await.unwrap();
        assert_eq!((owner, error.kind), (a.owner.clone(), Kind::LockLost));
        assert_eq!(free(&p1, &a).await, Released::NotHeld);
        assert_eq!(free(&p2, &b).await, Released::Freed);
        clean(&server, &[&p1, &p2]).await;
    });
}

#[test]
fn one_lasting_hold_after_the_other_is_watched_and_a_release_is_no_loss() {
    run(async {
        let server = Private::start().await;
        let mut p1 = process(&server, "p1").await;
        for round in 0..4 {
            let asks: Vec<_> = (0..2)
                .map(|number| {
                    let (id, owner) = (format!("lock{number}"), format!("a{round}-{number}"));
                    ask_for(&id, &owner, Mode::Exclusive, Attempt::Wait, true)
                })
                .collect();
            for ask in &asks {
                take(&p1, ask).await;
            }
            reqwest_text(
                reqwest::Method::DELETE,
                &server.url("/v1/kv/IPC-Mutex-RPM/lock0/leader"),
            )
            .await;
            assert_eq!(loss(&mut p1).await.0, asks[0].owner);
            assert_eq!(free(&p1, &asks[0]).await, Released::NotHeld);
            assert_eq!(free(&p1, &asks[1]).await, Released::Freed);
        }
        clean(&server, &[&p1]).await;
        while let Ok(event) = p1.events.try_recv() {
            assert!(!matches!(event, Event::Lost { .. }), "{event:?}");
        }
    });
}

#[test]
fn an_old_contender_excludes_and_is_excluded() {
    run(async {
        let server = Private::start().await;
        let p1 = process(&server, "p1").await;
        let old = server.old_session().await;
        let acquire = format!("/v1/kv/IPC-Mutex-RPM/lock/leader?acquire={old}");
        let release = format!("/v1/kv/IPC-Mutex-RPM/lock/leader?release={old}");
        let (a, r) = (exclusive("a"), shared("r"));
        take(&p1, &a).await;
        assert_eq!(server.put(&acquire).await, "false");
        free(&p1, &a).await;
        assert_eq!(server.put(&acquire).await, "true");
        let held = p1.backend.query("lock".into()).await.unwrap().held;
        assert!(held.len() == 1 && held[0].pid.is_none() && held[0].host.is_none());
        assert!(busy(&p1, Mode::Exclusive).await && busy(&p1, Mode::Shared).await);
        let waiting = begin(&p1, &r);
        pending(&p1, 1).await;
        assert_eq!(server.put(&release).await, "true");
        granted(waiting).await;
        assert_eq!(server.put(&acquire).await, "false");
        free(&p1, &r).await;
        assert_eq!(server.put(&acquire).await, "true");
        assert_eq!(server.put(&release).await, "true");
        server.put(&format!("/v1/session/destroy/{old}")).await;
        take(&p1, &a).await;
        free(&p1, &a).await;
        clean(&server, &[&p1]).await;
    });
}

#[test]
fn room_for_old_contenders_lasts_however_short_the_looks_of_the_first_in_line_are() {
    run(async {
        let server = Private::start().await;
        let mut hasty = server.server();
        hasty.options.read_wait = Duration::from_millis(50);
        let p1 = join(&hasty, "p1").await.unwrap();
        let old = server.old_session().await;
        let leader = "/v1/kv/IPC-Mutex-RPM/lock/leader";
        assert_eq!(server.put(&format!("{leader}?acquire={old}")).await, "true");
        let a = exclusive("a");
        let waiting = begin(&p1, &a);
        pending(&p1, 1).await;
        let left = Instant::now();
        let room = client()
            .put(server.url(&format!("{leader}?release={old}")))
            .body(r#"{"room":true}"#);
        assert_eq!(room.send().await.unwrap().text().await.unwrap().trim(), "true");
        granted(waiting).await;
        // An old one tries half a second after it has seen that the key is not locked.
        assert!(left.elapsed() > Duration::from_millis(700));
        free(&p1, &a).await;
        server.put(&format!("/v1/session/destroy/{old}")).await;
        clean(&server, &[&p1]).await;
    });
}

#[test]
fn what_is_not_a_usable_consul_server_is_said_with_host_and_port() {
    run(async {
        let nobody = free_port();
        let error = join(&server(nobody), "p").await.err().unwrap();
        assert_eq!(error.kind, Kind::Connect);
        assert!(error.message.contains(&format!("127.0.0.1:{nobody}")), "{error}");
        // Something that answers, but not in HTTP.
        let talker = impostor(b"-ERR unknown command\r\n");
        let error = join(&server(talker), "p").await.err().unwrap();
        assert_eq!(error.kind, Kind::Server, "{error:?}");
        // Something that never answers.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut quiet = server(silent.local_addr().unwrap().port());
        quiet.options.connect_timeout = Duration::from_millis(200);
        quiet.credentials.password = Some(Secret::new("hush"));
        let error = join(&quiet, "p").await.err().unwrap();
        assert_eq!(error.kind, Kind::Connect);
        assert!(!format!("{error:?}").contains("hush"));
    });
}

#[test]
fn a_holder_that_stops_renewing_is_found_dead_after_its_ttl() {
    run(async {
        let server = Private::start().await;
        let mortal = server.server_with(Duration::from_secs(20));
        let (dead, p2) = (join(&mortal, "dead").await.unwrap(), process(&server, "p2").await);
        let (a, b) = (exclusive("a"), exclusive("b"));
        let first = take(&dead, &a).await;
        let died = Instant::now();
        let waiting = begin(&p2, &b);
        let second = granted(waiting).await;
        let elapsed = died.elapsed();
        // Consul itself gives it twice as long.
        let ttl = mortal.options.ttl;
        assert!(
            elapsed > ttl - Duration::from_secs(1) && elapsed < ttl * 2,
            "after {elapsed:?}"
        );
        assert!(second.token > first.token);
        assert_eq!(
            dead.backend.renew(vec![a.clone()]).await.unwrap(),
            vec![a.owner.clone()]
        );
        free(&p2, &b).await;
        clean(&server, &[&dead, &p2]).await;
    });
}

#[test]
fn a_holder_that_renews_keeps_the_lock_while_others_look_after_it() {
    run(async {
        let server = Private::start().await;
        let ttl = Duration::from_secs(10);
        let mortal = server.server_with(ttl);
        let (p1, p2, p3) = (
            join(&mortal, "p1").await.unwrap(),
            join(&mortal, "p2").await.unwrap(),
            join(&mortal, "p3").await.unwrap(),
        );
        let (r1, r2, w) = (shared("r1"), shared("r2"), exclusive("w"));
        take(&p1, &r1).await;
        take(&p2, &r2).await;
        let waiting = begin(&p3, &w);
        let began = Instant::now();
        // Much more often than the runtime does: a stop of some seconds must not be the end of a session.
        let pause = ttl / 20;
        while began.elapsed() < ttl + ttl / 2 {
            tokio::time::sleep(pause).await;
            for (process, ask) in [(&p1, &r1), (&p2, &r2), (&p3, &w)] {
                lives_on(process, ask).await;
            }
            assert!(!waiting.is_finished());
        }
        // One reader dies; the other goes on reading until it leaves.
        let died = Instant::now();
        loop {
            tokio::time::sleep(pause).await;
            lives_on(&p1, &r1).await;
            lives_on(&p3, &w).await;
            assert!(!waiting.is_finished());
            let held = p1.backend.query("lock".into()).await.unwrap().held;
            if died.elapsed() > ttl + Duration::from_secs(2) && held.len() == 1 {
                break;
            }
            assert!(died.elapsed() < LIMIT, "{held:?}");
        }
        free(&p1, &r1).await;
        granted(waiting).await;
        assert_eq!(
            p2.backend.renew(vec![r2.clone()]).await.unwrap(),
            vec![r2.owner.clone()]
        );
        free(&p3, &w).await;
        clean(&server, &[&p1, &p2, &p3]).await;
    });
}

#[test]
fn many_contenders_of_both_modes_that_give_up_now_and_then_never_meet_a_writer() {
    run(async {
        let server = Private::start().await;
        // Who gives up at the moment in which it closes behind the last reader leaves the readers' session, which locks nothing any more,
        // to the end of its time to live; Consul takes up to twice as long.
        let mortal = server.server_with(LIMIT / 3);
        let inside = Rc::new(Cell::new((0u32, 0u32)));
        let mut tasks = Vec::new();
        let mut processes = Vec::new();
        let mut renewals = Vec::new();
        for number in 0..4u64 {
            let one = Rc::new(join(&mortal, &format!("p{number}")).await.unwrap());
            processes.push(one.clone());
            let backend = one.backend.clone();
            // As the runtime does, though more often.
            renewals.push(spawn_local(async move {
                loop {
                    tokio::time::sleep(backend.terms().renew_every / 10).await;
                    let _ = backend.renew(vec![]).await;
                }
            }));
            for thread in 0..3u64 {
                let (one, inside) = (one.clone(), inside.clone());
                tasks.push(spawn_local(async move {
                    let mut random = number * 7 + thread + 1;
                    for round in 0..40 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let dice = random >> 33;
                        let mode = if dice % 3 == 0 { Mode::Exclusive } else { Mode::Shared };
                        let ask = ask_for("lock", &format!("{number}-{thread}-{round}"), mode, Attempt::Wait, true);
                        if dice % 5 == 0 {
                            let task = begin(&one, &ask);
                            tokio::time::sleep(Duration::from_micros(dice % 10_000)).await;
                            task.abort();
                            let _ = task.await;
                            free(&one, &ask).await;
                            continue;
                        }
                        take(&one, &ask).await;
                        let (writers, readers) = inside.get();
                        assert!(
                            writers == 0 && (mode == Mode::Shared || readers == 0),
                            "{writers} {readers}"
                        );
                        inside.set(match mode {
                            Mode::Exclusive => (1, 0),
                            Mode::Shared => (0, readers + 1),
                        });
                        tokio::time::sleep(Duration::from_micros(dice % 2_000)).await;
                        let (writers, readers) = inside.get();
                        inside.set(match mode {
                            Mode::Exclusive => (writers - 1, 0),
                            Mode::Shared => (0, readers - 1),
                        });
                        assert_eq!(free(&one, &ask).await, Released::Freed, "{ask:?}");
                    }
                }));
            }
        }
        for task in tasks {
            tokio::time::timeout(LIMIT * 6, task).await.expect("it ends").unwrap();
        }
        for renewal in renewals {
            renewal.abort();
            let _ = renewal.await;
        }
        let processes: Vec<&Process> = processes.iter().map(Rc::as_ref).collect();
        clean(&server, &processes).await;
    });
}
