//! Who holds and who waits, for whoever asks: as the server knows them, then those who still wait inside this process.

use super::entry::Entry;
use crate::backend::{Attempt, Info, Snapshot, Snapshots};
use crate::error::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everybody at lock `id`.
pub async fn one(entry: &Entry, id: Arc<str>) -> Result<Snapshot> {
    let mut snapshot = entry.backend.query(id.clone()).await?;
    snapshot.pending.extend(waiting_inside(entry, &id));
    Ok(snapshot)
}

/// Everybody at every lock of the server, in the order of the ids; `known` are those of this process.
pub async fn all(entry: &Entry, known: BTreeSet<Arc<str>>) -> Result<Snapshots> {
    let mut all: BTreeMap<_, _> = entry.backend.list(known.clone()).await?.into_iter().collect();
    for id in known {
        let waiting = waiting_inside(entry, &id);
        all.entry(id).or_default().pending.extend(waiting);
    }
    Ok(all.into_iter().filter(|(_, snapshot)| !snapshot.is_empty()).collect())
}

fn waiting_inside<'a>(entry: &'a Entry, id: &str) -> impl Iterator<Item = Info> + use<'a> {
    let waiting = entry.waiting_inside(id).into_iter();
    // A try that is about to be answered does not wait for the lock.
    let waiting = waiting.filter(|request| request.ask.attempt == Attempt::Wait);
    waiting.map(|request| Info {
        mode: request.ask.mode,
        token: None,
        host: Some(entry.identity.host.clone()),
        pid: Some(entry.identity.pid),
        thread: Some(request.ask.thread),
        label: request.ask.label.as_deref().map(str::to_owned),
        since: Some(request.ask.since),
    })
}
