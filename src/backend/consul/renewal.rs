//! Keeping holds alive, and finding out which are gone.

use super::http::{Fault, Lane};
use super::session::{self, Sessions};
use super::trace::Hold;
use super::txn::{self, Op, Outcome};
use super::{Consul, keys};
use crate::backend::{Ask, Owner, Stage};
use crate::clock;
use crate::error::Result;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

impl Consul {
    /// Renews both sessions of the process. `false` if one of them has ended, and then every hold is lost.
    pub async fn renew_both(&self, sessions: &Rc<Sessions>, lane: Lane) -> Result<bool, Fault> {
        let sent = clock::now();
        for session in [&sessions.own, &sessions.leads] {
            if !session::renew(&self.link, lane, session).await? {
                self.end(sessions, "the session ended");
                return Ok(false);
            }
        }
        // Only a renewal that others could see counts.
        if !self.show_life(sessions, lane).await? {
            self.end(sessions, "others found it dead");
            return Ok(false);
        }
        sessions.renewed_at.set(sessions.renewed_at.get().max(sent));
        Ok(true)
    }

    /// The owners whose holds the server does not have any more.
    pub async fn renew_all(&self, asks: &[Rc<Ask>]) -> Result<Vec<Owner>> {
        let mut held: Vec<(Rc<Ask>, Hold)> = Vec::new();
        let mut gone: Vec<Owner> = Vec::new();
        for ask in asks {
            let trace = self.traces.borrow().get(&ask.owner).cloned();
            match trace.and_then(|trace| trace.hold.borrow().clone()) {
                Some(hold) => held.push((ask.clone(), hold)),
                // It went with a session that ended.
                None if ask.stage.get() == Stage::Held => gone.push(ask.owner.clone()),
                None => {}
            }
        }
        let sessions = self.sessions.borrow().clone().filter(|sessions| !sessions.ended.get());
        let alive = match &sessions {
            Some(sessions) => self.renew_both(sessions, Lane::Renewal).await?,
            None => false,
        };
        let (Some(sessions), true) = (sessions, alive) else {
            if asks.is_empty() {
                self.sessions().await?;
            }
            gone.extend(held.into_iter().map(|(ask, _)| ask.owner.clone()));
            return Ok(gone);
        };
        self.renew_groups().await?;
        self.tidy();
        gone.extend(self.missing(&held, &sessions).await?);
        Ok(gone)
    }

    /// Renews every session that locks leader keys for readers of this process, and the spare one.
    async fn renew_groups(&self) -> Result<(), Fault> {
        let mut groups: BTreeSet<String> = self.spare.borrow().iter().cloned().collect();
        for trace in self.traces.borrow().values() {
            groups.extend(trace.group.borrow().clone());
            if let Some(Hold::Reader { group, .. }) = &*trace.hold.borrow() {
                groups.insert(group.clone());
            }
        }
        for group in groups {
            // One that ended shows in `missing`, because it locks no key any more.
            if !session::renew(&self.link, Lane::Renewal, &group).await? {
                self.spare.borrow_mut().take_if(|spare| *spare == group);
            }
        }
        Ok(())
    }

    /// Of these holds, the owners of those whose keys are not as they were when they were granted.
    async fn missing(&self, held: &[(Rc<Ask>, Hold)], sessions: &Sessions) -> Result<Vec<Owner>> {
        let mut checks: Vec<(Op, Owner)> = Vec::new();
        for (ask, hold) in held {
            let owner = &ask.owner;
            match hold {
                Hold::Sole { index, .. } => {
                    let leader = keys::leader(&ask.id);
                    checks.push((Op::CheckIndex(leader.clone(), *index), owner.clone()));
                    checks.push((Op::CheckSession(leader, sessions.leads.clone()), owner.clone()));
                }
                Hold::Reader { index, group } => {
                    let key = keys::reader(&ask.id, &owner.0);
                    checks.push((Op::CheckIndex(key, *index), owner.clone()));
                    checks.push((Op::CheckSession(keys::leader(&ask.id), group.clone()), owner.clone()));
                }
            }
        }
        let mut gone = HashSet::new();
        for chunk in checks.chunks(txn::MOST) {
            let ops: Vec<Op> = chunk.iter().map(|(op, _)| op.clone()).collect();
            if let Outcome::Refused(why) = self.link.txn(Lane::Renewal, &ops).await? {
                gone.extend(
                    why.iter()
                        .filter_map(|why| chunk.get(why.op_index))
                        .map(|(_, owner)| owner),
                );
            }
        }
        // What was released while we asked is not missing.
        let traces = self.traces.borrow();
        let grants: HashMap<&Owner, &Hold> = held.iter().map(|(ask, hold)| (&ask.owner, hold)).collect();
        Ok(gone
            .into_iter()
            .filter(|owner| {
                let present = traces.get(*owner).and_then(|trace| trace.hold.borrow().clone());
                present.as_ref() == grants.get(owner).copied()
            })
            .cloned()
            .collect())
    }
}
