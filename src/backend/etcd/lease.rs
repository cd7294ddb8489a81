//! Leases: what a process's keys live under, and what proves that one was renewed.
//!
//! A node answers a keep-alive from its own table of leases as long as it takes itself for the leader, and one that was
//! stopped and goes on does so for a moment after another was elected. So a renewal counts only if a read through the majority that was
//! asked for after its answer was served in the same term: then nobody else was elected in between, and whoever is elected
//! later starts every lease anew with its full time. A keep-alive's header names the term of the last entry that its node had
//! applied *before* it renewed, and a node that has applied an entry of a term renews with no older leader than that of this term.
//!
//! Grants of leases, and transactions, are entries of the cluster's log: who has an answer knows that a majority has them.

use super::fault::Fault;
use super::keys::SHARED;
use super::link::{Connection, Link};
use crate::clock;
use crate::core::time::Moment;
use crate::error::{Error, Kind};
use etcd_client::{KeyValue, LeaseGrantOptions, ResponseHeader};
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

/// The lease that everything of this process lives under.
#[derive(Debug)]
pub struct Session {
    pub lease: i64,
    /// When the last renewal (or the grant) was sent that is proven.
    pub renewed: Cell<Moment>,
    /// A key that its user may read.
    pub key: String,
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
    pub successor: Option<Successor>,
    pub _watch: Rc<HoldWatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldKind {
    /// The main key is ours.
    Exclusive,
    /// The main key lives under a lease that all readers keep alive.
    Shared { common: i64 },
}

impl HoldKind {
    /// The lease that all readers keep alive.
    pub fn common(self) -> Option<i64> {
        match self {
            HoldKind::Exclusive => None,
            HoldKind::Shared { common } => Some(common),
        }
    }

    /// Whether the lock's main key, and the `reader`'s own, are as a hold with this `value` needs them.
    pub fn stands(self, value: &[u8], main: Option<&KeyValue>, reader: Option<&KeyValue>) -> bool {
        main.is_some_and(|main| match self {
            HoldKind::Exclusive => main.value() == value,
            HoldKind::Shared { common } => main.value() == SHARED && main.lease() == common && reader.is_some(),
        })
    }
}

/// The common leases that a reader of the lock `id` has brought or joined.
#[derive(Debug, Clone)]
pub struct Commons {
    pub id: Arc<str>,
    pub leases: HashSet<i64>,
}

/// The task that watches a hold; dropping this ends it.
#[derive(Debug)]
pub struct HoldWatch(pub AbortHandle);

impl Drop for HoldWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A first waiter: all that is needed to give it the lock.
#[derive(Debug, Clone)]
pub struct Successor {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub lease: i64,
    pub created: i64,
}

impl From<&KeyValue> for Successor {
    fn from(pair: &KeyValue) -> Self {
        Self {
            key: pair.key().to_vec(),
            value: pair.value().to_vec(),
            lease: pair.lease(),
            created: pair.create_revision(),
        }
    }
}

/// A keep-alive that a server has answered.
#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    pub lease: i64,
    pub sent: Moment,
    term: u64,
}

impl Renewal {
    /// Whether the leader renewed the lease, as shown by the `header` of a linearizable read or a write that was sent later.
    pub fn is_proven_by(&self, header: Option<&ResponseHeader>) -> bool {
        header.is_some_and(|header| header.raft_term() == self.term)
    }
}

/// Keeps a lease alive once, which is still to be proven. [`Fault::LeaseGone`] if it has ended.
pub async fn keep_alive(link: &Link, lease: i64) -> Result<Renewal, Fault> {
    let sent = clock::now();
    let answer = link
        .call(async |to: Arc<Connection>| Ok(ask_to_keep_alive(&to, lease).await?))
        .await?;
    if answer.ttl <= 0 {
        return Err(Fault::LeaseGone);
    }
    let term = answer.header.map_or(0, |header| header.raft_term);
    Ok(Renewal { lease, sent, term })
}

/// The messages of etcd's `rpc.proto`, as far as is needed: etcd-client does not show the first answer's header.
#[derive(Clone, PartialEq, prost::Message)]
struct KeepAlive {
    #[prost(int64, tag = "1")]
    id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeptAlive {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(int64, tag = "3")]
    ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "4")]
    raft_term: u64,
}

async fn ask_to_keep_alive(to: &Connection, lease: i64) -> Result<KeptAlive, Status> {
    let mut client = Grpc::new(to.channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::from_error(error.into()))?;
    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    let request = tonic::Request::new(KeepAlive { id: lease });
    let answers = client.server_streaming(request, path, ProstCodec::<_, KeptAlive>::default());
    let answer = answers.await?.into_inner().message().await?;
    answer.ok_or_else(|| Status::unavailable("the stream of keep-alives ended"))
}

/// Grants the lease of this number, unless an earlier message of ours did.
pub async fn grant_as(link: &Link, lease: i64, ttl: Duration) -> Result<(), Fault> {
    let seconds = whole_seconds(ttl);
    let exchange = async |to: Arc<Connection>| {
        let options = LeaseGrantOptions::new().with_id(lease);
        to.client.lease_client().grant(seconds, Some(options)).await
    };
    match link.call(exchange).await {
        Ok(_) | Err(Fault::LeaseExists) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// Ends a lease, unless it has ended already.
pub async fn revoke(link: &Link, lease: i64) -> Result<(), Fault> {
    let exchange = async |to: Arc<Connection>| to.client.lease_client().revoke(lease).await;
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
        .map_err(|error| Fault::Refused(Error::new(Kind::Server, "the system has no random numbers").because(error)))?;
    Ok((i64::from_le_bytes(bytes) & i64::MAX).max(1))
}
