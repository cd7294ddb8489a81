//! Going in: read, decide, and write under checks that what was read still holds.

use super::hold::{Hold, HoldKind, Trace};
use super::http::Lane;
use super::keys;
use super::legacy::STAND_BACK;
use super::liveness::Lookout;
use super::loss::VANISHED;
use super::record::{self, Record};
use super::session::Sessions;
use super::store::Consul;
use super::txn::{self, Op, Outcome, Pair};
use super::view::{Leader, Role, Step, View};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use crate::clock;
use crate::core::mode::Mode;
use crate::error::{Error, Kind};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// After a session ended by itself, Consul keeps its keys closed for the lock delay, and tells nobody when that is over.
pub const DELAYED: Duration = Duration::from_millis(50);

/// How often a look at the lock may be out of date by the time of the step, before an error says so.
pub const PERSISTENCE: u32 = 1000;

/// A transaction that goes in, and what is true after it.
struct Plan {
    ops: Vec<Op>,
    /// For a reader: the session that has the leader key locked.
    group: Option<String>,
    /// A readers' session that has no key locked afterwards.
    vacated: Option<String>,
}

/// What became of a transaction that should have made something.
pub enum Attempted {
    Done(Vec<Pair>),
    /// Something was not as it was read: read again.
    Stale(String),
    /// The leader key is in its lock delay.
    Delayed,
}

impl Consul {
    /// Takes the lock or waits for it. Dropped at any point, it leaves nothing that [`Consul::leave`] does not find.
    pub async fn strive(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let mut known = self.remembered(ask);
        let mut in_vain = 0;
        let mut standing_back: Option<(u64, Instant)> = None;
        let mut lookout = Lookout::default();
        let mut looks = 0;
        loop {
            let trace = self.trace(&ask.owner);
            let sessions = self.sessions().await?;
            self.settle(&trace, &sessions).await?;
            if let Some(kind) = trace.kind() {
                match self.begin_hold(ask, &trace, kind, &sessions).await? {
                    Some(taken) => return Ok(taken),
                    None => continue,
                }
            }
            let (view, index) = match known.take() {
                Some(known) => known,
                None => self.view(&ask.id).await?,
            };
            let place = match view.role(&ask.owner, &sessions.leads) {
                Role::Sole { index } => {
                    // Where one waited, more may wait by now.
                    self.note(ask, &trace, HoldKind::Exclusive { index, queued: true });
                    continue;
                }
                Role::Reader { index, group } => {
                    trace.grouped(&group);
                    self.note(ask, &trace, HoldKind::Shared { index, group });
                    continue;
                }
                Role::Stray { .. } => {
                    self.leave(ask).await?;
                    continue;
                }
                Role::Waiter { place } => {
                    ask.waited.set(true);
                    Some(place)
                }
                Role::Nobody => None,
            };
            if let (
                Leader::Free {
                    index: left,
                    room: true,
                },
                Some(0),
            ) = (&view.leader, place)
            {
                let until = match standing_back {
                    Some((known, until)) if known == *left => until,
                    _ => Instant::now() + STAND_BACK,
                };
                standing_back = Some((*left, until));
                // A look may end before that, without any change.
                if Instant::now() < until {
                    let leader = keys::leader(&ask.id);
                    let look = self.look_out(&sessions, &leader, false, index, &mut lookout, 0);
                    if let Ok(look) = tokio::time::timeout_at(until, look).await {
                        look?;
                    }
                    continue;
                }
            }
            let plan = match view.step(ask, place) {
                Step::Take => self.plan_to_take(ask, &trace, &view, place, &sessions).await?,
                Step::Join => match self.plan_to_join(ask, &view, place, &sessions) {
                    Some(plan) => plan,
                    None => continue,
                },
                _ if ask.attempt == Attempt::Try => {
                    self.forget(ask);
                    return Err(Refusal::Busy);
                }
                Step::Enqueue => {
                    known = self.enqueue(ask, &trace, &sessions).await?;
                    continue;
                }
                Step::Await { key, below } => {
                    let place = place.unwrap_or(0);
                    lookout.turn_to(self, view.suspects(place, &sessions.key), place);
                    let look = self.look_out(&sessions, &key, below, index, &mut lookout, looks);
                    let seen = look.await?;
                    looks += 1;
                    let Some(seen) = seen.filter(|_| !below).map(|seen| View::new(&ask.id, &seen)) else {
                        continue;
                    };
                    if key == keys::leader(&ask.id) && seen.leader == Leader::Absent && !sessions.ended.get() {
                        tokio::time::sleep(VANISHED).await;
                    }
                    // A leader key that names us says all there is to know.
                    if matches!(seen.role(&ask.owner, &sessions.leads), Role::Sole { .. }) {
                        known = Some((seen, index));
                    }
                    continue;
                }
            };
            let attempted = self.attempt(&trace, &sessions, plan.ops, plan.vacated).await?;
            if !matches!(attempted, Attempted::Done(_))
                && let Some(group) = trace.group.take()
            {
                self.recycle(group);
            }
            match attempted {
                Attempted::Done(pairs) if place.is_none() && !View::new(&ask.id, &pairs).queue.is_empty() => {
                    // Somebody came between our look and our step, and was first.
                    self.leave(ask).await?;
                    if ask.attempt == Attempt::Try {
                        return Err(Refusal::Busy);
                    }
                }
                Attempted::Done(pairs) => {
                    trace.group.take();
                    let index = txn::written_at(&pairs);
                    let queued = place.is_some();
                    let kind = match plan.group {
                        Some(group) => HoldKind::Shared { index, group },
                        None => HoldKind::Exclusive { index, queued },
                    };
                    self.note(ask, &trace, kind);
                }
                Attempted::Delayed if ask.attempt == Attempt::Try => {
                    self.forget(ask);
                    return Err(Refusal::Busy);
                }
                // The place in line is taken now, not when the delay is over.
                Attempted::Delayed if place.is_none() => known = self.enqueue(ask, &trace, &sessions).await?,
                Attempted::Delayed => tokio::time::sleep(DELAYED).await,
                Attempted::Stale(_) if in_vain < PERSISTENCE => in_vain += 1,
                Attempted::Stale(why) => {
                    let message = format!("Consul at {} does not come to rest", self.link.peer.name);
                    return Err(Refusal::Away(Error::new(Kind::Connect, message).because(why)));
                }
            }
        }
    }

