//! Redis 6.2 and newer, and Valkey: a key per lock, as in 1.1.2, with a queue beside it.
//!
//! **The invariant.** The main key `<id>/lock.IPC-Mutex-rpm` exists exactly while somebody holds the lock, and names its holder, or says that the
//! entries of `readers` hold it. Whoever believes in a hold was named there at a moment not earlier than its lease's, by the server's own
//! answer, with an expiry of a whole ttl from then. What follows from that, and who keeps it:
//!
//! - *One or many, never both; first come, first served.* Everything that decides is a script and atomic: `lua/state.lua` reads and changes the state,
//!   `lua/queue.lua` picks who is next. `lua/words.lua` has the keys. The `_plain` and `express_` scripts do the common cases with fewer commands.
//! - *A hold is dated by what was proven.* A grant that answers a question, and a renewal, count from when they were sent. One that was waited for
//!   counts from the last question whose answer was that it had not come (`acquire.rs`); it names the question that it answers, and one that
//!   answers another is asked about. No clock but our own has a part in that.
//! - *A waiter is woken by what reaches its own connection.* Each connection has a channel of its own (`link.rs`), and a waiter's entry names that of
//!   the connection by which it asked last. A script passes over whoever is not there to hear.
//! - *A hold that is stolen is over at the server in the same step* (`lua/steal.lua`). Its process hears so over a channel that the first link subscribes
//!   to with its greeting, else with the next renewal.
//! - *Somebody looks after the lock.* The first waiter that listens asks when the key runs out, and polls behind a 1.1.2 process; it knows that it
//!   is the first: `tell_first` in `lua/queue.lua` is the end of every script that may have changed that, but for the quick hand-over in
//!   `lua/release_plain.lua`, behind which it learns so with its next renewal, before the key can run out.
//! - *What was given up does nothing any more.* A connection is ended at the server before its successor is used (`connect.rs`), and one of the express
//!   lane before a lock that was asked for on it is given back ([`Redis::cut`](Backend::cut)).
//! - *Renewals do not queue behind work.* They have a connection of their own, opened with the first hold; until it is there they go by the one that is open
//!   (`renew.rs`).
//! - *A failure says what may end it* (`fault.rs`): nothing, time, or another connection. The last makes `link.rs` give the connection up.
//!
//! What only 1.1.2 needs is in `legacy.rs` and `lua/legacy.lua`. The express lane's connections are JavaScript's own ([`mod@express`]); the same scripts and
//! calls (`calls.rs`, `script.rs`) serve both ways.

mod acquire;
mod answer;
mod calls;
mod connect;
mod express;
mod fault;
mod frame;
mod info;
mod legacy;
mod link;
mod list;
mod renew;
mod script;
mod waiting;

use self::answer::Message;
use self::calls::Calls;
use self::fault::{Cure, Fault, Peer};
use self::link::{Link, Watch};
use self::waiting::{Waiting, Wake};
use crate::backend::express::Name;
use crate::backend::{Ask, Backend, Context, Event, Owner, Refusal, Released, Snapshot, Snapshots, Taken, Task};
use crate::core::lease::Terms;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::options::Tls;
use crate::url::Server;
pub use express::express;
use redis::{PushInfo, PushKind, Value};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long an answer of the server counts as news that it is there.
const FRESH: Duration = Duration::from_secs(1);

struct Redis {
    /// Itself, for tasks that outlive a call.
    this: Weak<Redis>,
    peer: Peer,
    terms: Terms,
    is_plain: bool,
    /// The limit of every exchange that the server should answer at once.
    patience: Duration,
    calls: Calls,
    foreground: Rc<Link>,
    renewal: Rc<Link>,
    waiting: Rc<Waiting>,
    context: Context,
    /// What this process holds, by owner, to be looked after when the connection was gone.
    holds: RefCell<HashMap<Owner, Rc<Ask>>>,
    recovering: Cell<bool>,
}

/// Connects to the server; resolves when it has answered.
///
/// Errors: `Kind::Connect` (nobody answers within `connect_timeout`), `Kind::Auth`, `Kind::Tls`, and `Kind::Server` for what is
/// not a primary of Redis 6.2 or Valkey. Must run inside a `LocalSet`.
pub async fn connect(server: &Server, context: Context) -> Result<Rc<dyn Backend>> {
    let shared = Rc::new(server.clone());
    let peer = Peer::new(server);
    let instance = || context.identity.instance.clone();
    let reached = Rc::<Cell<_>>::default();
    let (sender, pushes) = mpsc::unbounded_channel();
    let foreground = Link::new(shared.clone(), peer.clone(), instance(), reached.clone(), Some(sender));
    let renewal = Link::new(shared, peer.clone(), instance(), reached, None);
    let redis = Rc::new_cyclic(|this| Redis {
        this: this.clone(),
        peer,
        terms: renew::terms(server.options.ttl),
        is_plain: server.options.tls == Tls::Off,
        patience: connect::patience(server),
        calls: Calls::new(server, context.identity.clone()),
        foreground: foreground.clone(),
        renewal,
        waiting: Rc::default(),
        context,
        holds: RefCell::default(),
        recovering: Cell::new(false),
    });
    let watch: Rc<dyn Watch> = redis.clone();
    foreground.watched_by(Rc::downgrade(&watch));
    tokio::task::spawn_local(listen(Rc::downgrade(&redis), pushes));
    foreground.live().await?;
    Ok(redis)
}

