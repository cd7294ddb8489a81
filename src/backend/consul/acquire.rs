//! Going in: read, decide, and write under checks that what was read still holds.

use super::guard::VANISHED;
use super::http::Lane;
use super::record::{self, Record};
use super::room::STAND_BACK;
use super::session::{self, Sessions};
use super::trace::{Hold, Trace};
use super::txn::{self, Op, Outcome, Pair};
use super::view::{Leader, Role, Step, View};
use super::vigil::Suspect;
use super::{Consul, keys};
use crate::backend::{Ask, Attempt, Refusal, Taken};
use crate::clock;
use crate::core::mode::Mode;
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// After a session ended by itself, Consul keeps its keys closed for the lock delay, and tells nobody when that is over.
const DELAYED: Duration = Duration::from_millis(50);

/// How often a look at the lock may be out of date by the time of the step, before an error says so.
const PERSISTENCE: u32 = 1000;

/// A transaction that goes in, and what is true after it.
struct Plan {
    ops: Vec<Op>,
    /// For a reader: the session that has the leader key locked.
    group: Option<String>,
    /// A readers' session that has no key locked afterwards.
    vacated: Option<String>,
    /// No earlier than the last renewal of `group`.
    leased_at: Moment,
}

/// What became of a transaction that should have made something.
enum Attempted {
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
        loop {
            let trace = self.trace(&ask.owner);
            let sessions = self.sessions().await?;
            self.settle(&trace, &sessions).await?;
            if let Some(hold) = trace.hold.borrow().clone() {
                return Ok(taken(ask, &hold, sessions.renewed_at.get()));
            }
            let (view, index) = match known.take() {
                Some(known) => known,
                None => self.view(&ask.id).await?,
            };
            let place = match view.role(&ask.owner, &sessions.leads) {
                Role::Sole { index } => {
                    // Where one waited, more may wait by now.
                    return Ok(self.hold(ask, &trace, Hold::Sole { index, queued: true }, &sessions));
                }
                Role::Reader { index, group } => {
                    // Whoever let us in may be gone by now: the lease counts from a renewal of our own.
                    let sent = clock::now();
                    trace.grouped(&group);
                    if self.renew_group(&group).await? {
                        let taken = self.hold(ask, &trace, Hold::Reader { index, group }, &sessions);
                        return Ok(earlier(taken, sent));
                    }
                    self.leave(ask).await?;
                    continue;
                }
                Role::Stray { .. } => {
                    self.leave(ask).await?;
                    continue;
                }
                Role::Waiter { place } => Some(place),
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
                    let look = self.look_out(&sessions, &leader, false, index, &[]);
                    if let Ok(look) = tokio::time::timeout_at(until, look).await {
                        look?;
                    }
                    continue;
                }
            }
            let plan = match view.step(ask, place) {
                Step::Take => self.plan_to_take(ask, &trace, &view, place, &sessions).await?,
                Step::Join => match self.plan_to_join(ask, &view, place, &sessions).await? {
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
                Step::AwaitKey(key) => {
                    let suspects = view.suspects(place);
                    let seen = self.look_out(&sessions, &key, false, index, &suspects).await?;
                    // A leader key that names us says all there is to know.
                    let seen = View::new(&ask.id, &seen);
                    if key == keys::leader(&ask.id) && seen.leader == Leader::Absent && !sessions.ended.get() {
                        tokio::time::sleep(VANISHED).await;
                    }
                    if matches!(seen.role(&ask.owner, &sessions.leads), Role::Sole { .. }) {
                        known = Some((seen, index));
                    }
                    continue;
                }
                Step::AwaitBelow(prefix) => {
                    self.look_out(&sessions, &prefix, true, index, &view.suspects(place))
                        .await?;
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
                    let granted = match plan.group {
                        Some(group) => Hold::Reader { index, group },
                        None => Hold::Sole {
                            index,
                            queued: place.is_some(),
                        },
                    };
                    return Ok(earlier(self.hold(ask, &trace, granted, &sessions), plan.leased_at));
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
                    let message = format!("Consul at {} does not come to rest", self.link.peer());
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
            leased_at: clock::now(),
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

    /// `None` if the readers are on their way out.
    async fn plan_to_join(
        &self,
        ask: &Ask,
        view: &View,
        place: Option<usize>,
        sessions: &Sessions,
    ) -> Result<Option<Plan>, Refusal> {
        let Some((_, group)) = view.group() else {
            return Ok(None);
        };
        let leased_at = clock::now();
        if !self.renew_group(group).await? {
            return Ok(None);
        }
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
        Ok(Some(Plan {
            ops,
            group: Some(group.to_owned()),
            vacated: None,
            leased_at,
        }))
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

    async fn attempt(
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
        suspects: &[Suspect],
    ) -> Result<Vec<Pair>, Refusal> {
        let upset = self.upset.notified();
        tokio::pin!(upset);
        upset.as_mut().enable();
        if sessions.ended.get() {
            return Ok(Vec::new());
        }
        tokio::select! {
            () = upset => Ok(Vec::new()),
            () = self.keep_vigil(suspects) => Ok(Vec::new()),
            change = self.link.await_change(key, below, index) => Ok(change.map_err(Error::from)?),
        }
    }

    async fn renew_group(&self, group: &str) -> Result<bool, Refusal> {
        Ok(session::renew(&self.link, Lane::Foreground, group)
            .await
            .map_err(Error::from)?)
    }

    /// A value for the leader key under readers that it never had before.
    pub fn readers_value(&self, unbroken: Option<u64>) -> Vec<u8> {
        let number = self.entries.get() + 1;
        self.entries.set(number);
        record::readers(&format!("{}/{number}", self.context.identity.instance), unbroken)
    }

    /// Notes the grant and sees to it that the hold is watched if it lasts.
    fn hold(&self, ask: &Ask, trace: &Trace, hold: Hold, sessions: &Sessions) -> Taken {
        let taken = taken(ask, &hold, sessions.renewed_at.get());
        *trace.since.borrow_mut() = Some((ask.id.clone(), clock::now()));
        *trace.hold.borrow_mut() = Some(hold);
        self.look_after_holds();
        taken
    }

    fn record(&self, ask: &Ask, sessions: &Sessions) -> Vec<u8> {
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

fn taken(ask: &Ask, hold: &Hold, leased_at: Moment) -> Taken {
    Taken {
        token: ask.fenced.then(|| hold.token()),
        leased_at,
    }
}

fn earlier(taken: Taken, sent: Moment) -> Taken {
    Taken {
        leased_at: taken.leased_at.min(sent),
        ..taken
    }
}
