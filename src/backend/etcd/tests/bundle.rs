//! Many locks at once.

use super::*;

const MANY: usize = 100;

fn asks(of: &Process, attempt: Attempt) -> Vec<Rc<Ask>> {
    (0..MANY)
        .map(|n| of.ask(&format!("x{n}"), Mode::Exclusive, attempt))
        .collect()
}

/// All at once; in the order of the asks.
async fn take_all(of: &Process, asks: &[Rc<Ask>]) -> Vec<Result<Taken, Refusal>> {
    let taking: Vec<_> = asks
        .iter()
        .map(|ask| {
            let (backend, ask) = (of.backend.clone(), ask.clone());
            spawn_local(async move { backend.acquire(ask).await })
        })
        .collect();
    let mut taken = Vec::new();
    for task in taking {
        taken.push(timeout(LIMIT, task).await.unwrap().unwrap());
    }
    taken
}

async fn give_all_back(of: &Process, asks: &[Rc<Ask>]) -> Vec<Released> {
    let leaving: Vec<_> = asks
        .iter()
        .map(|ask| {
            let (backend, ask) = (of.backend.clone(), ask.clone());
            spawn_local(async move { backend.release(ask).await.unwrap() })
        })
        .collect();
    let mut left = Vec::new();
    for task in leaving {
        left.push(timeout(LIMIT, task).await.unwrap().unwrap());
    }
    left
}

fn tokens(taken: &[Result<Taken, Refusal>]) -> Vec<u64> {
    taken
        .iter()
        .map(|taken| taken.as_ref().unwrap().token.unwrap())
        .collect()
}

#[test]
fn many_locks_at_once_are_taken_in_few_messages_and_tokens_of_each_grow() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let mine = asks(&a, Attempt::Wait);
        // The first one opens the session.
        a.take(&mine[0]).await;
        a.backend.release(mine[0].clone()).await.unwrap();
        let mut last = vec![0; MANY];
        for _ in 0..3 {
            let mine = asks(&a, Attempt::Wait);
            let now = tokens(&take_all(&a, &mine).await);
            assert!(now.iter().zip(&last).all(|(now, last)| now > last));
            let revisions: HashSet<_> = now.iter().collect();
            assert!(revisions.len() <= 2, "{} messages", revisions.len());
            last = now;
            assert!(
                give_all_back(&a, &mine)
                    .await
                    .iter()
                    .all(|left| *left == Released::Freed)
            );
        }
        // And when somebody else waits for all of them.
        let mine = asks(&a, Attempt::Wait);
        take_all(&a, &mine).await;
        let others = asks(&b, Attempt::Wait);
        let waiting: Vec<_> = others.iter().map(|ask| b.take_later(ask)).collect();
        for n in 0..MANY {
            until_pending(&a, &format!("x{n}"), 1).await;
        }
        assert!(waiting.iter().all(|waiter| !waiter.is_finished()));
        assert!(
            give_all_back(&a, &mine)
                .await
                .iter()
                .all(|left| *left == Released::Freed)
        );
        for (waiter, last) in waiting.into_iter().zip(&last) {
            assert!(timeout(LIMIT, waiter).await.unwrap().unwrap().token.unwrap() > *last);
        }
        give_all_back(&b, &others).await;
        a.backend.close().await;
        b.backend.close().await;
    });
}

#[test]
fn of_many_locks_at_once_one_that_is_taken_is_refused_and_the_others_are_not() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        let held = b.ask("x7", Mode::Exclusive, Attempt::Try);
        b.take(&held).await;
        let tries = asks(&a, Attempt::Try);
        for (n, taken) in take_all(&a, &tries).await.into_iter().enumerate() {
            assert_eq!(taken == Err(Refusal::Busy), n == 7, "{n}: {taken:?}");
        }
        for (n, left) in give_all_back(&a, &tries).await.into_iter().enumerate() {
            assert_eq!(left == Released::NotHeld, n == 7, "{n}: {left:?}");
        }
        assert_eq!(b.backend.release(held).await.unwrap(), Released::Freed);
        a.backend.close().await;
        b.backend.close().await;
    });
}

#[test]
fn two_asks_for_the_same_lock_at_once_are_let_in_one_after_the_other() {
    run(async {
        let etcd = start();
        let a = process(&etcd.server(TTL), "a").await;
        let asks = [(); 2].map(|()| a.ask("x", Mode::Exclusive, Attempt::Wait));
        let [first, second] = asks.each_ref().map(|ask| a.take_later(ask));
        until_pending(&a, "x", 1).await;
        // The server has let one of them in, which hears of it a moment later.
        let deadline = Instant::now() + LIMIT;
        while !first.is_finished() && !second.is_finished() {
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(1)).await;
        }
        let (held, waits) = if first.is_finished() { (0, second) } else { (1, first) };
        assert!(!waits.is_finished());
        assert_eq!(a.backend.release(asks[held].clone()).await.unwrap(), Released::Freed);
        timeout(LIMIT, waits).await.unwrap().unwrap();
        assert_eq!(
            a.backend.release(asks[1 - held].clone()).await.unwrap(),
            Released::Freed
        );
        a.backend.close().await;
    });
}

#[test]
fn those_that_are_cancelled_among_many_leave_nothing_and_the_others_come_in() {
    run(async {
        let etcd = start();
        let server = etcd.server(TTL);
        let a = process(&server, "a").await;
        let b = process(&server, "b").await;
        for micros in (0..4000).step_by(250) {
            let mine = asks(&a, Attempt::Wait);
            let taking: Vec<_> = mine.iter().map(|ask| a.take_later(ask)).collect();
            if micros > 0 {
                sleep(Duration::from_micros(micros)).await;
            }
            for task in taking.iter().step_by(2) {
                task.abort();
            }
            let quit: Vec<_> = mine.iter().step_by(2).cloned().collect();
            give_all_back(&a, &quit).await;
            for task in taking.into_iter().skip(1).step_by(2) {
                timeout(LIMIT, task).await.unwrap().unwrap();
            }
            for n in (0..MANY).step_by(10) {
                let seen = b.backend.query(format!("x{n}").into()).await.unwrap();
                assert_eq!(seen, Snapshot::default(), "x{n} after {micros} us");
            }
            let stayed: Vec<_> = mine.iter().skip(1).step_by(2).cloned().collect();
            assert!(
                give_all_back(&a, &stayed)
                    .await
                    .iter()
                    .all(|left| *left == Released::Freed)
            );
        }
        a.backend.close().await;
        b.backend.close().await;
    });
}
