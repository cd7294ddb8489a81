//! Waiting for a lock in the server's own queue, and leaving it.
//!
//! A session that waits can do nothing else, so each wait has a session of its own, which then holds the lock until it is given
//! back. It waits only while it holds nothing, so that PostgreSQL's deadlock detector never sees a circle through us.

use super::control::{Control, DOUBTS, Seen};
use super::group::{Group, Groups, withdrawal};
use super::key::Key;
use super::login::{Fault, Login, uncancelled};
use super::main_session::MainSession;
use super::query;
use super::request::{Place, Request};
use super::session::{Purpose, Session};
use super::sql::{self, Call, Verb};
use crate::backend::Refusal;
use crate::clock;
use crate::core::mode::Mode;
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// How long a session that nobody needs stays open for the next wait.
const IDLE: Duration = Duration::from_secs(3);
/// How many of them stay open like that.
const IDLING: usize = 8;
/// How often a lock that was contended is waited for without a try before somebody looks whether it still is.
const TAKEN_FOR_GRANTED: u8 = 31;
/// How often a group that found no free session looks whether the lock is free.
const LOOK: Duration = Duration::from_millis(200);
/// The right to wait at the server.
pub type Slot = OwnedSemaphorePermit;

/// A session that waits at present.
struct Waiter {
    session: Rc<Session>,
    doubts: Cell<u8>,
}

pub struct Waiting {
    login: Rc<Login>,
    main: Rc<MainSession>,
    control: Rc<Control>,
    pub groups: Groups,
    /// Each wait costs a connection, of which a server has 100 by default.
    slots: Arc<Semaphore>,
    /// Sessions that hold nothing and execute nothing, each with a number of its own.
    idle: RefCell<Vec<(u64, Rc<Session>)>>,
    waiters: RefCell<Vec<Rc<Waiter>>>,
    all: RefCell<Vec<Weak<Session>>>,
    stamps: Cell<u64>,
    closed: Cell<bool>,
    /// Is told of each request that was granted its lock.
    granted: Box<dyn Fn(Rc<Request>)>,
}

impl Waiting {
    pub fn new(
        login: &Rc<Login>,
        main: &Rc<MainSession>,
        control: &Rc<Control>,
        granted: impl Fn(Rc<Request>) + 'static,
    ) -> Rc<Self> {
        let slots = usize::try_from(login.options.max_waiting).unwrap_or(usize::MAX);
        Rc::new(Self {
            login: login.clone(),
            main: main.clone(),
            control: control.clone(),
            groups: Groups::default(),
            slots: Arc::new(Semaphore::new(slots.min(Semaphore::MAX_PERMITS))),
            idle: RefCell::default(),
            waiters: RefCell::default(),
            all: RefCell::default(),
            stamps: Cell::new(0),
            closed: Cell::new(false),
            granted: Box::new(granted),
        })
    }

    /// The right to wait for a lock that was contended a moment ago, if the session is at hand on which that was seen. To wait
    /// at once spares a try that would be in vain, and costs no more than the try should the lock be free.
    pub fn slot_without_a_try(&self, key: Key) -> Option<Slot> {
        let idle = self.idle.borrow();
        let (session, left) = idle.iter().find_map(|(_, session)| match session.contended.get() {
            Some((seen, left)) if seen == key && session.is_open() => Some((session, left)),
            _ => None,
        })?;
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        session.contended.set(left.checked_sub(1).map(|left| (key, left)));
        Some(slot)
    }

    /// Waits until the server grants the lock to the group, which gives each of its members a share.
    ///
    /// Those who are refused learn why. Their session is at its end then, also for the server if that could be reached.
    ///
    /// Who comes with a `slot` has not tried for the lock, see [`Waiting::slot_without_a_try`].
    pub async fn wait(self: Rc<Self>, group: Rc<Group>, mut slot: Option<Slot>) {
        let outcome = self.stand(&group, &mut slot).await;
        // In the same step in which the wait has ended: who came from now on would be told how others' wait has ended.
        self.groups.close(&group);
        if let Err(refusal) = outcome {
            // Our side has given the session up; the server must not go on waiting, or be granted the lock, for nobody. Should this
            // fail, releasing the requests will see to it.
            let _ = self.control.end_left_behind().await;
            group.refuse(&refusal);
        }
    }

