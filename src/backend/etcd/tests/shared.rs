//! Shared holds and the leases that they keep alive together.

use super::*;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What one side says before the other one is heard.
const QUIET: Duration = Duration::from_millis(25);

/// A way to the server on which, once it is slow, both sides speak in turn, each until it is silent for a moment: what
/// is sent without waiting for answers is one round, however much it is.
struct Rounds {
    port: u16,
    slow: Rc<Cell<bool>>,
    /// Of each connection, in the order in which they were made.
    counts: Rc<RefCell<Vec<u32>>>,
}

impl Rounds {
    async fn to(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let rounds = Self {
            port: listener.local_addr().unwrap().port(),
            slow: Rc::default(),
            counts: Rc::default(),
        };
        let (slow, counts) = (rounds.slow.clone(), rounds.counts.clone());
        spawn_local(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await.unwrap();
                let index = counts.borrow().len();
                counts.borrow_mut().push(0);
                spawn_local(speak(client, server, slow.clone(), counts.clone(), index));
            }
        });
        rounds
    }
}

/// Until one side hangs up.
async fn speak(
    mut client: TcpStream,
    mut server: TcpStream,
    slow: Rc<Cell<bool>>,
    counts: Rc<RefCell<Vec<u32>>>,
    index: usize,
) -> Option<()> {
    loop {
        let quiet = if slow.get() { QUIET } else { Duration::from_micros(100) };
        let question = hear(&mut client, quiet).await?;
        if !question.is_empty() {
            counts.borrow_mut()[index] += 1;
            server.write_all(&question).await.ok()?;
        }
        let answer = hear(&mut server, quiet).await?;
        client.write_all(&answer).await.ok()?;
    }
}

/// All that is said until there is silence; `None` when there will be no more.
async fn hear(stream: &mut TcpStream, quiet: Duration) -> Option<Vec<u8>> {
    let mut words = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        match timeout(quiet, stream.read(&mut buffer)).await {
            Err(_) => return Some(words),
            Ok(Ok(0) | Err(_)) => return None,
            Ok(Ok(count)) => words.extend_from_slice(&buffer[..count]),
        }
    }
}

#[test]
fn many_shared_holds_are_renewed_in_a_few_rounds() {
    run(async {
        let etcd = start();
        let direct = process(&etcd.server(TTL), "direct").await;
        let rounds = Rounds::to(etcd.port).await;
        let mut server = etcd.server(TTL);
        server.addresses[0].port = rounds.port;
        let a = process(&server, "a").await;
        let mut asks = Vec::new();
        for number in 0..200 {
            let ask = a.ask(&format!("x{number}"), Mode::Shared, Attempt::Wait);
            asks.push((ask.clone(), a.take_later(&ask)));
        }
        let mut held = Vec::new();
        for (ask, taken) in asks {
            timeout(LIMIT, taken).await.unwrap().unwrap();
            ask.stage.set(Stage::Held);
            held.push(ask);
        }
        assert_eq!(a.backend.renew(held.clone()).await.unwrap(), vec![]);
        // The one for renewals is used first by them.
        let renewer = rounds.counts.borrow().len() - 1;
        rounds.counts.borrow_mut()[renewer] = 0;
        rounds.slow.set(true);
        let lost = direct.backend.query("x7".into()).await.unwrap();
        assert_eq!(lost.held.len(), 1);
        assert_eq!(a.backend.renew(held.clone()).await.unwrap(), vec![]);
        let count = rounds.counts.borrow()[renewer];
        eprintln!("{count} rounds");
        assert!(count <= 40, "{count} rounds for {} holds", held.len());
        rounds.slow.set(false);
        a.backend.close().await;
        direct.backend.close().await;
    });
}

