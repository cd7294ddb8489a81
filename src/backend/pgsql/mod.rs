//! PostgreSQL: session-level advisory locks.
//!
//! A lock is one number ([`key`]) and belongs to the session that took it; the server frees it when the session ends. The
//! queue is the server's own, first come, first served, readers and writers alike.
//!
//! The invariant: **a request is believed to hold only while its own session answers, and a session of ours that no longer answers to
//! us is at its end before anybody is told that nothing of its requests is left.** Who keeps it:
//!
//! - [`session`]: a session dates each answer by when its question was sent, and its end is the end of all that it held.
//! - [`control`]: heartbeats, on each session that holds; the sessions that were left behind, which are ended at the server until it
//!   confirms that; looks at those that cannot answer, because they wait. The server's own time limits, which each session sets for
//!   itself ([`sql::settings`]), come later than ours.
//! - [`main_session`]: the one session on which all locks are held that were free when they were asked for. No statement there waits.
//! - [`waiting`], [`group`]: who finds a lock taken waits for it on a session of its own, and holds it there. Readers
//!   wait and hold together.
//! - [`locks`], [`request`]: where each request is in its life. What was sent for it is carried to its end when the caller goes away.
//!
//! Fencing tokens are transaction ids, taken after the lock, on yet another session, because a commit may take long.
//! Sessions are opened when they are needed, and closed when nobody holds or waits.

mod connect;
mod control;
mod group;
mod key;
mod locks;
mod login;
mod main_session;
mod query;
mod request;
mod session;
mod sql;
mod waiting;
mod wire;

use self::key::Key;
use self::locks::Locks;
use self::request::{Phase, Request};
use self::session::Session;
use super::{Ask, Attempt, Backend, Context, Owner, Refusal, Released, Snapshot, Snapshots, Stage, Taken, Task};
use crate::clock;
use crate::core::lease::Terms;
use crate::error::{Error, Kind, Result};
use crate::url::Server;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
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
    let locks = Locks::new(server, context);
    locks.main.get().await?;
    locks.rest_soon();
    Ok(Rc::new(Pgsql(locks)))
}

struct Pgsql(Rc<Locks>);

impl Backend for Pgsql {
    fn terms(&self) -> Terms {
        self.0.login.terms
    }

    fn check(&self) -> Task<'_, Result<()>> {
        Box::pin(async {
            let limit = self.0.login.options.connect_timeout;
            let look = async {
                let session = self.0.main.get().await?.session;
                if clock::now().since(session.heard.get()) < FRESH {
                    return Ok(());
                }
                match session.ping().await {
                    Ok(()) => Ok(()),
                    // It was cut unnoticed: a new one tells whether the server is there.
                    Err(_) => self.0.main.get().await.map(|_| ()),
                }
            };
            self.0.rest_soon();
            timeout(limit, look).await.unwrap_or_else(|_| Err(self.0.silent("")))
        })
    }

    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>> {
        Box::pin(async {
            let limit = self.0.login.options.connect_timeout;
            let (request, phase) = match ask.attempt {
                Attempt::Wait => self.0.decide(ask).await,
                Attempt::Try => timeout(limit, self.0.decide(ask))
                    .await
                    .map_err(|_| self.0.silent("a try for a lock"))?,
                Attempt::Steal => return Err(Refusal::cannot_steal(&ask)),
            };
            match phase {
                Phase::Held(taken) => Ok(taken),
                Phase::Refused(refusal) => {
                    // Nothing is left to release, and of a try that was in vain nobody will.
                    self.0.forget(&request.ask.owner);
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
            let Some(request) = self.0.find(&ask.owner) else {
                self.0.control.end_left_behind().await?;
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
                        let (locks, request) = (self.0.clone(), request.clone());
                        let work = async move { request.enters(locks.free(&request).await) };
                        self.0.completion.of(work).await;
                    }
                    Phase::Freeing => {
                        freeing = true;
                        request.leaves(|phase| matches!(phase, Phase::Freeing)).await;
                    }
                    Phase::Over(released) => {
                        self.0.forget(&ask.owner);
                        return Ok(released);
                    }
                    // Whether the server had still heard of the release, nobody knows.
                    Phase::Lost if freeing => {
                        let message = format!("the connection was lost while lock \"{}\" was released", ask.name());
                        return Err(Error::new(Kind::Connect, message));
                    }
                    Phase::Lost | Phase::Refused(_) => {
                        self.0.control.end_left_behind().await?;
                        self.0.forget(&ask.owner);
                        return Ok(Released::NotHeld);
                    }
                }
            }
        })
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(async move {
            let deadline = Instant::now() + self.0.login.terms.renew_every;
            let beat = |(session, asks): (Rc<Session>, Vec<Rc<Ask>>)| async move {
                control::beat(&session).await;
                // Each hold lives as long as its own session, whatever is heard of the others.
                if session.is_open() {
                    asks.iter().for_each(|ask| ask.prove(session.heard.get()));
                }
            };
            let beats: Vec<_> = self
                .0
                .sessions(&asks)
                .into_iter()
                .map(beat)
                .map(tokio::task::spawn_local)
                .collect();
            // What fails here is looked at again the next time.
            let _ = timeout_at(deadline, self.0.waiting.look()).await;
            let _ = timeout_at(deadline, self.0.tokens.look(&self.0.control)).await;
            for beat in beats {
                let _ = timeout_at(deadline, beat).await;
            }
            let gone = |ask: &&Rc<Ask>| {
                let phase = self.0.find(&ask.owner).map(|request| request.phase());
                ask.stage.get() == Stage::Held
                    && !matches!(phase, Some(Phase::Held(_) | Phase::Freeing | Phase::Over(_)))
            };
            Ok(asks.iter().filter(gone).map(|ask| ask.owner.clone()).collect())
        })
    }

    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async move {
            let locks = &self.0;
            let key = locks.keys.of(&id);
            let of_key = |request: &&Rc<Request>| request.key == key;
            let ours = locks.requests.borrow().values().filter(of_key).cloned().collect();
            locks.rest_soon();
            query::query(&locks.control, key, ours, &locks.login.context.identity).await
        })
    }

    fn list(&self, known: BTreeSet<Arc<str>>) -> Task<'_, Result<Snapshots>> {
        Box::pin(async move {
            let locks = &self.0;
            locks.rest_soon();
            let wanted = known.into_iter().map(|id| (id.clone(), Key::of(&id))).collect();
            let ours = locks.requests.borrow().values().cloned().collect();
            query::list(&locks.control, wanted, ours, &locks.login.context.identity).await
        })
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async {
            let deadline = Instant::now() + GOODBYE;
            let locks = &self.0;
            let mut open = locks.waiting.close();
            for session in open.iter().filter(|session| session.is_open()) {
                session.cut(Error::new(Kind::Closed, "the server's last mutex was closed"));
            }
            let _ = timeout_at(deadline, locks.control.end_left_behind()).await;
            open.extend(
                [locks.main.close(), locks.control.close(), locks.tokens.close()]
                    .into_iter()
                    .flatten(),
            );
            for session in open {
                let _ = timeout_at(deadline, session.ended()).await;
            }
            locks.requests.borrow_mut().clear();
        })
    }
}
