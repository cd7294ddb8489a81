//! The lock table of a process, for all its threads.

use super::deliver::{Deliver, Granted, Stolen};
use super::handles::Handle;
use super::lent::Lent;
use super::state::{NOBODY, State};
pub use super::state::{Opened, Unknown};
use super::sync::Mutex;
use super::who::{Snapshot, Who};
use super::words::Chunk;
use crate::core::attempt::Attempt;
use crate::core::ids::{OwnerId, Ticket, Token};
use crate::core::mode::Mode;
use crate::core::table::{Cancelled, Grant, NotHeld, Outcome, Table};
use std::sync::Arc;

/// All locks of one kind in this process, for all its threads. See [`super`] for how it works together with the words.
///
/// Every call takes its place in the order at once and never waits for a lock. A grant that a call gives to another
/// request of the calling owner comes out of that call's `mine`, in order; a grant to another owner goes through
/// [`Deliver`]. Whatever numbers come in, the answer is an error and never a panic or another's hold.
pub struct LocalTable {
    guarded: Mutex<Guarded>,
    deliver: Box<dyn Deliver>,
}

struct Guarded {
    state: State,
    /// Empty between calls; kept for its memory.
    grants: Vec<Grant>,
}

impl LocalTable {
    /// An empty table whose tokens are all larger than `seed`.
    pub fn new(seed: u64, deliver: Box<dyn Deliver>) -> Self {
        Self::with(seed, None, deliver)
    }

    /// The same, with the words in memory that other processes see too, as far as there is room.
    pub fn lending(seed: u64, lent: Lent, deliver: Box<dyn Deliver>) -> Self {
        Self::with(seed, Some(lent), deliver)
    }

    fn with(seed: u64, lent: Option<Lent>, deliver: Box<dyn Deliver>) -> Self {
        Self {
            guarded: Mutex::new(Guarded {
                state: State::new(Table::new(seed), lent),
                grants: Vec::new(),
            }),
            deliver,
        }
    }

    /// A new owner: a JavaScript environment, or a cluster worker. It exists until [`LocalTable::owner_gone`].
    pub fn new_owner(&self) -> OwnerId {
        self.guarded.lock().state.new_owner()
    }

    /// Ends an owner, at once and with everything: its handles are closed, its holds freed (those on the fast path too),
    /// its waits withdrawn. None of its threads may touch a word any more. An unknown owner is ignored.
    pub fn owner_gone(&self, owner: OwnerId) {
        self.act(&mut Vec::new(), |state, grants| {
            state.owner_gone(owner, grants);
            // Nobody is there to be handed anything directly.
            (NOBODY, ())
        });
    }

    /// Opens a mutex object on lock `id`. The word of the lock is kept until the last handle on it was closed.
    pub fn open(&self, id: &str, owner: OwnerId, who: Who) -> Result<Opened, Unknown> {
        self.guarded.lock().state.open(id, owner, who)
    }

    /// Closes a handle, and frees what it took on the fast path, also if that was moved into the table since. Holds and
    /// waits that came with a ticket stay, for the caller to release and to cancel. Its thread must not write the handle into the word any more.
    pub fn close(&self, handle: Handle, mine: &mut Vec<Granted>) -> Result<(), Unknown> {
        self.act(mine, |state, grants| {
            (state.owner_of(handle), state.close(handle, grants))
        })
    }

    /// The words of a [`Slot::chunk`](super::words::Slot). They stay in place as long as the caller keeps the chunk.
    pub fn chunk(&self, chunk: u32) -> Option<Chunk> {
        self.guarded.lock().state.chunk(chunk)
    }

    /// Asks for the lock of an open handle.
    pub fn request(
        &self,
        handle: Handle,
        mode: Mode,
        attempt: Attempt,
        cookie: u32,
        since: Option<u64>,
    ) -> Result<Outcome, Unknown> {
        self.guarded.lock().state.request(handle, mode, attempt, cookie, since)
    }

    /// Gives the lock of an open handle to it, exclusively, at once and before all who wait; `Busy` only if the table is full. The holds that
    /// there were have ended: those of the handle's owner come out in `mine`, the others' go through [`Deliver`]. Not for a lending table.
    pub fn steal(
        &self,
        handle: Handle,
        cookie: u32,
        since: Option<u64>,
        mine: &mut Vec<Stolen>,
    ) -> Result<Outcome, Unknown> {
        let mut ended = Vec::new();
        let (owner, outcome) = {
            let state = &mut self.guarded.lock().state;
            (state.owner_of(handle), state.steal(handle, cookie, since, &mut ended))
        };
        for stolen in ended {
            if stolen.owner == owner {
                mine.push(stolen);
            } else {
                self.deliver.stolen(stolen);
            }
        }
        outcome
    }

