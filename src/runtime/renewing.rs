//! When to renew, and for whom.

use super::entry::Entry;
use super::request::{Phase, Renewal, Request};
use crate::backend::Owner;
use crate::clock;
use crate::core::lease::Terms;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How soon what a renewal did not prove is asked for again.
const RETRY: Duration = Duration::from_millis(250);
/// How many renewals may be under way. One that hangs does not keep the others waiting, and a server that answers none is not
/// asked without end.
const AT_ONCE: usize = 4;

/// The renewals of one server.
pub struct Renewals {
    /// When everything is renewed, whether or not it is due: places in queues, and sessions that nobody uses.
    next_turn: Moment,
    under_way: JoinSet<Answer>,
}

struct Answer {
    asked: Vec<Rc<Request>>,
    answer: Result<Vec<Owner>>,
}

impl Renewals {
    pub fn new(terms: &Terms, now: Moment) -> Self {
        Self {
            next_turn: now + terms.renew_every,
            under_way: JoinSet::new(),
        }
    }

    /// Renews everything, if anything is due: so all stay in step, and one exchange serves many. What a renewal under way concerns is
    /// left to that, unless it has taken too long.
    pub fn begin_if_due(&mut self, entry: &Rc<Entry>, now: Moment) {
        if self.next_due(entry).is_none_or(|due| now < due) {
            return;
        }
        let renew_every = entry.terms.renew_every;
        let active = entry.active.borrow();
        let asked = active.values().filter(|request| match request.renewal.get() {
            Renewal::UnderWay(since) => now >= since + renew_every,
            Renewal::None | Renewal::Answered(_) => true,
        });
        let asked: Vec<_> = asked.cloned().collect();
        drop(active);
        for request in &asked {
            request.renewal.set(Renewal::UnderWay(now));
        }
        self.next_turn = now + renew_every;
        if asked.is_empty() && !self.under_way.is_empty() {
            return;
        }
        self.under_way.spawn_local(renew(entry.clone(), asked));
    }

    /// When the next renewal is due; `None` if too many are under way.
    pub fn next_due(&self, entry: &Entry) -> Option<Moment> {
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        let active = entry.active.borrow();
        let dues = active.values().filter_map(|request| due(request, &entry.terms));
        Some(dues.fold(self.next_turn, Moment::min))
    }

    /// Resolves with the next answer, once it has been acted upon; never if nothing is under way.
    pub async fn answered(&mut self, entry: &Rc<Entry>) {
        match self.under_way.join_next().await {
            Some(Ok(Answer { asked, answer })) => self.take(entry, &asked, answer),
            // The runtime ends.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, entry: &Rc<Entry>, asked: &[Rc<Request>], answer: Result<Vec<Owner>>) {
        let now = clock::now();
        for request in asked {
            request.renewal.set(Renewal::Answered(now));
        }
        match answer {
            Ok(gone) => {
                for request in asked {
                    request.trouble.take();
                }
                entry.outage.take();
                for owner in gone {
                    entry.lose_owner(&owner, |request| entry.lost(request, "the server no longer has it"));
                }
            }
            Err(error) => {
                entry.outage.replace(Some(error));
                self.next_turn = self.next_turn.min(now + retry(&entry.terms));
            }
        }
    }
}

async fn renew(entry: Rc<Entry>, asked: Vec<Rc<Request>>) -> Answer {
    let limit = entry.terms.ttl;
    let asks = asked.iter().map(|request| request.ask.clone()).collect();
    let answer = timeout(limit, entry.backend.renew(asks)).await.unwrap_or_else(|_| {
        let message = format!("{} did not answer a renewal in {limit:?}", entry.server);
        Err(Error::new(Kind::Connect, message))
    });
    Answer { asked, answer }
}

/// When the hold of this request is to be renewed; `None` if it has none.
pub fn due(request: &Request, terms: &Terms) -> Option<Moment> {
    if request.phase.get() != Phase::Held {
        return None;
    }
    let due = request.ask.lease.proven_at()? + terms.renew_every;
    Some(match request.renewal.get() {
        Renewal::None => due,
        Renewal::UnderWay(since) => due.max(since + terms.renew_every),
        Renewal::Answered(at) => due.max(at + retry(terms)),
    })
}

fn retry(terms: &Terms) -> Duration {
    RETRY.min(terms.renew_every)
}
