//! The session of a process: opened by the first ask, renewed and proven for all that it holds, and ended.
//!
//! One lease per process and server, besides one per lock that is held shared. etcd deletes its keys when it was not kept alive for
//! its time to live, so the process's places and holds go together.

use super::bundle::pair;
use super::fault::{Fault, unreachable};
use super::keys::{Keys, value_of};
use super::lease::{self, Hold, Renewal, Session, keep_alive};
use super::store::{Etcd, get, read};
use crate::backend::{Ask, Event, Owner, Refusal, Stage};
use crate::error::{Error, Kind, Result};
use etcd_client::{Txn, TxnOp, TxnResponse};
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use tokio::task::JoinSet;

/// How often a renewal is repeated at once because the leader changed while it was proven.
const TERMS: usize = 3;
/// Reads of holds under way together.
const READS_AT_A_TIME: usize = 50;
/// Keep-alives under way together; each is a stream of its own on the one connection.
const AT_A_TIME: usize = 500;

/// A hold that is to be renewed.
struct Standing {
    ask: Rc<Ask>,
    hold: Hold,
}

/// What came of keeping each lease alive.
type Renewals = HashMap<i64, Result<Renewal, Fault>>;

/// What became of one round of renewals.
#[derive(Default)]
struct Round {
    gone: Vec<Owner>,
    /// Stand, but the leader changed meanwhile.
    unproven: Vec<Standing>,
    /// The leader changed before the session's own renewal was proven.
    repeat: bool,
}

impl Etcd {
    /// The session, with at least half its time left or just renewed, for an ask of the lock that `keys` names.
    pub async fn session(&self, keys: &Keys) -> Result<Rc<Session>, Fault> {
        let fresh = || self.current().filter(|session| session.is_fresh(self.ttl));
        if let Some(session) = fresh() {
            return Ok(session);
        }
        let _turn = self.opening.lock().await;
        if let Some(session) = fresh() {
            return Ok(session);
        }
        if let Some(session) = self.current()
            && self.renew_session(&session, &keys.main).await?
        {
            return Ok(session);
        }
        let lease = self.new_lease(self.ttl).await?;
        let session = Rc::new(Session {
            renewed: Cell::new(lease.sent),
            lease: lease.keep(),
            key: keys.main.clone(),
        });
        *self.session.borrow_mut() = Some(session.clone());
        Ok(session)
    }

    /// Renews the session and proves that by a read of `key`; whether there still is a session.
    async fn renew_session(&self, session: &Session, key: &str) -> Result<bool, Fault> {
        for _ in 0..TERMS {
            let renewal = match keep_alive(&self.link, session.lease).await {
                Err(Fault::LeaseGone) => {
                    self.session_ended(session);
                    return Ok(false);
                }
                other => other?,
            };
            if renewal.is_proven_by(get(&self.link, key).await?.header()) {
                session.confirm(renewal.sent);
                return Ok(true);
            }
        }
        Err(unreachable(&self.link.peer(), "its leader changes"))
    }

    /// After a failed exchange: `Ok` if it is worth another try at once, because a lease ended that the message
    /// carried.
    pub async fn recover(&self, fault: Fault, session: &Session, keys: &Keys) -> Result<(), Refusal> {
        let Fault::LeaseGone = fault else {
            return Err(fault.into());
        };
        self.renew_session(session, &keys.main).await?;
        Ok(())
    }

    /// Renews the leases of the session and of all holds, and moves on the holds whose leases were proven to be renewed and
    /// whose keys are there. Gives the owners of those that the server no longer has.
    pub async fn renew_all(&self, asks: Vec<Rc<Ask>>) -> Result<Vec<Owner>> {
        // As it is now: what is granted or given back while the server is asked is judged the next time.
        let held = asks.into_iter().filter(|ask| ask.stage.get() == Stage::Held);
        let mut gone = Vec::new();
        let mut standing = Vec::new();
        for ask in held {
            match self.holds.borrow().get(&ask.owner).cloned() {
                Some(hold) => standing.push(Standing { ask, hold }),
                None => gone.push(ask.owner.clone()),
            }
        }
        let session = self.current();
        for _ in 0..TERMS {
            let Some(session) = session.as_ref().filter(|session| self.is_current(session)) else {
                gone.extend(standing.into_iter().map(|standing| standing.ask.owner.clone()));
                return Ok(gone);
            };
            let round = match self.renew_round(session, standing).await {
                Ok(round) => round,
                Err(fault) => {
                    self.suspect();
                    return Err(fault.into());
                }
            };
            gone.extend(round.gone);
            standing = round.unproven;
            if standing.is_empty() && !round.repeat {
                return Ok(gone);
            }
        }
        Err(unreachable(&self.renewer.peer(), "its leader changes").into())
    }

