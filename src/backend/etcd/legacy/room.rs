//! Making room for 1.1.2 processes on the server, and standing back while it is made. Why and when: [`super`].
//!
//! | key | lease | who writes it |
//! |---|---|---|
//! | demand | one of its own, a minute long | the first release that finds somebody waiting; anew whenever room is made |
//! | gap | the demand key's, or the process's that is alone | a release that makes room; whoever takes the lock after it deletes it |
//!
//! A gap binds those who wait and those who come to wait, of all processes, whoever among them is the first. It ends for
//! each of them when it has seen it for the time that stands in it, so no clocks are compared. A `tryAcquire` that finds
//! nobody waiting takes the lock all the same: it is not there a moment later to be let in.

use super::{ALONE, Due, Mark, length, written_length};
use crate::backend::etcd::bundle::{pair, pairs, revision};
use crate::backend::etcd::fault::Fault;
use crate::backend::etcd::granting::NewLease;
use crate::backend::etcd::keys::{Keys, absent, info_of, lease_of};
use crate::backend::etcd::lease::{self, Successor};
use crate::backend::etcd::link::Connection;
use crate::backend::etcd::store::Etcd;
use crate::clock;
use crate::core::time::Moment;
use etcd_client::{Compare, CompareOp, KeyValue, LeaseTimeToLiveResponse, Txn, TxnOp};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the demand key's lease lives after demand was seen or room was made: releases that find others waiting less often
/// than this look at how long the first one has waited.
const REMEMBERED: Duration = Duration::from_secs(60);
/// How much later than its end a gap is deleted that nobody ended.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// Locks per read when everything is cleared away; etcd takes 128 operations in one transaction by default.
const LOCKS_PER_READ: usize = 40;

/// Room that a release makes, in its transaction.
pub struct Room {
    pub operations: Vec<TxnOp>,
    /// The lease, if it was granted for this.
    new: Option<NewLease>,
    length: Duration,
    began: Moment,
}

impl Etcd {
    /// What a release has to add in order to make room, if it is time. `demand` is the demand key as it is, `first` the
    /// first waiter, and the server took `exchange` for its last answer.
    pub async fn make_room(
        &self,
        id: &str,
        keys: &Keys,
        mark: Option<&KeyValue>,
        first: &Successor,
        exchange: Duration,
    ) -> Option<Room> {
        self.demand.saw_demand(id);
        match mark {
            Some(mark) => self.know(id, mark).await,
            // Releases are rare here. Wall clocks differ, and nothing depends on them but how often room is made.
            None if !has_waited(first, ALONE) => return None,
            None => {}
        }
        if mark.is_some() && self.demand.is_due(id) != Due::Yes {
            return None;
        }
        let began = clock::now();
        // Failures are of no interest: the next release tries again.
        let kept = match mark {
            Some(mark) => lease::keep_alive(&self.link, mark.lease()).await.map(|_| mark.lease()),
            None => Err(Fault::LeaseGone),
        };
        let (lease, new) = match kept {
            Ok(lease) => (lease, None),
            Err(_) => {
                let new = self.new_lease(REMEMBERED).await.ok()?;
                (new.number, Some(new))
            }
        };
        let length = length(exchange);
        Some(Room {
            operations: vec![
                TxnOp::put(&*keys.gap, length.as_millis().to_string(), Some(lease_of(lease))),
                TxnOp::put(&*keys.demand, "", Some(lease_of(lease))),
            ],
            new,
            length,
            began,
        })
    }

    /// The transaction with `room` in it was made, at `revision`.
    pub fn made_room(&self, id: &str, room: Room, revision: i64) {
        room.new.map(NewLease::keep);
        let began = room.began;
        self.demand.remember(id, Mark { revision, began });
        self.end_gap(Keys::new(id), revision, room.length);
    }

    /// Writes down that others wait from now on, if that does not stand there yet.
    pub async fn mark_demand(&self, id: &str, keys: &Keys) {
        let Ok(lease) = self.new_lease(REMEMBERED).await else {
            return;
        };
        let put = TxnOp::put(&*keys.demand, "", Some(lease_of(lease.number)));
        let txn = Txn::new().when([absent(&*keys.demand)]).and_then([put]);
        if let Ok(response) = self.txn(txn).await
            && response.succeeded()
        {
            let (revision, began) = (revision(&response), lease.sent);
            self.demand.remember(id, Mark { revision, began });
            lease.keep();
        }
    }

