//! Room for 1.1.2 processes, which have no ticket and come in only when they find the leader key unlocked.
//!
//! As long as the lock goes from ticket to ticket, it is never unlocked. So the time since it last was is handed on with
//! it, and after a while whoever leaves asks Consul whether any 1.1.2 process has a session for this lock. If so, it leaves
//! the leader key unlocked, with a value that asks the first in line to wait: a 1.1.2 process that sees the key unlocked
//! tries to lock it half a second later.

use super::view::{Leader, View};
use super::{Consul, keys};
use crate::clock;
use std::time::Duration;

/// The value of a leader key that was left unlocked for 1.1.2 processes.
pub const ROOM: &[u8] = br#"{"room":true}"#;
/// How long the first in line waits for one of them.
pub const STAND_BACK: Duration = Duration::from_millis(800);
/// How long the lock may go from ticket to ticket before somebody asks.
const UNBROKEN_MS: u64 = 2000;

/// What whoever passes the lock on does for 1.1.2 processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Courtesy {
    /// Passes it on; it has gone from ticket to ticket since then (milliseconds since 1970).
    PassOn {
        unbroken: u64,
    },
    LeaveRoom,
}

impl Consul {
    pub async fn courtesy(&self, id: &str, view: &View) -> Courtesy {
        let now = clock::wall_ms();
        let since = match &view.leader {
            Leader::Locked { occupant, .. } => occupant.unbroken(),
            Leader::Absent | Leader::Free { .. } => None,
        };
        match since {
            None => Courtesy::PassOn { unbroken: now },
            // Wall clocks differ, and nothing but the time of the next look depends on them.
            Some(since) if now.abs_diff(since) < UNBROKEN_MS => Courtesy::PassOn { unbroken: since },
            Some(_) => match self.session_names().await {
                Some(names) if names.contains(&keys::legacy_session(id)) => Courtesy::LeaveRoom,
                _ => Courtesy::PassOn { unbroken: now },
            },
        }
    }
}
