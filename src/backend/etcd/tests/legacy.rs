//! Beside 1.1.2 processes.

use super::*;
use etcd_client::TxnOp;

const MAIN: &str = "IPC-Mutex-RPM-x-lock";
const GAP: &str = "IPC-Mutex-RPM-x-gap";
const DEMAND: &str = "IPC-Mutex-RPM-x-demand";
/// How long `x` is kept free by [`put_gap`]: the longest time that a gap may last.
const GAP_TIME: Duration = Duration::from_secs(3);

/// What a 1.1.2 process does to get lock `x`, under `lease`.
async fn old_try(raw: &mut Client, lease: i64) -> bool {
    let txn = Txn::new()
        .when([keys::absent(MAIN)])
        .and_then([TxnOp::put(MAIN, "", Some(keys::lease_of(lease)))]);
    raw.txn(txn).await.unwrap().succeeded()
}

async fn raw(etcd: &PrivateServer) -> Client {
    Client::connect([format!("127.0.0.1:{}", etcd.port)], None)
        .await
        .unwrap()
}

async fn key_exists(raw: &mut Client, key: &str) -> bool {
    !raw.get(key, None).await.unwrap().kvs().is_empty()
}

/// Keeps `x` free for 1.1.2. Gives the moment before which none of ours may take it.
async fn put_gap(raw: &mut Client) -> Instant {
    let until = Instant::now() + GAP_TIME;
    let value = GAP_TIME.as_millis().to_string();
    raw.put(GAP, value, None).await.unwrap();
    until
}

/// Until as many wait for `x`, and nobody has it. `false` if it may be had again.
async fn pending_in_gap(of: &Process, count: usize, until: Instant) -> bool {
    loop {
        let seen = of.backend.query("x".into()).await.unwrap();
        if Instant::now() >= until {
            return false;
        }
        assert!(seen.held.is_empty(), "{seen:?}");
        if seen.pending.len() == count {
            return true;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn it_excludes_1_1_2_and_lets_it_in() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let renewals = [a.keep_alive(), b.keep_alive()];
        let inside = Rc::new(Cell::new(0));
        let done = Rc::new(Cell::new(false));
        let mut raw = raw(&etcd).await;
        // How often it asked in vain before each of its turns. Room is made after 15 seconds, and again a second after it
        // was seen; it asks twice a second at most, and less often on a busy machine, which may also miss some of the room.
        let grants: Rc<[Cell<u32>; 4]> = Rc::default();
        let legacy = {
            let (inside, grants) = (inside.clone(), grants.clone());
            spawn_local(async move {
                let mut in_vain = Vec::new();
                while grants.iter().any(|grants| grants.get() < 5) {
                    sleep(Duration::from_millis(10)).await;
                }
                for limit in [4 * 36, 8 * 12, 8 * 12] {
                    let mut count = 0;
                    loop {
                        let lease = raw.lease_grant(600, None).await.unwrap().id();
                        if old_try(&mut raw, lease).await {
                            inside.set(inside.get() + 1);
                            assert_eq!(inside.get(), 1);
                            sleep(Duration::from_millis(5)).await;
                            assert_eq!(inside.get(), 1);
                            inside.set(0);
                            raw.lease_revoke(lease).await.unwrap();
                            break;
                        }
                        raw.lease_revoke(lease).await.unwrap();
                        count += 1;
                        assert!(count <= limit, "{count} times in vain, after {in_vain:?}");
                        sleep(Duration::from_millis(500)).await;
                    }
                    in_vain.push(count);
                    // It does other things between its turns; the room that let it in is over by then.
                    sleep(Duration::from_secs(1)).await;
                }
                in_vain
            })
        };
        let mut loops = Vec::new();
        let a = Rc::new(a);
        let b = Rc::new(b);
        for (index, of) in [&a, &b, &a, &b].into_iter().enumerate() {
            let (of, inside, done, grants) = (of.clone(), inside.clone(), done.clone(), grants.clone());
            loops.push(spawn_local(async move {
                while !done.get() {
                    let ask = of.ask("x", Mode::Exclusive, Attempt::Wait);
                    of.take(&ask).await;
                    inside.set(inside.get() + 1);
                    assert_eq!(inside.get(), 1);
                    grants[index].set(grants[index].get() + 1);
                    sleep(Duration::from_millis(2)).await;
                    assert_eq!(inside.get(), 1);
                    inside.set(0);
                    of.backend.release(ask).await.unwrap();
                }
            }));
        }
        let in_vain = legacy.await.unwrap();
        done.set(true);
        for one in loops {
            timeout(LIMIT, one).await.unwrap().unwrap();
        }
        renewals.iter().for_each(|renewal| renewal.abort());
        eprintln!("1.1.2 asked in vain {in_vain:?} times, ours were in {grants:?} times");
        a.backend.close().await;
        b.backend.close().await;
    });
}

