//! What the mutex of a local table guards: the words, the handles and the lock table, changed together.

use super::deliver::Stolen;
use super::handles::{Handle, Handles, Open};
use super::lent::Lent;
use super::who::{Info, Snapshot, Tag, Who};
use super::words::{Chunk, Slot, Word, Words};
use crate::core::attempt::Attempt;
use crate::core::ids::{LockKey, OwnerId, Ticket, Token};
use crate::core::mode::Mode;
use crate::core::spread::BuildSpread;
use crate::core::table::{Cancelled, Grant, NotHeld, Outcome, Seen, Table};
use std::collections::HashSet;
use std::sync::Arc;

/// An open mutex object: where its lock's word is, and what to write there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Of no meaning if the word is lent.
    pub slot: Slot,
    pub handle: Handle,
    /// Which [place](super::lent::Place) of the lent memory the lock has.
    pub lent: Option<u32>,
}

/// The handle is not open, or the owner was never made or has gone away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// Who has a lock on the fast path while nobody knows the handle in its word. Cannot happen as long as JavaScript writes
/// only handles that are open; if it does, the lock stays taken rather than being given to two.
pub(super) const NOBODY: OwnerId = OwnerId(0);

#[derive(Debug)]
pub(super) struct State {
    table: Table<Tag>,
    words: Words,
    handles: Handles,
    owners: HashSet<OwnerId, BuildSpread>,
    last_owner: u32,
}

impl State {
    pub(super) fn new(table: Table<Tag>, lent: Option<Lent>) -> Self {
        Self {
            table,
            words: lent.map(Words::lent).unwrap_or_default(),
            handles: Handles::default(),
            owners: HashSet::default(),
            last_owner: NOBODY.0,
        }
    }

    pub(super) fn new_owner(&mut self) -> OwnerId {
        loop {
            self.last_owner = self.last_owner.wrapping_add(1);
            let owner = OwnerId(self.last_owner);
            if owner != NOBODY && self.owners.insert(owner) {
                return owner;
            }
        }
    }

    pub(super) fn open(&mut self, id: &str, owner: OwnerId, who: Who) -> Result<Opened, Unknown> {
        if !self.owners.contains(&owner) {
            return Err(Unknown);
        }
        let lock = self.table.pin(id).ok_or(Unknown)?;
        self.words.word(lock);
        let open = Open {
            lock,
            owner,
            who,
            moved: None,
        };
        let Some(handle) = self.handles.add(open) else {
            self.table.unpin(lock);
            return Err(Unknown);
        };
        Ok(Opened {
            slot: Slot::of(lock),
            handle,
            // A position is below 2^32.
            lent: self.words.place(lock).map(|_| lock.position() as u32),
        })
    }

    pub(super) fn request(
        &mut self,
        handle: Handle,
        mode: Mode,
        attempt: Attempt,
        cookie: u32,
        since: Option<u64>,
    ) -> Result<Outcome, Unknown> {
        let open = self.handles.get(handle).ok_or(Unknown)?;
        let (lock, owner) = (open.lock, open.owner);
        let tag = open.tag(handle, cookie, since);
        Ok(self.ask(lock, owner, mode, attempt, tag))
    }

    pub(super) fn chunk(&self, chunk: u32) -> Option<Chunk> {
        self.words.chunk(chunk).cloned()
    }

    pub(super) fn owner_of(&self, handle: Handle) -> OwnerId {
        self.handles.get(handle).map_or(NOBODY, |open| open.owner)
    }

    pub(super) fn cookie(&self, ticket: Ticket) -> u32 {
        self.table.get(ticket).map_or(0, |request| request.tag.cookie)
    }

    pub(super) fn token(&self, ticket: Ticket) -> Option<Token> {
        self.table.get(ticket).and_then(|request| request.state().token())
    }

    pub(super) fn handles(&self) -> usize {
        self.handles.len()
    }

    pub(super) fn requests(&self) -> usize {
        self.table.requests()
    }

    pub(super) fn locks(&self) -> usize {
        self.table.locks()
    }

    // Inlined so that a request is built in its place rather than copied from call to call: a sixth of a hand-over.
    #[inline(always)]
    fn ask(&mut self, lock: LockKey, owner: OwnerId, mode: Mode, attempt: Attempt, tag: Tag) -> Outcome {
        if attempt == Attempt::Try
            && let Word::Fast(holder) = Word::read(self.words.word(lock))
            && !self.is_cut_off(lock, holder)
        {
            return Outcome::Busy;
        }
        if !self.inflate(lock) {
            return Outcome::Busy;
        }
        let outcome = self.table.request_at(lock, owner, mode, attempt, tag);
        if outcome == Outcome::Busy {
            // Nobody may be there: the table is full of others' requests.
            self.deflate_if_idle(lock);
        }
        outcome
    }

