//! PostgreSQL: session-level advisory locks.
//!
//! A lock is one number ([`key`]) and belongs to the session that took it; the server frees it when the session ends. The
//! queue is the server's own, first come, first served, readers and writers alike.
//!
//! - All uncontended locks of the process live on one session, the main session, whose statements are
//!   pipelined ([`main_session`]). What this process has there is kept in [`claims`], because to the server a session
//!   never excludes itself.
//! - Who finds a lock taken waits for it on a session of its own ([`side`], [`waiting`]), and holds it there. Readers
//!   wait and hold together ([`group`]).
//! - A cut connection is the loss of what it held, told at once ([`session`]). A connection that only fell silent is given
//!   up on this side when its lease is over ([`heartbeat`]); the server's time limits, which each session sets for
//!   itself, come later ([`sql::settings`]). After a reconnect the server is told to end the former sessions.
//! - Fencing tokens are transaction ids, taken after the lock within the same statement ([`sql`]).
//!
//! Statements are executed on errands ([`errand`]), so that a caller who drops a future leaves none without an owner.

mod backend_key;
mod census;
mod claims;
mod dial;
mod errand;
mod failure;
mod group;
mod heartbeat;
mod key;
mod login;
mod main_session;
mod name;
mod request;
mod session;
mod side;
mod sql;
mod waiting;
mod welcome;
mod wire;

use self::errand::{Errand, Heirs};
use self::failure::Fault;
use self::group::{Group, Groups, Joining};
use self::key::Keys;
use self::login::Login;
use self::main_session::{MainSession, Trunk};
use self::request::{Phase, Place, Request};
use self::session::Session;
use self::side::Side;
use super::{Ask, Attempt, Backend, Context, Owner, Refusal, Released, Snapshot, Stage, Taken, Task};
use crate::clock;
use crate::core::lease::Terms;
use crate::error::{Error, Kind, Result};
use crate::url::Server;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

/// An answer that is not older than this is as good as a new one.
const FRESH: Duration = Duration::from_millis(500);
/// How long the end of all connections may take.
const GOODBYE: Duration = Duration::from_millis(900);

/// Connects to the server, and makes sure that it is a PostgreSQL that can keep locks for us.
///
/// # Errors
/// `Connect`, `Auth`, `Tls`, or `Server`: something else answers there, the database does not exist, the server is a
/// read-only replica, or a connection pooler shares sessions between clients.
pub async fn connect(server: &Server, context: Context) -> Result<Rc<dyn Backend>> {
    let login = Rc::new(Login::new(server, context));
    let backend = Pgsql {
        main: MainSession::new(login.clone()),
        side: Side::new(login.clone()),
        groups: Rc::default(),
        login,
        heirs: Heirs::new(),
        keys: Keys::default(),
        requests: RefCell::default(),
    };
    backend.main.trunk().await?;
    Ok(Rc::new(backend))
}

struct Pgsql {
    login: Rc<Login>,
    main: Rc<MainSession>,
    side: Rc<Side>,
    groups: Rc<Groups>,
    heirs: Heirs,
    keys: Keys,
    requests: RefCell<HashMap<Owner, Rc<Request>>>,
}

impl Pgsql {
    fn find(&self, owner: &Owner) -> Option<Rc<Request>> {
        self.requests.borrow().get(owner).cloned()
    }

    fn forget(&self, owner: &Owner) {
        self.requests.borrow_mut().remove(owner);
    }

    /// The ask's request, and what is to be done for it if it is new; one that failed begins anew.
    fn request(&self, ask: Rc<Ask>) -> (Rc<Request>, Option<Errand>) {
        if let Some(known) = self.find(&ask.owner)
            && !matches!(known.phase(), Phase::Refused(_))
        {
            return (known, None);
        }
        let key = self.keys.of(&ask.id);
        let request = Rc::new(Request::new(ask, key));
        self.requests
            .borrow_mut()
            .insert(request.ask.owner.clone(), request.clone());
        let errand = self.heirs.errand(serve(
            self.main.clone(),
            self.side.clone(),
            self.groups.clone(),
            request.clone(),
        ));
        (request, Some(errand))
    }

