//! Locks on etcd 3.4 and later.
//!
//! # Protocol
//!
//! The main key of a lock exists while anybody holds it. 1.1.2 creates it under a lease, if it does not exist, and asks
//! again every 500 ms; so does this backend when nobody else is there, in one transaction. Whoever cannot have it puts a
//! key of its own into the queue, in that same transaction where others have wanted the lock lately, and waits for exactly one key to change: the place before its
//! own, or the main key if its place is the first.
//!
//! * **Hand-over**: whoever releases gives the main key to the first waiter, by putting it with that waiter's value and lease
//!   and deleting the waiter's place, in one transaction. The main key never vanishes, one process wakes up for the
//!   grant and one because its place is now the first.
//! * **Crash**: everything of a process lives under its lease. Its main key's deletion wakes the first waiter, its place's
//!   deletion the next one; they look anew.
//! * **1.1.2 in the middle**: it sees a key that exists, and its own key is waited for like any other. Since a hand-over
//!   never leaves a gap, a busy queue lets go of the main key now and then, see [`breather`] and [`room`].
//! * **Shared holds** are keys of their own; while there are any, the main key lives under a lease that every reader keeps
//!   alive, so that it outlives any one of them but not all. See [`shared`].
//! * **Many locks at once**: the short transactions of different locks that a process sends in the same moment travel as one, see
//!   [`bundle`].
//! * **Fencing token**: the revision at which the hold came into being (the main key's last modification, a reader's
//!   creation). Revisions only grow, across restarts and changes of the leader.
//! * **Messages that come late**: the first message of an ask does nothing if the ask was withdrawn, see [`keys`]; the
//!   others are bound to a place that a withdrawal removes.

mod breather;
mod bundle;
mod channel;
mod common;
mod enter;
mod fault;
mod guard;
mod impostor;
mod keys;
mod link;
mod note;
mod query;
mod queue;
mod release;
mod renewal;
mod room;
mod session;
mod shared;
#[cfg(test)]
mod tests;
mod wait;
mod watch;

use crate::backend::{Ask, Backend, Context, Owner, Refusal, Released, Snapshot, Stage, Taken, Task, prove_others};
use crate::clock;
use crate::core::lease::Terms;
use crate::core::mode::Mode;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::options::RemoteOptions;
use crate::url::Server;
use breather::Lore;
use bundle::{Answer, Bundles};
use common::Brought;
use etcd_client::{Client, GetOptions, KeyValue, Txn, TxnOpResponse, TxnResponse};
use fault::Fault;
use link::Link;
use session::{Hold, Session};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use watch::Hub;

/// How long to find out what a server is that is not etcd, or a tenth of `connect_timeout` if that is more.
const DOUBT: Duration = Duration::from_millis(500);
/// For how long an answer counts as a sign of life.
const RECENTLY: Duration = Duration::from_millis(100);

/// One etcd (cluster), as a process uses it: two connections, one lease, one stream of watches.
struct Etcd {
    /// For the tasks that run beside.
    me: Weak<Etcd>,
    context: Context,
    ttl: Duration,
    link: Link,
    /// Keep-alives have a connection of their own, which slow foreground traffic does not hold up.
    renewer: Link,
    hub: Hub,
    bundles: Rc<Bundles>,
    session: RefCell<Option<Rc<Session>>>,
    /// The lease of a session that nobody waited for to the end, and when it was first asked for.
    unfinished: Cell<Option<(i64, Moment)>>,
    /// One at a time opens or checks the session.
    opening: tokio::sync::Mutex<()>,
    /// Counts sessions; waiters watch it, because their places go with the session.
    turns: tokio::sync::watch::Sender<u64>,
    holds: RefCell<HashMap<Owner, Hold>>,
    /// Asks whose first message may be on its way still, with the lease that it carries.
    unsure: RefCell<HashMap<Owner, i64>>,
    /// Asks whose release has begun.
    leaving: RefCell<HashSet<Owner>>,
    /// Leases of asks that may not have come to anything.
    brought: Brought,
    lore: Lore,
    answered: Cell<Option<Moment>>,
}

/// Reaches the server, checks user and password, and that it can serve reads.
///
/// The session begins with the first acquire. Errors: `Connect`, `Auth`, `Tls`, `Server`.
pub async fn connect(server: &Server, context: Context) -> Result<Rc<dyn Backend>> {
    Ok(open(server, context).await?)
}

async fn open(server: &Server, context: Context) -> Result<Rc<Etcd>> {
    let options = &server.options;
    let ttl = Duration::from_secs(session::whole_seconds(options.ttl).unsigned_abs());
    let patience = patience(options);
    let deadline = Instant::now() + patience;
    let etcd = Rc::new_cyclic(|me| Etcd {
        me: me.clone(),
        link: Link::new(server, patience, Some(context.events.clone())),
        renewer: Link::new(server, patience.min(ttl / 3), None),
        context,
        ttl,
        hub: Hub::default(),
        bundles: Bundles::new(server),
        session: RefCell::new(None),
        unfinished: Cell::new(None),
        opening: tokio::sync::Mutex::new(()),
        turns: tokio::sync::watch::Sender::new(0),
        holds: RefCell::new(HashMap::new()),
        unsure: RefCell::new(HashMap::new()),
        leaving: RefCell::new(HashSet::new()),
        brought: Brought::default(),
        lore: Lore::default(),
        answered: Cell::new(None),
    });
    if let Err(error) = etcd.probe().await {
        return Err(etcd.doubt(error, server, deadline).await);
    }
    Ok(etcd)
}

