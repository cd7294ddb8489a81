//! The word and the table together: never two holders, no lost grant, and the word is 0 in the end.
//!
//! A grant that gets lost leaves its thread waiting, which loom reports as a deadlock.

use crate::core::attempt::Attempt::{Try, Wait};
use crate::core::mode::Mode;
use crate::core::table::Cancelled;
use crate::environment::{Asked, Environment, Hold, Process};
use loom::thread;

/// Runs the threads in every interleaving with at most `preemptions` forced switches: three find nearly everything, and
/// each more multiplies the time.
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// One environment per part, each on its own thread; the last one on this. Then nobody may hold or wait.
fn together(parts: Vec<fn(&Environment)>, works: impl Fn(u32) -> bool) {
    let process = Process::new();
    let observer = Environment::new(&process);
    let mut parts: Vec<_> = parts
        .into_iter()
        .map(|part| (part, Environment::new(&process)))
        .collect();
    let (part, environment) = parts.pop().unwrap();
    let threads: Vec<_> = parts
        .into_iter()
        .map(|(part, environment)| thread::spawn(move || part(&environment)))
        .collect();
    part(&environment);
    for thread in threads {
        thread.join().unwrap();
    }
    observer.assert_free();
    assert!(
        works(process.guarded()),
        "{} of the holders' works were kept",
        process.guarded()
    );
}

fn pair(environment: &Environment) {
    let hold = environment.acquire();
    environment.work();
    environment.release(hold);
}

fn two_pairs(environment: &Environment) {
    pair(environment);
    pair(environment);
}

fn try_pair(environment: &Environment) {
    if let Asked::Held(hold) = environment.ask(Try) {
        environment.work();
        environment.release(hold);
    }
}

fn shared_pair(environment: &Environment) {
    let hold = environment.wait(environment.ask_table(Mode::Shared, Wait));
    environment.release(hold);
}

fn fenced_pair(environment: &Environment) {
    let hold = environment.acquire();
    environment.work();
    if let Hold::Fast = hold {
        let (ticket, _) = environment.process.table.ticket_of(environment.opened.handle).unwrap();
        environment.release(Hold::Ticket(ticket));
    } else {
        environment.release(hold);
    }
}

/// Ends while it holds.
fn die_holding(environment: &Environment) {
    environment.acquire();
    environment.work();
    environment.end();
}

/// Ends while it holds or waits, as it comes.
fn die_asking(environment: &Environment) {
    environment.ask(Wait);
    environment.end();
}

fn give_up(environment: &Environment) {
    match environment.ask(Wait) {
        Asked::Held(hold) => environment.release(hold),
        Asked::Queued(ticket) => match environment.cancel(ticket) {
            Cancelled::Withdrawn(()) => {}
            Cancelled::AlreadyGranted => environment.release(Hold::Ticket(ticket)),
            Cancelled::Unknown => panic!("it was queued"),
        },
        Asked::Busy => panic!("only a try is answered so"),
    }
}

/// Closes its mutex while it holds it on the fast path.
fn close_holding(environment: &Environment) {
    match environment.acquire() {
        Hold::Fast => {
            environment.work();
            environment
                .process
                .table
                .close(environment.opened.handle, &mut Vec::new())
                .unwrap();
        }
        hold => {
            environment.work();
            environment.release(hold);
        }
    }
}

fn look(environment: &Environment) {
    let snapshot = environment.process.table.snapshot("id");
    assert!(snapshot.held.len() <= 1);
    assert!(snapshot.pending.is_empty() || snapshot.held.len() == 1);
}

#[test]
fn two_threads_never_hold_together() {
    check(9, || together(vec![two_pairs, two_pairs], |works| works == 4));
}

#[test]
fn three_threads_never_hold_together() {
    check(3, || together(vec![pair, pair, pair], |works| works == 3));
}

#[test]
fn a_try_gets_the_lock_or_leaves_no_trace() {
    check(5, || together(vec![pair, try_pair], |works| works == 1 || works == 2));
    check(3, || {
        together(vec![pair, try_pair, pair], |works| works == 2 || works == 3)
    });
}

#[test]
fn a_shared_request_moves_an_exclusive_hold_off_the_word() {
    check(5, || together(vec![two_pairs, shared_pair], |works| works == 2));
    check(3, || together(vec![pair, shared_pair, shared_pair], |works| works == 1));
}

#[test]
fn a_hold_that_wants_a_token_moves_into_the_table() {
    check(5, || together(vec![fenced_pair, two_pairs], |works| works == 3));
}

#[test]
fn the_lock_of_a_holder_that_dies_goes_to_the_next() {
    check(5, || together(vec![die_holding, pair], |works| works == 2));
    check(3, || together(vec![die_holding, pair, pair], |works| works == 3));
}

#[test]
fn a_waiter_that_dies_is_skipped() {
    check(5, || together(vec![die_asking, two_pairs], |works| works == 2));
    check(3, || together(vec![pair, die_asking, pair], |works| works == 2));
}

#[test]
fn a_waiter_that_gives_up_leaves_the_lock_to_others() {
    check(5, || together(vec![give_up, two_pairs], |works| works == 2));
    check(3, || together(vec![pair, give_up, pair], |works| works == 2));
}

#[test]
fn closing_a_mutex_frees_what_it_holds_on_the_word() {
    check(5, || together(vec![close_holding, pair], |works| works == 2));
}

#[test]
fn a_snapshot_is_of_one_moment() {
    check(3, || together(vec![pair, look, pair], |works| works == 2));
}
