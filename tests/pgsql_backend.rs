//! The PostgreSQL backend against private servers of its own. Each backend here stands for a process.

mod support;

use ipc_mutex::backend::pgsql::connect;
use ipc_mutex::backend::{Attempt, Event, Refusal, Released};
use ipc_mutex::clock;
use ipc_mutex::core::mode::Mode;
use ipc_mutex::error::{Error, Kind};
use ipc_mutex::options::{Credentials, RemoteOptions};
use ipc_mutex::url::{Address, Scheme, Server};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{
    LIMIT, Process, TTL, ask_for, begin, busy, exclusive, free, free_port, granted, impostor, run, shared, take,
};
use tokio_postgres::{Client, NoTls};

/// `lock` as ipc-mutex 1.x numbers it.
const NUMBER: i64 = 3_083_478_775;

/// A process of a server; ended when dropped.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Self {
        Self(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the server's package is installed"),
        )
    }

    fn end(&mut self, signal: &str) {
        // Once it was waited for, its number may be somebody else's.
        if let Ok(None) = self.0.try_wait() {
            let _ = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
            let _ = self.0.wait();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A program that was started in the background of a shell may ignore any gentler one.
        self.end("-KILL");
    }
}

/// A private PostgreSQL with its data in a temporary folder.
struct Private {
    daemon: Daemon,
    folder: PathBuf,
    port: u16,
}

