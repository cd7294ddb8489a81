//! Giving back: frees the lock, hands it over, or leaves the queue; whichever it is, the server decides.

use super::bundle::{pair, revision};
use super::fault::Fault;
use super::keys::{Keys, SHARED, lease_of, mode_of, present, value_of};
use super::lease::Successor;
use super::legacy::{Due, room::Room};
use super::store::Etcd;
use crate::backend::{Ask, Owner, Released};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::Error;
use etcd_client::{Compare, CompareOp, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};
use std::sync::Arc;
use std::time::Duration;

/// An ask that leaves.
struct Leaving<'a> {
    etcd: &'a Etcd,
    id: &'a Arc<str>,
    owner: &'a Owner,
    mode: Mode,
    keys: Keys,
    /// The conditions under which the main key goes with it: it is the holder, or the last reader.
    held: Vec<Compare>,
    /// What else goes then.
    own: Vec<TxnOp>,
    /// What goes otherwise.
    rest: Vec<TxnOp>,
}

impl Etcd {
    /// Idempotent: what an ask left is recognised by its owner. A repeated message that finds nothing any more means
    /// success, if nothing else can have taken the hold away.
    pub async fn give_back(&self, ask: &Ask) -> Result<Released, Fault> {
        let owner = &ask.owner;
        self.first_message_ended(owner).await;
        let repeated = !self.leaving.borrow_mut().insert(owner.clone());
        let found = match ask.mode {
            Mode::Exclusive => {
                let value = value_of(ask, &self.context.identity);
                self.leave(Leaving::holder(self, &ask.id, owner, &value)).await?
            }
            Mode::Shared => self.leave_readers(&ask.id, owner).await?,
        };
        let believed = self.holds.borrow_mut().remove(owner).is_some();
        self.unsure.borrow_mut().remove(owner);
        self.leaving.borrow_mut().remove(owner);
        Ok(match found {
            Found::Hold => Released::Freed,
            Found::Nothing { repeated: again } if believed && (repeated || again) => Released::Freed,
            Found::Nothing { .. } => Released::NotHeld,
        })
    }

    /// A reader leaves; the last one frees the lock or hands it over.
    pub async fn leave_readers(&self, id: &Arc<str>, owner: &Owner) -> Result<Found, Fault> {
        self.leave(Leaving::reader(self, id, owner)).await
    }

    async fn leave(&self, leaving: Leaving<'_>) -> Result<Found, Fault> {
        match leaving.run().await {
            Err(Fault::Full(full)) => leaving.only_delete(full).await,
            other => other,
        }
    }

    /// Ends the common leases that this reader, who has left, was under, but for the one that others are `still` under. Only who
    /// brought a common lease puts the main key under it, and can no longer do so.
    pub fn end_commons(&self, owner: &Owner, still: Option<i64>) {
        let left = self.commons.borrow_mut().remove(owner);
        for lease in left.into_iter().flat_map(|commons| commons.leases) {
            if Some(lease) != still {
                self.revoke_soon(lease);
            }
        }
    }

    /// The lease for a tombstone, if the ask needs one: a message that is still on its way can only do harm under the
    /// lease that it carries.
    fn tomb_lease(&self, owner: &Owner) -> Option<i64> {
        let lease = self.unsure.borrow().get(owner).copied()?;
        self.current().filter(|session| session.lease == lease).map(|_| lease)
    }

    /// Who comes next, if that is known and nothing speaks against handing over.
    fn known_successor(&self, owner: &Owner) -> Option<Successor> {
        let hold = self.holds.borrow();
        let hold = hold.get(owner)?;
        let successor = hold.successor.clone()?;
        (self.demand.is_due(&hold.id) == Due::No).then_some(successor)
    }
}

impl<'a> Leaving<'a> {
    fn holder(etcd: &'a Etcd, id: &'a Arc<str>, owner: &'a Owner, value: &[u8]) -> Self {
        let keys = Keys::new(id);
        Self {
            etcd,
            id,
            owner,
            mode: Mode::Exclusive,
            held: vec![keys.main_is(value)],
            own: vec![],
            rest: vec![TxnOp::delete(keys.place(owner), None)],
            keys,
        }
    }

