//! Keeping leases alive, and finding out which holds the server no longer has.

use super::bundle;
use super::fault::{self, Fault};
use super::keys::Keys;
use super::note::{self, SHARED};
use super::session::{self, Hold};
use super::{Etcd, pair};
use crate::backend::{Ask, Owner, Stage};
use crate::core::mode::Mode;
use crate::error::Result;
use etcd_client::{Client, KeyValue, Txn, TxnOp};
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::JoinSet;

/// Holds per read: etcd takes 128 operations in one transaction by default, and a shared hold needs two.
const HOLDS_PER_READ: usize = 60;
/// Keep-alives under way together; each is a stream of its own on the one connection.
const AT_A_TIME: usize = 500;

impl Etcd {
    /// One keep-alive for the session and one for each lock that is held shared, all together, then one read over the held keys: a key
    /// that somebody deleted is noticed too.
    pub(super) async fn keep(&self, asks: Vec<Rc<Ask>>) -> Result<Vec<Owner>> {
        // As it is now: what is granted or given back while the server is asked is judged the next time.
        let held: Vec<&Rc<Ask>> = asks.iter().filter(|ask| ask.stage.get() == Stage::Held).collect();
        let mut lost = HashSet::new();
        let mut standing = Vec::new();
        for ask in &held {
            match self.holds.borrow().get(&ask.owner) {
                Some(hold) => standing.push((*ask, hold.clone())),
                None => {
                    lost.insert(ask.owner.clone());
                }
            }
        }
        let Some(session) = self.current() else {
            return Ok(held.into_iter().map(|ask| ask.owner.clone()).collect());
        };
        let common = self.keep_common(&standing);
        let (own, common) = tokio::join!(session::keep_alive(&self.renewer, session.lease), common);
        match own {
            Ok(sent) => session.confirm(sent),
            Err(Fault::LeaseGone) => {
                self.session_ended(&session);
                return Ok(held.into_iter().map(|ask| ask.owner.clone()).collect());
            }
            Err(fault) => {
                self.suspect();
                return Err(fault.into());
            }
        }
        let ended = common?;
        let has_ended = |hold: &Hold| hold.kind.common().is_some_and(|lease| ended.contains(&lease));
        lost.extend(
            standing
                .iter()
                .filter(|(_, hold)| has_ended(hold))
                .map(|(ask, _)| ask.owner.clone()),
        );
        for some in standing.chunks(HOLDS_PER_READ) {
            lost.extend(self.missing(some).await?);
        }
        // A hold that was given back meanwhile is not lost.
        let mut holds = self.holds.borrow_mut();
        lost.retain(|owner| {
            let was_standing = standing.iter().any(|(ask, _)| ask.owner == *owner);
            let given_back = was_standing && (!holds.contains_key(owner) || self.leaving.borrow().contains(owner));
            !given_back
        });
        for owner in &lost {
            holds.remove(owner);
        }
        Ok(lost.into_iter().collect())
    }

    /// Keeps the common leases of these holds alive, many at a time; gives those that have ended.
    async fn keep_common(&self, standing: &[(&Rc<Ask>, Hold)]) -> Result<HashSet<i64>, Fault> {
        let mut leases: BTreeSet<i64> = standing.iter().filter_map(|(_, hold)| hold.kind.common()).collect();
        let mut ended = HashSet::new();
        let mut under_way = JoinSet::new();
        let Some(etcd) = self.me.upgrade() else {
            return Ok(ended);
        };
        loop {
            while under_way.len() < AT_A_TIME
                && let Some(lease) = leases.pop_first()
            {
                let etcd = etcd.clone();
                under_way.spawn_local(async move { (lease, session::keep_alive(&etcd.renewer, lease).await) });
            }
            match under_way.join_next().await {
                None => return Ok(ended),
                Some(Ok((_, Ok(_)))) => {}
                Some(Ok((lease, Err(Fault::LeaseGone)))) => {
                    ended.insert(lease);
                }
                Some(Ok((_, Err(fault)))) => return Err(fault),
                // The runtime is about to end.
                Some(Err(_)) => return Err(Fault::Failed(fault::silent(&self.renewer.peer(), self.renewer.limit()))),
            }
        }
    }

    /// A node that does not answer renewals may hold up the watches too, which nobody would notice for long.
    fn suspect(&self) {
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            if let Some(etcd) = me.upgrade() {
                // The failure itself turns to another node.
                let _ = etcd.probe().await;
            }
        });
    }

    async fn missing(&self, standing: &[(&Rc<Ask>, Hold)]) -> Result<Vec<Owner>> {
        let mut reads = Vec::with_capacity(standing.len() * 2);
        for (ask, _) in standing {
            let keys = Keys::new(&ask.id);
            reads.push(TxnOp::get(&*keys.main, None));
            if ask.mode == Mode::Shared {
                reads.push(TxnOp::get(keys.reader(&ask.owner), None));
            }
        }
        let txn = Txn::new().and_then(reads);
        let response = self
            .renewer
            .call(async |client: Arc<Client>| bundle::read_alone(client, txn.clone()).await)
            .await?;
        let answers = response.op_responses();
        let mut missing = Vec::new();
        let mut index = 0;
        for (ask, hold) in standing {
            let main = pair(&answers, index);
            index += 1;
            let stands = match hold.kind.common() {
                None => main.is_some_and(|main| main.value() == note::write(ask, &self.context.identity)),
                Some(common) => {
                    let reader = pair(&answers, index);
                    index += 1;
                    reader.is_some() && main.is_some_and(|main| is_under(main, common))
                }
            };
            if !stands {
                missing.push(ask.owner.clone());
            }
        }
        Ok(missing)
    }
}

fn is_under(main: &KeyValue, common: i64) -> bool {
    main.value() == SHARED && main.lease() == common
}
