//! Going in over whoever is in.

use super::acquire::{Attempted, DELAYED, PERSISTENCE};
use super::hold::HoldKind;
use super::keys;
use super::session::{self, Sessions};
use super::store::Consul;
use super::txn::{self, Op};
use super::view::{Leader, Role, View};
use crate::backend::{Ask, Refusal, Taken};
use crate::error::{Error, Kind};
use std::rc::Rc;

impl Consul {
    /// Takes the lock from whoever has it. The sessions of its holders have other locks and stay as they are; that of readers has nothing else and
    /// ends, which tells them. Other holders' processes see their leader key change: see [`super::loss`].
    pub async fn steal(&self, ask: &Rc<Ask>) -> Result<Taken, Refusal> {
        let mut in_vain = 0;
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
            let (view, _) = self.view(&ask.id).await?;
            let note = |index| self.note(ask, &trace, HoldKind::Exclusive { index, queued: true });
            // By an earlier transaction whose answer was lost.
            if let Role::Sole { index } = view.role(&ask.owner, &sessions.leads) {
                note(index);
                continue;
            }
            let ops = self.seize(ask, &view, &sessions);
            match self.attempt(&trace, &sessions, ops, None).await? {
                Attempted::Done(pairs) => {
                    if let Some((_, group)) = view.group() {
                        self.end_group(group);
                    }
                    note(txn::written_at(&pairs));
                }
                Attempted::Delayed => tokio::time::sleep(DELAYED).await,
                Attempted::Stale(_) if in_vain < PERSISTENCE => in_vain += 1,
                Attempted::Stale(why) => {
                    let message = format!("Consul at {} does not come to rest", self.link.peer.name);
                    return Err(Refusal::Away(Error::new(Kind::Connect, message).because(why)));
                }
            }
        }
    }

    fn seize(&self, ask: &Ask, view: &View, sessions: &Sessions) -> Vec<Op> {
        let leader = keys::leader(&ask.id);
        let mut ops = vec![sessions.fence()];
        match &view.leader {
            Leader::Absent => ops.push(Op::CheckAbsent(leader.clone())),
            Leader::Free { index, .. } => ops.push(Op::CheckIndex(leader.clone(), *index)),
            Leader::Locked { index, session, .. } => {
                ops.push(Op::CheckIndex(leader.clone(), *index));
                ops.push(Op::Unlock(leader.clone(), session.clone(), Vec::new()));
            }
        }
        ops.push(Op::Lock(leader, sessions.leads.clone(), self.record(ask, sessions)));
        ops.push(Op::DeleteTree(keys::readers(&ask.id)));
        ops
    }

    /// This session has locked the leader key for readers, who are out now.
    fn end_group(&self, group: &str) {
        self.groups.borrow_mut().remove(group);
        let (link, group) = (self.link.clone(), group.to_owned());
        self.errands.run(async move {
            // Its readers find their keys gone, and do not renew it any more.
            let _ = session::destroy(&link, &group).await;
        });
    }
}
