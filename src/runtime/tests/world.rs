//! The runtime with one server that says what a test tells it to say, on a clock that stands still until a test moves it.

use crate::backend::{Ask, Backend, Event, Identity, Owner, Refusal, Released, Snapshot, Snapshots, Taken, Task};
use crate::clock;
use crate::core::lease::Terms;
use crate::core::mode::Mode;
use crate::core::time::Moment;
use crate::error::{Error, Kind, Result};
use crate::runtime::commands::{Call, Command, MutexId, Notice, Sink};
use crate::runtime::entry::{Entry, Surroundings};
use crate::runtime::registry::{Open, Registry};
use crate::runtime::{Attempt, keeper};
use crate::url::{self, Target};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

/// How long anything may take that should happen soon, on a machine that may stand still for seconds.
const LIMIT: Duration = Duration::from_secs(60);
pub const TTL: Duration = Duration::from_secs(10);
pub const RENEW_EVERY: Duration = Duration::from_secs(3);
const START: Moment = Moment(1_000_000_000_000);

/// What the server says to the next questions of one kind; while there is nothing, it does not answer.
pub struct Script<Q, A> {
    answers: RefCell<VecDeque<A>>,
    asked: RefCell<Vec<Q>>,
    more: Notify,
}

impl<Q, A> Script<Q, A> {
    fn new() -> Self {
        Self {
            answers: RefCell::default(),
            asked: RefCell::default(),
            more: Notify::new(),
        }
    }

    pub fn says(&self, answer: A) {
        self.answers.borrow_mut().push_back(answer);
        self.more.notify_waiters();
    }

    pub fn count(&self) -> usize {
        self.asked.borrow().len()
    }

    async fn ask(&self, question: Q) -> A {
        self.asked.borrow_mut().push(question);
        loop {
            let more = self.more.notified();
            if let Some(answer) = self.answers.borrow_mut().pop_front() {
                return answer;
            }
            more.await;
        }
    }
}

/// What a renewal does with the asks that it concerns.
pub type Renewing = Box<dyn FnOnce(&[Rc<Ask>]) -> Result<Vec<Owner>>>;

pub struct Server {
    pub acquire: Script<Rc<Ask>, Result<Taken, Refusal>>,
    pub release: Script<Rc<Ask>, Result<Released>>,
    pub renew: Script<Vec<Rc<Ask>>, Renewing>,
    pub check: Script<(), Result<()>>,
}

impl Server {
    /// The asks of the last renewal.
    pub fn renewed(&self) -> Vec<Rc<Ask>> {
        self.renew.asked.borrow().last().cloned().unwrap_or_default()
    }

    pub fn asked(&self, index: usize) -> Rc<Ask> {
        self.acquire.asked.borrow()[index].clone()
    }
}

impl Backend for Server {
    fn terms(&self) -> Terms {
        Terms {
            ttl: TTL,
            renew_every: RENEW_EVERY,
        }
    }

    fn check(&self) -> Task<'_, Result<()>> {
        Box::pin(self.check.ask(()))
    }

    fn acquire(&self, ask: Rc<Ask>) -> Task<'_, Result<Taken, Refusal>> {
        Box::pin(self.acquire.ask(ask))
    }

    fn release(&self, ask: Rc<Ask>) -> Task<'_, Result<Released>> {
        Box::pin(self.release.ask(ask))
    }

    fn renew(&self, asks: Vec<Rc<Ask>>) -> Task<'_, Result<Vec<Owner>>> {
        Box::pin(async move { self.renew.ask(asks.clone()).await(&asks) })
    }

    fn query(&self, _id: Arc<str>) -> Task<'_, Result<Snapshot>> {
        Box::pin(async { Ok(Snapshot::default()) })
    }

    fn list(&self, _known: BTreeSet<Arc<str>>) -> Task<'_, Result<Snapshots>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn close(&self) -> Task<'_, ()> {
        Box::pin(async {})
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<(Call, Notice)>>);

impl Sink for Heard {
    fn notify(&self, call: Call, notice: Notice) {
        self.0.lock().push((call, notice));
    }
}

/// One process with one open mutex, and its server.
pub struct World {
    pub server: Rc<Server>,
    pub entry: Rc<Entry>,
    pub events: mpsc::UnboundedSender<Event>,
    registry: Rc<Registry>,
    heard: Arc<Heard>,
    next: Cell<u32>,
}

/// No number of a call.
pub const MUTEX: MutexId = MutexId(1_000_000);

/// Runs a test in a world of its own. `parameters` are those of the server's URL.
pub fn run<F: Future<Output = ()>>(parameters: &str, test: impl FnOnce(World) -> F) {
    clock::stop_at(START);
    let tokio = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&tokio, async { test(World::new(parameters)).await });
}

