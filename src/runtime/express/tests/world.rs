//! The lane between JavaScript's threads, the server and the runtime, each of which does its next step when it is told to.

use super::gate;
use super::server::{Redis, STRANGER};
use super::thread::{Open, Side};
use crate::backend::{Attempt, Identity};
use crate::core::mode::Mode;
use crate::runtime::commands::{Call, Command};
use crate::runtime::express::{Express, Told};
use crate::url::{self, Server, Target};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;

pub const IDS: u8 = 2;
pub const ENVS: u32 = 2;

/// A connection of the lane; what was written may reach the server after JavaScript has closed it.
pub struct Connection {
    pub line: u32,
    pub client: i64,
    pub requests: VecDeque<Vec<String>>,
    pub replies: Vec<u8>,
    /// The server has ended it, which JavaScript hears some time later.
    pub is_cut: bool,
}

#[derive(Debug, PartialEq, Clone, Copy)]
pub enum Heard {
    Nothing,
    Granted,
    Releasing,
    Over,
    Cancelled,
}

pub struct World {
    pub express: Express,
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub redis: Redis,
    /// The runtime's gate: the first of each lock asks.
    pub gates: HashMap<u8, VecDeque<gate::Request>>,
    pub connections: Vec<Connection>,
    /// Each thread's side of each lane.
    pub sides: HashMap<(u32, u32), Side>,
    pub mutexes: HashMap<(u32, u8), Open>,
    /// What the runtime is still to close, and what it has closed without the thread's having heard of it.
    pub closing: VecDeque<(u32, u8, Open)>,
    pub closed: VecDeque<(u32, u32)>,
    pub calls: HashMap<Call, (u8, Heard)>,
    pub next: u32,
}

pub fn server() -> Server {
    match url::parse("rpm+redis://127.0.0.1:1/x").unwrap().target {
        Target::Remote(remote) => remote.server,
        _ => unreachable!(),
    }
}

pub fn id_of(id: u8) -> String {
    format!("lock-{id}")
}

impl World {
    pub fn new() -> Self {
        let (sender, commands) = mpsc::unbounded_channel();
        let express = Express::new(sender, Arc::new(Identity::of_this_process("test".into())));
        let mut world = Self {
            express,
            commands,
            redis: Redis::default(),
            gates: HashMap::new(),
            connections: Vec::new(),
            sides: HashMap::new(),
            mutexes: HashMap::new(),
            closing: VecDeque::new(),
            closed: VecDeque::new(),
            calls: HashMap::new(),
            next: 1,
        };
        for env in 1..=ENVS {
            for id in 0..IDS {
                world.open(env, id);
            }
        }
        world
    }

    pub fn request(&mut self, env: u32, id: u8, attempt: Attempt) {
        let Some(Open { mutex, .. }) = self.mutexes.get(&(env, id)).copied() else {
            return;
        };
        let call = Call { env, cookie: self.next };
        self.next += 1;
        self.calls.insert(call, (id, Heard::Nothing));
        let line = self.line(env, id);
        let way = self.express.request(mutex, call, Mode::Exclusive, attempt, false, line);
        self.go(env, id, way);
    }

    pub fn release(&mut self, call: Call) {
        self.hear(call, Heard::Releasing);
        let id = self.calls[&call].0;
        let way = self.express.release(call, self.line(call.env, id));
        self.go(call.env, id, way);
    }

    pub fn cancel(&mut self, call: Call) {
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
    pub fn notice(&mut self, call: Call, what: Heard) {
        if self.calls[&call].1 != Heard::Cancelled {
            self.hear(call, what);
        }
    }

    /// JavaScript reads `share` quarters of what has come.
    pub fn read(&mut self, env: u32, share: usize) {
        for at in self.connections_of(env) {
            self.read_on(at, share);
        }
    }

    fn read_on(&mut self, at: usize, share: usize) {
        let connection = &mut self.connections[at];
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
            self.write(at, &bytes);
        }
    }

    /// The server answers what came on the first connection, and JavaScript reads that.
    pub fn exchange(&mut self) {
        self.serve(0);
        self.read(1, 4);
    }

    pub fn calls_that(&self, heard: Heard) -> Vec<Call> {
        let mut calls: Vec<Call> = self
            .calls
            .iter()
            .filter(|(_, (_, is))| *is == heard)
            .map(|(call, _)| *call)
            .collect();
        calls.sort_by_key(|call| call.cookie);
        calls
    }
}

/// A world in which the threads have connections that were greeted.
pub fn connected() -> World {
    let mut world = World::new();
    for env in 1..=ENVS {
        let lane = world.mutexes[&(env, 0)].lane;
        world.connect(env, lane);
        let [at] = world.connections_of(env)[..] else { panic!() };
        world.serve(at);
        world.serve(at);
        world.read(env, 4);
    }
    world
}

/// A world in which the connections may not subscribe.
pub fn deaf() -> World {
    let mut world = World::new();
    for env in 1..=ENVS {
        let lane = world.mutexes[&(env, 0)].lane;
        world.connect(env, lane);
        let [at] = world.connections_of(env)[..] else { panic!() };
        world.serve(at);
        world.refuse(at);
        world.read(env, 4);
    }
    world
}

/// The lane's thread asks for lock 0, which somebody else has, and waits.
pub fn waiting() -> World {
    let mut world = connected();
    world.stranger(0, true);
    world.request(1, 0, Attempt::Wait);
    world.exchange();
    world.exchange();
    assert_eq!(world.express.state.lock().waiting.len(), 1);
    world
}
