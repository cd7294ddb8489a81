//! The lease of a process: what its keys live under.
//!
//! One lease per process and server. etcd deletes its keys when it was not kept alive for its time to live, so the
//! process's places and holds go together. Its number is chosen here, so that a grant whose reply was lost is recognised
//! rather than left behind.
//!
//! A leader that was cut off may answer one more keep-alive before it notices. That does no harm: whoever is
//! elected after it starts every lease anew with its full time plus an election timeout, which is longer than a leader
//! without a majority stays in office.

use super::Etcd;
use super::fault::Fault;
use super::guard::{Guard, Heir};
use super::link::Link;
use crate::backend::{Event, Owner};
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use etcd_client::{Client, LeaseGrantOptions};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A lease that this process keeps alive.
#[derive(Debug)]
pub struct Session {
    pub lease: i64,
    /// When the last keep-alive (or the grant) was sent that the server confirmed.
    pub renewed: Cell<Moment>,
}

impl Session {
    /// Whether so little of the lease is used up that nothing need be asked before using it.
    pub fn is_fresh(&self, ttl: Duration) -> bool {
        clock::now().since(self.renewed.get()) < ttl / 2
    }

    pub fn confirm(&self, sent: Moment) {
        self.renewed.set(self.renewed.get().max(sent));
    }
}

/// What the server has of an ask that was granted.
#[derive(Debug, Clone)]
pub struct Hold {
    pub id: Arc<str>,
    /// The process's lease at the grant.
    pub lease: i64,
    pub kind: HoldKind,
    /// Who comes next, as far as is known.
    pub heir: Option<Heir>,
    pub _guard: Rc<Guard>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldKind {
    /// The main key is ours.
    Exclusive,
    /// The main key lives under a lease that all readers keep alive.
    Shared { common: i64 },
}

/// Grants a lease; the moment returned is before anything was sent.
pub async fn grant(link: &Link, ttl: Duration) -> Result<(i64, Moment), Fault> {
    let lease = random_number()?;
    let sent = clock::now();
    grant_as(link, lease, ttl).await?;
    Ok((lease, sent))
}

/// Grants the lease of this number, unless it was granted already.
pub async fn grant_as(link: &Link, lease: i64, ttl: Duration) -> Result<(), Fault> {
    let seconds = whole_seconds(ttl);
    let result = link
        .call(async |client: Arc<Client>| {
            client
                .lease_client()
                .grant(seconds, Some(LeaseGrantOptions::new().with_id(lease)))
                .await
        })
        .await;
    match result {
        Ok(_) | Err(Fault::LeaseExists) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// Keeps a lease alive once; the moment returned is before anything was sent. [`Fault::LeaseGone`] if it has ended.
pub async fn keep_alive(link: &Link, lease: i64) -> Result<Moment, Fault> {
    let sent = clock::now();
    link.call(async |client: Arc<Client>| client.lease_client().keep_alive(lease).await)
        .await?;
    Ok(sent)
}

/// Ends a lease, unless it has ended already.
pub async fn revoke(link: &Link, lease: i64) -> Result<(), Fault> {
    let exchange = async |client: Arc<Client>| client.lease_client().revoke(lease).await;
    match link.call(exchange).await {
        Ok(_) | Err(Fault::LeaseGone) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// etcd counts leases in whole seconds.
pub fn whole_seconds(ttl: Duration) -> i64 {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    i64::try_from(seconds.max(1)).unwrap_or(i64::MAX)
}

/// Positive and not zero, which etcd takes for "choose one".
pub fn random_number() -> Result<i64, Fault> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Fault::Failed(Error::new(Kind::Server, "the system has no random numbers").because(error)))?;
    Ok((i64::from_le_bytes(bytes) & i64::MAX).max(1))
}

impl Etcd {
    /// The session, with at least half its time left or just confirmed.
    pub(super) async fn session(&self) -> Result<Rc<Session>, Fault> {
        if let Some(session) = self.current()
            && session.is_fresh(self.ttl)
        {
            return Ok(session);
        }
        let _turn = self.opening.lock().await;
        if let Some(session) = self.current() {
            if session.is_fresh(self.ttl) {
                return Ok(session);
            }
            match keep_alive(&self.link, session.lease).await {
                Ok(sent) => {
                    session.confirm(sent);
                    return Ok(session);
                }
                Err(Fault::LeaseGone) => self.session_ended(&session),
                Err(fault) => return Err(fault),
            }
        }
        // Whoever was to have it may have been cancelled while the server was asked. Its lease may exist since then, so it is
        // taken up with the time at which it was first asked for.
        let (lease, sent) = match self.unfinished.get() {
            Some((lease, sent)) if clock::now().since(sent) < self.ttl / 2 => (lease, sent),
            _ => (random_number()?, clock::now()),
        };
        self.unfinished.set(Some((lease, sent)));
        grant_as(&self.link, lease, self.ttl).await?;
        self.unfinished.set(None);
        let session = Rc::new(Session {
            lease,
            renewed: Cell::new(sent),
        });
        *self.session.borrow_mut() = Some(session.clone());
        Ok(session)
    }

    pub(super) fn current(&self) -> Option<Rc<Session>> {
        self.session.borrow().clone()
    }

    /// The server no longer has this session's lease, so none of its keys: holds are lost, waiters begin anew.
    pub(super) fn session_ended(&self, session: &Session) {
        if self.current().is_none_or(|current| current.lease != session.lease) {
            return;
        }
        self.session.borrow_mut().take();
        self.unsure.borrow_mut().retain(|_, lease| *lease != session.lease);
        let mut holds = self.holds.borrow_mut();
        for (owner, hold) in holds.extract_if(|_, hold| hold.lease == session.lease) {
            let error = Error::new(
                Kind::LockLost,
                format!(
                    "the lock {:?} was lost: the etcd lease of this process has ended",
                    &*hold.id
                ),
            );
            // Nobody listens any more once the runtime is gone.
            let _ = self.context.events.send(Event::Lost { owner, error });
        }
        drop(holds);
        self.turns.send_modify(|turn| *turn += 1);
    }

    pub(super) fn is_current(&self, session: &Rc<Session>) -> bool {
        self.current().is_some_and(|current| Rc::ptr_eq(&current, session))
    }

    /// After a failed exchange: `Ok` if it is worth another try at once, because a lease ended that the message
    /// carried.
    pub(super) async fn recover(&self, fault: Fault, session: &Session) -> Result<(), Error> {
        let Fault::LeaseGone = fault else {
            return Err(fault.into());
        };
        match keep_alive(&self.link, session.lease).await {
            Ok(sent) => session.confirm(sent),
            Err(Fault::LeaseGone) => self.session_ended(session),
            Err(fault) => return Err(fault.into()),
        }
        Ok(())
    }

    /// Leaves what is held shared, then ends the session with everything else.
    pub(super) async fn end(&self) {
        let holds: Vec<(Owner, Hold)> = self.holds.borrow_mut().drain().collect();
        for (owner, hold) in holds {
            if let HoldKind::Shared { .. } = hold.kind {
                let _ = self.leave(&hold.id, &owner, None).await;
            }
        }
        let session = self.session.borrow_mut().take().map(|session| session.lease);
        let unfinished = self.unfinished.take().map(|(lease, _)| lease);
        for lease in session.into_iter().chain(unfinished) {
            let _ = revoke(&self.link, lease).await;
        }
        let _ = self.forget_demand().await;
        self.turns.send_modify(|turn| *turn += 1);
    }
}
