//! Keeping holds and waiters alive, and finding out what became of them.

use super::Redis;
use super::answer::{self, Standing};
use super::fault::Fault;
use super::link::{Link, Live};
use crate::backend::{Ask, Owner, Stage};
use crate::core::lease::Terms;
use crate::error::Result;
use redis::Value;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// The first and the longest pause between attempts to get the connection back while something is held.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How long an idle connection is believed in; also short enough for firewalls that forget connections. Renewals come as often, however long the
/// ttl is: they find out what a connection that went silent did not tell, a grant above all.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// The terms of holds that last so long without renewal.
pub(super) fn terms(ttl: Duration) -> Terms {
    Terms {
        ttl,
        renew_every: (ttl / 3).min(LONGEST_SILENCE),
    }
}

impl Redis {
    /// Renews everything in one exchange; gives the holders whose hold the server no longer has.
    pub(super) async fn keep(&self, asks: &[Rc<Ask>]) -> Result<Vec<Owner>> {
        let waiters = asks.iter().any(|ask| ask.stage.get() == Stage::Waiting);
        self.test_foreground(if waiters {
            self.terms.renew_every / 2
        } else {
            LONGEST_SILENCE
        });
        let groups = by_lock(asks);
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let calls: Vec<_> = groups
            .iter()
            .map(|group| self.calls.renew(&group[0].0.id, group.iter().map(|(ask, _)| &**ask)))
            .collect();
        // Not longer than the time to the next renewal, so that a cut connection is replaced in time.
        let limit = self.patience.min(self.terms.renew_every);
        let (link, live) = self.renewing().await?;
        let (sent, values) = link.call_all(&live, &calls, limit).await?;
        let mut gone = Vec::new();
        let mut refused = None;
        for (group, value) in groups.iter().zip(values) {
            if let Value::ServerError(error) = value {
                refused = Some(link.refused(&live, error));
                continue;
            }
            let (_, standings) = answer::renewed(&value).ok_or_else(|| self.peer.unexpected())?;
            for ((ask, stage), standing) in group.iter().zip(standings) {
                match (stage, standing) {
                    (Stage::Held, Standing::Held { .. }) => ask.prove(sent),
                    (Stage::Held, _) => gone.push(ask.clone()),
                    (Stage::Waiting, standing) => self.waiting.inform(&ask.owner, standing, sent),
                }
            }
        }
        match refused {
            None => Ok(gone.iter().map(|ask| ask.owner.clone()).collect()),
            Some(fault) => {
                // That the server refuses one lock keeps nobody from hearing that another is lost.
                for ask in &gone {
                    self.tell(self.lost(ask));
                }
                Err(fault.error)
            }
        }
    }

    /// The connection for renewals; any that is open is better than waiting for one.
    async fn renewing(&self) -> Result<(&Rc<Link>, Rc<Live>), Fault> {
        if self.renewal.current().is_none()
            && let Some(live) = self.foreground.current()
        {
            self.renewal.prepare();
            return Ok((&self.foreground, live));
        }
        Ok((&self.renewal, self.renewal.live().await?))
    }

    /// From now on the hold is looked after, and what that needs is there before it is needed.
    pub(super) fn keep_from_now_on(&self, ask: Rc<Ask>) {
        self.renewal.prepare();
        self.holds.borrow_mut().insert(ask.owner.clone(), ask);
    }

    /// Waiters are silent, and so is an idle process: a connection that went dead without a word is found out by a question.
    fn test_foreground(&self, silence: Duration) {
        if self.foreground.current().is_none() || self.foreground.answered_within(silence) {
            return;
        }
        let Some(redis) = self.this.upgrade() else { return };
        // A failure discards the connection, which wakes the waiters.
        tokio::task::spawn_local(async move { redis.ping().await });
    }

    /// After the connection was cut: gets it back as long as something is held, so that a server that lost its data is found
    /// out soon.
    pub(super) fn recover(&self) {
        let Some(redis) = self.this.upgrade() else { return };
        if redis.recovering.replace(true) {
            return;
        }
        tokio::task::spawn_local(async move {
            let mut pause = PAUSES.0;
            // A server that lets in and then refuses everything is not asked without a rest.
            if redis.foreground.was_opened_within(PAUSES.1) {
                sleep(PAUSES.1).await;
            }
            while !redis.holds.borrow().is_empty() && redis.foreground.live().await.is_err() {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            redis.recovering.set(false);
        });
    }

    /// Finds out which holds survived, and tells of those that did not.
    pub(super) async fn verify(&self) {
        let holds: Vec<Rc<Ask>> = self.holds.borrow().values().cloned().collect();
        // A failure says nothing about the holds; the runtime's own renewals go on.
        let Ok(gone) = self.keep(&holds).await else { return };
        for owner in gone {
            let ask = self.holds.borrow_mut().remove(&owner);
            if let Some(ask) = ask {
                self.tell(self.lost(&ask));
            }
        }
    }
}

/// One group per lock, none of them empty, each ask with the stage that it is in now: what the server answers is about this
/// moment, and an ask that is granted meanwhile must not be taken for a hold that the server does not have.
fn by_lock(asks: &[Rc<Ask>]) -> Vec<Vec<(Rc<Ask>, Stage)>> {
    let mut sorted: Vec<_> = asks.iter().map(|ask| (ask.clone(), ask.stage.get())).collect();
    sorted.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    sorted
        .chunk_by(|(a, _), (b, _)| a.id == b.id)
        .map(<[_]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_SILENCE, terms};
    use std::time::Duration;

    #[test]
    fn the_longest_ttl_makes_no_connection_silent_for_longer_than_it_is_believed_in() {
        for (ttl, every) in [(9, 3), (90, 30), (86_400, LONGEST_SILENCE.as_secs())] {
            assert_eq!(terms(Duration::from_secs(ttl)).renew_every, Duration::from_secs(every));
        }
    }
}
