//! Who comes in, and in which order.

use super::*;

#[test]
fn hand_over_goes_in_order_and_tokens_grow() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
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
            let next = timeout(LIMIT, &mut waiting[n]).await.unwrap().unwrap().token;
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
        let server = etcd.server(TTL);
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
        let t3 = timeout(LIMIT, writer).await.unwrap().unwrap();
        assert!(t3.token > t2.token);
        assert!(later.iter().all(|reader| !reader.is_finished()));
        assert_eq!(a.backend.release(w).await.unwrap(), Released::Freed);
        for reader in later {
            let taken = timeout(LIMIT, reader).await.unwrap().unwrap();
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
        let server = etcd.server(TTL);
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
        timeout(LIMIT, second).await.unwrap().unwrap();
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