#[test]
fn a_shared_ask_that_is_withdrawn_at_any_moment_leaves_no_key_and_no_lease() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let renewals = [a.keep_alive(), b.keep_alive()];
        let mut raw = Client::connect([format!("127.0.0.1:{}", etcd.port)], None)
            .await
            .unwrap();
        let first = a.ask("warm", Mode::Shared, Attempt::Wait);
        a.take(&first).await;
        a.backend.release(first).await.unwrap();
        for micros in (0..6000).step_by(100) {
            let ask = a.ask("x", Mode::Shared, Attempt::Wait);
            let _ = timeout(Duration::from_micros(micros), a.backend.acquire(ask.clone())).await;
            a.backend.release(ask).await.unwrap();
            let seen = a.backend.query("x".into()).await.unwrap();
            assert_eq!(seen, Snapshot::default());
        }
        until_leases(&mut raw, 1).await;
        // With another reader who may join meanwhile, and must keep what it has.
        for micros in (0..6000).step_by(200) {
            let quits = a.ask("x", Mode::Shared, Attempt::Wait);
            let stays = b.ask("x", Mode::Shared, Attempt::Wait);
            let other = b.take_later(&stays);
            let _ = timeout(Duration::from_micros(micros), a.backend.acquire(quits.clone())).await;
            a.backend.release(quits).await.unwrap();
            timeout(LIMIT, other).await.unwrap().unwrap();
            stays.stage.set(Stage::Held);
            assert_eq!(b.backend.renew(vec![stays.clone()]).await.unwrap(), vec![]);
            b.backend.release(stays).await.unwrap();
        }
        until_leases(&mut raw, 2).await;
        renewals.iter().for_each(|renewal| renewal.abort());
        if closed_in_time([a, b]).await {
            until_leases(&mut raw, 0).await;
        }
    });
}

#[test]
fn what_is_withdrawn_at_any_moment_leaves_no_lease_behind_the_end_of_its_session() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let mut raw = Client::connect([format!("127.0.0.1:{}", etcd.port)], None)
            .await
            .unwrap();
        for mode in [Mode::Exclusive, Mode::Shared] {
            let mut micros = 0;
            // Until the lock was reached in time, more than once: so every moment before that was one to withdraw in.
            let mut reached = 0;
            while reached < 3 {
                let a = process(&server, "a").await;
                let ask = a.ask("x", mode, Attempt::Wait);
                let answer = timeout(Duration::from_micros(micros), a.backend.acquire(ask.clone())).await;
                reached += u32::from(answer.is_ok());
                micros += 200;
                a.backend.release(ask).await.unwrap();
                // Nothing is waited for here: what is left is left for good.
                if closed_in_time([a]).await {
                    assert_eq!(
                        raw.leases().await.unwrap().leases().len(),
                        0,
                        "{mode:?} after {micros} µs"
                    );
                }
                until_leases(&mut raw, 0).await;
            }
        }
    });
}

#[test]
fn a_try_that_was_refused_after_a_lost_answer_cannot_come_in_later() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let a = process(&server, "a").await;
        let (sender, _events) = mpsc::unbounded_channel();
        let identity = std::sync::Arc::new(Identity {
            host: "b".into(),
            pid: 7,
            instance: "0".repeat(32),
        });
        let b = open(
            &server,
            Context {
                identity,
                events: sender,
            },
        )
        .await
        .unwrap();
        let mut raw = Client::connect([format!("127.0.0.1:{}", etcd.port)], None)
            .await
            .unwrap();
        for mode in [Mode::Exclusive, Mode::Shared] {
            let held = a.ask("x", Mode::Exclusive, Attempt::Wait);
            a.take(&held).await;
            let refused = a.ask("x", mode, Attempt::Try);
            let lease = b.session(&keys::Keys::new("x")).await.unwrap().lease;
            b.unsure.borrow_mut().insert(refused.owner.clone(), lease);
            assert_eq!(b.acquire(refused.clone()).await, Err(Refusal::Busy));
            let tombstone = format!("IPC-Mutex-RPM-x-gone/{}", refused.owner.0);
            assert_eq!(raw.get(tombstone, None).await.unwrap().kvs().len(), 1);
            a.backend.release(held).await.unwrap();
        }
        a.backend.close().await;
        b.close().await;
    });
}
