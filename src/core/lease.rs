//! The lease rule: a holder stops believing in its hold before the server can give it to another.

use super::time::Moment;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The terms on which a server keeps a hold alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The server ends a hold no earlier than this after it received the last renewal.
    pub ttl: Duration,
    /// How often to renew, at least: a third of the ttl, for Consul half.
    pub renew_every: Duration,
}

impl Terms {
    /// When a holder whose last successful grant or renewal was sent at `sent` stops believing in its hold.
    ///
    /// The server received that message no earlier than `sent`, so its own expiry comes no earlier than `sent + ttl` on
    /// its clock. The margin covers two clocks that run at different rates: a hundredth of the ttl, at least 50 ms, and
    /// never more than half the ttl.
    pub fn believed_until(&self, sent: Moment) -> Moment {
        sent + (self.ttl - self.margin())
    }

    fn margin(&self) -> Duration {
        (self.ttl / 100).max(Duration::from_millis(50)).min(self.ttl / 2)
    }
}

/// The lease of one request's hold: the moment that is proven, and how long that is believed.
///
/// Clones share the lease, across threads. It goes one way: unproven until the grant, then proven at ever later moments, then
/// over for good. Whoever finds that its time has passed says so with [`Lease::expire`], after which no proof revives it: what one
/// thread was told is over is over for all.
#[derive(Debug, Clone)]
pub struct Lease {
    terms: Terms,
    /// A [`State`].
    state: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unproven,
    Proven(Moment),
    Over,
}

impl State {
    fn of(word: u64) -> Self {
        match word {
            0 => State::Unproven,
            u64::MAX => State::Over,
            word => State::Proven(Moment(word - 1)),
        }
    }

    fn word(self) -> u64 {
        match self {
            State::Unproven => 0,
            State::Proven(Moment(at)) => at.saturating_add(1).min(u64::MAX - 1),
            State::Over => u64::MAX,
        }
    }
}

impl Lease {
    /// A lease of which nothing is proven yet.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            state: Arc::new(AtomicU64::new(State::Unproven.word())),
        }
    }

    /// The server granted, and counts the hold's time from a message that was sent at `sent`. Returns whether the hold is believed
    /// `now`: a grant that took longer than the lease lasts is not.
    pub fn begin(&self, sent: Moment, now: Moment) -> bool {
        self.change(|state| match state {
            State::Unproven => Some(State::Proven(sent.min(now))),
            State::Proven(before) => Some(State::Proven(before.max(sent.min(now)))),
            State::Over => None,
        });
        self.is_believed(now)
    }

    /// The server has proven that the hold lasts: belief moves to [`Terms::believed_until`] of `sent`, or of `now` if `sent` lies in
    /// the future. Never backwards; and nothing happens before the grant, or after belief has ended.
    pub fn prove(&self, sent: Moment, now: Moment) {
        self.change(|state| match state {
            State::Proven(before) if now < self.terms.believed_until(before) => {
                Some(State::Proven(before.max(sent.min(now))))
            }
            _ => None,
        });
    }

    /// Ends belief for good. Returns whether this was the end: `false` if it was over before.
    pub fn end(&self) -> bool {
        State::of(self.state.swap(State::Over.word(), Ordering::AcqRel)) != State::Over
    }

    /// Ends belief if its time has passed. Returns whether it is over.
    pub fn expire(&self, now: Moment) -> bool {
        self.change(|state| match state {
            State::Proven(at) if now >= self.terms.believed_until(at) => Some(State::Over),
            _ => None,
        });
        self.state() == State::Over
    }

    /// Whether the hold may be believed in.
    pub fn is_believed(&self, now: Moment) -> bool {
        self.believed_until().is_some_and(|until| now < until)
    }

    /// Until when the hold may be believed in; `None` before the grant and after the end.
    pub fn believed_until(&self) -> Option<Moment> {
        self.proven_at().map(|at| self.terms.believed_until(at))
    }

    /// When the message was sent that has proven the hold last; `None` before the grant and after the end.
    pub fn proven_at(&self) -> Option<Moment> {
        match self.state() {
            State::Proven(at) => Some(at),
            State::Unproven | State::Over => None,
        }
    }

    fn state(&self) -> State {
        State::of(self.state.load(Ordering::Acquire))
    }

    fn change(&self, to: impl Fn(State) -> Option<State>) {
        let change = |word| to(State::of(word)).map(State::word);
        // A change that does not apply is none.
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms {
        ttl: Duration::from_secs(10),
        renew_every: Duration::from_secs(3),
    };

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn begun(sent: Moment) -> Lease {
        let lease = Lease::new(TERMS);
        assert!(lease.begin(sent, sent));
        lease
    }

    #[test]
    fn belief_ends_before_the_servers_own_expiry() {
        for ttl_ms in [1, 20, 60, 1_000, 10_000, 86_400_000] {
            let terms = Terms {
                ttl: Duration::from_millis(ttl_ms),
                renew_every: Duration::from_millis(ttl_ms / 3),
            };
            let sent = Moment(5);
            assert!(terms.believed_until(sent) < sent + terms.ttl);
            assert!(terms.believed_until(sent) >= sent + terms.ttl / 2);
        }
    }

    #[test]
    fn nothing_is_believed_before_the_grant() {
        let lease = Lease::new(TERMS);
        lease.prove(at(1), at(1));
        assert!(!lease.is_believed(at(1)));
        assert_eq!(lease.proven_at(), None);
    }

    #[test]
    fn grants_and_renewals_move_one_moment_and_never_backwards() {
        let lease = begun(at(0));
        lease.prove(at(5), at(6));
        lease.prove(at(3), at(7));
        assert_eq!(lease.proven_at(), Some(at(5)));
        assert!(lease.is_believed(at(14)) && !lease.is_believed(at(15)));
    }

    #[test]
    fn no_proof_lies_in_the_future() {
        let lease = Lease::new(TERMS);
        assert!(lease.begin(at(100), at(1)));
        assert_eq!(lease.proven_at(), Some(at(1)));
        lease.prove(at(100), at(2));
        assert_eq!(lease.proven_at(), Some(at(2)));
    }

    #[test]
    fn a_grant_that_is_older_than_its_lease_is_not_believed_but_a_later_one_is() {
        let lease = Lease::new(TERMS);
        assert!(!lease.begin(at(0), at(11)));
        assert!(lease.begin(at(11), at(12)));
    }

    #[test]
    fn what_is_over_stays_over() {
        let lease = begun(at(0));
        assert!(lease.end());
        assert!(!lease.end());
        lease.prove(at(1), at(1));
        assert!(!lease.begin(at(1), at(1)));
        assert!(!lease.is_believed(at(1)));
        assert!(lease.expire(at(1)));
    }

    #[test]
    fn a_proof_that_comes_after_belief_ended_does_not_revive_it() {
        let lease = begun(at(0));
        lease.prove(at(9), at(10));
        assert!(!lease.is_believed(at(10)));
        assert!(lease.clone().expire(at(10)));
        assert_eq!(lease.proven_at(), None);
    }

    #[test]
    fn only_a_lease_whose_time_has_passed_expires() {
        let lease = begun(at(0));
        assert!(!lease.expire(at(9)));
        assert!(!Lease::new(TERMS).expire(at(100)));
    }
}
