//! What a process learns about a lock while it holds it: that the hold is gone, and who comes next.
//!
//! A hold that lasts is watched, so that its loss is known at once and not with the next renewal. And whoever knows the
//! first waiter hands over in one transaction rather than two: a waiter that was first once stays first until it goes, so
//! the knowledge cannot be wrong, only outdated, and the transaction checks that. A hold that was waited for looks for its
//! successor at once, any other one after a moment; short uncontended holds cost nothing.

use super::fault::Fault;
use super::keys::Keys;
use super::note::{self, SHARED};
use super::session::{Hold, HoldKind};
use super::wait::MENDING;
use super::watch::{Change, Watcher};
use super::{Etcd, pair, revision};
use crate::backend::{Ask, Event, Owner, Taken};
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use etcd_client::{KeyValue, Txn, TxnOp};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::sleep;

/// A hold that lasts longer than this is watched.
const SHORT: Duration = Duration::from_millis(100);
/// Before another look when the server did not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// A first waiter: all that is needed to give it the lock.
#[derive(Debug, Clone)]
pub struct Heir {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub lease: i64,
    pub created: i64,
}

impl From<&KeyValue> for Heir {
    fn from(pair: &KeyValue) -> Self {
        Self {
            key: pair.key().to_vec(),
            value: pair.value().to_vec(),
            lease: pair.lease(),
            created: pair.create_revision(),
        }
    }
}

/// The task that watches a hold; dropping this ends it.
#[derive(Debug)]
pub struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How a hold came about, for what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contention {
    /// The lock was free.
    None,
    /// Others held it or waited: they may want it again.
    Likely,
}

