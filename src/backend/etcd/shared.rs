//! Shared holds.
//!
//! Every reader has a key of its own under its process's lease. The main key, which keeps 1.1.2 and the exclusive ones out,
//! lives under a common lease that the first reader brings and every reader keeps alive: it outlives each of them, and ends
//! a time to live after the last one that crashed. The last one that leaves deletes it, or gives it to the first waiter.
//!
//! A reader that joins renews the common lease itself first: its coming in, or a look later, proves that (see the module `lease`).
//!
//! Whoever arrives while anybody waits takes a place in the queue, shared or not, so that readers cannot keep a writer out. The
//! run of shared waiters at the head comes in one by one, each as the place before it goes.

use super::fault::Fault;
use super::hold::Contention;
use super::keys::{Keys, SHARED, absent, lease_of, value_of};
use super::lease::{Commons, HoldKind, Renewal, Session, keep_alive};
use super::legacy::room::StandBack;
use super::store::Etcd;
use super::view::{View, name, pause};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use crate::core::time::Moment;
use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp};
use std::collections::HashSet;
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

/// A shared ask on its way in.
struct Reader<'a> {
    etcd: &'a Etcd,
    ask: &'a Rc<Ask>,
    keys: &'a Keys,
    value: &'a [u8],
    back: StandBack,
    /// The last renewal of the common lease, which is still to be proven.
    renewal: Option<Renewal>,
}

impl Etcd {
    pub async fn acquire_shared(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let keys = Keys::new(&ask.id);
        let mut reader = Reader {
            etcd: self,
            ask,
            keys: &keys,
            value: &value_of(ask, &self.context.identity),
            back: StandBack::default(),
            renewal: None,
        };
        let mut looks = 0;
        loop {
            let session = self.session(&keys).await?;
            match reader.step(&session).await {
                Ok(Step::In(taken)) => return Ok(taken),
                Ok(Step::Again) => {}
                Ok(Step::Busy) => return Err(Refusal::Busy),
                Err(fault) => self.recover(fault, &session, &keys).await?,
            }
            looks += 1;
            if ask.attempt == Attempt::Try && looks == TRIES {
                return Err(Refusal::Busy);
            }
        }
    }
}

