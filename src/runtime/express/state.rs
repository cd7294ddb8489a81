//! What the lane knows, behind its lock.

use super::line::Line;
use super::table::{Entry, Key, Presence, Stage, Table};
use super::{Adoption, Express, Late};
use crate::backend::{Ask, Owner};
use crate::clock;
use crate::core::lease::Terms;
use crate::core::time::Moment;
use crate::runtime::commands::{Call, Command, MutexId};
use crate::runtime::keeper;
use crate::url::Server;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// The lane's side of an open mutex.
pub struct Seat {
    pub key: Key,
    pub label: Option<Arc<str>>,
    pub thread: u32,
}

/// A server that has a lane.
pub struct Lane {
    pub server: Server,
    pub terms: Terms,
    /// Where the runtime reached it.
    pub address: Option<SocketAddr>,
    seats: usize,
}

impl Lane {
    /// How old anything in the lane gets before the keeper adopts it; the keeper looks twice as often.
    pub fn patience(&self) -> Duration {
        keeper::look_every(&self.terms) / 2
    }
}

/// What the lane knows of a request besides where it is.
pub struct Load {
    pub mutex: MutexId,
    /// The connection it was asked on.
    pub line: u32,
    pub ask: Ask,
    /// When the last question for it was made.
    pub sent: Moment,
}

/// Where a mutex is open.
pub struct Place<'a> {
    pub server: &'a Server,
    pub terms: Terms,
    /// Where the runtime reached the server.
    pub address: SocketAddr,
}

#[derive(Default)]
pub struct State {
    pub table: Table<Load>,
    /// Who waits at the server, by the name that it calls them.
    pub waiting: HashMap<Owner, Call>,
    numbers: HashMap<Server, u32>,
    pub lanes: HashMap<u32, Lane>,
    pub seats: HashMap<MutexId, Seat>,
    pub lines: HashMap<u32, Line>,
    last_number: u32,
    pub last_owner: u64,
}

impl State {
    /// A number that nothing in the lane has.
    pub fn number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    /// The runtime takes over what the request has, whatever that is. `unanswered` says whether what was asked last may still be
    /// done, or was done without a word of that.
    pub fn adopt(&mut self, call: Call, unanswered: bool, commands: &UnboundedSender<Command>) {
        let Some((Entry { stage, load, .. }, presence)) = self.table.adopt(call) else {
            return;
        };
        self.waiting.remove(&load.ask.owner);
        let line = self.lines.get_mut(&load.line);
        let late = line.filter(|_| stage == Stage::Asking && unanswered).and_then(|line| {
            let answered = line.watch(call)?;
            let line = line.name.clone();
            Some(Late { answered, line })
        });
        let adoption = Adoption {
            mutex: load.mutex,
            call,
            ask: load.ask,
            stage,
            sent: load.sent,
            late,
            unanswered: unanswered && stage == Stage::Releasing,
            presence,
        };
        // The runtime's thread never ends.
        let _ = commands.send(Command::Adopt(Box::new(adoption)));
    }

    pub fn adopt_where(&mut self, wanted: impl Fn(Call, &Entry<Load>) -> bool, commands: &UnboundedSender<Command>) {
        for call in self.table.calls_where(wanted) {
            self.adopt(call, true, commands);
        }
    }

    /// For a request that goes to the runtime: what the lane has of the same lock goes there before.
    pub fn make_way(&mut self, key: &Key, commands: &UnboundedSender<Command>) -> Presence {
        if let Some(other) = self.table.inside(key) {
            self.adopt(other, true, commands);
        }
        self.table.presence(key)
    }

    /// The connection is over. What was asked on it may still arrive at the server, and what it has brought may be gone with the
    /// server's data: all of it is adopted.
    pub fn end_line(&mut self, number: u32, commands: &UnboundedSender<Command>) {
        self.adopt_where(|_, entry| entry.load.line == number, commands);
        // What was adopted still asking hears by this that no answer comes any more.
        self.lines.remove(&number);
    }
}

/// What the runtime says to the lane.
impl Express {
    /// A mutex is open, so its requests may come into the lane.
    pub fn seat(&self, mutex: MutexId, place: Place<'_>, id: &Arc<str>, label: Option<&Arc<str>>, thread: u32) {
        let Place { server, terms, address } = place;
        // A limit of holds is the keeper's to watch from the beginning.
        if server.options.max_hold.is_some() {
            return;
        }
        let mut state = self.state.lock();
        let lane = match state.numbers.get(server) {
            Some(lane) => *lane,
            None => {
                let lane = state.number();
                state.numbers.insert(server.clone(), lane);
                lane
            }
        };
        let known = state.lanes.entry(lane).or_insert_with(|| Lane {
            server: server.clone(),
            terms,
            address: None,
            seats: 0,
        });
        known.seats += 1;
        known.address = Some(address);
        let seat = Seat {
            key: Key { lane, id: id.clone() },
            label: label.cloned(),
            thread,
        };
        state.seats.insert(mutex, seat);
    }

    /// The mutex is closed; the last one of a server ends its lane.
    pub fn unseat(&self, mutex: MutexId) {
        let mut state = self.state.lock();
        let Some(seat) = state.seats.remove(&mutex) else { return };
        state.adopt_where(|_, entry| entry.load.mutex == mutex, &self.commands);
        let number = seat.key.lane;
        if let Some(lane) = state.lanes.get_mut(&number) {
            lane.seats -= 1;
            if lane.seats == 0
                && let Some(lane) = state.lanes.remove(&number)
            {
                state.numbers.remove(&lane.server);
            }
        }
    }

    /// What this owner holds in the lane was stolen: the runtime takes it over and ends it.
    pub fn stolen(&self, owner: &Owner) {
        let mut state = self.state.lock();
        for request in state.table.calls_where(|_, entry| entry.load.ask.owner == *owner) {
            state.adopt(request, true, &self.commands);
            // The runtime's thread never ends.
            let _ = self.commands.send(Command::Stolen { request });
        }
    }

    /// The keeper looks after the lane: it adopts what has become old, and forgets what nobody uses.
    pub fn look(&self, server: &Server, address: Option<SocketAddr>) {
        let mut state = self.state.lock();
        let Some(number) = state.numbers.get(server).copied() else {
            return;
        };
        let Some(lane) = state.lanes.get_mut(&number) else {
            return;
        };
        if address.is_some() {
            lane.address = address;
        }
        let patience = lane.patience();
        let now = clock::now();
        let is_old = |load: &Load| now.since(load.sent) >= patience;
        state.adopt_where(
            |_, entry| entry.key.lane == number && is_old(&entry.load),
            &self.commands,
        );
        state.table.sweep(now);
    }
}