    /// Resolves when the server has answered the first question, or has granted what is waited for.
    async fn decide(&self, ask: Rc<Ask>) -> (Rc<Request>, Phase) {
        let (request, errand) = self.request(ask);
        if let Some(errand) = errand {
            errand.await;
        }
        let phase = request.leaves(|phase| matches!(phase, Phase::Asking)).await;
        (request, phase)
    }

    fn silent(&self, what: &str) -> Error {
        let limit = self.login.options.connect_timeout;
        let address = &self.login.addresses[0];
        let message = format!(
            "PostgreSQL at {}:{} did not answer {what} in {limit:?}",
            address.host, address.port
        );
        Error::new(Kind::Connect, message)
    }
}

/// Takes the lock for a request, or has it wait.
async fn serve(main: Rc<MainSession>, side: Rc<Side>, groups: Rc<Groups>, request: Rc<Request>) {
    let phase = match ask(&main, &side, &groups, &request).await {
        Ok(Answer::Taken(taken)) => Phase::Held(taken),
        Ok(Answer::WaitsWithOthers) => return,
        Ok(Answer::Waits(group, slot)) => {
            tokio::task::spawn_local(waiting::wait(side, main, groups, group, slot));
            return;
        }
        Err(refusal) => Phase::Refused(refusal),
    };
    request.enters(phase);
}

/// What the first look at a lock gave.
enum Answer {
    Taken(Taken),
    /// By itself, and maybe without a try.
    Waits(Rc<Group>, Option<OwnedSemaphorePermit>),
    /// Somebody else will tell the request how its wait has ended.
    WaitsWithOthers,
}

async fn ask(main: &Rc<MainSession>, side: &Side, groups: &Groups, request: &Rc<Request>) -> Result<Answer, Refusal> {
    loop {
        let trunk = main.trunk().await?;
        let waits = request.ask.attempt == Attempt::Wait;
        if waits
            && !groups.can_be_joined(request)
            && let Some(slot) = side.slot_without_a_try(request.key)
        {
            return Ok(Answer::Waits(groups.begin(request.clone()), Some(slot)));
        }
        if let Some(taken) = trunk.attempt(request).await.map_err(Error::from)? {
            return Ok(Answer::Taken(taken));
        }
        if !waits {
            return Err(Refusal::Busy);
        }
        match groups.join(request, &trunk.session).await.map_err(Error::from)? {
            Joining::Joined => return Ok(Answer::WaitsWithOthers),
            Joining::Alone => return Ok(Answer::Waits(groups.begin(request.clone()), None)),
            Joining::TooLate => {}
        }
    }
}

/// Gives the lock back. A connection that ends meanwhile has given it back as well, but nobody knows when.
async fn free(side: Rc<Side>, request: Rc<Request>) {
    let Some(hold) = request.hold.borrow_mut().take() else {
        request.enters(Phase::Lost);
        return;
    };
    let session = hold.session;
    session.forget(&request);
    session.rename_after(request.key).await;
    let (key, mode) = (request.key, request.ask.mode);
    let freed = match hold.place {
        Place::Main(claims) => {
            Trunk {
                session: session.clone(),
                claims,
            }
            .free(key, mode)
            .await
        }
        Place::Side => side.free(&session, key, mode).await,
    };
    request.enters(match freed {
        Ok(true) => Phase::Over(Released::Freed),
        Ok(false) => Phase::Over(Released::NotHeld),
        Err(fault) => {
            if let Fault::Cancelled(error) | Fault::Refused(error) = fault {
                session.cut(error);
            }
            Phase::Lost
        }
    });
}

impl Backend for Pgsql {
    fn terms(&self) -> Terms {
        self.login.terms
    }

