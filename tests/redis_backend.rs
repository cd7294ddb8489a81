//! The Redis backend against a private server of its own. Each backend here stands for a process.

#[path = "support/stall.rs"]
mod stall;
mod support;

use ipc_mutex::backend::redis::connect;
use ipc_mutex::backend::{Attempt, Event, Refusal, Released};
use ipc_mutex::clock;
use ipc_mutex::core::mode::Mode;
use ipc_mutex::error::{Error, Kind};
use ipc_mutex::options::{Credentials, RemoteOptions, Tls};
use ipc_mutex::secret::Secret;
use ipc_mutex::url::{Address, Scheme, Server};
use stall::Stalls;
use std::cell::Cell;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};
use support::{LIMIT, Process, TTL, begin, busy, exclusive, free, free_port, granted, impostor, run, shared, take};

/// `lock` as 1.1.2 has it, and the time to live of what it sets there: no test lasts so long.
const MAIN: &str = "lock/lock.IPC-Mutex-rpm";
const OLD_TTL_MS: u64 = 600_000;

/// A redis-server without persistence, killed when dropped.
struct Private {
    child: Child,
    port: u16,
}

impl Private {
    fn start(extra: &[&str]) -> Self {
        Self::start_on(free_port(), extra)
    }

    fn start_on(port: u16, extra: &[&str]) -> Self {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                "/tmp",
            ])
            .args(extra)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed for this test");
        let until = Instant::now() + LIMIT;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, port }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn server(&self, ttl: Duration) -> Server {
        server(self.port, ttl)
    }

    async fn plain(&self) -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        // By itself it waits for half a second.
        let patient = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(LIMIT))
            .set_response_timeout(Some(LIMIT));
        client
            .get_multiplexed_async_connection_with_config(&patient)
            .await
            .unwrap()
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(port: u16, ttl: Duration) -> Server {
    Server {
        scheme: Scheme::Redis,
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
            ttl,
            connect_timeout: LIMIT,
            lock_delay: Duration::ZERO,
            read_wait: Duration::ZERO,
            max_hold: None,
            ..RemoteOptions::default()
        },
    }
}

async fn join(server: &Server) -> Result<Process, Error> {
    Process::join("x", |context| connect(server, context)).await
}

async fn process(server: &Server, name: &str) -> Process {
    Process::join(name, |context| connect(server, context)).await.unwrap()
}