    fn reader(etcd: &'a Etcd, id: &'a Arc<str>, owner: &'a Owner) -> Self {
        let keys = Keys::new(id);
        let [before, after] = keys.nobody_else_reads(owner);
        let own = TxnOp::delete(keys.reader(owner), None);
        Self {
            etcd,
            id,
            owner,
            mode: Mode::Shared,
            held: vec![keys.main_is(SHARED), present(keys.reader(owner)), before, after],
            own: vec![own.clone()],
            rest: vec![
                own,
                TxnOp::delete(keys.place(owner), None),
                TxnOp::get(&*keys.main, None),
            ],
            keys,
        }
    }

    async fn run(&self) -> Result<Found, Fault> {
        let Self {
            etcd, id, owner, keys, ..
        } = self;
        let is_exclusive = self.mode == Mode::Exclusive;
        let mut again = false;
        let mut successor = etcd.known_successor(owner);
        let mut alone = etcd.make_room_alone(id, keys).filter(|_| is_exclusive);
        let may_be_wanted = successor.is_some() || alone.is_some() || etcd.demand.is_in_demand(id);
        if is_exclusive && !may_be_wanted && etcd.tomb_lease(owner).is_none() {
            let conditions = self.held.iter().cloned().chain([keys.nobody_waits()]);
            let txn = Txn::new()
                .when(conditions.collect::<Vec<_>>())
                .and_then([TxnOp::delete(&*keys.main, None)]);
            let (answer, repeated) = etcd.bundled(id, txn).await?;
            if answer.response.succeeded() {
                return Ok(self.freed());
            }
            again = repeated;
        }
        loop {
            let tombstone = etcd.tomb_lease(owner).map(|lease| keys.put_tombstone(owner, lease));
            let gap = alone.as_ref().map(|(gap, _)| gap.clone());
            let unless_wanted = Txn::new()
                .when([keys.nobody_waits()])
                .and_then(with(self.all(), gap))
                .or_else([TxnOp::get(&*keys.demand, None), keys.first_waiters(1)]);
            let best = match &successor {
                None => unless_wanted,
                Some(successor) => self
                    .pass(vec![still_waits(successor)], successor, None)
                    .or_else([TxnOp::txn(unless_wanted)]),
            };
            let txn = Txn::new()
                .when(self.held.clone())
                .and_then(with(vec![TxnOp::txn(best)], tombstone.clone()))
                .or_else(with(self.rest.clone(), tombstone));
            let sent = clock::now();
            let (response, repeated) = match etcd.counted(txn).await {
                // The waiter's, and its place goes with it; or that of the tombstone, and what it was to stop cannot succeed
                // any more either.
                Err(Fault::LeaseGone) if successor.is_some() => {
                    successor = None;
                    continue;
                }
                Err(Fault::LeaseGone) => {
                    etcd.unsure.borrow_mut().remove(*owner);
                    alone = None;
                    continue;
                }
                other => other?,
            };
            let exchange = clock::now().since(sent);
            again |= repeated;
            if !response.succeeded() {
                return Ok(self.found(&response, again));
            }
            let Some(mut inner) = inner_of(&response) else { continue };
            if successor.take().is_some() {
                if inner.succeeded() {
                    return Ok(self.handed_over());
                }
                let Some(innermost) = inner_of(&inner) else { continue };
                inner = innermost;
            }
            if inner.succeeded() {
                if let Some((_, length)) = alone {
                    etcd.demand.made_room(id);
                    etcd.end_gap(Keys::new(id), revision(&response), length);
                }
                return Ok(self.freed());
            }
            let answers = inner.op_responses();
            if let Some(first) = pair(&answers, 1) {
                let (passed, repeated) = self.pass_on(pair(&answers, 0), first, exchange).await?;
                again |= repeated;
                if passed {
                    return Ok(self.handed_over());
                }
            }
        }
    }

    /// A full server takes nothing but what deletes: the lock is freed without being handed over. A tombstone that cannot be put yet
    /// is to be put by the next try.
    async fn only_delete(&self, full: Error) -> Result<Found, Fault> {
        let txn = Txn::new()
            .when(self.held.clone())
            .and_then(self.all())
            .or_else(self.rest.clone());
        let (response, repeated) = self.etcd.counted(txn).await?;
        if self.etcd.tomb_lease(self.owner).is_some() {
            return Err(Fault::Full(full));
        }
        Ok(self.found(&response, repeated))
    }

