//! A try that finds others of its own process before it.
//!
//! "Taken" and "unknown" are different answers. A hold of this process is taken, and so is the turn of one that asks a server which
//! answers. One on its way out says nothing about who has the lock: it is waited for, like the server's answer to a try, for
//! `connect_timeout` at most.

use super::commands::Notice;
use super::entry::{Entry, no_answer};
use super::leaving;
use super::request::{Phase, Request};
use crate::error::Result;
use std::rc::Rc;
use tokio::time::timeout_at;

/// Answers the try, unless its turn comes or it is withdrawn.
pub async fn wait_for_turn(entry: Rc<Entry>, request: Rc<Request>) {
    let deadline = request.ends(entry.server.options.connect_timeout);
    request.deadline.set(Some(deadline));
    let known = tokio::select! {
        biased;
        () = request.finished() => return,
        known = timeout_at(deadline, known(&entry, &request)) => known,
    };
    if request.phase.get() != Phase::Queued {
        return;
    }
    let notice = match known {
        Ok(Ok(())) => Notice::Busy,
        Ok(Err(error)) => Notice::Failed(error),
        Err(_) => Notice::Failed(no_answer(&entry.server)),
    };
    entry.notify(&request, notice);
    leaving::withdraw(&entry, &request);
}

/// Resolves when it is known that somebody of this process is before the try, or when it has its turn.
async fn known(entry: &Entry, request: &Request) -> Result<()> {
    entry.backend.check().await?;
    entry.outage.take();
    loop {
        let moved = entry.moved.notified();
        if request.phase.get() != Phase::Queued || entry.is_ahead(request, &[Phase::Held, Phase::Asking]) {
            return Ok(());
        }
        moved.await;
    }
}
