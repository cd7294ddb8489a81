//! Who has which lock and who is next: strictly first come, first served.
//!
//! The rules, from which everything else follows:
//! - An exclusive hold is alone; shared holds are together.
//! - A request is granted at once if nobody waits and the holders permit it; else it waits behind all others. So a
//!   waiting exclusive request holds back later shared ones, and nobody starves.
//! - Whenever somebody leaves, the first in the queue is granted if the holders permit it, then the next, and so on: one
//!   exclusive request, or the whole run of shared ones at the head.
//!
//! Granting, releasing and cancelling take the same time however many hold and wait.

pub use super::answer::{Cancelled, Grant, Left, NotHeld, Outcome, Seen, Snapshot};
use super::attempt::Attempt;
use super::ids::{Index, LockKey, OwnerId, Ticket, Token};
use super::locks::Locks;
use super::mode::Mode;
use super::owners::Owners;
use super::queue::{Links, Queue};
use super::request::{ByLock, ByOwner};
pub use super::request::{Request, State};
use super::slab::Slab;
use std::sync::Arc;

/// A lock table. `T` is what the master wants to remember with each request.
///
/// Grants that a call gives to others than the caller are pushed to the call's `granted`, in the order in which they were
/// given; what is in there already stays.
#[derive(Debug)]
pub struct Table<T> {
    requests: Slab<Request<T>>,
    locks: Locks,
    owners: Owners,
    last_token: u64,
}

impl<T> Table<T> {
    /// An empty table whose tokens are all larger than `seed`. A master whose tokens must also grow over a restart
    /// seeds it with the time.
    pub fn new(seed: u64) -> Self {
        Self {
            requests: Slab::new(Ticket::POSITIONS, Ticket::LAST_GENERATION),
            locks: Locks::new(),
            owners: Owners::default(),
            last_token: seed,
        }
    }

    /// Asks for lock `id`. See [`Outcome`] for what the caller has afterwards.
    pub fn request(&mut self, id: &str, owner: OwnerId, mode: Mode, attempt: Attempt, tag: T) -> Outcome {
        let Some(lock) = self.locks.find_or_add(id) else {
            return Outcome::Busy;
        };
        let outcome = self.request_at(LockKey(lock), owner, mode, attempt, tag);
        self.locks.forget_if_unused(lock);
        outcome
    }

    /// [`Table::request`] for a pinned lock. `Busy` if the key is no lock's.
    // Inlined so that a request is built in its place rather than copied from call to call: a sixth of a hand-over.
    #[inline(always)]
    pub fn request_at(&mut self, key: LockKey, owner: OwnerId, mode: Mode, attempt: Attempt, tag: T) -> Outcome {
        let free = self.admits(key.0, mode);
        if (!free && attempt == Attempt::Try) || self.requests.is_full() {
            return Outcome::Busy;
        }
        let Some(lock) = self.locks.get_mut(key.0) else {
            return Outcome::Busy;
        };
        let request = Request {
            owner,
            mode,
            state: State::Waiting,
            lock: key.0,
            in_lock: Links::default(),
            in_owner: Links::default(),
            tag,
        };
        let Some((index, generation)) = self.requests.insert(request) else {
            return Outcome::Busy;
        };
        let ticket = Ticket::new(index, generation);
        let queue = if free { &mut lock.holders } else { &mut lock.waiters };
        queue.push_back(&mut ByLock(&mut self.requests), index);
        let mine = self.owners.requests_of(owner);
        mine.push_back(&mut ByOwner(&mut self.requests), index);
        if !free {
            return Outcome::Queued(ticket);
        }
        let token = self.next_token();
        if let Some(request) = self.requests.get_mut(index) {
            request.state = State::Held(token);
        }
        Outcome::Granted(ticket, token)
    }

    /// Ends a hold, and lets in whom that lets in. Gives the tag back.
    pub fn release(&mut self, ticket: Ticket, owner: OwnerId, granted: &mut Vec<Grant>) -> Result<T, NotHeld> {
        let (index, request) = self.find(ticket).ok_or(NotHeld)?;
        if request.owner != owner || request.state == State::Waiting {
            return Err(NotHeld);
        }
        let lock = request.lock;
        let tag = self.take_out(index).ok_or(NotHeld)?.tag;
        self.promote(lock, granted);
        self.locks.forget_if_unused(lock);
        Ok(tag)
    }

