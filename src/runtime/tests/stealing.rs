//! A lock that is stolen: who loses what, and in which order that is told.

use super::world::{World, rest, run, until};
use crate::backend::{Event, Released, Taken};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::Kind;
use crate::runtime::Attempt;

fn grants(world: &World, token: u64) {
    let leased_at = clock::now();
    let token = Some(token);
    world.server.acquire.says(Ok(Taken { token, leased_at }));
}

#[test]
fn a_thief_does_not_wait_for_its_own_process_whose_holds_it_ends() {
    run("connect_timeout=60", |world| async move {
        let readers = [world.held(Mode::Shared).await, world.held(Mode::Shared).await];
        let waiter = world.lock();
        let thief = world.request(Mode::Exclusive, Attempt::Steal);
        until("the thief's question", || world.server.acquire.count() == 3).await;
        assert_eq!(world.told(readers[0]), ["granted"]);
        grants(&world, 2);
        assert_eq!(world.answer(thief).await, "granted");
        // As soon as the thief hears, not some time after.
        for reader in readers {
            assert_eq!(world.told(reader), ["granted", "lost"]);
            world.server.release.says(Ok(Released::NotHeld));
        }
        until("the waiter's question", || world.server.acquire.count() == 4).await;
        assert!(world.told(waiter).is_empty());
        world.server.release.says(Ok(Released::Freed));
        world.release(thief);
        assert_eq!(world.answer_after(thief, 1).await, "done");
    });
}

#[test]
fn an_answer_that_comes_late_ends_no_hold_of_a_later_thief() {
    run("connect_timeout=60", |world| async move {
        let late = world.request(Mode::Exclusive, Attempt::Steal);
        let thief = world.request(Mode::Exclusive, Attempt::Steal);
        until("their questions", || world.server.acquire.count() == 2).await;
        let first = world.server.asked(0).owner.clone();
        // The order of their answers here is that of their questions; what they say is the other way round.
        grants(&world, 2);
        grants(&world, 1);
        world.events.send(Event::Stolen(first)).unwrap();
        assert_eq!(world.answer(thief).await, "granted");
        rest().await;
        assert_eq!(world.told(late), ["granted", "lost"]);
        assert_eq!(world.told(thief), ["granted"]);
    });
}

#[test]
fn a_hold_that_was_stolen_before_its_grant_was_heard_is_told_as_both() {
    run("connect_timeout=60", |world| async move {
        let call = world.lock();
        until("its question", || world.server.acquire.count() == 1).await;
        world
            .events
            .send(Event::Stolen(world.server.asked(0).owner.clone()))
            .unwrap();
        rest().await;
        grants(&world, 1);
        assert_eq!(world.answer_after(call, 1).await, "lost");
        assert_eq!(world.told(call), ["granted", "lost"]);
    });
}

#[test]
fn a_thief_waits_for_a_server_that_is_away() {
    run("connect_timeout=60", |world| async move {
        let thief = world.request(Mode::Exclusive, Attempt::Steal);
        world
            .server
            .acquire
            .says(Err(super::world::error(Kind::Connect).into()));
        grants(&world, 1);
        assert_eq!(world.answer(thief).await, "granted");
    });
}
