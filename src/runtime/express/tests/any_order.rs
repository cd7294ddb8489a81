//! Any order of what JavaScript, the network, the server and the runtime do.

use super::server::Lock;
use super::world::{ENVS, Heard, IDS, World, connected};
use crate::backend::Attempt;
use crate::runtime::commands::{Call, Command};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

impl World {
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
            21 => {
                if let Some(open) = self.mutexes.get(&(env, id)) {
                    self.express.query(open.mutex, Call { env, cookie: 0 });
                }
            }
            27 => self.close(env, id),
            28 => self.open(env, id),
            29 => {
                self.leave();
            }
            _ => {}
        }
        self.drop_queries();
    }

    /// Queries have no part in this world but for what they make the lane hand over.
    pub fn drop_queries(&mut self) {
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
                if self.connections_of(env).iter().any(|at| self.connections[*at].is_cut) {
                    self.disconnect(env);
                }
            }
            while self.take() || self.leave() {}
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nobody_shares_a_lock_all_are_answered_once_and_nothing_is_left(
        actions in proptest::collection::vec((0_u8..30, any::<u8>()), 0..200)
    ) {
        let mut world = connected();
        for (what, which) in actions {
            world.act(what, which);
        }
        world.finish();
    }
}
