//! Shared holds.
//!
//! Every reader has a key of its own under its process's lease. The main key, which keeps 1.1.2 and the exclusive ones out,
//! lives under a common lease that the first reader brings and every reader keeps alive: it outlives each of them, and ends
//! a time to live after the last one that crashed. The last one that leaves deletes it, or gives it to the first waiter.
//!
//! A reader that joins believes in its hold only after it has itself kept the common lease alive once.
//!
//! Whoever arrives while anybody waits takes a place in the queue, shared or not, so that readers cannot keep a writer out. The
//! run of shared waiters at the head comes in one by one, each as the place before it goes.

use super::fault::Fault;
use super::guard::Contention;
use super::keys::{Keys, absent, lease_of};
use super::note::{self, SHARED};
use super::room::StandBack;
use super::session::{self, HoldKind, Session};
use super::wait::{SAFETY_NET, SECOND_LOOK, View, Woken, pause};
use super::{Etcd, pair, revision};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use crate::core::time::Moment;
use crate::error::Error;
use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};
use std::rc::Rc;

/// How often [`Attempt::Try`] looks again when others change the lock between its look and its step.
const TRIES: usize = 8;

/// What became of one attempt to come in.
enum Step {
    In(Taken),
    /// Something changed: look anew.
    Again,
    Busy,
}

impl Etcd {
    pub(super) async fn acquire_shared(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let keys = Keys::new(&ask.id);
        let value = note::write(ask, &self.context.identity);
        let mut looks = 0;
        let mut back = StandBack::default();
        loop {
            let session = self.session().await.map_err(Error::from)?;
            match self.step(ask, &keys, &value, &session, &mut back).await {
                Ok(Step::In(taken)) => return Ok(taken),
                Ok(Step::Again) => {}
                Ok(Step::Busy) => return Err(Refusal::Busy),
                Err(fault) => self.recover(fault, &session).await?,
            }
            looks += 1;
            if ask.attempt == Attempt::Try && looks == TRIES {
                return Err(Refusal::Busy);
            }
        }
    }

    /// Looks, and does whatever brings the ask nearer to its hold.
    async fn step(
        &self,
        ask: &Rc<Ask>,
        keys: &Keys,
        value: &[u8],
        session: &Rc<Session>,
        back: &mut StandBack,
    ) -> Result<Step, Fault> {
        let mut evictions = self.turns.subscribe();
        let view = self.view(keys, &ask.owner, None).await?;
        if let Some(main) = &view.main {
            self.learn(ask, main);
        }
        let is_shared = view.main.as_ref().is_some_and(|main| main.value() == SHARED);
        if let Some(reader) = &view.reader {
            // An earlier attempt came in, and its reply was lost.
            return match &view.main {
                Some(main) if is_shared => {
                    self.believe(ask, keys, session, main.lease(), reader.create_revision())
                        .await
                }
                _ => self.withdraw_reader(ask, keys, reader.create_revision()).await,
            };
        }
        let may_enter = match &view.place {
            Some(_) => view.last.is_none(),
            None => view.last.is_none() && (view.main.is_none() || is_shared),
        };
        if may_enter {
            if is_shared {
                return self.join(ask, keys, value, session, view.place.as_ref()).await;
            }
            if view.main.is_none() {
                let left = back.see(view.gap.as_ref()).filter(|left| !left.is_zero());
                match (left, ask.attempt, &view.place) {
                    (Some(left), Attempt::Wait, Some(_)) => {
                        let mut watcher = self.hub.watch(&self.link, &keys.main, false).await?;
                        pause(&mut watcher, &mut evictions, left).await;
                        return Ok(Step::Again);
                    }
                    // Whoever stands back does so in the queue.
                    (Some(_), Attempt::Wait, None) => {}
                    (None, _, _) | (Some(_), Attempt::Try, _) => {
                        return self.open(ask, keys, value, session, &view).await;
                    }
                }
            }
        }
        if ask.attempt == Attempt::Try {
            return Ok(Step::Busy);
        }
        if view.place.is_none() {
            let place = keys.place(&ask.owner);
            // A copy of this message may arrive when the hold exists already: a place would then block the queue for good.
            let txn = Txn::new()
                .when([
                    absent(&*place),
                    absent(keys.reader(&ask.owner)),
                    keys.not_withdrawn(&ask.owner),
                ])
                .and_then([TxnOp::put(&*place, value, Some(lease_of(session.lease)))]);
            self.first_message(&ask.owner, session.lease, self.counted(txn)).await?;
            return Ok(Step::Again);
        }
        self.wait_for_change(ask, keys, view, &mut evictions).await?;
        Ok(Step::Again)
    }

