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
use std::time::Duration;

impl Etcd {
    /// Idempotent: what an ask left is recognised by its owner. A repeated message that finds nothing any more means
    /// success, if nothing else can have taken the hold away.
    pub async fn give_back(&self, ask: &Ask) -> Result<Released, Fault> {
        let owner = &ask.owner;
        let keys = Keys::new(&ask.id);
        let repeated = !self.leaving.borrow_mut().insert(owner.clone());
        let value = value_of(ask, &self.context.identity);
        let found = match ask.mode {
            Mode::Exclusive => self.free(ask, &keys, &value).await,
            Mode::Shared => self.leave(&ask.id, owner, self.tomb_lease(owner)).await,
        };
        let found = match found {
            Err(Fault::Full(full)) => self.only_delete(ask, &keys, &value, full).await?,
            other => other?,
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

    /// The lease for a tombstone, if the ask needs one: a message that is still on its way can only do harm under the
    /// lease that it carries.
    fn tomb_lease(&self, owner: &Owner) -> Option<i64> {
        let lease = self.unsure.borrow().get(owner).copied()?;
        self.current().filter(|session| session.lease == lease).map(|_| lease)
    }

    /// Who comes next, if that is known and nothing speaks against handing over.
    fn known_successor(&self, ask: &Ask) -> Option<Successor> {
        let hold = self.holds.borrow();
        let hold = hold.get(&ask.owner)?;
        let successor = hold.successor.clone()?;
        (self.demand.is_due(&ask.id) == Due::No).then_some(successor)
    }

    async fn free(&self, ask: &Ask, keys: &Keys, value: &[u8]) -> Result<Found, Fault> {
        let owner = &ask.owner;
        let mut again = false;
        let mut successor = self.known_successor(ask);
        let mut alone = self.make_room_alone(&ask.id, keys);
        if successor.is_none()
            && alone.is_none()
            && self.tomb_lease(owner).is_none()
            && !self.demand.is_in_demand(&ask.id)
        {
            let txn = Txn::new()
                .when([keys.main_is(value), keys.nobody_waits()])
                .and_then([TxnOp::delete(&*keys.main, None)]);
            let (answer, repeated) = self.bundled(&ask.id, txn).await?;
            if answer.response.succeeded() {
                self.demand.saw_release(&ask.id);
                return Ok(Found::Hold);
            }
            again = repeated;
        }
        loop {
            let tombstone = self.tomb_lease(owner).map(|lease| keys.put_tombstone(owner, lease));
            let gap = alone.as_ref().map(|(gap, _)| gap.clone());
            let unless_wanted = Txn::new()
                .when([keys.nobody_waits()])
                .and_then(with(vec![TxnOp::delete(&*keys.main, None)], gap))
                .or_else([TxnOp::get(&*keys.demand, None), keys.first_waiters(1)]);
            let best = match &successor {
                None => unless_wanted,
                Some(successor) => pass(keys, vec![still_waits(successor)], vec![], successor, None)
                    .or_else([TxnOp::txn(unless_wanted)]),
            };
            let txn = Txn::new()
                .when([keys.main_is(value)])
                .and_then(with(vec![TxnOp::txn(best)], tombstone.clone()))
                .or_else(with(vec![TxnOp::delete(keys.place(owner), None)], tombstone));
            let sent = clock::now();
            let (response, repeated) = match self.counted(txn).await {
                // The waiter's, and its place goes with it; or that of the tombstone, and what it was to stop cannot succeed
                // any more either.
                Err(Fault::LeaseGone) if successor.is_some() => {
                    successor = None;
                    continue;
                }
                Err(Fault::LeaseGone) => {
                    self.unsure.borrow_mut().remove(owner);
                    alone = None;
                    continue;
                }
                other => other?,
            };
            let exchange = clock::now().since(sent);
            again |= repeated;
            if !response.succeeded() {
                return Ok(Found::Nothing { repeated: again });
            }
            let Some(mut inner) = inner_of(&response) else { continue };
            if successor.take().is_some() {
                if inner.succeeded() {
                    return Ok(Found::Hold);
                }
                let Some(innermost) = inner_of(&inner) else { continue };
                inner = innermost;
            }
            if inner.succeeded() {
                if let Some((_, length)) = alone {
                    self.demand.made_room(&ask.id);
                    self.end_gap(Keys::new(&ask.id), revision(&response), length);
                }
                self.demand.saw_release(&ask.id);
                return Ok(Found::Hold);
            }
            let answers = inner.op_responses();
            let conditions = vec![keys.main_is(value)];
            let (passed, repeated) = self
                .pass_on(
                    &ask.id,
                    keys,
                    conditions,
                    vec![],
                    [pair(&answers, 0), pair(&answers, 1)],
                    exchange,
                )
                .await?;
            again |= repeated;
            if passed {
                return Ok(Found::Hold);
            }
        }
    }

    /// A full server takes nothing but what deletes: the lock is freed without being handed over. A tombstone that cannot be put yet
    /// is to be put by the next try.
    async fn only_delete(&self, ask: &Ask, keys: &Keys, value: &[u8], full: Error) -> Result<Found, Fault> {
        let own = keys.reader(&ask.owner);
        let main = TxnOp::delete(&*keys.main, None);
        let (held, delete) = match ask.mode {
            Mode::Exclusive => (vec![keys.main_is(value)], vec![main]),
            Mode::Shared => (last_reader(keys, &ask.owner), vec![main, TxnOp::delete(&*own, None)]),
        };
        let rest = [TxnOp::delete(&*own, None), TxnOp::delete(keys.place(&ask.owner), None)];
        let txn = Txn::new().when(held).and_then(delete).or_else(rest);
        let (response, repeated) = self.counted(txn).await?;
        if self.tomb_lease(&ask.owner).is_some() {
            return Err(Fault::Full(full));
        }
        Ok(if has_deleted(&response) {
            Found::Hold
        } else {
            Found::Nothing { repeated }
        })
    }

    /// Gives the lock to the first waiter, or makes room before it, as long as `conditions` hold; `seen` are the demand's key and
    /// the first waiter's. Gives whether that was done, and whether a message may have arrived twice.
    async fn pass_on(
        &self,
        id: &str,
        keys: &Keys,
        mut conditions: Vec<Compare>,
        extra: Vec<TxnOp>,
        seen: [Option<&KeyValue>; 2],
        exchange: Duration,
    ) -> Result<(bool, bool), Fault> {
        let [demand, Some(first)] = seen else {
            return Ok((false, false));
        };
        let first = Successor::from(first);
        let room = self.make_room(id, keys, demand, &first, exchange).await;
        conditions.push(still_waits(&first));
        let txn = pass(keys, conditions, extra, &first, room.as_ref());
        let result = match self.counted(txn).await {
            // The waiter's lease: its place goes with it, and the next look finds another.
            Err(Fault::LeaseGone) => Ok((false, false)),
            Err(fault) => Err(fault),
            Ok((response, repeated)) => {
                if response.succeeded() {
                    match (&room, demand) {
                        (Some(room), _) => self.made_room(id, room, revision(&response)),
                        (None, None) => self.mark_demand(id, keys).await,
                        (None, Some(_)) => {}
                    }
                }
                Ok((response.succeeded(), repeated))
            }
        };
        if let (Some(room), Ok((false, _)) | Err(_)) = (&room, &result) {
            self.made_no_room(room);
        }
        result
    }

    /// A reader leaves; the last one frees the lock or hands it over.
    pub async fn leave(&self, id: &str, owner: &Owner, tomb: Option<i64>) -> Result<Found, Fault> {
        let keys = &Keys::new(id);
        let mut tomb = tomb;
        let mut again = false;
        let own = keys.reader(owner);
        loop {
            let tombstone = tomb.map(|lease| keys.put_tombstone(owner, lease));
            let unless_wanted = Txn::new()
                .when([keys.nobody_waits()])
                .and_then([TxnOp::delete(&*own, None), TxnOp::delete(&*keys.main, None)])
                .or_else([TxnOp::get(&*keys.demand, None), keys.first_waiters(1)]);
            let txn = Txn::new()
                .when(last_reader(keys, owner))
                .and_then(with(
                    vec![TxnOp::get(&*keys.main, None), TxnOp::txn(unless_wanted)],
                    tombstone.clone(),
                ))
                .or_else(with(
                    vec![TxnOp::delete(&*own, None), TxnOp::delete(keys.place(owner), None)],
                    tombstone,
                ));
            let sent = clock::now();
            let (response, repeated) = match self.counted(txn).await {
                Err(Fault::LeaseGone) => {
                    tomb = None;
                    continue;
                }
                other => other?,
            };
            let exchange = clock::now().since(sent);
            again |= repeated;
            let answers = response.op_responses();
            if !response.succeeded() {
                return Ok(if has_deleted(&response) {
                    Found::Hold
                } else {
                    Found::Nothing { repeated: again }
                });
            }
            let common = pair(&answers, 0).map_or(0, KeyValue::lease);
            let Some(TxnOpResponse::Txn(inner)) = answers.get(1) else {
                continue;
            };
            if inner.succeeded() {
                self.revoke_soon(common);
                return Ok(Found::Hold);
            }
            let waiting = inner.op_responses();
            let seen = [pair(&waiting, 0), pair(&waiting, 1)];
            let extra = vec![TxnOp::delete(&*own, None)];
            let (passed, repeated) = self
                .pass_on(id, keys, last_reader(keys, owner), extra, seen, exchange)
                .await?;
            again |= repeated;
            if passed {
                self.revoke_soon(common);
                return Ok(Found::Hold);
            }
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

/// The conditions under which `owner` reads alone.
fn last_reader(keys: &Keys, owner: &Owner) -> Vec<Compare> {
    let [before, after] = keys.nobody_else_reads(owner);
    vec![keys.main_is(SHARED), present(keys.reader(owner)), before, after]
}

/// Whether the first operation of a transaction deleted anything.
fn has_deleted(response: &TxnResponse) -> bool {
    matches!(response.op_responses().first(), Some(TxnOpResponse::Delete(gone)) if gone.deleted() > 0)
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

/// Gives the main key to `first`, if it wants it alone and no room is to be made for 1.1.2. Otherwise the key goes, and
/// `first` takes what it needs.
fn pass(keys: &Keys, conditions: Vec<Compare>, extra: Vec<TxnOp>, first: &Successor, room: Option<&Room>) -> Txn {
    let wants_it_alone = mode_of(&first.value) == Some(Mode::Exclusive) && first.lease != 0;
    let mut operations = extra;
    if wants_it_alone && room.is_none() {
        operations.push(TxnOp::put(&*keys.main, &*first.value, Some(lease_of(first.lease))));
        operations.push(TxnOp::delete(&*first.key, None));
    } else {
        operations.push(TxnOp::delete(&*keys.main, None));
        operations.extend(room.into_iter().flat_map(|room| room.operations.iter().cloned()));
    }
    Txn::new().when(conditions).and_then(operations)
}
