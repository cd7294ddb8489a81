//! The lease rule: a holder stops believing in its hold before the server can give it to another.

use super::time::Moment;
use std::time::Duration;

/// The terms on which a server keeps a hold alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The server ends a hold no earlier than this after it received the last renewal.
    pub ttl: Duration,
    /// How often to renew: a third of the ttl, for Consul half.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
