//! Looking at a lock, and waiting for the one key whose change matters.

use super::bundle::{pair, pairs, revision};
use super::fault::Fault;
use super::keys::{self, Keys, Part, SHARED, info_of, is_legacy};
use super::store::Etcd;
use super::watch::{Change, Watcher};
use crate::backend::{Ask, Info, Owner, Snapshot, Snapshots};
use etcd_client::{KeyValue, ResponseHeader, Txn, TxnOp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, sleep_until};

/// A waiter looks anew after this time even if it is told nothing.
const SAFETY_NET: Duration = Duration::from_secs(30);
/// A watch that begins in the same instant as a change is served up to 100 ms late; a waiter therefore looks a second time
/// after this.
const SECOND_LOOK: Duration = Duration::from_millis(5);
/// Pause after a watch broke, so that a server that refuses watches is not asked without end.
pub const MENDING: Duration = Duration::from_millis(20);

/// How many keys are read together where there may be many.
const PAGE: u32 = 1000;

/// What one read of a lock showed.
pub struct View {
    pub revision: i64,
    pub main: Option<KeyValue>,
    /// Our place in the queue.
    pub place: Option<KeyValue>,
    /// Our own shared hold.
    pub reader: Option<KeyValue>,
    /// The waiter just before our place; without a place, the last of all.
    pub last: Option<KeyValue>,
    /// The key that says that room is being made for 1.1.2.
    pub gap: Option<KeyValue>,
    /// For what is proven by it.
    pub header: Option<ResponseHeader>,
}

/// The keys of one lock that tell who holds and who waits.
#[derive(Default)]
struct Seen {
    main: Option<KeyValue>,
    readers: Vec<KeyValue>,
    waiters: Vec<KeyValue>,
}

/// What ended a pause.
pub enum Woken {
    Change(Change),
    /// Nothing is known: look anew.
    Unsure,
    /// The session ended, and with it our place.
    Evicted,
}

impl Etcd {
    /// Reads everything that decides about `owner`'s next step.
    pub async fn view(&self, keys: &Keys, owner: &Owner, place: Option<i64>) -> Result<View, Fault> {
        let mut place = place;
        loop {
            let txn = Txn::new().and_then([
                TxnOp::get(&*keys.main, None),
                TxnOp::get(keys.place(owner), None),
                TxnOp::get(keys.reader(owner), None),
                keys.last_waiters(1, place),
                TxnOp::get(&*keys.gap, None),
            ]);
            let response = self.read(txn).await?;
            let answers = response.op_responses();
            let own = pair(&answers, 1).cloned();
            let since = own.as_ref().map(KeyValue::create_revision);
            if since.is_some() && since != place {
                place = since;
                continue;
            }
            return Ok(View {
                revision: revision(&response),
                main: pair(&answers, 0).cloned(),
                place: own,
                reader: pair(&answers, 2).cloned(),
                last: pair(&answers, 3).cloned(),
                gap: pair(&answers, 4).cloned(),
                header: response.header().cloned(),
            });
        }
    }

    /// Who holds and who waits, by one read of all keys of the lock. A holder or waiter that is 1.1.2 shows as an exclusive holder
    /// of whom nothing is known, or not at all.
    pub async fn snapshot(&self, id: &str) -> Result<Snapshot, Fault> {
        let keys = Keys::new(id);
        let txn = Txn::new().and_then([TxnOp::get(&*keys.main, None), keys.all_readers(), keys.all_waiters()]);
        let response = self.read(txn).await?;
        let answers = response.op_responses();
        Ok(shown(pair(&answers, 0), pairs(&answers, 1), pairs(&answers, 2)))
    }

