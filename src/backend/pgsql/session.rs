//! A session: one connection and what it is asked; and sessions that are opened when they are needed.
//!
//! Locks belong to a session. Its end, for whatever reason, is the end of everything it held, and is told at once.

use super::connect::{self, Instance, Introduction, Link};
use super::key::Key;
use super::login::{self, Fault, Login, Pooler, SessionId, uncancelled};
use super::sql::{self, Call};
use crate::backend::Event;
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::Poll;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row, Statement};

/// A parameter of a statement, and its type.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To hold locks, and to wait for them.
    Locks,
    /// To look after others.
    Service,
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
    /// `host:port`, for messages.
    pub peer: String,
    pub id: SessionId,
    pub server: Instance,
    /// When the last message was sent that was answered: the server has the session since then, at least.
    pub heard: Cell<Moment>,
    /// Whether a heartbeat is on its way.
    pub beating: Cell<bool>,
    /// Which lock it had to wait for, and how often more that may be taken for granted.
    pub contended: Cell<Option<(Key, u8)>>,
    client: RefCell<Option<Rc<Client>>>,
    /// By the number of the [`Call`].
    statements: RefCell<[Option<Statement>; Call::NUMBER]>,
    /// What it is called in `pg_stat_activity`, and because of which lock.
    named_for: RefCell<(Option<Key>, Option<String>)>,
    end: RefCell<End>,
    ended: Notify,
    pump: RefCell<Option<AbortHandle>>,
}

