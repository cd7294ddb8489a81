//! Readers of this process who wait for one lock share a session for it, and what that is granted.
//!
//! Nobody passes a writer like this: a reader joins a group only if no writer stands behind it at the server, and becomes a group of its
//! own otherwise.

use super::control::Control;
use super::key::Key;
use super::request::{Phase, Request, Wait};
use super::session::Parameter;
use super::sql;
use crate::backend::Refusal;
use crate::core::mode::Mode;
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use tokio_postgres::types::Type;

/// Requests of this process that wait for one lock as one. Writers are always groups of one.
pub struct Group {
    pub key: Key,
    pub mode: Mode,
    pub wait: Rc<Wait>,
    /// In the order of their coming; never empty while the group is open.
    members: RefCell<Vec<Rc<Request>>>,
    closed: Cell<bool>,
}

impl Group {
    fn new(first: Rc<Request>) -> Rc<Self> {
        let group = Rc::new(Self {
            key: first.key,
            mode: first.ask.mode,
            wait: Rc::default(),
            members: RefCell::default(),
            closed: Cell::new(false),
        });
        group.enter(first);
        group
    }

    fn enter(&self, request: Rc<Request>) {
        if request.is_withdrawn() {
            self.wait.stirred.notify_one();
        }
        *request.wait.borrow_mut() = self.wait.clone();
        self.members.borrow_mut().push(request);
    }

    /// For whom the group goes to the server.
    pub fn first(&self) -> Option<Rc<Request>> {
        self.members.borrow().first().cloned()
    }

    /// Lets all go who want to, but for the last one, for whom something may still have to be undone at the server.
    /// Whether somebody is left who waits.
    pub fn sweep(&self) -> bool {
        let mut members = self.members.borrow_mut();
        let awaited = members.iter().any(|member| !member.is_withdrawn());
        let last = if awaited { None } else { members.pop() };
        members.retain(|member| {
            if member.is_withdrawn() {
                member.wait.replace(Rc::default());
                member.enters(Phase::Refused(withdrawal().into()));
            }
            !member.is_withdrawn()
        });
        members.extend(last);
        awaited
    }

    /// Resolves when nobody waits any more.
    pub async fn deserted(&self) {
        while self.sweep() {
            self.wait.stirred.notified().await;
        }
    }

    /// One of them leaves the group, because it was granted the lock elsewhere.
    pub fn part(&self, member: &Rc<Request>) {
        self.members.borrow_mut().retain(|other| !Rc::ptr_eq(other, member));
        member.wait.replace(Rc::default());
    }

    /// All leave it, with what becomes of them still to be said.
    pub fn take(&self) -> Vec<Rc<Request>> {
        let members = self.members.take();
        for member in &members {
            member.wait.replace(Rc::default());
        }
        members
    }

    /// All leave it, and none has got the lock.
    pub fn refuse(&self, refusal: &Refusal) {
        for member in self.take() {
            member.enters(Phase::Refused(refusal.clone()));
        }
    }

    /// Whether a writer stands behind this group in the server's queue. As long as the group is not in the queue itself, nobody
    /// does.
    async fn holds_back_a_writer(&self, control: &Control) -> Result<bool> {
        let Some(pid) = self.wait.pid.get() else {
            return Ok(false);
        };
        let (class, object, sub) = self.key.locator();
        let parameters: [Parameter<'_>; 4] = [
            (&class, Type::INT8),
            (&object, Type::INT8),
            (&sub, Type::INT2),
            (&pid, Type::INT4),
        ];
        let rows = control.ask(|_| sql::writer_behind(), &parameters).await?;
        Ok(rows.first().is_none_or(|row| row.try_get(0).unwrap_or(true)))
    }
}

/// What became of an attempt to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    Joined,
    /// There is nobody to wait with.
    Alone,
    /// The others have got the lock, or given up, this moment.
    TooLate,
}

/// The groups that can be joined: of each lock the readers that came last.
#[derive(Default)]
pub struct Groups(RefCell<HashMap<Key, Rc<Group>>>);

impl Groups {
    /// Lets the request wait with the readers of this process who wait already, if that passes nobody.
    pub async fn join(&self, request: &Rc<Request>, control: &Control) -> Result<Joining> {
        let Some(group) = self.open_to(request) else {
            return Ok(Joining::Alone);
        };
        if group.holds_back_a_writer(control).await? {
            return Ok(Joining::Alone);
        }
        if group.closed.get() {
            return Ok(Joining::TooLate);
        }
        group.enter(request.clone());
        Ok(Joining::Joined)
    }

    /// Whether somebody waits with whom the request could wait.
    pub fn can_be_joined(&self, request: &Request) -> bool {
        self.open_to(request).is_some()
    }

    fn open_to(&self, request: &Request) -> Option<Rc<Group>> {
        match request.ask.mode {
            Mode::Shared => self.0.borrow().get(&request.key).cloned(),
            Mode::Exclusive => None,
        }
    }

    /// The request waits, and so may those who join it.
    pub fn begin(&self, request: Rc<Request>) -> Rc<Group> {
        let group = Group::new(request);
        if group.mode == Mode::Shared {
            self.0.borrow_mut().insert(group.key, group.clone());
        }
        group
    }

    /// Nobody joins the group any more.
    pub fn close(&self, group: &Rc<Group>) {
        group.closed.set(true);
        let mut groups = self.0.borrow_mut();
        if groups.get(&group.key).is_some_and(|last| Rc::ptr_eq(last, group)) {
            groups.remove(&group.key);
        }
    }
}

/// Why a request ends that nobody waits for any more. Not final: should it ever reach somebody who does, he asks again.
pub fn withdrawal() -> Error {
    Error::new(Kind::Connect, "the request was withdrawn")
}
