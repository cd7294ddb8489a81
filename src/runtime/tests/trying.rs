//! A try that finds others of its own process: "taken" and "unknown" are different answers.

use super::world::{error, granted, rest, run, until};
use crate::backend::{Refusal, Released};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::Kind;

#[test]
fn a_lock_that_this_process_holds_is_taken() {
    run("connect_timeout=60", |world| async move {
        world.held(Mode::Exclusive).await;
        let call = world.try_lock();
        assert_eq!(world.told(call), ["busy"]);
    });
}

#[test]
fn one_that_asks_a_server_that_answers_is_before_the_try() {
    run("connect_timeout=60", |world| async move {
        world.lock();
        let call = world.try_lock();
        until("a look", || world.server.check.count() == 1).await;
        assert!(world.told(call).is_empty());
        world.server.check.says(Ok(()));
        assert_eq!(world.answer(call).await, "busy");
    });
}

#[test]
fn a_server_that_does_not_answer_is_not_told_as_a_hold() {
    run("connect_timeout=60", |world| async move {
        let waits = world.lock();
        for stage in ["while another asks", "while another leaves"] {
            let known = world.server.check.count();
            let call = world.try_lock();
            until("a look", || world.server.check.count() > known).await;
            world.server.check.says(Err(error(Kind::Connect)));
            assert_eq!(world.answer(call).await, "failed ERR_CONNECT", "{stage}");
            world.cancel(waits);
            rest().await;
        }
    });
}

#[test]
fn a_try_that_nobody_can_answer_ends_with_connect_timeout() {
    run("connect_timeout=1", |world| async move {
        world.lock();
        let call = world.try_lock();
        assert_eq!(world.answer(call).await, "failed ERR_CONNECT");
    });
}

#[test]
fn one_on_its_way_out_is_waited_for() {
    run("connect_timeout=60", |world| async move {
        let holder = world.held(Mode::Exclusive).await;
        world.release(holder);
        let call = world.try_lock();
        world.server.check.says(Ok(()));
        rest().await;
        assert!(world.told(call).is_empty());
        world.server.release.says(Ok(Released::Freed));
        world.server.acquire.says(granted(clock::now()));
        assert_eq!(world.answer(call).await, "granted");
    });
}

#[test]
fn one_that_is_granted_meanwhile_answers_the_try() {
    run("connect_timeout=60", |world| async move {
        let (first, second) = (world.held(Mode::Exclusive).await, world.lock());
        world.release(first);
        let call = world.try_lock();
        world.server.check.says(Ok(()));
        rest().await;
        world.server.release.says(Ok(Released::Freed));
        world.server.acquire.says(granted(clock::now()));
        assert_eq!(world.answer(call).await, "busy");
        assert_eq!(world.answer(second).await, "granted");
    });
}

#[test]
fn what_a_withdrawn_request_has_left_at_the_server_is_not_somebody_else() {
    run("connect_timeout=60", |world| async move {
        let waits = world.lock();
        until("the question", || world.server.acquire.count() == 1).await;
        world.cancel(waits);
        world.server.release.says(Err(error(Kind::Server)));
        until("the end", || world.requests() == 0).await;
        let call = world.try_lock();
        world.server.acquire.says(Err(Refusal::Busy));
        rest().await;
        assert!(world.told(call).is_empty());
        world.server.release.says(Ok(Released::NotHeld));
        world.server.acquire.says(granted(clock::now()));
        assert_eq!(world.answer(call).await, "granted");
    });
}

#[test]
fn what_cannot_be_cleared_away_is_told_as_the_failure_that_it_is() {
    run("connect_timeout=1", |world| async move {
        let waits = world.lock();
        until("the question", || world.server.acquire.count() == 1).await;
        world.cancel(waits);
        world.server.release.says(Err(error(Kind::Auth)));
        until("the end", || world.requests() == 0).await;
        let call = world.try_lock();
        world.server.acquire.says(Err(Refusal::Busy));
        assert_eq!(world.answer(call).await, "failed ERR_AUTH");
    });
}

#[test]
fn a_try_that_is_withdrawn_while_it_waits_leaves_nothing() {
    run("connect_timeout=60", |world| async move {
        let holder = world.held(Mode::Exclusive).await;
        world.release(holder);
        let call = world.try_lock();
        let answer = world.cancel(call);
        assert_eq!(world.answer(answer).await, "done");
        world.server.release.says(Ok(Released::Freed));
        until("the end", || world.requests() == 0).await;
        assert!(world.told(call).is_empty());
        assert_eq!(world.server.acquire.count(), 1);
    });
}