/// How long to wait for anything that should be answered at once: a little less than `connect_timeout`, so that whoever waits
/// that long hears from here what was missing.
fn patience(options: &RemoteOptions) -> Duration {
    options.connect_timeout - options.connect_timeout / 20
}

impl Backend for Etcd {
    fn terms(&self) -> Terms {
        Terms {
            ttl: self.ttl,
            renew_every: self.ttl / 3,
        }
    }

    fn check(&self) -> Task<'_, Result<()>> {
        Box::pin(async {
            match self.answered.get() {
                Some(at) if clock::now().since(at) < RECENTLY => Ok(()),
                _ => self.probe().await,
            }
        })
    }

    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>> {
        Box::pin(async move {
            let answer = match ask.mode {
                Mode::Exclusive => self.acquire_exclusive(&ask).await,
                Mode::Shared => self.acquire_shared(&ask).await,
            };
            // Nobody withdraws an ask that was refused: what it has on its way must lose its effect here.
            if answer == Err(Refusal::Busy)
                && (self.unsure.borrow().contains_key(&ask.owner) || self.brought.has_any_of(&ask.owner))
            {
                self.give_back(&ask).await?;
            }
            answer
        })
    }

    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>> {
        Box::pin(async move { self.give_back(&ask).await })
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(async move {
            let sent = clock::now();
            let held = asks.iter().filter(|ask| ask.stage.get() == Stage::Held).cloned();
            let held: Vec<_> = held.collect();
            let gone = self.keep(asks).await?;
            prove_others(&held, &gone, sent);
            Ok(gone)
        })
    }

    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async move { self.look(&id).await })
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async {
            // Errors are of no interest: what is left ends with the lease.
            let _ = tokio::time::timeout(self.link.limit(), self.end()).await;
            self.hub.close();
        })
    }
}

impl Etcd {
    /// A read that only a server with a majority behind it answers.
    async fn probe(&self) -> Result<()> {
        let result = self
            .link
            .call(async |client: Arc<Client>| {
                client
                    .kv_client()
                    .get(keys::PROBE, Some(GetOptions::new().with_count_only()))
                    .await
            })
            .await;
        self.hub.follow(self.link.epoch());
        match result {
            // Rights may be given for some locks only; that this is an etcd and the user is known, we know now.
            Ok(_) | Err(Fault::Forbidden(_)) => {
                self.answered.set(Some(clock::now()));
                Ok(())
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// A connection that was made and cut may have been made with something else than etcd.
    async fn doubt(&self, error: Error, server: &Server, deadline: Instant) -> Error {
        if error.kind != Kind::Connect {
            return error;
        }
        let doubt = DOUBT.max(server.options.connect_timeout / 10);
        for address in &server.addresses {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Whoever waits for us would hear nothing at all.
                break;
            }
            if let Some(better) = impostor::unmask(address, &server.options, doubt.min(left)).await {
                return better;
            }
        }
        error
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, Fault> {
        Ok(self.counted(txn).await?.0)
    }

    /// A transaction that only reads.
    async fn read(&self, txn: Txn) -> Result<TxnResponse, Fault> {
        let result = self
            .link
            .call(async |client: Arc<Client>| bundle::read_alone(client, txn.clone()).await)
            .await;
        self.hub.follow(self.link.epoch());
        result
    }

    /// A transaction, and whether it may have reached the server more than once.
    async fn counted(&self, txn: Txn) -> Result<(TxnResponse, bool), Fault> {
        let (answer, repeated) = self.send(None, txn).await?;
        Ok((answer.response, repeated))
    }

    /// As `counted`, for a short transaction that concerns the lock `id` only: together with those of other locks.
    async fn bundled(&self, id: &Arc<str>, txn: Txn) -> Result<(Answer, bool), Fault> {
        self.send(Some(id), txn).await
    }

    fn send<'a>(&'a self, together: Option<&'a Arc<str>>, txn: Txn) -> Task<'a, Result<(Answer, bool), Fault>> {
        Box::pin(async move {
            let messages = Cell::new(0);
            let result = self
                .link
                .call(async |client: Arc<Client>| {
                    if let Some(id) = together {
                        messages.set(messages.get() + 1);
                        if let Some(result) = self.bundles.send(&client, id, txn.clone()).await {
                            return result;
                        }
                    }
                    messages.set(messages.get() + 1);
                    Ok(bundle::send_alone(client, txn.clone()).await?.into())
                })
                .await;
            self.hub.follow(self.link.epoch());
            Ok((result?, messages.get() > 1))
        })
    }

    /// Sends, by `counted` or `bundled`, a transaction that is still harmful if it arrives after the ask was withdrawn. Remembered
    /// as such until it was answered at the first attempt.
    async fn first_message<T>(
        &self,
        owner: &Owner,
        lease: i64,
        sending: impl Future<Output = Result<(T, bool), Fault>>,
    ) -> Result<T, Fault> {
        // What was sent before under this lease stays on its way; under another, it can no longer succeed.
        let was_unsure = self.unsure.borrow_mut().insert(owner.clone(), lease) == Some(lease);
        let (response, repeated) = sending.await?;
        if !repeated && !was_unsure {
            self.unsure.borrow_mut().remove(owner);
        }
        Ok(response)
    }
}

/// The pairs that the read at `index` of a transaction found.
fn pairs(answers: &[TxnOpResponse], index: usize) -> &[KeyValue] {
    match answers.get(index) {
        Some(TxnOpResponse::Get(found)) => found.kvs(),
        _ => &[],
    }
}

fn pair(answers: &[TxnOpResponse], index: usize) -> Option<&KeyValue> {
    pairs(answers, index).first()
}

fn revision(response: &TxnResponse) -> i64 {
    response.header().map_or(0, etcd_client::ResponseHeader::revision)
}
