//! The first step of an exclusive ask: take the lock, or a place in the queue, in one transaction where others want it too.

use super::bundle::Answer;
use super::fault::Fault;
use super::guard::Contention;
use super::keys::{Keys, absent, lease_of};
use super::queue::Waiter;
use super::room::StandBack;
use super::session::{HoldKind, Session};
use super::wait::View;
use super::{Etcd, note, pair, pairs, revision};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use crate::error::Error;
use etcd_client::{Compare, Txn, TxnOp, TxnResponse};
use std::rc::Rc;

/// What the first transaction found or did.
enum Entered {
    /// The main key is ours, since this revision.
    Granted(i64),
    Busy,
    /// Our place is in the queue.
    Queued(Box<View>),
}

impl Etcd {
    pub(super) async fn acquire_exclusive(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let keys = Keys::new(&ask.id);
        let value = note::write(ask, &self.context.identity);
        loop {
            let session = self.session().await.map_err(Error::from)?;
            let mut contention = Contention::None;
            let granted = match self.enter(ask, &keys, &value, &session).await {
                Ok(Entered::Granted(revision)) => Ok(Some(revision)),
                Ok(Entered::Busy) => return Err(Refusal::Busy),
                Ok(Entered::Queued(view)) => {
                    contention = Contention::Likely;
                    {
                        let waiter = Waiter {
                            etcd: self,
                            ask,
                            keys: &keys,
                            value: &value,
                            session: &session,
                            evictions: self.turns.subscribe(),
                            back: StandBack::default(),
                        };
                        waiter.run(*view).await
                    }
                }
                Err(fault) => Err(fault),
            };
            match granted {
                Ok(Some(revision)) if self.is_current(&session) => {
                    let leased_at = session.renewed.get();
                    return Ok(self.granted(ask, session.lease, HoldKind::Exclusive, revision, leased_at, contention));
                }
                // The place went with the session: begin anew, behind the others.
                Ok(_) => {}
                Err(fault) => self.recover(fault, &session).await?,
            }
        }
    }

    /// Every node writes whole transactions down, so where nobody else was seen lately, the first one comes without the way into
    /// the queue.
    async fn enter(&self, ask: &Ask, keys: &Keys, value: &[u8], session: &Session) -> Result<Entered, Fault> {
        if ask.attempt == Attempt::Wait && self.lore.is_in_demand(&ask.id) {
            return self.enter_or_queue(ask, keys, value, session.lease).await;
        }
        let put_main = TxnOp::put(&*keys.main, value, Some(lease_of(session.lease)));
        let txn = Txn::new()
            .when(unless_anybody(ask, keys))
            .and_then([put_main])
            .or_else([TxnOp::get(&*keys.main, None)]);
        let sending = self.bundled(&ask.id, txn);
        let Answer { revision, response } = self.first_message(&ask.owner, session.lease, sending).await?;
        match (granted(revision, &response, value), ask.attempt) {
            (Some(revision), _) => Ok(Entered::Granted(revision)),
            (None, Attempt::Try) => Ok(Entered::Busy),
            (None, Attempt::Wait) => self.enter_or_queue(ask, keys, value, session.lease).await,
        }
    }

    async fn enter_or_queue(&self, ask: &Ask, keys: &Keys, value: &[u8], lease: i64) -> Result<Entered, Fault> {
        let owner = &ask.owner;
        let place = keys.place(owner);
        let queue = Txn::new()
            .when([absent(&*place), keys.not_withdrawn(owner)])
            .and_then([TxnOp::put(&*place, value, Some(lease_of(lease)))]);
        // After a lost reply the main key may be ours already.
        let queue_unless_granted = Txn::new().when([keys.main_is(value)]).or_else([TxnOp::txn(queue)]);
        let txn = Txn::new()
            .when(unless_anybody(ask, keys))
            .and_then([TxnOp::put(&*keys.main, value, Some(lease_of(lease)))])
            .or_else([
                TxnOp::get(&*keys.main, None),
                TxnOp::get(&*place, None),
                keys.last_waiters(2, None),
                TxnOp::txn(queue_unless_granted),
                TxnOp::get(&*place, None),
            ]);
        let response = self.first_message(owner, lease, self.counted(txn)).await?;
        if let Some(revision) = granted(revision(&response), &response, value) {
            return Ok(Entered::Granted(revision));
        }
        let answers = response.op_responses();
        let had_place = pair(&answers, 1).is_some();
        if had_place {
            // The queue may have grown behind us since.
            return Ok(Entered::Queued(Box::new(self.view(keys, owner, None).await?)));
        }
        Ok(Entered::Queued(Box::new(View {
            revision: revision(&response),
            main: pair(&answers, 0).cloned(),
            place: pair(&answers, 4).cloned(),
            reader: None,
            last: pairs(&answers, 2).first().cloned(),
            gap: None,
        })))
    }
}

/// The conditions under which an ask comes in at once.
fn unless_anybody(ask: &Ask, keys: &Keys) -> Vec<Compare> {
    let mut conditions = vec![
        keys.is_free(),
        keys.nobody_waits(),
        keys.nobody_reads(),
        keys.not_withdrawn(&ask.owner),
    ];
    if ask.attempt == Attempt::Wait {
        conditions.push(keys.no_gap_but(0));
    }
    conditions
}

/// Since when the main key is ours, be it through this transaction, which read it otherwise, or one before it.
fn granted(revision: i64, response: &TxnResponse, value: &[u8]) -> Option<i64> {
    if response.succeeded() {
        return Some(revision);
    }
    let answers = response.op_responses();
    let main = pair(&answers, 0)?;
    (main.value() == value).then(|| main.mod_revision())
}
