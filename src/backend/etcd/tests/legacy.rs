//! Beside 1.1.2 processes.

use super::*;
use etcd_client::TxnOp;

const MAIN: &str = "IPC-Mutex-RPM-x-lock";
const GAP: &str = "IPC-Mutex-RPM-x-gap";
const BREATH: &str = "IPC-Mutex-RPM-x-breath";

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

/// Keeps `x` free for 1.1.2 for as long as a gap may last.
async fn put_gap(raw: &mut Client) {
    raw.put(GAP, "3000", None).await.unwrap();
}

#[test]
fn it_excludes_1_1_2_and_lets_it_in() {
    run(async {
        let etcd = start();
        let server = etcd.server(5);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let renewals = [a.keep_alive(), b.keep_alive()];
        let inside = Rc::new(Cell::new(0));
        let done = Rc::new(Cell::new(false));
        let mut raw = raw(&etcd).await;
        // How often it asked in vain before each of its turns. Room is made after 15 seconds, and again a second after it
        // was seen; it asks twice a second at most, and less often on a busy machine.
        let grants: Rc<[Cell<u32>; 4]> = Rc::default();
        let legacy = {
            let (inside, grants) = (inside.clone(), grants.clone());
            spawn_local(async move {
                let mut in_vain = Vec::new();
                while grants.iter().any(|grants| grants.get() < 5) {
                    sleep(Duration::from_millis(10)).await;
                }
                for limit in [36, 12, 12] {
                    let mut count = 0;
                    loop {
                        let lease = raw.lease_grant(30, None).await.unwrap().id();
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
            timeout(Duration::from_secs(5), one).await.unwrap().unwrap();
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
        let server = etcd.server(5);
        let mut raw = raw(&etcd).await;
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        for mode in [Mode::Exclusive, Mode::Shared] {
            put_gap(&mut raw).await;
            let quits = a.ask("x", mode, Attempt::Wait);
            let first = a.take_later(&quits);
            until_pending(&a, "x", 1).await;
            let stays = b.ask("x", mode, Attempt::Wait);
            let second = b.take_later(&stays);
            until_pending(&a, "x", 2).await;
            first.abort();
            a.backend.release(quits).await.unwrap();
            until_pending(&a, "x", 1).await;
            let lease = raw.lease_grant(30, None).await.unwrap().id();
            assert!(old_try(&mut raw, lease).await);
            raw.lease_revoke(lease).await.unwrap();
            timeout(Duration::from_secs(10), second).await.unwrap().unwrap();
            assert!(!key_exists(&mut raw, GAP).await);
            b.backend.release(stays).await.unwrap();
        }
        a.backend.close().await;
        b.backend.close().await;
    });
}

#[test]
fn room_that_nobody_waits_behind_does_not_keep_out_a_mere_try() {
    run(async {
        let etcd = start();
        let mut raw = raw(&etcd).await;
        let a = process(&etcd.server(5), "a").await;
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
        let server = etcd.server(5);
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
        assert!(key_exists(&mut raw, BREATH).await);
        b.backend.release(waits).await.unwrap();
        assert!(key_exists(&mut raw, BREATH).await);
        b.backend.close().await;
        assert!(!key_exists(&mut raw, BREATH).await);
        assert!(raw.leases().await.unwrap().leases().is_empty());
    });
}
