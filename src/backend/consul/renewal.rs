//! Keeping holds alive, what proves that, and finding out which are gone.
//!
//! A server answers a renewal from its own list of sessions as long as it takes itself for the leader, and one that was stopped and
//! goes on does so for a moment after another was elected. So a renewal counts only if the leader is the same before it was
//! sent and after a consistent read that was asked for later: the read shows that a leader who knew that it was one has answered since,
//! and whoever is elected starts every session anew with its full time.

use super::fault::Fault;
use super::hold::{Hold, HoldKind};
use super::http::Lane;
use super::keys;
use super::session::{self, Sessions};
use super::store::Consul;
use super::txn::{self, Op, Outcome};
use crate::backend::{Ask, Owner, Stage};
use crate::clock;
use crate::core::time::Moment;
use crate::error::Result;
use std::collections::HashSet;
use std::rc::Rc;
use tokio::task::JoinSet;

/// How often a renewal is repeated at once because the leader changed.
const ELECTIONS: u32 = 3;
/// How many readers' sessions are renewed at a time, and how many transactions that check holds are under way.
const AT_ONCE: usize = 4;

impl Consul {
    /// Renews both sessions of the process, and these of readers, and notes what is proven. `false` if one of the two has ended, and
    /// then every hold is lost.
    pub async fn renew_sessions(
        &self,
        sessions: &Rc<Sessions>,
        lane: Lane,
        groups: Vec<String>,
    ) -> Result<bool, Fault> {
        for _ in 0..ELECTIONS {
            let leader = sessions.leader.borrow().clone();
            let sent = clock::now();
            for session in [&sessions.own, &sessions.leads] {
                if !session::renew(&self.link, lane, session).await? {
                    self.end(sessions, "the session ended");
                    return Ok(false);
                }
            }
            let renewed = self.renew_groups(lane, &groups).await;
            // Only a renewal that others could see counts.
            if !self.show_life(sessions, lane).await? {
                self.end(sessions, "others found it dead");
                return Ok(false);
            }
            if self.still_leads(sessions, lane, &leader).await? {
                sessions.renewed_at.set(sessions.renewed_at.get().max(sent));
                self.note_groups(renewed);
                return Ok(true);
            }
        }
        Err(self.no_rest())
    }

    /// Renews a readers' session that others may have made; `false` if it has ended.
    pub async fn renew_group(&self, sessions: &Sessions, group: &str) -> Result<bool, Fault> {
        for _ in 0..ELECTIONS {
            let leader = sessions.leader.borrow().clone();
            let sent = clock::now();
            if !session::renew(&self.link, Lane::Call, group).await? {
                return Ok(false);
            }
            self.link.read_now(Lane::Call, &sessions.key).await?;
            if self.still_leads(sessions, Lane::Call, &leader).await? {
                self.note_groups(vec![(group.to_owned(), Some(sent))]);
                return Ok(true);
            }
        }
        Err(self.no_rest())
    }

    fn no_rest(&self) -> Fault {
        let message = format!("the Consul cluster of {} changes its leader", self.link.peer.name);
        self.link.peer.away(message)
    }

    /// To be asked after a consistent read.
    async fn still_leads(&self, sessions: &Sessions, lane: Lane, leader: &str) -> Result<bool, Fault> {
        let now = self.link.leader(lane).await?;
        let same = now == leader;
        *sessions.leader.borrow_mut() = now;
        Ok(same)
    }

    /// Each with the moment at which its renewal was sent, or without if it has ended; those of which nothing is known are left out.
    async fn renew_groups(&self, lane: Lane, groups: &[String]) -> Vec<(String, Option<Moment>)> {
        let mut renewed = Vec::new();
        for some in groups.chunks(AT_ONCE) {
            let mut tasks = JoinSet::new();
            for group in some {
                let (link, group) = (self.link.clone(), group.clone());
                tasks.spawn_local(async move {
                    let sent = clock::now();
                    let alive = session::renew(&link, lane, &group).await;
                    (group, alive.map(|alive| alive.then_some(sent)))
                });
            }
            while let Some(answer) = tasks.join_next().await {
                if let Ok((group, Ok(sent))) = answer {
                    renewed.push((group, sent));
                }
            }
        }
        renewed
    }

    fn note_groups(&self, renewed: Vec<(String, Option<Moment>)>) {
        for (group, sent) in renewed {
            match sent {
                Some(sent) => {
                    let mut groups = self.groups.borrow_mut();
                    let proven = groups.entry(group).or_insert(sent);
                    *proven = (*proven).max(sent);
                }
                None => self.group_ended(&group),
            }
        }
    }

    /// A readers' session ended: whoever reads under it has lost the lock.
    pub fn group_ended(&self, group: &str) {
        self.groups.borrow_mut().remove(group);
        self.spare.borrow_mut().take_if(|spare| spare == group);
        self.lose_where(|kind| kind.group() == Some(group), "the readers' session ended");
    }