    /// Gives the lock of a handle to it, exclusively and before all who wait. Not for words that are lent.
    pub(super) fn steal(
        &mut self,
        handle: Handle,
        cookie: u32,
        since: Option<u64>,
        stolen: &mut Vec<Stolen>,
    ) -> Result<Outcome, Unknown> {
        let open = self.handles.get(handle).ok_or(Unknown)?;
        let (lock, owner) = (open.lock, open.owner);
        let tag = open.tag(handle, cookie, since);
        if !self.inflate(lock) {
            return Ok(Outcome::Busy);
        }
        let Some((ticket, token, ended)) = self.table.steal(lock, owner, tag) else {
            self.deflate_if_idle(lock);
            return Ok(Outcome::Busy);
        };
        // Its requests ask the table anew when their thread hears of the loss.
        self.words.set_line(lock, 0);
        for hold in ended {
            let by_word = self
                .handles
                .get_mut(hold.tag.handle)
                .is_some_and(|open| open.moved.take_if(|moved| *moved == hold.ticket).is_some());
            stolen.push(Stolen {
                owner: hold.owner,
                handle: hold.tag.handle,
                ticket: (!by_word).then_some(hold.ticket),
            });
        }
        Ok(Outcome::Granted(ticket, token))
    }

    /// Whether what a handle took on the fast path is still its own.
    pub(super) fn holds(&mut self, handle: Handle) -> bool {
        let Some(Open { lock, moved, .. }) = self.handles.get(handle) else {
            return false;
        };
        moved.is_some_and(|ticket| self.table.get(ticket).is_some())
            || Word::read(self.words.word(*lock)) == Word::Fast(handle)
    }

    pub(super) fn ids(&self) -> Vec<Arc<str>> {
        self.table.ids().cloned().collect()
    }

    /// Makes everybody use the table for this lock. Whoever has it on the fast path goes on having it: false if the table has no room for that hold.
    fn inflate(&mut self, lock: LockKey) -> bool {
        // Ends: each round that fails is another thread's success in taking or freeing the lock, and the next round
        // begins with what that thread left.
        loop {
            let word = self.words.word(lock);
            match Word::read(word) {
                Word::Inflated => return true,
                Word::Free => {
                    if Word::Free.exchange(word, Word::Inflated) {
                        return true;
                    }
                }
                Word::Fast(_) if self.table.is_full() => return false,
                Word::Fast(handle) => {
                    if Word::Fast(handle).exchange(word, Word::Inflated) {
                        if !self.is_cut_off(lock, handle) {
                            self.move_in(lock, handle);
                        }
                        return true;
                    }
                }
            }
        }
    }

    /// What is known about a handle that stands at a lock; `None` if it is not open, or is another lock's.
    fn open_at(&self, lock: LockKey, handle: Handle) -> Option<&Open> {
        self.handles.get(handle).filter(|open| open.lock == lock)
    }

    /// Whether the handle in a word is that of somebody in another process who does not believe in it, see [`super::lent`].
    fn is_cut_off(&self, lock: LockKey, handle: Handle) -> bool {
        self.words.place(lock).is_some() && self.open_at(lock, handle).is_none()
    }

    /// Enters a hold of the fast path, which the word no longer shows, into the table.
    fn move_in(&mut self, lock: LockKey, handle: Handle) {
        let since = self.words.since(lock);
        let mut open = self.handles.get_mut(handle).filter(|open| open.lock == lock);
        let owner = open.as_ref().map_or(NOBODY, |open| open.owner);
        let tag = Tag {
            handle,
            cookie: 0,
            since,
            who: open.as_ref().map(|open| open.who.clone()).unwrap_or_default(),
        };
        let outcome = self.table.request_at(lock, owner, Mode::Exclusive, Attempt::Try, tag);
        if let (Outcome::Granted(ticket, _), Some(open)) = (outcome, &mut open) {
            open.moved = Some(ticket);
        }
    }

    /// To be called after each loss of a request: the fast path is open again when the last one is gone.
    fn deflate_if_idle(&mut self, lock: LockKey) {
        if self.table.is_idle(lock) {
            // Fails if the word is not inflated, and then there is nothing to do.
            Word::Inflated.exchange(self.words.word(lock), Word::Free);
        }
    }

    pub(super) fn release(&mut self, ticket: Ticket, owner: OwnerId, grants: &mut Vec<Grant>) -> Result<(), NotHeld> {
        let lock = self.table.get(ticket).ok_or(NotHeld)?.lock();
        self.table.release(ticket, owner, grants)?;
        self.deflate_if_idle(lock);
        Ok(())
    }

    pub(super) fn release_fast(&mut self, handle: Handle, grants: &mut Vec<Grant>) -> Result<(), NotHeld> {
        let open = self.handles.get_mut(handle).ok_or(NotHeld)?;
        if Word::Fast(handle).exchange(self.words.word(open.lock), Word::Free) {
            return Ok(());
        }
        let ticket = open.moved.take().ok_or(NotHeld)?;
        let owner = open.owner;
        self.release(ticket, owner, grants)
    }

