//! Opening a mutex: its server is connected once for all, and asked whether it answers.

use super::commands::{Call, MutexId, Notice};
use super::entry::{Entry, Surroundings, no_answer};
use super::express::Place;
use super::keeper;
use super::registry::{Open, Registry};
use crate::backend::{self, Context};
use crate::error::Result;
use crate::url::{Remote, Server};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{self, Waker};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

/// A server's entry, once it is connected, or why it is not. All who open at the same time share one attempt, and its failure.
#[derive(Default)]
pub struct Connection {
    outcome: RefCell<Option<Result<Rc<Entry>>>>,
    done: Notify,
}

impl Registry {
    /// With `joins`, which says that another mutex of the caller is open at the server, all is done at the first look.
    pub async fn open(
        self: Rc<Self>,
        mutex: MutexId,
        call: Call,
        remote: Remote,
        label: Option<String>,
        thread: u32,
        joins: bool,
    ) {
        self.arriving.borrow_mut().insert(mutex, call.env);
        let entry = self.open_entry(&remote.server).await;
        let is_wanted = self.arriving.borrow_mut().remove(&mutex).is_some();
        let entry = match entry {
            Ok(entry) if is_wanted => entry,
            // Its environment has ended meanwhile.
            Ok(entry) => return self.end_if_unused(&entry).await,
            Err(error) => return self.sink.notify(call, Notice::Failed(error)),
        };
        entry.mutexes.borrow_mut().insert(mutex, call.env);
        let open = Rc::new(Open {
            entry: entry.clone(),
            env: call.env,
            id: remote.id.into(),
            label: label.map(Into::into),
            thread,
            closing: Cell::new(false),
        });
        self.mutexes.borrow_mut().insert(mutex, open);
        if joins {
            self.seat(mutex);
            return self.sink.notify(call, Notice::Done);
        }
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
            if checked.is_ok() {
                entry.outage.take();
            }
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

    /// The server's entry, connected, and not one that is about to end.
    async fn open_entry(self: &Rc<Self>, server: &Server) -> Result<Rc<Entry>> {
        loop {
            let entry = self.entry(server).await?;
            if !entry.closed.get() {
                return Ok(entry);
            }
        }
    }

    async fn entry(self: &Rc<Self>, server: &Server) -> Result<Rc<Entry>> {
        let known = self.servers.borrow().get(server).cloned();
        let connection = known.unwrap_or_else(|| {
            let connection = Rc::new(Connection::default());
            self.servers.borrow_mut().insert(server.clone(), connection.clone());
            tokio::task::spawn_local(self.clone().connect(server.clone(), connection.clone()));
            connection
        });
        loop {
            let done = connection.done.notified();
            if let Some(outcome) = &*connection.outcome.borrow() {
                return outcome.clone();
            }
            done.await;
        }
    }

    async fn connect(self: Rc<Self>, server: Server, connection: Rc<Connection>) {
        let (events, heard) = mpsc::unbounded_channel();
        let context = Context {
            identity: self.identity.clone(),
            events,
        };
        let limit = server.options.connect_timeout;
        let connected = timeout(limit, backend::connect(&server, context)).await;
        let outcome = connected.unwrap_or_else(|_| Err(no_answer(&server))).map(|backend| {
            let around = Surroundings {
                sink: self.sink.clone(),
                identity: self.identity.clone(),
                express: self.express.clone(),
                requests: self.requests.clone(),
            };
            let entry = Rc::new(Entry::new(server.clone(), backend, around));
            tokio::task::spawn_local(keeper::run(entry.clone(), heard));
            entry
        });
        if outcome.is_err() {
            // Who comes from now on tries anew.
            self.servers.borrow_mut().remove(&server);
        }
        connection.outcome.replace(Some(outcome));
        connection.done.notify_waiters();
    }

    /// Ends session and connections of a server that no mutex is open at. Who opens one meanwhile connects anew.
    pub async fn end_if_unused(&self, entry: &Entry) {
        if entry.mutexes.borrow().is_empty() && !entry.closed.replace(true) {
            self.servers.borrow_mut().remove(&entry.server);
            entry.keeper.notify_one();
            let _ = timeout(entry.server.options.connect_timeout, entry.backend.close()).await;
        }
    }
}

/// Runs what is mostly over at the first look without a task of its own.
pub fn at_once_or_later(work: impl Future<Output = ()> + 'static) {
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
