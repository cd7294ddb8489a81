//! What a process learns about a lock while it holds it: that the hold is gone, and who comes next.
//!
//! A hold that lasts is watched, so that its loss is known at once and not with the next renewal. And whoever knows the
//! first waiter hands over in one transaction rather than two: a waiter that was first once stays first until it goes, so
//! the knowledge cannot be wrong, only outdated, and the transaction checks that. A hold that was waited for looks for its
//! successor at once, any other one after a moment; short uncontended holds cost nothing.

use super::bundle::{pair, revision};
use super::fault::Fault;
use super::keys::{Keys, value_of};
use super::lease::{Hold, HoldKind, HoldWatch, Successor};
use super::store::Etcd;
use super::view::MENDING;
use super::watch::{Change, Watcher};
use crate::backend::{Ask, Owner, Taken};
use crate::core::time::Moment;
use etcd_client::{Txn, TxnOp};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::time::sleep;

/// A hold that lasts longer than this is watched.
const SHORT: Duration = Duration::from_millis(100);
/// Before another look when the server did not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a hold came about, for what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contention {
    /// The lock was free.
    None,
    /// Others held it or waited: they may want it again.
    Likely,
}

impl Etcd {
    /// Notes the grant and begins to watch it.
    pub fn granted(
        &self,
        ask: &Rc<Ask>,
        lease: i64,
        kind: HoldKind,
        revision: i64,
        leased_at: Moment,
        contention: Contention,
    ) -> Taken {
        if kind == HoldKind::Exclusive && contention == Contention::None {
            self.demand.saw_free(&ask.id);
        }
        let watch = watch_over(self.me.clone(), ask.clone(), kind, contention);
        let hold = Hold {
            id: ask.id.clone(),
            lease,
            kind,
            successor: None,
            _watch: Rc::new(HoldWatch(tokio::task::spawn_local(watch).abort_handle())),
        };
        self.holds.borrow_mut().insert(ask.owner.clone(), hold);
        Taken {
            token: ask.fenced.then_some(revision.unsigned_abs()),
            leased_at,
        }
    }

    /// Ends belief in a hold that the server no longer has, unless it is being given back.
    fn hold_is_gone(&self, owner: &Owner) {
        if self.leaving.borrow().contains(owner) {
            return;
        }
        let Some(hold) = self.holds.borrow_mut().remove(owner) else {
            return;
        };
        self.lose(owner.clone(), &hold, "its key is gone");
    }

    fn set_successor(&self, owner: &Owner, successor: Option<Successor>) {
        if let Some(hold) = self.holds.borrow_mut().get_mut(owner) {
            hold.successor = successor;
        }
    }

    /// Watches of the main key and of a reader's own key or, for the next in line, of the queue.
    async fn watches(&self, keys: &Keys, owner: &Owner, kind: HoldKind) -> Result<(Watcher, Watcher), Fault> {
        let main = self.hub.watch(&self.link, &keys.main, false).await?;
        let other = match kind {
            HoldKind::Exclusive => self.hub.watch(&self.link, keys.queue(), true).await?,
            HoldKind::Shared { .. } => self.hub.watch(&self.link, &keys.reader(owner), false).await?,
        };
        Ok((main, other))
    }
}

/// Runs as long as the hold. Keeps no backend alive while it only waits.
async fn watch_over(etcd: Weak<Etcd>, ask: Rc<Ask>, kind: HoldKind, contention: Contention) {
    let watching = Watching {
        keys: Keys::new(&ask.id),
        etcd,
        ask,
        kind,
    };
    // In a busy queue most holds are over before a watch of them would pay; one look finds the next waiter.
    if contention == Contention::None || matches!(watching.look().await, Some(Ok(look)) if look.has_successor) {
        sleep(SHORT).await;
    }
    while let Some(round) = watching.round().await {
        sleep(if round.is_ok() { MENDING } else { PATIENCE }).await;
    }
}

struct Watching {
    etcd: Weak<Etcd>,
    ask: Rc<Ask>,
    keys: Keys,
    kind: HoldKind,
}

struct Look {
    revision: i64,
    has_successor: bool,
}

impl Watching {
    /// Looks whether the hold stands, and who waits first. `None` when there is nothing left to watch.
    async fn look(&self) -> Option<Result<Look, Fault>> {
        let etcd = self.etcd.upgrade()?;
        let txn = Txn::new().and_then([
            TxnOp::get(&*self.keys.main, None),
            TxnOp::get(self.keys.reader(&self.ask.owner), None),
            self.keys.first_waiters(1),
        ]);
        let response = match etcd.read(txn).await {
            Ok(response) => response,
            Err(fault) => return Some(Err(fault)),
        };
        let answers = response.op_responses();
        let value = value_of(&self.ask, &etcd.context.identity);
        if !self.kind.stands(&value, pair(&answers, 0), pair(&answers, 1)) {
            etcd.hold_is_gone(&self.ask.owner);
            return None;
        }
        let first = pair(&answers, 2).map(Successor::from);
        let has_successor = first.is_some();
        etcd.set_successor(&self.ask.owner, first);
        Some(Ok(Look {
            revision: revision(&response),
            has_successor,
        }))
    }

    /// Watches until something happens that needs another look; `None` when there is nothing left to watch.
    async fn round(&self) -> Option<Result<(), Fault>> {
        let etcd = self.etcd.upgrade()?;
        let watches = etcd.watches(&self.keys, &self.ask.owner, self.kind).await;
        drop(etcd);
        // Looking after the watches began leaves no gap.
        let look = self.look().await?;
        let ((mut main, other), look) = match (watches, look) {
            (Ok(watches), Ok(look)) => (watches, look),
            (Err(fault), _) | (_, Err(fault)) => return Some(Err(fault)),
        };
        let is_shared = self.kind != HoldKind::Exclusive;
        let mut other = Some(other).filter(|_| is_shared || !look.has_successor);
        loop {
            let (change, is_own) = tokio::select! {
                change = main.next() => (change, true),
                change = next_of(&mut other) => (change, is_shared),
            };
            match change {
                // What the look has seen already.
                Some(change) if change.revision <= look.revision => {}
                Some(change) if !is_own => {
                    if let Some(successor) = arrived(change) {
                        self.etcd.upgrade()?.set_successor(&self.ask.owner, Some(successor));
                        other = None;
                    }
                }
                // A watch broke, or one of our keys changed.
                Some(_) | None => return Some(Ok(())),
            }
        }
    }
}

async fn next_of(watcher: &mut Option<Watcher>) -> Option<Change> {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

/// The first one that comes to an empty queue is the first waiter.
fn arrived(change: Change) -> Option<Successor> {
    Some(Successor {
        key: change.key,
        value: change.value?,
        lease: change.lease,
        created: change.created,
    })
}
