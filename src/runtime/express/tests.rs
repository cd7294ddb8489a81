//! The lane against a server and a runtime that are simple enough to be right: any order of what JavaScript, the network, the server
//! and the runtime do.

use super::{Adoption, Departure, Express, Late, Place, Presence, Stage, Told, Way};
use crate::backend::{Attempt, Identity};
use crate::core::lease::Terms;
use crate::core::mode::Mode;
use crate::runtime::commands::{Call, Command, MutexId};
use crate::url::{self, Server, Target};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const IDS: u8 = 2;
const ENVS: u32 = 2;
/// What the owners of other processes begin with.
const STRANGER: &str = "stranger";

/// One lock at the server.
#[derive(Default)]
struct Lock {
    holder: Option<String>,
    /// Each with the channel on which it listens, if that is one of the lane.
    queue: VecDeque<(String, Option<String>)>,
}

impl Lock {
    fn has_stranger(&self) -> bool {
        let waiting = self.queue.iter().map(|(owner, _)| owner);
        self.holder
            .iter()
            .chain(waiting)
            .any(|owner| owner.starts_with(STRANGER))
    }
}

/// Whom the server knows. An owner that was given up must never ask again.
#[derive(Default)]
struct Redis {
    locks: HashMap<String, Lock>,
    finished: HashSet<String>,
}

impl Redis {
    /// Whether the owner holds the lock now.
    fn acquire(&mut self, id: &str, owner: &str, may_queue: bool, channel: Option<&str>) -> bool {
        assert!(!self.finished.contains(owner), "{owner} was given up and asks");
        let lock = self.locks.entry(id.into()).or_default();
        if lock.holder.is_none() && lock.queue.is_empty() {
            lock.holder = Some(owner.into());
        }
        let holds = lock.holder.as_deref() == Some(owner);
        if !holds && may_queue {
            let channel = channel.map(str::to_owned);
            match lock.queue.iter_mut().find(|(other, _)| other == owner) {
                Some(place) => place.1 = channel,
                None => lock.queue.push_back((owner.into(), channel)),
            }
        }
        holds
    }

    fn acquire_free(&mut self, id: &str, owner: &str) -> bool {
        self.locks.entry(id.into()).or_default().holder.is_none() && self.acquire(id, owner, false, None)
    }

    fn is_awaited(&self, id: &str) -> bool {
        self.locks.get(id).is_some_and(|lock| !lock.queue.is_empty())
    }

    /// Whether the owner held the lock, and who has it now if that is to be told.
    fn release(&mut self, id: &str, owner: &str) -> (bool, Option<(String, String)>) {
        let lock = self.locks.entry(id.into()).or_default();
        lock.queue.retain(|(other, _)| other != owner);
        if lock.holder.as_deref() != Some(owner) {
            return (false, None);
        }
        let next = lock.queue.pop_front();
        lock.holder = next.as_ref().map(|(next, _)| next.clone());
        (true, next.and_then(|(next, channel)| Some((next, channel?))))
    }
}

/// A connection of the lane; what was written may reach the server after JavaScript has closed it.
struct Connection {
    line: u32,
    client: i64,
    requests: VecDeque<Vec<String>>,
    replies: Vec<u8>,
    /// The server has ended it, which JavaScript hears some time later.
    is_cut: bool,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Phase {
    Queued,
    Asking,
    Waiting,
    Held,
    /// Released or withdrawn; whether JavaScript is to hear of it.
    Leaving {
        tells: bool,
    },
}

struct Request {
    call: Call,
    owner: String,
    attempt: Attempt,
    phase: Phase,
    late: Option<Late>,
    unanswered: bool,
    _presence: Option<Presence>,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Heard {
    Nothing,
    Granted,
    Releasing,
    Over,
    Cancelled,
}

struct World {
    express: Express,
    commands: mpsc::UnboundedReceiver<Command>,
    redis: Redis,
    /// The runtime's gate: the first of each lock asks.
    gates: HashMap<u8, VecDeque<Request>>,
    connections: Vec<Connection>,
    /// The open connection of each thread, by its place in `connections`.
    open: HashMap<u32, usize>,
    calls: HashMap<Call, (u8, Heard)>,
    next: u32,
    lane: u32,
}

fn server() -> Server {
    match url::parse("rpm+redis://127.0.0.1:1/x").unwrap().target {
        Target::Remote(remote) => remote.server,
        _ => unreachable!(),
    }
}

fn id_of(id: u8) -> String {
    format!("lock-{id}")
}

fn mutex(env: u32, id: u8) -> MutexId {
    MutexId(env * 100 + u32::from(id))
}

impl World {
    fn new() -> Self {
        let (sender, commands) = mpsc::unbounded_channel();
        let express = Express::new(sender, Arc::new(Identity::of_this_process("test".into())));
        let server = server();
        for env in 1..=ENVS {
            for id in 0..IDS {
                let place = Place {
                    server: &server,
                    terms: Terms {
                        ttl: Duration::from_secs(3600),
                        renew_every: Duration::from_secs(1200),
                    },
                    address: ([127, 0, 0, 1], 1).into(),
                };
                express.seat(mutex(env, id), place, &id_of(id).into(), None, env);
            }
        }
        let lane = express.lane(mutex(1, 0)).unwrap();
        Self {
            express,
            commands,
            redis: Redis::default(),
            gates: HashMap::new(),
            connections: Vec::new(),
            open: HashMap::new(),
            calls: HashMap::new(),
            next: 1,
            lane,
        }
    }

