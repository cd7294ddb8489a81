//! Locks on Consul 1.8 or newer, over its HTTP API.
//!
//! A lock is a key, `IPC-Mutex-RPM/<id>/leader`; in is whoever's session has it locked, as for 1.1.2. Beside it stand a
//! ticket for each waiter and a key for each reader ([`keys`]), each locked by the session of its process, so that they
//! vanish with it.
//!
//! * **Going in.** An ask reads the lock's folder. If the leader key is free and nobody waits, one transaction takes it,
//!   under checks that everything still is as it was read. Otherwise it writes a ticket, and the order in which Consul
//!   created the tickets is the queue.
//! * **Waiting.** A waiter has one blocking query: the first in line on the leader key (or on the readers' keys),
//!   everybody else on the ticket before theirs. No key has a herd on it.
//! * **Handing over.** Whoever leaves moves the leader key to the session of the first in line and deletes its ticket, in
//!   one transaction. The lock is never free in between, and the new holder learns of it from its blocking query.
//! * **Readers** share one session that has the leader key locked as long as any of them is in; each of them renews it.
//!   So the key stays locked when the reader that came first leaves or dies.
//! * **Keys that are deleted by hand** under a hold that lasts are noticed by a blocking query ([`guard`]).
//! * **The dead**: whoever is first in line makes sure that the holder still renews its session ([`vigil`]).
//! * **Fencing token**: the index of Consul's log at which the grant was written.
//! * **1.1.2 processes** get a chance now and then while others wait without a break ([`room`]).
//! * **Afterwards** the unlocked leader key is left behind for a moment, as 1.1.2 leaves it for ever, and is deleted when
//!   no 1.1.2 process can be looking at it ([`tidy`]).

mod acquire;
mod guard;
mod http;
mod keys;
mod record;
mod release;
mod renewal;
mod room;
mod session;
mod tidy;
mod trace;
mod txn;
mod view;
mod vigil;

use super::{Ask, Backend, Context, Event, Owner, Refusal, Released, Snapshot, Task};
use super::{Attempt, Stage, Taken, prove_others};
use crate::clock;
use crate::core::lease::Terms;
use crate::error::{Error, Kind, Result};
use crate::url::Server;
use http::{Fault, Lane, Link};
use reqwest::{Method, StatusCode};
use session::{Charter, Sessions};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tidy::Idle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use trace::Trace;
use txn::{Op, Outcome};
use view::View;

/// An answer this fresh is as good as a new one.
const FRESH: Duration = Duration::from_secs(1);

/// One Consul server, for all mutexes of this process.
pub struct Consul {
    me: Weak<Consul>,
    link: Rc<Link>,
    context: Context,
    terms: Terms,
    patience: Duration,
    charter: Charter,
    sessions: RefCell<Option<Rc<Sessions>>>,
    establishing: tokio::sync::Mutex<()>,
    traces: RefCell<HashMap<Owner, Rc<Trace>>>,
    /// Sessions for readers that lock nothing at present: at most one is kept.
    spare: RefCell<Option<String>>,
    idle: RefCell<Idle>,
    marks: RefCell<vigil::Marks>,
    /// The sessions ended: whoever waits must look again.
    upset: Notify,
    /// How often this process has written a leader key for readers.
    entries: Cell<u64>,
    /// Somebody sees to it that lasting holds are watched.
    looking: Cell<bool>,
    /// The blocking query is on the session, from which `switch` calls it away.
    on_session: Cell<bool>,
    switch: Rc<Notify>,
    /// Whoever has the blocking query, see [`guard`].
    watcher: RefCell<Option<AbortHandle>>,
    closed: Cell<bool>,
}

/// Connects to the server, makes the sessions of this process there, and so learns whether token and permissions will do.
///
/// `Kind::Connect` if nobody answers within `connect_timeout` or the cluster has no leader, `Kind::Tls`, `Kind::Auth` if the
/// token lacks `key_prefix "IPC-Mutex-RPM/"` or `session` write permission, `Kind::Server` if it is not Consul.
pub async fn connect(server: &Server, context: Context) -> Result<Rc<dyn Backend>> {
    let consul = Consul::new(server, context)?;
    let limit = consul.patience;
    let late = Error::new(
        Kind::Connect,
        format!("no answer from Consul at {} within {limit:?}", consul.link.peer()),
    );
    tokio::time::timeout(limit, consul.greet()).await.unwrap_or(Err(late))?;
    Ok(consul)
}

