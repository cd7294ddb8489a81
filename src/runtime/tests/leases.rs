//! Belief: what each hold is renewed by, and when it ends.

use super::world::{RENEW_EVERY, TTL, error, granted, rest, run, until};
use crate::backend::{Event, Refusal, Released};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::Kind;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn each_hold_lives_by_its_own_proof() {
    run("connect_timeout=60", |world| async move {
        let (one, other) = (world.held(Mode::Shared).await, world.held(Mode::Shared).await);
        let first = world.server.asked(0).owner.clone();
        world.pass(RENEW_EVERY);
        until("a renewal", || world.server.renew.count() == 1).await;
        assert_eq!(world.server.renewed().len(), 2);
        world.server.renew.says(Box::new(move |asks| {
            let proven = asks.iter().filter(|ask| ask.owner == first);
            proven.for_each(|ask| ask.prove(clock::now()));
            Ok(vec![])
        }));
        rest().await;
        world.pass(TTL - RENEW_EVERY);
        assert_eq!(world.answer_after(other, 1).await, "lost");
        rest().await;
        assert_eq!(world.told(one), ["granted"]);
        assert!(world.server.asked(0).lease.is_believed(clock::now()));
    });
}

#[test]
fn a_renewal_that_fails_takes_nothing_back_and_comes_again_soon() {
    run("connect_timeout=60", |world| async move {
        let call = world.held(Mode::Exclusive).await;
        world.pass(RENEW_EVERY);
        until("a renewal", || world.server.renew.count() == 1).await;
        let sent = clock::now();
        world.server.renew.says(Box::new(move |asks| {
            asks[0].prove(sent);
            Err(error(Kind::Server))
        }));
        rest().await;
        assert_eq!(world.server.asked(0).lease.proven_at(), Some(sent));
        world.pass(SECOND);
        until("another renewal", || world.server.renew.count() == 2).await;
        assert_eq!(world.told(call), ["granted"]);
    });
}

#[test]
fn what_the_server_no_longer_has_is_lost() {
    run("connect_timeout=60", |world| async move {
        let call = world.held(Mode::Exclusive).await;
        world.pass(RENEW_EVERY);
        let owner = world.server.asked(0).owner.clone();
        world.server.renew.says(Box::new(move |_| Ok(vec![owner])));
        assert_eq!(world.answer_after(call, 1).await, "lost");
    });
}

#[test]
fn a_grant_that_is_older_than_its_lease_is_never_believed_but_asked_for_again() {
    run("connect_timeout=60", |world| async move {
        let call = world.lock();
        world.server.acquire.says(granted(clock::now() - TTL));
        until("another question", || world.server.acquire.count() == 2).await;
        assert!(world.told(call).is_empty());
        assert_eq!(world.server.asked(0).owner, world.server.asked(1).owner);
        world.server.acquire.says(granted(clock::now()));
        assert_eq!(world.answer(call).await, "granted");
    });
}

#[test]
fn a_server_whose_grants_are_always_too_old_is_told_as_a_loss_and_has_nothing_left() {
    run("connect_timeout=60", |world| async move {
        let call = world.lock();
        for _ in 0..3 {
            world.server.acquire.says(granted(clock::now() - TTL));
        }
        assert_eq!(world.answer(call).await, "failed ERR_LOCK_LOST");
        until("the release", || world.server.release.count() == 1).await;
    });
}

#[test]
fn an_old_grant_is_renewed_at_once() {
    run("connect_timeout=60", |world| async move {
        let call = world.lock();
        world.server.acquire.says(granted(clock::now() - RENEW_EVERY));
        assert_eq!(world.answer(call).await, "granted");
        until("a renewal", || world.server.renew.count() == 1).await;
        assert_eq!(world.server.renewed()[0].owner, world.server.asked(0).owner);
    });
}

#[test]
fn a_renewal_that_hangs_does_not_keep_others_waiting() {
    run("connect_timeout=60", |world| async move {
        world.held(Mode::Shared).await;
        world.pass(RENEW_EVERY);
        until("a renewal", || world.server.renew.count() == 1).await;
        let late = world.request(Mode::Shared, crate::backend::Attempt::Wait);
        world.server.acquire.says(granted(clock::now() - RENEW_EVERY));
        assert_eq!(world.answer(late).await, "granted");
        until("another renewal", || world.server.renew.count() == 2).await;
        let renewed = world.server.renewed();
        assert_eq!(renewed.len(), 1);
        assert_eq!(renewed[0].owner, world.server.asked(1).owner);
        // The one that hangs is not left to that for ever.
        world.pass(RENEW_EVERY);
        until("a third renewal", || world.server.renew.count() == 3).await;
        assert_eq!(world.server.renewed().len(), 2);
        // Nor is a silent server asked without end.
        for _ in 0..5 {
            world.pass(RENEW_EVERY / 2);
            rest().await;
        }
        assert!(world.server.renew.count() <= 4);
    });
}

#[test]
fn a_loss_that_is_heard_before_the_grant_is_told_after_it() {
    run("connect_timeout=60", |world| async move {
        let call = world.lock();
        until("the question", || world.server.acquire.count() == 1).await;
        let owner = world.server.asked(0).owner.clone();
        world.entry.lose_owner(&owner, |_| error(Kind::LockLost));
        world.server.acquire.says(granted(clock::now()));
        assert_eq!(world.answer_after(call, 1).await, "lost");
        assert_eq!(world.told(call), ["granted", "lost"]);
        world.server.release.says(Ok(Released::NotHeld));
        until("the end", || world.requests() == 0).await;
    });
}

#[test]
fn a_wait_that_ends_while_the_server_is_away_says_so() {
    run("connect_timeout=60", |world| async move {
        let (asks, queued) = (world.lock(), world.lock());
        world.server.acquire.says(Err(Refusal::Away(error(Kind::Connect))));
        until("another question", || world.server.acquire.count() == 2).await;
        let answer = world.cancel(asks);
        world.server.release.says(Ok(Released::NotHeld));
        assert_eq!(world.answer(answer).await, "failed ERR_CONNECT");
        // The next in the queue has seen no failure of its own yet.
        until("the next question", || world.server.acquire.count() == 3).await;
        world.server.acquire.says(Err(Refusal::Away(error(Kind::Connect))));
        until("another question", || world.server.acquire.count() == 4).await;
        world.events.send(Event::Reconnected).unwrap();
        rest().await;
        let answer = world.cancel(queued);
        world.server.release.says(Ok(Released::NotHeld));
        assert_eq!(world.answer(answer).await, "done");
    });
}

#[test]
fn an_outage_is_told_once_and_ends_with_the_first_answer() {
    run("connect_timeout=60", |world| async move {
        let mutex = world.news();
        for outage in 1..=2 {
            for _ in 0..2 {
                world.events.send(Event::Disconnected).unwrap();
            }
            until("a look", || world.server.check.count() > 2 * (outage - 1)).await;
            world.server.check.says(Err(error(Kind::Connect)));
            until("another look", || world.server.check.count() == 2 * outage).await;
            world.server.check.says(Ok(()));
            until("the end", || world.told(mutex).len() == 2 * outage).await;
            // Also the backend has found out.
            world.events.send(Event::Reconnected).unwrap();
            rest().await;
        }
        let outage = ["disconnected", "reconnected"];
        assert_eq!(world.told(mutex), [outage, outage].concat());
    });
}
