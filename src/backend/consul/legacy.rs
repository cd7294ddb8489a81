//! Room for 1.1.2 processes, which have no ticket and come in only when they find the leader key unlocked.
//!
//! As long as the lock goes from ticket to ticket, it is never unlocked. So the time since it last was is handed on with
//! it, and after a while whoever leaves asks Consul whether any 1.1.2 process has a session for this lock. If so, it leaves
//! the leader key unlocked, with a value that asks the first in line to wait: a 1.1.2 process that sees the key unlocked
//! tries to lock it half a second later.
//!
//! What else only 1.1.2 needs: the leader key's name and value ([`super::keys`], [`super::record`]), and that an unlocked leader key is not
//! deleted under its eyes ([`super::idle`]).

use super::http::Link;
use super::keys;
use super::session;
use super::view::{Leader, View};
use crate::clock;
use std::time::Duration;

/// How long the first in line leaves a leader key alone that was left for 1.1.2 processes, see [`super::view::ROOM`].
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

pub async fn courtesy(link: &Link, id: &str, view: &View) -> Courtesy {
    let now = clock::wall_ms();
    let since = match &view.leader {
        Leader::Locked { occupant, .. } => occupant.unbroken(),
        Leader::Absent | Leader::Free { .. } => None,
    };
    match since {
        None => Courtesy::PassOn { unbroken: now },
        // Wall clocks differ, and nothing but the time of the next look depends on them.
        Some(since) if now.abs_diff(since) < UNBROKEN_MS => Courtesy::PassOn { unbroken: since },
        Some(_) => match session::names(link).await {
            Some(names) if names.contains(&keys::legacy_session(id)) => Courtesy::LeaveRoom,
            _ => Courtesy::PassOn { unbroken: now },
        },
    }
}
