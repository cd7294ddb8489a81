use super::*;
use Attempt::{Try, Wait};
use Mode::{Exclusive, Shared};

const A: OwnerId = OwnerId(1);
const B: OwnerId = OwnerId(2);

/// A table of one lock whose requests remember a name.
struct Bench {
    table: Table<&'static str>,
    granted: Vec<Grant>,
}

impl Bench {
    fn new() -> Self {
        Self {
            table: Table::new(100),
            granted: Vec::new(),
        }
    }

    fn hold(&mut self, name: &'static str, owner: OwnerId, mode: Mode) -> Ticket {
        match self.table.request("id", owner, mode, Wait, name) {
            Outcome::Granted(ticket, _) => ticket,
            other => panic!("{name} got {other:?}"),
        }
    }

    fn queue(&mut self, name: &'static str, owner: OwnerId, mode: Mode) -> Ticket {
        match self.table.request("id", owner, mode, Wait, name) {
            Outcome::Queued(ticket) => ticket,
            other => panic!("{name} got {other:?}"),
        }
    }

    fn release(&mut self, ticket: Ticket, owner: OwnerId) -> Result<&'static str, NotHeld> {
        self.table.release(ticket, owner, &mut self.granted)
    }

    /// The names of those who were granted since the last call.
    fn granted(&mut self) -> Vec<&'static str> {
        let granted = std::mem::take(&mut self.granted);
        granted
            .iter()
            .map(|grant| self.table.get(grant.ticket).unwrap().tag)
            .collect()
    }

    fn assert_empty(&self) {
        assert_eq!(
            (self.table.requests(), self.table.locks(), self.table.owners()),
            (0, 0, 0)
        );
    }
}

#[test]
fn exclusive_requests_are_granted_one_by_one_in_order() {
    let mut bench = Bench::new();
    let first = bench.hold("first", A, Exclusive);
    let second = bench.queue("second", B, Exclusive);
    let third = bench.queue("third", A, Exclusive);
    assert_eq!(bench.release(first, A), Ok("first"));
    assert_eq!(bench.granted(), ["second"]);
    assert_eq!(bench.release(second, B), Ok("second"));
    assert_eq!(bench.granted(), ["third"]);
    assert_eq!(bench.release(third, A), Ok("third"));
    bench.assert_empty();
}

#[test]
fn a_run_of_shared_requests_at_the_head_is_granted_together() {
    let mut bench = Bench::new();
    let writer = bench.hold("writer", A, Exclusive);
    let readers = ["r1", "r2"].map(|name| bench.queue(name, B, Shared));
    let next_writer = bench.queue("next writer", A, Exclusive);
    bench.queue("late reader", B, Shared);
    bench.release(writer, A).unwrap();
    assert_eq!(bench.granted(), ["r1", "r2"]);
    bench.release(readers[1], B).unwrap();
    assert!(bench.granted().is_empty());
    bench.release(readers[0], B).unwrap();
    assert_eq!(bench.granted(), ["next writer"]);
    bench.release(next_writer, A).unwrap();
    assert_eq!(bench.granted(), ["late reader"]);
}

#[test]
fn a_waiting_exclusive_request_holds_back_later_shared_ones_and_tries() {
    let mut bench = Bench::new();
    bench.hold("reader", A, Shared);
    bench.hold("second reader", B, Shared);
    bench.queue("writer", B, Exclusive);
    bench.queue("late reader", A, Shared);
    assert_eq!(bench.table.request("id", A, Shared, Try, "try"), Outcome::Busy);
}

#[test]
fn a_try_on_a_taken_lock_leaves_no_trace() {
    let mut bench = Bench::new();
    let hold = bench.hold("holder", A, Exclusive);
    for mode in [Exclusive, Shared] {
        assert_eq!(bench.table.request("id", B, mode, Try, "try"), Outcome::Busy);
    }
    assert_eq!((bench.table.requests(), bench.table.owners()), (1, 1));
    bench.release(hold, A).unwrap();
    bench.assert_empty();
}

#[test]
fn release_is_refused_to_strangers_waiters_and_the_second_time() {
    let mut bench = Bench::new();
    let hold = bench.hold("holder", A, Exclusive);
    let wait = bench.queue("waiter", B, Exclusive);
    assert_eq!(bench.release(hold, B), Err(NotHeld));
    assert_eq!(bench.release(wait, B), Err(NotHeld));
    assert_eq!(bench.release(hold, A), Ok("holder"));
    assert_eq!(bench.release(hold, A), Err(NotHeld));
    assert_eq!(bench.granted(), ["waiter"]);
}

#[test]
fn a_stale_ticket_never_touches_the_request_that_has_its_place_now() {
    let mut bench = Bench::new();
    let old = bench.hold("old", A, Exclusive);
    bench.release(old, A).unwrap();
    let new = bench.hold("new", A, Exclusive);
    assert_ne!(old, new);
    assert_eq!(bench.release(old, A), Err(NotHeld));
    assert!(bench.table.get(old).is_none());
    assert_eq!(bench.table.cancel(old, A, &mut Vec::new()), Cancelled::Unknown);
    assert_eq!(bench.release(new, A), Ok("new"));
}

#[test]
fn numbers_that_are_no_tickets_are_refused() {
    let mut bench = Bench::new();
    for number in [1, 2, 77, 1 << 40] {
        let ticket = Ticket::from_u64(number).unwrap();
        assert_eq!(bench.release(ticket, A), Err(NotHeld));
        assert_eq!(bench.table.cancel(ticket, A, &mut Vec::new()), Cancelled::Unknown);
        assert!(bench.table.get_mut(ticket).is_none());
    }
}

