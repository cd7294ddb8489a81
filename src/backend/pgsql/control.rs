//! The control session looks after the other sessions, so that no sign of life and no question waits behind work; and the session for
//! tokens does the work that may take long, so that none of the others does.

use super::connect::Instance;
use super::login::{Fault, Login, Pooler, SessionId, uncancelled};
use super::session::{Parameter, Purpose, Session, Standing};
use super::sql;
use crate::clock;
use crate::error::{Error, Kind, Result};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// How long the server gets to end one of our former sessions before somebody hears of it.
const END: Duration = Duration::from_secs(1);
/// Timers do not count the time a machine is suspended; the clock of leases does, and is looked at this often.
const CLOCK: Duration = Duration::from_secs(1);
/// How often somebody looks whether a wait is in another's way: less than the server's `deadlock_timeout`.
const WATCH: Duration = Duration::from_millis(250);
/// The oldest snapshot that a wait may keep, in seconds.
const OLDEST: u64 = 20;

/// How often in a row a session is seen not to do what it was asked for, and not to have answered, before it counts as dead.
pub const DOUBTS: u8 = 2;
/// How often a token is asked for again when the session was cut meanwhile, perhaps unnoticed.
const RETRIES: u32 = 2;

/// What the server knows of a session of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Waits,
    Holds,
    /// It does something else.
    Busy,
    Idle,
}

pub struct Control {
    login: Rc<Login>,
    standing: Rc<Standing>,
    watching: Cell<bool>,
}

impl Control {
    pub fn new(login: &Rc<Login>) -> Rc<Self> {
        Rc::new(Self {
            login: login.clone(),
            standing: Standing::new(login, Purpose::Service),
            watching: Cell::new(false),
        })
    }

    /// Opens the session if it is not there, and tells which server it leads to.
    pub async fn ready(&self) -> Result<Instance> {
        self.standing.session().await.map(|session| session.server)
    }

    /// See [`Standing::rest`].
    pub fn rest(&self) {
        self.standing.rest();
    }

    /// See [`Standing::close`].
    pub fn close(&self) -> Option<Rc<Session>> {
        self.standing.close()
    }

