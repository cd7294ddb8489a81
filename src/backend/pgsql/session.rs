//! A session: one connection, what it holds, and the news of its end.
//!
//! Locks belong to a session. Its end, for whatever reason, is the loss of everything it held, told at once.

use super::dial::{self, Dialled};
use super::failure::{self, Fault};
use super::key::Key;
use super::login::Login;
use super::name;
use super::request::{Phase, Request};
use super::sql::{self, Call};
use crate::backend::{Ask, Event};
use crate::clock;
use crate::core::mode::Mode;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::url::Address;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

/// What tells a session from all others of its server, also from a later one with the same process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ghost {
    pub pid: i32,
    /// Microseconds since 1970, by the server's clock.
    pub started: i64,
}

/// Which start of which server a session belongs to. Sessions of different ones share no locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    /// Microseconds since 1970, by the server's clock.
    pub started: i64,
    /// As `server_version_num`.
    pub version: i32,
}

/// What a session says about a lock: was it taken or given back, and with which token.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub done: bool,
    pub token: Option<u64>,
}

/// How a session came to its end.
#[derive(Debug, Clone)]
enum End {
    /// Not yet.
    Open,
    /// Closed by us, in order.
    Closed,
    /// Cut.
    Cut(Error),
}

pub struct Session {
    pub login: Rc<Login>,
    address: Address,
    machine: Option<SocketAddr>,
    /// `host:port`, for messages.
    pub peer: String,
    pub ghost: Ghost,
    pub server: Instance,
    /// When the last message was sent that was answered.
    pub heard: Cell<Moment>,
    /// Whether a heartbeat is on its way.
    pub beating: Cell<bool>,
    /// What is held here.
    holds: RefCell<Vec<Rc<Request>>>,
    /// A side session: how many use it, and whether the server may have given them more than they know of.
    pub users: Cell<u32>,
    pub in_doubt: Cell<bool>,
    /// A side session: which lock it had to wait for, and how often more that may be taken for granted.
    pub contended: Cell<Option<(Key, u8)>>,
    client: RefCell<Option<Rc<Client>>>,
    /// By the number of the [`Call`].
    statements: RefCell<[Option<Statement>; Call::NUMBER]>,
    /// What it is called in `pg_stat_activity`, and because of which lock.
    named_for: RefCell<(Option<Key>, String)>,
    end: RefCell<End>,
    ended: Notify,
    pump: RefCell<Option<AbortHandle>>,
}

impl Session {
    /// Takes over a connection whose introduction was heard.
    pub fn start(login: Rc<Login>, dialled: Dialled, ghost: Ghost, server: Instance, heard: Moment) -> Rc<Self> {
        let name = name::plain(&login.context.identity);
        let session = Rc::new(Self {
            login,
            address: dialled.address,
            machine: dialled.machine,
            peer: dialled.peer,
            ghost,
            server,
            heard: Cell::new(heard),
            beating: Cell::new(false),
            holds: RefCell::default(),
            users: Cell::new(0),
            in_doubt: Cell::new(false),
            contended: Cell::new(None),
            client: RefCell::new(Some(Rc::new(dialled.client))),
            statements: RefCell::default(),
            named_for: RefCell::new((None, name)),
            end: RefCell::new(End::Open),
            ended: Notify::new(),
            pump: RefCell::default(),
        });
        let weak: Weak<Self> = Rc::downgrade(&session);
        let pump = dialled.pump;
        let task = tokio::task::spawn_local(async move {
            let outcome = pump.await;
            if let Some(session) = weak.upgrade() {
                session.finish(match outcome {
                    Ok(()) => End::Closed,
                    Err(failure) => End::Cut(failure::describe(&session.login, &session.peer, &failure)),
                });
            }
        });
        *session.pump.borrow_mut() = Some(task.abort_handle());
        session
    }

    pub fn is_open(&self) -> bool {
        matches!(*self.end.borrow(), End::Open) && self.client.borrow().is_some()
    }

    /// Notes that the lock is held here for `request`.
    pub fn note(&self, request: &Rc<Request>) {
        let mut holds = self.holds.borrow_mut();
        request.noted_at.set(holds.len());
        holds.push(request.clone());
    }

