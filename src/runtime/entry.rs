//! One server as this process sees it: its backend, the gate in front, and what is held and asked there.

use super::commands::{Call, EnvId, MutexId, Notice, Sink};
use super::express::{Express, Stage as Laned};
use super::leftovers::Leftovers;
use super::request::{Phase, Renewal, Request};
use super::{asking, keeper, leaving, outage, renewing, trying};
use crate::backend::{Attempt, Backend, Identity, Owner, Stage, Taken};
use crate::clock;
use crate::core::ids::{OwnerId, Ticket};
use crate::core::lease::Terms;
use crate::core::table::{Grant, Outcome, Table};
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use crate::url::Server;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

/// The requests of this process, from the call until nothing of them is left here.
pub type Requests = Rc<RefCell<HashMap<Call, Rc<Request>>>>;

/// What all servers of the process share.
pub struct Surroundings {
    pub sink: Arc<dyn Sink>,
    pub identity: Arc<Identity>,
    pub express: Weak<Express>,
    pub requests: Requests,
}

/// A server with at least one open mutex.
pub struct Entry {
    pub server: Server,
    pub backend: Rc<dyn Backend>,
    pub terms: Terms,
    pub sink: Arc<dyn Sink>,
    pub identity: Arc<Identity>,
    pub express: Weak<Express>,
    gate: RefCell<Table<Rc<Request>>>,
    /// Every request that asks or holds, by the owner that the server knows it by.
    pub active: RefCell<HashMap<Owner, Rc<Request>>>,
    requests: Requests,
    pub leftovers: Leftovers,
    /// Wakes those who wait for somebody else of this process.
    pub moved: Notify,
    /// Why the server could not be reached the last time, while it has not answered since.
    pub outage: RefCell<Option<Error>>,
    /// Wakes the keeper when there is something new to keep.
    pub keeper: Notify,
    /// Wakes requests that pause between two tries.
    pub reconnected: Notify,
    pub mutexes: RefCell<HashMap<MutexId, EnvId>>,
    /// Mutexes whose `open()` waits for the server to answer, and whether it has been asked.
    pub opening: RefCell<Vec<(MutexId, Call)>>,
    pub checking: Cell<bool>,
    /// The connection is gone, as far as has been told.
    is_away: Cell<bool>,
    pub closed: Cell<bool>,
}

impl Entry {
    pub fn new(server: Server, backend: Rc<dyn Backend>, around: Surroundings) -> Self {
        let Surroundings {
            sink,
            identity,
            express,
            requests,
        } = around;
        Self {
            server,
            terms: backend.terms(),
            backend,
            sink,
            identity,
            express,
            gate: RefCell::new(Table::new(0)),
            active: RefCell::default(),
            requests,
            leftovers: Leftovers::default(),
            moved: Notify::new(),
            outage: RefCell::default(),
            keeper: Notify::new(),
            reconnected: Notify::new(),
            mutexes: RefCell::default(),
            opening: RefCell::default(),
            checking: Cell::new(false),
            is_away: Cell::new(false),
            closed: Cell::new(false),
        }
    }

    pub fn notify(&self, request: &Request, notice: Notice) {
        self.sink.notify(request.call, notice);
    }

    /// Takes the request's place in the gate, now, and asks the server when its turn has come. Returns whether it waits or
    /// asks; `false` means that it tried and this process holds the lock.
    pub fn enter(self: &Rc<Self>, request: &Rc<Request>) -> bool {
        if request.ask.attempt == Attempt::Steal {
            // It goes before all who wait, here as at the server, and has no place in the gate: who has one asks the server as well.
            self.begin(request.clone());
            return true;
        }
        match self.at_the_gate(request, request.ask.attempt) {
            Outcome::Granted(ticket, _) => {
                request.ticket.set(Some(ticket));
                self.begin(request.clone());
                true
            }
            Outcome::Queued(ticket) => {
                request.ticket.set(Some(ticket));
                request.ask.waited.set(true);
                if request.ask.attempt == Attempt::Try {
                    tokio::task::spawn_local(trying::wait_for_turn(self.clone(), request.clone()));
                }
                true
            }
            Outcome::Busy => false,
        }
    }

    fn at_the_gate(&self, request: &Rc<Request>, attempt: Attempt) -> Outcome {
        let (id, owner, mode) = (&request.ask.id, OwnerId(request.call.env), request.ask.mode);
        let outcome = self
            .gate
            .borrow_mut()
            .request(id, owner, mode, attempt, request.clone());
        if outcome == Outcome::Busy && !self.is_ahead(request, &[Phase::Held]) {
            // Who has the lock is not known yet.
            return self
                .gate
                .borrow_mut()
                .request(id, owner, mode, Attempt::Wait, request.clone());
        }
        outcome
    }

