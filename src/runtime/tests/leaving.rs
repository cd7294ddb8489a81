//! The end of a request: it is cleared away until the server has confirmed that.

use super::world::{error, granted, rest, run, until};
use crate::backend::{Refusal, Released};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::Kind;

const FAILURES: [Kind; 4] = [Kind::Auth, Kind::Server, Kind::Tls, Kind::Connect];

#[test]
fn a_withdrawn_wait_is_cleared_away_through_every_failure() {
    run("connect_timeout=60", |world| async move {
        let call = world.lock();
        until("the question", || world.server.acquire.count() == 1).await;
        world.cancel(call);
        for (count, kind) in FAILURES.into_iter().enumerate() {
            until("a release", || world.server.release.count() > count).await;
            world.server.release.says(Err(error(kind)));
        }
        until("the last release", || {
            world.server.release.count() == FAILURES.len() + 1
        })
        .await;
        world.server.release.says(Ok(Released::NotHeld));
        until("the end", || world.entry.leftovers.of("lock").is_none()).await;
        assert!(world.told(call).is_empty());
        assert_eq!(world.requests(), 0);
    });
}

#[test]
fn a_release_is_made_again_after_every_failure_until_it_is_confirmed() {
    run("connect_timeout=60", |world| async move {
        let call = world.held(Mode::Exclusive).await;
        world.release(call);
        for kind in FAILURES {
            world.server.release.says(Err(error(kind)));
        }
        world.server.release.says(Ok(Released::Freed));
        assert_eq!(world.answer_after(call, 1).await, "done");
        assert_eq!(world.server.release.count(), FAILURES.len() + 1);
    });
}

#[test]
fn a_release_that_is_never_confirmed_is_told_after_connect_timeout_and_goes_on() {
    run("connect_timeout=1", |world| async move {
        let call = world.held(Mode::Exclusive).await;
        world.release(call);
        world.server.release.says(Err(error(Kind::Auth)));
        let feed = async {
            loop {
                let known = world.server.release.count();
                world.server.release.says(Err(error(Kind::Auth)));
                until("a release", || world.server.release.count() > known).await;
            }
        };
        tokio::select! {
            told = world.answer_after(call, 1) => assert_eq!(told, "failed ERR_AUTH"),
            () = feed => {}
        }
        let known = world.server.release.count();
        world.server.release.says(Err(error(Kind::Server)));
        until("another release", || world.server.release.count() > known + 1).await;
    });
}

#[test]
fn a_refused_wait_is_told_and_cleared_away_and_the_next_has_its_turn() {
    run("connect_timeout=60", |world| async move {
        let first = world.lock();
        let second = world.lock();
        world.server.acquire.says(Err(Refusal::Failed(error(Kind::Auth))));
        assert_eq!(world.answer(first).await, "failed ERR_AUTH");
        assert_eq!(world.server.acquire.count(), 1);
        world.server.release.says(Err(error(Kind::Auth)));
        world.server.acquire.says(granted(clock::now()));
        assert_eq!(world.answer(second).await, "granted");
        until("another release", || world.server.release.count() == 2).await;
    });
}

#[test]
fn a_lost_hold_is_told_once_and_cleared_away() {
    run("connect_timeout=60", |world| async move {
        let call = world.held(Mode::Exclusive).await;
        let owner = world.server.asked(0).owner.clone();
        for _ in 0..2 {
            let event = crate::backend::Event::Lost {
                owner: owner.clone(),
                error: error(Kind::LockLost),
            };
            world.events.send(event).unwrap();
        }
        assert_eq!(world.answer_after(call, 1).await, "lost");
        until("the release", || world.server.release.count() == 1).await;
        world.server.release.says(Ok(Released::NotHeld));
        until("the end", || world.requests() == 0).await;
        rest().await;
        assert_eq!(world.told(call), ["granted", "lost"]);
        assert!(!world.server.asked(0).lease.is_believed(clock::now()));
    });
}

#[test]
fn closing_waits_for_a_release_that_is_under_way() {
    run("connect_timeout=60", |world| async move {
        let call = world.held(Mode::Exclusive).await;
        world.release(call);
        until("the release", || world.server.release.count() == 1).await;
        let (first, second) = (world.close(), world.close());
        rest().await;
        assert!(world.told(first).is_empty() && world.told(second).is_empty());
        assert!(!world.entry.closed.get());
        let late = world.lock();
        assert_eq!(world.answer(late).await, "failed ERR_NOT_OPEN");
        world.server.release.says(Ok(Released::Freed));
        assert_eq!(world.answer(first).await, "done");
        assert_eq!(world.answer(second).await, "done");
        assert_eq!(world.told(call), ["granted", "done"]);
        assert!(world.entry.closed.get());
    });
}

#[test]
fn what_has_ended_is_forgotten() {
    run("connect_timeout=60", |world| async move {
        for _ in 0..3 {
            let call = world.try_lock();
            world.server.acquire.says(Err(Refusal::Busy));
            assert_eq!(world.answer(call).await, "busy");
        }
        until("the end", || world.requests() == 0).await;
    });
}

#[test]
fn the_last_close_clears_away_what_could_not_be_before() {
    run("connect_timeout=60", |world| async move {
        let call = world.lock();
        until("the question", || world.server.acquire.count() == 1).await;
        world.cancel(call);
        world.server.release.says(Err(error(Kind::Connect)));
        until("the end", || world.requests() == 0).await;
        let closing = world.close();
        until("another release", || world.server.release.count() == 2).await;
        assert!(world.told(closing).is_empty());
        world.server.release.says(Ok(Released::NotHeld));
        assert_eq!(world.answer(closing).await, "done");
    });
}

#[test]
fn a_server_that_never_confirms_holds_up_no_close_for_long() {
    run("connect_timeout=1", |world| async move {
        let call = world.lock();
        until("the question", || world.server.acquire.count() == 1).await;
        world.cancel(call);
        world.server.release.says(Err(error(Kind::Auth)));
        until("the end", || world.requests() == 0).await;
        let closing = world.close();
        assert_eq!(world.answer(closing).await, "done");
        assert!(world.entry.closed.get());
    });
}
