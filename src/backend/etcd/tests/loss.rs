//! Holds that the server no longer has, and a server that goes away.

use super::*;

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
