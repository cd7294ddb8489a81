//! What a remote lock server must be able to do: the one interface between [`crate::runtime`] and the servers.
//!
//! A backend speaks a server's protocol and nothing else. It runs on the addon's own thread (a current-thread tokio
//! runtime, so nothing here is `Send`), owns the connections of one process to one server, and keeps the server's side
//! of each [`Ask`]. The runtime does the rest: the queue inside the process, retries with growing pauses, renewal times,
//! the lease rule, cancellation, and telling JavaScript.
//!
//! The order of calls for one ask: `acquire` until it grants, refuses or is dropped; while it waits or holds, `renew` may
//! come at any time; then `release`, exactly as often as needed until it succeeds. **Dropping the future of `acquire`
//! is how a wait is cancelled**: it must leave the backend consistent, and the `release` that always follows
//! undoes whatever the ask may have left at the server, be it a place in the queue, a hold that was granted meanwhile,
//! or a request that is still on its way. A failed `acquire` is followed either by `release` or by another `acquire` of
//! the same ask, which must recognise what the first one left (the owner is the same) and keep its place in
//! the queue where the server still has it.

pub mod consul;
mod errands;
pub mod etcd;
pub mod express;
pub mod pgsql;
pub mod redis;
pub mod tls;

pub use crate::core::attempt::Attempt;
use crate::core::lease::{Lease, Terms};
use crate::core::mode::Mode;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::url::{self, Scheme, Server};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

pub use errands::Errands;

/// What an asynchronous operation of a backend gives: a future of this thread.
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Who asks: unique among all processes of all machines, so that a process recognises its own traces on the server
/// after a reply was lost. Letters, digits and hyphens only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub Arc<str>);

/// Where an ask is in its life, as the runtime sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Waiting,
    Held,
}

/// One request for one lock, and the hold that it becomes.
#[derive(Debug)]
pub struct Ask {
    /// The lock's name, as in the URL.
    pub id: Arc<str>,
    pub owner: Owner,
    pub mode: Mode,
    pub attempt: Attempt,
    /// Whether a fencing token is wanted. The 1.x `acquire()` wants none and must not pay for one.
    pub fenced: bool,
    /// What to show to whoever asks who holds the lock.
    pub label: Option<Arc<str>>,
    /// The JavaScript thread that asks (0 is the main thread).
    pub thread: u32,
    /// When the user asked, in milliseconds since 1970.
    pub since: u64,
    pub stage: Cell<Stage>,
    /// It has waited, in its process or at the server: what goes wrong for a moment does not end it, see [`Refusal::Failed`].
    pub waited: Cell<bool>,
    /// How long the hold may be believed in, once there is one. The backend proves it ([`Ask::prove`]), the runtime begins and ends it.
    pub lease: Lease,
}

impl Ask {
    /// A message that was sent at `sent` has proven that the server still has this hold, and that its time counts from then. What
    /// counts as proven says [`Backend::renew`].
    pub fn prove(&self, sent: Moment) {
        self.lease.prove(sent, crate::clock::now());
    }

    /// The lock's name for people.
    pub fn name(&self) -> &str {
        url::shown(&self.id)
    }
}

/// A grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// From the server's own order; `None` only if the ask did not want one.
    pub token: Option<u64>,
    /// When the message was sent from which the server counts this hold's (or its session's) lease: the lease rule
    /// starts here.
    pub leased_at: Moment,
}

/// Why there is no grant: the answer to "may the caller go on waiting?", which is not the same question as whether another address,
/// connection or token is worth a try (that is the backend's own business), or whether clearing away may stop (it may not).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// [`Attempt::Try`] only: somebody else has it, or is before us.
    Busy,
    /// The server cannot be asked at present. An ask that waits is asked again, with growing pauses; a try fails with this.
    Away(Error),
    /// Final for the caller: it will not get the lock before somebody changes something. Whoever changes it may be at it: an ask that has
    /// [waited](Ask::waited) outlives wrong rights for one `ttl`.
    Failed(Error),
}

impl Refusal {
    /// [`Attempt::Steal`] at a server at which nobody is asked for it: `lib/models/rpm.js` knows which these are.
    pub fn cannot_steal(ask: &Ask) -> Self {
        let message = format!("lock \"{}\" cannot be stolen at this server", ask.name());
        Self::Failed(Error::new(Kind::Server, message))
    }
}

/// What most failures mean. A backend that knows better says so itself.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.kind {
            Kind::Connect => Refusal::Away(error),
            _ => Refusal::Failed(error),
        }
    }
}

/// What `release` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The server had this ask as a holder, and no longer does.
    Freed,
    /// The server did not have it as a holder: it was waiting, or unknown, or its hold had ended on the server's side.
    NotHeld,
}

/// A holder or waiter as the server knows it; what cannot be known is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub mode: Mode,
    pub token: Option<u64>,
    pub host: Option<String>,
    pub pid: Option<u32>,
    pub thread: Option<u32>,
    pub label: Option<String>,
    /// Milliseconds since 1970.
    pub since: Option<u64>,
}

/// Holders and waiters of one lock, waiters in the order of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub held: Vec<Info>,
    pub pending: Vec<Info>,
}

/// The snapshots of several locks, by their ids.
pub type Snapshots = Vec<(Arc<str>, Snapshot)>;

impl Snapshot {
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.pending.is_empty()
    }
}

