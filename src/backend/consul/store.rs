//! The state of one process at one server, and the small steps that several files take with it.

use super::fault::Fault;
use super::hold::{HoldKind, Trace};
use super::http::{Lane, Link};
use super::idle::Idle;
use super::keys;
use super::liveness::Marks;
use super::session::{self, Sessions, Terms as SessionTerms};
use super::together::Together;
use super::txn::{Op, Outcome};
use super::view::View;
use super::watch::Watches;
use crate::backend::{Ask, Context, Errands, Event, Owner};
use crate::clock;
use crate::core::lease::Terms;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::url::Server;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// One Consul server, for all mutexes of this process.
pub struct Consul {
    me: Weak<Consul>,
    pub link: Rc<Link>,
    pub watches: Watches,
    pub context: Context,
    pub terms: Terms,
    /// How long a blocking query takes at most.
    pub read_wait: Duration,
    session_terms: SessionTerms,
    pub sessions: RefCell<Option<Rc<Sessions>>>,
    establishing: Arc<tokio::sync::Mutex<()>>,
    /// Sessions that are being made or ended, and keys that are being deleted.
    pub errands: Errands,
    together: Rc<Together>,
    pub traces: RefCell<HashMap<Owner, Rc<Trace>>>,
    /// When the last renewal of each readers' session was sent that is proven.
    pub groups: RefCell<HashMap<String, Moment>>,
    /// A session for readers that locks nothing at present.
    pub spare: RefCell<Option<String>>,
    pub idle: RefCell<Idle>,
    pub marks: RefCell<Marks>,
    /// The sessions ended: whoever waits must look again.
    pub upset: Notify,
    /// How often this process has written a leader key for readers.
    pub entries: Cell<u64>,
    /// The sessions whose end a blocking query waits for, see [`super::loss`].
    pub watched: RefCell<HashSet<String>>,
    /// The oldest hold has such a query as well, or will.
    pub watches_holds: Cell<bool>,
    pub closed: Cell<bool>,
}

impl Consul {
    pub fn new(server: &Server, context: Context) -> Result<Rc<Self>> {
        let link = Rc::new(Link::new(server)?);
        let options = &server.options;
        let session_terms = SessionTerms {
            name: format!("ipc-mutex {} {}", context.identity.host, context.identity.pid),
            ttl: options.ttl,
            lock_delay: options.lock_delay,
        };
        Ok(Rc::new_cyclic(|me| Self {
            me: me.clone(),
            watches: Watches::new(link.clone(), options.read_wait),
            link,
            context,
            terms: Terms {
                ttl: options.ttl,
                renew_every: options.ttl / 2,
            },
            read_wait: options.read_wait,
            session_terms,
            sessions: RefCell::new(None),
            establishing: Arc::default(),
            errands: Errands::default(),
            together: Rc::default(),
            traces: RefCell::default(),
            groups: RefCell::default(),
            spare: RefCell::new(None),
            idle: RefCell::default(),
            marks: RefCell::default(),
            upset: Notify::new(),
            entries: Cell::new(0),
            watched: RefCell::default(),
            watches_holds: Cell::new(false),
            closed: Cell::new(false),
        }))
    }

    pub fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    pub fn strong(&self) -> Option<Rc<Self>> {
        self.me.upgrade()
    }

    /// The sessions of this process, made anew if they ended, and with more than half of their life before them.
    pub async fn sessions(&self) -> Result<Rc<Sessions>> {
        if let Some(sessions) = self.lively_sessions() {
            return Ok(sessions);
        }
        let turn = self.establishing.clone().lock_owned().await;
        if let Some(sessions) = self.lively_sessions() {
            return Ok(sessions);
        }
        if let Some(sessions) = self.present_sessions()
            && self.renew_sessions(&sessions, Lane::Call, Vec::new()).await?
        {
            return Ok(sessions);
        }
        let (terms, link, identity) = (
            self.session_terms.clone(),
            self.link.clone(),
            self.context.identity.clone(),
        );
        let (me, (tell, told)) = (self.weak(), oneshot::channel());
        // To the end, whoever waits for it: half a session that nobody knows would stay for all its time.
        self.errands.run(async move {
            let _turn = turn;
            let mut made = terms.establish(&link, &identity).await;
            if let Ok(sessions) = &made
                && !me.upgrade().is_some_and(|consul| consul.begin(sessions))
            {
                sessions.destroy(&link).await;
                made = Err(closed(&link));
            }
            // Whoever asked may not wait any more.
            let _ = tell.send(made);
        });
        told.await.unwrap_or_else(|_| Err(closed(&self.link)))
    }

    /// From now on these are the sessions, unless all is over.
    fn begin(&self, sessions: &Rc<Sessions>) -> bool {
        if self.closed.get() {
            return false;
        }
        *self.sessions.borrow_mut() = Some(sessions.clone());
        self.watch_session(&sessions.leads);
        true
    }

    /// The sessions of this process, unless they are known to have ended.
    pub fn present_sessions(&self) -> Option<Rc<Sessions>> {
        self.sessions.borrow().clone().filter(|sessions| !sessions.ended.get())
    }

    pub fn lively_sessions(&self) -> Option<Rc<Sessions>> {
        self.present_sessions()
            .filter(|sessions| self.is_fresh(sessions.renewed_at.get()))
    }

