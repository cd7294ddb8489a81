//! The way of an exclusive ask to the main key: at once, by a place in the queue, or by a theft.

use super::bundle::{Answer, pair, pairs, revision};
use super::fault::Fault;
use super::hold::Contention;
use super::keys::{Keys, absent, lease_of, value_of};
use super::lease::{HoldKind, Session};
use super::legacy::room::StandBack;
use super::store::Etcd;
use super::view::{View, name, pause};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use etcd_client::{Compare, DeleteOptions, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use std::rc::Rc;
use std::time::Duration;

/// Between two looks at readers that are about to be gone.
const SOON: Duration = Duration::from_millis(200);

/// What the first transaction found or did.
enum Entered {
    /// The main key is ours, since this revision.
    Granted(i64),
    Busy,
    /// Our place is in the queue.
    Queued(Box<View>),
}

impl Etcd {
    pub async fn acquire_exclusive(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let keys = Keys::new(&ask.id);
        let value = value_of(ask, &self.context.identity);
        loop {
            let session = self.session(&keys).await?;
            let mut contention = match ask.attempt {
                Attempt::Steal => Contention::Likely,
                Attempt::Wait | Attempt::Try => Contention::None,
            };
            let granted = match self.enter(ask, &keys, &value, &session).await {
                Ok(Entered::Granted(revision)) => Ok(Some(revision)),
                Ok(Entered::Busy) => return Err(Refusal::Busy),
                Ok(Entered::Queued(view)) => {
                    contention = Contention::Likely;
                    let waiter = Waiter {
                        etcd: self,
                        ask,
                        keys: &keys,
                        value: &value,
                        session: &session,
                        evictions: self.sessions.subscribe(),
                        back: StandBack::default(),
                    };
                    waiter.run(*view).await
                }
                Err(fault) => Err(fault),
            };
            match granted {
                Ok(Some(revision)) => {
                    // Not with a lease that is nearly over: a wait may have outlived the right to prove its renewals.
                    if self.session(&keys).await?.lease == session.lease {
                        let leased_at = session.renewed.get();
                        let kind = HoldKind::Exclusive;
                        return Ok(self.granted(ask, session.lease, kind, revision, leased_at, contention));
                    }
                }
                // The place went with the session: begin anew, behind the others.
                Ok(None) => {}
                Err(fault) => self.recover(fault, &session, &keys).await?,
            }
        }
    }

    /// Every node writes whole transactions down, so where nobody else was seen lately, the first one comes without the way into
    /// the queue.
    async fn enter(&self, ask: &Ask, keys: &Keys, value: &[u8], session: &Session) -> Result<Entered, Fault> {
        if ask.attempt == Attempt::Steal {
            return self.seize(ask, keys, value, session.lease).await;
        }
        if ask.attempt == Attempt::Wait && self.demand.is_in_demand(&ask.id) {
            return self.enter_or_queue(ask, keys, value, session.lease).await;
        }
        let put_main = TxnOp::put(&*keys.main, value, Some(lease_of(session.lease)));
        let txn = Txn::new()
            .when(unless_anybody(ask, keys))
            .and_then([put_main])
            .or_else([TxnOp::get(&*keys.main, None)]);
        let answer = self.first_message(&ask.owner, session.lease, Some(&ask.id), txn);
        let Answer { revision, response } = answer.await?;
        match (granted(revision, &response, value), ask.attempt) {
            (Some(revision), _) => Ok(Entered::Granted(revision)),
            (None, Attempt::Try) => Ok(Entered::Busy),
            (None, Attempt::Wait | Attempt::Steal) => self.enter_or_queue(ask, keys, value, session.lease).await,
        }
    }

    /// Puts the main key over whatever it says, and deletes the readers' keys. What others do to the main key is bound to what they read
    /// there, so none of that has an effect any more.
    async fn seize(&self, ask: &Ask, keys: &Keys, value: &[u8], lease: i64) -> Result<Entered, Fault> {
        let put = [
            TxnOp::put(&*keys.main, value, Some(lease_of(lease))),
            TxnOp::delete(keys.readers(), Some(DeleteOptions::new().with_prefix())),
        ];
        let txn = Txn::new()
            // After a lost reply it may be ours already.
            .when([keys.main_is(value)])
            .and_then([TxnOp::get(&*keys.main, None)])
            .or_else([TxnOp::txn(
                Txn::new().when([keys.not_withdrawn(&ask.owner)]).and_then(put),
            )]);
        let Answer { revision, response } = self.first_message(&ask.owner, lease, None, txn).await?;
        let since = match response.op_responses().first() {
            Some(TxnOpResponse::Txn(put)) => put.succeeded().then_some(revision),
            Some(TxnOpResponse::Get(main)) => main.kvs().first().map(KeyValue::mod_revision),
            _ => None,
        };
        // Withdrawn: nobody waits for the answer.
        Ok(since.map_or(Entered::Busy, Entered::Granted))
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
        let Answer { revision, response } = self.first_message(owner, lease, None, txn).await?;
        if let Some(revision) = granted(revision, &response, value) {
            return Ok(Entered::Granted(revision));
        }
        let answers = response.op_responses();
        let had_place = pair(&answers, 1).is_some();
        if had_place {
            // The queue may have grown behind us since.
            return Ok(Entered::Queued(Box::new(self.view(keys, owner, None).await?)));
        }
        Ok(Entered::Queued(Box::new(View {
            revision,
            main: pair(&answers, 0).cloned(),
            place: pair(&answers, 4).cloned(),
            reader: None,
            last: pairs(&answers, 2).first().cloned(),
            gap: None,
            header: None,
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

/// An ask in the queue.
pub struct Waiter<'a> {
    pub etcd: &'a Etcd,
    pub ask: &'a Ask,
    pub keys: &'a Keys,
    pub value: &'a [u8],
    pub session: &'a Session,
    pub evictions: tokio::sync::watch::Receiver<u64>,
    pub back: StandBack,
}

impl Waiter<'_> {
    /// Waits until the main key is ours and gives its revision; `None` when the place was lost.
    pub async fn run(mut self, first: View) -> Result<Option<i64>, Fault> {
        let (etcd, keys, owner, value) = (self.etcd, self.keys, &self.ask.owner, self.value);
        // The key to wait for: the place before ours, or the main key.
        let target = |view: &View| {
            view.place.as_ref()?;
            let main = view.main.as_ref().filter(|main| main.value() != value);
            view.last.as_ref().or(main).map(name)
        };
        let mut view = first;
        loop {
            if let Some(main) = &view.main {
                if main.value() == value {
                    return Ok(Some(main.mod_revision()));
                }
                etcd.learn(self.ask, main);
            }
            let Some(since) = view.place.as_ref().map(KeyValue::create_revision) else {
                return Ok(None);
            };
            if !etcd.is_current(self.session) {
                return Ok(None);
            }
            let is_first = view.last.is_none();
            if target(&view).is_some() {
                let change = etcd
                    .next_change(keys, owner, &mut view, target, &mut self.evictions)
                    .await?;
                match change {
                    Some(change) if is_first && change.value.as_deref() == Some(value) => {
                        return Ok(Some(change.revision));
                    }
                    Some(change) if is_first && change.value.is_none() => {
                        view.main = None;
                        continue;
                    }
                    Some(_) | None => {}
                }
            } else if let Some(revision) = self.claim(since).await? {
                return Ok(Some(revision));
            }
            view = etcd.view(keys, owner, Some(since)).await?;
        }
    }

    /// Takes the main key, which did not exist when it was seen last, and gives its revision; `None` if it is to be looked at anew.
    /// Our place was taken at `since`.
    async fn claim(&mut self, since: i64) -> Result<Option<i64>, Fault> {
        let place = self.keys.place(&self.ask.owner);
        let passed = self.back.passed();
        let mut take = vec![
            TxnOp::put(&*self.keys.main, self.value, Some(lease_of(self.session.lease))),
            TxnOp::delete(&*place, None),
        ];
        if passed != 0 {
            take.push(TxnOp::delete(&*self.keys.gap, None));
        }
        let txn = Txn::new()
            .when([
                self.keys.is_free(),
                self.keys.nobody_reads(),
                self.keys.waits_since(&self.ask.owner, since),
                self.keys.no_gap_but(passed),
            ])
            .and_then(take)
            .or_else([
                TxnOp::get(&*self.keys.main, None),
                TxnOp::get(&*place, None),
                TxnOp::get(
                    self.keys.readers(),
                    Some(GetOptions::new().with_prefix().with_limit(1).with_keys_only()),
                ),
                TxnOp::get(&*self.keys.gap, None),
            ]);
        let response = self.etcd.txn(txn).await?;
        if response.succeeded() {
            return Ok(Some(revision(&response)));
        }
        let answers = response.op_responses();
        let limit = match (pair(&answers, 0), pair(&answers, 1), pair(&answers, 2)) {
            // Somebody else was quicker, or the place is gone.
            (Some(_), _, _) | (None, None, _) => None,
            // Readers whose common lease has ended, but not yet their own: the key is gone, they may still believe.
            (None, Some(_), Some(_)) => Some(SOON),
            (None, Some(_), None) => self.back.see(pair(&answers, 3)),
        };
        if let Some(limit) = limit {
            let mut watcher = self.etcd.hub.watch(&self.etcd.link, &self.keys.main, false).await?;
            pause(&mut watcher, &mut self.evictions, limit).await;
        }
        Ok(None)
    }
}
