//! Going out: hands the lock to the first in line, or leaves it free; withdraws a waiter; closes behind the last reader.

use super::hold::{HoldKind, Trace};
use super::keys;
use super::legacy::{self, Courtesy};
use super::record::{Occupant, Record};
use super::session::Sessions;
use super::store::Consul;
use super::txn::{self, Op, Outcome};
use super::view::{Leader, ROOM, Role, View};
use crate::backend::{Ask, Released};
use crate::core::mode::Mode;
use crate::error::{Error, Kind, Result};
use std::rc::Rc;

/// How often a look at the lock may be out of date by the time of the step, before an error says so.
const PERSISTENCE: u32 = 1000;

impl Consul {
    /// Undoes whatever the ask has left at the server.
    pub async fn leave(&self, ask: &Ask) -> Result<Released> {
        let trace = self.trace(&ask.owner);
        trace.leaving.set(true);
        let Some(sessions) = self.present_sessions() else {
            // What a session locked, it leaves when it ends.
            self.forget(ask);
            return Ok(Released::NotHeld);
        };
        self.settle(&trace, &sessions).await?;
        let is_short = match trace.kind() {
            Some(HoldKind::Exclusive { index, queued: false }) => self.set_free(ask, &trace, &sessions, index).await?,
            Some(HoldKind::Shared { index, group }) if self.reads_on(ask, &group) => {
                self.leave_to_others(ask, &trace, index, group).await?
            }
            _ => false,
        };
        if is_short {
            self.forget(ask);
            return Ok(Released::Freed);
        }
        self.after_others(ask, &sessions).await?;
        let mut released = Released::NotHeld;
        for _ in 0..PERSISTENCE {
            let (mut view, _) = self.view(&ask.id).await?;
            self.recognise(ask, &mut view, &sessions);
            if let Some((_, group)) = view.group() {
                trace.grouped(group);
            }
            let exit = self.way_out(ask, &trace, &view, &sessions, released).await?;
            if exit.ops.is_empty() {
                if let (Leader::Free { index, room }, true) = (&view.leader, view.queue.is_empty()) {
                    // An earlier try may have unlocked it, whose answer was lost.
                    self.idle.borrow_mut().insert(ask.id.clone(), *index, *room);
                }
                self.forget(ask);
                return Ok(released);
            }
            let outcome = self.write(&trace, exit.ops, exit.vacated).await?;
            let group = trace.group.take();
            let Outcome::Done(pairs) = outcome else {
                if let Some(group) = group {
                    self.recycle(group);
                }
                continue;
            };
            if !exit.lets_readers_in
                && let Some(group) = group
            {
                self.recycle(group);
            }
            released = exit.released;
            if let Some(room) = exit.leaves_free {
                let index = txn::written_at(&pairs);
                self.idle.borrow_mut().insert(ask.id.clone(), index, room);
            }
            let after = View::new(&ask.id, &pairs);
            let was_last = after.group().is_some() && after.readers.is_empty();
            if !(exit.one_of_many && was_last) {
                self.forget(ask);
                return Ok(released);
            }
            // Others left at the same time, and everybody thought that somebody else would close: so go on.
        }
        let message = format!("Consul at {} does not come to rest", self.link.peer.name);
        Err(Error::new(Kind::Connect, message))
    }

    /// Whoever edits a leader key by hand leaves it locked, but by nobody whom the value names. If our session has it locked, it is ours to
    /// unlock: nobody else would, as long as this process lives.
    fn recognise(&self, ask: &Ask, view: &mut View, sessions: &Sessions) {
        let Leader::Locked { session, occupant, .. } = &mut view.leader else {
            return;
        };
        if *occupant != Occupant::Stranger {
            return;
        }
        if *session == sessions.leads {
            let record = Record::new(ask, &self.context.identity, &sessions.leads, &sessions.key);
            *occupant = Occupant::One(Box::new(record));
        } else if self.groups.borrow().contains_key(session) {
            *occupant = Occupant::Readers { unbroken: None };
        }
    }

    /// Whether another request of this process reads under the same session, and is not about to leave.
    fn reads_on(&self, ask: &Ask, group: &str) -> bool {
        self.traces.borrow().iter().any(|(owner, trace)| {
            let hold = trace.hold();
            *owner != ask.owner
                && !trace.leaving.get()
                && hold.is_some_and(|hold| hold.ask.id == ask.id && hold.kind.group() == Some(group))
        })
    }

    /// Waits for the readers of this process who have gone the short way before, and count on it that somebody closes behind them: what
    /// they have sent may be slower than what is sent now.
    async fn after_others(&self, ask: &Ask, sessions: &Sessions) -> Result<()> {
        let is_reader =
            |trace: &Trace| matches!(trace.hold(), Some(hold) if hold.ask.id == ask.id && hold.kind.group().is_some());
        let others: Vec<_> = self
            .traces
            .borrow()
            .iter()
            .filter(|(owner, trace)| **owner != ask.owner && trace.leaving.get() && is_reader(trace))
            .map(|(_, trace)| trace.clone())
            .collect();
        for other in others {
            self.settle(&other, sessions).await?;
        }
        Ok(())
    }

    /// The short way for one of several readers of this process: another one closes behind them, and waits for their going.
    async fn leave_to_others(&self, ask: &Ask, trace: &Rc<Trace>, index: u64, group: String) -> Result<bool> {
        let reader = keys::reader(&ask.id, &ask.owner.0);
        let ops = vec![
            Op::CheckIndex(reader.clone(), index),
            Op::CheckSession(keys::leader(&ask.id), group),
            Op::Delete(reader),
        ];
        Ok(matches!(self.give_up(trace, ops).await?, Outcome::Done(_)))
    }