    /// Until the place before ours goes or, with the first place, the exclusive holder.
    async fn wait_for_change(
        &self,
        ask: &Ask,
        keys: &Keys,
        view: View,
        evictions: &mut tokio::sync::watch::Receiver<u64>,
    ) -> Result<(), Fault> {
        let target = |view: &View| {
            view.place.as_ref()?;
            let main = view.main.as_ref().filter(|main| main.value() != SHARED);
            match &view.last {
                Some(before) => Some(String::from_utf8_lossy(before.key()).into_owned()),
                None => main.map(|_| keys.main.clone()),
            }
        };
        let (view, watcher) = self.watch_after(keys, &ask.owner, view, &target).await?;
        let Some(mut watcher) = watcher else { return Ok(()) };
        let mut view = view;
        let key = target(&view);
        let mut limit = SECOND_LOOK;
        loop {
            match pause(&mut watcher, evictions, limit).await {
                Woken::Unsure if limit == SECOND_LOOK && !watcher.is_broken() => {
                    limit = SAFETY_NET;
                    let place = view.place.as_ref().map(KeyValue::create_revision);
                    view = self.view(keys, &ask.owner, place).await?;
                    if target(&view) != key {
                        return Ok(());
                    }
                }
                Woken::Change(change) if change.revision <= view.revision || change.value.is_some() => {}
                Woken::Change(_) | Woken::Unsure | Woken::Evicted => return Ok(()),
            }
        }
    }

    /// The conditions under which a reader may come in that stands at `place` or, without one, has just arrived.
    fn at_my_turn(keys: &Keys, ask: &Rc<Ask>, place: Option<&KeyValue>) -> Compare {
        match place {
            Some(place) => keys.waits_since(&ask.owner, place.create_revision()),
            None => keys.nobody_waits(),
        }
    }

    /// Comes in to the readers that are there.
    async fn join(
        &self,
        ask: &Rc<Ask>,
        keys: &Keys,
        value: &[u8],
        session: &Rc<Session>,
        place: Option<&KeyValue>,
    ) -> Result<Step, Fault> {
        let owner = &ask.owner;
        let txn = Txn::new()
            .when([
                keys.main_is(SHARED),
                Self::at_my_turn(keys, ask, place),
                keys.not_withdrawn(owner),
            ])
            .and_then([
                TxnOp::get(&*keys.main, None),
                TxnOp::put(keys.reader(owner), value, Some(lease_of(session.lease))),
                TxnOp::delete(keys.place(owner), None),
            ]);
        let response = self.first_message(owner, session.lease, self.counted(txn)).await?;
        let answers = response.op_responses();
        match pair(&answers, 0) {
            Some(main) if response.succeeded() => {
                self.believe(ask, keys, session, main.lease(), revision(&response))
                    .await
            }
            _ => Ok(Step::Again),
        }
    }

    /// Comes in as the first reader.
    async fn open(
        &self,
        ask: &Rc<Ask>,
        keys: &Keys,
        value: &[u8],
        session: &Rc<Session>,
        view: &View,
    ) -> Result<Step, Fault> {
        let owner = &ask.owner;
        let gap = view.gap.as_ref().map_or(0, KeyValue::mod_revision);
        let (common, sent) = self.bring(owner).await?;
        let txn = Txn::new()
            .when([
                keys.is_free(),
                keys.no_gap_but(gap),
                Self::at_my_turn(keys, ask, view.place.as_ref()),
                keys.not_withdrawn(owner),
            ])
            .and_then([
                TxnOp::put(&*keys.main, SHARED, Some(lease_of(common))),
                TxnOp::put(keys.reader(owner), value, Some(lease_of(session.lease))),
                TxnOp::delete(keys.place(owner), None),
                TxnOp::delete(&*keys.gap, None),
            ]);
        let response = self.first_message(owner, session.lease, self.counted(txn)).await?;
        if !response.succeeded() {
            // Otherwise an earlier message of the same exchange may have come in, and the main key stand under this lease.
            if !self.unsure.borrow().contains_key(owner) {
                self.revoke_soon(common).await;
                self.brought.forget(owner, common);
            }
            return Ok(Step::Again);
        }
        Ok(self.come_in(ask, session, common, revision(&response), sent))
    }

    /// Keeps the common lease alive once; then the hold is good.
    async fn believe(
        &self,
        ask: &Rc<Ask>,
        keys: &Keys,
        session: &Rc<Session>,
        common: i64,
        revision: i64,
    ) -> Result<Step, Fault> {
        match session::keep_alive(&self.link, common).await {
            Ok(sent) => Ok(self.come_in(ask, session, common, revision, sent)),
            Err(Fault::LeaseGone) => self.withdraw_reader(ask, keys, revision).await,
            Err(fault) => Err(fault),
        }
    }

    /// Notes the grant, unless the session ended meanwhile and took the reader's key with it. `sent` is when the common lease
    /// was last known to be asked for.
    fn come_in(&self, ask: &Rc<Ask>, session: &Rc<Session>, common: i64, revision: i64, sent: Moment) -> Step {
        if !self.is_current(session) {
            return Step::Again;
        }
        self.brought.forget(&ask.owner, common);
        let leased_at = session.renewed.get().min(sent);
        let kind = HoldKind::Shared { common };
        Step::In(self.granted(ask, session.lease, kind, revision, leased_at, Contention::None))
    }

    /// Takes back a reader's key, created at revision `created`, that the main key no longer covers. A later one stays,
    /// should this message arrive late.
    async fn withdraw_reader(&self, ask: &Rc<Ask>, keys: &Keys, created: i64) -> Result<Step, Fault> {
        let own = keys.reader(&ask.owner);
        let txn = Txn::new()
            .when([Compare::create_revision(&*own, CompareOp::Equal, created)])
            .and_then([TxnOp::delete(&*own, None)]);
        self.txn(txn).await?;
        Ok(Step::Again)
    }
}
