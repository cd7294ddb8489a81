//! What this process has at one server: the requests, and how each gets its lock, keeps it and gives it back.

use super::control::{Control, Tokens};
use super::group::{Group, Joining, withdrawal};
use super::key::Keys;
use super::login::{Fault, Login, SessionId};
use super::main_session::MainSession;
use super::query;
use super::request::{Completing, Completion, Phase, Place, Request};
use super::session::Session;
use super::waiting::{Slot, Waiting};
use crate::backend::{Ask, Attempt, Context, Event, Owner, Refusal, Released, Taken};
use crate::error::{Error, Kind, Result};
use crate::url::Server;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// How long connections stay open when nobody holds or waits, at most.
const IDLE: Duration = Duration::from_secs(10);
/// The same in a template, which nobody can copy meanwhile: CREATE DATABASE waits for up to 5 s.
const IDLE_IN_TEMPLATE: Duration = Duration::from_secs(1);

/// What this process has at one server.
pub struct Locks {
    pub login: Rc<Login>,
    pub main: Rc<MainSession>,
    pub control: Rc<Control>,
    pub waiting: Rc<Waiting>,
    pub tokens: Tokens,
    pub completion: Completion,
    pub keys: Keys,
    pub requests: RefCell<HashMap<Owner, Rc<Request>>>,
    /// How long connections stay open when nobody holds or waits.
    idle: Duration,
    used: Cell<Instant>,
    /// Whether somebody is about to close them.
    idling: Cell<bool>,
}

/// What the first look at a lock gave.
enum Answer {
    Taken,
    /// By itself, and maybe without a try.
    Waits(Rc<Group>, Option<Slot>),
    /// Somebody else will tell the request how its wait has ended.
    WaitsWithOthers,
}

impl Locks {
    pub fn new(server: &Server, context: Context) -> Rc<Self> {
        let name = query::plain(&context.identity);
        let login = Rc::new(Login::new(server, context, name));
        let idle = match server.database.as_deref() {
            None | Some("template1") => IDLE_IN_TEMPLATE,
            Some(_) => IDLE.min(login.ttl()),
        };
        Rc::new_cyclic(|this: &Weak<Locks>| {
            let main = Rc::new(MainSession::new(&login));
            let control = Control::new(&login);
            let granted = {
                let this = this.clone();
                move |request: Rc<Request>| match this.upgrade() {
                    Some(this) if request.ask.fenced => {
                        tokio::task::spawn_local(async move { this.complete(&request).await });
                    }
                    Some(this) => this.settle(&request, None),
                    None => {}
                }
            };
            let of_end = this.clone();
            // A new login has nobody yet who listens.
            let _ = login.on_end.set(Box::new(move |session, why| {
                if let Some(this) = of_end.upgrade() {
                    this.lose(session, why);
                }
            }));
            Locks {
                waiting: Waiting::new(&login, &main, &control, granted),
                main,
                control,
                tokens: Tokens::new(&login),
                login,
                completion: Completion::new(),
                keys: Keys::default(),
                requests: RefCell::default(),
                idle,
                used: Cell::new(Instant::now()),
                idling: Cell::new(false),
            }
        })
    }

    pub fn find(&self, owner: &Owner) -> Option<Rc<Request>> {
        self.requests.borrow().get(owner).cloned()
    }

    pub fn forget(self: &Rc<Self>, owner: &Owner) {
        let mut requests = self.requests.borrow_mut();
        requests.remove(owner);
        if requests.is_empty() {
            drop(requests);
            self.rest_soon();
        }
    }

