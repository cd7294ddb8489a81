//! JavaScript's calls: each goes by the lane if it can, else to the runtime, in the order in which they are made.

use super::line::{Asked, Line};
use super::state::Load;
use super::table::{Entry, Stage};
use super::{Express, Way};
use crate::backend::express::Name;
use crate::backend::{self, Ask, Attempt, Owner};
use crate::clock;
use crate::core::lease::Lease;
use crate::core::mode::Mode;
use crate::runtime::commands::{Call, Command, EnvId, MutexId};
use std::cell::Cell;
use std::collections::VecDeque;
use std::net::SocketAddr;

impl Express {
    fn send(&self, command: Command) {
        // The runtime's thread never ends.
        let _ = self.commands.send(command);
    }

    /// Asks for a lock, on the connection `line` if the thread has one; what [`Command::Request`] says holds for both ways.
    pub fn request(
        &self,
        mutex: MutexId,
        call: Call,
        mode: Mode,
        attempt: Attempt,
        fenced: bool,
        line: Option<u32>,
    ) -> Way {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut way = Way::Runtime;
        let mut presence = None;
        if let Some(seat) = state.seats.get(&mutex) {
            let key = seat.key.clone();
            let now = clock::now();
            let lane = state.lanes.get(&key.lane).map(|lane| (lane.patience(), lane.terms));
            let number = line.unwrap_or_default();
            let line = line.and_then(|line| state.lines.get_mut(&line));
            match (line.filter(|line| (line.env, line.lane) == (call.env, key.lane)), lane) {
                // It has to end what the runtime has of the lock.
                _ if attempt == Attempt::Steal => {}
                (None, _) if mode == Mode::Exclusive => way = Way::NoLine,
                (Some(line), Some((patience, terms))) if mode == Mode::Exclusive && line.is_open(now, patience) => {
                    let owner = &mut state.last_owner;
                    let can_wait = attempt == Attempt::Try || line.wire.listens();
                    let entered = state.table.enter(&key, call, now, can_wait, || {
                        *owner += 1;
                        Load {
                            mutex,
                            line: number,
                            ask: Ask {
                                id: key.id.clone(),
                                // Not a number of the runtime's own requests, which are hexadecimal.
                                owner: Owner(format!("{}-x{owner:x}", self.identity.instance).into()),
                                mode,
                                attempt,
                                fenced,
                                label: seat.label.clone(),
                                thread: seat.thread,
                                since: clock::wall_ms(),
                                stage: Cell::new(backend::Stage::Waiting),
                                waited: Cell::new(false),
                                lease: Lease::new(terms),
                            },
                            sent: now,
                        }
                    });
                    if let Some(entry) = entered {
                        let may_queue = entry.is_crowded && attempt == Attempt::Wait;
                        line.wire.ask(&entry.load.ask, may_queue, &mut line.out);
                        return Way::Lane(line.asks(Asked::Ask(call), now));
                    }
                }
                _ => {}
            }
            presence = Some(state.make_way(&key, &self.commands));
        }
        self.send(Command::Request {
            mutex,
            call,
            mode,
            attempt,
            fenced,
            presence,
        });
        way
    }

    /// Frees what `request` holds; in the lane only if the thread still has the connection by which it was asked for.
    pub fn release(&self, request: Call, line: Option<u32>) -> Way {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let now = clock::now();
        if let Some(entry) = state.table.get(request)
            && entry.stage == Stage::Held
            && entry.load.ask.lease.is_believed(now)
            && line == Some(entry.load.line)
            && let Some(lane) = state.lanes.get(&entry.key.lane)
            && let Some(line) = state.lines.get_mut(&entry.load.line)
            && line.is_open(now, lane.patience())
            && let Some(entry) = state.table.advance(request, Stage::Held, Stage::Releasing)
        {
            entry.load.sent = now;
            let asked = if entry.is_crowded {
                line.wire.hand_over(&entry.load.ask, &mut line.out);
                Asked::HandOver(request)
            } else {
                line.wire.release(&entry.load.ask, &mut line.out);
                Asked::Release(request)
            };
            return Way::Lane(line.asks(asked, now));
        }
        state.adopt(request, true, &self.commands);
        self.send(Command::Release { request });
        Way::Runtime
    }