impl Consul {
    fn new(server: &Server, context: Context) -> Result<Rc<Self>> {
        let link = Rc::new(Link::new(server)?);
        let options = &server.options;
        let charter = Charter {
            name: format!("ipc-mutex {} {}", context.identity.host, context.identity.pid),
            ttl: options.ttl,
            lock_delay: options.lock_delay,
        };
        Ok(Rc::new_cyclic(|me| Self {
            me: me.clone(),
            link,
            context,
            terms: Terms {
                ttl: options.ttl,
                renew_every: options.ttl / 2,
            },
            patience: http::patience(options),
            charter,
            sessions: RefCell::new(None),
            establishing: tokio::sync::Mutex::new(()),
            traces: RefCell::default(),
            spare: RefCell::new(None),
            idle: RefCell::default(),
            marks: RefCell::default(),
            upset: Notify::new(),
            entries: Cell::new(0),
            looking: Cell::new(false),
            on_session: Cell::new(false),
            switch: Rc::default(),
            watcher: RefCell::new(None),
            closed: Cell::new(false),
        }))
    }

    /// Sees that a Consul server with a leader answers, and that this process has sessions there.
    async fn greet(&self) -> Result<()> {
        let reply = self
            .link
            .request(Lane::Foreground, Method::GET, "/v1/status/leader", Vec::new())
            .await?;
        let leader: String = match reply.status {
            StatusCode::OK => serde_json::from_slice(&reply.body).map_err(|error| self.link.nonsense(error))?,
            status => return Err(self.link.nonsense(format!("status {}", status.as_u16())).into()),
        };
        if leader.is_empty() {
            let message = format!("the Consul cluster of {} has no leader", self.link.peer());
            return Err(Error::new(Kind::Connect, message));
        }
        self.sessions().await.map(drop)
    }

    /// The sessions of this process, made anew if they ended, and with more than half of their life before them.
    async fn sessions(&self) -> Result<Rc<Sessions>> {
        if let Some(sessions) = self.lively_sessions() {
            return Ok(sessions);
        }
        let _turn = self.establishing.lock().await;
        if let Some(sessions) = self.lively_sessions() {
            return Ok(sessions);
        }
        let present = self.sessions.borrow().clone();
        if let Some(sessions) = present
            && !sessions.ended.get()
            && self.renew_both(&sessions, Lane::Foreground).await?
        {
            return Ok(sessions);
        }
        let sessions = Rc::new(self.charter.establish(&self.link, &self.context.identity).await?);
        *self.sessions.borrow_mut() = Some(sessions.clone());
        self.watch_over(&sessions);
        Ok(sessions)
    }

    fn lively_sessions(&self) -> Option<Rc<Sessions>> {
        let sessions = self.sessions.borrow().clone()?;
        let age = clock::now().since(sessions.renewed_at.get());
        (!sessions.ended.get() && age < self.terms.renew_every + self.terms.renew_every / 4).then_some(sessions)
    }

    /// The sessions ended: every hold is lost, and whoever waits needs a new ticket.
    fn end(&self, sessions: &Rc<Sessions>, why: &str) {
        if sessions.ended.replace(true) {
            return;
        }
        for (owner, trace) in self.traces.borrow().iter() {
            if trace.hold.take().is_some() {
                self.tell_lost(owner, why);
            }
        }
        self.upset.notify_waiters();
        // Where only one of the two ended, the other must not go on locking keys.
        let (link, sessions) = (self.link.clone(), sessions.clone());
        tokio::task::spawn_local(async move {
            for session in [&sessions.own, &sessions.leads] {
                // It ends by itself if this fails.
                let _ = session::destroy(&link, session).await;
            }
        });
    }

