//! The sessions of one process at one server, and the key that fences it.
//!
//! There are two, renewed together, because Consul decides per session what happens to its keys when it ends, and one
//! answer does not suit all keys. `own` holds tickets, readers' keys and the process's key, which must vanish with the
//! process (behavior `delete`). `leads` holds leader keys, which must stay behind unlocked (behavior `release`): a
//! waiting 1.1.2 process rejects its `acquire()` when the leader key vanishes under its blocking query.
//!
//! **The fence.** A request without an answer may still be on its way and take effect later, when nobody reckons with
//! it. Every transaction that could make a ticket or a hold therefore checks the index of the process's key. Where an
//! answer was missed, that key is written anew before anything else is decided: whatever is still on its way is
//! refused from then on.

use super::fault::Fault;
use super::http::{Lane, Link};
use super::keys;
use super::txn::{self, Op, Outcome};
use crate::backend::Identity;
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

/// What is to become of a session's keys when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behavior {
    Delete,
    Release,
}

/// Both sessions of a process, alive until the server or [`Sessions::ended`] says otherwise.
#[derive(Debug)]
pub struct Sessions {
    pub own: String,
    pub leads: String,
    /// The process's key, and the index it was last written at.
    pub key: String,
    fence: Cell<u64>,
    ttl: Duration,
    /// When the last renewal of both was sent that is proven.
    pub renewed_at: Cell<Moment>,
    /// The cluster's leader when that was proven.
    pub leader: RefCell<String>,
    pub ended: Cell<bool>,
}

/// How a session is made.
#[derive(Debug, Clone)]
pub struct Terms {
    pub name: String,
    pub ttl: Duration,
    pub lock_delay: Duration,
}

impl Terms {
    pub async fn create(&self, link: &Link, behavior: Behavior) -> Result<String, Fault> {
        #[derive(Deserialize)]
        struct Created {
            #[serde(rename = "ID")]
            id: String,
        }
        // The delay is for leader keys. A ticket that went with its session must not keep its owner from taking the next one.
        let lock_delay = match behavior {
            Behavior::Delete => Duration::ZERO,
            Behavior::Release => self.lock_delay,
        };
        let body = json!({
            "Name": self.name,
            "TTL": format!("{}ms", self.ttl.as_millis()),
            "LockDelay": format!("{}ms", lock_delay.as_millis()),
            "Behavior": match behavior { Behavior::Delete => "delete", Behavior::Release => "release" },
            // The process's own renewals show that it lives; the health of the agent it talks to does not matter.
            "NodeChecks": [],
        });
        let body = body.to_string().into_bytes();
        let reply = link
            .request(Lane::Call, Method::PUT, "/v1/session/create", body)
            .await?;
        let created: Created = serde_json::from_slice(&reply.body).map_err(|error| link.peer.nonsense(error))?;
        Ok(created.id)
    }

    /// Makes both sessions and the process's key.
    pub async fn establish(&self, link: &Link, identity: &Identity) -> Result<Rc<Sessions>> {
        let leader = link.leader(Lane::Call).await?;
        let sent = clock::now();
        let own = self.create(link, Behavior::Delete).await?;
        let leads = match self.create(link, Behavior::Release).await {
            Ok(leads) => leads,
            Err(fault) => {
                // It ends by itself if this fails.
                let _ = destroy(link, &own).await;
                return Err(fault.into());
            }
        };
        let sessions = Sessions {
            key: keys::process(&own),
            own,
            leads,
            fence: Cell::new(0),
            ttl: self.ttl,
            renewed_at: Cell::new(sent),
            leader: RefCell::new(leader),
            ended: Cell::new(false),
        };
        if let Err(error) = sessions.write_fence(link, identity).await {
            sessions.destroy(link).await;
            return Err(error);
        }
        Ok(Rc::new(sessions))
    }
}

/// The time to live that a process has written into its key.
pub fn ttl_of(value: &[u8]) -> Option<Duration> {
    let value: serde_json::Value = serde_json::from_slice(value).ok()?;
    value.get("ttl")?.as_u64().map(Duration::from_millis)
}

impl Sessions {
    /// The check that every transaction which makes something begins with.
    pub fn fence(&self) -> Op {
        Op::CheckIndex(self.key.clone(), self.fence.get())
    }

    /// Ends both. They are not renewed any more, and end by themselves if this fails.
    pub async fn destroy(&self, link: &Link) {
        for session in [&self.leads, &self.own] {
            let _ = destroy(link, session).await;
        }
    }

    /// Makes every request that is still on its way ineffective.
    pub async fn write_fence(&self, link: &Link, identity: &Identity) -> Result<()> {
        let value = json!({
            "host": identity.host,
            "pid": identity.pid,
            "ttl": u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            // Consul does not count a write that changes nothing.
            "fence": self.fence.get() + 1,
        });
        let value = value.to_string();
        let op = Op::Lock(self.key.clone(), self.own.clone(), value.into_bytes());
        match link.txn(Lane::Call, &[op]).await? {
            Outcome::Done(pairs) => {
                self.fence.set(self.fence.get().max(txn::written_at(&pairs)));
                Ok(())
            }
            Outcome::Refused(why) => {
                self.ended.set(true);
                let why = why.first().map_or("no reason given", |first| first.what.as_str());
                let message = format!("the session at Consul {} ended", link.peer.name);
                Err(Error::new(Kind::Connect, message).because(why))
            }
        }
    }

    /// After a transaction was refused at its fence: reads what the fence is now. `false` if the process's key is gone, and
    /// with it the session.
    pub async fn read_fence(&self, link: &Link) -> Result<bool> {
        let (pairs, _) = link.read(&self.key, false).await?;
        match pairs.first() {
            Some(pair) if pair.session() == Some(self.own.as_str()) => {
                self.fence.set(self.fence.get().max(pair.modify_index));
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

/// Renews a session; `false` if the server does not have it any more. The answer of a server that is not the leader any more, and
/// does not know it, is no different: see [`super::renewal`].
pub async fn renew(link: &Link, lane: Lane, session: &str) -> Result<bool, Fault> {
    let path = format!("/v1/session/renew/{session}");
    let reply = link.request(lane, Method::PUT, &path, Vec::new()).await?;
    // Both answers name the session; a page of something else does not.
    if !String::from_utf8_lossy(&reply.body).contains(session) {
        return Err(link.peer.nonsense("not the reply to a renewal"));
    }
    Ok(reply.status != StatusCode::NOT_FOUND)
}

/// Ends a session, whoever made it.
pub async fn destroy(link: &Link, session: &str) -> Result<(), Fault> {
    let path = format!("/v1/session/destroy/{session}");
    let reply = link.request(Lane::Call, Method::PUT, &path, Vec::new()).await?;
    match reply.body.starts_with(b"true") {
        true => Ok(()),
        false => Err(link.peer.nonsense("not the reply to the end of a session")),
    }
}

/// The names of all sessions at the server, or `None` if it does not say.
pub async fn names(link: &Link) -> Option<HashSet<String>> {
    #[derive(Deserialize)]
    struct Session {
        #[serde(rename = "Name", default)]
        name: String,
    }
    let reply = link
        .request(Lane::Call, Method::GET, "/v1/session/list", Vec::new())
        .await
        .ok()?;
    let sessions: Vec<Session> = serde_json::from_slice(&reply.body).ok()?;
    Some(sessions.into_iter().map(|session| session.name).collect())
}
