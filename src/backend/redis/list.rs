//! All locks of the database. Redis has no list of them, and one that is kept up to date would cost every acquire something. So the keys are
//! walked, in pages that hold up the server no longer than any other command.

use super::Redis;
use super::answer::{array, text};
use super::info;
use super::script::{self, Call};
use crate::backend::Snapshots;
use crate::error::Result;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many keys the server looks at for one page.
const PAGE: usize = 1000;
/// How many locks are asked about together.
const TOGETHER: usize = 100;

impl Redis {
    /// Who holds and who waits for each lock. All of it goes by one connection, and fails with it.
    pub async fn snapshots(&self) -> Result<Snapshots> {
        let live = self.foreground.live().await?;
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut page = redis::cmd("SCAN");
            page.arg(&cursor)
                .arg("MATCH")
                .arg(script::EVERY_LOCK)
                .arg("COUNT")
                .arg(PAGE);
            let answer = self.foreground.ask(&live, &page, self.patience).await?;
            let Some([next, keys]) = array(&answer) else {
                return Err(self.peer.unexpected());
            };
            let (Some(next), Some(keys)) = (text(next), array(keys)) else {
                return Err(self.peer.unexpected());
            };
            // A lock has several keys, and a page may name a key again.
            let ids = keys.iter().filter_map(|key| script::lock_of(text(key)?));
            let fresh: Vec<Arc<str>> = ids
                .map(Arc::from)
                .filter(|id: &Arc<str>| seen.insert(id.clone()))
                .collect();
            for ids in fresh.chunks(TOGETHER) {
                let calls: Vec<Call<'_>> = ids.iter().map(|id| self.calls.query(id)).collect();
                let (_, values) = self.foreground.call_all(&live, &calls, self.patience).await?;
                for (id, value) in ids.iter().zip(&values) {
                    let snapshot = info::read(value).ok_or_else(|| self.peer.unexpected())?;
                    all.push((id.clone(), snapshot));
                }
            }
            if next == "0" {
                return Ok(all);
            }
            next.clone_into(&mut cursor);
        }
    }
}
