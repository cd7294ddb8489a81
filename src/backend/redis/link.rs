//! One connection to the server: opened on demand, shared by all calls, replaced when it breaks.

use super::connect::{self, Known, Opened};
use super::fault::{Cure, Fault, Peer};
use super::script::Call;
use crate::clock;
use crate::core::time::Moment;
use crate::url::Server;
use redis::{Cmd, PushInfo, RedisError, Value};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

/// The number of the next connection, to any server: two URLs may lead to the same one.
static COUNT: AtomicU64 = AtomicU64::new(1);

/// A connection that works, as far as is known.
pub(super) struct Live {
    connection: redis::aio::MultiplexedConnection,
    driver: RefCell<Option<AbortHandle>>,
    broken: Cell<bool>,
    /// Where grants for those who wait on this connection are published: no other connection of any process has this channel.
    pub channel: String,
    /// Whether the channel is subscribed.
    pub listening: Cell<bool>,
    pub opened: Moment,
    /// When the server last answered.
    answered: Cell<Moment>,
}

impl Live {
    fn stop(&self) {
        self.broken.set(true);
        if let Some(driver) = self.driver.take() {
            driver.abort();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop();
    }
}

enum State {
    Down,
    Opening(Rc<Opening>),
    Up(Rc<Live>),
}

/// An attempt to connect, which everybody who needs the connection waits for; it goes on when the one who began it is
/// dropped.
#[derive(Default)]
struct Opening {
    outcome: RefCell<Option<Result<Rc<Live>, Fault>>>,
    done: Notify,
}

/// What the owner of a link wants to know about it.
pub(super) trait Watch {
    /// It was open, broke, and is open again.
    fn reopened(self: Rc<Self>);
    /// It broke.
    fn broke(&self);
}

pub(super) struct Link {
    server: Rc<Server>,
    peer: Peer,
    /// What the server shows of this process's connections, and of nobody else's, is made from this; with a number, of one of them.
    instance: String,
    pushes: Option<mpsc::UnboundedSender<PushInfo>>,
    state: RefCell<State>,
    /// The connection before the present one: it is closed at the server before anything is sent on a
    /// new one, so that a command still on its way on the old one cannot overtake.
    previous: RefCell<Option<Known>>,
    /// Where the server was reached last, by any link to it: where there is a choice, they all choose that.
    reached: Rc<Cell<Option<SocketAddr>>>,
    was_open: Cell<bool>,
    /// When the last connection was opened.
    opened: Cell<Option<Moment>>,
    watch: RefCell<Option<std::rc::Weak<dyn Watch>>>,
}

impl Link {
    /// A link that is not open yet. `pushes` gets what the server sends without being asked.
    pub fn new(
        server: Rc<Server>,
        peer: Peer,
        instance: String,
        reached: Rc<Cell<Option<SocketAddr>>>,
        pushes: Option<mpsc::UnboundedSender<PushInfo>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            server,
            peer,
            instance,
            pushes,
            state: RefCell::new(State::Down),
            previous: RefCell::new(None),
            reached,
            was_open: Cell::new(false),
            opened: Cell::new(None),
            watch: RefCell::new(None),
        })
    }

    pub fn watched_by(&self, watch: std::rc::Weak<dyn Watch>) {
        *self.watch.borrow_mut() = Some(watch);
    }

    /// The connection if it is open.
    pub fn current(&self) -> Option<Rc<Live>> {
        match &*self.state.borrow() {
            State::Up(live) if !live.broken.get() => Some(live.clone()),
            _ => None,
        }
    }

    /// The connection, opened if need be. Bounded by `connect_timeout`.
    pub async fn live(self: &Rc<Self>) -> Result<Rc<Live>, Fault> {
        if let Some(live) = self.current() {
            return Ok(live);
        }
        let opening = self.opening();
        loop {
            // Nothing else runs on this thread between the look and the wait.
            if let Some(outcome) = &*opening.outcome.borrow() {
                return outcome.clone();
            }
            opening.done.notified().await;
        }
    }

    /// Sees to it that there is a connection soon.
    pub fn prepare(self: &Rc<Self>) {
        if self.current().is_none() {
            self.opening();
        }
    }

    fn opening(self: &Rc<Self>) -> Rc<Opening> {
        if let State::Opening(opening) = &*self.state.borrow() {
            return opening.clone();
        }
        let opening = Rc::new(Opening::default());
        *self.state.borrow_mut() = State::Opening(opening.clone());
        let link = self.clone();
        let mine = opening.clone();
        tokio::task::spawn_local(async move {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("ipc-mutex:{}-{number}", link.instance);
            let previous = link.previous.borrow().clone();
            let outcome = connect::open(
                &link.server,
                &link.peer,
                &name,
                link.pushes.clone(),
                previous,
                link.reached.get(),
            )
            .await;
            let outcome = outcome.map(|opened| link.install(opened, name, number));
            *link.state.borrow_mut() = match &outcome {
                Ok(live) => State::Up(live.clone()),
                Err(_) => State::Down,
            };
            let again = outcome.is_ok() && link.was_open.replace(true);
            *mine.outcome.borrow_mut() = Some(outcome);
            mine.done.notify_waiters();
            if again && let Some(watch) = link.watcher() {
                watch.reopened();
            }
        });
        opening
    }

    fn install(self: &Rc<Self>, opened: Opened, name: String, number: u64) -> Rc<Live> {
        self.previous.replace(opened.client_id.map(|id| Known { id, name }));
        self.reached.set(opened.address);
        self.opened.set(Some(clock::now()));
        let live = Rc::new(Live {
            connection: opened.connection,
            driver: RefCell::new(None),
            broken: Cell::new(false),
            channel: format!("IPC-Mutex-rpm:{}:{number}", self.instance),
            listening: Cell::new(false),
            opened: clock::now(),
            answered: Cell::new(clock::now()),
        });
        let (link, driven) = (Rc::downgrade(self), Rc::downgrade(&live));
        let driver = tokio::task::spawn_local(async move {
            opened.driver.await;
            if let (Some(link), Some(live)) = (link.upgrade(), driven.upgrade()) {
                link.discard(&live);
            }
        });
        *live.driver.borrow_mut() = Some(driver.abort_handle());
        live
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.reached.get()
    }

    fn watcher(&self) -> Option<Rc<dyn Watch>> {
        self.watch.borrow().as_ref()?.upgrade()
    }

    /// Gives up a connection: the next call opens a new one.
    pub fn discard(&self, live: &Live) {
        if live.broken.get() {
            return;
        }
        live.stop();
        let is_present = matches!(&*self.state.borrow(), State::Up(present) if std::ptr::eq(&**present, live));
        if is_present {
            *self.state.borrow_mut() = State::Down;
        }
        if let Some(watch) = self.watcher() {
            watch.broke();
        }
    }

    /// Closes without telling anybody.
    pub fn close(&self) {
        *self.watch.borrow_mut() = None;
        *self.state.borrow_mut() = State::Down;
        self.was_open.set(false);
    }

    /// Whether the last connection was opened within the last `span`, whatever became of it.
    pub fn was_opened_within(&self, span: Duration) -> bool {
        self.opened
            .get()
            .is_some_and(|opened| clock::now().since(opened) < span)
    }

    /// Whether the server answered on this link within the last `span`.
    pub fn answered_within(&self, span: Duration) -> bool {
        self.current()
            .is_some_and(|live| clock::now().since(live.answered.get()) < span)
    }

    /// Sends one command and waits for the answer, at most `limit`.
    pub async fn ask(&self, live: &Live, command: &Cmd, limit: Duration) -> Result<Value, Fault> {
        let mut connection = live.connection.clone();
        let answer = tokio::time::timeout(limit, connection.send_packed_command(command)).await;
        match self.judge(live, answer)? {
            Value::ServerError(error) => Err(self.refused(live, error)),
            value => Ok(value),
        }
    }

    /// Calls a script; gives also when the call that was answered was sent.
    pub async fn call(&self, live: &Live, call: &Call<'_>, limit: Duration) -> Result<(Moment, Value), Fault> {
        let mut sent = clock::now();
        let mut connection = live.connection.clone();
        let command = call.by_digest();
        let answer = tokio::time::timeout(limit, connection.send_packed_command(&command)).await;
        let mut value = self.judge(live, answer)?;
        if is_unknown_script(&value) {
            sent = clock::now();
            let command = call.by_text();
            let answer = tokio::time::timeout(limit, connection.send_packed_command(&command)).await;
            value = self.judge(live, answer)?;
        }
        match value {
            Value::ServerError(error) => Err(self.refused(live, error)),
            value => Ok((sent, value)),
        }
    }

    /// Calls scripts in one exchange, each with an answer or an error of its own.
    pub async fn call_all(
        &self,
        live: &Live,
        calls: &[Call<'_>],
        limit: Duration,
    ) -> Result<(Moment, Vec<Value>), Fault> {
        let (sent, values) = self.pipeline(live, calls.iter().map(Call::by_digest), limit).await?;
        if values.iter().any(is_unknown_script) {
            return self.pipeline(live, calls.iter().map(Call::by_text), limit).await;
        }
        Ok((sent, values))
    }

    async fn pipeline(
        &self,
        live: &Live,
        commands: impl Iterator<Item = Cmd>,
        limit: Duration,
    ) -> Result<(Moment, Vec<Value>), Fault> {
        let mut pipeline = redis::pipe();
        let mut count = 0;
        for command in commands {
            pipeline.add_command(command);
            count += 1;
        }
        let sent = clock::now();
        let mut connection = live.connection.clone();
        let answer = tokio::time::timeout(limit, connection.send_packed_commands(&pipeline, 0, count)).await;
        Ok((sent, self.judge(live, answer)?))
    }

    /// Subscribes the connection to its channel; returns when the server has confirmed.
    pub async fn listen(&self, live: &Live, limit: Duration) -> Result<(), Fault> {
        if !live.listening.get() {
            let mut connection = live.connection.clone();
            let answer = tokio::time::timeout(limit, connection.subscribe(&live.channel)).await;
            self.judge(live, answer)?;
            live.listening.set(true);
        }
        Ok(())
    }

    /// A connection that does not answer, or breaks, is given up at once.
    fn judge<T>(
        &self,
        live: &Live,
        answer: Result<redis::RedisResult<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, Fault> {
        match answer {
            Ok(Ok(value)) => {
                live.answered.set(clock::now());
                Ok(value)
            }
            Ok(Err(error)) => {
                if error.is_unrecoverable_error() {
                    self.discard(live);
                }
                Err(self.peer.explain(&error))
            }
            Err(_) => {
                self.discard(live);
                Err(self.peer.silent().into())
            }
        }
    }

    /// What an error that the server answered means. A connection that cannot be used for locks any more is given up.
    pub fn refused(&self, live: &Live, error: redis::ServerError) -> Fault {
        let fault = self.peer.explain(&RedisError::from(error));
        if fault.cure == Cure::Connection {
            self.discard(live);
        }
        fault
    }
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