    /// Unlocks the leader key if it is as it was granted: the short way for a lock that nobody waited for. Whoever came
    /// meanwhile watches the leader key and takes it.
    async fn set_free(&self, ask: &Ask, trace: &Rc<Trace>, sessions: &Sessions, index: u64) -> Result<bool> {
        let leader = keys::leader(&ask.id);
        let ops = vec![
            Op::CheckIndex(leader.clone(), index),
            Op::Unlock(leader, sessions.leads.clone(), Vec::new()),
            Op::Tree(keys::queue(&ask.id)),
        ];
        let Outcome::Done(pairs) = self.give_up(trace, ops).await? else {
            return Ok(false);
        };
        if View::new(&ask.id, &pairs).queue.is_empty() {
            self.idle
                .borrow_mut()
                .insert(ask.id.clone(), txn::written_at(&pairs), false);
        }
        Ok(true)
    }

    /// The next transaction on the way out; without operations if there is nothing left to do.
    async fn way_out(
        &self,
        ask: &Ask,
        trace: &Rc<Trace>,
        view: &View,
        sessions: &Sessions,
        released: Released,
    ) -> Result<Exit> {
        let mut exit = Exit {
            released,
            ..Exit::default()
        };
        let reader = keys::reader(&ask.id, &ask.owner.0);
        match view.role(&ask.owner, &sessions.leads) {
            Role::Sole { .. } => {
                exit.released = Released::Freed;
                self.pass_on(ask, trace, view, &mut exit).await?;
            }
            Role::Reader { index, .. } => {
                exit.released = Released::Freed;
                exit.ops = vec![Op::CheckIndex(reader.clone(), index), Op::Delete(reader)];
                if view.readers.len() == 1 {
                    self.pass_on(ask, trace, view, &mut exit).await?;
                } else {
                    exit.one_of_many = true;
                    exit.ops.push(Op::Tree(keys::folder(&ask.id)));
                }
            }
            Role::Stray { index } => exit.ops = vec![Op::CheckIndex(reader.clone(), index), Op::Delete(reader)],
            Role::Waiter { place } => {
                if let Some(ticket) = view.queue.get(place) {
                    exit.ops = vec![
                        Op::CheckIndex(ticket.key.clone(), ticket.index),
                        Op::Delete(ticket.key.clone()),
                    ];
                }
            }
            // Only whoever left as one of many closes behind the readers; others may be about to join them.
            Role::Nobody if released == Released::Freed && view.group().is_some() && view.readers.is_empty() => {
                self.pass_on(ask, trace, view, &mut exit).await?;
            }
            Role::Nobody => {}
        }
        Ok(exit)
    }

    /// Adds the operations that move the leader key to the first in line, or unlock it.
    async fn pass_on(&self, ask: &Ask, trace: &Rc<Trace>, view: &View, exit: &mut Exit) -> Result<()> {
        let Leader::Locked { index, session, .. } = &view.leader else {
            return Ok(());
        };
        let leader = keys::leader(&ask.id);
        exit.vacated = view.group().map(|(_, group)| group.to_owned());
        exit.ops.push(Op::CheckIndex(leader.clone(), *index));
        exit.ops.push(Op::Unlock(leader.clone(), session.clone(), Vec::new()));
        let Some(next) = view.queue.first() else {
            exit.leaves_free = Some(false);
            return Ok(());
        };
        let Courtesy::PassOn { unbroken } = legacy::courtesy(&self.link, &ask.id, view).await else {
            exit.ops.pop();
            exit.ops.push(Op::Unlock(leader, session.clone(), ROOM.to_vec()));
            exit.leaves_free = Some(true);
            return Ok(());
        };
        exit.ops.push(Op::CheckIndex(next.key.clone(), next.index));
        exit.ops.push(Op::Delete(next.key.clone()));
        match next.record.mode {
            Mode::Exclusive => {
                let leads = next.record.leads.clone();
                let mut record = next.record.clone();
                record.unbroken = Some(unbroken);
                exit.ops.push(Op::Lock(leader, leads, record.to_bytes()));
            }
            Mode::Shared => {
                let group = self.group_session(trace).await?;
                exit.lets_readers_in = true;
                let reader = keys::reader(&ask.id, &next.record.owner);
                exit.ops
                    .push(Op::Lock(leader, group, self.readers_value(Some(unbroken))));
                exit.ops
                    .push(Op::Lock(reader, next.session.clone(), next.value.clone()));
            }
        }
        Ok(())
    }
}

/// A transaction on the way out, and what is true after it.
struct Exit {
    ops: Vec<Op>,
    released: Released,
    /// The leader key is unlocked, because nobody waits or, if true, for 1.1.2 processes.
    leaves_free: Option<bool>,
    /// A readers' session that has no key locked any more.
    vacated: Option<String>,
    /// The session noted in the trace locks the leader key.
    lets_readers_in: bool,
    /// Other readers were in.
    one_of_many: bool,
}

impl Default for Exit {
    fn default() -> Self {
        Self {
            ops: Vec::new(),
            released: Released::NotHeld,
            leaves_free: None,
            vacated: None,
            lets_readers_in: false,
            one_of_many: false,
        }
    }
}
