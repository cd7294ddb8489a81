//! Lent words: never two holders, no lost grant, and nobody who is cut off keeps the lock or ends another's hold.

use crate::core::attempt::Attempt::{Try, Wait};
use crate::core::table::Outcome;
use crate::words::{MARK, Memory};
use crate::worker::{Cluster, Hold, Leave, Worker};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// One worker per part, each on its own thread; the last one on this. Then nobody may hold or wait.
fn together(parts: Vec<fn(&Worker)>, works: u32) {
    let cluster = Cluster::new();
    let observer = Worker::new(&cluster);
    let mut parts: Vec<_> = parts.into_iter().map(|part| (part, Worker::new(&cluster))).collect();
    let (part, worker) = parts.pop().unwrap();
    let threads: Vec<_> = parts
        .into_iter()
        .map(|(part, worker)| thread::spawn(move || part(&worker)))
        .collect();
    part(&worker);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(cluster.guarded(), works);
    observer.assert_free();
}

fn pair(worker: &Worker) {
    let hold = worker.acquire();
    worker.work();
    worker.release(hold);
}

fn two_pairs(worker: &Worker) {
    pair(worker);
    pair(worker);
}

/// Goes on for a moment after it has been cut off. What it does to the lock then must not matter to anybody.
fn linger(worker: &Worker) {
    if worker.take() {
        worker.give_back(Hold::Word);
    }
    // As if it had been granted something before.
    worker.give_back(Hold::Table);
    worker.take();
}

/// Two workers contend while a third one is cut off.
fn beside_a_lingering_one(parts: Vec<fn(&Worker)>, works: u32) {
    let cluster = Cluster::new();
    let observer = Worker::new(&cluster);
    let lost = Worker::new(&cluster);
    let owner = lost.owner;
    let mut threads = vec![thread::spawn(move || linger(&lost))];
    for part in parts {
        let worker = Worker::new(&cluster);
        threads.push(thread::spawn(move || part(&worker)));
    }
    cluster.cut_off(owner);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(cluster.guarded(), works);
    observer.assert_free();
}

#[test]
fn two_workers_never_hold_together() {
    check(5, || together(vec![two_pairs, two_pairs], 4));
}

#[test]
fn three_workers_never_hold_together() {
    check(2, || together(vec![pair, pair, pair], 3));
}

#[test]
fn a_worker_that_is_cut_off_keeps_nothing_and_ends_nobody_elses_hold() {
    check(3, || beside_a_lingering_one(vec![pair], 1));
    check(2, || beside_a_lingering_one(vec![two_pairs], 2));
    check(1, || beside_a_lingering_one(vec![pair, pair], 2));
}

#[test]
fn what_is_taken_while_being_cut_off_is_freed_or_not_believed_in() {
    check(5, || {
        let cluster = Cluster::new();
        let (lost, observer) = (Worker::new(&cluster), Worker::new(&cluster));
        let owner = lost.owner;
        let thread = thread::spawn(move || lost.take());
        cluster.cut_off(owner);
        let believed = thread.join().unwrap();
        // By the word itself, which needs no table to find out that nobody has it.
        assert!(observer.take(), "believed in: {believed}");
    });
}

/// A holder that is cut off while it gives the lock back, and the next one, which gives it back as well: the lock is free then.
fn cut_off_while_giving_back(leave: Leave) {
    check(5, move || {
        let cluster = Cluster::new();
        let (lost, next, observer) = (Worker::new(&cluster), Worker::new(&cluster), Worker::new(&cluster));
        assert!(lost.take());
        assert!(matches!(next.ask(Wait), Some(Outcome::Queued(_))));
        let owner = lost.owner;
        let thread = thread::spawn(move || lost.give_back_by(leave));
        cluster.cut_off(owner);
        next.wait();
        assert!(next.give_back(Hold::Table));
        thread.join().unwrap();
        observer.assert_free();
    });
}

#[test]
fn the_mark_of_one_who_is_cut_off_does_not_replace_that_of_the_next_holder() {
    cut_off_while_giving_back(|word, memory| word.leave(memory));
}

#[test]
#[should_panic(expected = "held by nobody's hold")]
fn a_sign_that_is_looked_at_before_the_mark_is_read_is_found_out() {
    cut_off_while_giving_back(|word, memory| {
        if memory.load(word.sign) != word.owner {
            return false;
        }
        let before = memory.load(word.at + MARK);
        memory.compare_exchange(word.at + MARK, before, word.handle) == before
    });
}

#[test]
#[should_panic(expected = "held by nobody's hold")]
fn a_mark_that_is_overwritten_blindly_is_found_out() {
    cut_off_while_giving_back(|word, memory| {
        let served = memory.load(word.sign) == word.owner;
        if served {
            memory.store(word.at + MARK, word.handle);
        }
        served
    });
}

#[test]
fn a_hold_given_back_by_a_mark_is_free_before_the_primary_is_told() {
    check(5, || {
        let cluster = Cluster::new();
        let (one, other) = (Worker::new(&cluster), Worker::new(&cluster));
        assert!(one.take());
        // Moves the hold into the table and is gone again.
        if let Some(Outcome::Queued(ticket)) = other.ask(Wait) {
            other.cancel(ticket);
        }
        let given_back = Arc::new(AtomicU32::new(0));
        let thread = thread::spawn({
            let given_back = given_back.clone();
            move || {
                assert!(one.give_back(Hold::Word));
                given_back.store(1, Ordering::SeqCst);
                one.told_to_look();
            }
        });
        let known = given_back.load(Ordering::SeqCst) == 1;
        let free = other.take() || other.ask(Try).is_some();
        assert!(free || !known);
        thread.join().unwrap();
    });
}
