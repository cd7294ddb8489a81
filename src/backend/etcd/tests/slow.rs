//! A server that is far away.

use super::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How much later an answer comes.
const DELAY: Duration = Duration::from_millis(200);
/// How often a machine that stands still now and then may be slow.
const TRIES: usize = 5;

/// The same server at another port, from where each answer takes [`DELAY`].
async fn far(server: &Server) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut far = server.clone();
    let near = far.addresses[0].port;
    far.addresses[0].port = listener.local_addr().unwrap().port();
    spawn_local(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(("127.0.0.1", near)).await.unwrap();
            server.set_nodelay(true).unwrap();
            client.set_nodelay(true).unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            spawn_local(carry(from_client, to_server, Duration::ZERO));
            spawn_local(carry(from_server, to_client, DELAY));
        }
    });
    far
}

async fn carry(mut from: impl AsyncRead + Unpin + 'static, mut to: impl AsyncWrite + Unpin + 'static, delay: Duration) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    spawn_local(async move {
        while let Some((due, data)) = receiver.recv().await {
            let data: Vec<u8> = data;
            tokio::time::sleep_until(due).await;
            if to.write_all(&data).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let _ = sender.send((tokio::time::Instant::now() + delay, buffer[..length].to_vec()));
    }
}

#[test]
fn a_thousand_holds_are_renewed_in_as_many_round_trips_as_one() {
    // So many that one read after the other would take `READS` round trips.
    const READS: u32 = 25;
    run(async {
        let etcd = start();
        let near = process(&etcd.server(TTL), "near").await;
        let a = process(&far(&etcd.server(TTL)).await, "a").await;
        let asks: Vec<_> = (0..60 * READS)
            .map(|n| a.ask(&format!("x{n}"), Mode::Exclusive, Attempt::Wait))
            .collect();
        futures_of(&a, &asks).await;
        let mut quickest = LIMIT;
        for _ in 0..TRIES {
            let begun = Instant::now();
            assert_eq!(a.backend.renew(asks.clone()).await.unwrap(), []);
            quickest = quickest.min(begun.elapsed());
            if quickest < DELAY * READS / 2 {
                break;
            }
        }
        assert!(quickest < DELAY * READS / 2, "{quickest:?}");
        closed_in_time([a, near]).await;
    });
}

/// Takes all these locks at the same time.
async fn futures_of(process: &Process, asks: &[Rc<Ask>]) {
    let waiting: Vec<_> = asks.iter().map(|ask| process.take_later(ask)).collect();
    for (ask, taken) in asks.iter().zip(waiting) {
        let taken = timeout(LIMIT, taken).await.unwrap().unwrap();
        ask.stage.set(Stage::Held);
        ask.lease.begin(taken.leased_at, clock::now());
    }
}

#[test]
fn leaving_many_locks_that_others_wanted_takes_few_round_trips() {
    const LOCKS: u32 = 40;
    run(async {
        let server = start();
        let mut quickest = LIMIT;
        for _ in 0..TRIES {
            let (events, _heard) = mpsc::unbounded_channel();
            let identity = Arc::new(Identity {
                host: "a".into(),
                pid: 7,
                instance: "0".repeat(32),
            });
            let near = process(&server.server(TTL), "near").await;
            let etcd = open(&far(&server.server(TTL)).await, Context { identity, events }).await;
            let etcd = etcd.unwrap();
            let ids: Vec<String> = (0..LOCKS).map(|n| format!("x{n}")).collect();
            let marks = ids.iter().map(|id| {
                let (etcd, id) = (etcd.clone(), id.clone());
                spawn_local(async move {
                    etcd.demand.saw_demand(&id);
                    etcd.mark_demand(&id, &keys::Keys::new(&id)).await;
                })
            });
            for mark in marks.collect::<Vec<_>>() {
                mark.await.unwrap();
            }
            let mut raw = Client::connect([format!("127.0.0.1:{}", server.port)], None)
                .await
                .unwrap();
            let before = raw.leases().await.unwrap().leases().len();
            assert!(before >= LOCKS as usize, "{before} leases");
            let begun = Instant::now();
            etcd.end().await;
            quickest = quickest.min(begun.elapsed());
            until_leases(&mut raw, 0).await;
            near.backend.close().await;
            if quickest < DELAY * LOCKS / 2 {
                break;
            }
        }
        assert!(quickest < DELAY * LOCKS / 2, "{quickest:?}");
    });
}