    /// Ends the hold of whoever has left a mark at this lock, see [`super::lent`].
    pub(super) fn settle(&mut self, lock: LockKey, grants: &mut Vec<Grant>) {
        let Some(place) = self.words.place(lock) else { return };
        let handle = place.take_mark();
        let Some(owner) = self.open_at(lock, handle).map(|open| open.owner) else {
            return;
        };
        if let Some(ticket) = self.table.exclusive_hold(lock) {
            // Fails if somebody else holds.
            let _ = self.release(ticket, owner, grants);
        }
    }

    pub(super) fn settle_of(&mut self, handle: Handle, grants: &mut Vec<Grant>) {
        if let Some(lock) = self.handles.get(handle).map(|open| open.lock) {
            self.settle(lock, grants);
        }
    }

    pub(super) fn settle_id(&mut self, id: &str, grants: &mut Vec<Grant>) {
        if let Some(lock) = self.table.key(id) {
            self.settle(lock, grants);
        }
    }

    pub(super) fn cancel(&mut self, ticket: Ticket, owner: OwnerId, grants: &mut Vec<Grant>) -> Cancelled<()> {
        match self.table.cancel(ticket, owner, grants) {
            // Whoever it waited for is still there, so the table keeps the lock.
            Cancelled::Withdrawn(_) => Cancelled::Withdrawn(()),
            Cancelled::AlreadyGranted => Cancelled::AlreadyGranted,
            Cancelled::Unknown => Cancelled::Unknown,
        }
    }

    pub(super) fn close(&mut self, handle: Handle, grants: &mut Vec<Grant>) -> Result<(), Unknown> {
        let lock = self.handles.get(handle).ok_or(Unknown)?.lock;
        // Nothing held is fine.
        let _ = self.release_fast(handle, grants);
        self.handles.remove(handle);
        self.table.unpin(lock);
        Ok(())
    }

    pub(super) fn owner_gone(&mut self, owner: OwnerId, grants: &mut Vec<Grant>) {
        self.owners.remove(&owner);
        self.forget_lines_of(owner);
        let left = self.table.owner_gone(owner, grants);
        for gone in &left {
            self.deflate_if_idle(gone.lock);
        }
        for (handle, open) in self.handles.remove_all_of(owner) {
            // A word that shows a handle has nobody waiting for it, so freeing it is all.
            Word::Fast(handle).exchange(self.words.word(open.lock), Word::Free);
            self.table.unpin(open.lock);
        }
    }

    /// The lines of an owner end with it. To be called while it still holds what they waited for: then nobody else has begun
    /// a line there.
    fn forget_lines_of(&mut self, owner: OwnerId) {
        for (handle, open) in self.handles.all_of(owner) {
            let moved = open.moved.and_then(|ticket| self.table.get(ticket)).is_some();
            if moved || Word::read(self.words.word(open.lock)) == Word::Fast(handle) {
                self.words.set_line(open.lock, 0);
            }
        }
    }

    pub(super) fn ticket_of(&mut self, handle: Handle) -> Option<(Ticket, Token)> {
        let lock = self.handles.get(handle)?.lock;
        if !self.table.is_full() && Word::Fast(handle).exchange(self.words.word(lock), Word::Inflated) {
            self.move_in(lock, handle);
        }
        let ticket = self.handles.get(handle)?.moved?;
        let token = self.table.get(ticket)?.state().token()?;
        Some((ticket, token))
    }

    pub(super) fn snapshot(&mut self, id: &str) -> Snapshot {
        let Some(lock) = self.table.key(id) else {
            return Snapshot::default();
        };
        if let Word::Fast(handle) = Word::read(self.words.word(lock)) {
            if self.is_cut_off(lock, handle) {
                return Snapshot::default();
            }
            let open = self.open_at(lock, handle);
            let mut holder = Info::untold(
                open.map_or(NOBODY, |open| open.owner),
                open.map(|open| open.who.clone()).unwrap_or_default(),
            );
            holder.tag.since = self.words.since(lock);
            return Snapshot {
                pending: vec![holder.clone(); self.words.line(lock)],
                held: vec![holder],
            };
        }
        let snapshot = self.table.snapshot_at(lock);
        let infos = |seen: Vec<Seen<'_, Tag>>| -> Vec<Info> {
            seen.into_iter()
                .map(|one| Info {
                    owner: one.owner,
                    ticket: Some(one.ticket),
                    mode: one.mode,
                    token: one.token,
                    tag: one.tag.clone(),
                })
                .collect()
        };
        let (held, mut pending) = (infos(snapshot.held), infos(snapshot.pending));
        // They came before whoever made this lock use the table.
        if let (Some(holder), length @ 1..) = (held.first(), self.words.line(lock)) {
            let one = Info::untold(holder.owner, holder.tag.who.clone());
            pending.splice(0..0, vec![one; length]);
        }
        Snapshot { held, pending }
    }
}

// Its words exist under loom only inside a model.
#[cfg(all(test, not(loom)))]
mod tests;
