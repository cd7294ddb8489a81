//! The lane against a server and a runtime that are simple enough to be right.

mod any_order;
mod gate;
mod server;
mod thread;
mod world;

use super::{Over, Stage, Way};
use crate::backend::Attempt;
use crate::core::mode::Mode;
use crate::runtime::commands::{Call, Command};
use server::STRANGER;
use world::{ENVS, Heard, IDS, World, connected, deaf, id_of, waiting};

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let mut world = connected();
    let line = world.connections[0].line;
    let outcome = world
        .express
        .read(line, b":1\r\n", 16, &mut |_, _| panic!("nobody is told"));
    assert_eq!(outcome, Err(Over));
    world.disconnect(1);
    world.request(1, 0, Attempt::Wait);
    assert!(matches!(world.commands.try_recv(), Ok(Command::Request { .. })));
}

#[test]
fn shared_requests_have_no_need_of_a_connection() {
    let world = World::new();
    let mutex = world.mutexes[&(1, 0)].mutex;
    let call = Call { env: 1, cookie: 1 };
    let way = |mode, cookie| {
        world
            .express
            .request(mutex, Call { cookie, ..call }, mode, Attempt::Wait, false, None)
    };
    assert_eq!(way(Mode::Shared, 1), Way::Runtime);
    assert_eq!(way(Mode::Exclusive, 2), Way::NoLine);
}

#[test]
fn who_waits_for_another_process_and_who_hands_over_to_one_never_reach_the_runtime() {
    let mut world = waiting();
    for _ in 0..3 {
        world.stranger(0, false);
        world.read(1, 4);
        let [call] = world.calls_that(Heard::Granted)[..] else {
            panic!()
        };
        world.stranger(0, true);
        world.release(call);
        world.exchange();
        assert_eq!(world.calls[&call].1, Heard::Over);
        assert!(world.redis.locks[&id_of(0)].holder.is_some());
        // The lock is known to be crowded: one question is enough.
        world.request(1, 0, Attempt::Wait);
        world.exchange();
        assert_eq!(world.express.state.lock().waiting.len(), 1);
    }
    assert!(world.commands.try_recv().is_err());
}

#[test]
fn the_first_waiter_behind_a_hold_is_noticed_at_the_release_and_served_at_once() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.exchange();
    let [call] = world.calls_that(Heard::Granted)[..] else {
        panic!()
    };
    world.stranger(0, true);
    world.release(call);
    world.exchange();
    assert_eq!(world.calls[&call].1, Heard::Releasing);
    world.exchange();
    assert_eq!(world.calls[&call].1, Heard::Over);
    assert!(
        world.redis.locks[&id_of(0)]
            .holder
            .as_deref()
            .unwrap()
            .starts_with(STRANGER)
    );
    assert!(world.commands.try_recv().is_err());
}

#[test]
fn a_waiter_that_is_put_off_cancelled_or_old_goes_to_the_runtime() {
    type Deed = fn(&mut World);
    let deeds: [Deed; 4] = [
        |world| {
            world.put_off(0);
            world.read(1, 4);
        },
        |world| {
            let [call] = world.calls_that(Heard::Nothing)[..] else {
                panic!()
            };
            world.cancel(call);
        },
        |world| {
            let mut state = world.express.state.lock();
            state.adopt_where(|_, _| true, &world.express.commands);
        },
        |world| world.disconnect(1),
    ];
    for deed in deeds {
        let mut world = waiting();
        deed(&mut world);
        let Ok(Command::Adopt(adoption)) = world.commands.try_recv() else {
            panic!()
        };
        assert_eq!(adoption.stage, Stage::Waiting);
        assert!(adoption.late.is_none(), "its question was answered");
        // A grant that comes all the same is the runtime's to find.
        world.stranger(0, false);
        world.read(1, 4);
        assert!(world.calls_that(Heard::Granted).is_empty());
        assert!(world.express.state.lock().waiting.is_empty());
    }
}

#[test]
fn an_uncontended_pair_never_reaches_the_runtime() {
    let mut world = connected();
    for _ in 0..3 {
        world.request(1, 0, Attempt::Wait);
        world.serve(0);
        world.read(1, 4);
        let [call] = world.calls_that(Heard::Granted)[..] else {
            panic!()
        };
        world.release(call);
        world.serve(0);
        world.read(1, 4);
        assert_eq!(world.calls[&call].1, Heard::Over);
    }
    assert!(world.commands.try_recv().is_err());
}