#[test]
fn room_stays_free_for_1_1_2_whoever_of_ours_comes_or_goes_meanwhile() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let mut raw = raw(&etcd).await;
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        for mode in [Mode::Exclusive, Mode::Shared] {
            // Nothing is shown by a time that was over before the old one asked.
            let deadline = Instant::now() + LIMIT;
            while !stays_free(&a, &b, &mut raw, mode).await {
                assert!(Instant::now() < deadline);
            }
        }
        a.backend.close().await;
        b.backend.close().await;
    });
}

/// Whether there was time to see it.
async fn stays_free(a: &Process, b: &Process, raw: &mut Client, mode: Mode) -> bool {
    let until = put_gap(raw).await;
    let quits = a.ask("x", mode, Attempt::Wait);
    let first = a.take_later(&quits);
    let mut in_time = pending_in_gap(a, 1, until).await;
    let stays = b.ask("x", mode, Attempt::Wait);
    let second = b.take_later(&stays);
    in_time = in_time && pending_in_gap(a, 2, until).await;
    first.abort();
    a.backend.release(quits).await.unwrap();
    in_time = in_time && pending_in_gap(a, 1, until).await;
    let lease = raw.lease_grant(600, None).await.unwrap().id();
    let came_in = old_try(raw, lease).await;
    in_time = in_time && Instant::now() < until;
    assert!(came_in || !in_time);
    raw.lease_revoke(lease).await.unwrap();
    timeout(LIMIT, second).await.unwrap().unwrap();
    assert!(!key_exists(raw, GAP).await);
    b.backend.release(stays).await.unwrap();
    in_time
}

#[test]
fn room_that_nobody_waits_behind_does_not_keep_out_a_mere_try() {
    run(async {
        let etcd = start();
        let mut raw = raw(&etcd).await;
        let a = process(&etcd.server(TTL), "a").await;
        for mode in [Mode::Exclusive, Mode::Shared] {
            put_gap(&mut raw).await;
            let ask = a.ask("x", mode, Attempt::Try);
            a.take(&ask).await;
            a.backend.release(ask).await.unwrap();
        }
        a.backend.close().await;
    });
}

#[test]
fn what_is_known_of_the_demand_outlives_the_process_that_saw_it_first_and_goes_with_the_last() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let mut raw = raw(&etcd).await;
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let held = a.ask("x", Mode::Exclusive, Attempt::Wait);
        a.take(&held).await;
        let waits = b.ask("x", Mode::Exclusive, Attempt::Wait);
        let waiter = b.take_later(&waits);
        until_pending(&a, "x", 1).await;
        a.backend.release(held).await.unwrap();
        waiter.await.unwrap();
        a.backend.close().await;
        assert!(key_exists(&mut raw, DEMAND).await);
        b.backend.release(waits).await.unwrap();
        assert!(key_exists(&mut raw, DEMAND).await);
        if closed_in_time([b]).await {
            assert!(!key_exists(&mut raw, DEMAND).await);
            until_leases(&mut raw, 0).await;
        }
    });
}
