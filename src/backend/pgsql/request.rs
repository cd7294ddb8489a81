//! One ask of the runtime from its first `acquire` to its last `release`, and where in its life it is.

use super::claims::Claims;
use super::group::Group;
use super::key::Key;
use super::session::Session;
use crate::backend::{Ask, Refusal, Released, Taken};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use tokio::sync::Notify;

/// The steps of a request.
#[derive(Debug, Clone)]
pub enum Phase {
    /// On its way to the server, or waiting there.
    Asking,
    Held(Taken),
    /// Nothing of it is left at the server.
    Refused(Refusal),
    /// The lock is being given back.
    Freeing,
    Over(Released),
    /// The session that held it has ended.
    Lost,
}

/// Where a lock is held.
pub struct Hold {
    pub session: Rc<Session>,
    pub place: Place,
    /// Milliseconds since 1970.
    pub since: u64,
    pub token: Option<u64>,
}

/// Which kind of session holds it.
#[derive(Clone)]
pub enum Place {
    /// The session that all uncontended locks share.
    Main(Rc<Claims>),
    /// The session on which the lock was waited for, alone or together with other readers.
    Side,
}

pub struct Request {
    pub ask: Rc<Ask>,
    pub key: Key,
    phase: RefCell<Phase>,
    news: Notify,
    pub hold: RefCell<Option<Hold>>,
    /// The place in its session's list of holds.
    pub noted_at: Cell<usize>,
    /// With whom it waits.
    pub waits_in: RefCell<Option<Rc<Group>>>,
    withdrawn: Cell<bool>,
}

impl Request {
    pub fn new(ask: Rc<Ask>, key: Key) -> Self {
        Self {
            key,
            ask,
            phase: RefCell::new(Phase::Asking),
            news: Notify::new(),
            hold: RefCell::default(),
            noted_at: Cell::new(0),
            waits_in: RefCell::default(),
            withdrawn: Cell::new(false),
        }
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// The next step is taken.
    pub fn enters(&self, phase: Phase) {
        self.phase.replace(phase);
        self.news.notify_waiters();
    }

    /// Resolves with the first phase that is not `left`.
    pub async fn leaves(&self, left: impl Fn(&Phase) -> bool) -> Phase {
        loop {
            let news = self.news.notified();
            if !left(&self.phase.borrow()) {
                return self.phase();
            }
            news.await;
        }
    }

    /// Waits no more, with nobody.
    pub fn stands_alone(&self, phase: Phase) {
        self.waits_in.take();
        self.enters(phase);
    }

    /// Ends the wait, if there is one.
    pub fn withdraw(&self) {
        self.withdrawn.set(true);
        if let Some(group) = self.waits_in.borrow().as_ref() {
            group.stir();
        }
    }

    /// Whether the wait is to end.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.get()
    }
}