#[test]
fn a_second_request_takes_the_first_with_it_to_the_runtime_in_order() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.request(2, 0, Attempt::Wait);
    assert!(
        matches!(world.commands.try_recv(), Ok(Command::Adopt(adoption)) if adoption.call.env == 1 && adoption.late.is_some())
    );
    assert!(matches!(world.commands.try_recv(), Ok(Command::Request { call, .. }) if call.env == 2));
}

#[test]
fn a_lock_that_is_taken_is_left_to_the_runtime_for_a_while_where_nobody_can_wait_in_the_lane() {
    let mut world = deaf();
    assert!(world.redis.acquire(&id_of(0), "somebody", false, None));
    world.request(1, 0, Attempt::Try);
    world.serve(0);
    world.read(1, 4);
    assert_eq!(world.calls_that(Heard::Over).len(), 1);
    assert!(world.commands.try_recv().is_err());
    world.request(1, 0, Attempt::Wait);
    world.serve(0);
    world.read(1, 4);
    let Ok(Command::Adopt(adoption)) = world.commands.try_recv() else {
        panic!()
    };
    assert!(adoption.late.is_none(), "it was answered");
    drop(adoption);
    world.request(1, 0, Attempt::Wait);
    assert!(matches!(world.commands.try_recv(), Ok(Command::Request { .. })));
}

#[test]
fn the_end_of_a_connection_tells_the_runtime_that_no_answer_comes() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.disconnect(1);
    let Ok(Command::Adopt(adoption)) = world.commands.try_recv() else {
        panic!()
    };
    let late = adoption.late.unwrap();
    assert_eq!(late.line.client, Some(world.connections[0].client));
    assert!(late.answered.has_changed().is_err());
}

#[test]
fn a_thread_that_ends_leaves_nothing_in_the_lane() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.serve(0);
    world.read(1, 4);
    world.request(1, 1, Attempt::Wait);
    world.express.environment_ended(1);
    let mut stages = Vec::new();
    while let Ok(Command::Adopt(adoption)) = world.commands.try_recv() {
        stages.push(adoption.stage);
    }
    assert_eq!(stages.len(), 2);
    assert!(stages.contains(&Stage::Held) && stages.contains(&Stage::Asking));
    assert_eq!(
        world.express.read(world.connections[0].line, b"", 1, &mut |_, _| {}),
        Err(Over)
    );
}

#[test]
fn closing_a_mutex_hands_over_what_it_has_and_the_last_one_ends_the_lane() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    let lane = world.mutexes[&(1, 0)].lane;
    world.close(1, 0);
    assert!(matches!(world.commands.try_recv(), Ok(Command::Adopt(_))));
    assert!(matches!(world.commands.try_recv(), Ok(Command::Close { .. })));
    for env in 1..=ENVS {
        for id in 0..IDS {
            assert!(world.express.address(lane).is_some());
            world.close(env, id);
            let (_, _, open) = world.closing.pop_front().unwrap();
            world.express.unseat(open.mutex);
        }
    }
    assert!(world.express.address(lane).is_none());
}

#[test]
fn a_thread_that_leaves_the_lane_and_comes_back_has_a_connection_of_its_own() {
    let mut world = connected();
    let lane = world.mutexes[&(1, 0)].lane;
    for id in 0..IDS {
        world.close(1, id);
    }
    world.finish_closing();
    world.open(1, 0);
    assert_eq!(world.mutexes[&(1, 0)].lane, lane, "the other thread keeps it");
    world.request(1, 0, Attempt::Wait);
    assert!(matches!(world.commands.try_recv(), Ok(Command::Request { .. })));
    assert_eq!(world.connections_of(1), [2], "the first was closed, and that was known");
}

#[test]
fn no_bytes_are_made_for_a_connection_that_the_thread_does_not_name() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.exchange();
    let [call] = world.calls_that(Heard::Granted)[..] else {
        panic!()
    };
    assert_eq!(world.express.release(call, None), Way::Runtime);
    let other = world.line(2, 0);
    let mutex = world.mutexes[&(1, 1)].mutex;
    let next = Call { cookie: 99, ..call };
    let way = world
        .express
        .request(mutex, next, Mode::Exclusive, Attempt::Wait, false, other);
    assert_eq!(way, Way::NoLine);
}