    async fn stand(self: &Rc<Self>, group: &Rc<Group>, slot: &mut Option<Slot>) -> Result<(), Refusal> {
        let tried = slot.is_none();
        if tried {
            *slot = self.turn(group).await?;
        }
        let (Some(_), Some(first)) = (slot, group.first()) else {
            return Ok(());
        };
        // What looks after the wait is there before the wait.
        let ready = async { tokio::try_join!(self.take(group.key), self.control.ready()) };
        let (session, controlled) = tokio::select! {
            biased;
            () = group.deserted() => return Err(withdrawal().into()),
            ready = ready => ready?,
        };
        let main = self.main.get().await?.session.server;
        if session.server != main || controlled != main {
            // Several servers behind one name, or one that was replaced this moment: their queues have nothing to do with
            // each other.
            session.close();
            self.control.rest();
            let message = format!(
                "the server at {} is not the one that keeps the other locks",
                session.peer
            );
            return Err(Error::new(Kind::Connect, message).into());
        }
        if tried {
            session.contended.set(Some((group.key, TAKEN_FOR_GRANTED)));
        }
        group.wait.pid.set(Some(session.id.pid));
        query::rename(&session, &first, &self.login.context.identity).await;
        let waiter = Rc::new(Waiter {
            session: session.clone(),
            doubts: Cell::new(0),
        });
        self.waiters.borrow_mut().push(waiter.clone());
        self.watch();
        let outcome = self.stand_on(&session, group).await;
        self.waiters.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiter));
        outcome
    }

    /// Waits in this process for the right to wait at the server, and looks now and then whether the lock is free. `None`: all
    /// have got it like that.
    async fn turn(&self, group: &Rc<Group>) -> Result<Option<Slot>, Refusal> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Ok(Some(slot));
        }
        let mut slot = pin!(self.slots.clone().acquire_owned());
        loop {
            let slot = tokio::select! {
                biased;
                () = group.deserted() => return Err(withdrawal().into()),
                // The semaphore is never closed.
                slot = &mut slot => slot.ok(),
                () = sleep(LOOK + jitter()) => None,
            };
            // Also with the right to wait: after all that time a connection may have become needless.
            let main = self.main.get().await?;
            while let Some(first) = group.first() {
                let taken = main.attempt(group.key, group.mode).await.map_err(Error::from)?;
                if !taken {
                    break;
                }
                first.holds(&main.session, Place::Main(main.clone()));
                group.part(&first);
                (self.granted)(first);
            }
            if group.first().is_none() {
                return Ok(None);
            }
            if slot.is_some() {
                return Ok(slot);
            }
        }
    }

    async fn stand_on(&self, session: &Rc<Session>, group: &Rc<Group>) -> Result<(), Refusal> {
        let tick = (self.login.ttl() / 20).clamp(Duration::from_millis(20), Duration::from_secs(1));
        // The server counts the lease from our side's acknowledgement of its answer, which may have been long ago if this process
        // was stopped meanwhile. At this moment the answer had not arrived, because it would have been seen a tick later.
        let mut not_yet = clock::now();
        let mut statement = pin!(uncancelled(async |again| session
            .execute(&sql::wait(group.mode, group.key, again))
            .await));
        let answer = loop {
            let now = clock::now();
            tokio::select! {
                biased;
                answer = &mut statement => break answer,
                () = group.deserted() => {
                    session.cut(withdrawal());
                    return Err(withdrawal().into());
                }
                () = sleep(tick) => not_yet = now,
            }
        };
        match answer {
            Ok(()) if session.is_open() => {
                session.heard.set(session.heard.get().max(not_yet));
                self.groups.close(group);
                group.sweep();
                let members = group.take();
                let left = Rc::new(Cell::new(u32::try_from(members.len()).unwrap_or(u32::MAX)));
                for member in &members {
                    member.holds(session, Place::Own(left.clone()));
                }
                for member in members {
                    (self.granted)(member);
                }
                Ok(())
            }
            Ok(()) => Err(session.lost().into()),
            Err(fault) => {
                // The lock may have been granted before that.
                let error = Error::from(fault);
                session.cut(error.clone());
                Err(error.into())
            }
        }
    }

    /// Gives back one of the shares of a lock that was waited for, of which so many were `left`; with the last one the session.
    pub async fn free(
        self: &Rc<Self>,
        session: &Rc<Session>,
        left: &Cell<u32>,
        key: Key,
        mode: Mode,
    ) -> Result<bool, Fault> {
        left.set(left.get() - 1);
        if left.get() > 0 {
            return match session.is_open() {
                true => Ok(true),
                false => Err(Fault::Gone(session.lost())),
            };
        }
        // If it was cancelled after it had done its work, the next one finds nothing: nothing else is held here.
        let freed =
            uncancelled(async |again| Ok(session.call(Call::new(Verb::Free, mode, key), key).await? || again)).await?;
        self.give_back(session.clone());
        Ok(freed)
    }

    /// A session that holds nothing, to wait for `key`: an idle one, or a new one.
    async fn take(&self, key: Key) -> Result<Rc<Session>> {
        while let Some(session) = self.pop(key) {
            if session.is_open() {
                return Ok(session);
            }
        }
        let session = Session::open(&self.login, Purpose::Locks).await?;
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
    fn give_back(self: &Rc<Self>, session: Rc<Session>) {
        if self.closed.get() || self.idle.borrow().len() >= IDLING {
            return session.close();
        }
        let stamp = self.stamps.replace(self.stamps.get() + 1);
        self.idle.borrow_mut().push((stamp, session));
        let this = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            sleep(IDLE).await;
            let Some(this) = this.upgrade() else { return };
            this.idle.borrow_mut().retain(|(other, session)| {
                if *other == stamp {
                    session.close();
                }
                *other != stamp
            });
        });
    }

    /// Closes the idle sessions.
    pub fn rest(&self) {
        for (_, session) in self.idle.take() {
            session.close();
        }
    }

    /// Closes the idle sessions and gives back all that are still open, whatever they do.
    pub fn close(&self) -> Vec<Rc<Session>> {
        self.closed.set(true);
        self.rest();
        self.all.take().iter().filter_map(Weak::upgrade).collect()
    }

    /// Looks at the server whether the sessions that wait still do. One that is gone, or whose statement or grant got lost on the
    /// way, is given up: its request has to ask again, and the server must not keep the lock for nobody.
    pub async fn look(&self) -> Result<()> {
        let waiters = self.waiters.borrow().clone();
        if waiters.is_empty() {
            return Ok(());
        }
        let seen = self
            .control
            .look(waiters.iter().map(|waiter| waiter.session.id))
            .await?;
        let wait_still = self.waiters.borrow().clone();
        for waiter in waiters
            .iter()
            .filter(|waiter| wait_still.iter().any(|still| Rc::ptr_eq(still, waiter)))
        {
            let session = &waiter.session;
            match seen.get(&session.id.pid) {
                Some(Seen::Waits) => waiter.doubts.set(0),
                Some(Seen::Holds | Seen::Busy | Seen::Idle) => waiter.doubts.set(waiter.doubts.get() + 1),
                None => waiter.doubts.set(DOUBTS),
            }
            if waiter.doubts.get() >= DOUBTS {
                let message = format!("a waiting connection to {} has died", session.peer);
                session.cut(Error::new(Kind::Connect, message));
            }
        }
        Ok(())
    }

    fn watch(self: &Rc<Self>) {
        let this = Rc::downgrade(self);
        self.control
            .watch(move || this.upgrade().is_some_and(|this| !this.waiters.borrow().is_empty()));
    }
}

/// Up to [`LOOK`] more, so that processes do not look in step.
fn jitter() -> Duration {
    let share = getrandom::u32().unwrap_or(0);
    LOOK.mul_f64(f64::from(share) / f64::from(u32::MAX))
}