    /// Whether another request of the same lock has its turn in the gate, and is in one of these phases.
    pub fn is_ahead(&self, request: &Request, phases: &[Phase]) -> bool {
        let gate = self.gate.borrow();
        let turns = gate.snapshot(&request.ask.id).held;
        turns
            .iter()
            .any(|other| !std::ptr::eq(&**other.tag, request) && phases.contains(&other.tag.phase.get()))
    }

    /// Takes over what the express lane has of a request. Nobody of this process has anything of its lock: the lane sees to that.
    pub fn adopt(self: &Rc<Self>, request: &Rc<Request>, stage: Laned, sent: Moment) {
        if matches!(stage, Laned::Asking | Laned::Waiting) {
            if !self.enter(request) {
                self.notify(request, Notice::Busy);
                tokio::task::spawn_local(leaving::undo(self.clone(), request.clone()));
            }
            return;
        }
        request.phase.set(Phase::Held);
        request.ask.stage.set(Stage::Held);
        self.backend.adopt(request.ask.clone(), sent);
        self.active
            .borrow_mut()
            .insert(request.ask.owner.clone(), request.clone());
        self.enter(request);
        self.wake_keeper_for(request);
        if stage == Laned::Releasing {
            request.phase.set(Phase::Leaving);
            tokio::task::spawn_local(leaving::release(self.clone(), request.clone()));
        }
    }

    fn begin(self: &Rc<Self>, request: Rc<Request>) {
        self.active
            .borrow_mut()
            .insert(request.ask.owner.clone(), request.clone());
        if request.phase.get() != Phase::Queued {
            return; // It comes from the express lane, and holds.
        }
        request.phase.set(Phase::Asking);
        self.moved.notify_waiters();
        tokio::task::spawn_local(asking::ask(self.clone(), request));
    }

    /// The server granted: from now on the keeper watches the hold. `false` if it came so late that its lease is over; then there is
    /// no hold.
    pub fn hold(self: &Rc<Self>, request: &Rc<Request>, taken: Taken) -> bool {
        let now = clock::now();
        if !request.ask.lease.begin(taken.leased_at, now) {
            return false;
        }
        request.phase.set(Phase::Held);
        request.ask.stage.set(Stage::Held);
        request.renewal.set(Renewal::None);
        request.token.set(taken.token);
        if request.ask.attempt == Attempt::Steal && request.lost.borrow().is_none() {
            self.rob(request);
        }
        request
            .hold_limit
            .set(self.server.options.max_hold.map(|limit| now + limit));
        self.wake_keeper_for(request);
        self.notify(
            request,
            Notice::Granted {
                // Some servers give one for nothing; who did not ask for one is not told, so that all are alike.
                token: taken.token.filter(|_| request.ask.fenced),
                lease: request.ask.lease.clone(),
            },
        );
        self.moved.notify_waiters();
        if let Some(error) = request.lost.take() {
            self.lose(request, error);
        }
        true
    }

    /// The keeper looks often enough for a fresh lease; one that is older must not wait for that.
    fn wake_keeper_for(&self, request: &Request) {
        let next_look = clock::now() + keeper::look_every(&self.terms);
        let is_due = renewing::due(request, &self.terms).is_none_or(|due| due < next_look);
        if is_due || request.hold_limit.get().is_some() {
            self.keeper.notify_one();
        }
    }

    /// The server no longer has what this owner holds. Where the runtime has not heard of the grant yet, it is told of both.
    pub fn lose_owner(self: &Rc<Self>, owner: &Owner, error: impl FnOnce(&Request) -> Error) {
        let Some(request) = self.active.borrow().get(owner).cloned() else {
            return;
        };
        let error = error(&request);
        match request.phase.get() {
            Phase::Held => self.lose(&request, error),
            Phase::Asking => drop(request.lost.replace(Some(error))),
            Phase::Queued | Phase::Leaving => {}
        }
    }

    /// The hold is over without `release()`: JavaScript is told first, then what is left is cleared away.
    pub fn lose(self: &Rc<Self>, request: &Rc<Request>, error: Error) {
        if request.phase.get() != Phase::Held {
            return;
        }
        request.phase.set(Phase::Leaving);
        request.ask.lease.end();
        self.notify(request, Notice::Lost(error));
        tokio::task::spawn_local(leaving::undo(self.clone(), request.clone()));
    }

