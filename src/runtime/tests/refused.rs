//! Rights that are gone for a moment: a first question fails with that, a wait goes on.

use super::world::{TTL, World, error, granted, run, until};
use crate::backend::{Refusal, Released};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::Kind;
use crate::runtime::commands::Call;
use std::time::Duration;

fn refused(kind: Kind) -> Result<crate::backend::Taken, Refusal> {
    Err(Refusal::Failed(error(kind)))
}

/// A request that has waited for a hold of its process, and now asks the server.
async fn waits(world: &World) -> Call {
    let holder = world.held(Mode::Exclusive).await;
    let call = world.lock();
    world.release(holder);
    world.server.release.says(Ok(Released::Freed));
    until("the question", || world.server.acquire.count() == 2).await;
    call
}

#[test]
fn a_wait_goes_on_when_rights_or_certificates_come_back() {
    for kind in [Kind::Auth, Kind::Tls] {
        run("connect_timeout=60", |world| async move {
            let call = waits(&world).await;
            for _ in 0..3 {
                world.server.acquire.says(refused(kind));
            }
            until("another question", || world.server.acquire.count() == 5).await;
            assert!(world.told(call).is_empty());
            world.server.acquire.says(granted(clock::now()));
            assert_eq!(world.answer(call).await, "granted");
        });
    }
}

#[test]
fn a_wait_ends_when_its_place_in_line_cannot_be_there_any_more() {
    run("connect_timeout=60", |world| async move {
        let call = waits(&world).await;
        world.server.acquire.says(refused(Kind::Auth));
        until("another question", || world.server.acquire.count() == 3).await;
        world.pass(TTL);
        world.server.acquire.says(refused(Kind::Auth));
        assert_eq!(world.answer(call).await, "failed ERR_AUTH");
    });
}

#[test]
fn rights_that_come_and_go_are_counted_anew_each_time() {
    run("connect_timeout=1", |world| async move {
        let call = world.lock();
        for asked in 1..5 {
            until("the question", || world.server.acquire.count() == asked).await;
            // The server has let it wait for that long.
            world.pass(TTL * 2);
            world.server.acquire.says(refused(Kind::Auth));
        }
        until("the question", || world.server.acquire.count() == 5).await;
        assert!(world.told(call).is_empty());
        world.pass(Duration::from_millis(10));
        world.server.acquire.says(granted(clock::now()));
        assert_eq!(world.answer(call).await, "granted");
    });
}

#[test]
fn what_no_time_mends_ends_a_wait() {
    run("connect_timeout=60", |world| async move {
        let call = waits(&world).await;
        world.server.acquire.says(refused(Kind::Server));
        assert_eq!(world.answer(call).await, "failed ERR_SERVER");
    });
}
