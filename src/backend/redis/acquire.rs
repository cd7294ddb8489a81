//! Taking a lock: ask, and if it is taken, subscribe, ask again for a place in the queue, and wait to be told.

use super::Redis;
use super::answer::{self, Micros, Place, Standing};
use super::fault::Fault;
use super::legacy;
use super::link::Live;
use super::waiting::{Bell, Wake};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use crate::clock;
use crate::core::time::Moment;
use std::rc::Rc;
use std::time::Duration;

/// The answer to one question.
struct Answer {
    /// When the question was sent.
    sent: Moment,
    /// What the server calls the question.
    asked: Micros,
    standing: Standing,
}

impl Redis {
    /// Takes the lock for `ask`, or waits for it.
    pub(super) async fn take(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let taken = match ask.attempt {
            Attempt::Wait => self.wait_for(ask).await?,
            Attempt::Try | Attempt::Steal => match tokio::time::timeout(self.patience, self.ask_at_once(ask)).await {
                Ok(answer) => {
                    let answer = answer?;
                    let leased_at = answer.sent;
                    match answer.standing {
                        Standing::Held { token } => Taken { token, leased_at },
                        Standing::Busy => return Err(Refusal::Busy),
                        _ => return Err(self.peer.unexpected().into()),
                    }
                }
                Err(_) => return Err(self.peer.silent().into()),
            },
        };
        self.keep_from_now_on(ask.clone());
        Ok(taken)
    }

    async fn wait_for(&self, ask: &Ask) -> Result<Taken, Refusal> {
        // Taken before the first question: the grant may come before the answer that says to wait.
        let seat = self.waiting.enter(&ask.owner);
        loop {
            // A place in the queue is taken only on a connection on which the grant can be heard.
            let live = self.foreground.live().await?;
            let channel = live.listening.get().then_some(&*live.channel);
            let answer = self.ask_once(ask, &live, channel).await?;
            match answer.standing {
                Standing::Held { token } => {
                    let leased_at = answer.sent;
                    return Ok(Taken { token, leased_at });
                }
                Standing::Queued(place) => {
                    ask.waited.set(true);
                    if let Some(taken) = self.linger(&seat.bell, place, &answer).await {
                        return Ok(taken);
                    }
                }
                Standing::Busy => self.foreground.listen(&live, self.patience).await?,
                Standing::Gone => return Err(self.peer.unexpected().into()),
            }
        }
    }

    async fn ask_at_once(&self, ask: &Ask) -> Result<Answer, Fault> {
        let live = self.foreground.live().await?;
        self.ask_once(ask, &live, None).await
    }

    async fn ask_once(&self, ask: &Ask, live: &Live, channel: Option<&str>) -> Result<Answer, Fault> {
        let call = match ask.attempt {
            Attempt::Steal => self.calls.steal(ask),
            Attempt::Wait | Attempt::Try => self.calls.acquire(ask, channel),
        };
        let (sent, value) = self.foreground.call(live, &call, self.patience).await?;
        let (asked, standing) = answer::acquired(&value).ok_or_else(|| self.peer.unexpected())?;
        Ok(Answer { sent, asked, standing })
    }

    /// Waits in the queue until the lock is handed over (`Some`) or it is time to ask again. A grant is dated by the last question whose answer
    /// was that there is none: it came later than that. One that answers an earlier question than `last` may be over.
    async fn linger(&self, bell: &Bell, mut place: Place, last: &Answer) -> Option<Taken> {
        let mut not_before = last.sent;
        loop {
            let wake = match self.until_next_question(place) {
                Some(pause) => tokio::time::timeout(pause, bell.heard()).await.ok()?,
                None => bell.heard().await,
            };
            let taken = match wake {
                Wake::Granted { token, asked } if asked == last.asked => Taken {
                    token,
                    leased_at: not_before,
                },
                Wake::Found(taken) => taken,
                Wake::Moved(new) => {
                    place = new;
                    continue;
                }
                Wake::Stands(new, sent) => {
                    place = new;
                    not_before = not_before.max(sent);
                    continue;
                }
                Wake::Granted { .. } | Wake::Again => return None,
            };
            // After a long sleep of this process or machine the hold may be over already: ask.
            let is_good = clock::now() < self.terms.believed_until(taken.leased_at);
            return is_good.then_some(taken);
        }
    }

    /// Only the first waiter asks by itself: soon if nobody will tell it, else when the holder must have died. The others are told when they
    /// have become the first.
    fn until_next_question(&self, place: Place) -> Option<Duration> {
        if !place.first {
            return None;
        }
        let end = place.left.unwrap_or(self.terms.ttl) + jitter(Duration::from_millis(8));
        Some(if place.foreign { legacy::next_try(end) } else { end })
    }
}

/// Anything from 1 ms to `span`, so that many who wait for the same moment do not all ask at once.
pub(super) fn jitter(span: Duration) -> Duration {
    // Without randomness everybody asks at once, which is only slower.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    Duration::from_millis(1).max(span.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}
