//! Short transactions of different locks that are sent in the same moment travel as one.
//!
//! A transaction costs etcd an exchange and an entry of its log whatever is in it, and in version 3.4 a copy of all that
//! was written in the last tenth of a second (`ConcurrentReadTx`). So what a program asks for in one turn of its event loop becomes
//! the parts of one transaction, each with conditions and operations of its own. Nothing waits for company: a bundle leaves when the
//! tasks that are ready have run, and whoever is alone in it sends what it would have sent anyway.
//!
//! * etcd judges all conditions before it does anything, and all that a transaction does has one revision: no two parts of a bundle
//!   concern the same lock. Fencing tokens of different locks may be equal.
//! * A bundle that is refused has done nothing. Its parts are sent again, each by itself, so that each has an answer of its own.
//! * With a user or a client certificate nothing is bundled: etcd 3.4 does not check a user's rights to what stands inside the parts.

use super::fault::{self, Fault};
use super::keys;
use super::link::Connection;
use crate::backend::Task;
use crate::url::Server;
use etcd_client::{KeyValue, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse};
use std::cell::{Cell, RefCell};
use std::iter::repeat_with;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio::time::timeout;
use tonic::{Code, Status};

/// etcd takes 128 operations in one transaction by default, those of the largest part included.
const MOST: usize = 64;
/// When a connection on which nothing comes has long been given up.
const LONGEST_READ: Duration = Duration::from_secs(120);

/// What the server did with a transaction, be it a part of another. The header of a part tells no revision.
pub struct Answer {
    pub revision: i64,
    pub response: TxnResponse,
}

impl From<TxnResponse> for Answer {
    fn from(response: TxnResponse) -> Self {
        Self {
            revision: revision(&response),
            response,
        }
    }
}

struct Part {
    id: Arc<str>,
    txn: Txn,
    answer: oneshot::Sender<Outcome>,
}

/// `None`: it was refused in company, and is to be sent alone.
type Outcome = Option<Result<Answer, etcd_client::Error>>;

/// The parts of the next bundle.
pub struct Bundles {
    next: RefCell<Vec<Part>>,
    /// How many parts the server is believed to take.
    most: Cell<usize>,
}

impl Bundles {
    pub fn new(server: &Server) -> Rc<Self> {
        let credentials = &server.credentials;
        let may_have_rights =
            credentials.user.is_some() || credentials.provider.is_some() || server.options.crt.is_some();
        Rc::new(Self {
            next: RefCell::default(),
            most: Cell::new(if may_have_rights { 1 } else { MOST }),
        })
    }

    /// Sends `txn`, which concerns the lock `id` and no other.
    pub async fn send(self: &Rc<Self>, to: &Arc<Connection>, id: &Arc<str>, txn: Txn) -> Outcome {
        let (answer, answered) = oneshot::channel();
        let id = id.clone();
        self.add(to, Part { id, txn, answer });
        // Without an answer the thread is about to end.
        let gone = |_| Some(Err(Status::unavailable("the connection was closed").into()));
        answered.await.unwrap_or_else(gone)
    }

    fn add(self: &Rc<Self>, to: &Arc<Connection>, part: Part) {
        let mut next = self.next.borrow_mut();
        if next.len() >= self.most.get() || next.iter().any(|other| other.id == part.id) {
            spawn_local(self.clone().deliver(to.clone(), mem::take(&mut *next)));
        }
        next.push(part);
        if next.len() == 1 {
            let (this, to) = (self.clone(), to.clone());
            // Runs after the tasks that are ready now.
            spawn_local(async move {
                let parts = this.next.take();
                this.deliver(to, parts).await;
            });
        }
    }

