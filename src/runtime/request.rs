//! One request of JavaScript for one lock, from the call to the end of its hold.

use super::commands::{Call, MutexId};
use super::express::{Adoption, Late, Presence, Stage};
use crate::backend::{Ask, Attempt};
use crate::clock;
use crate::core::ids::Ticket;
use crate::core::time::Moment;
use crate::error::Error;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Behind other requests of this process.
    Queued,
    /// The backend has been asked.
    Asking,
    /// Granted, and believed in.
    Held,
    /// On its way out: released, withdrawn or lost.
    Leaving,
}

/// How the last renewal that concerned a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    None,
    UnderWay(Moment),
    Answered(Moment),
}

pub struct Request {
    pub call: Call,
    pub mutex: MutexId,
    pub ask: Rc<Ask>,
    pub phase: Cell<Phase>,
    /// The place in the gate.
    pub ticket: Cell<Option<Ticket>>,
    /// Set by whoever wants an asking request to give up.
    stop: Cell<bool>,
    stopped: Notify,
    /// Set when nothing of this request is left in this process.
    finished: Cell<bool>,
    on_finished: Notify,
    /// The hold's fencing token, as far as this side knows it.
    pub token: Cell<Option<u64>>,
    pub renewal: Cell<Renewal>,
    /// Why the server could not be asked the last time, while it has not answered since.
    pub trouble: RefCell<Option<Error>>,
    /// The hold was lost before the runtime had heard of the grant.
    pub lost: RefCell<Option<Error>>,
    /// When `max_hold` ends the hold.
    pub hold_limit: Cell<Option<Moment>>,
    /// Keeps others of the same lock out of the express lane until this one is finished.
    pub presence: RefCell<Option<Presence>>,
    /// What the express lane has asked for it and was not answered.
    pub late: RefCell<Option<Late>>,
    /// An earlier release may have freed the lock without a word of that.
    pub unanswered: Cell<bool>,
    /// When what is to be answered within `connect_timeout` must be, if that was asked before it came to where it is now.
    pub deadline: Cell<Option<Instant>>,
}

impl Request {
    pub fn new(call: Call, mutex: MutexId, ask: Ask, presence: Option<Presence>) -> Self {
        Self {
            call,
            mutex,
            ask: Rc::new(ask),
            phase: Cell::new(Phase::Queued),
            ticket: Cell::new(None),
            stop: Cell::new(false),
            stopped: Notify::new(),
            finished: Cell::new(false),
            on_finished: Notify::new(),
            token: Cell::new(None),
            renewal: Cell::new(Renewal::None),
            trouble: RefCell::default(),
            lost: RefCell::default(),
            hold_limit: Cell::new(None),
            presence: RefCell::new(presence),
            late: RefCell::default(),
            unanswered: Cell::new(false),
            deadline: Cell::new(None),
        }
    }

    /// A request that was in the express lane.
    pub fn adopted(adoption: Adoption, limit: Duration) -> Self {
        let is_urgent = match adoption.stage {
            Stage::Releasing => true,
            Stage::Asking | Stage::Waiting => adoption.ask.attempt == Attempt::Try,
            Stage::Held => false,
        };
        let waited = clock::now().since(adoption.sent);
        let deadline = Instant::now() + limit.saturating_sub(waited);
        Self {
            late: RefCell::new(adoption.late),
            unanswered: Cell::new(adoption.unanswered),
            deadline: Cell::new(is_urgent.then_some(deadline)),
            ..Self::new(adoption.call, adoption.mutex, adoption.ask, Some(adoption.presence))
        }
    }

    /// When `limit` is over: the deadline that was set before, or counted from now.
    pub fn ends(&self, limit: Duration) -> Instant {
        self.deadline.take().unwrap_or_else(|| Instant::now() + limit)
    }

    pub fn stop(&self) {
        self.stop.set(true);
        self.stopped.notify_waiters();
    }

    /// Resolves once [`Request::stop`] was called.
    pub async fn stopped(&self) {
        wait_for(&self.stop, &self.stopped).await;
    }

    pub fn finish(&self) {
        self.presence.take();
        self.finished.set(true);
        self.on_finished.notify_waiters();
    }

    /// Resolves once [`Request::finish`] was called.
    pub async fn finished(&self) {
        wait_for(&self.finished, &self.on_finished).await;
    }
}

async fn wait_for(flag: &Cell<bool>, notify: &Notify) {
    loop {
        // Registered before the flag is read; on one thread nothing can come between these two lines anyway.
        let notified = notify.notified();
        if flag.get() {
            return;
        }
        notified.await;
    }
}