/// What a backend tells without being asked.
#[derive(Debug, Clone)]
pub enum Event {
    /// This hold is gone from the server: the connection was cut, the session ended, the key was deleted.
    Lost { owner: Owner, error: Error },
    /// This hold was given to somebody else, who has stolen the lock.
    Stolen(Owner),
    /// The connection that everything hangs on is gone, and the next exchange needs a new one. Once per outage; more than one does no
    /// harm.
    Disconnected,
    /// The connection was gone and is back. Waiting asks are asked again by the runtime if their `acquire` failed. The runtime also
    /// looks by itself, by `check`, whether the server is back.
    Reconnected,
}

/// Who this process is, for what servers show of it.
#[derive(Debug)]
pub struct Identity {
    pub host: String,
    pub pid: u32,
    /// 32 random hexadecimal digits, new for each start of the process.
    pub instance: String,
}

impl Identity {
    /// Who this process is, on the machine that calls itself `host`, with a fresh random instance.
    pub fn of_this_process(host: String) -> Self {
        let mut random = [0_u8; 16];
        if getrandom::fill(&mut random).is_err() {
            // Without a source of randomness, process and time still tell instances of one machine apart.
            random[..8].copy_from_slice(&crate::clock::now().0.to_le_bytes());
            random[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        }
        Self {
            host,
            pid: std::process::id(),
            instance: random.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// What the runtime lends to a backend.
#[derive(Clone)]
pub struct Context {
    pub identity: Arc<Identity>,
    pub events: mpsc::UnboundedSender<Event>,
}

/// One server, as a lock needs it. See the module documentation for the order of calls.
pub trait Backend {
    /// On which terms the server keeps holds alive. Read once after connecting.
    fn terms(&self) -> Terms;

    /// Resolves when the server answers, with at most one quick exchange, and at once if it did so a moment ago. After a
    /// cut connection this reconnects. Bounded by `connect_timeout`.
    fn check(&self) -> Task<'_, Result<()>>;

    /// Takes the lock, waits for it or steals it. Recognises an ask that is already queued or granted, and dates a grant anew then: a grant
    /// that came when its lease was over is asked for again. Must be safe to drop.
    /// [`Attempt::Try`], [`Attempt::Steal`] and every exchange that the server should answer at once are bounded by `connect_timeout`.
    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>>;

    /// Frees the lock, or withdraws the ask from the queue: afterwards the server has no trace of it, and the next waiter
    /// has been woken. Idempotent, also after a lost reply.
    ///
    /// Whatever the error, the runtime asks again until the answer is `Ok` or the last mutex of the server is closed: no error says
    /// that the server has nothing of the ask.
    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>>;

    /// Keeps `asks` (held and waiting ones, see [`Ask::stage`]) alive, in as few exchanges as possible, on a connection
    /// that slow foreground traffic does not hold up. Called every `renew_every` while there are asks, and while a session is to be
    /// kept.
    ///
    /// Answers per ask. Each hold that is proven is told by [`Ask::prove`], as soon as that is known, with the moment at which the
    /// message that proved it was really sent. Gives the owners of the held ones that the server no longer has; one whose
    /// loss has more to say goes by [`Event::Lost`] instead. An ask of which neither is known is in neither. `Err` means "ask
    /// again soon", and takes nothing back that was proven.
    ///
    /// A renewal proves a hold from when it was *sent*, and only if the answer came from a server that was still entitled to
    /// give it at some later moment. A server that may have been replaced meanwhile (a leader that was stopped and goes on) is not: it
    /// answers from what it remembers. Only a look that such a server could not pass, made after the renewal was answered, shows
    /// that it counted. Proof of one ask says nothing about another, unless both live under one session.
    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>>;

    /// Who holds and who waits for lock `id`, in order.
    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>>;

    /// Who holds and who waits for every lock at which anybody is, in no order, each lock once. Read in pieces, so that nobody else has to
    /// wait for all of it; each exchange is bounded by `connect_timeout`. `known` are the ids of this process's mutexes: a server that knows
    /// locks by something else than their ids tells of these.
    fn list(&self, known: BTreeSet<Arc<str>>) -> Task<'_, Result<Snapshots>>;

    /// Takes over an ask that was granted on the express lane, where the question for it was sent at `sent`: from now on it is
    /// looked after like any hold.
    fn adopt(&self, _ask: Rc<Ask>, _sent: Moment) {}

    /// Sees to it that nothing more arrives at the server by a connection of the express lane which may still carry something.
    fn cut(&self, _line: &express::Name) -> Task<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Where the express lane's connections lead to; `None` if the server was not reached yet, or has no lane.
    fn address(&self) -> Option<SocketAddr> {
        None
    }

    /// Ends session and connections, after the last mutex was closed. Bounded by `connect_timeout`; errors are of no interest.
    fn close(&self) -> Task<'_, ()>;
}

/// Connects to `server` and makes sure that it is what its URL says. Bounded by the caller.
///
/// # Errors
/// `Connect`, `Auth`, `Tls` or `Server`, naming host and port.
pub async fn connect(server: &Server, context: Context) -> Result<Rc<dyn Backend>> {
    match server.scheme {
        Scheme::Redis => redis::connect(server, context).await,
        Scheme::Pgsql => pgsql::connect(server, context).await,
        Scheme::Consul => consul::connect(server, context).await,
        Scheme::Etcd => etcd::connect(server, context).await,
    }
}

/// What the express lane of `server` speaks; `None` if it has none.
pub fn express(server: &Server, identity: &Arc<Identity>) -> Option<Box<dyn express::Wire>> {
    // The lane's connections are opened in one step, with no time to ask for credentials.
    if server.credentials.provider.is_some() {
        return None;
    }
    match server.scheme {
        Scheme::Redis => redis::express(server, identity),
        Scheme::Pgsql | Scheme::Consul | Scheme::Etcd => None,
    }
}