    /// Finds out since when the demand key counts, if it is not known.
    async fn know(&self, id: &str, mark: &KeyValue) {
        let revision = mark.mod_revision();
        if self.demand.mark(id).is_some_and(|mark| mark.revision == revision) {
            return;
        }
        let lease = mark.lease();
        let now = clock::now();
        let answer = self
            .link
            .call(async |to: Arc<Connection>| to.client.lease_client().time_to_live(lease, None).await)
            .await;
        if let Ok(answer) = answer {
            let began = now - age(&answer);
            self.demand.remember(id, Mark { revision, began });
        }
    }

    /// What a process adds to a release that nobody waits for, if it has to make room all the same.
    pub fn make_room_alone(&self, id: &str, keys: &Keys) -> Option<(TxnOp, Duration)> {
        if !self.demand.is_due_alone(id) {
            return None;
        }
        let lease = self.current()?.lease;
        let length = length(Duration::ZERO);
        let gap = TxnOp::put(&*keys.gap, length.as_millis().to_string(), Some(lease_of(lease)));
        Some((gap, length))
    }

    /// Deletes, later, a gap of this revision: those who waited for its end may be gone.
    pub fn end_gap(&self, keys: Keys, revision: i64, length: Duration) {
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            sleep(length + AFTERWARDS).await;
            if let Some(etcd) = me.upgrade() {
                let txn = Txn::new()
                    .when([Compare::mod_revision(&*keys.gap, CompareOp::Equal, revision)])
                    .and_then([TxnOp::delete(&*keys.gap, None)]);
                // If it fails, the key goes with its lease, or with the next one who waits.
                let _ = etcd.txn(txn).await;
            }
        });
    }

    /// Deletes what stands there of the demand for locks that nobody wants any more.
    pub async fn forget_demand(&self) -> Result<(), Fault> {
        for ids in self.demand.ids().chunks(LOCKS_PER_READ) {
            let all: Vec<Keys> = ids.iter().map(|id| Keys::new(id)).collect();
            let reads: Vec<TxnOp> = all
                .iter()
                .flat_map(|keys| {
                    [
                        TxnOp::get(&*keys.main, None),
                        keys.first_waiters(1),
                        TxnOp::get(&*keys.demand, None),
                    ]
                })
                .collect();
            let response = self.read(Txn::new().and_then(reads)).await?;
            let answers = response.op_responses();
            for at in (0..answers.len()).step_by(3) {
                let is_wanted = !pairs(&answers, at).is_empty() || !pairs(&answers, at + 1).is_empty();
                if let (false, Some(mark)) = (is_wanted, pair(&answers, at + 2)) {
                    // Somebody else may clear it away as well.
                    self.revoke_soon(mark.lease());
                }
            }
        }
        Ok(())
    }
}

/// How much of its life a lease has used up, in whole seconds.
fn age(answer: &LeaseTimeToLiveResponse) -> Duration {
    let used = answer.granted_ttl().saturating_sub(answer.ttl().max(0));
    Duration::from_secs(u64::try_from(used).unwrap_or(0))
}

fn has_waited(waiter: &Successor, limit: Duration) -> bool {
    let since = info_of(&waiter.value, None).since;
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    since.is_some_and(|since| clock::wall_ms().saturating_sub(since) >= limit)
}

/// The gap that a waiter has seen, and until when it stands back.
#[derive(Debug, Default)]
pub struct StandBack(Option<(i64, Instant)>);

impl StandBack {
    /// Sees the gap's key, or that there is none; gives how long there still is to wait.
    pub fn see(&mut self, gap: Option<&KeyValue>) -> Option<Duration> {
        let Some(gap) = gap else {
            self.0 = None;
            return None;
        };
        let now = Instant::now();
        let revision = gap.mod_revision();
        let until = match self.0 {
            Some((known, until)) if known == revision => until,
            _ => now + written_length(gap.value()),
        };
        self.0 = Some((revision, until));
        Some(until.saturating_duration_since(now))
    }

    /// The revision of a gap whose time is over; 0 without one.
    pub fn passed(&self) -> i64 {
        match self.0 {
            Some((revision, until)) if until <= Instant::now() => revision,
            _ => 0,
        }
    }
}