    /// Closes the connections when nobody has needed them for a while.
    pub fn rest_soon(self: &Rc<Self>) {
        self.used.set(Instant::now());
        if self.idling.replace(true) {
            return;
        }
        let this = Rc::downgrade(self);
        let mut until = self.used.get() + self.idle;
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep_until(until).await;
                let Some(this) = this.upgrade() else { return };
                until = this.used.get() + this.idle;
                let in_use = !this.requests.borrow().is_empty();
                if in_use || Instant::now() >= until {
                    this.idling.set(false);
                    if !in_use {
                        this.main.rest();
                        this.waiting.rest();
                        this.control.rest();
                        this.tokens.rest();
                    }
                    return;
                }
            }
        });
    }

    /// The ask's request, and what is to be done for it if it is new; one that failed begins anew.
    fn request(self: &Rc<Self>, ask: Rc<Ask>) -> (Rc<Request>, Option<Completing>) {
        if let Some(known) = self.find(&ask.owner)
            && !matches!(known.phase(), Phase::Refused(_) | Phase::Lost)
        {
            return (known, None);
        }
        let key = self.keys.of(&ask.id);
        let request = Request::new(ask, key);
        let owner = request.ask.owner.clone();
        self.requests.borrow_mut().insert(owner, request.clone());
        let (this, served) = (self.clone(), request.clone());
        let work = self.completion.of(async move { this.serve(served).await });
        (request, Some(work))
    }

    /// Resolves when the server has answered the first question, or has granted what is waited for. A grant that is there already is dated
    /// anew.
    pub async fn decide(self: &Rc<Self>, ask: Rc<Ask>) -> (Rc<Request>, Phase) {
        let (request, work) = self.request(ask);
        match work {
            Some(work) => work.await,
            None => {
                if let Phase::Held(taken) = request.phase()
                    && let Some(session) = request.session()
                    && session.ping().await.is_ok()
                {
                    let leased_at = session.heard.get();
                    return (request, Phase::Held(Taken { leased_at, ..taken }));
                }
            }
        }
        let phase = request.leaves(|phase| matches!(phase, Phase::Asking)).await;
        (request, phase)
    }

    /// Takes the lock for a request, or has it wait.
    async fn serve(&self, request: Rc<Request>) {
        match self.ask(&request).await {
            Ok(Answer::Taken) => self.complete(&request).await,
            Ok(Answer::WaitsWithOthers) => {}
            Ok(Answer::Waits(group, slot)) => {
                tokio::task::spawn_local(self.waiting.clone().wait(group, slot));
            }
            Err(refusal) => request.enters(Phase::Refused(refusal)),
        }
    }

    async fn ask(&self, request: &Rc<Request>) -> Result<Answer, Refusal> {
        let (key, mode) = (request.key, request.ask.mode);
        let (waiting, groups) = (&self.waiting, &self.waiting.groups);
        if !self.login.left_behind.borrow().is_empty() {
            // It might have what is asked for. Should this fail, the request finds the lock taken.
            let _ = Box::pin(self.control.end_left_behind()).await;
        }
        loop {
            let main = self.main.get().await?;
            let waits = request.ask.attempt == Attempt::Wait;
            if waits
                && !groups.can_be_joined(request)
                && let Some(slot) = waiting.slot_without_a_try(key)
            {
                return Ok(Answer::Waits(groups.begin(request.clone()), Some(slot)));
            }
            if main.attempt(key, mode).await.map_err(Error::from)? {
                request.holds(&main.session, Place::Main(main.clone()));
                query::rename(&main.session, request, &self.login.context.identity).await;
                return Ok(Answer::Taken);
            }
            if !waits {
                return Err(Refusal::Busy);
            }
            match groups.join(request, &self.control).await? {
                Joining::Joined => return Ok(Answer::WaitsWithOthers),
                Joining::Alone => return Ok(Answer::Waits(groups.begin(request.clone()), None)),
                Joining::TooLate => {}
            }
        }
    }

    /// Makes a grant of the server a hold, with a token if one is wanted.
    async fn complete(&self, request: &Rc<Request>) {
        if !request.ask.fenced {
            return self.settle(request, None);
        }
        match Box::pin(self.token(request)).await {
            Ok(token) => self.settle(request, Some(token)),
            Err(refusal) => {
                self.free(request).await;
                // Unless its session has ended meanwhile.
                if matches!(request.phase(), Phase::Asking) {
                    request.enters(Phase::Refused(refusal));
                }
            }
        }
    }

    fn settle(&self, request: &Request, token: Option<u64>) {
        if !matches!(request.phase(), Phase::Asking) {
            return; // Its session has ended meanwhile.
        }
        let phase = match request.hold.borrow().as_ref() {
            None => Phase::Lost,
            Some(hold) => {
                hold.token.set(token);
                // The session lives since then, and with it what it holds.
                let leased_at = hold.session.heard.get();
                Phase::Held(Taken { token, leased_at })
            }
        };
        request.enters(phase);
    }

    async fn token(&self, request: &Request) -> Result<u64, Refusal> {
        tokio::select! {
            biased;
            () = request.withdrawal() => Err(withdrawal().into()),
            token = self.tokens.next() => Ok(token?),
        }
    }

    /// Gives the lock back. A connection that ends meanwhile has given it back as well, but nobody knows when.
    pub async fn free(&self, request: &Rc<Request>) -> Phase {
        let Some(hold) = request.hold.borrow_mut().take() else {
            return Phase::Lost;
        };
        let (key, mode) = (request.key, request.ask.mode);
        let session = hold.session;
        if session.is_named_for(key) {
            // After another who still has it.
            let other =
                |other: &&Rc<Request>| other.key == key && other.session().is_some_and(|at| Rc::ptr_eq(&at, &session));
            let other = self.requests.borrow().values().find(other).cloned();
            if let Some(other) = other {
                query::rename(&session, &other, &self.login.context.identity).await;
            }
        }
        let freed = match hold.place {
            Place::Main(main) => main.free(key, mode).await,
            Place::Own(left) => self.waiting.free(&session, &left, key, mode).await,
        };
        match freed {
            Ok(true) => Phase::Over(Released::Freed),
            Ok(false) => Phase::Over(Released::NotHeld),
            Err(fault) => {
                if let Fault::Cancelled(error) | Fault::Refused(error) = fault {
                    session.cut(error);
                }
                Phase::Lost
            }
        }
    }

    /// A session has ended, and with it what it held.
    fn lose(&self, session: SessionId, why: &Error) {
        let held = |request: &&Rc<Request>| request.session().is_some_and(|held| held.id == session);
        let lost: Vec<_> = self.requests.borrow().values().filter(held).cloned().collect();
        for request in lost {
            match request.phase() {
                Phase::Asking => request.enters(Phase::Lost),
                Phase::Held(_) => {
                    request.enters(Phase::Lost);
                    let message = format!("lock \"{}\" was lost: {}", request.ask.name(), why.message);
                    let mut error = Error::new(Kind::LockLost, message);
                    error.cause.clone_from(&why.cause);
                    let owner = request.ask.owner.clone();
                    let _ = self.login.context.events.send(Event::Lost { owner, error });
                }
                Phase::Refused(_) | Phase::Freeing | Phase::Over(_) | Phase::Lost => {}
            }
        }
    }

    /// The sessions that must be heard of, and whose holds each proves.
    pub fn sessions(&self, asks: &[Rc<Ask>]) -> Vec<(Rc<Session>, Vec<Rc<Ask>>)> {
        let mut sessions: Vec<(Rc<Session>, Vec<Rc<Ask>>)> =
            self.main.current().into_iter().map(|main| (main, Vec::new())).collect();
        for ask in asks {
            let Some(session) = self.find(&ask.owner).and_then(|request| request.session()) else {
                continue;
            };
            match sessions.iter_mut().find(|(other, _)| Rc::ptr_eq(other, &session)) {
                Some((_, asks)) => asks.push(ask.clone()),
                None => sessions.push((session, vec![ask.clone()])),
            }
        }
        sessions.retain(|(session, _)| session.is_open());
        sessions
    }

    pub fn silent(&self, what: &str) -> Error {
        let limit = self.login.options.connect_timeout;
        let address = &self.login.addresses[0];
        let message = format!(
            "PostgreSQL at {}:{} did not answer {what} in {limit:?}",
            address.host, address.port
        );
        Error::new(Kind::Connect, message)
    }
}
