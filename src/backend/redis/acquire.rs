//! Taking a lock: ask, and if it is taken, subscribe, ask again for a place in the queue, and wait to be told.

use super::Redis;
use super::answer::{self, Place, Standing};
use super::clock::Micros;
use super::link::Live;
use super::waiting::{Bell, Wake};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use crate::clock;
use crate::core::time::Moment;
use crate::error::Result;
use std::rc::Rc;
use std::time::Duration;

/// How often a lock is tried that a 1.1.2 process holds: as often as that would try itself.
const POLL: Duration = Duration::from_millis(50);

impl Redis {
    /// Takes the lock for `ask`, or waits for it.
    pub(super) async fn take(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let taken = match ask.attempt {
            Attempt::Wait => self.wait_for(ask).await?,
            Attempt::Try => match tokio::time::timeout(self.patience, self.ask_at_once(ask)).await {
                Ok(outcome) => match outcome? {
                    (_, Standing::Held { token }, leased_at) => Taken { token, leased_at },
                    (_, Standing::Busy, _) => return Err(Refusal::Busy),
                    _ => return Err(self.peer.unexpected().into()),
                },
                Err(_) => return Err(self.peer.silent().into()),
            },
        };
        self.holds.borrow_mut().insert(ask.owner.clone(), ask.clone());
        Ok(taken)
    }

    async fn wait_for(&self, ask: &Ask) -> Result<Taken> {
        // Taken before the first question: the grant may come before the answer that says to wait.
        let seat = self.waiting.enter(&ask.owner);
        loop {
            // A place in the queue is taken only when this process can be told.
            let live = self.foreground.live().await?;
            let may_queue = live.listening.get();
            match self.ask_once(ask, &live, may_queue).await? {
                (_, Standing::Held { token }, leased_at) => return Ok(Taken { token, leased_at }),
                (shown, Standing::Queued(place), _) => {
                    if let Some(taken) = self.linger(&seat.bell, place, shown).await {
                        return Ok(taken);
                    }
                }
                (_, Standing::Busy, _) => {
                    self.foreground
                        .listen(&live, &self.calls.channel, self.patience)
                        .await?
                }
                (_, Standing::Gone, _) => return Err(self.peer.unexpected()),
            }
        }
    }

    async fn ask_at_once(&self, ask: &Ask) -> Result<(Micros, Standing, Moment)> {
        let live = self.foreground.live().await?;
        self.ask_once(ask, &live, false).await
    }

    /// One question: the server's clock, how the ask stands, and when the question was sent.
    async fn ask_once(&self, ask: &Ask, live: &Live, may_queue: bool) -> Result<(Micros, Standing, Moment)> {
        let call = self.calls.acquire(ask, may_queue);
        let (sent, value) = self.foreground.call(live, &call, self.patience).await?;
        let (shown, standing) = answer::acquired(&value).ok_or_else(|| self.peer.unexpected())?;
        self.clock.learn(sent, shown);
        Ok((shown, standing, sent))
    }

    /// Waits in the queue until the lock is handed over (`Some`) or it is time to ask again. `asked` is the server's clock when
    /// it gave this place: a grant from before then is one that has run out meanwhile.
    async fn linger(&self, bell: &Bell, mut place: Place, asked: Micros) -> Option<Taken> {
        loop {
            let wake = match self.until_next_question(place) {
                Some(pause) => tokio::time::timeout(pause, bell.heard()).await.ok()?,
                None => bell.heard().await,
            };
            match wake {
                Wake::Granted { shown, .. } if shown < asked => {}
                Wake::Granted { taken, .. } => {
                    // After a long sleep of this process or machine the hold may be over already: ask.
                    let is_good = clock::now() < self.terms.believed_until(taken.leased_at);
                    return is_good.then_some(taken);
                }
                Wake::Moved(new) => place = new,
                Wake::Again => return None,
            }
        }
    }

    /// Only the first waiter asks by itself: soon if nobody will tell it, else when the holder must have died. The others learn
    /// from renewals that they have become the first.
    fn until_next_question(&self, place: Place) -> Option<Duration> {
        if !place.first {
            return None;
        }
        let end = place.left.unwrap_or(self.terms.ttl) + jitter(Duration::from_millis(8));
        if place.foreign {
            Some(end.min(POLL * 4 / 5 + jitter(POLL * 2 / 5)))
        } else {
            Some(end)
        }
    }
}

/// Anything from 1 ms to `span`, so that many who wait for the same moment do not all ask at once.
fn jitter(span: Duration) -> Duration {
    // Without randomness everybody asks at once, which is only slower.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    Duration::from_millis(1).max(span.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}
