//! The connection to a server is gone: it is tried until the server answers, so that "reconnect" comes also where nobody asks anything.

use super::entry::Entry;
use super::pause::Pause;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A look at the server may be answered by what is known from a moment ago, which may be before the outage.
const MOMENT: Duration = Duration::from_secs(1);

/// Runs until the server has answered, or somebody else has found that it does.
pub async fn end(entry: Rc<Entry>) {
    let mut pause = Pause::new();
    while entry.is_away() {
        tokio::select! {
            biased;
            () = entry.reconnected.notified() => continue,
            () = sleep(MOMENT + pause.next()) => {}
        }
        if !entry.is_away() {
            return;
        }
        let limit = entry.server.options.connect_timeout;
        if matches!(timeout(limit, entry.backend.check()).await, Ok(Ok(()))) {
            entry.tell_reconnected();
        }
    }
}
