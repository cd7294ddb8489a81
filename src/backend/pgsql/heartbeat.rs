//! Heartbeats: how a connection on which nothing comes back is noticed before the server gives it up.

use super::session::Session;
use crate::clock;
use crate::error::{Error, Kind};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Timers do not count the time a machine is suspended; the clock of leases does, and is looked at this often.
const LOOK: Duration = Duration::from_secs(1);

/// Asks every session for a sign of life and waits up to `limit` for the answers.
///
/// A session that stays silent is ended on this side when its lease is over, and tells so itself; the others are not
/// concerned.
pub async fn beat(sessions: &[Rc<Session>], limit: Duration) {
    let deadline = Instant::now() + limit;
    let beats: Vec<_> = sessions
        .iter()
        .filter(|session| !session.beating.replace(true))
        .map(|session| tokio::task::spawn_local(ask(session.clone())))
        .collect();
    for beat in beats {
        let _ = timeout_at(deadline, beat).await;
    }
}

/// Resolves when the session has answered, or has come to its end.
async fn ask(session: Rc<Session>) {
    tokio::select! {
        biased;
        _ = session.ping() => {}
        () = lease_over(&session) => {
            let message = format!("PostgreSQL at {} has been silent for {:?}", session.peer, session.login.ttl());
            session.cut(Error::new(Kind::Connect, message));
        }
    }
    session.beating.set(false);
}

async fn lease_over(session: &Session) {
    loop {
        let until = session.login.terms.believed_until(session.heard.get());
        let left = until.since(clock::now());
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}