impl Session {
    /// Opens a session at the first address that lets us in, ready for what it is for.
    pub async fn open(login: &Rc<Login>, purpose: Purpose) -> Result<Rc<Self>> {
        let mut last = Error::new(Kind::InvalidUrl, "the URL names no server");
        for (index, address) in login.addresses.iter().enumerate() {
            // Several hosts share the time, so that a dead first one leaves some for the next.
            let left = u32::try_from(login.addresses.len() - index).unwrap_or(u32::MAX);
            let limit = login.options.connect_timeout / left;
            match connect::connect(login, address, limit).await {
                Ok((link, introduction)) => {
                    let session = Self::start(login.clone(), link, &introduction);
                    let settings = sql::settings(login.ttl(), purpose == Purpose::Locks);
                    match tokio::time::timeout(limit, uncancelled(async |_| session.execute(&settings).await)).await {
                        Ok(Ok(())) => {
                            login.was_in.set(true);
                            return Ok(session);
                        }
                        Ok(Err(fault)) => last = fault.into(),
                        Err(_) => last = session.silence(limit),
                    }
                    session.cut(last.clone());
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn start(login: Rc<Login>, link: Link, introduction: &Introduction) -> Rc<Self> {
        let session = Rc::new(Self {
            login,
            peer: link.peer,
            id: introduction.id,
            server: introduction.server,
            heard: Cell::new(introduction.sent),
            beating: Cell::new(false),
            contended: Cell::new(None),
            client: RefCell::new(Some(Rc::new(link.client))),
            statements: RefCell::default(),
            named_for: RefCell::default(),
            end: RefCell::new(End::Open),
            ended: Notify::new(),
            pump: RefCell::default(),
        });
        let weak: Weak<Self> = Rc::downgrade(&session);
        let pump = link.pump;
        let task = tokio::task::spawn_local(async move {
            let outcome = pump.await;
            if let Some(session) = weak.upgrade() {
                session.finish(match outcome {
                    Ok(()) => End::Closed,
                    Err(failure) => End::Cut(login::describe(&session.login, &session.peer, &failure)),
                });
            }
        });
        *session.pump.borrow_mut() = Some(task.abort_handle());
        session
    }

    pub fn is_open(&self) -> bool {
        matches!(*self.end.borrow(), End::Open) && self.client.borrow().is_some()
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
    pub async fn call(&self, call: Call, key: Key) -> Result<bool, Fault> {
        let sent = clock::now();
        let client = self.client()?;
        let outcome = async {
            let statement = self.statement(&client, call).await?;
            let parameters: &[&(dyn ToSql + Sync)] = match &key {
                Key::Big(n) => &[n],
                Key::Pair(a, b) => &[a, b],
            };
            client.query_one(&statement, parameters).await?.try_get(0)
        };
        let answer: Result<bool, tokio_postgres::Error> = outcome.await;
        self.judge(sent, answer)
    }

    /// Executes statements without parameters and ignores what they give.
    pub async fn execute(&self, sql: &str) -> Result<(), Fault> {
        let sent = clock::now();
        let client = self.client()?;
        let outcome = client.batch_execute(sql).await;
        self.judge(sent, outcome)
    }

    /// Executes a statement without preparing it, in one exchange.
    pub async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        let sent = clock::now();
        let client = self.client()?;
        let outcome = client.query_typed(sql, parameters).await;
        self.judge(sent, outcome)
    }

    /// The smallest question there is; any answer is good news.
    pub async fn ping(&self) -> Result<(), Fault> {
        match self.execute("").await {
            Ok(()) | Err(Fault::Cancelled(_) | Fault::Refused(_)) => Ok(()),
            gone => gone,
        }
    }

    /// Sends the name that the session is to have in `pg_stat_activity` because of `key`, if that is another one, ahead
    /// of whatever is sent next, and waits for nothing. A name that the user has chosen stays.
    pub async fn rename(&self, key: Key, name: String) {
        if self.login.options.application_name.is_some() || self.named_for.borrow().1.as_ref() == Some(&name) {
            return;
        }
        self.named_for.replace((Some(key), Some(name.clone())));
        let parameters: [Parameter<'_>; 1] = [(&name, Type::TEXT)];
        let mut change = pin!(self.rows(sql::RENAME, &parameters));
        // The first poll hands the statement over; its answer is of no interest.
        poll_fn(|cx| Poll::Ready(change.as_mut().poll(cx).is_ready())).await;
    }

    /// Whether its name is about the lock `key`.
    pub fn is_named_for(&self, key: Key) -> bool {
        self.named_for.borrow().0 == Some(key)
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

    /// The error of a session that gives no answer.
    pub fn silence(&self, limit: std::time::Duration) -> Error {
        Error::new(
            Kind::Connect,
            format!("PostgreSQL at {} has been silent for {limit:?}", self.peer),
        )
    }

    /// The error of whatever a session was needed for that is no longer there.
    pub fn lost(&self) -> Error {
        match &*self.end.borrow() {
            // Whoever asked to be let in again may try once more.
            End::Cut(error) if error.kind == Kind::Connect => error.clone(),
            End::Cut(error) => {
                Error::new(Kind::Connect, error.message.clone()).because(error.cause.as_deref().unwrap_or(""))
            }
            End::Open | End::Closed => Error::new(Kind::Connect, format!("the connection to {} was closed", self.peer)),
        }
    }

    fn finish(&self, end: End) {
        if !matches!(*self.end.borrow(), End::Open) {
            return;
        }
        let why = match &end {
            End::Cut(error) => {
                self.login.left_behind.borrow_mut().push(self.id);
                error.clone()
            }
            End::Open | End::Closed => Error::new(Kind::Closed, format!("the connection to {} was closed", self.peer)),
        };
        *self.end.borrow_mut() = end;
        self.close();
        self.ended.notify_waiters();
        if let Some(tell) = self.login.on_end.get() {
            tell(self.id, &why);
        }
    }

    fn client(&self) -> Result<Rc<Client>, Fault> {
        self.client.borrow().clone().ok_or_else(|| Fault::Gone(self.lost()))
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
            Err(_) if !matches!(*self.end.borrow(), End::Open) => Err(Fault::Gone(self.lost())),
            Err(failure) => Err(login::fault_of(&self.login, &self.peer, &failure)),
        };
        if !matches!(outcome, Err(Fault::Gone(_))) {
            self.heard.set(self.heard.get().max(sent));
        }
        outcome
    }
}

type Attempt = watch::Receiver<Option<Result<Rc<Session>>>>;

/// A session that is opened when it is needed, again after a cut, and closed when nobody needs it.
pub struct Standing {
    login: Rc<Login>,
    purpose: Purpose,
    session: RefCell<Option<Rc<Session>>>,
    attempt: RefCell<Option<Attempt>>,
    was_cut: Cell<bool>,
    closed: Cell<bool>,
}

impl Standing {
    pub fn new(login: &Rc<Login>, purpose: Purpose) -> Rc<Self> {
        Rc::new(Self {
            login: login.clone(),
            purpose,
            session: RefCell::default(),
            attempt: RefCell::default(),
            was_cut: Cell::new(false),
            closed: Cell::new(false),
        })
    }

    /// The session if it is there.
    pub fn current(&self) -> Option<Rc<Session>> {
        self.session.borrow().clone().filter(|session| session.is_open())
    }

    /// The session, opened if it is not there. All who ask meanwhile share one attempt and its failure.
    pub async fn session(self: &Rc<Self>) -> Result<Rc<Session>> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        if self.closed.get() {
            return Err(Error::new(Kind::Closed, "the server's last mutex was closed"));
        }
        let known = self.attempt.borrow().clone();
        let mut attempt = known.unwrap_or_else(|| self.begin());
        let outcome = attempt
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| Err(Error::new(Kind::Connect, "the connection attempt was given up")))
    }

    fn begin(self: &Rc<Self>) -> Attempt {
        let (done, attempt) = watch::channel(None);
        *self.attempt.borrow_mut() = Some(attempt.clone());
        let this = self.clone();
        tokio::task::spawn_local(async move {
            let outcome = this.connect().await;
            this.attempt.borrow_mut().take();
            done.send_replace(Some(outcome));
        });
        attempt
    }

    async fn connect(self: &Rc<Self>) -> Result<Rc<Session>> {
        self.login.refresh_tls()?;
        if self.purpose == Purpose::Locks {
            self.login.pooler.set(Pooler::None);
        }
        let session = Session::open(&self.login, self.purpose).await?;
        if self.closed.get() {
            session.close();
            return Err(Error::new(Kind::Closed, "the server's last mutex was closed"));
        }
        *self.session.borrow_mut() = Some(session.clone());
        if self.purpose == Purpose::Locks {
            tokio::task::spawn_local(tell_end(Rc::downgrade(self), session.clone()));
            if self.was_cut.take() {
                let _ = self.login.context.events.send(Event::Reconnected);
            }
        }
        Ok(session)
    }

    /// Gives the connection back. The next who needs it opens another.
    pub fn rest(&self) {
        if let Some(session) = self.session.borrow_mut().take() {
            session.close();
        }
    }

    /// Ends the session in order, and any attempt to make one.
    pub fn close(&self) -> Option<Rc<Session>> {
        self.closed.set(true);
        let session = self.session.borrow_mut().take()?;
        session.close();
        Some(session)
    }
}

/// Tells of the end of the session that locks hang on, unless that is wanted.
async fn tell_end(standing: Weak<Standing>, session: Rc<Session>) {
    session.ended().await;
    let Some(standing) = standing.upgrade() else { return };
    let mut kept = standing.session.borrow_mut();
    if kept.as_ref().is_some_and(|kept| Rc::ptr_eq(kept, &session)) {
        kept.take();
        standing.was_cut.set(true);
        let _ = standing.login.context.events.send(Event::Disconnected);
    }
}