    /// Whether what a handle took on the fast path is still its own; false once it was stolen.
    pub fn holds(&self, handle: Handle) -> bool {
        self.guarded.lock().state.holds(handle)
    }

    /// Whether the ticket is that of a hold.
    pub fn is_held(&self, ticket: Ticket) -> bool {
        self.guarded.lock().state.token(ticket).is_some()
    }

    /// Everybody at every lock, by id and in the order of the ids; locks that nobody holds are left out.
    pub fn snapshots(&self) -> Vec<(Arc<str>, Snapshot)> {
        let mut ids = self.guarded.lock().state.ids();
        ids.sort_unstable();
        ids.into_iter()
            .map(|id| (id.clone(), self.snapshot(&id)))
            .filter(|(_, seen)| !seen.held.is_empty())
            .collect()
    }

    /// Ends a hold that came with a ticket.
    pub fn release(&self, ticket: Ticket, owner: OwnerId, mine: &mut Vec<Granted>) -> Result<(), NotHeld> {
        self.act(mine, |state, grants| (owner, state.release(ticket, owner, grants)))
    }

    /// Ends a hold that was taken on the fast path, and that its thread found it could not free there.
    pub fn release_fast(&self, handle: Handle, mine: &mut Vec<Granted>) -> Result<(), NotHeld> {
        self.act(mine, |state, grants| {
            (state.owner_of(handle), state.release_fast(handle, grants))
        })
    }

    /// Withdraws a wait: unless the answer is `AlreadyGranted`, it is never granted.
    pub fn cancel(&self, ticket: Ticket, owner: OwnerId, mine: &mut Vec<Granted>) -> Cancelled<()> {
        self.act(mine, |state, grants| (owner, state.cancel(ticket, owner, grants)))
    }

    /// Ends the hold of whoever has left a [mark](super::lent) at the lock of this handle. To be called before anything is asked about a lock
    /// whose word is lent, and when somebody says that it has left a mark. The caller is the handle's owner.
    pub fn settle(&self, handle: Handle, mine: &mut Vec<Granted>) {
        self.act(mine, |state, grants| {
            state.settle_of(handle, grants);
            (state.owner_of(handle), ())
        });
    }

    /// The token of a hold.
    pub fn token(&self, ticket: Ticket) -> Option<Token> {
        self.guarded.lock().state.token(ticket)
    }

    /// Gives a hold that was taken on the fast path a ticket and a token, by moving it into the table; the same ones if it
    /// was moved before. Ended by `release` or `release_fast`. `None` if this handle holds nothing there.
    pub fn ticket_of(&self, handle: Handle) -> Option<(Ticket, Token)> {
        self.guarded.lock().state.ticket_of(handle)
    }

    /// Everybody at lock `id`.
    pub fn snapshot(&self, id: &str) -> Snapshot {
        self.act(&mut Vec::new(), |state, grants| {
            state.settle_id(id, grants);
            (NOBODY, state.snapshot(id))
        })
    }

    /// How many mutex objects are open.
    pub fn handles(&self) -> usize {
        self.guarded.lock().state.handles()
    }

    /// How many requests hold or wait in the table; a hold on the fast path is not in there.
    pub fn requests(&self) -> usize {
        self.guarded.lock().state.requests()
    }

    /// How many locks are open, held or waited for.
    pub fn locks(&self) -> usize {
        self.guarded.lock().state.locks()
    }

    /// Changes the state under the mutex, then hands out the grants that came of it: to `mine` those of the owner that
    /// `change` names as the caller, the others' through [`Deliver`].
    fn act<R>(&self, mine: &mut Vec<Granted>, change: impl FnOnce(&mut State, &mut Vec<Grant>) -> (OwnerId, R)) -> R {
        let mut theirs = Vec::new();
        let mut guard = self.guarded.lock();
        let Guarded { state, grants } = &mut *guard;
        let (caller, result) = change(state, grants);
        for Grant { ticket, owner, token } in grants.drain(..) {
            let cookie = state.cookie(ticket);
            let to = if owner == caller { &mut *mine } else { &mut theirs };
            to.push(Granted {
                ticket,
                owner,
                token,
                cookie,
            });
        }
        drop(guard);
        if !theirs.is_empty() {
            // Stable, so each owner's stay in order.
            theirs.sort_by_key(|grant| grant.owner);
            for same in theirs.chunk_by(|one, other| one.owner == other.owner) {
                self.deliver.granted(same[0].owner, same);
            }
        }
        result
    }
}
