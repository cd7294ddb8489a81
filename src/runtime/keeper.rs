//! Keeps alive what a process holds at one server, and ends belief in time where that fails.

use super::entry::Entry;
use super::renewing::Renewals;
use super::request::Phase;
use crate::backend::Event;
use crate::clock;
use crate::core::lease::Terms;
use crate::core::time::Moment;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Timers count no time while the machine is suspended, and new holds do not wake the keeper: a look this often, at least,
/// and every eighth of the ttl notices both.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Runs until the server's last mutex is closed.
pub async fn run(entry: Rc<Entry>, mut events: mpsc::UnboundedReceiver<Event>) {
    let mut renewals = Renewals::new(&entry.terms, clock::now());
    while !entry.closed.get() {
        let now = clock::now();
        expire(&entry, now);
        if let Some(express) = entry.express.upgrade() {
            express.look(&entry.server, entry.backend.address());
        }
        renewals.begin_if_due(&entry, now);
        let sleep = time_to_sleep(&entry, now, renewals.next_due(&entry));
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => take_event(&entry, event),
                None => return,
            },
            () = renewals.answered(&entry) => {}
            () = tokio::time::sleep(sleep) => {}
            () = entry.keeper.notified() => {}
        }
    }
}

/// How often the keeper looks, at least.
pub fn look_every(terms: &Terms) -> Duration {
    LONGEST_SLEEP.min(terms.ttl / 8)
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

fn time_to_sleep(entry: &Entry, now: Moment, renewal_due: Option<Moment>) -> Duration {
    let mut until = now + look_every(&entry.terms);
    until = renewal_due.map_or(until, |due| until.min(due));
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
        Event::Lost { owner, error } => entry.lose_owner(&owner, |_| error),
        Event::Stolen(owner) => {
            if entry.active.borrow().contains_key(&owner) {
                entry.lose_owner(&owner, |request| entry.stolen(request));
            } else if let Some(express) = entry.express.upgrade() {
                express.stolen(&owner);
            }
        }
        Event::Disconnected => entry.tell_disconnected(),
        Event::Reconnected => entry.tell_reconnected(),
    }
}