    /// Gives the lock to the `first` waiter, or makes room before it; `demand` is the demand's key. Gives whether that was done, and
    /// whether a message may have arrived twice.
    async fn pass_on(
        &self,
        demand: Option<&KeyValue>,
        first: &KeyValue,
        exchange: Duration,
    ) -> Result<(bool, bool), Fault> {
        let Self { etcd, id, keys, .. } = self;
        let first = Successor::from(first);
        let room = etcd.make_room(id, keys, demand, &first, exchange).await;
        let mut conditions = self.held.clone();
        conditions.push(still_waits(&first));
        match etcd.counted(self.pass(conditions, &first, room.as_ref())).await {
            // The waiter's lease: its place goes with it, and the next look finds another.
            Err(Fault::LeaseGone) => Ok((false, false)),
            Err(fault) => Err(fault),
            Ok((response, repeated)) => {
                if response.succeeded() {
                    match (room, demand) {
                        (Some(room), _) => etcd.made_room(id, room, revision(&response)),
                        (None, None) => etcd.mark_demand(id, keys).await,
                        (None, Some(_)) => {}
                    }
                }
                Ok((response.succeeded(), repeated))
            }
        }
    }

    /// Gives the main key to `first`, if it wants it alone and no room is to be made for 1.1.2. Otherwise the key goes, and
    /// `first` takes what it needs.
    fn pass(&self, conditions: Vec<Compare>, first: &Successor, room: Option<&Room>) -> Txn {
        let wants_it_alone = mode_of(&first.value) == Some(Mode::Exclusive) && first.lease != 0;
        let operations = if wants_it_alone && room.is_none() {
            let main = TxnOp::put(&*self.keys.main, &*first.value, Some(lease_of(first.lease)));
            let place = TxnOp::delete(&*first.key, None);
            self.own.iter().cloned().chain([main, place]).collect()
        } else {
            let room = room.into_iter().flat_map(|room| room.operations.iter().cloned());
            self.all().into_iter().chain(room).collect::<Vec<_>>()
        };
        Txn::new().when(conditions).and_then(operations)
    }

    /// Deletes all that a hold consists of.
    fn all(&self) -> Vec<TxnOp> {
        with(self.own.clone(), Some(TxnOp::delete(&*self.keys.main, None)))
    }

    fn freed(&self) -> Found {
        self.etcd.demand.saw_release(self.id);
        self.handed_over()
    }

    /// Nobody needs the lease of the readers any more.
    fn handed_over(&self) -> Found {
        self.etcd.end_commons(self.owner, None);
        Found::Hold
    }

    /// What was found if the main key did not go with the ask: perhaps a reader of several.
    fn found(&self, response: &TxnResponse, repeated: bool) -> Found {
        let answers = response.op_responses();
        self.etcd
            .end_commons(self.owner, pair(&answers, 2).map(KeyValue::lease));
        let has_deleted = matches!(answers.first(), Some(TxnOpResponse::Delete(gone)) if gone.deleted() > 0);
        if has_deleted && (response.succeeded() || self.mode == Mode::Shared) {
            Found::Hold
        } else {
            Found::Nothing { repeated }
        }
    }
}

/// What a release found on the server.
pub enum Found {
    Hold,
    /// No hold; `repeated` if an earlier message of the same release may have ended it.
    Nothing {
        repeated: bool,
    },
}

fn with(mut operations: Vec<TxnOp>, more: Option<TxnOp>) -> Vec<TxnOp> {
    operations.extend(more);
    operations
}

fn still_waits(waiter: &Successor) -> Compare {
    Compare::create_revision(&*waiter.key, CompareOp::Equal, waiter.created)
}

/// The first operation of a transaction, if it was one itself.
fn inner_of(response: &TxnResponse) -> Option<TxnResponse> {
    match response.op_responses().into_iter().next() {
        Some(TxnOpResponse::Txn(inner)) => Some(inner),
        _ => None,
    }
}
