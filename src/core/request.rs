//! One request in the table, and the two lists it is in.

use super::ids::{Index, LockKey, OwnerId, Token};
use super::mode::Mode;
use super::queue::{Linked, Links};
use super::slab::Slab;

/// Where a request is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Waiting,
    Held(Token),
}

impl State {
    /// The token of a hold.
    pub fn token(self) -> Option<Token> {
        match self {
            State::Waiting => None,
            State::Held(token) => Some(token),
        }
    }
}

/// A request that waits or holds.
#[derive(Debug)]
pub struct Request<T> {
    pub(super) owner: OwnerId,
    pub(super) mode: Mode,
    pub(super) state: State,
    pub(super) lock: Index,
    pub(super) in_lock: Links,
    pub(super) in_owner: Links,
    /// What the table's master wants to remember with the request.
    pub tag: T,
}

impl<T> Request<T> {
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn lock(&self) -> LockKey {
        LockKey(self.lock)
    }
}

/// The requests seen as members of their locks' queues.
pub(super) struct ByLock<'a, T>(pub(super) &'a mut Slab<Request<T>>);

impl<T> Linked for ByLock<'_, T> {
    fn links_mut(&mut self, index: Index) -> Option<&mut Links> {
        self.0.get_mut(index).map(|request| &mut request.in_lock)
    }
}

/// The requests seen as members of their owners' lists.
pub(super) struct ByOwner<'a, T>(pub(super) &'a mut Slab<Request<T>>);

impl<T> Linked for ByOwner<'_, T> {
    fn links_mut(&mut self, index: Index) -> Option<&mut Links> {
        self.0.get_mut(index).map(|request| &mut request.in_owner)
    }
}