    async fn deliver(self: Rc<Self>, to: Arc<Connection>, mut parts: Vec<Part>) {
        parts.retain(|part| !part.answer.is_closed());
        let txn = match &mut *parts {
            [] => return,
            [only] => mem::take(&mut only.txn),
            several => together(several),
        };
        let result = tokio::select! {
            result = send_alone(to, txn) => result,
            () = abandoned(&mut parts) => return,
        };
        match result {
            Ok(response) if parts.len() == 1 => answer(parts, [Some(Ok(response.into()))]),
            Ok(response) => {
                let revision = revision(&response);
                let answers = response.op_responses().into_iter();
                answer(
                    parts,
                    answers.map(|of_part| match of_part {
                        TxnOpResponse::Txn(response) => Some(Ok(Answer { revision, response })),
                        _ => None,
                    }),
                );
            }
            Err(error)
                if parts.len() == 1 || matches!(fault::sort(&error, ""), Fault::Unusable(_) | Fault::OldToken(_)) =>
            {
                answer(parts, repeat_with(|| Some(Err(copy(&error)))));
            }
            Err(error) => {
                if matches!(&error, etcd_client::Error::GRpcStatus(status) if status.code() == Code::InvalidArgument) {
                    // Too many operations or too long for this server.
                    self.most.set((parts.len() / 2).max(1));
                }
                answer(parts, repeat_with(|| None));
            }
        }
    }
}

/// One exchange. What is beneath it is long, and is compiled once this way.
pub fn send_alone(to: Arc<Connection>, txn: Txn) -> Task<'static, Result<TxnResponse, etcd_client::Error>> {
    Box::pin(async move {
        let response = to.client.kv_client().txn(txn).await?;
        match fault::sensible(|| read_all(&response)) {
            Some(()) => Ok(response),
            None => Err(etcd_client::Error::GRpcStatus(Status::unavailable(
                "an answer of an unknown kind",
            ))),
        }
    })
}

fn read_all(response: &TxnResponse) {
    for answer in response.op_responses() {
        if let TxnOpResponse::Txn(inner) = answer {
            read_all(&inner);
        }
    }
}

/// An exchange that only reads. Runs to its end, within [`LONGEST_READ`], whoever still waits for it: etcd 3.5.0 to 3.5.4 ends with a
/// panic when such a transaction is cancelled (<https://github.com/etcd-io/etcd/issues/14110>).
pub fn read_alone(to: Arc<Connection>, txn: Txn) -> Task<'static, Result<TxnResponse, etcd_client::Error>> {
    let exchange = spawn_local(timeout(LONGEST_READ, send_alone(to, txn)));
    Box::pin(async move {
        let unanswered = |why: &str| etcd_client::Error::GRpcStatus(Status::unavailable(why));
        match exchange.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(unanswered("no answer in time")),
            Err(_) => Err(unanswered("given up")),
        }
    })
}

fn together(parts: &mut [Part]) -> Txn {
    let parts: Vec<TxnOp> = parts
        .iter_mut()
        .map(|part| TxnOp::txn(mem::take(&mut part.txn)))
        .collect();
    // Is never done, as there are no conditions. But a server whose database is full only looks for what would be put outside the parts.
    Txn::new().and_then(parts).or_else([TxnOp::put(keys::PROBE, "", None)])
}

fn answer(parts: Vec<Part>, outcomes: impl IntoIterator<Item = Outcome>) {
    for (part, outcome) in parts.into_iter().zip(outcomes) {
        // Whoever asked may have given up.
        let _ = part.answer.send(outcome);
    }
}

/// Nobody waits for an answer any more.
async fn abandoned(parts: &mut [Part]) {
    for part in parts {
        part.answer.closed().await;
    }
}

fn copy(error: &etcd_client::Error) -> etcd_client::Error {
    match error {
        etcd_client::Error::GRpcStatus(status) => status.clone().into(),
        // Nothing else than a connection that does not hold ends an exchange otherwise.
        other => Status::unavailable(other.to_string()).into(),
    }
}

/// The pairs that the read at `index` of a transaction found.
pub fn pairs(answers: &[TxnOpResponse], index: usize) -> &[KeyValue] {
    match answers.get(index) {
        Some(TxnOpResponse::Get(found)) => found.kvs(),
        _ => &[],
    }
}

pub fn pair(answers: &[TxnOpResponse], index: usize) -> Option<&KeyValue> {
    pairs(answers, index).first()
}

pub fn revision(response: &TxnResponse) -> i64 {
    response.header().map_or(0, ResponseHeader::revision)
}
