//! The session that all uncontended locks of the process share, and its return after a cut.

use super::claims::{Admission, Claims};
use super::failure::Fault;
use super::key::{Key, Shape};
use super::login::{Login, Pooler};
use super::request::{Hold, Place, Request};
use super::session::{self, Session};
use super::sql::{Call, TERMINATE, Verb};
use crate::backend::{Event, Taken};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::{Error, Kind, Result};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::types::Type;

/// What the main session does most often.
const TYPICAL: Call = Call {
    verb: Verb::Try,
    mode: Mode::Exclusive,
    fenced: false,
    shape: Shape::Big,
};
/// How long the server gets to end one of our former sessions.
const BURIAL: Duration = Duration::from_secs(1);

/// A living main session.
#[derive(Clone)]
pub struct Trunk {
    pub session: Rc<Session>,
    pub claims: Rc<Claims>,
}

type Attempt = watch::Receiver<Option<Result<Trunk>>>;

pub struct MainSession {
    login: Rc<Login>,
    trunk: RefCell<Option<Trunk>>,
    attempt: RefCell<Option<Attempt>>,
    connected_before: Cell<bool>,
    closed: Cell<bool>,
}

impl MainSession {
    pub fn new(login: Rc<Login>) -> Rc<Self> {
        Rc::new(Self {
            login,
            trunk: RefCell::default(),
            attempt: RefCell::default(),
            connected_before: Cell::new(false),
            closed: Cell::new(false),
        })
    }

    /// The session if it is there.
    pub fn current(&self) -> Option<Trunk> {
        self.trunk.borrow().clone().filter(|trunk| trunk.session.is_open())
    }

    /// The session, connected anew if it was cut. All who ask meanwhile share one attempt and its failure.
    pub async fn trunk(self: &Rc<Self>) -> Result<Trunk> {
        if let Some(trunk) = self.current() {
            return Ok(trunk);
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
            if let Ok(trunk) = &outcome {
                tokio::task::spawn_local(tell_end(Rc::downgrade(&this), trunk.session.clone()));
            }
            done.send_replace(Some(outcome));
        });
        attempt
    }

    async fn connect(&self) -> Result<Trunk> {
        self.login.refresh_tls()?;
        self.login.pooler.set(Pooler::None);
        let session = session::open(&self.login, TYPICAL).await?;
        let trunk = Trunk {
            session,
            claims: Rc::default(),
        };
        if self.closed.get() {
            trunk.session.close();
            return Err(Error::new(Kind::Closed, "the server's last mutex was closed"));
        }
        bury(&self.login, &trunk.session).await;
        *self.trunk.borrow_mut() = Some(trunk.clone());
        if self.connected_before.replace(true) {
            let _ = self.login.context.events.send(Event::Reconnected);
        }
        Ok(trunk)
    }

    /// Makes sure that none of our former sessions lives on at the server, where it would keep what it held.
    pub async fn bury(self: &Rc<Self>) -> Result<()> {
        if self.login.ghosts.borrow().is_empty() {
            return Ok(());
        }
        let trunk = self.trunk().await?;
        bury(&self.login, &trunk.session).await;
        Ok(())
    }

    /// Ends the session in order, and any attempt to make one.
    pub fn close(&self) -> Option<Rc<Session>> {
        self.closed.set(true);
        let trunk = self.trunk.borrow_mut().take()?;
        trunk.session.close();
        Some(trunk.session)
    }
}

/// Tells of the end of the main session, unless that is wanted.
async fn tell_end(main: Weak<MainSession>, session: Rc<Session>) {
    session.ended().await;
    if let Some(main) = main.upgrade()
        && !main.closed.get()
    {
        let _ = main.login.context.events.send(Event::Disconnected);
    }
}

impl Trunk {
    /// Tries to take the lock at once, unless one of our own is in the way here. `None` means: not now.
    ///
    /// On `Err` the session does not have the lock for this request.
    pub async fn attempt(&self, request: &Rc<Request>) -> Result<Option<Taken>, Fault> {
        let (key, mode) = (request.key, request.ask.mode);
        let verb = match self.claims.enter(key, mode) {
            Admission::First => Verb::Try,
            Admission::Another => Verb::TryUnlessAwaited,
            Admission::No => return Ok(None),
        };
        let call = Call {
            fenced: request.ask.fenced,
            ..session::call(verb, mode, key)
        };
        let leased_at = clock::now();
        match self.session.call(call, key).await {
            Ok(answer) if answer.done && self.session.is_open() => {
                let place = Place::Main(self.claims.clone());
                self.session.rename_for(key, &request.ask).await;
                Ok(Some(hold(request, &self.session, place, answer.token, leased_at)))
            }
            Ok(_) => {
                self.claims.leave(key);
                Ok(None)
            }
            Err(fault) => {
                self.claims.doubt(key);
                self.leave(key, mode).await;
                Err(fault)
            }
        }
    }

    /// Gives one hold back. Whether the server had it.
    pub async fn free(&self, key: Key, mode: Mode) -> Result<bool, Fault> {
        let freed = free(&self.session, key, mode).await;
        if freed.is_err() {
            self.claims.doubt(key);
        }
        self.leave(key, mode).await;
        freed
    }

    /// Takes a request off the claims; the last one settles what is in doubt, by giving back until there is nothing left.
    async fn leave(&self, key: Key, mode: Mode) {
        if self.claims.must_drain(key) {
            Box::pin(self.drain(key, mode)).await;
        }
        self.claims.leave(key);
    }

    async fn drain(&self, key: Key, mode: Mode) {
        while self.session.is_open() && self.claims.must_drain(key) {
            match free(&self.session, key, mode).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => self.session.cut(fault.into()),
            }
        }
    }
}

/// Gives one hold back on `session`. A cancel request meant for something else does not count.
pub async fn free(session: &Session, key: Key, mode: Mode) -> Result<bool, Fault> {
    let call = session::call(Verb::Free, mode, key);
    let mut cancelled = 0;
    loop {
        match session.call(call, key).await {
            Err(Fault::Cancelled(_)) if cancelled < 2 => cancelled += 1,
            // If it was cancelled after it had done its work, the next one finds nothing.
            outcome => return outcome.map(|answer| answer.done || cancelled > 0),
        }
    }
}

/// Notes that `session` holds the lock for `request`.
pub fn hold(
    request: &Rc<Request>,
    session: &Rc<Session>,
    place: Place,
    token: Option<u64>,
    leased_at: crate::core::time::Moment,
) -> Taken {
    session.note(request);
    *request.hold.borrow_mut() = Some(Hold {
        session: session.clone(),
        place,
        since: clock::wall_ms(),
        token,
    });
    Taken { token, leased_at }
}

/// Ends our former sessions at the server. A cut connection may be one that only we gave up, or that only we see as cut;
/// its session would hold its locks, or go on waiting for one, until the server's own time limits end it.
async fn bury(login: &Login, session: &Session) {
    let ghosts = login.ghosts.borrow().clone();
    let deadline = Instant::now() + BURIAL;
    for ghost in ghosts {
        loop {
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                [(&ghost.pid, Type::INT4), (&ghost.started, Type::INT8)];
            let left = match session.rows(TERMINATE, &parameters).await {
                Ok(rows) => rows.first().and_then(|row| row.try_get::<_, i64>(0).ok()).unwrap_or(0),
                Err(Fault::Gone(_)) => return,
                // The server does not let us: its own time limits will have to do.
                Err(Fault::Cancelled(_) | Fault::Refused(_)) => 0,
            };
            if left == 0 || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        login.ghosts.borrow_mut().retain(|other| *other != ghost);
    }
}