    fn check(&self) -> Task<'_, Result<()>> {
        Box::pin(async {
            let limit = self.login.options.connect_timeout;
            let look = async {
                let session = self.main.trunk().await?.session;
                if clock::now().since(session.heard.get()) < FRESH {
                    return Ok(());
                }
                match session.ping().await {
                    Ok(()) => Ok(()),
                    // It was cut unnoticed: a new one tells whether the server is there.
                    Err(_) => self.main.trunk().await.map(|_| ()),
                }
            };
            timeout(limit, look).await.unwrap_or_else(|_| Err(self.silent("")))
        })
    }

    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>> {
        Box::pin(async {
            let limit = self.login.options.connect_timeout;
            let (request, phase) = match ask.attempt {
                Attempt::Wait => self.decide(ask).await,
                Attempt::Try => timeout(limit, self.decide(ask))
                    .await
                    .map_err(|_| self.silent("a try for a lock"))?,
            };
            match phase {
                Phase::Held(taken) => Ok(taken),
                Phase::Refused(refusal) => {
                    // Nothing is left to release, and of a try that was in vain nobody will.
                    self.forget(&request.ask.owner);
                    Err(refusal)
                }
                Phase::Asking | Phase::Freeing | Phase::Over(_) | Phase::Lost => {
                    let message = format!("the connection was lost that held lock \"{}\"", request.ask.name());
                    Err(Error::new(Kind::Connect, message).into())
                }
            }
        })
    }

    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>> {
        Box::pin(async move {
            let Some(request) = self.find(&ask.owner) else {
                return Ok(Released::NotHeld);
            };
            let mut freeing = false;
            loop {
                match request.phase() {
                    Phase::Asking => {
                        request.withdraw();
                        request.leaves(|phase| matches!(phase, Phase::Asking)).await;
                    }
                    Phase::Held(_) => {
                        freeing = true;
                        request.enters(Phase::Freeing);
                        self.heirs.errand(free(self.side.clone(), request.clone())).await;
                    }
                    Phase::Freeing => {
                        freeing = true;
                        request.leaves(|phase| matches!(phase, Phase::Freeing)).await;
                    }
                    Phase::Over(released) => {
                        self.forget(&ask.owner);
                        return Ok(released);
                    }
                    // Whether the server had still heard of the release, nobody knows.
                    Phase::Lost if freeing => {
                        let message = format!("the connection was lost while lock \"{}\" was released", ask.name());
                        return Err(Error::new(Kind::Connect, message));
                    }
                    Phase::Lost | Phase::Refused(_) => {
                        self.main.bury().await?;
                        self.forget(&ask.owner);
                        return Ok(Released::NotHeld);
                    }
                }
            }
        })
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(async move {
            let holds: Vec<(Rc<Ask>, Rc<Session>)> = asks
                .iter()
                .filter_map(|ask| {
                    let request = self.find(&ask.owner)?;
                    let session = request.hold.borrow().as_ref()?.session.clone();
                    session.is_open().then(|| (ask.clone(), session))
                })
                .collect();
            let mut sessions: Vec<Rc<Session>> = self.main.current().into_iter().map(|trunk| trunk.session).collect();
            for (_, session) in &holds {
                if !sessions.iter().any(|other| Rc::ptr_eq(session, other)) {
                    sessions.push(session.clone());
                }
            }
            heartbeat::beat(&sessions, self.login.terms.renew_every).await;
            // Each hold lives as long as its own session, whatever is heard of the others.
            for (ask, session) in &holds {
                if session.is_open() {
                    ask.prove(session.heard.get());
                }
            }
            let gone = |ask: &&Rc<Ask>| {
                let phase = self.find(&ask.owner).map(|request| request.phase());
                ask.stage.get() == Stage::Held
                    && !matches!(phase, Some(Phase::Held(_) | Phase::Freeing | Phase::Over(_)))
            };
            Ok(asks.iter().filter(gone).map(|ask| ask.owner.clone()).collect())
        })
    }

    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async move {
            let key = self.keys.of(&id);
            let session = self.main.trunk().await?.session;
            let ours = self
                .requests
                .borrow()
                .values()
                .filter(|request| request.key == key)
                .cloned()
                .collect::<Vec<_>>();
            let identity = &self.login.context.identity;
            let taken = timeout(
                self.login.options.connect_timeout,
                census::take(&session, key, ours, identity),
            )
            .await;
            taken.map_err(|_| self.silent("a query"))?.map_err(Error::from)
        })
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async {
            let deadline = Instant::now() + GOODBYE;
            let mut open = self.side.close();
            for session in open.iter().filter(|session| session.is_open()) {
                session.cut(Error::new(Kind::Closed, "the server's last mutex was closed"));
            }
            if self.main.current().is_some() {
                let _ = timeout_at(deadline, self.main.bury()).await;
            }
            open.extend(self.main.close());
            for session in open {
                let _ = timeout_at(deadline, session.ended()).await;
            }
            self.requests.borrow_mut().clear();
        })
    }
}