#[test]
fn withdrawing_the_exclusive_head_lets_the_shared_ones_behind_it_in() {
    let mut bench = Bench::new();
    bench.hold("reader", A, Shared);
    let writer = bench.queue("writer", B, Exclusive);
    bench.queue("late reader", A, Shared);
    let (table, granted) = (&mut bench.table, &mut bench.granted);
    assert_eq!(table.cancel(writer, A, granted), Cancelled::Unknown);
    assert_eq!(table.cancel(writer, B, granted), Cancelled::Withdrawn("writer"));
    assert_eq!(bench.granted(), ["late reader"]);
}

#[test]
fn a_cancel_that_comes_after_the_grant_changes_nothing() {
    let mut bench = Bench::new();
    let hold = bench.hold("holder", A, Exclusive);
    assert_eq!(
        bench.table.cancel(hold, A, &mut bench.granted),
        Cancelled::AlreadyGranted
    );
    assert_eq!(bench.release(hold, A), Ok("holder"));
}

#[test]
fn an_owner_that_goes_away_is_never_granted_on_the_way() {
    let mut bench = Bench::new();
    bench.hold("mine", A, Exclusive);
    bench.queue("mine too", A, Exclusive);
    bench.queue("theirs", B, Shared);
    bench.queue("mine as well", A, Exclusive);
    bench.queue("theirs too", B, Shared);
    let left = bench.table.owner_gone(A, &mut bench.granted);
    assert_eq!(
        left.iter().map(|gone| gone.tag).collect::<Vec<_>>(),
        ["mine", "mine too", "mine as well"]
    );
    assert_eq!(left.iter().filter(|gone| gone.state == State::Waiting).count(), 2);
    assert_eq!(bench.granted(), ["theirs", "theirs too"]);
    assert_eq!(bench.table.owner_gone(B, &mut bench.granted).len(), 2);
    bench.assert_empty();
}

#[test]
fn tokens_grow_from_the_seed_over_all_locks() {
    let mut table = Table::new(41);
    let mut last = Token(41);
    for id in ["a", "b", "a b", "c"] {
        let Outcome::Granted(_, token) = table.request(id, A, Shared, Wait, ()) else {
            panic!("{id} is taken")
        };
        assert!(token > last);
        last = token;
    }
}

#[test]
fn a_snapshot_shows_holders_and_waiters_in_order() {
    let mut bench = Bench::new();
    bench.hold("r1", A, Shared);
    bench.hold("r2", B, Shared);
    let writer = bench.queue("writer", B, Exclusive);
    bench.queue("r3", A, Shared);
    let snapshot = bench.table.snapshot("id");
    let names = |seen: &[Seen<'_, &'static str>]| seen.iter().map(|one| *one.tag).collect::<Vec<_>>();
    assert_eq!(names(&snapshot.held), ["r1", "r2"]);
    assert_eq!(names(&snapshot.pending), ["writer", "r3"]);
    assert!(snapshot.held[0].token < snapshot.held[1].token);
    assert_eq!((snapshot.pending[0].ticket, snapshot.pending[0].token), (writer, None));
    assert!(bench.table.snapshot("other").held.is_empty());
}

#[test]
fn a_pinned_lock_stays_until_it_is_unpinned_and_idle() {
    let mut bench = Bench::new();
    let key = bench.table.pin("id").unwrap();
    assert_eq!(bench.table.pin("id"), Some(key));
    let hold = bench.hold("holder", A, Exclusive);
    assert_eq!(bench.table.request_at(key, B, Exclusive, Try, "try"), Outcome::Busy);
    bench.table.unpin(key);
    bench.table.unpin(key);
    assert!(!bench.table.is_idle(key));
    bench.release(hold, A).unwrap();
    bench.assert_empty();
    assert_eq!(
        bench.table.request_at(key, A, Exclusive, Wait, "stale key"),
        Outcome::Busy
    );
}

#[test]
fn a_steal_ends_all_holds_and_goes_before_the_queue() {
    let mut bench = Bench::new();
    let key = bench.table.pin("id").unwrap();
    let readers = [bench.hold("first", A, Shared), bench.hold("second", B, Shared)];
    let waiting = bench.queue("waiting", A, Exclusive);
    let last = readers.map(|ticket| bench.table.get(ticket).unwrap().state().token());
    let (thief, token, ended) = bench.table.steal(key, B, "thief").unwrap();
    assert!(last.into_iter().all(|old| old < Some(token)));
    assert_eq!(
        ended
            .iter()
            .map(|hold| (hold.tag, hold.owner, hold.ticket))
            .collect::<Vec<_>>(),
        [("first", A, readers[0]), ("second", B, readers[1])]
    );
    assert_eq!(
        readers.map(|ticket| bench.release(ticket, A)),
        [Err(NotHeld), Err(NotHeld)]
    );
    let seen = bench.table.snapshot("id");
    assert_eq!(seen.held.iter().map(|one| one.tag).collect::<Vec<_>>(), [&"thief"]);
    assert_eq!(seen.pending.iter().map(|one| one.tag).collect::<Vec<_>>(), [&"waiting"]);
    bench.release(thief, B).unwrap();
    assert_eq!(bench.granted(), ["waiting"]);
    bench.release(waiting, A).unwrap();
    let (again, _, ended) = bench.table.steal(key, A, "of nobody").unwrap();
    assert!(ended.is_empty());
    bench.release(again, A).unwrap();
    bench.table.unpin(key);
    bench.assert_empty();
}
