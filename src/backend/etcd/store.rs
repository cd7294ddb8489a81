//! One etcd (cluster), as a process uses it: what the process has there, and its transactions.

use super::bundle::{self, Answer, Bundles};
use super::fault::{Fault, unreachable};
use super::keys;
use super::lease::{Commons, Hold, Session, whole_seconds};
use super::legacy::Demand;
use super::link::{Connection, Link};
use super::watch::Hub;
use crate::backend::{Context, Errands, Owner, Task};
use crate::clock;
use crate::core::time::Moment;
use crate::options::RemoteOptions;
use crate::url::Server;
use etcd_client::{GetOptions, GetResponse, Txn, TxnResponse};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Holds per read: etcd takes 128 operations in one transaction by default, and a shared hold needs two.
const HOLDS_PER_READ: usize = 60;

pub struct Etcd {
    /// For the tasks that run beside.
    pub me: Weak<Etcd>,
    pub context: Context,
    pub ttl: Duration,
    pub link: Link,
    /// Renewals have a connection of their own, which slow foreground traffic does not hold up.
    pub renewer: Link,
    pub hub: Hub,
    bundles: Rc<Bundles>,
    pub session: RefCell<Option<Rc<Session>>>,
    /// One at a time opens or checks the session.
    pub opening: tokio::sync::Mutex<()>,
    /// Counts sessions; waiters watch it, because their places go with the session.
    pub sessions: tokio::sync::watch::Sender<u64>,
    pub holds: RefCell<HashMap<Owner, Hold>>,
    /// Asks whose first message may be on its way still, with the lease that it carries.
    pub unsure: RefCell<HashMap<Owner, i64>>,
    /// Asks whose first message has not been answered or given up yet, and who waits for that.
    under_way: RefCell<HashMap<Owner, Rc<Notify>>>,
    /// How many holds the server is believed to show in one read.
    pub holds_per_read: Cell<usize>,
    /// The common leases that each of our readers has brought or joined.
    pub commons: RefCell<HashMap<Owner, Commons>>,
    /// What goes on beside, see [`super::granting`].
    pub errands: Errands,
    /// Asks whose release has begun.
    pub leaving: RefCell<HashSet<Owner>>,
    pub demand: Demand,
    /// When the server answered last.
    pub answered: Cell<Option<Moment>>,
}

impl Etcd {
    pub fn new(server: &Server, context: Context) -> Rc<Self> {
        let ttl = Duration::from_secs(whole_seconds(server.options.ttl).unsigned_abs());
        let patience = patience(&server.options);
        Rc::new_cyclic(|me| Etcd {
            me: me.clone(),
            link: Link::new(server, patience, Some(context.events.clone())),
            renewer: Link::new(server, patience.min(ttl / 3), None),
            context,
            ttl,
            hub: Hub::default(),
            bundles: Bundles::new(server),
            session: RefCell::new(None),
            opening: tokio::sync::Mutex::new(()),
            sessions: tokio::sync::watch::Sender::new(0),
            holds: RefCell::default(),
            unsure: RefCell::default(),
            under_way: RefCell::default(),
            holds_per_read: Cell::new(HOLDS_PER_READ),
            commons: RefCell::default(),
            errands: Errands::default(),
            leaving: RefCell::default(),
            demand: Demand::default(),
            answered: Cell::new(None),
        })
    }

