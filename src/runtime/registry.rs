//! The runtime's main loop: which mutexes are open on which servers, and which requests they have.

use super::commands::{Call, Command, EnvId, MutexId, Notice, Sink};
use super::entry::Entry;
use super::entry::no_answer;
use super::express::{Adoption, Express, Place, Presence, Stage};
use super::request::{Phase, Request};
use super::{keeper, leaving};
use crate::backend::{self, Ask, Attempt, Context, Identity, Owner};
use crate::clock;
use crate::core::lease::Lease;
use crate::core::mode::Mode;
use crate::error::{Error, Kind, Result};
use crate::url::{Remote, Server};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::{self, Waker};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};
use tokio::time::timeout;

/// How long a cancelled request's caller waits for a server that does not answer.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);

struct Open {
    entry: Rc<Entry>,
    env: EnvId,
    id: Arc<str>,
    label: Option<Arc<str>>,
    thread: u32,
}

struct Registry {
    sink: Arc<dyn Sink>,
    identity: Arc<Identity>,
    express: Weak<Express>,
    next_owner: Cell<u64>,
    /// A cell per server, so that mutexes that open at once share one connection attempt.
    servers: RefCell<HashMap<Server, Rc<OnceCell<Rc<Entry>>>>>,
    mutexes: RefCell<HashMap<MutexId, Rc<Open>>>,
    requests: RefCell<HashMap<Call, Rc<Request>>>,
}

/// Takes commands until the process ends.
pub async fn run(
    mut inbox: mpsc::UnboundedReceiver<Command>,
    identity: Arc<Identity>,
    sink: Arc<dyn Sink>,
    express: Weak<Express>,
) {
    let registry = Rc::new(Registry {
        sink,
        identity,
        express,
        next_owner: Cell::new(1),
        servers: RefCell::default(),
        mutexes: RefCell::default(),
        requests: RefCell::default(),
    });
    while let Some(command) = inbox.recv().await {
        registry.take(command);
    }
}