    /// Proves the holds that the server still has, and gives the owners of those that it does not have.
    pub async fn renew_all(&self, asks: &[Rc<Ask>]) -> Result<Vec<Owner>> {
        let groups = self.groups_in_use();
        self.groups.borrow_mut().retain(|group, _| groups.contains(group));
        let alive = match self.present_sessions() {
            Some(sessions) => self
                .renew_sessions(&sessions, Lane::Renewal, groups.into_iter().collect())
                .await?
                .then_some(sessions),
            None => None,
        };
        if alive.is_none() && asks.is_empty() {
            self.sessions().await?;
        }
        // Those that went with a session.
        let mut gone: Vec<Owner> = asks
            .iter()
            .filter(|ask| ask.stage.get() == Stage::Held && !self.holds(&ask.owner))
            .map(|ask| ask.owner.clone())
            .collect();
        if let Some(sessions) = alive {
            self.tidy();
            gone.extend(self.check(&sessions).await?);
        }
        Ok(gone)
    }

    fn holds(&self, owner: &Owner) -> bool {
        let traces = self.traces.borrow();
        traces.get(owner).is_some_and(|trace| trace.kind().is_some())
    }

    /// Every session that locks leader keys for readers of this process, and the spare one.
    fn groups_in_use(&self) -> HashSet<String> {
        let mut groups: HashSet<String> = self.spare.borrow().iter().cloned().collect();
        for trace in self.traces.borrow().values() {
            groups.extend(trace.group.borrow().clone());
            groups.extend(trace.kind().and_then(|kind| kind.group().map(str::to_owned)));
        }
        groups
    }

    /// From when a hold of this kind counts its time; `None` if that is not known.
    pub fn leased_at(&self, kind: &HoldKind, sessions: &Sessions) -> Option<Moment> {
        let own = sessions.renewed_at.get();
        match kind.group() {
            None => Some(own),
            Some(group) => Some(own.min(*self.groups.borrow().get(group)?)),
        }
    }

    /// Proves every hold whose keys are as they were when it was granted, and gives the owners of the others.
    async fn check(&self, sessions: &Sessions) -> Result<Vec<Owner>> {
        let holds: Vec<Hold> = self.traces.borrow().values().filter_map(|trace| trace.hold()).collect();
        let mut gone = Vec::new();
        let mut unknown = None;
        let (mut tasks, mut rest) = (JoinSet::new(), holds.chunks(txn::MOST / 2));
        loop {
            // Several at a time: a thousand holds at a server far away are checked well before their time is over.
            while tasks.len() < AT_ONCE
                && let Some(some) = rest.next()
            {
                let ops: Vec<Op> = some.iter().flat_map(|hold| checks(hold, sessions)).collect();
                let (link, some) = (self.link.clone(), some.to_vec());
                tasks.spawn_local(async move { (link.txn(Lane::Renewal, &ops).await, some) });
            }
            let Some(answer) = tasks.join_next().await else { break };
            // The runtime ends.
            let Ok((outcome, some)) = answer else { break };
            let refused: HashSet<usize> = match outcome {
                Ok(Outcome::Done(_)) => HashSet::new(),
                Ok(Outcome::Refused(why)) => why.iter().map(|why| why.op_index / 2).collect(),
                Err(fault) => {
                    unknown = Some(fault);
                    continue;
                }
            };
            for (at, hold) in some.iter().enumerate() {
                // What was released, or taken again, while we asked is neither.
                let present = self.traces.borrow().get(&hold.ask.owner).and_then(|trace| trace.kind());
                if present.as_ref() != Some(&hold.kind) {
                    continue;
                }
                if refused.contains(&at) {
                    gone.push(hold.ask.owner.clone());
                } else if let Some(sent) = self.leased_at(&hold.kind, sessions) {
                    hold.ask.prove(sent);
                }
            }
        }
        match unknown {
            None => Ok(gone),
            Some(fault) => {
                for owner in gone {
                    self.tell_lost(&owner, "the server no longer has it");
                }
                Err(fault.into())
            }
        }
    }
}

/// Two for each hold.
fn checks(hold: &Hold, sessions: &Sessions) -> [Op; 2] {
    let leader = keys::leader(&hold.ask.id);
    match &hold.kind {
        HoldKind::Exclusive { index, .. } => [
            Op::CheckIndex(leader.clone(), *index),
            Op::CheckSession(leader, sessions.leads.clone()),
        ],
        HoldKind::Shared { index, group } => [
            Op::CheckIndex(keys::reader(&hold.ask.id, &hold.ask.owner.0), *index),
            Op::CheckSession(leader, group.clone()),
        ],
    }
}
