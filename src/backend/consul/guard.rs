//! The one blocking query by which a process notices at once that what it holds is gone.
//!
//! Usually it is on the session that locks leader keys, whose end takes all holds with it. While a hold lasts, it is on
//! that hold's leader key instead: the key changes with the end of the session as well, and also when somebody deletes or
//! takes it. Nobody does that but by hand, and then Consul gives the lock to whoever asks first, while the holder still
//! believes in it; the next renewal would find out after half a time to live. There is one such query, because each takes a
//! connection: the oldest hold has it, the others wait for the renewal. A release ends it, because it changes the key.
//!
//! Whoever is first in line and sees the key vanish under a holder gives that query time to come back, see [`VANISHED`].

use super::http::{Fault, Lane};
use super::session::Sessions;
use super::trace::{Hold, Trace};
use super::{Consul, keys};
use crate::backend::{Event, Owner};
use crate::clock;
use std::rc::Rc;
use std::time::Duration;

/// A hold gets the query when it is this old, or twice as old at most.
const LASTING: Duration = Duration::from_millis(500);
/// How long one blocking query takes at most.
const LOOK: Duration = Duration::from_secs(60);
/// Pause after a failed look.
const PAUSE: Duration = Duration::from_millis(500);
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

/// What the query is on.
enum Target {
    Session,
    Hold(Lasting),
}

impl Consul {
    /// Watches, in the background, over this process's holds. The end of its other session, which ends for the same reasons, is
    /// noticed at the next renewal.
    pub fn watch_over(&self, sessions: &Rc<Sessions>) {
        let (me, sessions) = (self.me.clone(), sessions.clone());
        let (link, switch) = (self.link.clone(), self.switch.clone());
        let path = format!("/v1/session/info/{}", sessions.leads);
        let task = tokio::task::spawn_local(async move {
            let mut index = 1;
            let mut cut = false;
            loop {
                let Some(consul) = me.upgrade() else { return };
                let target = consul.oldest_lasting().map_or(Target::Session, Target::Hold);
                consul.on_session.set(matches!(target, Target::Session));
                drop(consul);
                let changed = match &target {
                    Target::Hold(hold) => link.has_left(&hold.leader, hold.granted, LOOK).await,
                    Target::Session => tokio::select! {
                        look = link.block(&path, index, LOOK) => look.map(|reply| {
                            index = reply.index;
                            let id = sessions.leads.as_bytes();
                            !reply.body.windows(id.len()).any(|text| text == id)
                        }),
                        () = switch.notified() => continue,
                    },
                };
                let Some(consul) = me.upgrade() else { return };
                if consul.closed.get() || sessions.ended.get() {
                    return;
                }
                let sound = match (changed, target) {
                    (Ok(false), _) => Ok(()),
                    (Ok(true), Target::Hold(hold)) => {
                        // It may have been the end of the session.
                        index = 1;
                        consul.judge(&hold).await
                    }
                    (Ok(true), Target::Session) => match consul.renew_both(&sessions, Lane::Renewal).await {
                        Ok(false) => return,
                        // It is there, but the token may not read sessions: renewals will have to do.
                        Ok(true) => return,
                        Err(fault) => Err(fault),
                    },
                    (Err(fault), _) => Err(fault),
                };
                if sound.is_err() {
                    cut = true;
                    // As below.
                    let _ = consul.context.events.send(Event::Disconnected);
                    drop(consul);
                    tokio::time::sleep(PAUSE).await;
                } else if std::mem::take(&mut cut) {
                    // Without a receiver the process is closing down.
                    let _ = consul.context.events.send(Event::Reconnected);
                }
            }
        });
        if let Some(before) = self.watcher.replace(Some(task.abort_handle())) {
            before.abort();
        }
    }

    /// Sees to it that the query turns to a hold once it has lasted; called with every grant, runs until nothing is held.
    pub fn look_after_holds(&self) {
        if self.looking.replace(true) {
            return;
        }
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(LASTING).await;
                let Some(consul) = me.upgrade() else { return };
                if consul.closed.get() || !consul.holds_any() {
                    consul.looking.set(false);
                    return;
                }
                if consul.on_session.get() && consul.oldest_lasting().is_some() {
                    consul.switch.notify_one();
                }
            }
        });
    }

    fn holds_any(&self) -> bool {
        let traces = self.traces.borrow();
        traces
            .values()
            .any(|trace| matches!(*trace.hold.borrow(), Some(Hold::Sole { .. })))
    }

    fn oldest_lasting(&self) -> Option<Lasting> {
        let now = clock::now();
        let traces = self.traces.borrow();
        let lasting = traces.iter().filter_map(|(owner, trace)| {
            let Some(Hold::Sole { index: granted, .. }) = *trace.hold.borrow() else {
                return None;
            };
            if trace.leaving.get() {
                return None;
            }
            let since = trace.since.borrow();
            let (id, since) = since.as_ref().filter(|(_, since)| now.since(*since) >= LASTING)?;
            Some((*since, owner, trace, id.clone(), granted))
        });
        let (_, owner, trace, id, granted) = lasting.min_by_key(|(since, ..)| *since)?;
        Some(Lasting {
            owner: owner.clone(),
            trace: trace.clone(),
            leader: keys::leader(&id),
            granted,
        })
    }

    /// The leader key of this hold has changed: tells of the loss, unless it was a release.
    async fn judge(&self, hold: &Lasting) -> Result<(), Fault> {
        // Whoever answered first may have been out of date.
        if self.still_holds(hold) && !self.leader_stands(hold).await? && self.still_holds(hold) {
            hold.trace.hold.take();
            self.tell_lost(&hold.owner, "its leader key was deleted or taken");
        }
        Ok(())
    }

    fn still_holds(&self, hold: &Lasting) -> bool {
        let traces = self.traces.borrow();
        let is_known = traces
            .get(&hold.owner)
            .is_some_and(|known| Rc::ptr_eq(known, &hold.trace));
        let now = hold.trace.hold.borrow();
        is_known && !hold.trace.leaving.get() && matches!(*now, Some(Hold::Sole { index, .. }) if index == hold.granted)
    }

    async fn leader_stands(&self, hold: &Lasting) -> Result<bool, Fault> {
        let pairs = self.link.read_now(Lane::Renewal, &hold.leader).await?;
        Ok(pairs
            .iter()
            .any(|pair| pair.key == hold.leader && pair.modify_index == hold.granted && pair.session().is_some()))
    }
}