    fn go(&mut self, env: u32, way: Way) {
        match way {
            Way::Runtime => {}
            Way::NoLine => self.connect(env),
            Way::Lane(Departure::Now(bytes)) => self.write(env, &bytes),
            // The end of the turn; nothing comes between here that matters to the lane.
            Way::Lane(Departure::Together) => {
                let bytes = self.express.departing(self.connections[self.open[&env]].line);
                self.write(env, &bytes);
            }
        }
    }

    fn connect(&mut self, env: u32) {
        if let Some((line, greeting)) = self.express.connected(env, self.lane) {
            self.connections.push(Connection {
                line,
                client: i64::from(line) + 1000,
                requests: VecDeque::new(),
                replies: Vec::new(),
                is_cut: false,
            });
            self.open.insert(env, self.connections.len() - 1);
            self.write(env, &greeting);
        }
    }

    fn write(&mut self, env: u32, bytes: &[u8]) {
        let connection = &mut self.connections[self.open[&env]];
        if connection.is_cut {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = end_of(rest);
            connection.requests.push_back(words(&rest[..length]));
            rest = &rest[length..];
        }
    }

    fn disconnect(&mut self, env: u32) {
        if let Some(at) = self.open.remove(&env) {
            self.express.disconnected(self.connections[at].line);
        }
    }

    fn request(&mut self, env: u32, id: u8, attempt: Attempt) {
        let call = Call { env, cookie: self.next };
        self.next += 1;
        self.calls.insert(call, (id, Heard::Nothing));
        let way = self
            .express
            .request(mutex(env, id), call, Mode::Exclusive, attempt, false);
        self.go(env, way);
    }

    fn release(&mut self, call: Call) {
        self.hear(call, Heard::Releasing);
        let way = self.express.release(call);
        self.go(call.env, way);
    }

    fn cancel(&mut self, call: Call) {
        self.hear(call, Heard::Cancelled);
        self.express.cancel(
            call,
            Call {
                env: call.env,
                cookie: 0,
            },
        );
    }

    /// What a call has heard or done goes forward only.
    fn hear(&mut self, call: Call, what: Heard) {
        let (id, before) = self.calls[&call];
        match (before, what) {
            (Heard::Nothing, Heard::Granted) => {
                let others = self
                    .calls
                    .values()
                    .filter(|(other, heard)| *other == id && *heard == Heard::Granted);
                assert_eq!(others.count(), 0, "two believe in lock {id}");
                let holder = self.redis.locks[&id_of(id)].holder.as_deref();
                assert!(!holder.unwrap().starts_with(STRANGER), "a stranger has lock {id}");
            }
            (Heard::Nothing, Heard::Over | Heard::Cancelled)
            | (Heard::Granted, Heard::Releasing)
            | (Heard::Releasing, Heard::Over) => {}
            _ => panic!("{call:?} after {before:?}: {what:?}"),
        }
        self.calls.insert(call, (id, what));
    }

    /// What the runtime says may cross a cancel, and is not heard then.
    fn notice(&mut self, call: Call, what: Heard) {
        if self.calls[&call].1 != Heard::Cancelled {
            self.hear(call, what);
        }
    }

