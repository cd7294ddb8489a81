//! The lock table against a model that is too simple to be wrong: vectors, searched from front to back.

use ipc_mutex::core::attempt::Attempt;
use ipc_mutex::core::ids::{LockKey, OwnerId, Ticket, Token};
use ipc_mutex::core::mode::Mode;
use ipc_mutex::core::table::{Cancelled, Grant, NotHeld, Outcome, Seen, State, Table};
use proptest::prelude::*;

const IDS: [&str; 3] = ["a", "b", "c"];
const OWNERS: u32 = 4;
const SEED: u64 = 1_000;

#[derive(Debug, Clone)]
enum Step {
    Request {
        id: usize,
        owner: u32,
        mode: Mode,
        attempt: Attempt,
        pinned: bool,
    },
    /// Of the `which`-th ticket ever given out (modulo their number), by its owner or by whoever comes next.
    Release {
        which: usize,
        stranger: bool,
    },
    Cancel {
        which: usize,
        stranger: bool,
    },
    OwnerGone {
        owner: u32,
    },
    Pin {
        id: usize,
    },
    Unpin {
        id: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![Just(Mode::Exclusive), Just(Mode::Shared)];
    let attempt = prop_oneof![3 => Just(Attempt::Wait), 1 => Just(Attempt::Try)];
    let stranger = prop::bool::weighted(0.1);
    prop_oneof![
        8 => (0..IDS.len(), 0..OWNERS, mode, attempt, any::<bool>())
            .prop_map(|(id, owner, mode, attempt, pinned)| Step::Request { id, owner, mode, attempt, pinned }),
        8 => (any::<usize>(), stranger).prop_map(|(which, stranger)| Step::Release { which, stranger }),
        4 => (any::<usize>(), stranger).prop_map(|(which, stranger)| Step::Cancel { which, stranger }),
        1 => (0..OWNERS).prop_map(|owner| Step::OwnerGone { owner }),
        1 => (0..IDS.len()).prop_map(|id| Step::Pin { id }),
        1 => (0..IDS.len()).prop_map(|id| Step::Unpin { id }),
    ]
}

/// A request of the model. `serial` is both its tag in the table and its place in the list of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    serial: usize,
    id: usize,
    owner: u32,
    mode: Mode,
    token: Option<u64>,
}

#[derive(Debug, Default)]
struct Model {
    /// All that hold or wait, oldest request first.
    requests: Vec<Asked>,
    last_token: u64,
    serials: usize,
}

impl Model {
    fn holders(&self, id: usize) -> Vec<Asked> {
        let mut held: Vec<_> = self
            .requests
            .iter()
            .filter(|one| one.id == id && one.token.is_some())
            .copied()
            .collect();
        held.sort_by_key(|one| one.token);
        held
    }

    fn waiters(&self, id: usize) -> Vec<Asked> {
        self.requests
            .iter()
            .filter(|one| one.id == id && one.token.is_none())
            .copied()
            .collect()
    }

    fn permits(&self, id: usize, mode: Mode) -> bool {
        self.holders(id)
            .iter()
            .all(|held| held.mode == Mode::Shared && mode == Mode::Shared)
    }

    fn grant(&mut self, serial: usize) -> Asked {
        self.last_token += 1;
        let one = self.requests.iter_mut().find(|one| one.serial == serial).unwrap();
        one.token = Some(self.last_token);
        *one
    }

    /// The request, granted or not; `None` if it was refused.
    fn request(&mut self, id: usize, owner: u32, mode: Mode, attempt: Attempt) -> Option<Asked> {
        let free = self.waiters(id).is_empty() && self.permits(id, mode);
        if !free && attempt == Attempt::Try {
            return None;
        }
        let serial = self.serials;
        self.serials += 1;
        let one = Asked {
            serial,
            id,
            owner,
            mode,
            token: None,
        };
        self.requests.push(one);
        Some(if free { self.grant(serial) } else { one })
    }