    async fn renew_round(&self, session: &Session, standing: Vec<Standing>) -> Result<Round, Fault> {
        let mut round = Round::default();
        let mut renewals = self.keep_all_alive(session.lease, &standing).await?;
        let own = match renewals.remove(&session.lease) {
            Some(Ok(own)) => own,
            Some(Err(Fault::LeaseGone)) => {
                self.session_ended(session);
                round.gone = standing
                    .into_iter()
                    .map(|standing| standing.ask.owner.clone())
                    .collect();
                return Ok(round);
            }
            Some(Err(fault)) => return Err(fault),
            None => return Err(self.closed()),
        };
        self.prove_all(session, standing, own, &renewals, &mut round).await?;
        // A hold that was given back meanwhile is not lost.
        let mut holds = self.holds.borrow_mut();
        let leaving = self.leaving.borrow();
        round
            .gone
            .retain(|owner| !leaving.contains(owner) && holds.remove(owner).is_some());
        Ok(round)
    }

    /// Reads the keys of these holds, many at a time, and notes in `round` what the answers show, each as it comes.
    async fn prove_all(
        &self,
        session: &Session,
        standing: Vec<Standing>,
        own: Renewal,
        renewals: &Renewals,
        round: &mut Round,
    ) -> Result<(), Fault> {
        let etcd = self.me.upgrade().ok_or_else(|| self.closed())?;
        let mut rest = vec![standing];
        let mut under_way = JoinSet::new();
        let mut failure = None;
        loop {
            while failure.is_none()
                && under_way.len() < READS_AT_A_TIME
                && let Some(mut some) = rest.pop()
            {
                if some.len() > self.holds_per_read.get() {
                    rest.push(some.split_off(self.holds_per_read.get()));
                }
                let (etcd, any) = (etcd.clone(), session.key.clone());
                under_way.spawn_local(async move {
                    let answer = etcd.read_keys(&any, &some).await;
                    (some, answer)
                });
            }
            let Some(read) = under_way.join_next().await else {
                return failure.map_or(Ok(()), Err);
            };
            let (mut some, answer) = read.map_err(|_| self.closed())?;
            let half = some.len() / 2;
            match answer {
                Ok(response) => self.prove(session, some, own, renewals, &response, round),
                // Rights on one lock say nothing about those on another.
                Err(Fault::Forbidden(_)) if half > 0 => {
                    rest.push(some.split_off(half));
                    rest.push(some);
                }
                // Its lease runs out unless the right comes back.
                Err(Fault::Forbidden(_)) => {}
                Err(Fault::TooMuch(_)) if half > 0 => {
                    self.holds_per_read.set(self.holds_per_read.get().min(half));
                    rest.push(some);
                }
                Err(fault) => failure = Some(fault),
            }
        }
    }

    /// Notes what a read of the keys of these holds shows, which was sent after the answers to all `renewals`.
    fn prove(
        &self,
        session: &Session,
        read: Vec<Standing>,
        own: Renewal,
        renewals: &Renewals,
        response: &TxnResponse,
        round: &mut Round,
    ) {
        let header = response.header();
        if own.is_proven_by(header) {
            session.confirm(own.sent);
        } else {
            round.repeat = true;
        }
        let answers = response.op_responses();
        let mut index = 0;
        for standing in read {
            let reader = standing.hold.kind.common().map(|_| index + 1);
            let value = value_of(&standing.ask, &self.context.identity);
            let (main, reader_key) = (pair(&answers, index), reader.and_then(|at| pair(&answers, at)));
            let stands = standing.hold.kind.stands(&value, main, reader_key);
            index += 1 + usize::from(reader.is_some());
            let common = standing.hold.kind.common().map(|lease| renewals.get(&lease));
            match (stands, common) {
                (false, _) | (_, Some(Some(Err(Fault::LeaseGone)))) => round.gone.push(standing.ask.owner.clone()),
                (true, None) if own.is_proven_by(header) => standing.ask.prove(own.sent),
                (true, Some(Some(Ok(common)))) if own.is_proven_by(header) && common.is_proven_by(header) => {
                    standing.ask.prove(own.sent.min(common.sent));
                }
                (true, None | Some(Some(Ok(_)))) => round.unproven.push(standing),
                (true, Some(Some(Err(_)) | None)) => {}
            }
        }
    }

