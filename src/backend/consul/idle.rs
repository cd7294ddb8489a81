//! Leader keys that nobody has locked: deleted, but never under the eyes of a 1.1.2 process.
//!
//! A 1.1.2 process reads the leader key after it was refused it, and its `acquire()` rejects when there is no such key. It
//! is refused only while the key is locked, so a while after the key was unlocked none of them is reading it any more:
//! they wait half a second and try to lock it, which makes it anew where need be.

use super::http::Lane;
use super::keys;
use super::session;
use super::store::Consul;
use super::txn::{self, Op, Outcome};
use crate::clock;
use crate::core::time::Moment;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How long an unlocked leader key is left alone.
const REST: Duration = Duration::from_secs(2);

/// The leader keys that this process was the last to unlock.
#[derive(Debug, Default)]
pub struct Idle(HashMap<Arc<str>, Left>);

#[derive(Debug)]
struct Left {
    index: u64,
    since: Moment,
    /// For 1.1.2 processes, not for this one to take again.
    room: bool,
}

impl Idle {
    pub fn insert(&mut self, id: Arc<str>, index: u64, room: bool) {
        let since = clock::now();
        self.0.insert(id, Left { index, since, room });
    }

    /// The index at which the key was left unlocked, if this process left it for anybody.
    pub fn take(&mut self, id: &str) -> Option<u64> {
        if self.0.get(id)?.room {
            return None;
        }
        self.0.remove(id).map(|left| left.index)
    }

    fn rested(&mut self) -> Vec<(Arc<str>, u64)> {
        let now = clock::now();
        let rested: Vec<_> = self
            .0
            .iter()
            .filter(|(_, left)| now.since(left.since) >= REST)
            .map(|(id, left)| (id.clone(), left.index))
            .collect();
        for (id, _) in &rested {
            self.0.remove(id);
        }
        rested
    }
}

impl Consul {
    /// Deletes, in the background, the leader keys that have been left unlocked for a while.
    pub fn tidy(&self) {
        let rested = self.idle.borrow_mut().rested();
        if rested.is_empty() {
            return;
        }
        if let Some(consul) = self.strong() {
            self.errands.run(async move { consul.delete(rested).await });
        }
    }

    /// Deletes each of these keys if it still is as it was left.
    async fn delete(&self, mut left: Vec<(Arc<str>, u64)>) {
        while !left.is_empty() {
            let batch: Vec<_> = left.drain(..left.len().min(txn::MOST)).collect();
            let ops: Vec<Op> = batch
                .iter()
                .map(|(id, index)| Op::DeleteAt(keys::leader(id), *index))
                .collect();
            match self.link.txn(Lane::Call, &ops).await {
                Ok(Outcome::Done(_)) => {}
                // Those that were written since are somebody else's now.
                Ok(Outcome::Refused(why)) if !why.is_empty() => {
                    let gone: HashSet<usize> = why.iter().map(|objection| objection.op_index).collect();
                    let rest = batch.into_iter().enumerate().filter(|(at, _)| !gone.contains(at));
                    left.extend(rest.map(|(_, entry)| entry));
                }
                // An unlocked key does no harm.
                _ => return,
            }
        }
    }

    /// Deletes those that no 1.1.2 process has a session for.
    pub async fn tidy_all(&self) {
        let idle: Vec<_> = self.idle.borrow_mut().0.drain().collect();
        if !idle.is_empty()
            && let Some(names) = session::names(&self.link).await
        {
            let unwatched = idle
                .into_iter()
                .filter(|(id, _)| !names.contains(&keys::legacy_session(id)))
                .map(|(id, left)| (id, left.index))
                .collect();
            self.delete(unwatched).await;
        }
    }
}