    /// Forgets what [`Session::note`] noted, if it is there.
    pub fn forget(&self, request: &Rc<Request>) {
        let mut holds = self.holds.borrow_mut();
        let at = request.noted_at.get();
        if holds.get(at).is_some_and(|noted| Rc::ptr_eq(noted, request)) {
            holds.swap_remove(at);
            if let Some(moved) = holds.get(at) {
                moved.noted_at.set(at);
            }
        }
    }

    /// Resolves when the connection is closed.
    pub async fn ended(&self) {
        loop {
            let news = self.ended.notified();
            if !matches!(*self.end.borrow(), End::Open) {
                return;
            }
            news.await;
        }
    }

    /// Executes a statement about the lock `key`, prepared at its first use.
    pub async fn call(&self, call: Call, key: Key) -> Result<Answer, Fault> {
        let sent = clock::now();
        let client = self.client()?;
        let outcome = async {
            let statement = self.statement(&client, call).await?;
            let parameters: &[&(dyn ToSql + Sync)] = match &key {
                Key::Big(n) => &[n],
                Key::Pair(a, b) => &[a, b],
            };
            let row = client.query_one(&statement, parameters).await?;
            let token: Option<i64> = if call.fenced { row.try_get(1)? } else { None };
            Ok(Answer {
                done: row.try_get(0)?,
                token: token.map(i64::cast_unsigned),
            })
        };
        let answer: Result<Answer, tokio_postgres::Error> = outcome.await;
        self.judge(sent, answer)
    }

    /// Prepares statements ahead of their first use, in one exchange.
    pub async fn prepare(&self, first: Call, second: Call) -> Result<(), Fault> {
        let client = self.client()?;
        let both = tokio::join!(self.statement(&client, first), self.statement(&client, second));
        self.judge(self.heard.get(), both.0.and(both.1).map(|_| ()))
    }

    /// Executes statements without parameters and ignores what they give.
    pub async fn execute(&self, sql: &str) -> Result<(), Fault> {
        let sent = clock::now();
        let client = self.client()?;
        let outcome = client.batch_execute(sql).await;
        self.judge(sent, outcome)
    }

