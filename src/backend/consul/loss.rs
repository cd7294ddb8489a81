//! The blocking queries by which a process notices at once that what it holds is gone.
//!
//! * One on the session that locks leader keys, and while shared locks are held on the sessions behind them. The end of a session takes
//!   all its holds with it, and all are told at once.
//! * One on the leader key of the oldest exclusive hold that has lasted. Nobody deletes such a key but by hand, and then Consul gives the lock to
//!   whoever asks first, while the holder still believes in it; the next renewal would find out after half a time to live. There is one such
//!   query, because each takes a connection: the other holds wait for the renewal.
//!
//! None is ever dropped: a release changes the key, and the end of a session ends the query on it.
//! Whoever is first in line and sees the key vanish under a holder gives that query time to come back, see [`VANISHED`].

use super::fault::Fault;
use super::hold::{HoldKind, Trace};
use super::http::Lane;
use super::keys;
use super::session;
use super::store::Consul;
use crate::backend::{Event, Owner};
use crate::clock;
use std::rc::Rc;
use std::time::Duration;

/// A hold is watched when it is this old, or twice as old at most.
const LASTING: Duration = Duration::from_millis(500);
/// Pause after a failed look.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause after a look that says what is not so.
const DOUBT: Duration = Duration::from_secs(5);
/// How many sessions are watched at a time.
const MOST: usize = 6;
/// How long the first in line waits when the leader key vanished while somebody had it locked.
pub const VANISHED: Duration = Duration::from_secs(2);

/// A hold that has lasted.
struct Lasting {
    owner: Owner,
    trace: Rc<Trace>,
    leader: String,
    /// The leader key's index at the grant.
    granted: u64,
}

impl Consul {
    /// Sees to it that the sessions behind a shared hold are watched, as far as there is room.
    pub fn watch_readers(&self, own: &str, group: &str) {
        self.watch_session(own);
        self.watch_session(group);
    }

    /// Watches, in the background, over a session as long as anything of this process depends on it.
    pub fn watch_session(&self, session: &str) {
        if self.watched.borrow().len() >= MOST || !self.watched.borrow_mut().insert(session.to_owned()) {
            return;
        }
        let (me, link, session) = (self.weak(), self.link.clone(), session.to_owned());
        tokio::task::spawn_local(async move {
            let path = format!("/v1/session/info/{session}");
            let mut index = 1;
            let mut is_cut = false;
            loop {
                let Some(wait) = me.upgrade().map(|consul| consul.read_wait) else {
                    return;
                };
                let look = link.block(&path, index, wait).await;
                let Some(consul) = me.upgrade() else { return };
                let sound = match look {
                    Ok(reply) => {
                        index = reply.index;
                        match String::from_utf8_lossy(&reply.body).contains(&session) {
                            true => Ok(true),
                            false => consul.confirm_end(&session).await.map(|()| false),
                        }
                    }
                    Err(fault) => Err(fault),
                };
                if consul.closed.get() || !consul.depends_on(&session) {
                    consul.watched.borrow_mut().remove(&session);
                    return;
                }
                if matches!(sound, Ok(false)) {
                    // It has not ended: something else answered, or the token may not read sessions.
                    index = 1;
                    drop(consul);
                    tokio::time::sleep(DOUBT).await;
                } else if sound.is_err() {
                    index = 1;
                    is_cut = true;
                    if consul.leads_with(&session) {
                        consul.tell(Event::Disconnected);
                    }
                    drop(consul);
                    tokio::time::sleep(PAUSE).await;
                } else if std::mem::take(&mut is_cut) && consul.leads_with(&session) {
                    consul.tell(Event::Reconnected);
                }
            }
        });
    }

    fn leads_with(&self, session: &str) -> bool {
        self.present_sessions()
            .is_some_and(|sessions| sessions.leads == session)
    }