    /// Whether what was renewed then need not be renewed again before it is used.
    pub fn is_fresh(&self, renewed_at: Moment) -> bool {
        clock::now().since(renewed_at) < self.terms.renew_every + self.terms.renew_every / 4
    }

    /// The sessions ended: every hold is lost, and whoever waits needs a new ticket.
    pub fn end(&self, sessions: &Rc<Sessions>, why: &str) {
        if sessions.ended.replace(true) {
            return;
        }
        self.lose_where(|_| true, why);
        self.upset.notify_waiters();
        // Where only one of the two ended, the other must not go on locking keys.
        let (link, sessions) = (self.link.clone(), sessions.clone());
        self.errands.run(async move { sessions.destroy(&link).await });
    }

    /// Ends these holds and tells of it, all at once.
    pub fn lose_where(&self, is_lost: impl Fn(&HoldKind) -> bool, why: &str) {
        for (owner, trace) in self.traces.borrow().iter() {
            if trace.kind().is_some_and(|kind| is_lost(&kind)) && trace.end_hold() {
                self.tell_lost(owner, why);
            }
        }
    }

    pub fn tell_lost(&self, owner: &Owner, why: &str) {
        let message = format!("the lock was lost: {why} (Consul at {})", self.link.peer.name);
        self.tell(Event::Lost {
            owner: owner.clone(),
            error: Error::new(Kind::LockLost, message),
        });
    }

    pub fn tell(&self, event: Event) {
        // Without a receiver the process is closing down.
        let _ = self.context.events.send(event);
    }

    pub async fn view(&self, id: &str) -> Result<(View, u64)> {
        let (pairs, index) = self.link.read(&keys::folder(id), true).await?;
        Ok((View::new(id, &pairs), index))
    }

    pub fn trace(&self, owner: &Owner) -> Rc<Trace> {
        self.traces.borrow_mut().entry(owner.clone()).or_default().clone()
    }

    /// Nothing of this ask is at the server.
    pub fn forget(&self, ask: &Ask) {
        let trace = self.traces.borrow_mut().remove(&ask.owner);
        if let Some(group) = trace.and_then(|trace| trace.group.take()) {
            self.recycle(group);
        }
    }

    /// Waits for requests of this ask that are under way, and makes sure that none takes effect later.
    pub async fn settle(&self, trace: &Trace, sessions: &Sessions) -> Result<()> {
        if !trace.settled().await {
            sessions.write_fence(&self.link, &self.context.identity).await?;
            trace.certain();
        }
        Ok(())
    }

    /// Sends a transaction of this ask after which `vacated`, a readers' session, locks nothing any more.
    pub async fn write(&self, trace: &Rc<Trace>, ops: Vec<Op>, vacated: Option<String>) -> Result<Outcome, Fault> {
        let (me, link) = (self.weak(), self.link.clone());
        let exchange = async move { link.txn(Lane::Call, &ops).await };
        let outcome = trace
            .write(&self.link, exchange, move || {
                if let (Some(consul), Some(group)) = (me.upgrade(), vacated) {
                    consul.recycle(group);
                }
            })
            .await?;
        let noted = trace.group.borrow().clone();
        if let (Outcome::Refused(why), Some(group)) = (&outcome, noted)
            && why
                .iter()
                .any(|why| why.what.contains("invalid session") && why.what.contains(&group))
        {
            trace.group.take();
            self.group_ended(&group);
        }
        Ok(outcome)
    }

    /// Sends a transaction that only gives something up, together with those of others.
    pub async fn give_up(&self, trace: &Rc<Trace>, ops: Vec<Op>) -> Result<Outcome, Fault> {
        let (together, link) = (self.together.clone(), self.link.clone());
        let exchange = async move { together.send(&link, ops).await };
        trace.write(&self.link, exchange, || {}).await
    }

    /// A session to lock a leader key for readers, noted in `trace` until it is known whether it does.
    pub async fn group_session(&self, trace: &Rc<Trace>) -> Result<String> {
        let present = trace.group.borrow().clone();
        if let Some(group) = present.or_else(|| self.spare.take()) {
            *trace.group.borrow_mut() = Some(group.clone());
            if self.is_group_fresh(&group) || session::renew(&self.link, Lane::Call, &group).await? {
                return Ok(group);
            }
        }
        let sent = clock::now();
        let group = trace.create_group(&self.link, &self.session_terms).await?;
        self.groups.borrow_mut().insert(group.clone(), sent);
        Ok(group)
    }

    pub fn is_group_fresh(&self, group: &str) -> bool {
        let renewed_at = self.groups.borrow().get(group).copied();
        renewed_at.is_some_and(|at| self.is_fresh(at))
    }

    /// A readers' session that locks nothing any more: kept for the next group, or ended.
    pub fn recycle(&self, group: String) {
        let mut spare = self.spare.borrow_mut();
        if spare.is_none() && !self.closed.get() {
            *spare = Some(group);
        } else if spare.as_deref() != Some(group.as_str()) {
            self.groups.borrow_mut().remove(&group);
            let link = self.link.clone();
            self.errands.run(async move {
                // It is not renewed any more, and ends by itself if this fails.
                let _ = session::destroy(&link, &group).await;
            });
        }
    }
}

fn closed(link: &Link) -> Error {
    link.peer.away("the connection was closed".into()).into()
}
