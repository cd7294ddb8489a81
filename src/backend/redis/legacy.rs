//! What only processes of 1.1.2 need: they announce nothing, so while one of them holds the lock the first waiter polls. Their turns at a lock that
//! is handed on without a break are given by `lua/legacy.lua`.

use super::acquire::jitter;
use crate::backend::Info;
use crate::core::mode::Mode;
use std::time::Duration;

/// How often a lock is tried that a 1.1.2 process holds: as often as that would try itself.
const POLL: Duration = Duration::from_millis(50);

/// How long to wait for the next try of a lock that will be free after `left` by itself.
pub(super) fn next_try(left: Duration) -> Duration {
    left.min(POLL * 4 / 5 + jitter(POLL * 2 / 5))
}

/// A holder by what it wrote into the main key: the time at which it took the lock.
pub(super) fn holder(stamp: &str) -> Info {
    Info {
        mode: Mode::Exclusive,
        token: None,
        host: None,
        pid: None,
        thread: None,
        label: None,
        since: stamp.parse().ok(),
    }
}