    /// The same for every lock, as of one revision.
    pub async fn snapshots(&self) -> Result<Snapshots, Fault> {
        let mut locks: BTreeMap<Arc<str>, Seen> = BTreeMap::new();
        let (mut from, mut as_of) = (keys::PROBE.as_bytes().to_vec(), 0);
        loop {
            let response = self.read(Txn::new().and_then([keys::every(from, as_of, PAGE)])).await?;
            if as_of == 0 {
                as_of = revision(&response);
            }
            let answers = response.op_responses();
            let found = pairs(&answers, 0);
            for pair in found {
                let key = name(pair);
                let Some((id, part)) = keys::part_of(&key) else {
                    continue;
                };
                let seen = locks.entry(id.into()).or_default();
                match part {
                    Part::Main => seen.main = Some(pair.clone()),
                    Part::Reader => seen.readers.push(pair.clone()),
                    Part::Place => seen.waiters.push(pair.clone()),
                }
            }
            match found.last() {
                Some(last) if found.len() >= PAGE as usize => from = [last.key(), b"\0"].concat(),
                _ => break,
            }
        }
        let snapshot = |(id, mut seen): (Arc<str>, Seen)| {
            seen.readers.sort_by_key(KeyValue::create_revision);
            seen.waiters.sort_by_key(KeyValue::create_revision);
            (id, shown(seen.main.as_ref(), &seen.readers, &seen.waiters))
        };
        Ok(locks.into_iter().map(snapshot).collect())
    }

    /// Waits for a change that `view` does not show of the key that `target` finds in it. `None` if it is to be looked at anew: nothing
    /// has changed for long, or another key matters now. The view is the latest one then.
    pub async fn next_change(
        &self,
        keys: &Keys,
        owner: &Owner,
        view: &mut View,
        target: impl Fn(&View) -> Option<String>,
        evictions: &mut Receiver<u64>,
    ) -> Result<Option<Change>, Fault> {
        let Some(key) = target(view) else { return Ok(None) };
        let mut watcher = self.hub.watch(&self.link, &key, false).await?;
        let mut limit = if watcher.since <= view.revision {
            SECOND_LOOK
        } else {
            Duration::ZERO
        };
        loop {
            match pause(&mut watcher, evictions, limit).await {
                Woken::Unsure if limit < SAFETY_NET && !watcher.is_broken() => {
                    limit = if limit.is_zero() { SECOND_LOOK } else { SAFETY_NET };
                    let place = view.place.as_ref().map(KeyValue::create_revision);
                    *view = self.view(keys, owner, place).await?;
                    if target(view).is_none_or(|now| now != key) {
                        return Ok(None);
                    }
                }
                // What the view has seen already.
                Woken::Change(change) if change.revision <= view.revision => {}
                Woken::Change(change) => return Ok(Some(change)),
                Woken::Unsure | Woken::Evicted => return Ok(None),
            }
        }
    }

    /// Remembers what the main key tells about the others.
    pub fn learn(&self, ask: &Ask, main: &KeyValue) {
        if is_legacy(main.value()) {
            self.demand.saw_legacy(&ask.id);
        } else {
            self.demand.saw_demand(&ask.id);
        }
    }
}

fn shown(main: Option<&KeyValue>, readers: &[KeyValue], waiters: &[KeyValue]) -> Snapshot {
    let held = match main {
        None => Vec::new(),
        Some(main) if main.value() == SHARED => readers.iter().map(reader).collect(),
        Some(main) => vec![info_of(main.value(), Some(main.mod_revision().unsigned_abs()))],
    };
    let pending = waiters.iter().map(|waiter| info_of(waiter.value(), None)).collect();
    Snapshot { held, pending }
}

fn reader(pair: &KeyValue) -> Info {
    info_of(pair.value(), Some(pair.create_revision().unsigned_abs()))
}

/// The name of a key that was read.
pub fn name(pair: &KeyValue) -> String {
    String::from_utf8_lossy(pair.key()).into_owned()
}

/// Waits for the next change, at most `limit`.
pub async fn pause(watcher: &mut Watcher, evictions: &mut Receiver<u64>, limit: Duration) -> Woken {
    let deadline = Instant::now() + limit;
    tokio::select! {
        change = watcher.next() => match change {
            Some(change) => Woken::Change(change),
            None => {
                sleep(MENDING).await;
                Woken::Unsure
            }
        },
        // The sender lives as long as the backend that waits here.
        _ = evictions.changed() => Woken::Evicted,
        () = sleep_until(deadline) => Woken::Unsure,
    }
}