impl Reader<'_> {
    /// Looks, and does whatever brings the ask nearer to its hold.
    async fn step(&mut self, session: &Rc<Session>) -> Result<Step, Fault> {
        let Self { etcd, ask, keys, .. } = *self;
        let mut evictions = etcd.sessions.subscribe();
        let view = etcd.view(keys, &ask.owner, None).await?;
        if let Some(main) = &view.main {
            etcd.learn(ask, main);
        }
        let readers = view.main.as_ref().filter(|main| main.value() == SHARED);
        if let Some(reader) = &view.reader {
            // It came in already, but its renewal was not proven or its reply was lost.
            let created = reader.create_revision();
            return match readers.map(KeyValue::lease) {
                Some(common) => match self.renewal.filter(|renewal| renewal.lease == common) {
                    Some(renewal) if renewal.is_proven_by(view.header.as_ref()) => {
                        Ok(self.come_in(session, common, created, renewal.sent))
                    }
                    _ => self.renew(common, Some(created)).await,
                },
                None => self.withdraw(created).await,
            };
        }
        let may_enter = match &view.place {
            Some(_) => view.last.is_none(),
            None => view.last.is_none() && (view.main.is_none() || readers.is_some()),
        };
        if may_enter {
            if let Some(main) = readers {
                return self.join(session, main.lease(), view.place.as_ref()).await;
            }
            if view.main.is_none() {
                let left = self.back.see(view.gap.as_ref()).filter(|left| !left.is_zero());
                match (left, ask.attempt, &view.place) {
                    (Some(left), Attempt::Wait | Attempt::Steal, Some(_)) => {
                        let mut watcher = etcd.hub.watch(&etcd.link, &keys.main, false).await?;
                        pause(&mut watcher, &mut evictions, left).await;
                        return Ok(Step::Again);
                    }
                    // Whoever stands back does so in the queue.
                    (Some(_), Attempt::Wait | Attempt::Steal, None) => {}
                    (None, _, _) | (Some(_), Attempt::Try, _) => return self.open(session, &view).await,
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
                .and_then([TxnOp::put(&*place, self.value, Some(lease_of(session.lease)))]);
            etcd.first_message(&ask.owner, session.lease, None, txn).await?;
            return Ok(Step::Again);
        }
        // Until the place before ours goes or, with the first place, the exclusive holder.
        let target = |view: &View| {
            view.place.as_ref()?;
            let main = view.main.as_ref().filter(|main| main.value() != SHARED);
            view.last.as_ref().or(main).map(name)
        };
        let mut view = view;
        while let Some(change) = etcd
            .next_change(keys, &ask.owner, &mut view, target, &mut evictions)
            .await?
        {
            if change.value.is_none() {
                break;
            }
            view.revision = change.revision;
        }
        Ok(Step::Again)
    }

    /// The conditions under which a reader may come in that stands at `place` or, without one, has just arrived.
    fn at_my_turn(&self, place: Option<&KeyValue>) -> Compare {
        match place {
            Some(place) => self.keys.waits_since(&self.ask.owner, place.create_revision()),
            None => self.keys.nobody_waits(),
        }
    }

    /// Renews the common lease; a reader's key of revision `created` is of no use any more if that has ended.
    async fn renew(&mut self, common: i64, created: Option<i64>) -> Result<Step, Fault> {
        match (keep_alive(&self.etcd.link, common).await, created) {
            (Ok(renewal), _) => self.renewal = Some(renewal),
            (Err(Fault::LeaseGone), Some(created)) => return self.withdraw(created).await,
            (Err(Fault::LeaseGone), None) => {}
            (Err(fault), _) => return Err(fault),
        }
        Ok(Step::Again)
    }

    /// Comes in to the readers that are there, under the lease `common`.
    async fn join(&mut self, session: &Rc<Session>, common: i64, place: Option<&KeyValue>) -> Result<Step, Fault> {
        let owner = &self.ask.owner;
        self.renewal = None;
        self.renew(common, None).await?;
        let Some(renewal) = self.renewal else {
            return Ok(Step::Again);
        };
        let txn = Txn::new()
            .when([
                self.keys.main_is(SHARED),
                Compare::lease(&*self.keys.main, CompareOp::Equal, common),
                self.at_my_turn(place),
                self.keys.not_withdrawn(owner),
            ])
            .and_then([
                TxnOp::put(self.keys.reader(owner), self.value, Some(lease_of(session.lease))),
                TxnOp::delete(self.keys.place(owner), None),
            ]);
        let answer = self.etcd.first_message(owner, session.lease, None, txn).await?;
        let response = &answer.response;
        if response.succeeded() && renewal.is_proven_by(response.header()) {
            return Ok(self.come_in(session, common, answer.revision, renewal.sent));
        }
        Ok(Step::Again)
    }

    /// Comes in as the first reader.
    async fn open(&self, session: &Rc<Session>, view: &View) -> Result<Step, Fault> {
        let Self { etcd, ask, keys, .. } = *self;
        let owner = &ask.owner;
        let gap = view.gap.as_ref().map_or(0, KeyValue::mod_revision);
        let new = etcd.new_lease(etcd.ttl).await?;
        let (common, sent) = (new.number, new.sent);
        let txn = Txn::new()
            .when([
                keys.is_free(),
                keys.no_gap_but(gap),
                self.at_my_turn(view.place.as_ref()),
                keys.not_withdrawn(owner),
            ])
            .and_then([
                TxnOp::put(&*keys.main, SHARED, Some(lease_of(common))),
                TxnOp::put(keys.reader(owner), self.value, Some(lease_of(session.lease))),
                TxnOp::delete(keys.place(owner), None),
                TxnOp::delete(&*keys.gap, None),
            ]);
        // From now on others may live under it, should nobody hear of the answer. What becomes of it is seen when this one leaves.
        self.note(common);
        new.keep();
        let answer = etcd.first_message(owner, session.lease, None, txn).await?;
        if !answer.response.succeeded() {
            // Otherwise an earlier message of the same exchange may have come in, and the main key stand under this lease.
            if !etcd.unsure.borrow().contains_key(owner) {
                etcd.end_commons(owner, None);
            }
            return Ok(Step::Again);
        }
        Ok(self.come_in(session, common, answer.revision, sent))
    }

    /// Notes the grant, unless the session ended meanwhile and took the reader's key with it. `sent` is when the common lease
    /// was last asked for and renewed.
    fn come_in(&self, session: &Rc<Session>, common: i64, revision: i64, sent: Moment) -> Step {
        let Self { etcd, ask, .. } = *self;
        if !etcd.is_current(session) {
            return Step::Again;
        }
        self.note(common);
        let leased_at = session.renewed.get().min(sent);
        let kind = HoldKind::Shared { common };
        Step::In(etcd.granted(ask, session.lease, kind, revision, leased_at, Contention::None))
    }

    /// Remembers that this reader has to do with the lease `common` until it has left.
    fn note(&self, common: i64) {
        let new = || Commons {
            id: self.ask.id.clone(),
            leases: HashSet::new(),
        };
        let mut all = self.etcd.commons.borrow_mut();
        let commons = all.entry(self.ask.owner.clone()).or_insert_with(new);
        commons.leases.insert(common);
    }

    /// Takes back a reader's key, created at revision `created`, that the main key no longer covers. A later one stays,
    /// should this message arrive late.
    async fn withdraw(&self, created: i64) -> Result<Step, Fault> {
        let own = self.keys.reader(&self.ask.owner);
        let txn = Txn::new()
            .when([Compare::create_revision(&*own, CompareOp::Equal, created)])
            .and_then([TxnOp::delete(&*own, None)]);
        self.etcd.txn(txn).await?;
        Ok(Step::Again)
    }
}