    pub fn cancel(&self, request: Call, call: Call) {
        let mut state = self.state.lock();
        state.adopt(request, true, &self.commands);
        self.send(Command::Cancel { request, call });
    }

    /// What is on its way in the lane goes to the runtime first, so that the answer comes after what was asked before.
    pub fn query(&self, mutex: MutexId, call: Call) {
        let mut state = self.state.lock();
        let inside = state.seats.get(&mutex).and_then(|seat| state.table.inside(&seat.key));
        if let Some(other) = inside
            && state
                .table
                .get(other)
                .is_some_and(|entry| matches!(entry.stage, Stage::Asking | Stage::Releasing))
        {
            state.adopt(other, true, &self.commands);
        }
        self.send(Command::Query { mutex, call });
    }

    /// As `query`, for all locks of the mutex's server.
    pub fn list(&self, mutex: MutexId, call: Call) {
        let mut state = self.state.lock();
        if let Some(lane) = state.seats.get(&mutex).map(|seat| seat.key.lane) {
            let is_under_way = |_: Call, entry: &Entry<Load>| {
                entry.key.lane == lane && matches!(entry.stage, Stage::Asking | Stage::Releasing)
            };
            state.adopt_where(is_under_way, &self.commands);
        }
        self.send(Command::List { mutex, call });
    }

    pub fn close(&self, mutex: MutexId, call: Call) {
        let mut state = self.state.lock();
        state.adopt_where(|_, entry| entry.load.mutex == mutex, &self.commands);
        self.send(Command::Close { mutex, call });
    }

    pub fn environment_ended(&self, env: EnvId) {
        let mut state = self.state.lock();
        let lines: Vec<u32> = state
            .lines
            .iter()
            .filter(|(_, line)| line.env == env)
            .map(|(number, _)| *number)
            .collect();
        for line in lines {
            state.end_line(line, &self.commands);
        }
        state.adopt_where(|call, _| call.env == env, &self.commands);
        self.send(Command::EnvGone { env });
    }

    /// The process ends: nothing goes by the lane any more.
    pub fn shut_down(&self) {
        let mut state = self.state.lock();
        let lines: Vec<u32> = state.lines.keys().copied().collect();
        for line in lines {
            state.end_line(line, &self.commands);
        }
        state.adopt_where(|_, _| true, &self.commands);
    }

    /// The lane of an open mutex, if its server has one.
    pub fn lane(&self, mutex: MutexId) -> Option<u32> {
        Some(self.state.lock().seats.get(&mutex)?.key.lane)
    }

    /// Where a connection for this lane leads to.
    pub fn address(&self, lane: u32) -> Option<SocketAddr> {
        self.state.lock().lanes.get(&lane)?.address
    }

    /// A connection of this thread is there: its number, and the first bytes to write.
    pub fn connected(&self, env: EnvId, lane: u32) -> Option<(u32, Vec<u8>)> {
        let mut state = self.state.lock();
        let mut wire = backend::express(&state.lanes.get(&lane)?.server, &self.identity)?;
        let number = state.number();
        let name = Name {
            text: format!("ipc-mutex:{}:{number}", self.identity.instance),
            client: None,
        };
        let mut first = Vec::new();
        let greetings = wire.greet(&name.text, &mut first);
        let mut line = Line {
            env,
            lane,
            name,
            wire,
            greetings,
            questions: VecDeque::new(),
            out: Vec::new(),
            gathered: 0,
            is_crowded: false,
        };
        let now = clock::now();
        for _ in 0..greetings {
            line.asks(Asked::Greeting, now);
        }
        state.lines.insert(number, line);
        Some((number, first))
    }

    /// What has gathered for the next write.
    pub fn departing(&self, line: u32) -> Vec<u8> {
        let mut state = self.state.lock();
        state.lines.get_mut(&line).map_or_else(Vec::new, Line::departs)
    }

    /// The connection is closed.
    pub fn disconnected(&self, line: u32) {
        self.state.lock().end_line(line, &self.commands);
    }
}