    /// Ends what this process has of a lock that was stolen by `thief`, before that is told: whoever hears of both hears of the loss
    /// first.
    fn rob(self: &Rc<Self>, thief: &Request) {
        let robbed = |other: &&Rc<Request>| {
            other.phase.get() == Phase::Held
                && other.ask.id == thief.ask.id
                && other.ask.owner != thief.ask.owner
                // One that has stolen it since is not.
                && (other.token.get().is_none() || other.token.get() < thief.token.get())
        };
        let robbed: Vec<_> = self.active.borrow().values().filter(robbed).cloned().collect();
        for request in robbed {
            self.lose(&request, self.stolen(&request));
        }
    }

    pub fn stolen(&self, request: &Request) -> Error {
        self.lost(request, "it was stolen")
    }

    /// What JavaScript is told of a hold that ended by itself.
    pub fn lost(&self, request: &Request, why: &str) -> Error {
        Error::new(
            Kind::LockLost,
            format!("lock \"{}\" was lost: {why} ({})", request.ask.name(), self.server),
        )
    }

    /// The request asks and holds no more: the keeper and the registry forget it.
    pub fn forget(&self, request: &Request) {
        self.active.borrow_mut().remove(&request.ask.owner);
        self.requests.borrow_mut().remove(&request.call);
    }

    /// Tries again to clear away what withdrawn requests have left, and resolves when nothing is.
    pub async fn cleared(&self) {
        self.reconnected.notify_waiters();
        loop {
            let moved = self.moved.notified();
            if self.leftovers.is_empty() {
                return;
            }
            moved.await;
        }
    }

    /// Why a request that still waits could not be granted, if that is because the server is away.
    pub fn trouble_of(&self, request: &Request) -> Option<Error> {
        if !matches!(request.phase.get(), Phase::Queued | Phase::Asking) {
            return None;
        }
        request
            .trouble
            .borrow()
            .clone()
            .or_else(|| self.outage.borrow().clone())
    }

    /// Leaves the gate; the next in this process gets its turn.
    pub fn leave_gate(self: &Rc<Self>, request: &Request) {
        let Some(ticket) = request.ticket.take() else { return };
        let mut next = Vec::new();
        let owner = OwnerId(request.call.env);
        let mut gate = self.gate.borrow_mut();
        if gate.release(ticket, owner, &mut next).is_err() {
            gate.cancel(ticket, owner, &mut next);
        }
        self.moved.notify_waiters();
        let turns = next
            .into_iter()
            .filter_map(|grant: Grant| self.tag(&gate, grant.ticket))
            .collect::<Vec<_>>();
        drop(gate);
        for request in turns {
            self.begin(request);
        }
    }

    fn tag(&self, gate: &Table<Rc<Request>>, ticket: Ticket) -> Option<Rc<Request>> {
        gate.get(ticket).map(|entry| entry.tag.clone())
    }

    /// The requests that wait for lock `id` inside this process, in their order.
    pub fn waiting_inside(&self, id: &str) -> Vec<Rc<Request>> {
        let gate = self.gate.borrow();
        let waiting = gate.snapshot(id).pending;
        waiting.into_iter().map(|entry| entry.tag.clone()).collect()
    }

    /// Whether the connection is gone, and there is somebody who needs one.
    pub fn is_away(&self) -> bool {
        self.is_away.get() && !self.closed.get()
    }

    pub fn tell_disconnected(self: &Rc<Self>) {
        if !self.is_away.replace(true) {
            self.tell_mutexes(|| Notice::Disconnected);
            tokio::task::spawn_local(outage::end(self.clone()));
        }
    }

    pub fn tell_reconnected(&self) {
        let was_away = self.is_away.replace(false);
        self.outage.take();
        for request in self.active.borrow().values() {
            request.trouble.take();
        }
        self.reconnected.notify_waiters();
        self.keeper.notify_one();
        if was_away {
            self.tell_mutexes(|| Notice::Reconnected);
        }
    }

    fn tell_mutexes(&self, notice: impl Fn() -> Notice) {
        for (mutex, env) in self.mutexes.borrow().iter() {
            let call = Call {
                env: *env,
                cookie: mutex.0,
            };
            self.sink.notify(call, notice());
        }
    }
}

/// What is said when nothing came from the server within `connect_timeout`.
pub fn no_answer(server: &Server) -> Error {
    let limit = server.options.connect_timeout;
    Error::new(
        Kind::Connect,
        format!("{server} did not answer in {limit:?} (connect_timeout)"),
    )
}
