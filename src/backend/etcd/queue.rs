//! The way of an exclusive ask from its place in the queue to the main key.

use super::Etcd;
use super::fault::Fault;
use super::keys::{Keys, lease_of};
use super::room::StandBack;
use super::session::Session;
use super::wait::{SAFETY_NET, SECOND_LOOK, View, Woken, is_legacy, pause};
use super::watch::{Change, Watcher};
use super::{pair, revision};
use crate::backend::Ask;
use etcd_client::{GetOptions, KeyValue, Txn, TxnOp};
use std::time::Duration;

/// Between two looks at readers that are about to be gone.
const SOON: Duration = Duration::from_millis(200);

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

/// What a step led to.
enum Step {
    /// The main key is ours, since this revision.
    Granted(i64),
    /// The place in the queue is gone.
    Evicted,
    Look(Box<View>),
}

impl Waiter<'_> {
    /// Waits until the main key is ours and gives its revision; `None` when the place was lost.
    pub async fn run(mut self, first: View) -> Result<Option<i64>, Fault> {
        let mut view = first;
        loop {
            let target = |view: &View| self.target(view);
            let (latest, watcher) = self.etcd.watch_after(self.keys, &self.ask.owner, view, target).await?;
            if let Some(main) = &latest.main {
                if main.value() == self.value {
                    return Ok(Some(main.mod_revision()));
                }
                self.etcd.learn(self.ask, main);
            }
            let Some(place) = &latest.place else {
                return Ok(None);
            };
            if self
                .etcd
                .current()
                .is_none_or(|current| current.lease != self.session.lease)
            {
                return Ok(None);
            }
            let since = place.create_revision();
            let step = match watcher {
                Some(watcher) => self.wait(latest, watcher).await?,
                None if self.target(&latest).is_none() => self.claim(since).await?,
                None => Step::Look(Box::new(latest)),
            };
            view = match step {
                Step::Granted(revision) => return Ok(Some(revision)),
                Step::Evicted => return Ok(None),
                Step::Look(view) => *view,
            };
        }
    }

    /// The key to wait for: the place before ours, or the main key.
    fn target(&self, view: &View) -> Option<String> {
        view.place.as_ref()?;
        if let Some(before) = &view.last {
            return Some(String::from_utf8_lossy(before.key()).into_owned());
        }
        view.main
            .as_ref()
            .filter(|main| main.value() != self.value)
            .map(|_| self.keys.main.clone())
    }

    async fn wait(&mut self, mut view: View, mut watcher: Watcher) -> Result<Step, Fault> {
        let key = self.target(&view);
        let mut limit = SECOND_LOOK;
        loop {
            match pause(&mut watcher, &mut self.evictions, limit).await {
                Woken::Unsure if limit == SECOND_LOOK && !watcher.is_broken() => {
                    limit = SAFETY_NET;
                    let place = view.place.as_ref().map(KeyValue::create_revision);
                    view = self.etcd.view(self.keys, &self.ask.owner, place).await?;
                    if self.target(&view) != key {
                        return Ok(Step::Look(Box::new(view)));
                    }
                }
                // What the view has seen already.
                Woken::Change(change) if change.revision <= view.revision => {}
                Woken::Change(Change {
                    value: Some(now),
                    revision,
                    ..
                }) => {
                    if view.last.is_none() {
                        if now == self.value {
                            return Ok(Step::Granted(revision));
                        }
                        if is_legacy(&now) {
                            self.etcd.lore.saw_legacy(&self.ask.id);
                        }
                    }
                }
                Woken::Change(Change {
                    value: None, revision, ..
                }) if view.last.is_none() => {
                    view.main = None;
                    view.revision = revision;
                    return Ok(Step::Look(Box::new(view)));
                }
                Woken::Change(_) | Woken::Unsure => return self.look(&view).await,
                Woken::Evicted => return Ok(Step::Evicted),
            }
        }
    }

    async fn look(&self, view: &View) -> Result<Step, Fault> {
        let place = view.place.as_ref().map(KeyValue::create_revision);
        Ok(Step::Look(Box::new(
            self.etcd.view(self.keys, &self.ask.owner, place).await?,
        )))
    }

    /// Takes the main key, which did not exist when it was seen last. Our place was taken at `since`.
    async fn claim(&mut self, since: i64) -> Result<Step, Fault> {
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
            return Ok(Step::Granted(revision(&response)));
        }
        let answers = response.op_responses();
        let limit = match (pair(&answers, 0), pair(&answers, 1), pair(&answers, 2)) {
            // Somebody else was quicker.
            (Some(_), _, _) => None,
            (None, None, _) => return Ok(Step::Evicted),
            // Readers whose common lease has ended, but not yet their own: the key is gone, they may still believe.
            (None, Some(_), Some(_)) => Some(SOON),
            (None, Some(_), None) => self.back.see(pair(&answers, 3)),
        };
        if let Some(limit) = limit {
            let mut watcher = self.etcd.hub.watch(&self.etcd.link, &self.keys.main, false).await?;
            if let Woken::Evicted = pause(&mut watcher, &mut self.evictions, limit).await {
                return Ok(Step::Evicted);
            }
        }
        let view = self.etcd.view(self.keys, &self.ask.owner, Some(since)).await?;
        Ok(Step::Look(Box::new(view)))
    }
}
