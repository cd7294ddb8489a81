//! JavaScript's half of the lane, as `lib/models/lane.js` and `rpm.js` have it: which mutexes a thread has open, and on which connections.
//!
//! What the addon tells (that a mutex is closed, that a connection was cut) a thread hears some time later.

use super::server::{end_of, words};
use super::world::{Connection, Heard, World, id_of, server};
use crate::core::lease::Terms;
use crate::runtime::commands::{Call, MutexId};
use crate::runtime::express::{Departure, Place, Way};
use std::collections::VecDeque;
use std::time::Duration;

/// A thread's side of one lane.
#[derive(Default)]
pub struct Side {
    users: usize,
    /// Its place among the world's connections.
    pub connection: Option<usize>,
}

/// A mutex that a thread has open.
#[derive(Clone, Copy)]
pub struct Open {
    pub mutex: MutexId,
    pub lane: u32,
}

impl World {
    pub fn open(&mut self, env: u32, id: u8) {
        if self.mutexes.contains_key(&(env, id)) {
            return;
        }
        self.next += 1;
        let mutex = MutexId(self.next);
        let server = server();
        let place = Place {
            server: &server,
            terms: Terms {
                ttl: Duration::from_secs(3600),
                renew_every: Duration::from_secs(1200),
            },
            address: ([127, 0, 0, 1], 1).into(),
        };
        self.express.seat(mutex, place, &id_of(id).into(), None, env);
        let lane = self.express.lane(mutex).unwrap();
        self.mutexes.insert((env, id), Open { mutex, lane });
        self.sides.entry((env, lane)).or_default().users += 1;
    }

    /// The thread hears no more of what the mutex has; that the runtime is done with it, it hears later.
    pub fn close(&mut self, env: u32, id: u8) {
        let Some(open) = self.mutexes.remove(&(env, id)) else {
            return;
        };
        for (call, (of, heard)) in &mut self.calls {
            if (call.env, *of) == (env, id) && *heard != Heard::Over {
                *heard = Heard::Cancelled;
            }
        }
        self.closing.push_back((env, id, open));
        self.express.close(open.mutex, Call { env, cookie: 0 });
    }

    /// The runtime has closed a mutex, and the thread leaves the lane.
    pub fn leave(&mut self) -> bool {
        let Some((env, lane)) = self.closed.pop_front() else {
            return false;
        };
        let side = self.sides.get_mut(&(env, lane)).unwrap();
        side.users -= 1;
        if side.users == 0 {
            let side = self.sides.remove(&(env, lane)).unwrap();
            if let Some(at) = side.connection {
                self.express.disconnected(self.connections[at].line);
            }
        }
        true
    }

    /// Everything that was to be closed is, and all threads know.
    pub fn finish_closing(&mut self) {
        while self.take() || self.leave() {}
        assert!(self.closing.is_empty());
    }

    /// The number of the connection that the thread has for this lock.
    pub fn line(&self, env: u32, id: u8) -> Option<u32> {
        let open = self.mutexes.get(&(env, id))?;
        let at = self.sides[&(env, open.lane)].connection?;
        Some(self.connections[at].line)
    }

    pub fn go(&mut self, env: u32, id: u8, way: Way) {
        let lane = self.mutexes[&(env, id)].lane;
        match way {
            Way::Runtime => {}
            Way::NoLine => self.connect(env, lane),
            Way::Lane(departure) => {
                let at = self.sides[&(env, lane)].connection;
                let at = at.expect("bytes only for a connection that is there");
                let bytes = match departure {
                    Departure::Now(bytes) => bytes,
                    // The end of the turn; nothing comes between here that matters to the lane.
                    Departure::Together => self.express.departing(self.connections[at].line),
                };
                self.write(at, &bytes);
            }
        }
    }

    pub fn connect(&mut self, env: u32, lane: u32) {
        if self.sides[&(env, lane)].connection.is_some() {
            return;
        }
        if let Some((line, greeting)) = self.express.connected(env, lane) {
            self.connections.push(Connection {
                line,
                client: i64::from(line) + 1000,
                requests: VecDeque::new(),
                replies: Vec::new(),
                is_cut: false,
            });
            let at = self.connections.len() - 1;
            self.sides.get_mut(&(env, lane)).unwrap().connection = Some(at);
            self.write(at, &greeting);
        }
    }

    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let connection = &mut self.connections[at];
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

    /// The connections that a thread has open.
    pub fn connections_of(&self, env: u32) -> Vec<usize> {
        let mine = self.sides.iter().filter(|((of, _), _)| *of == env);
        let mut all: Vec<usize> = mine.filter_map(|(_, side)| side.connection).collect();
        all.sort_unstable();
        all
    }

    pub fn disconnect(&mut self, env: u32) {
        for ((of, _), side) in &mut self.sides {
            if *of == env
                && let Some(at) = side.connection.take()
            {
                self.express.disconnected(self.connections[at].line);
            }
        }
    }
}