    /// The lock as this process left it, if nobody is known to have been there since.
    fn remembered(&self, ask: &Ask) -> Option<(View, u64)> {
        let index = self.idle.borrow_mut().take(&ask.id)?;
        let view = View {
            leader: Leader::Free { index, room: false },
            queue: Vec::new(),
            readers: Vec::new(),
        };
        Some((view, index))
    }

    async fn plan_to_take(
        &self,
        ask: &Ask,
        trace: &Rc<Trace>,
        view: &View,
        place: Option<usize>,
        sessions: &Sessions,
    ) -> Result<Plan, Refusal> {
        let leader = keys::leader(&ask.id);
        let mut plan = Plan {
            ops: vec![sessions.fence()],
            group: None,
            vacated: None,
        };
        match &view.leader {
            Leader::Absent => plan.ops.push(Op::CheckAbsent(leader.clone())),
            Leader::Free { index, .. } => plan.ops.push(Op::CheckIndex(leader.clone(), *index)),
            Leader::Locked { index, session, .. } => {
                plan.ops.push(Op::CheckIndex(leader.clone(), *index));
                plan.ops.push(Op::Unlock(leader.clone(), session.clone(), Vec::new()));
                plan.vacated = Some(session.clone());
            }
        }
        let value = self.record(ask, sessions);
        match ask.mode {
            Mode::Exclusive => plan.ops.push(Op::Lock(leader, sessions.leads.clone(), value)),
            Mode::Shared => {
                let group = self.group_session(trace).await?;
                let reader = keys::reader(&ask.id, &ask.owner.0);
                plan.ops.push(Op::Lock(leader, group.clone(), self.readers_value(None)));
                plan.ops.push(Op::Lock(reader, sessions.own.clone(), value));
                plan.group = Some(group);
            }
        }
        plan.ops.extend(use_ticket(ask, view, place));
        Ok(plan)
    }

    fn plan_to_join(&self, ask: &Ask, view: &View, place: Option<usize>, sessions: &Sessions) -> Option<Plan> {
        let (_, group) = view.group()?;
        let unbroken = match &view.leader {
            Leader::Locked { occupant, .. } => occupant.unbroken(),
            Leader::Absent | Leader::Free { .. } => None,
        };
        let leader = keys::leader(&ask.id);
        let reader = keys::reader(&ask.id, &ask.owner.0);
        let mut ops = vec![
            sessions.fence(),
            Op::CheckSession(leader.clone(), group.to_owned()),
            // Written anew, so that whoever thinks the readers are gone finds out that they are not.
            Op::Lock(leader, group.to_owned(), self.readers_value(unbroken)),
            Op::Lock(reader, sessions.own.clone(), self.record(ask, sessions)),
        ];
        ops.extend(use_ticket(ask, view, place));
        Some(Plan {
            ops,
            group: Some(group.to_owned()),
            vacated: None,
        })
    }