    fn promote(&mut self, id: usize) -> Vec<Asked> {
        let mut granted = Vec::new();
        while let Some(first) = self.waiters(id).first() {
            if !self.permits(id, first.mode) {
                break;
            }
            granted.push(self.grant(first.serial));
        }
        granted
    }

    fn find(&self, serial: usize, owner: u32) -> Option<Asked> {
        self.requests
            .iter()
            .find(|one| one.serial == serial && one.owner == owner)
            .copied()
    }

    fn remove(&mut self, gone: Asked) -> Vec<Asked> {
        self.requests.retain(|one| one.serial != gone.serial);
        self.promote(gone.id)
    }

    fn owner_gone(&mut self, owner: u32) -> (Vec<Asked>, Vec<Asked>) {
        let left: Vec<_> = self.requests.iter().filter(|one| one.owner == owner).copied().collect();
        self.requests.retain(|one| one.owner != owner);
        let granted = left.iter().flat_map(|gone| self.promote(gone.id)).collect();
        (left, granted)
    }
}

/// Table and model side by side.
struct Both {
    table: Table<usize>,
    model: Model,
    /// By serial.
    tickets: Vec<(Ticket, u32)>,
    pins: [Vec<LockKey>; IDS.len()],
}

impl Both {
    fn run(steps: Vec<Step>) {
        let mut both = Both {
            table: Table::new(SEED),
            model: Model {
                last_token: SEED,
                ..Model::default()
            },
            tickets: Vec::new(),
            pins: Default::default(),
        };
        for step in steps {
            both.step(step);
            both.compare();
        }
        for owner in 0..OWNERS {
            both.step(Step::OwnerGone { owner });
        }
        both.compare();
        let open = both.pins.iter().filter(|pins| !pins.is_empty()).count();
        assert_eq!(
            (both.table.requests(), both.table.owners(), both.table.locks()),
            (0, 0, open)
        );
        for key in both.pins.iter().flatten() {
            both.table.unpin(*key);
        }
        assert_eq!(both.table.locks(), 0);
    }

    fn pick(&self, which: usize, stranger: bool) -> Option<(usize, Ticket, u32)> {
        let serial = which.checked_rem(self.tickets.len())?;
        let (ticket, owner) = self.tickets[serial];
        Some((serial, ticket, if stranger { (owner + 1) % OWNERS } else { owner }))
    }

