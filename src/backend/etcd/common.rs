//! The leases that readers keep alive together: brought by the first of them, ended with the last.
//!
//! Whoever brings one may be cancelled at any moment, with the grant or the transaction that uses it on its way. The lease
//! is noted before anything is sent, and forgotten when it is known what lives under it; an ask that is given back ends what
//! is still noted of it.

use super::fault::Fault;
use super::keys::Keys;
use super::note::SHARED;
use super::session;
use super::{Etcd, pair};
use crate::backend::Owner;
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use std::cell::RefCell;
use std::collections::HashMap;
use tokio::sync::oneshot;

/// The leases that asks have brought and that nothing is known to live under.
#[derive(Default)]
pub struct Brought(RefCell<HashMap<Owner, Vec<Lease>>>);

struct Lease {
    number: i64,
    /// Until the server has answered the grant; nothing is sent any more when its other end is gone.
    granting: Option<oneshot::Receiver<()>>,
}

impl Brought {
    pub fn has_any_of(&self, owner: &Owner) -> bool {
        self.0.borrow().contains_key(owner)
    }

    /// It is known what became of this lease.
    pub fn forget(&self, owner: &Owner, number: i64) {
        let mut all = self.0.borrow_mut();
        if let Some(leases) = all.get_mut(owner) {
            leases.retain(|lease| lease.number != number);
            if leases.is_empty() {
                all.remove(owner);
            }
        }
    }

    fn note(&self, owner: &Owner, lease: Lease) {
        self.0.borrow_mut().entry(owner.clone()).or_default().push(lease);
    }

    fn next(&self, owner: &Owner) -> Option<(i64, Option<oneshot::Receiver<()>>)> {
        let mut all = self.0.borrow_mut();
        let lease = all.get_mut(owner)?.first_mut()?;
        Some((lease.number, lease.granting.take()))
    }
}

impl Etcd {
    /// Grants a common lease for `owner`; gives its number and a moment before anything was sent. Goes on when dropped, so that
    /// no grant arrives after the lease was ended.
    pub(super) async fn bring(&self, owner: &Owner) -> Result<(i64, Moment), Fault> {
        let stopped = || Fault::Failed(Error::new(Kind::Connect, "the connection to etcd was closed"));
        let etcd = self.me.upgrade().ok_or_else(stopped)?;
        let number = session::random_number()?;
        let sent = clock::now();
        let (done, granting) = oneshot::channel();
        let lease = Lease {
            number,
            granting: Some(granting),
        };
        self.brought.note(owner, lease);
        let grant = tokio::task::spawn_local(async move {
            let answer = session::grant_as(&etcd.link, number, etcd.ttl).await;
            drop(done);
            answer
        });
        grant.await.map_err(|_| stopped())??;
        Ok((number, sent))
    }

    /// Ends the leases that `owner` brought for nothing. Its messages must have lost their effect.
    pub(super) async fn end_brought(&self, keys: &Keys, owner: &Owner) -> Result<(), Fault> {
        while let Some((number, granting)) = self.brought.next(owner) {
            if let Some(granting) = granting {
                // An error is what it ends with.
                let _ = granting.await;
            }
            if !self.is_in_use(keys, number).await? {
                session::revoke(&self.link, number).await?;
            }
            self.brought.forget(owner, number);
        }
        Ok(())
    }

    /// Whether readers are in under this lease. Without any, the main key goes.
    async fn is_in_use(&self, keys: &Keys, lease: i64) -> Result<bool, Fault> {
        let txn = Txn::new()
            .when([
                keys.main_is(SHARED),
                Compare::lease(&*keys.main, CompareOp::Equal, lease),
                keys.nobody_reads(),
            ])
            .and_then([TxnOp::delete(&*keys.main, None)])
            .or_else([TxnOp::get(&*keys.main, None)]);
        let response = self.txn(txn).await?;
        let main = response.op_responses();
        Ok(!response.succeeded() && pair(&main, 0).is_some_and(|main| main.lease() == lease))
    }

    /// Ends a lease that no key needs any more, without making anybody wait.
    pub(super) async fn revoke_soon(&self, lease: i64) {
        if let Ok(client) = self.link.client_in_time().await {
            // If it fails, the lease ends by itself.
            tokio::spawn(async move { client.lease_client().revoke(lease).await });
        }
    }
}