impl Registry {
    fn take(self: &Rc<Self>, command: Command) {
        match command {
            Command::Open {
                mutex,
                call,
                remote,
                label,
                thread,
            } => {
                let this = self.clone();
                at_once_or_later(async move { this.open(mutex, call, *remote, label, thread).await });
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
            Command::Cancel { request, call } => self.cancel(request, call),
            Command::Release { request } => self.release(request),
            Command::Query { mutex, call } => self.query(mutex, call),
            Command::Close { mutex, call } => {
                let this = self.clone();
                tokio::task::spawn_local(async move {
                    this.close(mutex).await;
                    this.sink.notify(call, Notice::Done);
                });
            }
            Command::EnvGone { env } => {
                for mutex in self.mutexes_where(|open| open.env == env) {
                    let this = self.clone();
                    tokio::task::spawn_local(async move { this.close(mutex).await });
                }
            }
            Command::Shutdown { done } => {
                let this = self.clone();
                tokio::task::spawn_local(async move {
                    let closing: Vec<_> = this
                        .mutexes_where(|_| true)
                        .into_iter()
                        .map(|mutex| {
                            let this = this.clone();
                            tokio::task::spawn_local(async move { this.close(mutex).await })
                        })
                        .collect();
                    for task in closing {
                        let _ = task.await;
                    }
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

    async fn open(self: Rc<Self>, mutex: MutexId, call: Call, remote: Remote, label: Option<String>, thread: u32) {
        let entry = match self.entry(&remote.server).await {
            Ok(entry) => entry,
            Err(error) => return self.sink.notify(call, Notice::Failed(error)),
        };
        entry.mutexes.borrow_mut().insert(mutex, call.env);
        let open = Rc::new(Open {
            entry: entry.clone(),
            env: call.env,
            id: remote.id.into(),
            label: label.map(Into::into),
            thread,
        });
        self.mutexes.borrow_mut().insert(mutex, open);
        entry.opening.borrow_mut().push((mutex, call));
        if !entry.checking.replace(true) {
            at_once_or_later(self.check(entry));
        }
    }

    /// Makes sure that the server answers, once for all who open at the same time: a thousand mutexes need no thousand tasks. Those
    /// who come meanwhile are not told what was found out before they came.
    async fn check(self: Rc<Self>, entry: Rc<Entry>) {
        loop {
            let opening = entry.opening.take();
            if opening.is_empty() {
                entry.checking.set(false);
                return;
            }
            let checked = match timeout(entry.server.options.connect_timeout, entry.backend.check()).await {
                Ok(checked) => checked,
                Err(_) => Err(no_answer(&entry.server)),
            };
            for (mutex, call) in opening {
                let notice = match &checked {
                    Ok(()) => {
                        self.seat(mutex);
                        Notice::Done
                    }
                    Err(error) => {
                        self.close(mutex).await;
                        Notice::Failed(error.clone())
                    }
                };
                self.sink.notify(call, notice);
            }
        }
    }

    /// Opens the express lane for the mutex, if its server has one.
    fn seat(&self, mutex: MutexId) {
        let mutexes = self.mutexes.borrow();
        if let (Some(open), Some(express)) = (mutexes.get(&mutex), self.express.upgrade())
            && let Some(address) = open.entry.backend.address()
        {
            let (server, terms) = (&open.entry.server, open.entry.terms);
            let place = Place { server, terms, address };
            express.seat(mutex, place, &open.id, open.label.as_ref(), open.thread);
        }
    }

    /// The server's entry, connected; shared with all who ask for the same server.
    async fn entry(&self, server: &Server) -> Result<Rc<Entry>> {
        let known = self.servers.borrow().get(server).cloned();
        let cell = known.unwrap_or_else(|| self.servers.borrow_mut().entry(server.clone()).or_default().clone());
        let connected = cell.get_or_try_init(|| async {
            let (events, heard) = mpsc::unbounded_channel();
            let context = Context {
                identity: self.identity.clone(),
                events,
            };
            let limit = server.options.connect_timeout;
            // In a box of its own, made by the one that connects: all others would carry room for it, ten kilobytes each.
            let backend = timeout(limit, Box::pin(backend::connect(server, context)))
                .await
                .map_err(|_| no_answer(server))??;
            let entry = Rc::new(Entry::new(
                server.clone(),
                backend,
                self.sink.clone(),
                self.identity.clone(),
                self.express.clone(),
            ));
            tokio::task::spawn_local(keeper::run(Rc::downgrade(&entry), heard));
            Ok(entry)
        });
        match connected.await {
            Ok(entry) => Ok(entry.clone()),
            Err(error) => {
                let mut servers = self.servers.borrow_mut();
                if servers
                    .get(server)
                    .is_some_and(|known| Rc::ptr_eq(known, &cell) && !known.initialized())
                {
                    servers.remove(server);
                }
                Err(error)
            }
        }
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
        let Some(open) = self.mutexes.borrow().get(&mutex).cloned() else {
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
        let Some(entry) = self
            .mutexes
            .borrow()
            .get(&adoption.mutex)
            .map(|open| open.entry.clone())
        else {
            // Closing adopts what the lane has before it comes here.
            let error = Error::new(Kind::NotOpen, "still not opened");
            return self.sink.notify(adoption.call, Notice::Failed(error));
        };
        let (stage, sent) = (adoption.stage, adoption.sent);
        let request = Rc::new(Request::adopted(adoption));
        // A release is not to be withdrawn or made again.
        if stage != Stage::Releasing {
            self.requests.borrow_mut().insert(request.call, request.clone());
        }
        entry.adopt(&request, stage, sent);
    }

    fn find(&self, call: Call) -> Option<(Rc<Request>, Rc<Entry>)> {
        let request = self.requests.borrow().get(&call)?.clone();
        let entry = self.mutexes.borrow().get(&request.mutex)?.entry.clone();
        Some((request, entry))
    }

    fn release(&self, call: Call) {
        let found = self.find(call);
        self.requests.borrow_mut().remove(&call);
        match found {
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
        let found = self.find(call);
        self.requests.borrow_mut().remove(&call);
        let Some((request, entry)) = found else {
            return self.sink.notify(answer, Notice::Done);
        };
        leaving::withdraw(&entry, &request);
        let sink = self.sink.clone();
        tokio::task::spawn_local(async move {
            let _ = timeout(LONGEST_GOODBYE, request.finished()).await;
            sink.notify(answer, Notice::Done);
        });
    }

    fn query(&self, mutex: MutexId, call: Call) {
        let Some(open) = self.mutexes.borrow().get(&mutex).cloned() else {
            let error = Error::new(Kind::NotOpen, "still not opened");
            return self.sink.notify(call, Notice::Failed(error));
        };
        let sink = self.sink.clone();
        tokio::task::spawn_local(async move {
            let limit = open.entry.server.options.connect_timeout;
            let notice = match timeout(limit, open.entry.query(open.id.clone())).await {
                Ok(Ok(snapshot)) => Notice::Snapshot(snapshot),
                Ok(Err(error)) => Notice::Failed(error),
                Err(_) => Notice::Failed(no_answer(&open.entry.server)),
            };
            sink.notify(call, notice);
        });
    }

    /// Withdraws and frees everything of the mutex; the last one of a server ends the connections.
    async fn close(&self, mutex: MutexId) {
        if let Some(express) = self.express.upgrade() {
            express.unseat(mutex);
        }
        let Some(open) = self.mutexes.borrow().get(&mutex).cloned() else {
            return;
        };
        let entry = open.entry.clone();
        let mut leaving = Vec::new();
        self.requests.borrow_mut().retain(|_, request| {
            if request.mutex == mutex {
                leaving.push(request.clone());
            }
            request.mutex != mutex
        });
        for request in &leaving {
            leaving::withdraw(&entry, request);
        }
        let all = async {
            for request in &leaving {
                request.finished().await;
            }
        };
        let _ = timeout(entry.server.options.connect_timeout, all).await;
        self.mutexes.borrow_mut().remove(&mutex);
        entry.mutexes.borrow_mut().remove(&mutex);
        if entry.mutexes.borrow().is_empty() && !entry.closed.replace(true) {
            self.servers.borrow_mut().remove(&entry.server);
            entry.keeper.notify_one();
            let _ = timeout(entry.server.options.connect_timeout, entry.backend.close()).await;
        }
    }
}

/// Runs what is mostly over at the first look without a task of its own.
fn at_once_or_later(work: impl Future<Output = ()> + 'static) {
    let mut work = Box::pin(work);
    if work
        .as_mut()
        .poll(&mut task::Context::from_waker(Waker::noop()))
        .is_pending()
    {
        // Looks again, with its own waker.
        tokio::task::spawn_local(work);
    }
}
