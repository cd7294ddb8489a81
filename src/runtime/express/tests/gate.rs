//! The runtime, as far as the lane has to do with it: a gate for each lock, which the first in it asks for.

use super::world::{Heard, World, id_of};
use crate::backend::Attempt;
use crate::runtime::commands::{Call, Command};
use crate::runtime::express::{Adoption, Late, Presence, Stage};
use std::collections::VecDeque;

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

pub struct Request {
    call: Call,
    owner: String,
    attempt: Attempt,
    phase: Phase,
    late: Option<Late>,
    unanswered: bool,
    _presence: Option<Presence>,
}

impl World {
    /// The runtime takes its next command.
    pub fn take(&mut self) -> bool {
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
            Command::Close { mutex, .. } => {
                let at = self.closing.iter().position(|(.., open)| open.mutex == mutex).unwrap();
                let (env, id, open) = self.closing.remove(at).unwrap();
                for request in self.gates.get_mut(&id).into_iter().flatten() {
                    if request.call.env == env && self.calls[&request.call].1 == Heard::Cancelled {
                        request.phase = Phase::Leaving { tells: false };
                    }
                }
                self.express.unseat(mutex);
                self.closed.push_back((env, open.lane));
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
    pub fn step(&mut self, id: u8, hasty: bool) {
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
}