    fn step(&mut self, step: Step) {
        let mut granted = Vec::new();
        let expected = match step {
            Step::Request {
                id,
                owner,
                mode,
                attempt,
                pinned,
            } => {
                let serial = self.tickets.len();
                let outcome = match self.pins[id].first() {
                    Some(&key) if pinned => self.table.request_at(key, OwnerId(owner), mode, attempt, serial),
                    _ => self.table.request(IDS[id], OwnerId(owner), mode, attempt, serial),
                };
                match (outcome, self.model.request(id, owner, mode, attempt)) {
                    (Outcome::Granted(ticket, token), Some(one)) => {
                        assert_eq!(one.token, Some(token.0));
                        self.tickets.push((ticket, owner));
                    }
                    (Outcome::Queued(ticket), Some(one)) => {
                        assert_eq!(one.token, None);
                        self.tickets.push((ticket, owner));
                    }
                    (Outcome::Busy, None) => {}
                    (outcome, one) => panic!("the table says {outcome:?}, the model {one:?}"),
                }
                Vec::new()
            }
            Step::Release { which, stranger } => {
                let Some((serial, ticket, owner)) = self.pick(which, stranger) else {
                    return;
                };
                let released = self.table.release(ticket, OwnerId(owner), &mut granted);
                match self.model.find(serial, owner).filter(|one| one.token.is_some()) {
                    Some(one) => {
                        assert_eq!(released, Ok(serial));
                        self.model.remove(one)
                    }
                    None => {
                        assert_eq!(released, Err(NotHeld));
                        Vec::new()
                    }
                }
            }
            Step::Cancel { which, stranger } => {
                let Some((serial, ticket, owner)) = self.pick(which, stranger) else {
                    return;
                };
                let cancelled = self.table.cancel(ticket, OwnerId(owner), &mut granted);
                match self.model.find(serial, owner) {
                    Some(one) if one.token.is_none() => {
                        assert_eq!(cancelled, Cancelled::Withdrawn(serial));
                        self.model.remove(one)
                    }
                    Some(_) => {
                        assert_eq!(cancelled, Cancelled::AlreadyGranted);
                        Vec::new()
                    }
                    None => {
                        assert_eq!(cancelled, Cancelled::Unknown);
                        Vec::new()
                    }
                }
            }
            Step::OwnerGone { owner } => {
                let left = self.table.owner_gone(OwnerId(owner), &mut granted);
                let (expected_left, expected) = self.model.owner_gone(owner);
                let left: Vec<_> = left
                    .iter()
                    .map(|gone| (gone.tag, gone.mode, gone.state.token()))
                    .collect();
                let wanted: Vec<_> = expected_left
                    .iter()
                    .map(|one| (one.serial, one.mode, one.token.map(Token)))
                    .collect();
                assert_eq!(left, wanted);
                expected
            }
            Step::Pin { id } => {
                let key = self.table.pin(IDS[id]).unwrap();
                self.pins[id].push(key);
                Vec::new()
            }
            Step::Unpin { id } => {
                if let Some(key) = self.pins[id].pop() {
                    self.table.unpin(key);
                }
                Vec::new()
            }
        };
        let expected: Vec<_> = expected
            .iter()
            .map(|one| Grant {
                ticket: self.tickets[one.serial].0,
                owner: OwnerId(one.owner),
                token: Token(one.token.unwrap()),
            })
            .collect();
        assert_eq!(granted, expected);
    }

    /// Whatever can be seen of the table from outside is what the model says.
    fn compare(&self) {
        let shown = |seen: Vec<Seen<'_, usize>>| -> Vec<(Ticket, Asked)> {
            seen.iter()
                .map(|one| {
                    let asked = Asked {
                        serial: *one.tag,
                        id: 0,
                        owner: one.owner.0,
                        mode: one.mode,
                        token: one.token.map(|token| token.0),
                    };
                    (one.ticket, asked)
                })
                .collect()
        };
        let wanted = |asked: Vec<Asked>| -> Vec<(Ticket, Asked)> {
            asked
                .iter()
                .map(|one| (self.tickets[one.serial].0, Asked { id: 0, ..*one }))
                .collect()
        };
        let mut locks = 0;
        for (id, name) in IDS.iter().enumerate() {
            let snapshot = self.table.snapshot(name);
            assert_eq!(shown(snapshot.held), wanted(self.model.holders(id)));
            assert_eq!(shown(snapshot.pending), wanted(self.model.waiters(id)));
            let used = self.model.requests.iter().any(|one| one.id == id);
            assert_eq!(self.table.key(name).is_some(), used || !self.pins[id].is_empty());
            assert_eq!(self.table.key(name).is_none_or(|key| self.table.is_idle(key)), !used);
            locks += usize::from(self.table.key(name).is_some());
            assert!(self.pins[id].iter().all(|&key| self.table.key(name) == Some(key)));
        }
        for (serial, &(ticket, owner)) in self.tickets.iter().enumerate() {
            let state = self
                .table
                .get(ticket)
                .map(|request| (request.tag, request.owner(), request.state()));
            let wanted = self.model.find(serial, owner).map(|one| {
                let state = one.token.map_or(State::Waiting, |token| State::Held(Token(token)));
                (serial, OwnerId(owner), state)
            });
            assert_eq!(state, wanted);
        }
        assert_eq!(
            (self.table.requests(), self.table.locks()),
            (self.model.requests.len(), locks)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_does_what_the_model_does(steps in prop::collection::vec(step(), 1..80)) {
        Both::run(steps);
    }
}