    /// Withdraws a waiting request; if that was an exclusive one at the head, shared ones behind it may get in.
    pub fn cancel(&mut self, ticket: Ticket, owner: OwnerId, granted: &mut Vec<Grant>) -> Cancelled<T> {
        let Some((index, request)) = self.find(ticket).filter(|(_, request)| request.owner == owner) else {
            return Cancelled::Unknown;
        };
        if request.state != State::Waiting {
            return Cancelled::AlreadyGranted;
        }
        let lock = request.lock;
        let Some(request) = self.take_out(index) else {
            return Cancelled::Unknown;
        };
        self.promote(lock, granted);
        self.locks.forget_if_unused(lock);
        Cancelled::Withdrawn(request.tag)
    }

    /// Ends all holds and waits of an owner at once, so that none of them is granted on the way. Gives back what it had,
    /// oldest request first. The owner may ask again.
    pub fn owner_gone(&mut self, owner: OwnerId, granted: &mut Vec<Grant>) -> Vec<Left<T>> {
        let mut left = Vec::new();
        while let Some(index) = self.owners.requests_of(owner).first() {
            let generation = self.requests.generation(index).unwrap_or_default();
            let Some(request) = self.take_out(index) else { break };
            left.push(Left {
                ticket: Ticket::new(index, generation),
                lock: LockKey(request.lock),
                mode: request.mode,
                state: request.state,
                tag: request.tag,
            });
        }
        for gone in &left {
            self.promote(gone.lock.0, granted);
        }
        for gone in &left {
            self.locks.forget_if_unused(gone.lock.0);
        }
        left
    }

    /// The request of a ticket, while it waits or holds.
    pub fn get(&self, ticket: Ticket) -> Option<&Request<T>> {
        self.find(ticket).map(|(_, request)| request)
    }