    /// A read that only a server with a majority behind it answers.
    pub async fn probe(&self) -> Result<(), Fault> {
        let result = get(&self.link, keys::PROBE).await;
        self.hub.follow(self.link.epoch());
        match result {
            // Rights may be given for some locks only; that this is an etcd and the user is known, we know now.
            Ok(_) | Err(Fault::Forbidden(_)) => {
                self.answered.set(Some(clock::now()));
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse, Fault> {
        Ok(self.counted(txn).await?.0)
    }

    /// A transaction that only reads.
    pub async fn read(&self, txn: Txn) -> Result<TxnResponse, Fault> {
        let result = read(&self.link, txn).await;
        self.hub.follow(self.link.epoch());
        result
    }

    /// A transaction, and whether it may have reached the server more than once.
    pub async fn counted(&self, txn: Txn) -> Result<(TxnResponse, bool), Fault> {
        let (answer, repeated) = self.send(None, txn).await?;
        Ok((answer.response, repeated))
    }

    /// As `counted`, for a short transaction that concerns the lock `id` and no other: together with those of other locks.
    pub async fn bundled(&self, id: &Arc<str>, txn: Txn) -> Result<(Answer, bool), Fault> {
        self.send(Some(id), txn).await
    }

    fn send<'a>(&'a self, together: Option<&'a Arc<str>>, txn: Txn) -> Task<'a, Result<(Answer, bool), Fault>> {
        Box::pin(async move {
            let messages = Cell::new(0);
            let result = self
                .link
                .call(async |to: Arc<Connection>| {
                    if let Some(id) = together {
                        messages.set(messages.get() + 1);
                        if let Some(result) = self.bundles.send(&to, id, txn.clone()).await {
                            return result;
                        }
                    }
                    messages.set(messages.get() + 1);
                    Ok(bundle::send_alone(to, txn.clone()).await?.into())
                })
                .await;
            self.hub.follow(self.link.epoch());
            Ok((result?, messages.get() > 1))
        })
    }

    /// Sends a transaction, as `bundled` or else as `counted`, that is still harmful if it arrives after the ask was withdrawn.
    /// Remembered as such until it was answered at the first attempt.
    ///
    /// Goes on when the ask is withdrawn meanwhile, and the release waits for its end: else each withdrawal would have to leave a tombstone.
    pub async fn first_message(
        &self,
        owner: &Owner,
        lease: i64,
        together: Option<&Arc<str>>,
        txn: Txn,
    ) -> Result<Answer, Fault> {
        // What was sent before under this lease stays on its way; under another, it can no longer succeed.
        let was_unsure = self.unsure.borrow_mut().insert(owner.clone(), lease) == Some(lease);
        self.under_way.borrow_mut().insert(owner.clone(), Rc::default());
        let (tell, told) = oneshot::channel();
        let (owner, together) = (owner.clone(), together.cloned());
        self.errand(async move |etcd| {
            let result = etcd.send(together.as_ref(), txn).await;
            if matches!(result, Ok((_, false))) && !was_unsure {
                etcd.unsure.borrow_mut().remove(&owner);
            }
            if let Some(ended) = etcd.under_way.borrow_mut().remove(&owner) {
                ended.notify_waiters();
            }
            // The ask may have been withdrawn.
            let _ = tell.send(result.map(|(answer, _)| answer));
        });
        told.await.map_err(|_| self.closed())?
    }

    /// Resolves when no first message of this ask is under way.
    pub async fn first_message_ended(&self, owner: &Owner) {
        let under_way = self.under_way.borrow().get(owner).cloned();
        if let Some(ended) = under_way {
            ended.notified().await;
        }
    }

    pub fn current(&self) -> Option<Rc<Session>> {
        self.session.borrow().clone()
    }

    pub fn is_current(&self, session: &Session) -> bool {
        self.current().is_some_and(|current| current.lease == session.lease)
    }

    pub fn closed(&self) -> Fault {
        unreachable(&self.link.peer(), "the connection was closed")
    }
}

/// A linearizable read of one key, without its value.
pub async fn get(link: &Link, key: &str) -> Result<GetResponse, Fault> {
    let options = GetOptions::new().with_count_only();
    link.call(async |to: Arc<Connection>| to.client.kv_client().get(key, Some(options.clone())).await)
        .await
}

/// A transaction that only reads.
pub async fn read(link: &Link, txn: Txn) -> Result<TxnResponse, Fault> {
    link.call(async |to: Arc<Connection>| bundle::read_alone(to, txn.clone()).await)
        .await
}

/// How long to wait for anything that should be answered at once: a little less than `connect_timeout`, so that whoever waits
/// that long hears from here what was missing.
pub fn patience(options: &RemoteOptions) -> Duration {
    options.connect_timeout - options.connect_timeout / 20
}
