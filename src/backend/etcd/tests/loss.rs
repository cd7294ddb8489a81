//! Holds that the server no longer has, and a server that goes away.

use super::*;

#[test]
fn a_dead_holders_lock_goes_to_the_waiter_when_its_lease_ends() {
    run(async {
        let etcd = start();
        let short = 4;
        let a = process(&etcd.server(short), "a").await;
        let b = process(&etcd.server(TTL), "b").await;
        for mode in [Mode::Exclusive, Mode::Shared] {
            let at = Instant::now();
            let held = a.ask("x", mode, Attempt::Wait);
            a.take(&held).await;
            let waits = b.ask("x", Mode::Exclusive, Attempt::Wait);
            let waiter = b.take_later(&waits);
            while !waiter.is_finished() {
                assert!(at.elapsed() < LIMIT);
                b.backend.renew(vec![waits.clone()]).await.unwrap();
                sleep(Duration::from_millis(300)).await;
            }
            assert!(at.elapsed() > Duration::from_secs(short));
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

/// Takes all events.
fn was_told_of_loss(process: &Process, ask: &Ask) -> bool {
    let mut events = process.events.borrow_mut();
    let mut told = false;
    while let Ok(event) = events.try_recv() {
        told |= matches!(event, Event::Lost { owner, .. } if owner == ask.owner);
    }
    told
}

#[test]
fn a_deleted_key_and_a_revoked_lease_are_noticed_by_the_renewal() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
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
            let mut lost = a.backend.renew(vec![held.clone(), other.clone()]).await.unwrap();
            if lost.is_empty() {
                // A hold that is not quite new is watched: it may be given up while the renewal is on its way.
                assert!(was_told_of_loss(&a, &held));
                lost = a.backend.renew(vec![held.clone(), other.clone()]).await.unwrap();
            }
            assert_eq!(lost, vec![held.owner.clone()]);
            a.backend.release(held).await.unwrap();
            for lease in raw.leases().await.unwrap().leases() {
                // One of them may just be ending.
                let _ = raw.lease_revoke(lease.id()).await;
            }
            until_leases(&mut raw, 0).await;
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
        let server = etcd.server(TTL);
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
                        Err(Refusal::Away(_)) => sleep(Duration::from_millis(20)).await,
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        };
        until_pending(&a, "x", 1).await;
        etcd.restart();
        let deadline = Instant::now() + LIMIT;
        while let Err(error) = a.backend.renew(vec![held.clone()]).await {
            assert_eq!(error.kind, Kind::Connect, "{error:?}");
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(a.backend.release(held).await.unwrap(), Released::Freed);
        let after = timeout(LIMIT, waiter).await.unwrap().unwrap();
        assert!(after.token > before.token);
        b.backend.release(waits).await.unwrap();
    });
}