    /// [`Table::get`], to change the tag.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Request<T>> {
        let (index, _) = self.find(ticket)?;
        self.requests.get_mut(index)
    }

    /// Everybody at lock `id`, in order.
    pub fn snapshot(&self, id: &str) -> Snapshot<'_, T> {
        match self.locks.find(id) {
            Some(lock) => self.snapshot_at(LockKey(lock)),
            None => Snapshot {
                held: Vec::new(),
                pending: Vec::new(),
            },
        }
    }

    /// [`Table::snapshot`] of a pinned lock.
    pub fn snapshot_at(&self, key: LockKey) -> Snapshot<'_, T> {
        let lock = self.locks.get(key.0);
        Snapshot {
            held: self.seen(lock.map(|lock| lock.holders).unwrap_or_default()),
            pending: self.seen(lock.map(|lock| lock.waiters).unwrap_or_default()),
        }
    }

    /// Who has a pinned lock exclusively, and by which hold.
    pub fn exclusive_holder(&self, key: LockKey) -> Option<(Ticket, OwnerId)> {
        let index = self.locks.get(key.0)?.holders.first()?;
        let request = self.requests.get(index)?;
        (request.mode == Mode::Exclusive)
            .then(|| self.ticket(index))
            .flatten()
            .map(|ticket| (ticket, request.owner))
    }

    /// Keeps lock `id` in the table, also while nobody uses it, until `unpin` was called as often. `None` only if there
    /// are 2^32 locks already.
    pub fn pin(&mut self, id: &str) -> Option<LockKey> {
        let lock = self.locks.find_or_add(id)?;
        self.locks.pin(lock);
        Some(LockKey(lock))
    }

    /// Ends one `pin`. Afterwards the key is valid only for others who have pinned the same lock.
    pub fn unpin(&mut self, key: LockKey) {
        self.locks.unpin(key.0);
    }

    /// The key of lock `id` if it is in the table.
    pub fn key(&self, id: &str) -> Option<LockKey> {
        self.locks.find(id).map(LockKey)
    }

    /// The id of a lock that is in the table.
    pub fn id(&self, key: LockKey) -> Option<&Arc<str>> {
        self.locks.get(key.0).map(|lock| lock.id())
    }

    /// Whether nobody holds this lock or waits for it.
    pub fn is_idle(&self, key: LockKey) -> bool {
        self.locks.get(key.0).is_none_or(|lock| lock.is_idle())
    }

    /// How many requests hold or wait.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// How many locks are held, waited for or pinned.
    pub fn locks(&self) -> usize {
        self.locks.len()
    }

    /// How many owners hold or wait.
    pub fn owners(&self) -> usize {
        self.owners.len()
    }

    fn find(&self, ticket: Ticket) -> Option<(Index, &Request<T>)> {
        let index = ticket.index()?;
        let current = self.requests.generation(index)? == ticket.generation();
        self.requests
            .get(index)
            .filter(|_| current)
            .map(|request| (index, request))
    }

    fn ticket(&self, index: Index) -> Option<Ticket> {
        self.requests
            .generation(index)
            .map(|generation| Ticket::new(index, generation))
    }

    /// Whether a new request of this mode may hold the lock at once.
    fn admits(&self, lock: Index, mode: Mode) -> bool {
        self.locks
            .get(lock)
            .is_some_and(|lock| lock.waiters.is_empty() && self.permits(lock.holders, mode))
    }

    /// Whether these holders tolerate one more of this mode.
    fn permits(&self, holders: Queue, mode: Mode) -> bool {
        let held = holders
            .first()
            .and_then(|first| self.requests.get(first))
            .map(|first| first.mode);
        match held {
            None => true,
            Some(held) => held == Mode::Shared && mode == Mode::Shared,
        }
    }

    /// Removes a request from everywhere, and lets nobody in yet.
    // Inlined for the same reason as `request_at`.
    #[inline(always)]
    fn take_out(&mut self, index: Index) -> Option<Request<T>> {
        let request = self.requests.get(index)?;
        let (owner, lock, state) = (request.owner, request.lock, request.state);
        if let Some(lock) = self.locks.get_mut(lock) {
            let queue = match state {
                State::Waiting => &mut lock.waiters,
                State::Held(_) => &mut lock.holders,
            };
            queue.remove(&mut ByLock(&mut self.requests), index);
        }
        let mine = self.owners.requests_of(owner);
        mine.remove(&mut ByOwner(&mut self.requests), index);
        self.requests.remove(index)
    }

    /// Grants from the head of the queue as far as the holders permit.
    fn promote(&mut self, lock: Index, granted: &mut Vec<Grant>) {
        loop {
            let Some(queues) = self.locks.get(lock) else { return };
            let (holders, waiters) = (queues.holders, queues.waiters);
            let Some(index) = waiters.first() else { return };
            let Some(ticket) = self.ticket(index) else { return };
            let Some(next) = self.requests.get(index) else { return };
            if !self.permits(holders, next.mode) {
                return;
            }
            let token = self.next_token();
            if let Some(queues) = self.locks.get_mut(lock) {
                queues.waiters.remove(&mut ByLock(&mut self.requests), index);
                queues.holders.push_back(&mut ByLock(&mut self.requests), index);
            }
            if let Some(next) = self.requests.get_mut(index) {
                next.state = State::Held(token);
                granted.push(Grant {
                    ticket,
                    owner: next.owner,
                    token,
                });
            }
        }
    }

    fn next_token(&mut self) -> Token {
        self.last_token = self.last_token.saturating_add(1);
        Token(self.last_token)
    }

    fn seen(&self, queue: Queue) -> Vec<Seen<'_, T>> {
        let mut seen = Vec::new();
        let mut at = queue.first();
        while let Some(index) = at {
            let (Some(request), Some(ticket)) = (self.requests.get(index), self.ticket(index)) else {
                break;
            };
            seen.push(Seen {
                ticket,
                owner: request.owner,
                mode: request.mode,
                token: request.state.token(),
                tag: &request.tag,
            });
            at = request.in_lock.next();
        }
        seen
    }
}

#[cfg(test)]
mod tests {
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
}
