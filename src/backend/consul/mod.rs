//! Locks on Consul 1.8 or newer, over its HTTP API.
//!
//! # What always holds, and where it is kept
//!
//! 1. **Who holds a lock is told by its leader key**, `IPC-Mutex-RPM/<id>/leader`, and by nothing else: whoever's session has it locked is in, as
//!    for 1.1.2. It is locked by a session of the holder's process or, while readers are in, by one session that all of them keep
//!    alive; each of them has a key of its own beside it ([`keys`], [`record`], [`view`]).
//! 2. **Nothing is written but in a transaction that checks what its author read** ([`txn`]), and that the process's own key is as it
//!    was: the fence ([`session`]). What arrives late, after its author gave up, is refused.
//! 3. **What a process has at the server lives under its sessions.** There are two, because tickets and readers' keys must vanish
//!    with it and leader keys must stay behind unlocked ([`session`]).
//! 4. **A hold is believed in for one `ttl` after a renewal that is proven**: the leader was the same before it was sent and after a
//!    consistent read that followed it. The hold of a reader counts from the older of two: of its process, and of the readers' session. What is asked or waits
//!    for its turn in this process counts for nothing ([`renewal`], `begin_hold` in [`acquire`]).
//! 5. **Nobody is declared dead before it has stopped to believe**: a renewal counts only after the process has deleted the mark that others
//!    make beside its key, so a mark that stays for one `ttl` proves that it did not renew ([`liveness`]).
//! 6. **First come, first served**: the order in which Consul created the tickets is the queue. Each waiter looks at the ticket before its
//!    own, the first one at the leader key or the readers' keys. Whoever leaves moves the leader key to the session of the first in line and
//!    deletes its ticket, in one transaction: the lock is never free in between ([`acquire`], [`release`]). A thief moves it to its own
//!    session, whoever has it locked ([`theft`]).
//! 7. **Clearing away ends when the server has confirmed it, or with the sessions.** No failure ends it: the runtime asks again. What
//!    is not renewed any more, Consul ends ([`release`], [`store`]).
//! 8. **A blocking query runs to its end**: Consul counts it until then, whoever listens ([`watch`], [`loss`]).
//! 9. **A fencing token is an index of Consul's log**: the one at which the grant was written.
//!
//! [`http`] has the connections, [`fault`] what may go wrong on them, [`hold`] what this process knows of its own asks, [`store`] its
//! state; [`loss`] tells at once what is gone, [`idle`] deletes leader keys that nobody needs, [`legacy`] makes room for 1.1.2.
//! The files use each other in one direction: keys, record, txn, fault, turns, http, watch, session, view, hold, together, store, idle, liveness, legacy,
//! renewal, loss, release, acquire, theft. What `store` has as state, `idle` and `liveness` give their meaning.

mod acquire;
mod fault;
mod hold;
mod http;
mod idle;
mod keys;
mod legacy;
mod liveness;
mod loss;
mod record;
mod release;
mod renewal;
mod session;
mod store;
mod theft;
mod together;
mod turns;
mod txn;
mod view;
mod watch;

use super::{Ask, Attempt, Backend, Context, Owner, Refusal, Released, Snapshot, Snapshots, Taken, Task};
use crate::clock;
use crate::core::lease::Terms;
use crate::error::{Error, Kind, Result};
use crate::url::Server;
use http::Lane;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use store::Consul;
use txn::Pair;
use view::View;

/// An answer this fresh is as good as a new one.
const FRESH: Duration = Duration::from_secs(1);

/// Connects to the server, makes the sessions of this process there, and so learns whether token and permissions will do.
///
/// `Kind::Connect` if nobody answers within `connect_timeout` or the cluster has no leader, `Kind::Tls`, `Kind::Auth` if the
/// token lacks `key_prefix "IPC-Mutex-RPM/"` or `session` write permission, `Kind::Server` if it is not Consul.
pub async fn connect(server: &Server, context: Context) -> Result<Rc<dyn Backend>> {
    let consul = Consul::new(server, context)?;
    consul.greet().await?;
    Ok(consul)
}

impl Consul {
    /// Sees that a Consul server with a leader answers, and that this process has sessions there.
    async fn greet(&self) -> Result<()> {
        let greeting = async {
            self.link.leader(Lane::Call).await?;
            self.sessions().await.map(drop)
        };
        let late = || Err(self.no_answer());
        tokio::time::timeout(self.link.patience, greeting)
            .await
            .unwrap_or_else(|_| late())
    }

    fn no_answer(&self) -> Error {
        let (peer, limit) = (&self.link.peer.name, self.link.patience);
        Error::new(
            Kind::Connect,
            format!("no answer from Consul at {peer} within {limit:?}"),
        )
    }

    /// Leaves nothing behind: unlocked leader keys are deleted unless 1.1.2 processes have sessions for them, the sessions
    /// end, and with them whatever they still lock.
    async fn say_goodbye(&self) {
        self.closed.set(true);
        // What does not get done in time, the server does at the end of the sessions' time to live.
        let _ = tokio::time::timeout(self.link.patience, async {
            let sessions = self.sessions.borrow_mut().take();
            self.tidy_all().await;
            if let Some(sessions) = sessions {
                sessions.ended.set(true);
                sessions.destroy(&self.link).await;
            }
            let spare = self.spare.borrow_mut().take();
            if let Some(spare) = spare {
                let _ = session::destroy(&self.link, &spare).await;
            }
            self.errands.done().await;
        })
        .await;
        self.upset.notify_waiters();
    }
}

impl Backend for Consul {
    fn terms(&self) -> Terms {
        self.terms
    }

    fn check(&self) -> Task<'_, Result<()>> {
        Box::pin(async move {
            let recent = self.link.answered().is_some_and(|at| clock::now().since(at) < FRESH);
            match recent && self.lively_sessions().is_some() {
                true => Ok(()),
                false => self.greet().await,
            }
        })
    }

    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>> {
        Box::pin(async move {
            match ask.attempt {
                Attempt::Wait => self.strive(&ask).await,
                Attempt::Try => tokio::time::timeout(self.link.patience, self.strive(&ask))
                    .await
                    .unwrap_or_else(|_| Err(Refusal::Away(self.no_answer()))),
                Attempt::Steal => self.steal(&ask).await,
            }
        })
    }

    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>> {
        Box::pin(async move { self.leave(&ask).await })
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(async move { self.renew_all(&asks).await })
    }

    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async move { Ok(self.view(&id).await?.0.snapshot()) })
    }

    /// In one read, as Consul knows no pages.
    fn list(&self, _known: BTreeSet<Arc<str>>) -> Task<'_, Result<Snapshots>> {
        Box::pin(async {
            let mut locks: BTreeMap<Arc<str>, Vec<Pair>> = BTreeMap::new();
            for pair in self.link.read(keys::ALL, true).await?.0 {
                if let Some(id) = keys::lock_of(&pair.key).map(Arc::from) {
                    locks.entry(id).or_default().push(pair);
                }
            }
            let snapshot = |(id, pairs): (Arc<str>, Vec<Pair>)| {
                let snapshot = View::new(&id, &pairs).snapshot();
                (id, snapshot)
            };
            Ok(locks.into_iter().map(snapshot).collect())
        })
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async move { self.say_goodbye().await })
    }
}
