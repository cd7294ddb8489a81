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
        Self::with_room(seed, Ticket::POSITIONS)
    }

    /// [`Table::new`] for at most so many requests.
    pub fn with_room(seed: u64, requests: usize) -> Self {
        Self {
            requests: Slab::new(requests, Ticket::LAST_GENERATION),
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

    /// Gives a pinned lock exclusively to this request at once, before all who wait, and ends the holds that there are. Gives these back, oldest
    /// first. `None` if the key is no lock's, or the table is full and nobody holds: then nothing has changed.
    pub fn steal(&mut self, key: LockKey, owner: OwnerId, tag: T) -> Option<(Ticket, Token, Vec<Left<T>>)> {
        let mut ended = Vec::new();
        while let Some(index) = self.locks.get(key.0)?.holders.first() {
            ended.extend(self.leave(index));
        }
        // The queue waits behind the new holder as it did behind the old ones.
        let waiters = std::mem::take(&mut self.locks.get_mut(key.0)?.waiters);
        let outcome = self.request_at(key, owner, Mode::Exclusive, Attempt::Try, tag);
        self.locks.get_mut(key.0)?.waiters = waiters;
        match outcome {
            Outcome::Granted(ticket, token) => Some((ticket, token, ended)),
            Outcome::Queued(_) | Outcome::Busy => None,
        }
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
            let Some(gone) = self.leave(index) else { break };
            left.push(gone);
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

    /// The hold of whoever has a pinned lock exclusively.
    pub fn exclusive_hold(&self, key: LockKey) -> Option<Ticket> {
        let index = self.locks.get(key.0)?.holders.first()?;
        let request = self.requests.get(index)?;
        (request.mode == Mode::Exclusive).then(|| self.ticket(index)).flatten()
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

    /// The ids of all locks, in no particular order.
    pub fn ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.locks.ids()
    }

    /// Whether nobody holds this lock or waits for it.
    pub fn is_idle(&self, key: LockKey) -> bool {
        self.locks.get(key.0).is_none_or(|lock| lock.is_idle())
    }

    /// How many requests hold or wait.
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Whether the next request will be refused.
    pub fn is_full(&self) -> bool {
        self.requests.is_full()
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

    /// [`Table::take_out`], with all that was known.
    fn leave(&mut self, index: Index) -> Option<Left<T>> {
        let ticket = self.ticket(index)?;
        let request = self.take_out(index)?;
        Some(Left {
            ticket,
            owner: request.owner,
            lock: LockKey(request.lock),
            mode: request.mode,
            state: request.state,
            tag: request.tag,
        })
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
mod tests;
