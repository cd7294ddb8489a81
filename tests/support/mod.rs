//! What the tests of a server's backend have in common: backends that stand for processes, and what these ask.

mod impostor;
mod ports;

use ipc_mutex::backend::{Ask, Attempt, Backend, Context, Event, Identity, Owner, Refusal, Released, Stage, Taken};
use ipc_mutex::clock;
use ipc_mutex::core::lease::{Lease, Terms};
use ipc_mutex::core::mode::Mode;
use ipc_mutex::error::Error;
use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

pub use impostor::impostor;
pub use ports::free_port;

/// How long anything may take that should happen at once, on a machine that may stand still for seconds.
pub const LIMIT: Duration = Duration::from_secs(60);
/// The time to live of holds, unless a test says otherwise: longer than [`LIMIT`], so that nothing ends by itself while a test waits
/// for its end.
pub const TTL: Duration = Duration::from_secs(300);

/// One process: a backend and what it tells.
pub struct Process {
    pub backend: Rc<dyn Backend>,
    pub events: mpsc::UnboundedReceiver<Event>,
}

impl Process {
    /// A process of its own, by the name of `instance`, that joins the server by `connect`.
    pub async fn join<F>(instance: &str, connect: impl FnOnce(Context) -> F) -> Result<Self, Error>
    where
        F: Future<Output = Result<Rc<dyn Backend>, Error>>,
    {
        let (sender, events) = mpsc::unbounded_channel();
        let context = Context {
            identity: Arc::new(Identity {
                host: "test".into(),
                pid: 7,
                instance: instance.into(),
            }),
            events: sender,
        };
        let backend = connect(context).await?;
        Ok(Self { backend, events })
    }
}

pub fn ask_for(id: &str, owner: &str, mode: Mode, attempt: Attempt, fenced: bool) -> Rc<Ask> {
    Rc::new(Ask {
        id: id.into(),
        owner: Owner(owner.into()),
        mode,
        attempt,
        fenced,
        label: Some("some label".into()),
        thread: 3,
        since: 1_700_000_000_000,
        stage: Cell::new(Stage::Waiting),
        waited: Cell::new(false),
        lease: Lease::new(Terms {
            ttl: TTL,
            renew_every: TTL / 3,
        }),
    })
}

pub fn exclusive(owner: &str) -> Rc<Ask> {
    ask_for("lock", owner, Mode::Exclusive, Attempt::Wait, true)
}

pub fn shared(owner: &str) -> Rc<Ask> {
    ask_for("lock", owner, Mode::Shared, Attempt::Wait, true)
}

pub async fn take(process: &Process, ask: &Rc<Ask>) -> Taken {
    let taken = tokio::time::timeout(LIMIT, process.backend.acquire(ask.clone())).await;
    let taken = taken.expect("granted in time").unwrap();
    ask.stage.set(Stage::Held);
    ask.lease.begin(taken.leased_at, clock::now());
    taken
}

pub async fn free(process: &Process, ask: &Rc<Ask>) -> Released {
    process.backend.release(ask.clone()).await.unwrap()
}

/// Asks, and waits for the answer in a task.
pub fn begin(process: &Process, ask: &Rc<Ask>) -> JoinHandle<Result<Taken, Refusal>> {
    let (backend, ask) = (process.backend.clone(), ask.clone());
    spawn_local(async move { backend.acquire(ask).await })
}

/// What [`begin`] began ends with a grant.
pub async fn granted(waiter: JoinHandle<Result<Taken, Refusal>>) -> Taken {
    tokio::time::timeout(LIMIT, waiter)
        .await
        .expect("granted in time")
        .unwrap()
        .unwrap()
}

/// Whether a try is in vain.
pub async fn busy(process: &Process, mode: Mode) -> bool {
    let ask = ask_for("lock", "prober", mode, Attempt::Try, false);
    let outcome = process.backend.acquire(ask.clone()).await;
    process.backend.release(ask).await.unwrap();
    match outcome {
        Ok(_) => false,
        Err(Refusal::Busy) => true,
        Err(other) => panic!("{other:?}"),
    }
}

/// Runs a test on a runtime like the addon's own.
pub fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}