impl Etcd {
    /// Notes the grant and begins to guard it.
    pub(super) fn granted(
        &self,
        ask: &Rc<Ask>,
        lease: i64,
        kind: HoldKind,
        revision: i64,
        leased_at: Moment,
        contention: Contention,
    ) -> Taken {
        if kind == HoldKind::Exclusive && contention == Contention::None {
            self.lore.saw_free(&ask.id);
        }
        let watch = watch_over(self.me.clone(), ask.clone(), kind, contention);
        let hold = Hold {
            id: ask.id.clone(),
            lease,
            kind,
            heir: None,
            _guard: Rc::new(Guard(tokio::task::spawn_local(watch).abort_handle())),
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
        let message = format!(
            "lock \"{}\" was lost: its key in etcd at {} is gone",
            hold.id,
            self.link.peer()
        );
        let error = Error::new(Kind::LockLost, message);
        // Nobody listens any more once the runtime is gone.
        let _ = self.context.events.send(Event::Lost {
            owner: owner.clone(),
            error,
        });
    }

    fn set_heir(&self, owner: &Owner, heir: Heir) {
        if let Some(hold) = self.holds.borrow_mut().get_mut(owner) {
            hold.heir = Some(heir);
        }
    }

    /// Watches of the main key and, whichever matters, of the own reader's key or of the queue.
    async fn watches(
        &self,
        keys: &Keys,
        owner: &Owner,
        kind: HoldKind,
    ) -> Result<(Watcher, Option<Watcher>, Option<Watcher>), Fault> {
        let main = self.hub.watch(&self.link, &keys.main, false).await?;
        let reader = match kind {
            HoldKind::Exclusive => None,
            HoldKind::Shared { .. } => Some(self.hub.watch(&self.link, &keys.reader(owner), false).await?),
        };
        let queue = match kind {
            HoldKind::Exclusive => Some(self.hub.watch(&self.link, keys.queue(), true).await?),
            HoldKind::Shared { .. } => None,
        };
        Ok((main, reader, queue))
    }

    /// The hold's own keys and the first waiter.
    async fn look_at_hold(&self, keys: &Keys, owner: &Owner) -> Result<Seen, Fault> {
        let txn = Txn::new().and_then([
            TxnOp::get(&*keys.main, None),
            TxnOp::get(keys.reader(owner), None),
            keys.first_waiters(1),
        ]);
        let response = self.read(txn).await?;
        let answers = response.op_responses();
        Ok(Seen {
            revision: revision(&response),
            main: pair(&answers, 0).cloned(),
            reader: pair(&answers, 1).cloned(),
            first: pair(&answers, 2).map(Heir::from),
        })
    }
}

struct Seen {
    revision: i64,
    main: Option<KeyValue>,
    reader: Option<KeyValue>,
    first: Option<Heir>,
}

impl Seen {
    fn shows(&self, kind: HoldKind, value: &[u8]) -> bool {
        let Some(main) = &self.main else { return false };
        match kind {
            HoldKind::Exclusive => main.value() == value,
            HoldKind::Shared { common } => main.value() == SHARED && main.lease() == common && self.reader.is_some(),
        }
    }
}

/// Runs as long as the hold. Keeps no backend alive while it only waits.
async fn watch_over(etcd: Weak<Etcd>, ask: Rc<Ask>, kind: HoldKind, contention: Contention) {
    let mut watching = Watching {
        keys: Keys::new(&ask.id),
        etcd,
        ask,
        kind,
    };
    // In a busy queue most holds are over before a watch of them would pay; one look finds the next waiter.
    if contention == Contention::None || matches!(watching.look().await, Some(Look::WithHeir(_))) {
        sleep(SHORT).await;
    }
    while watching.round().await.is_some() {
        sleep(MENDING).await;
    }
}

struct Watching {
    etcd: Weak<Etcd>,
    ask: Rc<Ask>,
    keys: Keys,
    kind: HoldKind,
}

/// A look, with its revision.
enum Look {
    WithHeir(i64),
    WithoutHeir(i64),
    Failed,
}

impl Watching {
    /// `None` when there is nothing left to guard.
    async fn look(&mut self) -> Option<Look> {
        let etcd = self.etcd.upgrade()?;
        let value = note::write(&self.ask, &etcd.context.identity);
        let Ok(seen) = etcd.look_at_hold(&self.keys, &self.ask.owner).await else {
            return Some(Look::Failed);
        };
        if !seen.shows(self.kind, &value) {
            etcd.hold_is_gone(&self.ask.owner);
            return None;
        }
        Some(match seen.first {
            Some(heir) => {
                etcd.set_heir(&self.ask.owner, heir);
                Look::WithHeir(seen.revision)
            }
            None => Look::WithoutHeir(seen.revision),
        })
    }

    /// Watches until something happens that needs another look; `None` when there is nothing left to guard.
    async fn round(&mut self) -> Option<()> {
        let etcd = self.etcd.upgrade()?;
        let watches = etcd.watches(&self.keys, &self.ask.owner, self.kind).await;
        drop(etcd);
        // Looking after the watches began leaves no gap.
        let (Ok((mut main, mut reader, mut queue)), look) = (watches, self.look().await?) else {
            sleep(PATIENCE).await;
            return Some(());
        };
        let looked = match look {
            Look::WithHeir(revision) => {
                queue = None;
                revision
            }
            Look::WithoutHeir(revision) => revision,
            Look::Failed => {
                sleep(PATIENCE).await;
                return Some(());
            }
        };
        loop {
            let (change, is_own) = tokio::select! {
                change = main.next() => (change, true),
                change = next_of(&mut reader) => (change, true),
                change = next_of(&mut queue) => (change, false),
            };
            match change {
                // What the look has seen already.
                Some(change) if change.revision <= looked => {}
                Some(change) if !is_own => {
                    if let Some(heir) = arrived(change) {
                        self.etcd.upgrade()?.set_heir(&self.ask.owner, heir);
                        queue = None;
                    }
                }
                // A watch broke, or one of our keys changed.
                Some(_) | None => return Some(()),
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
fn arrived(change: Change) -> Option<Heir> {
    Some(Heir {
        key: change.key,
        value: change.value?,
        lease: change.lease,
        created: change.created,
    })
}
