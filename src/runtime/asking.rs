//! A request that has its turn in the process asks the server, again and again while the server is away.

use super::commands::Notice;
use super::entry::{Entry, no_answer};
use super::leaving;
use super::pause::Pause;
use super::request::{Phase, Request};
use crate::backend::{Attempt, Refusal, Taken};
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use std::rc::Rc;
use tokio::time::{Instant, sleep, timeout_at};

/// How many grants in a row may come when their lease is already over.
const MOST_LATE_GRANTS: u32 = 3;

/// Asks until the server grants, refuses for good, or the request is stopped.
pub async fn ask(entry: Rc<Entry>, request: Rc<Request>) {
    let mut pause = Pause::new();
    let mut late = 0;
    let mut endurance = Endurance::default();
    // A try that has waited before, in the express lane or for others of its process, has only the rest of its time.
    let deadline = (request.ask.attempt == Attempt::Try).then(|| request.ends(entry.server.options.connect_timeout));
    loop {
        let asked = clock::now();
        let answer = tokio::select! {
            // A stop that came together with a grant wins: the grant is given back.
            biased;
            () = request.stopped() => {
                request.phase.set(Phase::Leaving);
                return leaving::undo(entry, request).await;
            }
            answer = acquire(&entry, &request, deadline) => answer,
        };
        match answer {
            Ok(taken) if entry.hold(&request, taken) => return,
            // While this process stood still, the lease has passed. What the server still has of it is found when it is asked again.
            Ok(_) if late + 1 < MOST_LATE_GRANTS => late += 1,
            Ok(_) => {
                let error = entry.lost(&request, "the grant came when its lease was over");
                return fail(entry, request, error).await;
            }
            Err(Refusal::Busy) => match entry.leftovers.of(&request.ask.id) {
                None => return busy(entry, request).await,
                // It may be our own withdrawn request that is in the way.
                Some(error) => {
                    if cleared_in_time(&entry, &request, deadline).await {
                        continue;
                    }
                    return fail(entry, request, error).await;
                }
            },
            Err(Refusal::Away(error)) if request.ask.attempt != Attempt::Try => {
                request.trouble.replace(Some(error));
            }
            Err(Refusal::Failed(error)) if endurance.outlives(&entry, &request, &error, asked) => {
                request.trouble.replace(Some(error));
            }
            Err(Refusal::Away(error) | Refusal::Failed(error)) => return fail(entry, request, error).await,
        }
        tokio::select! {
            biased;
            () = request.stopped() => {}
            () = entry.reconnected.notified() => {}
            () = sleep(pause.next()) => {}
        }
    }
}

/// For how long a wait has been refused by a server that had let it wait before. Tokens, passwords and certificates are replaced while programs
/// run, and for a moment the old ones are gone and the new ones not there yet. After one `ttl` no server keeps a place in line that could not
/// be renewed, so there is nothing left to wait for.
#[derive(Default)]
struct Endurance {
    since: Option<Moment>,
}

impl Endurance {
    /// Whether the request goes on waiting after this answer to a question that was asked then.
    fn outlives(&mut self, entry: &Entry, request: &Request, error: &Error, asked: Moment) -> bool {
        if request.ask.attempt == Attempt::Try || !matches!(error.kind, Kind::Auth | Kind::Tls) {
            return false;
        }
        let now = clock::now();
        // So long takes no answer to a first question: the server had let it wait.
        if now.since(asked) > entry.server.options.connect_timeout {
            request.ask.waited.set(true);
            self.since = None;
        }
        request.ask.waited.get() && now.since(*self.since.get_or_insert(now)) < entry.terms.ttl
    }
}

async fn acquire(entry: &Entry, request: &Request, deadline: Option<Instant>) -> Result<Taken, Refusal> {
    request.lost.take();
    let acquired = entry.backend.acquire(request.ask.clone());
    match deadline {
        None => acquired.await,
        Some(deadline) => match timeout_at(deadline, acquired).await {
            Ok(answer) => answer,
            Err(_) => Err(no_answer(&entry.server).into()),
        },
    }
}

async fn fail(entry: Rc<Entry>, request: Rc<Request>, error: Error) {
    request.phase.set(Phase::Leaving);
    entry.notify(&request, Notice::Failed(error));
    leaving::undo(entry, request).await;
}

async fn busy(entry: Rc<Entry>, request: Rc<Request>) {
    request.phase.set(Phase::Leaving);
    entry.notify(&request, Notice::Busy);
    if request.late.borrow().is_some() {
        // The express lane's question may still come, and find the lock free.
        return leaving::undo(entry, request).await;
    }
    leaving::finish(&entry, &request);
}

/// Waits until nothing of a withdrawn request of this lock is left at the server.
async fn cleared_in_time(entry: &Entry, request: &Request, deadline: Option<Instant>) -> bool {
    let cleared = async {
        loop {
            let moved = entry.moved.notified();
            if entry.leftovers.of(&request.ask.id).is_none() {
                return;
            }
            moved.await;
        }
    };
    let deadline = deadline.unwrap_or_else(Instant::now);
    tokio::select! {
        biased;
        () = request.stopped() => true,
        cleared = timeout_at(deadline, cleared) => cleared.is_ok(),
    }
}