    /// Executes a statement without preparing it, in one exchange.
    pub async fn rows(&self, sql: &str, parameters: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>, Fault> {
        let sent = clock::now();
        let client = self.client()?;
        let outcome = client.query_typed(sql, parameters).await;
        self.judge(sent, outcome)
    }

    /// Sends the name that the session is to have in `pg_stat_activity` while it is used for `ask`, if that is another one, ahead
    /// of whatever is sent next, and waits for nothing. A name that the user has chosen stays.
    pub async fn rename_for(&self, key: Key, ask: &Ask) {
        if self.login.options.application_name.is_some() {
            return;
        }
        let identity = &self.login.context.identity;
        let name = match name::noted(identity, key, ask) {
            Some(name) => name,
            // A former label must not be taken for this ask's.
            None if self.named_for.borrow().0 == Some(key) => name::plain(identity),
            None => return,
        };
        if self.named_for.borrow().1 == name {
            return;
        }
        self.named_for.replace((Some(key), name.clone()));
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
        let mut change = pin!(self.rows(sql::RENAME, &parameters));
        // The first poll hands the statement over; its answer is of no interest.
        poll_fn(|cx| Poll::Ready(change.as_mut().poll(cx).is_ready())).await;
    }

    /// Somebody holds `key` here no more. If the session is called after that lock, it is now called after another who still has it.
    pub async fn rename_after(&self, key: Key) {
        if self.named_for.borrow().0 != Some(key) {
            return;
        }
        let other = self.holds.borrow().iter().rfind(|other| other.key == key).cloned();
        if let Some(other) = other {
            self.rename_for(key, &other.ask).await;
        }
    }

    /// The smallest question there is; any answer is good news.
    pub async fn ping(&self) -> Result<(), Fault> {
        match self.execute("").await {
            Ok(()) | Err(Fault::Cancelled(_) | Fault::Refused(_)) => Ok(()),
            gone => gone,
        }
    }

    /// Sends a cancel request for whatever the session executes now. See [`dial::cancel`].
    pub async fn cancel(&self, limit: Duration) -> Result<()> {
        let Some(token) = self.client.borrow().as_ref().map(|client| client.cancel_token()) else {
            return Ok(());
        };
        dial::cancel(&self.login, &self.address, self.machine, &token, limit).await
    }

    /// Says good-bye to the server once everything sent so far is answered.
    pub fn close(&self) {
        self.statements.take();
        self.client.borrow_mut().take();
    }

    /// Ends the connection on this side at once, whatever the server does; it may notice late.
    pub fn cut(&self, why: Error) {
        if let Some(pump) = self.pump.borrow_mut().take() {
            pump.abort();
        }
        self.finish(End::Cut(why));
    }

    fn finish(&self, end: End) {
        if !matches!(*self.end.borrow(), End::Open) {
            return;
        }
        let why = match &end {
            End::Cut(error) => {
                self.login.ghosts.borrow_mut().push(self.ghost);
                error.clone()
            }
            End::Open | End::Closed => Error::new(Kind::Closed, format!("the connection to {} was closed", self.peer)),
        };
        *self.end.borrow_mut() = end;
        self.close();
        self.ended.notify_waiters();
        for request in self.holds.take() {
            request.enters(Phase::Lost);
            let message = format!("lock \"{}\" was lost: {}", request.ask.name(), why.message);
            let mut error = Error::new(Kind::LockLost, message);
            error.cause.clone_from(&why.cause);
            let owner = request.ask.owner.clone();
            let _ = self.login.context.events.send(Event::Lost { owner, error });
        }
    }

    fn client(&self) -> Result<Rc<Client>, Fault> {
        self.client.borrow().clone().ok_or_else(|| Fault::Gone(self.why_gone()))
    }

    fn why_gone(&self) -> Error {
        match &*self.end.borrow() {
            // Whoever asked to be let in again may try once more.
            End::Cut(error) if error.is_transient() => error.clone(),
            End::Cut(error) => {
                Error::new(Kind::Connect, error.message.clone()).because(error.cause.as_deref().unwrap_or(""))
            }
            End::Open | End::Closed => Error::new(Kind::Connect, format!("the connection to {} was closed", self.peer)),
        }
    }

    async fn statement(&self, client: &Client, call: Call) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = &self.statements.borrow()[call.index()] {
            return Ok(statement.clone());
        }
        // In a box of its own, so that those who find it prepared carry no room for this.
        let statement = Box::pin(client.prepare_typed(&call.sql(), call.types())).await?;
        self.statements.borrow_mut()[call.index()] = Some(statement.clone());
        Ok(statement)
    }

    fn judge<T>(&self, sent: Moment, outcome: Result<T, tokio_postgres::Error>) -> Result<T, Fault> {
        let outcome = match outcome {
            Ok(value) => Ok(value),
            // The driver tells those who wait only that it is over; why, the connection's own end knows.
            Err(_) if !matches!(*self.end.borrow(), End::Open) => Err(Fault::Gone(self.why_gone())),
            Err(failure) => Err(failure::of_statement(&self.login, &self.peer, &failure)),
        };
        if !matches!(outcome, Err(Fault::Gone(_))) {
            self.heard.set(self.heard.get().max(sent));
        }
        outcome
    }
}

/// Opens a session at the first address that lets us in, ready for locks, and checks that it is fit for them. It is to do
/// `first` first.
pub async fn open(login: &Rc<Login>, first: Call) -> Result<Rc<Session>> {
    let mut last = Error::new(Kind::InvalidUrl, "the URL names no server");
    for (index, address) in login.addresses.iter().enumerate() {
        // Several hosts share the time, so that a dead first one leaves some for the next.
        let left = u32::try_from(login.addresses.len() - index).unwrap_or(u32::MAX);
        let limit = login.options.connect_timeout / left;
        match super::welcome::welcome(login, address, limit, first).await {
            Ok(session) => return Ok(session),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A statement in its commonest form.
pub fn call(verb: sql::Verb, mode: Mode, key: Key) -> Call {
    Call {
        verb,
        mode,
        fenced: false,
        shape: key.shape(),
    }
}
