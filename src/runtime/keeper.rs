//! Keeps alive what a process holds at one server, and ends belief in time where that fails.

use super::entry::Entry;
use super::request::Phase;
use crate::backend::{Event, Owner};
use crate::clock;
use crate::core::lease::Terms;
use crate::core::time::Moment;
use crate::error::Result;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// After a renewal that failed, the next comes sooner than the terms say.
const RETRY: Duration = Duration::from_millis(250);
/// Timers count no time while the machine is suspended, and new holds do not wake the keeper: a look this often, at least,
/// and every eighth of the ttl notices both.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

type Renewal = Pin<Box<dyn Future<Output = (Moment, Result<Vec<Owner>>)>>>;

/// Runs until the server's last mutex is closed.
pub async fn run(entry: Weak<Entry>, mut events: mpsc::UnboundedReceiver<Event>) {
    let Some(strong) = entry.upgrade() else { return };
    let mut next_renewal = clock::now() + strong.terms.renew_every;
    drop(strong);
    let mut renewal: Option<Renewal> = None;
    loop {
        let Some(strong) = entry.upgrade() else { return };
        if strong.closed.get() {
            return;
        }
        let now = clock::now();
        expire(&strong, now);
        if let Some(express) = strong.express.upgrade() {
            express.look(&strong.server, strong.backend.address());
        }
        if renewal.is_none() && now >= next_renewal {
            renewal = Some(renew(&strong));
        }
        let sleep = time_to_sleep(&strong, now, next_renewal, renewal.is_some());
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => take_event(&strong, event),
                None => return,
            },
            (sent, answer) = poll_renewal(&mut renewal) => {
                renewal = None;
                next_renewal = match answer {
                    Ok(gone) => {
                        confirm(&strong, &gone);
                        sent + strong.terms.renew_every
                    }
                    Err(_) => clock::now() + RETRY.min(strong.terms.renew_every),
                };
            }
            () = tokio::time::sleep(sleep) => {}
            () = strong.keeper.notified() => {}
        }
    }
}

/// How often the keeper looks, at least.
pub fn look_every(terms: &Terms) -> Duration {
    LONGEST_SLEEP.min(terms.ttl / 8)
}

async fn poll_renewal(renewal: &mut Option<Renewal>) -> (Moment, Result<Vec<Owner>>) {
    match renewal {
        Some(renewal) => renewal.await,
        None => std::future::pending().await,
    }
}

fn renew(entry: &Rc<Entry>) -> Renewal {
    let asks = entry
        .active
        .borrow()
        .values()
        .map(|request| request.ask.clone())
        .collect();
    let entry = entry.clone();
    Box::pin(async move {
        let sent = clock::now();
        let limit = entry.terms.ttl;
        let answer = tokio::time::timeout(limit, entry.backend.renew(asks)).await;
        let answer = answer.unwrap_or_else(|_| {
            let message = format!("{} did not answer a renewal in {limit:?}", entry.server);
            Err(crate::error::Error::new(crate::error::Kind::Connect, message))
        });
        (sent, answer)
    })
}

fn confirm(entry: &Rc<Entry>, gone: &[Owner]) {
    for owner in gone {
        let request = entry.active.borrow().get(owner).cloned();
        if let Some(request) = request {
            entry.lose(&request, entry.lost(&request, "the server no longer has it"));
        }
    }
}

fn expire(entry: &Rc<Entry>, now: Moment) {
    let held: Vec<_> = entry
        .active
        .borrow()
        .values()
        .filter(|request| request.phase.get() == Phase::Held)
        .cloned()
        .collect();
    for request in held {
        if request.ask.lease.expire(now) {
            entry.lose(&request, entry.lost(&request, "its lease could not be renewed in time"));
        } else if request.hold_limit.get().is_some_and(|limit| now >= limit) {
            entry.lose(
                &request,
                entry.lost(&request, "it was held longer than max_hold allows"),
            );
        }
    }
}

fn time_to_sleep(entry: &Entry, now: Moment, next_renewal: Moment, renewing: bool) -> Duration {
    let mut until = now + look_every(&entry.terms);
    if !renewing {
        until = until.min(next_renewal);
    }
    for request in entry.active.borrow().values() {
        if request.phase.get() == Phase::Held {
            until = until.min(request.ask.lease.believed_until().unwrap_or(now));
            if let Some(limit) = request.hold_limit.get() {
                until = until.min(limit);
            }
        }
    }
    until.since(now)
}

fn take_event(entry: &Rc<Entry>, event: Event) {
    match event {
        Event::Lost { owner, error } => {
            let request = entry.active.borrow().get(&owner).cloned();
            if let Some(request) = request {
                entry.lose(&request, error);
            }
        }
        Event::Disconnected => entry.tell_disconnected(),
        Event::Reconnected => entry.tell_reconnected(),
    }
}