    fn tell_lost(&self, owner: &Owner, why: &str) {
        let message = format!("the lock was lost: {why} (Consul at {})", self.link.peer());
        // Without a receiver the process is closing down.
        let _ = self.context.events.send(Event::Lost {
            owner: owner.clone(),
            error: Error::new(Kind::LockLost, message),
        });
    }

    async fn view(&self, id: &str) -> Result<(View, u64)> {
        let (pairs, index) = self.link.read(Lane::Foreground, &keys::folder(id), true).await?;
        Ok((View::new(id, &pairs), index))
    }

    fn trace(&self, owner: &Owner) -> Rc<Trace> {
        self.traces.borrow_mut().entry(owner.clone()).or_default().clone()
    }

    /// Waits for requests of this ask that are under way, and makes sure that none takes effect later.
    async fn settle(&self, trace: &Trace, sessions: &Sessions) -> Result<()> {
        if !trace.settled().await {
            sessions.write_fence(&self.link, &self.context.identity).await?;
            trace.certain();
        }
        Ok(())
    }

    /// A session to lock a leader key for readers, noted in `trace` until it is known whether it does.
    async fn group_session(&self, trace: &Rc<Trace>) -> Result<String> {
        let present = trace.group.borrow().clone();
        if let Some(group) = present.or_else(|| self.spare.take()) {
            *trace.group.borrow_mut() = Some(group.clone());
            if session::renew(&self.link, Lane::Foreground, &group).await? {
                return Ok(group);
            }
        }
        Ok(trace.create_group(&self.link, &self.charter).await?)
    }

    /// Sends a transaction of this ask after which `vacated`, a readers' session, locks nothing any more.
    async fn write(&self, trace: &Rc<Trace>, ops: Vec<Op>, vacated: Option<String>) -> Result<Outcome, Fault> {
        let me = self.me.clone();
        trace
            .write(&self.link, ops, move || {
                if let (Some(consul), Some(group)) = (me.upgrade(), vacated) {
                    consul.recycle(group);
                }
            })
            .await
    }

    /// A readers' session that locks nothing any more: kept for the next group, or ended.
    fn recycle(&self, group: String) {
        let mut spare = self.spare.borrow_mut();
        if spare.is_none() && !self.closed.get() {
            *spare = Some(group);
        } else if spare.as_deref() != Some(group.as_str()) {
            let link = self.link.clone();
            tokio::task::spawn_local(async move {
                // It ends by itself if this fails.
                let _ = session::destroy(&link, &group).await;
            });
        }
    }

    fn strong(&self) -> Option<Rc<Self>> {
        self.me.upgrade()
    }
}

impl Backend for Consul {
    fn terms(&self) -> Terms {
        self.terms
    }

    fn check(&self) -> Task<'_, Result<()>> {
        Box::pin(async move {
            let recent = self.link.answered().is_some_and(|at| clock::now().since(at) < FRESH);
            if recent && self.lively_sessions().is_some() {
                return Ok(());
            }
            let limit = self.patience;
            tokio::time::timeout(limit, self.greet()).await.unwrap_or_else(|_| {
                let message = format!("no answer from Consul at {} within {limit:?}", self.link.peer());
                Err(Error::new(Kind::Connect, message))
            })
        })
    }

    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>> {
        Box::pin(async move {
            match ask.attempt {
                Attempt::Wait => self.strive(&ask).await,
                Attempt::Try => {
                    let limit = self.patience;
                    tokio::time::timeout(limit, self.strive(&ask))
                        .await
                        .unwrap_or_else(|_| {
                            let message = format!("no answer from Consul at {} within {limit:?}", self.link.peer());
                            Err(Refusal::Away(Error::new(Kind::Connect, message)))
                        })
                }
            }
        })
    }

    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>> {
        Box::pin(async move { self.leave(&ask).await })
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(async move {
            let sent = clock::now();
            let held = asks.iter().filter(|ask| ask.stage.get() == Stage::Held).cloned();
            let held: Vec<_> = held.collect();
            let gone = self.renew_all(&asks).await?;
            prove_others(&held, &gone, sent);
            Ok(gone)
        })
    }

    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async move { Ok(self.view(&id).await?.0.snapshot()) })
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async move { self.say_goodbye().await })
    }
}