    /// The server does what is next on a connection.
    fn serve(&mut self, at: usize) {
        let connection = &mut self.connections[at];
        let Some(words) = connection.requests.pop_front() else {
            return;
        };
        let reply = match words[0].as_str() {
            "HELLO" => format!("%1\r\n$2\r\nid\r\n:{}\r\n", connection.client),
            "SUBSCRIBE" => format!(">3\r\n$9\r\nsubscribe\r\n{}:1\r\n", bulk(&words[1])),
            "EVAL" | "EVALSHA" => {
                let id = words[3].strip_suffix("/lock.IPC-Mutex-rpm").unwrap().to_owned();
                let keys: usize = words[2].parse().unwrap();
                let arguments = &words[3 + keys..];
                let owner = |value: &str| value.split(' ').nth(1).unwrap().to_owned();
                match (keys, arguments) {
                    // The lane's own release: not while somebody waits.
                    (3, [_]) if self.redis.is_awaited(&id) => ":0\r\n".to_owned(),
                    (3, [value]) => format!(":{}\r\n", i32::from(self.free(&id, &owner(value)))),
                    // Its own acquire: not for who has something already.
                    (2, [value, _ttl]) => format!(":{}\r\n", i32::from(self.redis.acquire_free(&id, &owner(value)))),
                    (_, [owner]) => format!(":{}\r\n", i32::from(self.free(&id, owner))),
                    (_, [owner, _, attempt, _, _, channel, _]) => {
                        let may_queue = attempt == "wait";
                        let answer = if self.redis.acquire(&id, owner, may_queue, Some(channel)) {
                            "*2\r\n$4\r\nheld\r\n$1\r\n-\r\n"
                        } else if may_queue {
                            "*4\r\n$6\r\nqueued\r\n:1\r\n:0\r\n:9999\r\n"
                        } else {
                            "*1\r\n$4\r\nbusy\r\n"
                        };
                        format!("*2\r\n$1\r\n7\r\n{answer}")
                    }
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other}"),
        };
        self.connections[at].replies.extend_from_slice(reply.as_bytes());
    }

    /// A release at the server, which tells the next if that one listens in the lane.
    fn free(&mut self, id: &str, owner: &str) -> bool {
        let (held, next) = self.redis.release(id, owner);
        if let Some((next, channel)) = next {
            self.publish(&channel, &format!("{next} - 7"));
        }
        held
    }

    fn publish(&mut self, channel: &str, text: &str) {
        for connection in self.connections.iter_mut().filter(|all| !all.is_cut) {
            if channel.ends_with(&format!(":{}", connection.line)) {
                let message = format!(">3\r\n{}{}{}", bulk("message"), bulk(channel), bulk(text));
                connection.replies.extend_from_slice(message.as_bytes());
            }
        }
    }

    /// Another process takes the lock or waits for it, or lets go of it.
    fn stranger(&mut self, id: u8, comes: bool) {
        let name = id_of(id);
        if comes {
            self.next += 1;
            let owner = format!("{STRANGER}-{}", self.next);
            self.redis.acquire(&name, &owner, true, None);
        } else if let Some(holder) = self.redis.locks.get(&name).and_then(|lock| lock.holder.clone())
            && holder.starts_with(STRANGER)
        {
            self.free(&name, &holder);
        }
    }

    /// Time for processes of 1.1.2: the first is told to come back later.
    fn put_off(&mut self, id: u8) {
        let lock = self.redis.locks.get(&id_of(id));
        if let Some((owner, Some(channel))) = lock.and_then(|lock| lock.queue.front()).cloned() {
            self.publish(&channel, &format!("{owner} after 60"));
        }
    }

    /// An error instead, as from a server that does not know the scripts.
    fn refuse(&mut self, at: usize) {
        if self.connections[at]
            .requests
            .front()
            .is_some_and(|words| words[0] != "HELLO")
        {
            self.connections[at].requests.pop_front();
            self.connections[at]
                .replies
                .extend_from_slice(b"-NOSCRIPT No matching script.\r\n");
        }
    }

    /// JavaScript reads `share` quarters of what has come.
    fn read(&mut self, env: u32, share: usize) {
        let Some(at) = self.open.get(&env) else { return };
        let connection = &mut self.connections[*at];
        let line = connection.line;
        let count = (connection.replies.len() * share).div_ceil(4);
        let bytes: Vec<u8> = connection.replies.drain(..count).collect();
        let mut told = Vec::new();
        let outcome = self
            .express
            .read(connection.line, &bytes, 16, &mut |call, what| told.push((call, what)));
        for (call, what) in told {
            let heard = if matches!(what, Told::Granted(..)) {
                Heard::Granted
            } else {
                Heard::Over
            };
            self.hear(call, heard);
        }
        let departing = outcome.unwrap();
        assert_eq!(departing, !self.express.state.lock().lines[&line].out.is_empty());
        if departing {
            let bytes = self.express.departing(line);
            self.write(env, &bytes);
        }
    }

    /// The runtime takes its next command.
    fn take(&mut self) -> bool {
        let Ok(command) = self.commands.try_recv() else {
            return false;
        };
        match command {
            Command::Adopt(adoption) => self.adopt(*adoption),
            Command::Request {
                call,
                attempt,
                presence,
                ..
            } => {
                let gate = self.gates.entry(self.calls[&call].0).or_default();
                assert!(presence.is_some());
                if attempt == Attempt::Try && !gate.is_empty() {
                    self.notice(call, Heard::Over);
                } else {
                    let phase = if gate.is_empty() { Phase::Asking } else { Phase::Queued };
                    gate.push_back(Request {
                        call,
                        owner: format!("r-{}-{}", call.env, call.cookie),
                        attempt,
                        phase,
                        late: None,
                        unanswered: false,
                        _presence: presence,
                    });
                }
            }
            Command::Release { request } => {
                let found = self.find(request).expect("whoever holds is known");
                assert_eq!(found.phase, Phase::Held);
                found.phase = Phase::Leaving { tells: true };
            }
            Command::Cancel { request, .. } => {
                // Queued ones leave when it is their turn; nobody can tell the difference here.
                if let Some(found) = self.find(request) {
                    found.phase = Phase::Leaving { tells: false };
                }
            }
            other => panic!("{other:?}"),
        }
        true
    }

    fn adopt(&mut self, adoption: Adoption) {
        let gate = self.gates.entry(self.calls[&adoption.call].0).or_default();
        assert!(gate.is_empty(), "the runtime had something of this lock already");
        gate.push_back(Request {
            call: adoption.call,
            owner: adoption.ask.owner.0.to_string(),
            attempt: adoption.ask.attempt,
            phase: match adoption.stage {
                Stage::Asking | Stage::Waiting => Phase::Asking,
                Stage::Held => Phase::Held,
                Stage::Releasing => Phase::Leaving { tells: true },
            },
            late: adoption.late,
            unanswered: adoption.unanswered,
            _presence: Some(adoption.presence),
        });
    }

    fn find(&mut self, call: Call) -> Option<&mut Request> {
        self.gates.values_mut().flatten().find(|request| request.call == call)
    }

    /// The runtime does the next step for the first of a lock. `hasty` does not wait for the lane's answer.
    fn step(&mut self, id: u8, hasty: bool) {
        let name = id_of(id);
        let Some(request) = self.gates.get_mut(&id).and_then(VecDeque::front_mut) else {
            return;
        };
        let (call, owner) = (request.call, request.owner.clone());
        match request.phase {
            Phase::Queued => request.phase = Phase::Asking,
            Phase::Held => {}
            Phase::Asking | Phase::Waiting => {
                let wait = request.attempt == Attempt::Wait;
                if self.redis.acquire(&name, &owner, wait, None) {
                    request.phase = Phase::Held;
                    self.notice(call, Heard::Granted);
                } else if wait {
                    request.phase = Phase::Waiting;
                } else {
                    request.phase = Phase::Leaving { tells: false };
                    self.notice(call, Heard::Over);
                }
            }
            Phase::Leaving { tells } => {
                if let Some(late) = &request.late {
                    if *late.answered.borrow() {
                        request.late = None;
                    } else if late.answered.has_changed().is_err() || hasty {
                        let client = late.line.client;
                        request.late = None;
                        for connection in &mut self.connections {
                            if Some(connection.client) == client {
                                connection.requests.clear();
                                connection.is_cut = true;
                            }
                        }
                    }
                    return;
                }
                let unanswered = request.unanswered;
                let held = self.free(&name, &owner);
                assert!(!tells || held || unanswered, "a hold got lost");
                self.redis.finished.insert(owner);
                self.gates.get_mut(&id).unwrap().pop_front();
                if tells {
                    self.notice(call, Heard::Over);
                }
            }
        }
    }

    fn calls_that(&self, heard: Heard) -> Vec<Call> {
        let mut calls: Vec<Call> = self
            .calls
            .iter()
            .filter(|(_, (_, is))| *is == heard)
            .map(|(call, _)| *call)
            .collect();
        calls.sort_by_key(|call| call.cookie);
        calls
    }

    fn act(&mut self, what: u8, which: u8) {
        let env = 1 + u32::from(which) % ENVS;
        let id = which / 2 % IDS;
        let connection = usize::from(which) % self.connections.len().max(1);
        let pick = |calls: Vec<Call>| calls.get(usize::from(which) % calls.len().max(1)).copied();
        match what {
            0 | 1 => self.request(env, id, Attempt::Wait),
            2 => self.request(env, id, Attempt::Try),
            3 | 4 => {
                if let Some(call) = pick(self.calls_that(Heard::Granted)) {
                    self.release(call);
                }
            }
            5 => {
                if let Some(call) = pick(self.calls_that(Heard::Nothing)) {
                    self.cancel(call);
                }
            }
            6..=9 if !self.connections.is_empty() => self.serve(connection),
            10 if !self.connections.is_empty() => self.refuse(connection),
            11..=13 => self.read(env, 1 + usize::from(which / 16) % 4),
            14 | 15 => {
                self.take();
            }
            16 | 17 => self.step(id, false),
            18 => self.step(id, true),
            19 if which < 40 => self.disconnect(env),
            20 => {
                // The keeper finds something old.
                let mut state = self.express.state.lock();
                let calls = state.table.calls_where(|_, _| true);
                if let Some(call) = pick(calls) {
                    state.adopt(call, true, &self.express.commands);
                }
            }
            22 | 23 => self.stranger(id, true),
            24 | 25 => self.stranger(id, false),
            26 => self.put_off(id),
            21 => self.express.query(mutex(env, id), Call { env, cookie: 0 }),
            _ => {}
        }
        self.drop_queries();
    }

    /// Queries have no part in this world but for what they make the lane hand over.
    fn drop_queries(&mut self) {
        let mut rest = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            if !matches!(command, Command::Query { .. }) {
                rest.push(command);
            }
        }
        for command in rest {
            self.express.commands.send(command).unwrap();
        }
    }