    /// Keeps the session's lease and the common ones of these holds alive, many at a time.
    async fn keep_all_alive(&self, own: i64, standing: &[Standing]) -> Result<Renewals, Fault> {
        let etcd = self.me.upgrade().ok_or_else(|| self.closed())?;
        let common: HashSet<i64> = standing
            .iter()
            .filter_map(|standing| standing.hold.kind.common())
            .collect();
        let mut leases = std::iter::once(own).chain(common);
        let mut answers = HashMap::new();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < AT_A_TIME
                && let Some(lease) = leases.next()
            {
                let etcd = etcd.clone();
                under_way.spawn_local(async move { (lease, keep_alive(&etcd.renewer, lease).await) });
            }
            match under_way.join_next().await {
                None => return Ok(answers),
                Some(answer) => answers.extend([answer.map_err(|_| self.closed())?]),
            }
        }
    }

    /// Reads the keys of these holds or, without holds, the key `any`, which shows no more than the term.
    async fn read_keys(&self, any: &str, some: &[Standing]) -> Result<TxnResponse, Fault> {
        let mut reads = Vec::with_capacity(some.len() * 2);
        for Standing { ask, hold } in some {
            let keys = Keys::new(&ask.id);
            reads.push(TxnOp::get(&*keys.main, None));
            reads.extend(hold.kind.common().map(|_| TxnOp::get(keys.reader(&ask.owner), None)));
        }
        if reads.is_empty() {
            reads.push(TxnOp::get(any, None));
        }
        read(&self.renewer, Txn::new().and_then(reads)).await
    }

    /// A node that does not answer renewals may hold up the watches too, which nobody would notice for long.
    fn suspect(&self) {
        let me = self.me.clone();
        tokio::task::spawn_local(async move {
            if let Some(etcd) = me.upgrade() {
                // The failure itself turns to another node.
                let _ = etcd.probe().await;
            }
        });
    }

    /// The server no longer has this session's lease, so none of its keys: holds are lost, waiters begin anew.
    fn session_ended(&self, session: &Session) {
        if !self.is_current(session) {
            return;
        }
        self.session.borrow_mut().take();
        self.unsure.borrow_mut().retain(|_, lease| *lease != session.lease);
        let mut holds = self.holds.borrow_mut();
        for (owner, hold) in holds.extract_if(|_, hold| hold.lease == session.lease) {
            self.lose(owner, &hold, "the etcd lease of this process has ended");
        }
        drop(holds);
        self.sessions.send_modify(|number| *number += 1);
    }

    pub fn lose(&self, owner: Owner, hold: &Hold, why: &str) {
        let name = crate::url::shown(&hold.id);
        let message = format!("lock \"{name}\" was lost: {why} (etcd at {})", self.link.peer());
        let error = Error::new(Kind::LockLost, message);
        // Nobody listens any more once the runtime is gone.
        let _ = self.context.events.send(Event::Lost { owner, error });
    }

    /// Leaves what is held shared, then ends the session with everything else.
    pub async fn end(&self) {
        let readers = self.commons.borrow().clone();
        for (owner, commons) in readers {
            let _ = self.leave_readers(&commons.id, &owner).await;
        }
        self.holds.borrow_mut().clear();
        let session = self.session.borrow_mut().take();
        if let Some(session) = session {
            let _ = lease::revoke(&self.link, session.lease).await;
        }
        let _ = self.forget_demand().await;
        self.errands.done().await;
        self.sessions.send_modify(|number| *number += 1);
    }
}
