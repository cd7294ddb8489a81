//! How a request ends: released, withdrawn, or cleared away after a loss.

use super::commands::Notice;
use super::entry::Entry;
use super::pause::Pause;
use super::request::{Phase, Request};
use crate::backend::Released;
use crate::clock;
use crate::error::{Error, Kind, Result};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long an answer in the express lane is waited for, when nothing says that it cannot come.
const LONGEST_ANSWER: Duration = Duration::from_secs(1);

/// Frees the lock and tells JavaScript how that went.
///
/// A server that does not confirm is asked again until `connect_timeout` is over, whatever it says; then JavaScript is told, and the
/// clearing away goes on in the background. A server that no longer knows the hold means that it was lost, unless an earlier try
/// went unanswered: then that try may have freed it.
pub async fn release(entry: Rc<Entry>, request: Rc<Request>) {
    request.phase.set(Phase::Leaving);
    let limit = entry.server.options.connect_timeout;
    let deadline = request.ends(limit);
    let mut pause = Pause::new();
    let outcome = loop {
        let answer = attempt(&entry, &request).await;
        let believed = request.ask.lease.is_believed(clock::now());
        match answer {
            Ok(Released::Freed) => break Ok(()),
            Ok(Released::NotHeld) if request.unanswered.get() && believed => break Ok(()),
            Ok(Released::NotHeld) => {
                break Err(entry.lost(&request, "the server no longer had it when it was released"));
            }
            Err(_) if Instant::now() < deadline && !entry.closed.get() => {
                request.unanswered.set(true);
                tokio::time::sleep(pause.next()).await;
            }
            Err(error) => break Err(error),
        }
    };
    match outcome {
        Ok(()) => {
            // Before JavaScript hears it, so that its next request may go by the express lane.
            request.presence.take();
            entry.notify(&request, Notice::Done);
            finish(&entry, &request);
        }
        Err(error) if error.kind == Kind::LockLost => {
            entry.notify(&request, Notice::Failed(error));
            finish(&entry, &request);
        }
        Err(error) => {
            entry.notify(&request, Notice::Failed(error));
            undo(entry, request).await;
        }
    }
}

/// Clears away whatever the request may have left at the server. The next request of this process gets its turn after the
/// first try; further tries go on in the background until the server has confirmed or the last mutex was closed: no failure says that
/// nothing is left there.
pub async fn undo(entry: Rc<Entry>, request: Rc<Request>) {
    request.phase.set(Phase::Leaving);
    request.ask.lease.end();
    let first = attempt(&entry, &request).await;
    if let Err(error) = first {
        entry.leftovers.add(&request.ask.id, error);
        finish(&entry, &request);
        let mut pause = Pause::new();
        while !entry.closed.get() {
            tokio::select! {
                () = entry.reconnected.notified() => {}
                () = tokio::time::sleep(pause.next()) => {}
            }
            if entry.closed.get() || attempt(&entry, &request).await.is_ok() {
                break;
            }
        }
        entry.leftovers.remove(&request.ask.id);
        entry.moved.notify_waiters();
    } else {
        finish(&entry, &request);
    }
}

/// Starts the end of a request, in whatever phase it is; its `finished` tells when it is over.
pub fn withdraw(entry: &Rc<Entry>, request: &Rc<Request>) {
    match request.phase.get() {
        // What comes from the express lane may have left something at the server.
        Phase::Queued if request.late.borrow().is_none() => finish(entry, request),
        Phase::Asking => request.stop(),
        Phase::Queued | Phase::Held => {
            request.phase.set(Phase::Leaving);
            tokio::task::spawn_local(undo(entry.clone(), request.clone()));
        }
        Phase::Leaving => {}
    }
}

/// Nothing of the request is left in this process: the keeper forgets it and the gate opens for the next.
pub fn finish(entry: &Rc<Entry>, request: &Rc<Request>) {
    request.ask.lease.end();
    entry.forget(request);
    entry.leave_gate(request);
    request.finish();
}

async fn attempt(entry: &Entry, request: &Request) -> Result<Released> {
    let limit = entry.server.options.connect_timeout;
    settle(entry, request).await?;
    match timeout(limit, entry.backend.release(request.ask.clone())).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::new(
            Kind::Connect,
            format!(
                "{} did not confirm the release of lock \"{}\" in {limit:?}",
                entry.server,
                request.ask.name()
            ),
        )),
    }
}

/// Waits until nothing of the request is on its way in the express lane: what arrives after the release would take the lock for
/// nobody.
async fn settle(entry: &Entry, request: &Request) -> Result<()> {
    let Some(mut late) = request.late.borrow().clone() else {
        return Ok(());
    };
    let patience = LONGEST_ANSWER.min(entry.server.options.connect_timeout / 4);
    let answered = timeout(patience, late.answered.wait_for(|answered| *answered)).await;
    if !matches!(answered, Ok(Ok(_))) {
        entry.backend.cut(&late.line).await?;
    }
    request.late.take();
    Ok(())
}
