//! Locks on etcd 3.4 and later.
//!
//! # What always holds, and where it is kept
//!
//! 1. **Who holds a lock is told by its main key and nothing else** ([`keys`]): it exists while anybody holds the lock. Its value
//!    names the exclusive holder, or says that readers are in, who have a key each. It is only ever changed by a transaction whose conditions
//!    say that it still is what its author read ([`exclusive`], [`shared`], [`release`]), but for a theft, which puts it over whatever it says and
//!    deletes the readers' keys. 1.1.2 takes the lock by creating it.
//! 2. **A hold lives under its process's lease** ([`session`]), readers' common main key under one more that all of them renew
//!    ([`shared`]): what a dead process held or waited for goes with its lease.
//! 3. **A hold is believed in for as long as a lease that is proven to be renewed cannot have ended.** An answer to a
//!    keep-alive proves nothing by itself; what does is in [`lease`].
//! 4. **First come, first served**: the queue's order is that of the places' create revisions. A waiter watches the place before its
//!    own or, as the first, the main key ([`view`], [`watch`]). Whoever releases gives the main key to the first waiter, by putting
//!    it with that waiter's value and lease and deleting its place, in one transaction: the key never vanishes in between ([`release`]).
//! 5. **A message that arrives late does nothing.** Every exchange may reach the server twice, and after its author gave up ([`link`]). The first
//!    message of an ask does nothing if a tombstone says that the ask was withdrawn; all others are bound to a place or a hold.
//! 6. **Clearing away ends when the server has confirmed it**, or with the lease. A failure never ends it ([`fault`]).
//! 7. **A fencing token is a revision**: that of the main key's last change or of a reader's key. Revisions only grow.
//!
//! All that only 1.1.2 needs is in [`legacy`]. [`bundle`] sends short transactions of many locks as one; [`hold`] watches
//! what is held, and knows who comes next; [`store`] has the process's own state.
//! The files use each other in one direction: channel, fault, link, watch, lease, bundle, store, granting, session, view, hold, exclusive, shared, release.

mod bundle;
mod channel;
mod exclusive;
mod fault;
mod granting;
mod hold;
mod keys;
mod lease;
mod legacy;
mod link;
mod release;
mod session;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod watch;

use crate::backend::{Ask, Backend, Context, Owner, Refusal, Released, Snapshot, Snapshots, Taken, Task};
use crate::clock;
use crate::core::lease::Terms;
use crate::core::mode::Mode;
use crate::error::{Error, Kind, Result};
use crate::url::Server;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use store::{Etcd, patience};
use tokio::time::Instant;

/// How long to find out what a server is that is not etcd, or a tenth of `connect_timeout` if that is more.
const DOUBT: Duration = Duration::from_millis(500);
/// For how long an answer counts as a sign of life.
const RECENTLY: Duration = Duration::from_millis(100);

/// Reaches the server, checks user and password, and that it can serve reads.
///
/// The session begins with the first acquire. Errors: `Connect`, `Auth`, `Tls`, `Server`.
pub async fn connect(server: &Server, context: Context) -> Result<Rc<dyn Backend>> {
    Ok(open(server, context).await?)
}

async fn open(server: &Server, context: Context) -> Result<Rc<Etcd>> {
    let deadline = Instant::now() + patience(&server.options);
    let etcd = Etcd::new(server, context);
    match etcd.probe().await {
        Ok(()) => Ok(etcd),
        Err(fault) => Err(name_stranger(fault.into(), server, deadline).await),
    }
}

/// A connection that was made and cut may have been made with something else than etcd.
async fn name_stranger(error: Error, server: &Server, deadline: Instant) -> Error {
    if error.kind != Kind::Connect {
        return error;
    }
    let limit = DOUBT.max(server.options.connect_timeout / 10);
    for address in &server.addresses {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Whoever waits for us would hear nothing at all.
            break;
        }
        if let Some(better) = channel::identify(address, &server.options, limit.min(left)).await {
            return better;
        }
    }
    error
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
                _ => Ok(self.probe().await?),
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
            if answer == Err(Refusal::Busy) && self.unsure.borrow().contains_key(&ask.owner) {
                self.give_back(&ask).await?;
            }
            answer
        })
    }

    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>> {
        Box::pin(async move { Ok(self.give_back(&ask).await?) })
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(self.renew_all(asks))
    }

    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async move { Ok(self.snapshot(&id).await?) })
    }

    fn list(&self, _known: BTreeSet<Arc<str>>) -> Task<'_, Result<Snapshots>> {
        Box::pin(async { Ok(self.snapshots().await?) })
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async {
            // Errors are of no interest: what is left ends with the lease.
            let _ = tokio::time::timeout(self.link.limit(), self.end()).await;
            self.hub.close();
        })
    }
}
