//! The runtime's main loop: which mutexes are open on which servers, and which requests they have.

use super::commands::{Call, Command, EnvId, MutexId, Notice, Sink};
use super::entry::{Entry, Requests, no_answer};
use super::express::{Adoption, Express, Presence};
use super::leaving;
use super::opening::{Connection, at_once_or_later};
use super::request::{Phase, Request};
use super::showing;
use crate::backend::{self, Ask, Attempt, Errands, Identity, Owner};
use crate::clock;
use crate::core::lease::Lease;
use crate::core::mode::Mode;
use crate::error::{Error, Kind};
use crate::url::Server;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a cancelled request's caller waits for a server that does not answer.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);

/// An open mutex.
pub struct Open {
    pub entry: Rc<Entry>,
    pub env: EnvId,
    pub id: Arc<str>,
    pub label: Option<Arc<str>>,
    pub thread: u32,
    pub closing: Cell<bool>,
}

pub struct Registry {
    pub sink: Arc<dyn Sink>,
    pub identity: Arc<Identity>,
    pub express: Weak<Express>,
    next_owner: Cell<u64>,
    pub servers: RefCell<HashMap<Server, Rc<Connection>>>,
    /// Mutexes whose server is being connected.
    pub arriving: RefCell<HashMap<MutexId, EnvId>>,
    pub mutexes: RefCell<HashMap<MutexId, Rc<Open>>>,
    pub requests: Requests,
    /// Mutexes that are being closed, and the servers whose last ones they were.
    closing: Errands,
}

/// Takes commands until the process ends.
pub async fn run(
    mut inbox: mpsc::UnboundedReceiver<Command>,
    identity: Arc<Identity>,
    sink: Arc<dyn Sink>,
    express: Weak<Express>,
) {
    let registry = Rc::new(Registry::new(identity, sink, express));
    while let Some(command) = inbox.recv().await {
        registry.take(command);
    }
}

impl Registry {
    pub fn new(identity: Arc<Identity>, sink: Arc<dyn Sink>, express: Weak<Express>) -> Self {
        Self {
            sink,
            identity,
            express,
            next_owner: Cell::new(1),
            servers: RefCell::default(),
            arriving: RefCell::default(),
            mutexes: RefCell::default(),
            requests: Requests::default(),
            closing: Errands::default(),
        }
    }

    pub fn take(self: &Rc<Self>, command: Command) {
        match command {
            Command::Open {
                mutex,
                call,
                remote,
                label,
                thread,
                joins,
            } => {
                let this = self.clone();
                at_once_or_later(async move { this.open(mutex, call, *remote, label, thread, joins).await });
            }
            Command::Request {
                mutex,
                call,
                mode,
                attempt,
                fenced,
                presence,
            } => self.request(mutex, call, mode, attempt, fenced, presence),
            Command::Adopt(adoption) => self.adopt(*adoption),
            Command::Stolen { request } => {
                if let Some((request, entry)) = self.find(request) {
                    entry.lose_owner(&request.ask.owner, |request| entry.stolen(request));
                }
            }
            Command::Cancel { request, call } => self.cancel(request, call),
            Command::Release { request } => self.release(request),
            Command::Query { mutex, call } => self.query(mutex, call),
            Command::List { mutex, call } => self.list(mutex, call),
            Command::Close { mutex, call } => {
                let this = self.clone();
                self.closing.run(async move {
                    this.close(mutex).await;
                    this.sink.notify(call, Notice::Done);
                });
            }
            Command::EnvGone { env } => {
                self.arriving.borrow_mut().retain(|_, of| *of != env);
                for mutex in self.mutexes_where(|open| open.env == env) {
                    let this = self.clone();
                    self.closing.run(async move { this.close(mutex).await });
                }
            }
            Command::Shutdown { done } => {
                self.arriving.borrow_mut().clear();
                for mutex in self.mutexes_where(|_| true) {
                    let this = self.clone();
                    self.closing.run(async move { this.close(mutex).await });
                }
                let this = self.clone();
                tokio::task::spawn_local(async move {
                    this.closing.done().await;
                    // Nobody listens any more if the time limit has passed.
                    let _ = done.send(());
                });
            }
        }
    }

    fn mutexes_where(&self, wanted: impl Fn(&Open) -> bool) -> Vec<MutexId> {
        self.mutexes
            .borrow()
            .iter()
            .filter(|(_, open)| wanted(open))
            .map(|(mutex, _)| *mutex)
            .collect()
    }

    fn request(
        &self,
        mutex: MutexId,
        call: Call,
        mode: Mode,
        attempt: Attempt,
        fenced: bool,
        presence: Option<Presence>,
    ) {
        let open = self.mutexes.borrow().get(&mutex).cloned();
        let Some(open) = open.filter(|open| !open.closing.get()) else {
            let error = Error::new(Kind::NotOpen, "still not opened");
            return self.sink.notify(call, Notice::Failed(error));
        };
        let number = self.next_owner.replace(self.next_owner.get() + 1);
        let ask = Ask {
            id: open.id.clone(),
            owner: Owner(format!("{}-{number:x}", self.identity.instance).into()),
            mode,
            attempt,
            fenced,
            label: open.label.clone(),
            thread: open.thread,
            since: clock::wall_ms(),
            stage: Cell::new(backend::Stage::Waiting),
            waited: Cell::new(false),
            lease: Lease::new(open.entry.terms),
        };
        let request = Rc::new(Request::new(call, mutex, ask, presence));
        if open.entry.enter(&request) {
            self.requests.borrow_mut().insert(call, request);
        } else {
            self.sink.notify(call, Notice::Busy);
        }
    }

