//! A request that has its turn in the process asks the server, again and again while the server is away.

use super::commands::Notice;
use super::entry::{Entry, no_answer};
use super::leaving;
use super::pause::Pause;
use super::request::{Phase, Request};
use crate::backend::{Attempt, Refusal, Taken};
use std::rc::Rc;
use tokio::time::timeout;

/// Asks until the server grants, refuses for good, or the request is stopped.
pub async fn ask(entry: Rc<Entry>, request: Rc<Request>) {
    let mut pause = Pause::new();
    loop {
        let answer = tokio::select! {
            // A stop that came together with a grant wins: the grant is given back.
            biased;
            () = request.stopped() => None,
            answer = acquire(&entry, &request) => Some(answer),
        };
        match answer {
            None => {
                request.phase.set(Phase::Leaving);
                return leaving::undo(entry, request).await;
            }
            Some(Ok(taken)) => return entry.hold(&request, taken),
            Some(Err(Refusal::Busy)) => {
                request.phase.set(Phase::Leaving);
                entry.notify(&request, Notice::Busy);
                if request.late.borrow().is_some() {
                    // The express lane's question may still come, and find the lock free.
                    return leaving::undo(entry, request).await;
                }
                return leaving::finish(&entry, &request);
            }
            Some(Err(Refusal::Away(_))) if request.ask.attempt == Attempt::Wait => {
                tokio::select! {
                    biased;
                    () = request.stopped() => {}
                    () = entry.reconnected.notified() => {}
                    () = tokio::time::sleep(pause.next()) => {}
                }
            }
            Some(Err(Refusal::Away(error) | Refusal::Failed(error))) => {
                request.phase.set(Phase::Leaving);
                entry.notify(&request, Notice::Failed(error));
                return leaving::undo(entry, request).await;
            }
        }
    }
}

/// A try that waited in the express lane before has only the rest of its time.
async fn acquire(entry: &Entry, request: &Request) -> Result<Taken, Refusal> {
    let acquired = entry.backend.acquire(request.ask.clone());
    if request.ask.attempt == Attempt::Wait {
        return acquired.await;
    }
    let limit = request.rest_of(entry.server.options.connect_timeout);
    match timeout(limit, acquired).await {
        Ok(answer) => answer,
        Err(_) => Err(no_answer(&entry.server).into()),
    }
}