    fn depends_on(&self, session: &str) -> bool {
        let owns = self.present_sessions().is_some_and(|sessions| sessions.own == session);
        let traces = self.traces.borrow();
        let mut readers = traces
            .values()
            .filter_map(|trace| trace.kind()?.group().map(str::to_owned));
        self.leads_with(session) || readers.any(|group| owns || group == session)
    }

    /// A look has not found this session.
    async fn confirm_end(&self, session: &str) -> Result<(), Fault> {
        match self.present_sessions() {
            Some(sessions) if sessions.own == session || sessions.leads == session => {
                self.renew_sessions(&sessions, Lane::Renewal, Vec::new()).await?;
            }
            _ => {
                if !session::renew(&self.link, Lane::Renewal, session).await? {
                    self.group_ended(session);
                }
            }
        }
        Ok(())
    }

    /// Sees to it that the oldest exclusive hold is watched once it has lasted; called with every grant, runs until nothing is held.
    pub fn watch_holds(&self) {
        if self.watches_holds.replace(true) {
            return;
        }
        let (me, link) = (self.weak(), self.link.clone());
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LASTING).await;
                let Some(consul) = me.upgrade() else { return };
                if consul.closed.get() || !consul.holds_any() {
                    consul.watches_holds.set(false);
                    return;
                }
                let wait = consul.read_wait;
                let oldest = consul.oldest_lasting();
                drop(consul);
                let Some(hold) = oldest else { continue };
                loop {
                    let look = link
                        .block(&keys::path(&hold.leader, false), hold.granted, wait)
                        .await
                        .and_then(|reply| link.pairs(&reply));
                    let Some(consul) = me.upgrade() else { return };
                    let sound = match look {
                        Ok(pairs) if pairs.iter().any(|pair| pair.modify_index == hold.granted) => Ok(()),
                        Ok(_) => consul.judge(&hold).await,
                        Err(fault) => Err(fault),
                    };
                    if !consul.still_holds(&hold) {
                        break;
                    }
                    drop(consul);
                    if sound.is_err() {
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
    }

    fn holds_any(&self) -> bool {
        let traces = self.traces.borrow();
        traces
            .values()
            .any(|trace| matches!(trace.kind(), Some(HoldKind::Exclusive { .. })))
    }

    fn oldest_lasting(&self) -> Option<Lasting> {
        let now = clock::now();
        let traces = self.traces.borrow();
        let lasting = traces.iter().filter_map(|(owner, trace)| {
            let hold = trace.hold().filter(|hold| now.since(hold.since) >= LASTING)?;
            let HoldKind::Exclusive { index: granted, .. } = hold.kind else {
                return None;
            };
            (!trace.leaving.get()).then(|| {
                let leader = keys::leader(&hold.ask.id);
                let (owner, trace) = (owner.clone(), trace.clone());
                (
                    hold.since,
                    Lasting {
                        owner,
                        trace,
                        leader,
                        granted,
                    },
                )
            })
        });
        lasting.min_by_key(|(since, _)| *since).map(|(_, lasting)| lasting)
    }

    /// The leader key of this hold has changed: tells of the loss, unless it was a release.
    async fn judge(&self, hold: &Lasting) -> Result<(), Fault> {
        if !self.still_holds(hold) {
            return Ok(());
        }
        // Whoever answered first may have been out of date.
        let pairs = self.link.read_now(Lane::Renewal, &hold.leader).await?;
        let stands = pairs
            .iter()
            .any(|pair| pair.key == hold.leader && pair.modify_index == hold.granted && pair.session().is_some());
        if !stands && self.still_holds(hold) && hold.trace.end_hold() {
            self.tell_lost(&hold.owner, "its leader key was deleted or taken");
        }
        Ok(())
    }

    fn still_holds(&self, hold: &Lasting) -> bool {
        let traces = self.traces.borrow();
        let known = traces.get(&hold.owner);
        let is_known = known.is_some_and(|known| Rc::ptr_eq(known, &hold.trace));
        let is_same = matches!(hold.trace.kind(), Some(HoldKind::Exclusive { index, .. }) if index == hold.granted);
        is_known && !hold.trace.leaving.get() && is_same
    }
}
