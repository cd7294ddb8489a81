//! Side sessions: what a lock is waited for on, because a session that waits can do nothing else.
//!
//! A session waits only while it holds nothing, so that PostgreSQL's deadlock detector never sees a circle through us; a
//! lock that was waited for stays on its session until it is given back.

use super::failure::Fault;
use super::key::Key;
use super::login::Login;
use super::main_session;
use super::session::{self, Session};
use super::sql::{Call, FREE_ALL};
use crate::core::mode::Mode;
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a side session that nobody needs stays open for the next.
const IDLE: Duration = Duration::from_secs(3);

/// How many of them stay open like that.
const IDLING: usize = 8;

/// How often a lock that was contended is waited for without a try before somebody looks whether it still is.
pub const TAKEN_FOR_GRANTED: u8 = 31;

pub struct Side {
    login: Rc<Login>,
    /// The right to wait at the server: each wait costs a connection, of which a server has 100 by default.
    slots: Arc<Semaphore>,
    idle: RefCell<Vec<(u64, Rc<Session>)>>,
    all: RefCell<Vec<Weak<Session>>>,
    stamps: Cell<u64>,
    closed: Cell<bool>,
}

impl Side {
    pub fn new(login: Rc<Login>) -> Rc<Self> {
        let slots = usize::try_from(login.options.max_waiting).unwrap_or(usize::MAX);
        Rc::new(Self {
            login,
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            idle: RefCell::default(),
            all: RefCell::default(),
            stamps: Cell::new(0),
            closed: Cell::new(false),
        })
    }

    /// The right to wait at the server, if there is one left.
    pub fn slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Resolves with the right to wait at the server, first come, first served.
    pub async fn next_slot(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.slots.clone().acquire_owned().await.ok()
    }

    /// The right to wait for a lock that was contended a moment ago, if the session is at hand on which that was seen. To wait
    /// at once spares a try that would be in vain, and costs no more than the try should the lock be free.
    pub fn slot_without_a_try(&self, key: Key) -> Option<OwnedSemaphorePermit> {
        let idle = self.idle.borrow();
        let (session, left) = idle.iter().find_map(|(_, session)| match session.contended.get() {
            Some((seen, left)) if seen == key && session.is_open() => Some((session, left)),
            _ => None,
        })?;
        let slot = self.slot()?;
        session.contended.set(left.checked_sub(1).map(|left| (key, left)));
        Some(slot)
    }

    /// A session that holds nothing, to execute `wait` for `key`: an idle one, or a new one.
    pub async fn take(&self, wait: Call, key: Key) -> Result<Rc<Session>> {
        while let Some(session) = self.pop(key) {
            if session.is_open() {
                return Ok(session);
            }
        }
        let session = session::open(&self.login, wait).await?;
        let mut all = self.all.borrow_mut();
        all.retain(|other| other.strong_count() > 0);
        all.push(Rc::downgrade(&session));
        Ok(session)
    }

    /// The idle session that had to wait for `key` before, else the one that has been idle for the shortest time.
    fn pop(&self, key: Key) -> Option<Rc<Session>> {
        let mut idle = self.idle.borrow_mut();
        let last = idle.len().checked_sub(1)?;
        let at = idle
            .iter()
            .rposition(|(_, session)| session.contended.get().is_some_and(|(seen, _)| seen == key));
        Some(idle.remove(at.unwrap_or(last)).1)
    }

    /// Takes a session back that holds nothing and executes nothing. It is closed unless somebody needs it soon.
    pub fn give_back(self: &Rc<Self>, session: Rc<Session>) {
        if self.closed.get() || self.idle.borrow().len() >= IDLING {
            return session.close();
        }
        let stamp = self.stamps.replace(self.stamps.get() + 1);
        self.idle.borrow_mut().push((stamp, session));
        let this = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(IDLE).await;
            let Some(this) = this.upgrade() else { return };
            this.idle.borrow_mut().retain(|(other, session)| {
                if *other == stamp {
                    session.close();
                }
                *other != stamp
            });
        });
    }

    /// Gives back one of the holds on a session, and with the last one the session.
    pub async fn free(self: &Rc<Self>, session: &Rc<Session>, key: Key, mode: Mode) -> Result<bool, Fault> {
        let freed = main_session::free(session, key, mode).await?;
        self.leave(session).await;
        Ok(freed)
    }

    /// One user less; the last one gives the session back, with nothing on it.
    pub async fn leave(self: &Rc<Self>, session: &Rc<Session>) {
        session.users.set(session.users.get() - 1);
        if session.users.get() > 0 {
            return;
        }
        if session.in_doubt.replace(false) {
            self.clear(session).await;
        } else {
            self.give_back(session.clone());
        }
    }

    /// Gives up whatever a statement that failed or was cancelled may have been granted first, and then the session to
    /// the next. If a cancel request was late, it hits this instead of the statement, hence the second try.
    pub async fn clear(self: &Rc<Self>, session: &Rc<Session>) {
        for _ in 0..3 {
            match session.execute(FREE_ALL).await {
                Ok(()) => return self.give_back(session.clone()),
                Err(Fault::Cancelled(_)) => {}
                Err(fault) => return session.cut(fault.into()),
            }
        }
        session.cut(Error::new(
            Kind::Connect,
            format!("PostgreSQL at {} goes on cancelling", session.peer),
        ));
    }

    /// Closes the idle ones and gives back all that are still open, whatever they do.
    pub fn close(&self) -> Vec<Rc<Session>> {
        self.closed.set(true);
        let idle = self.idle.take();
        for (_, session) in &idle {
            session.close();
        }
        self.all.take().iter().filter_map(Weak::upgrade).collect()
    }
}