    /// Takes a place in line. Gives the lock as it was right after that.
    async fn enqueue(
        &self,
        ask: &Ask,
        trace: &Rc<Trace>,
        sessions: &Rc<Sessions>,
    ) -> Result<Option<(View, u64)>, Refusal> {
        let ops = vec![
            sessions.fence(),
            Op::Lock(
                keys::ticket(&ask.id, &ask.owner),
                sessions.own.clone(),
                self.record(ask, sessions),
            ),
            Op::Tree(keys::folder(&ask.id)),
        ];
        Ok(match self.attempt(trace, sessions, ops, None).await? {
            Attempted::Done(pairs) => Some((View::new(&ask.id, &pairs), txn::written_at(&pairs))),
            Attempted::Stale(_) | Attempted::Delayed => None,
        })
    }

    pub async fn attempt(
        &self,
        trace: &Rc<Trace>,
        sessions: &Rc<Sessions>,
        ops: Vec<Op>,
        vacated: Option<String>,
    ) -> Result<Attempted, Refusal> {
        let why = match self.write(trace, ops, vacated).await.map_err(Error::from)? {
            Outcome::Done(pairs) => return Ok(Attempted::Done(pairs)),
            Outcome::Refused(why) => why,
        };
        let about = |session: &str| why.iter().any(|why| why.what.contains(session));
        let ended = if about("invalid session") {
            about(&sessions.own) || about(&sessions.leads)
        } else {
            // Refused at the fence: written anew for another ask, or gone with the session.
            why.iter().any(|why| why.op_index == 0) && !sessions.read_fence(&self.link).await?
        };
        if ended {
            self.end(sessions, "the session ended");
        } else if about("lock delay") {
            return Ok(Attempted::Delayed);
        }
        let first = why.into_iter().next();
        Ok(Attempted::Stale(first.map(|why| why.what).unwrap_or_default()))
    }

    /// Returns when the key, or one below the prefix, changed, with what is there now; when the sessions ended; or after a
    /// while.
    async fn look_out(
        &self,
        sessions: &Sessions,
        key: &str,
        below: bool,
        index: u64,
        lookout: &mut Lookout,
        looks: u32,
    ) -> Result<Option<Rc<Vec<Pair>>>, Refusal> {
        let upset = self.upset.notified();
        tokio::pin!(upset);
        upset.as_mut().enable();
        if sessions.ended.get() {
            return Ok(None);
        }
        tokio::select! {
            () = upset => Ok(None),
            () = lookout.death() => Ok(None),
            change = self.watches.change(key, below, index, looks) => Ok(change.map_err(Error::from)?),
        }
    }

    /// A value for the leader key under readers that it never had before.
    pub fn readers_value(&self, unbroken: Option<u64>) -> Vec<u8> {
        let number = self.entries.get() + 1;
        self.entries.set(number);
        record::readers(&format!("{}/{number}", self.context.identity.instance), unbroken)
    }

    pub fn note(&self, ask: &Rc<Ask>, trace: &Trace, kind: HoldKind) {
        trace.note(Hold {
            ask: ask.clone(),
            kind,
            since: clock::now(),
        });
    }

    /// The server has granted: dates the hold by the last renewal that is proven, renews first if that is old, and sees to it that the hold
    /// is watched. `None` if it is over already.
    pub async fn begin_hold(
        &self,
        ask: &Rc<Ask>,
        trace: &Rc<Trace>,
        kind: HoldKind,
        sessions: &Rc<Sessions>,
    ) -> Result<Option<Taken>, Refusal> {
        let renewed = match kind.group() {
            // Whoever made it may be gone by now.
            Some(group) if !self.is_group_fresh(group) => self.renew_group(sessions, group).await,
            _ => Ok(true),
        };
        let renewed = match renewed {
            Ok(true) if !self.is_fresh(sessions.renewed_at.get()) => {
                self.renew_sessions(sessions, Lane::Call, Vec::new()).await
            }
            renewed => renewed,
        };
        let leased_at = match renewed.map_err(Error::from)? {
            true => self.leased_at(&kind, sessions),
            false => None,
        };
        let (Some(leased_at), true) = (leased_at, trace.kind().as_ref() == Some(&kind)) else {
            self.leave(ask).await?;
            return Ok(None);
        };
        match kind.group() {
            None => self.watch_holds(),
            Some(group) => self.watch_readers(&sessions.own, group),
        }
        Ok(Some(Taken {
            token: ask.fenced.then(|| kind.token()),
            leased_at,
        }))
    }

    pub fn record(&self, ask: &Ask, sessions: &Sessions) -> Vec<u8> {
        Record::new(ask, &self.context.identity, &sessions.leads, &sessions.key).to_bytes()
    }
}

/// The rest of a transaction that goes in: gives the ticket back, or shows who else came.
fn use_ticket(ask: &Ask, view: &View, place: Option<usize>) -> Vec<Op> {
    match place.and_then(|place| view.queue.get(place)) {
        Some(ticket) => vec![
            Op::CheckIndex(ticket.key.clone(), ticket.index),
            Op::Delete(ticket.key.clone()),
        ],
        None => vec![Op::Tree(keys::queue(&ask.id))],
    }
}