impl Private {
    fn start() -> Self {
        let port = free_port();
        let folder = std::env::temp_dir().join(format!("ipc-mutex-pgsql-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        own(&folder);
        let made = as_postgres(&binary("initdb"))
            .args([
                "-A",
                "trust",
                "-U",
                "tester",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(folder.join("data"))
            .current_dir(&folder)
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        Self {
            daemon: Self::launch(&folder, port),
            folder,
            port,
        }
    }

    fn launch(folder: &Path, port: u16) -> Daemon {
        let settings = [
            "fsync=off",
            // It would use up transaction ids now and then.
            "autovacuum=off",
            "listen_addresses=127.0.0.1",
            "shared_buffers=16MB",
            "unix_socket_directories=",
        ];
        let mut command = as_postgres(&binary("postgres"));
        command
            .current_dir(folder)
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port.to_string()]);
        for setting in settings {
            command.args(["-c", setting]);
        }
        Daemon::start(&mut command)
    }

    /// Ends the server as a power cut would, and starts it again.
    fn crash(&mut self) {
        self.daemon.end("-KILL");
        // The children end by themselves; the data folder is locked until then.
        let until = Instant::now() + LIMIT;
        self.daemon = Self::launch(&self.folder, self.port);
        while self.daemon.0.try_wait().unwrap().is_some()
            || std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err()
        {
            assert!(Instant::now() < until, "PostgreSQL did not start again");
            std::thread::sleep(Duration::from_millis(20));
            if self.daemon.0.try_wait().unwrap().is_some() {
                self.daemon = Self::launch(&self.folder, self.port);
            }
        }
    }

    fn server(&self) -> Server {
        server(self.port)
    }

    /// A plain client, once the server answers.
    async fn plain(&self) -> Client {
        let until = Instant::now() + LIMIT;
        loop {
            let text = format!("host=127.0.0.1 port={} user=tester dbname=template1", self.port);
            match tokio_postgres::connect(&text, NoTls).await {
                Ok((client, connection)) => {
                    tokio::task::spawn_local(connection);
                    return client;
                }
                Err(error) => assert!(Instant::now() < until, "PostgreSQL did not start: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.daemon.end("-QUIT");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is needed for this test");
    let mut found: Vec<_> = versions
        .map(|version| version.unwrap().path().join("bin").join(name))
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is needed for this test")
}

fn account() -> Option<(u32, u32)> {
    let id = |what: &[&str]| {
        let output = Command::new("id").args(what).output().unwrap().stdout;
        String::from_utf8(output).unwrap().trim().parse::<u32>().unwrap()
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    command
}

fn own(path: &Path) {
    if let Some((user, group)) = account() {
        std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
    }
}

fn server(port: u16) -> Server {
    Server {
        scheme: Scheme::Pgsql,
        addresses: vec![Address {
            host: "127.0.0.1".into(),
            port,
        }],
        credentials: Credentials {
            user: Some("tester".into()),
            password: None,
            ..Credentials::default()
        },
        database: Some("template1".into()),
        options: RemoteOptions {
            ttl: TTL,
            connect_timeout: LIMIT,
            ..RemoteOptions::default()
        },
    }
}

async fn join(server: &Server) -> Result<Process, Error> {
    Process::join("0", |context| connect(server, context)).await
}

async fn process(server: &Private) -> Process {
    server.plain().await;
    join(&server.server()).await.unwrap()
}

/// Waits until the query has the value.
async fn becomes(plain: &Client, query: &str, expected: i64) {
    let until = Instant::now() + LIMIT;
    loop {
        let seen: i64 = plain.query_one(query, &[]).await.unwrap().get(0);
        if seen == expected {
            return;
        }
        assert!(Instant::now() < until, "{query} is {seen} and not {expected}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
const LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
const HOLDERS: &str = "SELECT count(DISTINCT pid) FROM pg_locks WHERE locktype = 'advisory' AND granted";
const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ipc-mutex test 7%'";

/// After the last mutex is closed the server has nothing of ours.
async fn leave(processes: Vec<Process>, plain: &Client) {
    becomes(plain, LOCKS, 0).await;
    for process in processes {
        process.backend.close().await;
    }
    becomes(plain, SESSIONS, 0).await;
}

#[test]
fn locks_exclude_share_and_queue_as_the_server_orders_them() {
    run(async {
        let server = Private::start();
        let (a, b) = (process(&server).await, process(&server).await);
        let plain = server.plain().await;
        uncontended(&a, &plain).await;
        contemporaries(&a, &plain).await;
        in_order(&a, &b, &plain).await;
        readers_and_writers(&a, &b, &plain).await;
        readers_of_one_process(&a, &b, &plain).await;
        more_waiters_than_side_sessions(&a, &b, &plain).await;
        leave(vec![a, b], &plain).await;
    });
}

async fn uncontended(a: &Process, plain: &Client) {
    let ask = exclusive("u1");
    let first = take(a, &ask).await;
    assert!(busy(a, Mode::Exclusive).await && busy(a, Mode::Shared).await);
    assert_eq!(free(a, &ask).await, Released::Freed);
    assert_eq!(free(a, &ask).await, Released::NotHeld);
    let again = exclusive("u2");
    assert!(take(a, &again).await.token > first.token);
    assert_eq!(
        take(a, &again).await.token,
        take(a, &again).await.token,
        "an ask that holds is recognised"
    );
    free(a, &again).await;
    // Without a token no transaction id is used up.
    let now = "SELECT txid_snapshot_xmax(txid_current_snapshot())";
    let before: i64 = plain.query_one(now, &[]).await.unwrap().get(0);
    let bare = ask_for("lock", "u3", Mode::Exclusive, Attempt::Wait, false);
    assert_eq!(take(a, &bare).await.token, None);
    free(a, &bare).await;
    let after: i64 = plain.query_one(now, &[]).await.unwrap().get(0);
    assert_eq!(before, after);
    for n in 0..1000 {
        take(
            a,
            &ask_for(
                &format!("lock-{n}"),
                &format!("m{n}"),
                Mode::Exclusive,
                Attempt::Wait,
                false,
            ),
        )
        .await;
    }
    becomes(plain, HOLDERS, 1).await;
    for n in 0..1000 {
        let ask = ask_for(
            &format!("lock-{n}"),
            &format!("m{n}"),
            Mode::Exclusive,
            Attempt::Wait,
            false,
        );
        assert_eq!(free(a, &ask).await, Released::Freed);
    }
    becomes(plain, LOCKS, 0).await;
}

/// A contender that speaks the protocol of 1.1.2.
async fn contemporaries(a: &Process, plain: &Client) {
    let number = NUMBER;
    plain.execute("SELECT pg_advisory_lock($1)", &[&number]).await.unwrap();
    assert!(busy(a, Mode::Exclusive).await && busy(a, Mode::Shared).await);
    let ask = exclusive("c1");
    let waiter = begin(a, &ask);
    becomes(plain, WAITING, 1).await;
    let seen = a.backend.query("lock".into()).await.unwrap();
    assert_eq!((seen.held[0].host.as_deref(), seen.held[0].pid), (None, None));
    assert_eq!(seen.pending[0].label.as_deref(), Some("some label"));
    plain
        .execute("SELECT pg_advisory_unlock($1)", &[&number])
        .await
        .unwrap();
    granted(waiter).await;
    let got: bool = plain
        .query_one("SELECT pg_try_advisory_lock($1)", &[&number])
        .await
        .unwrap()
        .get(0);
    assert!(!got);
    free(a, &ask).await;
    let got: bool = plain
        .query_one("SELECT pg_try_advisory_lock($1)", &[&number])
        .await
        .unwrap()
        .get(0);
    assert!(got);
    plain
        .execute("SELECT pg_advisory_unlock($1)", &[&number])
        .await
        .unwrap();
}

async fn in_order(a: &Process, b: &Process, plain: &Client) {
    let first = exclusive("o0");
    let mut last = take(a, &first).await.token;
    let began = clock::now();
    let mut waiters = Vec::new();
    for (n, process) in [a, b, a, b, a].into_iter().enumerate() {
        let ask = exclusive(&format!("o{}", n + 1));
        waiters.push((process, ask.clone(), begin(process, &ask)));
        becomes(plain, WAITING, n as i64 + 1).await;
    }
    let seen = b.backend.query("lock".into()).await.unwrap();
    assert_eq!(seen.held.len(), 1);
    assert_eq!(
        (seen.held[0].host.as_deref(), seen.held[0].pid),
        (Some("test"), Some(7))
    );
    assert_eq!(seen.pending.len(), 5);
    // A waiter looks at the clock once a second; in many small steps, because one of them may take long by itself.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    free(a, &first).await;
    for (process, ask, waiter) in waiters {
        let taken = granted(waiter).await;
        assert!(taken.token > last, "tokens grow");
        assert!(
            taken.leased_at >= began + Duration::from_secs(1) && taken.leased_at <= clock::now(),
            "the lease begins when the wait ends"
        );
        last = taken.token;
        assert!(busy(a, Mode::Shared).await);
        assert_eq!(free(process, &ask).await, Released::Freed);
    }
}

async fn readers_and_writers(a: &Process, b: &Process, plain: &Client) {
    let (r1, r2, w, r3, r4) = (shared("r1"), shared("r2"), exclusive("w"), shared("r3"), shared("r4"));
    take(a, &r1).await;
    take(b, &r2).await;
    // The writer's process has the lock shared on its main session, which must not let it in.
    let writer = begin(a, &w);
    becomes(plain, WAITING, 1).await;
    assert!(busy(b, Mode::Shared).await, "a reader does not pass the waiting writer");
    let late3 = begin(b, &r3);
    becomes(plain, WAITING, 2).await;
    let late4 = begin(a, &r4);
    becomes(plain, WAITING, 3).await;
    free(a, &r1).await;
    becomes(plain, WAITING, 3).await;
    free(b, &r2).await;
    granted(writer).await;
    assert!(!late3.is_finished() && !late4.is_finished());
    free(a, &w).await;
    granted(late3).await;
    granted(late4).await;
    free(b, &r3).await;
    free(a, &r4).await;
    becomes(plain, LOCKS, 0).await;
}

async fn readers_of_one_process(a: &Process, b: &Process, plain: &Client) {
    let (r1, r2, r3) = (shared("s1"), shared("s2"), shared("s3"));
    take(a, &r1).await;
    take(a, &r2).await;
    take(a, &r3).await;
    free(a, &r1).await;
    free(a, &r3).await;
    assert!(busy(b, Mode::Exclusive).await, "one of three is still in");
    assert!(busy(a, Mode::Exclusive).await);
    free(a, &r2).await;
    assert!(!busy(b, Mode::Exclusive).await);
    becomes(plain, LOCKS, 0).await;
}

async fn more_waiters_than_side_sessions(a: &Process, b: &Process, plain: &Client) {
    let name = |n| format!("many-{n}");
    let ask = |who: &str, n| ask_for(&name(n), &format!("{who}{n}"), Mode::Exclusive, Attempt::Wait, false);
    let held: Vec<_> = (0..20).map(|n| ask("h", n)).collect();
    for ask in &held {
        take(a, ask).await;
    }
    let waiters: Vec<_> = (0..20)
        .map(|n| ask("w", n))
        .map(|ask| (ask.clone(), begin(b, &ask)))
        .collect();
    becomes(plain, WAITING, 8).await;
    for ask in held.iter().rev() {
        free(a, ask).await;
    }
    for (ask, waiter) in waiters {
        granted(waiter).await;
        assert_eq!(free(b, &ask).await, Released::Freed);
    }
    // Sessions that nobody needs any more are closed.
    becomes(plain, SESSIONS, 0).await;
}

#[test]
fn readers_of_one_process_wait_as_one_and_hold_apart() {
    run(async {
        let server = Private::start();
        let (mut a, b) = (process(&server).await, process(&server).await);
        let plain = server.plain().await;
        together(&a, &b, &plain).await;
        behind_a_writer(&a, &b, &plain).await;
        with_members_who_leave(&a, &b, &plain).await;
        lost_together(&mut a, &b, &plain).await;
        leave(vec![a, b], &plain).await;
    });
}

/// All that wait are at the server when a writer of another process, who asked last, is.
async fn together(a: &Process, b: &Process, plain: &Client) {
    let holder = exclusive("t0");
    take(b, &holder).await;
    let readers: Vec<_> = (1..=12).map(|n| shared(&format!("t{n}"))).collect();
    let waiters: Vec<_> = readers.iter().map(|ask| begin(a, ask)).collect();
    becomes(plain, WAITING, 1).await;
    let seen = b.backend.query("lock".into()).await.unwrap();
    assert_eq!((seen.held.len(), seen.pending.len()), (1, 1));
    wait_as_one(a, 12).await;
    free(b, &holder).await;
    let mut tokens = Vec::new();
    for waiter in waiters {
        tokens.push(granted(waiter).await.token.unwrap());
    }
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 12, "each has a token of its own");
    becomes(plain, LOCKS, 1).await;
    assert_eq!(a.backend.query("lock".into()).await.unwrap().held.len(), 12);
    for (n, ask) in readers.iter().enumerate() {
        assert!(busy(b, Mode::Exclusive).await, "{n} of 12 have left");
        assert_eq!(free(a, ask).await, Released::Freed);
    }
    assert!(!busy(b, Mode::Exclusive).await);
}

/// Until all the waiters of a process have joined the first, who waits at the server. The tries of all go by one connection, in order:
/// behind the answer to another all have tried in vain. The same for the questions whether they may join.
async fn wait_as_one(process: &Process, count: usize) {
    assert!(busy(process, Mode::Shared).await);
    let seen = process.backend.query("lock".into()).await.unwrap();
    assert_eq!(seen.pending.len(), count);
}

async fn behind_a_writer(a: &Process, b: &Process, plain: &Client) {
    let (holder, r1, w, r2, r3) = (
        exclusive("b0"),
        shared("b1"),
        exclusive("b2"),
        shared("b3"),
        shared("b4"),
    );
    take(b, &holder).await;
    let early = begin(a, &r1);
    becomes(plain, WAITING, 1).await;
    let writer = begin(b, &w);
    becomes(plain, WAITING, 2).await;
    let late = begin(a, &r2);
    becomes(plain, WAITING, 3).await;
    let later = begin(a, &r3);
    while a.backend.query("lock".into()).await.unwrap().pending.len() < 4 {}
    becomes(plain, WAITING, 3).await;
    free(b, &holder).await;
    granted(early).await;
    assert!(!writer.is_finished() && !late.is_finished() && !later.is_finished());
    free(a, &r1).await;
    granted(writer).await;
    assert!(!late.is_finished() && !later.is_finished());
    free(b, &w).await;
    granted(late).await;
    granted(later).await;
    free(a, &r2).await;
    free(a, &r3).await;
}

async fn with_members_who_leave(a: &Process, b: &Process, plain: &Client) {
    for fenced in [false, true] {
        let holder = exclusive("l0");
        take(b, &holder).await;
        // Whoever began the wait leaves, and one who joined.
        let readers: Vec<_> = (1..=4)
            .map(|n| {
                ask_for(
                    "lock",
                    &format!("l{n}"),
                    Mode::Shared,
                    Attempt::Wait,
                    fenced == (n != 1),
                )
            })
            .collect();
        let mut waiters: Vec<_> = readers.iter().map(|ask| begin(a, ask)).collect();
        becomes(plain, WAITING, 1).await;
        while a.backend.query("lock".into()).await.unwrap().pending.len() < 4 {}
        for gone in [2, 0] {
            waiters.remove(gone).abort();
            assert_eq!(free(a, &readers[gone]).await, Released::NotHeld);
            becomes(plain, WAITING, 1).await;
        }
        free(b, &holder).await;
        for (waiter, ask) in waiters.into_iter().zip([&readers[1], &readers[3]]) {
            assert!(granted(waiter).await.token.is_some() || !ask.fenced);
        }
        assert_eq!(free(a, &readers[3]).await, Released::Freed);
        assert!(busy(b, Mode::Exclusive).await, "one is still in");
        assert_eq!(free(a, &readers[1]).await, Released::Freed);
        assert!(!busy(b, Mode::Exclusive).await);
        // And all of them.
        take(b, &holder).await;
        let waiters: Vec<_> = readers.iter().map(|ask| begin(a, ask)).collect();
        becomes(plain, WAITING, 1).await;
        for (waiter, ask) in waiters.into_iter().zip(&readers) {
            waiter.abort();
            assert_eq!(free(a, ask).await, Released::NotHeld);
        }
        becomes(plain, WAITING, 0).await;
        free(b, &holder).await;
        becomes(plain, LOCKS, 0).await;
    }
}

/// The end of the session that they share is told to each.
async fn lost_together(a: &mut Process, b: &Process, plain: &Client) {
    let holder = exclusive("e0");
    take(b, &holder).await;
    let readers: Vec<_> = (1..=3).map(|n| shared(&format!("e{n}"))).collect();
    let waiters: Vec<_> = readers.iter().map(|ask| begin(a, ask)).collect();
    becomes(plain, WAITING, 1).await;
    wait_as_one(a, 3).await;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'";
    plain.execute(&format!("{end} AND NOT granted"), &[]).await.unwrap();
    for waiter in waiters {
        let outcome = tokio::time::timeout(LIMIT, waiter).await.unwrap().unwrap();
        assert!(matches!(outcome, Err(Refusal::Away(_))));
    }
    let waiters: Vec<_> = readers.iter().map(|ask| begin(a, ask)).collect();
    becomes(plain, WAITING, 1).await;
    free(b, &holder).await;
    for waiter in waiters {
        granted(waiter).await;
    }
    plain.execute(&format!("{end} AND granted"), &[]).await.unwrap();
    becomes(plain, LOCKS, 0).await;
    // The server tells everybody else before it tells us.
    let mut left: Vec<_> = readers.iter().map(|ask| ask.owner.clone()).collect();
    while !left.is_empty() {
        let event = tokio::time::timeout(LIMIT, a.events.recv()).await.unwrap();
        if let Some(Event::Lost { owner, .. }) = event {
            left.retain(|other| *other != owner);
        }
    }
    for ask in &readers {
        assert_eq!(free(a, ask).await, Released::NotHeld);
    }
}

#[test]
fn a_cancelled_wait_leaves_nothing_and_keeps_nothing() {
    run(async {
        let server = Private::start();
        let (a, b) = (process(&server).await, process(&server).await);
        let plain = server.plain().await;
        let (held, quitter, next) = (exclusive("h"), exclusive("q"), exclusive("n"));
        take(&a, &held).await;
        let quitting = begin(&b, &quitter);
        becomes(&plain, WAITING, 1).await;
        let waiting = begin(&b, &next);
        becomes(&plain, WAITING, 2).await;
        quitting.abort();
        assert_eq!(free(&b, &quitter).await, Released::NotHeld);
        becomes(&plain, WAITING, 1).await;
        free(&a, &held).await;
        granted(waiting).await;
        free(&b, &next).await;
        // Cancels that race with the grant and with the beginning of the wait.
        for round in 0..150 {
            let holder = exclusive(&format!("holder-{round}"));
            take(&a, &holder).await;
            let ask = ask_for(
                "lock",
                &format!("w-{round}"),
                Mode::Exclusive,
                Attempt::Wait,
                round % 2 == 0,
            );
            let waiter = begin(&b, &ask);
            if round % 3 > 0 {
                becomes(&plain, WAITING, 1).await;
            }
            let steps = round % 7;
            let (x, y) = tokio::join!(a.backend.release(holder), async {
                for _ in 0..steps * 4 {
                    tokio::task::yield_now().await;
                }
                waiter.abort();
                b.backend.release(ask).await
            });
            assert_eq!(x.unwrap(), Released::Freed);
            y.unwrap();
            becomes(&plain, LOCKS, 0).await;
        }
        assert!(!busy(&a, Mode::Exclusive).await);
        leave(vec![a, b], &plain).await;
    });
}

#[test]
fn a_cut_connection_is_a_lost_hold_and_the_next_call_reconnects() {
    run(async {
        let mut server = Private::start();
        let (mut a, mut b) = (process(&server).await, process(&server).await);
        let plain = server.plain().await;
        let (held, waiting) = (exclusive("h"), exclusive("w"));
        let token = take(&a, &held).await.token;
        let waiter = begin(&b, &waiting);
        becomes(&plain, WAITING, 1).await;
        assert_eq!(a.backend.renew(vec![held.clone()]).await.unwrap(), []);
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        plain.query_one(cut, &[]).await.unwrap();
        let event = tokio::time::timeout(LIMIT, a.events.recv()).await.unwrap().unwrap();
        let Event::Lost { owner, error } = event else {
            panic!("{event:?}")
        };
        assert_eq!((owner, error.kind), (held.owner.clone(), Kind::LockLost));
        assert!(error.cause.unwrap().contains("57P01"));
        assert_eq!(
            a.backend.renew(vec![held.clone()]).await.unwrap(),
            std::slice::from_ref(&held.owner)
        );
        assert!(granted(waiter).await.token > token);
        assert_eq!(free(&a, &held).await, Released::NotHeld);
        assert!(busy(&a, Mode::Exclusive).await);
        assert!(matches!(a.events.recv().await, Some(Event::Disconnected)));
        assert!(matches!(a.events.recv().await, Some(Event::Reconnected)));
        // The same for one that waited for what it holds.
        plain.query_one(cut, &[]).await.unwrap();
        let event = tokio::time::timeout(LIMIT, b.events.recv()).await.unwrap().unwrap();
        assert!(
            matches!(event, Event::Lost { ref owner, .. } if *owner == waiting.owner),
            "{event:?}"
        );
        assert_eq!(free(&b, &waiting).await, Released::NotHeld);
        // A crash of the server: a waiter is told, and tokens go on growing.
        let (held, waiting) = (exclusive("h2"), exclusive("w2"));
        let token = take(&a, &held).await.token;
        let waiter = begin(&b, &waiting);
        becomes(&plain, WAITING, 1).await;
        server.crash();
        let error = waiter.await.unwrap().unwrap_err();
        assert!(matches!(error, Refusal::Away(_)), "{error:?}");
        let plain = server.plain().await;
        assert!(take(&b, &waiting).await.token > token);
        assert_eq!(free(&a, &held).await, Released::NotHeld);
        free(&b, &waiting).await;
        leave(vec![a, b], &plain).await;
    });
}

#[test]
fn what_cannot_keep_locks_is_refused_with_a_reason() {
    run(async {
        let server = Private::start();
        let plain = server.plain().await;
        let refused = async |server: &Server| match join(server).await {
            Ok(_) => panic!("let in"),
            Err(error) => error,
        };
        let mut unknown = server.server();
        unknown.database = Some("nowhere".into());
        assert_eq!(refused(&unknown).await.kind, Kind::Server);
        let mut stranger = server.server();
        stranger.credentials.user = Some("stranger".into());
        let error = refused(&stranger).await;
        assert_eq!(error.kind, Kind::Auth);
        assert!(
            error.message.contains(&format!("127.0.0.1:{}", server.port)),
            "{error:?}"
        );
        let mut secure = server.server();
        secure.options.tls = ipc_mutex::options::Tls::Insecure;
        assert_eq!(refused(&secure).await.kind, Kind::Tls);
        assert_eq!(refused(&self::server(free_port())).await.kind, Kind::Connect);
        let web = impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let error = refused(&self::server(web)).await;
        assert_eq!(error.kind, Kind::Server, "{error:?}");
        for (mode, fits) in [("session", true), ("transaction", false), ("statement", false)] {
            let (_pooler, port) = pooler(&server, mode).await;
            let joined = join(&self::server(port)).await;
            assert_eq!(joined.is_ok(), fits, "{mode}");
            match joined {
                Ok(process) => {
                    let ask = exclusive("pooled");
                    take(&process, &ask).await;
                    assert!(busy(&process, Mode::Shared).await);
                    let waiting = exclusive("waits");
                    let waiter = begin(&process, &waiting);
                    becomes(&plain, WAITING, 1).await;
                    waiter.abort();
                    assert_eq!(free(&process, &waiting).await, Released::NotHeld);
                    assert_eq!(free(&process, &ask).await, Released::Freed);
                    process.backend.close().await;
                }
                Err(error) => {
                    assert_eq!(error.kind, Kind::Server);
                    assert!(error.message.contains("pooler"), "{error:?}");
                }
            }
        }
        becomes(&plain, LOCKS, 0).await;
    });
}

async fn pooler(server: &Private, mode: &str) -> (Daemon, u16) {
    let port = free_port();
    let path = server.folder.join(format!("{mode}.ini"));
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\npool_mode = {mode}\n",
        server.port
    );
    // `any` sends every client to the server as one user.
    std::fs::write(&path, text.replace("port=", "user=tester port=")).unwrap();
    own(&path);
    let daemon = Daemon::start(as_postgres(Path::new("pgbouncer")).arg(&path));
    let until = Instant::now() + LIMIT;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < until, "pgbouncer did not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    (daemon, port)
}