    /// Everything comes to its end: whoever holds releases, until nobody is left.
    fn finish(&mut self) {
        for round in 0..10_000 {
            for call in self.calls_that(Heard::Granted) {
                self.release(call);
            }
            for at in 0..self.connections.len() {
                self.serve(at);
            }
            for env in 1..=ENVS {
                self.read(env, 4);
                if self.open.get(&env).is_some_and(|at| self.connections[*at].is_cut) {
                    self.disconnect(env);
                }
            }
            while self.take() {}
            for id in 0..IDS {
                self.step(id, false);
                self.stranger(id, false);
            }
            let is_over = |(_, heard): &(u8, Heard)| matches!(heard, Heard::Over | Heard::Cancelled);
            let is_idle = self.gates.values().all(VecDeque::is_empty)
                && self.connections.iter().all(|all| all.requests.is_empty())
                && !self.redis.locks.values().any(Lock::has_stranger);
            if self.calls.values().all(is_over) && is_idle {
                break;
            }
            assert!(round < 9_999, "somebody waits for ever: {:?}", self.calls);
        }
        for (id, lock) in &self.redis.locks {
            assert!(lock.holder.is_none() && lock.queue.is_empty(), "{id} is still taken");
        }
        let mut state = self.express.state.lock();
        assert!(state.waiting.is_empty());
        state.table.sweep(crate::clock::now() + Duration::from_secs(60));
        assert!(state.table.is_empty());
    }
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    let mut world = connected();
    let line = world.connections[0].line;
    let outcome = world
        .express
        .read(line, b":1\r\n", 16, &mut |_, _| panic!("nobody is told"));
    assert_eq!(outcome, Err(super::Over));
    world.disconnect(1);
    world.request(1, 0, Attempt::Wait);
    assert!(matches!(world.commands.try_recv(), Ok(Command::Request { .. })));
}

#[test]
fn shared_requests_have_no_need_of_a_connection() {
    let world = World::new();
    let call = Call { env: 1, cookie: 1 };
    let way = |mode, cookie| {
        world
            .express
            .request(mutex(1, 0), Call { cookie, ..call }, mode, Attempt::Wait, false)
    };
    assert_eq!(way(Mode::Shared, 1), Way::Runtime);
    assert_eq!(way(Mode::Exclusive, 2), Way::NoLine);
}

/// The words of a command.
fn words(command: &[u8]) -> Vec<String> {
    match redis::parse_redis_value(command).unwrap() {
        redis::Value::Array(values) => values
            .iter()
            .map(|word| redis::from_redis_value_ref(word).unwrap())
            .collect(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nobody_shares_a_lock_all_are_answered_once_and_nothing_is_left(
        actions in proptest::collection::vec((0_u8..27, any::<u8>()), 0..200)
    ) {
        let mut world = connected();
        for (what, which) in actions {
            world.act(what, which);
        }
        world.finish();
    }
}

/// A world in which the threads have connections that were greeted.
fn connected() -> World {
    let mut world = World::new();
    for env in 1..=ENVS {
        world.connect(env);
        world.serve(world.open[&env]);
        world.serve(world.open[&env]);
        world.read(env, 4);
    }
    world
}

/// A world in which the connections may not subscribe.
fn deaf() -> World {
    let mut world = World::new();
    for env in 1..=ENVS {
        world.connect(env);
        world.serve(world.open[&env]);
        world.refuse(world.open[&env]);
        world.read(env, 4);
    }
    world
}

/// The lane's thread asks for lock 0, which somebody else has, and waits.
fn waiting() -> World {
    let mut world = connected();
    world.stranger(0, true);
    world.request(1, 0, Attempt::Wait);
    world.exchange();
    world.exchange();
    assert_eq!(world.express.state.lock().waiting.len(), 1);
    world
}

impl World {
    /// The server answers what came on the first connection, and JavaScript reads that.
    fn exchange(&mut self) {
        self.serve(0);
        self.read(1, 4);
    }
}

#[test]
fn who_waits_for_another_process_and_who_hands_over_to_one_never_reach_the_runtime() {
    let mut world = waiting();
    for _ in 0..3 {
        world.stranger(0, false);
        world.read(1, 4);
        let [call] = world.calls_that(Heard::Granted)[..] else {
            panic!()
        };
        world.stranger(0, true);
        world.release(call);
        world.exchange();
        assert_eq!(world.calls[&call].1, Heard::Over);
        assert!(world.redis.locks[&id_of(0)].holder.is_some());
        // The lock is known to be crowded: one question is enough.
        world.request(1, 0, Attempt::Wait);
        world.exchange();
        assert_eq!(world.express.state.lock().waiting.len(), 1);
    }
    assert!(world.commands.try_recv().is_err());
}

#[test]
fn the_first_waiter_behind_a_hold_is_noticed_at_the_release_and_served_at_once() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.exchange();
    let [call] = world.calls_that(Heard::Granted)[..] else {
        panic!()
    };
    world.stranger(0, true);
    world.release(call);
    world.exchange();
    assert_eq!(world.calls[&call].1, Heard::Releasing);
    world.exchange();
    assert_eq!(world.calls[&call].1, Heard::Over);
    assert!(
        world.redis.locks[&id_of(0)]
            .holder
            .as_deref()
            .unwrap()
            .starts_with(STRANGER)
    );
    assert!(world.commands.try_recv().is_err());
}

#[test]
fn a_waiter_that_is_put_off_cancelled_or_old_goes_to_the_runtime() {
    type Deed = fn(&mut World);
    let deeds: [Deed; 4] = [
        |world| {
            world.put_off(0);
            world.read(1, 4);
        },
        |world| {
            let [call] = world.calls_that(Heard::Nothing)[..] else {
                panic!()
            };
            world.cancel(call);
        },
        |world| {
            let mut state = world.express.state.lock();
            state.adopt_where(|_, _| true, &world.express.commands);
        },
        |world| world.disconnect(1),
    ];
    for deed in deeds {
        let mut world = waiting();
        deed(&mut world);
        let Ok(Command::Adopt(adoption)) = world.commands.try_recv() else {
            panic!()
        };
        assert_eq!(adoption.stage, Stage::Waiting);
        assert!(adoption.late.is_none(), "its question was answered");
        // A grant that comes all the same is the runtime's to find.
        world.stranger(0, false);
        world.read(1, 4);
        assert!(world.calls_that(Heard::Granted).is_empty());
        assert!(world.express.state.lock().waiting.is_empty());
    }
}

#[test]
fn an_uncontended_pair_never_reaches_the_runtime() {
    let mut world = connected();
    for _ in 0..3 {
        world.request(1, 0, Attempt::Wait);
        world.serve(0);
        world.read(1, 4);
        let [call] = world.calls_that(Heard::Granted)[..] else {
            panic!()
        };
        world.release(call);
        world.serve(0);
        world.read(1, 4);
        assert_eq!(world.calls[&call].1, Heard::Over);
    }
    assert!(world.commands.try_recv().is_err());
}

#[test]
fn a_second_request_takes_the_first_with_it_to_the_runtime_in_order() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.request(2, 0, Attempt::Wait);
    assert!(
        matches!(world.commands.try_recv(), Ok(Command::Adopt(adoption)) if adoption.call.env == 1 && adoption.late.is_some())
    );
    assert!(matches!(world.commands.try_recv(), Ok(Command::Request { call, .. }) if call.env == 2));
}

#[test]
fn a_lock_that_is_taken_is_left_to_the_runtime_for_a_while_where_nobody_can_wait_in_the_lane() {
    let mut world = deaf();
    assert!(world.redis.acquire(&id_of(0), "somebody", false, None));
    world.request(1, 0, Attempt::Try);
    world.serve(0);
    world.read(1, 4);
    assert_eq!(world.calls_that(Heard::Over).len(), 1);
    assert!(world.commands.try_recv().is_err());
    world.request(1, 0, Attempt::Wait);
    world.serve(0);
    world.read(1, 4);
    let Ok(Command::Adopt(adoption)) = world.commands.try_recv() else {
        panic!()
    };
    assert!(adoption.late.is_none(), "it was answered");
    drop(adoption);
    world.request(1, 0, Attempt::Wait);
    assert!(matches!(world.commands.try_recv(), Ok(Command::Request { .. })));
}

#[test]
fn the_end_of_a_connection_tells_the_runtime_that_no_answer_comes() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.disconnect(1);
    let Ok(Command::Adopt(adoption)) = world.commands.try_recv() else {
        panic!()
    };
    let late = adoption.late.unwrap();
    assert_eq!(late.line.client, Some(world.connections[0].client));
    assert!(late.answered.has_changed().is_err());
}

#[test]
fn a_thread_that_ends_leaves_nothing_in_the_lane() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.serve(0);
    world.read(1, 4);
    world.request(1, 1, Attempt::Wait);
    world.express.environment_ended(1);
    let mut stages = Vec::new();
    while let Ok(Command::Adopt(adoption)) = world.commands.try_recv() {
        stages.push(adoption.stage);
    }
    assert_eq!(stages.len(), 2);
    assert!(stages.contains(&Stage::Held) && stages.contains(&Stage::Asking));
    assert_eq!(
        world.express.read(world.connections[0].line, b"", 1, &mut |_, _| {}),
        Err(super::Over)
    );
}

#[test]
fn closing_a_mutex_hands_over_what_it_has_and_the_last_one_ends_the_lane() {
    let mut world = connected();
    world.request(1, 0, Attempt::Wait);
    world.express.close(mutex(1, 0), Call { env: 1, cookie: 0 });
    assert!(matches!(world.commands.try_recv(), Ok(Command::Adopt(_))));
    for env in 1..=ENVS {
        for id in 0..IDS {
            assert!(world.express.address(world.lane).is_some());
            world.express.unseat(mutex(env, id));
        }
    }
    assert!(world.express.address(world.lane).is_none());
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// Behind the first command in `bytes`, which is whole.
fn end_of(bytes: &[u8]) -> usize {
    let line = |from: usize| from + bytes[from..].windows(2).position(|pair| pair == b"\r\n").unwrap();
    let number = |from: usize| -> usize { std::str::from_utf8(&bytes[from..line(from)]).unwrap().parse().unwrap() };
    let mut at = line(0) + 2;
    for _ in 0..number(1) {
        at = line(at) + 2 + number(at + 1) + 2;
    }
    at
}