/// Waits until as many wait as expected.
async fn pending(process: &Process, count: usize) {
    let until = Instant::now() + LIMIT;
    while process.backend.query("lock".into()).await.unwrap().pending.len() != count {
        assert!(Instant::now() < until, "the queue did not reach {count}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How a 1.1.2 process tries to take `lock`.
fn set(px: u64) -> redis::Cmd {
    let mut command = redis::cmd("SET");
    command.arg(MAIN).arg("1700000000000").arg("PX").arg(px).arg("NX");
    command
}

async fn del(plain: &mut redis::aio::MultiplexedConnection) {
    let () = redis::cmd("DEL").arg(MAIN).query_async(plain).await.unwrap();
}

/// Only the token counter may be left; what a dead process left runs out by itself, the last of it the key that says when 1.1.2
/// processes get room, after 12 seconds or more.
async fn assert_clean(server: &Private) {
    let mut plain = server.plain().await;
    let until = Instant::now() + 2 * LIMIT;
    loop {
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut plain).await.unwrap();
        keys.retain(|key| !key.ends_with(":token"));
        if keys.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left behind: {keys:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn an_uncontended_lock_is_taken_and_freed_and_leaves_nothing() {
    run(async {
        let server = Private::start(&[]);
        let a = process(&server.server(TTL), "a").await;
        let ask = exclusive("a1");
        let first = take(&a, &ask).await;
        assert!(busy(&a, Mode::Exclusive).await && busy(&a, Mode::Shared).await);
        assert_eq!(free(&a, &ask).await, Released::Freed);
        assert_eq!(free(&a, &ask).await, Released::NotHeld);
        let again = exclusive("a2");
        assert!(take(&a, &again).await.token > first.token);
        free(&a, &again).await;
        assert_clean(&server).await;
    });
}

#[test]
fn waiters_of_many_processes_get_the_lock_in_order_with_growing_tokens() {
    run(async {
        let server = Private::start(&[]);
        let holder = process(&server.server(TTL), "holder").await;
        let first = exclusive("first");
        let mut last = take(&holder, &first).await.token;
        let mut waiters = Vec::new();
        for n in 0..5 {
            let p = process(&server.server(TTL), &format!("p{n}")).await;
            let ask = exclusive(&format!("w{n}"));
            let task = begin(&p, &ask);
            pending(&holder, n + 1).await;
            waiters.push((p, ask, task));
        }
        free(&holder, &first).await;
        for (p, ask, task) in waiters {
            let taken = granted(task).await;
            assert!(taken.token > last, "tokens grow");
            assert!(taken.leased_at <= ipc_mutex::clock::now());
            last = taken.token;
            assert_eq!(free(&p, &ask).await, Released::Freed);
        }
        assert_clean(&server).await;
    });
}

#[test]
fn an_exclusive_waiter_holds_back_later_readers_and_readers_enter_together() {
    run(async {
        let server = Private::start(&[]);
        let a = process(&server.server(TTL), "a").await;
        let b = process(&server.server(TTL), "b").await;
        let (r1, r2, w, r3, r4) = (shared("r1"), shared("r2"), exclusive("w"), shared("r3"), shared("r4"));
        take(&a, &r1).await;
        take(&b, &r2).await;
        let writer = begin(&a, &w);
        pending(&a, 1).await;
        let late3 = begin(&b, &r3);
        pending(&a, 2).await;
        let late4 = begin(&a, &r4);
        pending(&a, 3).await;
        assert!(
            busy(&b, Mode::Shared).await,
            "a reader does not pass the waiting writer"
        );
        let snapshot = a.backend.query("lock".into()).await.unwrap();
        assert_eq!(snapshot.held.len(), 2);
        assert_eq!(snapshot.pending[0].mode, Mode::Exclusive);
        assert_eq!(snapshot.pending[0].label.as_deref(), Some("some label"));
        free(&a, &r1).await;
        assert!(!writer.is_finished());
        free(&b, &r2).await;
        granted(writer).await;
        assert!(!late3.is_finished() && !late4.is_finished());
        free(&a, &w).await;
        granted(late3).await;
        granted(late4).await;
        free(&b, &r3).await;
        free(&a, &r4).await;
        assert_clean(&server).await;
    });
}

#[test]
fn a_cancelled_waiter_is_gone_and_those_behind_it_move_up() {
    run(async {
        let server = Private::start(&[]);
        let a = process(&server.server(TTL), "a").await;
        let b = process(&server.server(TTL), "b").await;
        let (held, quitter, next) = (exclusive("h"), exclusive("q"), exclusive("n"));
        take(&a, &held).await;
        let quitting = begin(&b, &quitter);
        pending(&a, 1).await;
        let waiting = begin(&b, &next);
        pending(&a, 2).await;
        quitting.abort();
        assert_eq!(free(&b, &quitter).await, Released::NotHeld);
        pending(&a, 1).await;
        free(&a, &held).await;
        granted(waiting).await;
        free(&b, &next).await;
        assert_clean(&server).await;
    });
}

#[test]
fn a_grant_that_crosses_the_cancel_is_given_on() {
    run(async {
        let server = Private::start(&[]);
        let a = process(&server.server(TTL), "a").await;
        let b = process(&server.server(TTL), "b").await;
        let (held, quitter, next) = (exclusive("h"), exclusive("q"), exclusive("n"));
        take(&a, &held).await;
        let quitting = begin(&b, &quitter);
        pending(&a, 1).await;
        let waiting = begin(&a, &next);
        pending(&a, 2).await;
        quitting.abort();
        // The server hands the lock to the one who has just left.
        free(&a, &held).await;
        assert_eq!(free(&b, &quitter).await, Released::Freed);
        granted(waiting).await;
        free(&a, &next).await;
        assert_clean(&server).await;
    });
}

#[test]
fn old_and_new_processes_exclude_each_other() {
    run(async {
        let server = Private::start(&[]);
        let mut old = server.plain().await;
        let a = process(&server.server(TTL), "a").await;
        let taken: Option<String> = set(OLD_TTL_MS).query_async(&mut old).await.unwrap();
        assert!(taken.is_some());
        assert!(busy(&a, Mode::Exclusive).await && busy(&a, Mode::Shared).await);
        let snapshot = a.backend.query("lock".into()).await.unwrap();
        assert_eq!(snapshot.held[0].since, Some(1_700_000_000_000));
        let ask = exclusive("a1");
        let waiting = begin(&a, &ask);
        pending(&a, 1).await;
        del(&mut old).await;
        // Long before the key would have run out.
        granted(waiting).await;
        let refused: Option<String> = set(OLD_TTL_MS).query_async(&mut old).await.unwrap();
        assert!(refused.is_none());
        free(&a, &ask).await;
        let reader = shared("r");
        take(&a, &reader).await;
        let refused: Option<String> = set(OLD_TTL_MS).query_async(&mut old).await.unwrap();
        assert!(refused.is_none(), "readers keep a 1.1.2 process out");
        free(&a, &reader).await;
        let taken: Option<String> = set(50).query_async(&mut old).await.unwrap();
        assert!(taken.is_some());
        // It dies, and its key runs out.
        let last = exclusive("a2");
        take(&a, &last).await;
        free(&a, &last).await;
        assert_clean(&server).await;
    });
}

#[test]
fn the_hold_of_a_dead_process_ends_with_its_lease_and_a_dead_waiter_is_skipped() {
    run(async {
        let server = Private::start(&[]);
        let short = Duration::from_secs(8);
        let dead = process(&server.server(short), "dead").await;
        let gone = process(&server.server(short), "gone").await;
        // What the dead leave in the queue lasts no longer than this.
        let alive = process(&server.server(2 * short), "alive").await;
        let stalls = Stalls::watch(async || ());
        let before = Instant::now();
        take(&dead, &exclusive("d")).await;
        let lost = begin(&gone, &exclusive("g"));
        pending(&alive, 1).await;
        let ask = exclusive("a");
        let waiting = begin(&alive, &ask);
        pending(&alive, 2).await;
        lost.abort();
        gone.backend.close().await;
        dead.backend.close().await;
        // As the runtime does, though more often.
        let renewing = {
            let (backend, ask) = (alive.backend.clone(), ask.clone());
            tokio::task::spawn_local(async move {
                loop {
                    let _ = backend.renew(vec![ask.clone()]).await;
                    tokio::time::sleep(short / 8).await;
                }
            })
        };
        granted(waiting).await;
        renewing.abort();
        let elapsed = before.elapsed();
        assert!(elapsed > short - Duration::from_millis(100), "after {elapsed:?}");
        assert!(
            elapsed < short + Duration::from_secs(5) || stalls.longest().await > Duration::from_secs(1),
            "after {elapsed:?}"
        );
        free(&alive, &ask).await;
        assert_clean(&server).await;
    });
}

#[test]
fn renewal_keeps_holds_and_tells_of_deleted_ones() {
    run(async {
        let server = Private::start(&[]);
        let mut plain = server.plain().await;
        let a = process(&server.server(TTL), "a").await;
        let one = exclusive("a1");
        take(&a, &one).await;
        let () = redis::cmd("PEXPIRE")
            .arg(MAIN)
            .arg(100_000)
            .query_async(&mut plain)
            .await
            .unwrap();
        assert_eq!(a.backend.renew(vec![one.clone()]).await.unwrap(), vec![]);
        let left: i64 = redis::cmd("PTTL").arg(MAIN).query_async(&mut plain).await.unwrap();
        assert!(left > 200_000, "{left} ms left");
        let () = redis::cmd("FLUSHALL").query_async(&mut plain).await.unwrap();
        assert_eq!(
            a.backend.renew(vec![one.clone()]).await.unwrap(),
            vec![one.owner.clone()]
        );
        assert_eq!(free(&a, &one).await, Released::NotHeld);
        let (two, three) = (shared("r1"), shared("r2"));
        take(&a, &two).await;
        take(&a, &three).await;
        assert_eq!(a.backend.renew(vec![two.clone(), three.clone()]).await.unwrap(), vec![]);
        del(&mut plain).await;
        assert_eq!(
            a.backend.renew(vec![two.clone(), three.clone()]).await.unwrap().len(),
            2
        );
        assert_clean(&server).await;
    });
}

#[test]
fn a_restart_without_data_is_told_to_the_holder_and_waiters_go_on() {
    run(async {
        let mut server = Private::start(&[]);
        let mut a = process(&server.server(TTL), "a").await;
        let held = exclusive("h");
        let before = take(&a, &held).await;
        server.kill();
        let port = server.port;
        server = Private::start_on(port, &[]);
        let lost = tokio::time::timeout(LIMIT, async {
            loop {
                if let Some(Event::Lost { owner, error }) = a.events.recv().await {
                    break (owner, error);
                }
            }
        })
        .await
        .unwrap();
        assert_eq!((lost.0, lost.1.kind), (held.owner.clone(), Kind::LockLost));
        let next = exclusive("n");
        assert!(take(&a, &next).await.token > before.token);
        free(&a, &next).await;
        assert_clean(&server).await;
    });
}

#[test]
fn what_cannot_work_is_a_clear_error_without_secrets() {
    run(async {
        let protected = Private::start(&["--requirepass", "right-secret"]);
        let mut wrong = protected.server(TTL);
        let error = join(&wrong).await.err().unwrap();
        assert_eq!(error.kind, Kind::Auth, "{error:?}");
        wrong.credentials.password = Some(Secret::new("wrong-secret"));
        let error = join(&wrong).await.err().unwrap();
        assert_eq!(error.kind, Kind::Auth, "{error:?}");
        assert!(!format!("{error:?}").contains("secret") && error.message.contains(&format!(":{}", protected.port)));
        wrong.credentials.password = Some(Secret::new("right-secret"));
        assert!(join(&wrong).await.is_ok());
        wrong.options.redis_database = 99;
        assert_eq!(join(&wrong).await.err().unwrap().kind, Kind::Server);

        assert_eq!(join(&server(free_port(), TTL)).await.err().unwrap().kind, Kind::Connect);

        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut mute = server(silent.local_addr().unwrap().port(), TTL);
        mute.options.connect_timeout = Duration::from_millis(200);
        assert_eq!(join(&mute).await.err().unwrap().kind, Kind::Connect);

        let web = impostor(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert_eq!(join(&server(web, TTL)).await.err().unwrap().kind, Kind::Server);

        let replica = Private::start(&["--replicaof", "127.0.0.1", "1"]);
        assert_eq!(join(&replica.server(TTL)).await.err().unwrap().kind, Kind::Server);

        let full = Private::start(&["--maxmemory", "1"]);
        let a = process(&full.server(TTL), "a").await;
        let Err(Refusal::Failed(error)) = a.backend.acquire(exclusive("a1")).await else {
            panic!("granted")
        };
        assert_eq!(error.kind, Kind::Server, "{error:?}");
    });
}

#[test]
fn old_processes_get_their_turn_though_new_ones_always_wait() {
    run(async {
        let server = Private::start(&[]);
        let stop = Rc::new(Cell::new(false));
        let counts: Rc<[Cell<u32>; 3]> = Rc::default();
        let mut tasks = Vec::new();
        for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
            let p = process(&server.server(TTL), name).await;
            let (stop, counts) = (stop.clone(), counts.clone());
            tasks.push(tokio::task::spawn_local(async move {
                while !stop.get() {
                    let ask = exclusive(&format!("{name}-{}", counts[at].get()));
                    take(&p, &ask).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    assert_eq!(free(&p, &ask).await, Released::Freed);
                    counts[at].set(counts[at].get() + 1);
                }
            }));
        }
        // All are there before the old one comes, and go on between its turns.
        let more_turns = async |turns: u32| {
            let before = counts.each_ref().map(Cell::get);
            let until = Instant::now() + LIMIT;
            while counts
                .iter()
                .zip(before)
                .any(|(count, before)| count.get() < before + turns)
            {
                assert!(Instant::now() < until, "{counts:?} after {before:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut old = server.plain().await;
        for _ in 0..3 {
            more_turns(4).await;
            // A busy machine may miss one of the moments in which the lock is free, and each comes later after the one before.
            tokio::time::timeout(10 * LIMIT, async {
                while set(OLD_TTL_MS)
                    .query_async::<Option<String>>(&mut old)
                    .await
                    .unwrap()
                    .is_none()
                {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
            .await
            .expect("an old process gets the lock");
            del(&mut old).await;
        }
        more_turns(4).await;
        stop.set(true);
        for task in tasks {
            task.await.unwrap();
        }
        assert_clean(&server).await;
    });
}

/// What the server has noted of a waiter: `<mode> <fenced> <ttl> <channel> <asked> <info>`.
async fn place(plain: &mut redis::aio::MultiplexedConnection, owner: &str) -> Vec<String> {
    let mut command = redis::cmd("HGET");
    command.arg(format!("{{{MAIN}}}:info")).arg(owner);
    let entry: String = command.query_async(plain).await.unwrap();
    entry.splitn(6, ' ').map(str::to_owned).collect()
}

/// Resolves when what the server has noted of the waiter is not `before` any more.
async fn asks_again(plain: &mut redis::aio::MultiplexedConnection, owner: &str, before: &[String]) -> Vec<String> {
    let until = Instant::now() + LIMIT;
    loop {
        let now = place(plain, owner).await;
        if now != before {
            return now;
        }
        assert!(Instant::now() < until, "{owner} does not ask again");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn replicate(plain: &mut redis::aio::MultiplexedConnection, host: &str, port: &str) {
    let () = redis::cmd("REPLICAOF")
        .arg(host)
        .arg(port)
        .query_async(plain)
        .await
        .unwrap();
}

#[test]
fn a_waited_grant_is_dated_by_the_last_moment_at_which_it_had_not_come() {
    run(async {
        let server = Private::start(&[]);
        let (a, b) = (
            process(&server.server(TTL), "a").await,
            process(&server.server(TTL), "b").await,
        );
        let held = exclusive("a1");
        take(&a, &held).await;
        let asked = clock::now();
        let waits = exclusive("b1");
        let waiter = begin(&b, &waits);
        pending(&a, 1).await;
        free(&a, &held).await;
        let freed = clock::now();
        let taken = granted(waiter).await;
        assert!(asked <= taken.leased_at && taken.leased_at <= freed);
        free(&b, &waits).await;

        // A renewal that finds the waiter waiting is later than its question.
        take(&a, &held).await;
        let waits = exclusive("b2");
        let waiter = begin(&b, &waits);
        pending(&a, 1).await;
        tokio::task::yield_now().await;
        let renewed = clock::now();
        assert_eq!(b.backend.renew(vec![waits.clone()]).await.unwrap(), []);
        free(&a, &held).await;
        let freed = clock::now();
        let taken = granted(waiter).await;
        assert!(renewed <= taken.leased_at && taken.leased_at <= freed);
        free(&b, &waits).await;
        assert_clean(&server).await;
    });
}

#[test]
fn a_grant_that_answers_another_question_is_asked_about_and_not_believed() {
    run(async {
        let server = Private::start(&[]);
        let (a, b) = (
            process(&server.server(TTL), "a").await,
            process(&server.server(TTL), "b").await,
        );
        let held = exclusive("a1");
        take(&a, &held).await;
        let waits = exclusive("b1");
        let waiter = begin(&b, &waits);
        pending(&a, 1).await;
        let mut plain = server.plain().await;
        let before = place(&mut plain, "b1").await;
        for stale in ["1", "99999999999999999"] {
            let before = place(&mut plain, "b1").await;
            let () = redis::cmd("PUBLISH")
                .arg(&before[3])
                .arg(format!("b1 7 {stale}"))
                .query_async(&mut plain)
                .await
                .unwrap();
            asks_again(&mut plain, "b1", &before).await;
            assert!(!waiter.is_finished());
        }
        assert_eq!(place(&mut plain, "b1").await[3], before[3]);
        free(&a, &held).await;
        granted(waiter).await;
        free(&b, &waits).await;
    });
}

#[test]
fn a_waiter_that_becomes_the_first_is_told_so() {
    run(async {
        let server = Private::start(&[]);
        let mut plain = server.plain().await;
        let (b, c) = (
            process(&server.server(TTL), "b").await,
            process(&server.server(TTL), "c").await,
        );
        // Nobody renews in this test: without a word the second would never poll, nor come when the key runs out.
        for px in [OLD_TTL_MS, 700] {
            let () = set(px).query_async(&mut plain).await.unwrap();
            let (first, second) = (exclusive("b1"), exclusive("c1"));
            let gives_up = begin(&b, &first);
            pending(&c, 1).await;
            let waiter = begin(&c, &second);
            pending(&b, 2).await;
            gives_up.abort();
            let _ = gives_up.await;
            free(&b, &first).await;
            if px == OLD_TTL_MS {
                del(&mut plain).await;
            }
            granted(waiter).await;
            free(&c, &second).await;
        }
        assert_clean(&server).await;
    });
}

#[test]
fn each_connection_has_a_channel_of_its_own() {
    run(async {
        let server = Private::start(&[]);
        let (a, b) = (
            process(&server.server(TTL), "a").await,
            process(&server.server(TTL), "b").await,
        );
        let held = exclusive("a1");
        take(&a, &held).await;
        let waits = exclusive("b1");
        let waiter = begin(&b, &waits);
        pending(&a, 1).await;
        let mut plain = server.plain().await;
        let before = place(&mut plain, "b1").await;
        let () = redis::cmd("CLIENT")
            .arg("KILL")
            .arg("TYPE")
            .arg("pubsub")
            .query_async(&mut plain)
            .await
            .unwrap();
        let after = asks_again(&mut plain, "b1", &before).await;
        assert_ne!(after[3], before[3]);
        free(&a, &held).await;
        granted(waiter).await;
        free(&b, &waits).await;
    });
}

#[test]
fn a_primary_that_has_become_a_replica_is_waited_for_and_the_connection_replaced() {
    run(async {
        let server = Private::start(&[]);
        let a = process(&server.server(TTL), "a").await;
        let mut plain = server.plain().await;
        let held = exclusive("a1");
        take(&a, &held).await;
        replicate(&mut plain, "127.0.0.1", "1").await;
        let other = support::ask_for("other", "a2", Mode::Exclusive, Attempt::Wait, true);
        for _ in 0..2 {
            let Err(Refusal::Away(error)) = a.backend.acquire(other.clone()).await else {
                panic!("final, or granted")
            };
            assert_eq!(error.kind, Kind::Server);
        }
        assert!(a.backend.release(held.clone()).await.is_err());
        assert!(a.backend.renew(vec![held.clone()]).await.is_err());
        replicate(&mut plain, "NO", "ONE").await;
        take(&a, &other).await;
        assert_eq!(free(&a, &held).await, Released::Freed);
        free(&a, &other).await;
        assert_clean(&server).await;
    });
}

#[test]
fn a_server_without_another_connection_renews_on_the_one_that_is_open() {
    run(async {
        let server = Private::start(&[]);
        let a = process(&server.server(TTL), "a").await;
        let mut plain = server.plain().await;
        let () = redis::cmd("CONFIG")
            .arg("SET")
            .arg("maxclients")
            .arg("1")
            .query_async(&mut plain)
            .await
            .unwrap();
        let held = exclusive("a1");
        let taken = take(&a, &held).await;
        assert_eq!(a.backend.renew(vec![held.clone()]).await.unwrap(), []);
        assert!(held.lease.proven_at().unwrap() > taken.leased_at);
        free(&a, &held).await;
    });
}

#[test]
fn the_connection_for_renewals_is_there_before_the_first_renewal() {
    run(async {
        let server = Private::start(&[]);
        let a = process(&server.server(TTL), "a").await;
        let held = exclusive("a1");
        take(&a, &held).await;
        let mut plain = server.plain().await;
        let until = Instant::now() + LIMIT;
        loop {
            let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut plain).await.unwrap();
            if list.matches(" name=ipc-mutex:a-").count() == 2 {
                break;
            }
            assert!(Instant::now() < until, "{list}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        free(&a, &held).await;
    });
}
