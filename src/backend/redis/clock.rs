//! When, on this machine's clock, something happened at the server.
//!
//! A lock that is handed to a waiter starts its lease when the releaser's script ran, at a moment of the server's clock. The
//! lease rule needs a moment of our clock that is not later. Every answer gives a pair: a question sent at our moment `S` was
//! answered when the server's clock showed `t`, so the server showed `t` no earlier than `S`. Then it showed `u` no earlier than
//! `S + (u - t)`, less what the two clocks may drift apart meanwhile.

use crate::core::time::Moment;
use std::cell::Cell;
use std::time::Duration;

/// Clocks of machines that keep time run apart by 0.05 % at most (the limit of NTP's slewing); twice that is assumed.
const DRIFT: u32 = 1000;

/// Microseconds since 1970 on the server's clock.
pub(super) type Micros = u64;

/// The newest pair; forgotten with the connection, since another server may answer the next one.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    pair: Cell<Option<(Moment, Micros)>>,
}

impl ServerClock {
    pub fn learn(&self, sent: Moment, shown: Micros) {
        self.pair.set(Some((sent, shown)));
    }

    pub fn forget(&self) {
        self.pair.set(None);
    }

    /// A moment not later than when the server's clock showed `shown`; `None` before the first answer.
    pub fn earliest(&self, shown: Micros) -> Option<Moment> {
        let (sent, known) = self.pair.get()?;
        Some(if shown >= known {
            let span = Duration::from_micros(shown - known);
            sent + (span - span / DRIFT)
        } else {
            let span = Duration::from_micros(known - shown);
            sent - (span + span / DRIFT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_dated_no_later_than_it_can_have_happened() {
        let clock = ServerClock::default();
        assert_eq!(clock.earliest(7), None);
        let sent = Moment(1_000_000_000_000);
        clock.learn(sent, 5_000_000);
        assert_eq!(clock.earliest(5_000_000), Some(sent));
        let after = clock.earliest(7_000_000).unwrap();
        assert!(after < sent + Duration::from_secs(2) && after > sent + Duration::from_millis(1990));
        let before = clock.earliest(3_000_000).unwrap();
        assert!(before < sent - Duration::from_secs(2) && before > sent - Duration::from_millis(2010));
    }
}