    /// Executes a statement, which depends on the server's version, within `connect_timeout`.
    pub async fn ask(&self, sql: impl Fn(i32) -> String, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        let limit = self.login.options.connect_timeout;
        loop {
            let reused = self.standing.current().is_some();
            let session = self.standing.session().await?;
            let text = sql(session.server.version);
            match timeout(limit, uncancelled(async |_| session.rows(&text, parameters).await)).await {
                Ok(Ok(rows)) => return Ok(rows),
                // It was cut unnoticed: a new one tells whether the server is there.
                Ok(Err(Fault::Gone(_))) if reused => {}
                Ok(Err(fault)) => return Err(fault.into()),
                Err(_) => {
                    let error = session.silence(limit);
                    session.cut(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// Makes sure that none of our former sessions lives on at the server, where it would keep what it held, or be granted
    /// what it waits for. A cut connection may be one that only we gave up, or that only we see as cut.
    ///
    /// # Errors
    /// The server has not confirmed it for all.
    pub async fn end_left_behind(&self) -> Result<()> {
        let deadline = Instant::now() + END;
        loop {
            let former = self.login.left_behind.borrow().clone();
            if former.is_empty() {
                return Ok(());
            }
            let (pids, started) = columns(former.iter().copied());
            let pooled = self.login.pooler.get() == Pooler::PerSession;
            let parameters: [Parameter<'_>; 3] = [
                (&pids, Type::INT4_ARRAY),
                (&started, Type::INT8_ARRAY),
                (&pooled, Type::BOOL),
            ];
            let rows = self.ask(|_| sql::TERMINATE.to_owned(), &parameters).await?;
            let left: Vec<SessionId> = rows
                .iter()
                .filter_map(|row| {
                    Some(SessionId {
                        pid: row.try_get(0).ok()?,
                        started: row.try_get(1).ok()?,
                    })
                })
                .collect();
            let over = |id: &SessionId| former.contains(id) && !left.contains(id);
            self.login.left_behind.borrow_mut().retain(|id| !over(id));
            if Instant::now() > deadline {
                let message = "PostgreSQL has not yet ended a former session of this process";
                return Err(Error::new(Kind::Connect, message));
            }
            if !left.is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// What the server knows of those of `sessions` that it still has.
    pub async fn look(&self, sessions: impl Iterator<Item = SessionId>) -> Result<HashMap<i32, Seen>> {
        let (pids, started) = columns(sessions);
        let parameters: [Parameter<'_>; 2] = [(&pids, Type::INT4_ARRAY), (&started, Type::INT8_ARRAY)];
        let rows = self.ask(|_| sql::LOOK.to_owned(), &parameters).await?;
        let seen = |row: &Row| {
            let is = |column| row.try_get::<_, Option<bool>>(column).ok().flatten().unwrap_or(false);
            let seen = match (is(1), is(2), is(3)) {
                (_, true, _) => Seen::Waits,
                (true, false, _) => Seen::Holds,
                (false, false, true) => Seen::Busy,
                (false, false, false) => Seen::Idle,
            };
            Some((row.try_get(0).ok()?, seen))
        };
        Ok(rows.iter().filter_map(seen).collect())
    }

    /// Sees to it that no wait of sessions like ours is in anybody's way, while `somebody_waits` here.
    pub fn watch(self: &Rc<Self>, somebody_waits: impl Fn() -> bool + 'static) {
        if self.watching.replace(true) {
            return;
        }
        let this = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                sleep(WATCH).await;
                if !somebody_waits() {
                    break;
                }
                let hurts = this.ask(|version| sql::hurts(version, OLDEST), &[]).await;
                if hurts.is_ok_and(|rows| rows.first().is_some_and(|row| row.try_get(0).unwrap_or(false))) {
                    // If that fails, the next look finds the same.
                    let _ = this.refresh().await;
                }
            }
            this.watching.set(false);
        });
    }

    async fn refresh(&self) -> Result<(), Fault> {
        let session = self.standing.session().await?;
        session.execute(&sql::refresh(session.server.version)).await
    }
}

/// The session that fencing tokens come from. Each is a commit, which takes as long as the server's disk and its synchronous standbys:
/// so it holds nothing, and nothing else waits for it.
pub struct Tokens {
    standing: Rc<Standing>,
    /// Shared by those who have asked for one.
    asked: Rc<()>,
    doubts: Cell<u8>,
}

impl Tokens {
    pub fn new(login: &Rc<Login>) -> Self {
        Self {
            standing: Standing::new(login, Purpose::Service),
            asked: Rc::new(()),
            doubts: Cell::new(0),
        }
    }

    /// A token that is larger than all before.
    pub async fn next(&self) -> Result<u64> {
        let mut failures = 0;
        loop {
            let session = self.standing.session().await?;
            let asked = self.asked.clone();
            let answer = uncancelled(async |_| session.rows(sql::TOKEN, &[]).await).await;
            drop(asked);
            match answer {
                Ok(rows) => {
                    let token = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok());
                    let none = || Error::new(Kind::Server, format!("PostgreSQL at {} gives no token", session.peer));
                    return token.map(i64::cast_unsigned).ok_or_else(none);
                }
                Err(Fault::Gone(_)) if failures < RETRIES => failures += 1,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// Looks at the server whether it still works on what it was asked for. A session whose question or answer got lost on the way is
    /// cut, so that another is asked.
    pub async fn look(&self, control: &Control) -> Result<()> {
        let Some(session) = self.standing.current().filter(|_| Rc::strong_count(&self.asked) > 1) else {
            self.doubts.set(0);
            return Ok(());
        };
        let seen = control.look(std::iter::once(session.id)).await?;
        match seen.get(&session.id.pid) {
            Some(Seen::Busy) => self.doubts.set(0),
            Some(_) => self.doubts.set(self.doubts.get() + 1),
            None => self.doubts.set(DOUBTS),
        }
        if self.doubts.get() >= DOUBTS {
            session.cut(session.silence(session.login.ttl()));
        }
        Ok(())
    }

    /// See [`Standing::rest`].
    pub fn rest(&self) {
        self.standing.rest();
    }

    /// See [`Standing::close`].
    pub fn close(&self) -> Option<Rc<Session>> {
        self.standing.close()
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Gone(error)
    }
}

fn columns(sessions: impl Iterator<Item = SessionId>) -> (Vec<i32>, Vec<i64>) {
    sessions.map(|id| (id.pid, id.started)).unzip()
}

/// Asks a session for a sign of life, on its own connection, because the server gives up a connection and not a process. Resolves
/// when it has answered, or has come to its end: one that stays silent is ended on this side when its lease is over.
pub async fn beat(session: &Session) {
    if session.beating.replace(true) {
        return;
    }
    tokio::select! {
        biased;
        _ = session.ping() => {}
        () = lease_over(session) => session.cut(session.silence(session.login.ttl())),
    }
    session.beating.set(false);
}

async fn lease_over(session: &Session) {
    loop {
        let until = session.login.terms.believed_until(session.heard.get());
        let left = until.since(clock::now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(CLOCK)).await;
    }
}