impl World {
    fn new(parameters: &str) -> Self {
        let Target::Remote(remote) = url::parse(&format!("rpm+redis://127.0.0.1:1/lock?{parameters}"))
            .unwrap()
            .target
        else {
            unreachable!()
        };
        let server = Rc::new(Server {
            acquire: Script::new(),
            release: Script::new(),
            renew: Script::new(),
            check: Script::new(),
        });
        let heard = Arc::new(Heard::default());
        let identity = Arc::new(Identity::of_this_process("here".into()));
        let registry = Rc::new(Registry::new(identity.clone(), heard.clone(), Weak::new()));
        let around = Surroundings {
            sink: heard.clone(),
            identity,
            express: Weak::new(),
            requests: registry.requests.clone(),
        };
        let entry = Rc::new(Entry::new(remote.server.clone(), server.clone(), around));
        let (events, told) = mpsc::unbounded_channel();
        tokio::task::spawn_local(keeper::run(entry.clone(), told));
        entry.mutexes.borrow_mut().insert(MUTEX, 1);
        let open = Open {
            entry: entry.clone(),
            env: 1,
            id: "lock".into(),
            label: None,
            thread: 0,
            closing: Cell::new(false),
        };
        registry.mutexes.borrow_mut().insert(MUTEX, Rc::new(open));
        Self {
            server,
            entry,
            events,
            registry,
            heard,
            next: Cell::new(1),
        }
    }

    fn call(&self) -> Call {
        let cookie = self.next.replace(self.next.get() + 1);
        Call { env: 1, cookie }
    }

    /// The call by which the mutex hears of its server.
    pub fn news(&self) -> Call {
        Call {
            env: 1,
            cookie: MUTEX.0,
        }
    }

    pub fn request(&self, mode: Mode, attempt: Attempt) -> Call {
        let call = self.call();
        self.registry.take(Command::Request {
            mutex: MUTEX,
            call,
            mode,
            attempt,
            fenced: true,
            presence: None,
        });
        call
    }

    pub fn lock(&self) -> Call {
        self.request(Mode::Exclusive, Attempt::Wait)
    }

    pub fn try_lock(&self) -> Call {
        self.request(Mode::Exclusive, Attempt::Try)
    }

    pub fn release(&self, request: Call) {
        self.registry.take(Command::Release { request });
    }

    /// Withdraws a request; the answer comes for the call that is returned.
    pub fn cancel(&self, request: Call) -> Call {
        let call = self.call();
        self.registry.take(Command::Cancel { request, call });
        call
    }

    pub fn close(&self) -> Call {
        let call = self.call();
        self.registry.take(Command::Close { mutex: MUTEX, call });
        call
    }

    /// A hold, granted now.
    pub async fn held(&self, mode: Mode) -> Call {
        let call = self.request(mode, Attempt::Wait);
        self.server.acquire.says(granted(clock::now()));
        assert_eq!(self.answer(call).await, "granted");
        call
    }

    /// Moves the clock, and has the keeper look at it.
    pub fn pass(&self, span: Duration) {
        clock::stop_at(clock::now() + span);
        self.entry.keeper.notify_one();
    }

    /// What was told for `call` so far, one word each.
    pub fn told(&self, call: Call) -> Vec<String> {
        let heard = self.heard.0.lock();
        heard
            .iter()
            .filter(|(to, _)| *to == call)
            .map(|(_, notice)| word(notice))
            .collect()
    }

    /// The last thing that is told for `call`, once something is.
    pub async fn answer(&self, call: Call) -> String {
        self.answer_after(call, 0).await
    }

    /// As `answer`, after `known` answers.
    pub async fn answer_after(&self, call: Call, known: usize) -> String {
        until("an answer", || self.told(call).len() > known).await;
        self.told(call).pop().unwrap()
    }

    /// How many requests this process still knows.
    pub fn requests(&self) -> usize {
        self.registry.requests.borrow().len()
    }
}

fn word(notice: &Notice) -> String {
    match notice {
        Notice::Granted { .. } => "granted".into(),
        Notice::Busy => "busy".into(),
        Notice::Done => "done".into(),
        Notice::Snapshot(_) | Notice::Snapshots(_) => "snapshot".into(),
        Notice::Failed(error) => format!("failed {}", error.kind.code()),
        Notice::Lost(_) => "lost".into(),
        Notice::Disconnected => "disconnected".into(),
        Notice::Reconnected => "reconnected".into(),
    }
}

pub fn granted(leased_at: Moment) -> Result<Taken, Refusal> {
    Ok(Taken {
        token: Some(1),
        leased_at,
    })
}

pub fn error(kind: Kind) -> Error {
    Error::new(kind, "as the test says")
}

/// Waits for what other tasks are about to do.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(LIMIT, wait).await.is_ok(), "waited in vain for {what}");
}

/// Lets all other tasks do what they can do without anything coming from outside.
pub async fn rest() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