    fn adopt(&self, adoption: Adoption) {
        let Some(open) = self.mutexes.borrow().get(&adoption.mutex).cloned() else {
            // Closing adopts what the lane has before it comes here.
            let error = Error::new(Kind::NotOpen, "still not opened");
            return self.sink.notify(adoption.call, Notice::Failed(error));
        };
        let entry = &open.entry;
        let (stage, sent) = (adoption.stage, adoption.sent);
        let request = Rc::new(Request::adopted(adoption, entry.server.options.connect_timeout));
        self.requests.borrow_mut().insert(request.call, request.clone());
        entry.adopt(&request, stage, sent);
        if open.closing.get() {
            leaving::withdraw(entry, &request);
        }
    }

    fn find(&self, call: Call) -> Option<(Rc<Request>, Rc<Entry>)> {
        let request = self.requests.borrow().get(&call)?.clone();
        let entry = self.mutexes.borrow().get(&request.mutex)?.entry.clone();
        Some((request, entry))
    }

    fn release(&self, call: Call) {
        match self.find(call) {
            Some((request, entry)) if request.phase.get() == Phase::Held => {
                if request.ask.lease.is_believed(clock::now()) {
                    request.phase.set(Phase::Leaving);
                    tokio::task::spawn_local(leaving::release(entry, request));
                } else {
                    entry.lose(&request, entry.lost(&request, "its lease could not be renewed in time"));
                }
            }
            // A loss was told, or is about to be: that answers the call.
            _ => {
                let error = Error::new(Kind::NotAcquired, "still not acquired");
                self.sink.notify(call, Notice::Failed(error));
            }
        }
    }

    fn cancel(&self, call: Call, answer: Call) {
        let Some((request, entry)) = self.find(call) else {
            return self.sink.notify(answer, Notice::Done);
        };
        let trouble = entry.trouble_of(&request);
        leaving::withdraw(&entry, &request);
        let sink = self.sink.clone();
        tokio::task::spawn_local(async move {
            let _ = timeout(LONGEST_GOODBYE, request.finished()).await;
            sink.notify(answer, trouble.map_or(Notice::Done, Notice::Failed));
        });
    }

    fn query(&self, mutex: MutexId, call: Call) {
        let Some(open) = self.asked_of(mutex, call) else { return };
        let sink = self.sink.clone();
        tokio::task::spawn_local(async move {
            let limit = open.entry.server.options.connect_timeout;
            let notice = match timeout(limit, showing::one(&open.entry, open.id.clone())).await {
                Ok(Ok(snapshot)) => Notice::Snapshot(snapshot),
                Ok(Err(error)) => Notice::Failed(error),
                Err(_) => Notice::Failed(no_answer(&open.entry.server)),
            };
            sink.notify(call, notice);
        });
    }

    /// Takes as long as there are locks; each exchange with the server has its limit.
    fn list(&self, mutex: MutexId, call: Call) {
        let Some(open) = self.asked_of(mutex, call) else { return };
        let is_there = |other: &&Rc<Open>| Rc::ptr_eq(&other.entry, &open.entry);
        let known = self
            .mutexes
            .borrow()
            .values()
            .filter(is_there)
            .map(|other| other.id.clone())
            .collect();
        let sink = self.sink.clone();
        tokio::task::spawn_local(async move {
            let notice = match showing::all(&open.entry, known).await {
                Ok(snapshots) => Notice::Snapshots(snapshots),
                Err(error) => Notice::Failed(error),
            };
            sink.notify(call, notice);
        });
    }

    fn asked_of(&self, mutex: MutexId, call: Call) -> Option<Rc<Open>> {
        let open = self.mutexes.borrow().get(&mutex).cloned();
        if open.is_none() {
            let error = Error::new(Kind::NotOpen, "still not opened");
            self.sink.notify(call, Notice::Failed(error));
        }
        open
    }

    /// Withdraws and frees everything of the mutex; the last one of a server ends the connections.
    pub async fn close(&self, mutex: MutexId) {
        if let Some(express) = self.express.upgrade() {
            express.unseat(mutex);
        }
        let Some(open) = self.mutexes.borrow().get(&mutex).cloned() else {
            return;
        };
        open.closing.set(true);
        let entry = open.entry.clone();
        // Also what is on its way out already: nothing may be cut off by the end of the connections.
        let mut leaving = Vec::new();
        for request in self.requests.borrow().values() {
            if request.mutex == mutex {
                leaving.push(request.clone());
            }
        }
        for request in &leaving {
            leaving::withdraw(&entry, request);
        }
        let all = async {
            for request in &leaving {
                request.finished().await;
            }
        };
        let deadline = Instant::now() + entry.server.options.connect_timeout;
        let _ = timeout_at(deadline, all).await;
        let is_another = |open: &Rc<Open>| Rc::ptr_eq(&open.entry, &entry) && !open.closing.get();
        if !self.mutexes.borrow().values().any(is_another) {
            let _ = timeout_at(deadline, entry.cleared()).await;
        }
        self.mutexes.borrow_mut().remove(&mutex);
        entry.mutexes.borrow_mut().remove(&mutex);
        self.end_if_unused(&entry).await;
    }
}