/// Passes grants on to the waiters, and thefts to the runtime, as long as the backend lives.
async fn listen(redis: Weak<Redis>, mut pushes: mpsc::UnboundedReceiver<PushInfo>) {
    while let Some(push) = pushes.recv().await {
        let Some(redis) = redis.upgrade() else { return };
        if push.kind == PushKind::Message
            && let Some(message) = push.data.get(1).and_then(answer::text)
        {
            redis.hear(message);
        }
    }
}

impl Redis {
    /// Something was published for a waiter or a holder of this process.
    fn hear(&self, text: &str) {
        if let Some((owner, message)) = answer::message(text) {
            match message {
                Message::Granted { token, asked } => self.waiting.ring(owner, Wake::Granted { token, asked }),
                Message::Moved(place) => self.waiting.ring(owner, Wake::Moved(place)),
                Message::Stolen => self.tell(Event::Stolen(Owner(owner.into()))),
            }
        }
    }

    async fn free(&self, ask: &Ask) -> Result<Released> {
        self.holds.borrow_mut().remove(&ask.owner);
        let call = self.calls.release(ask);
        let live = self.foreground.live().await?;
        let (_, value) = self.foreground.call(&live, &call, self.patience).await?;
        match answer::released(&value) {
            Some(true) => Ok(Released::Freed),
            Some(false) => Ok(Released::NotHeld),
            None => Err(self.peer.unexpected()),
        }
    }

    async fn snapshot(&self, id: &str) -> Result<Snapshot> {
        let call = self.calls.query(id);
        let live = self.foreground.live().await?;
        let (_, value) = self.foreground.call(&live, &call, self.patience).await?;
        info::read(&value).ok_or_else(|| self.peer.unexpected())
    }

    async fn ping(&self) -> Result<()> {
        let live = self.foreground.live().await?;
        match self.foreground.ask(&live, &redis::cmd("PING"), self.patience).await? {
            Value::SimpleString(_) | Value::BulkString(_) | Value::Okay => Ok(()),
            _ => Err(self.peer.unexpected()),
        }
    }

    fn lost(&self, ask: &Ask) -> Event {
        let message = format!(
            "lock {:?} was lost: Redis at {} no longer has this hold",
            &*ask.id, self.peer.name
        );
        Event::Lost {
            owner: ask.owner.clone(),
            error: Error::new(Kind::LockLost, message),
        }
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more only when the runtime has ended.
        let _ = self.context.events.send(event);
    }
}

impl Watch for Redis {
    fn broke(&self) {
        self.tell(Event::Disconnected);
        self.waiting.ring_all(Wake::Again);
        self.recover();
    }

    fn reopened(self: Rc<Self>) {
        self.tell(Event::Reconnected);
        tokio::task::spawn_local(async move { self.verify().await });
    }
}

impl Backend for Redis {
    fn terms(&self) -> Terms {
        self.terms
    }

    fn check(&self) -> Task<'_, Result<()>> {
        Box::pin(async {
            if self.foreground.answered_within(FRESH) {
                return Ok(());
            }
            match tokio::time::timeout(self.patience, self.ping()).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.peer.silent()),
            }
        })
    }

    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>> {
        Box::pin(async move { self.take(&ask).await })
    }

    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>> {
        Box::pin(async move { self.free(&ask).await })
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(async move { self.keep(&asks).await })
    }

    fn query(&self, id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async move { self.snapshot(&id).await })
    }

    fn list(&self, _known: BTreeSet<Arc<str>>) -> Task<'_, Result<Snapshots>> {
        Box::pin(self.snapshots())
    }

    /// What happened to the connection since the question was sent says whether the hold may be gone with the server's data.
    fn adopt(&self, ask: Rc<Ask>, sent: Moment) {
        self.keep_from_now_on(ask);
        match self.foreground.current() {
            None => self.recover(),
            Some(live) if live.opened > sent => {
                if let Some(redis) = self.this.upgrade() {
                    tokio::task::spawn_local(async move { redis.verify().await });
                }
            }
            Some(_) => {}
        }
    }

    fn cut(&self, line: &Name) -> Task<'_, Result<()>> {
        let line = line.clone();
        Box::pin(async move {
            let Some(client) = line.client else { return Ok(()) };
            let live = self.foreground.live().await?;
            let listed = self.foreground.ask(&live, &connect::list(client), self.patience).await;
            let killed = match listed {
                Ok(listed) if connect::is_called(&listed, &line.text) => {
                    self.foreground.ask(&live, &connect::kill(client), self.patience).await
                }
                other => other,
            };
            match killed {
                Err(Fault { error, cure }) if cure != Cure::Nothing => Err(error),
                // It was gone already, or it is not for this user to see or to end: then time undoes what comes late.
                _ => Ok(()),
            }
        })
    }

    fn address(&self) -> Option<SocketAddr> {
        // JavaScript cannot be asked to encrypt.
        self.foreground.address().filter(|_| self.is_plain)
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async {
            self.holds.borrow_mut().clear();
            self.foreground.close();
            self.renewal.close();
        })
    }
}
