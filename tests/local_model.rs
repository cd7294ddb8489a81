//! The local table with its words against a simple model: any sequence of operations of several environments, each of which
//! tries the word first, as JavaScript does.

mod words;

use ipc_mutex::core::attempt::Attempt;
use ipc_mutex::core::ids::{OwnerId, Ticket, Token};
use ipc_mutex::core::mode::Mode;
use ipc_mutex::core::table::{Cancelled, NotHeld, Outcome};
use ipc_mutex::local::{self, Deliver, Granted, Handle, LocalTable, Opened, Snapshot, Who};
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

const IDS: [&str; 2] = ["a", "b"];
/// Environments, each with one mutex object per id.
const OWNERS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Ask {
        owner: usize,
        id: usize,
        mode: Mode,
        attempt: Attempt,
    },
    /// Of the `which`-th request that ever held or waited.
    Release {
        which: usize,
    },
    Cancel {
        which: usize,
    },
    Fence {
        owner: usize,
        id: usize,
    },
    /// Close the mutex object and open it again.
    Reopen {
        owner: usize,
        id: usize,
    },
    OwnerGone {
        owner: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![3 => Just(Mode::Exclusive), 1 => Just(Mode::Shared)];
    let attempt = prop_oneof![3 => Just(Attempt::Wait), 1 => Just(Attempt::Try)];
    prop_oneof![
        8 => (0..OWNERS, 0..IDS.len(), mode, attempt)
            .prop_map(|(owner, id, mode, attempt)| Step::Ask { owner, id, mode, attempt }),
        8 => any::<usize>().prop_map(|which| Step::Release { which }),
        3 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        1 => (0..OWNERS, 0..IDS.len()).prop_map(|(owner, id)| Step::Fence { owner, id }),
        1 => (0..OWNERS, 0..IDS.len()).prop_map(|(owner, id)| Step::Reopen { owner, id }),
        1 => (0..OWNERS).prop_map(|owner| Step::OwnerGone { owner }),
    ]
}

/// How a caller knows its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Word(Handle),
    Table(Ticket),
}

/// A request that holds or waits, in the model. Its serial is its cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    serial: usize,
    id: usize,
    owner: OwnerId,
    mode: Mode,
    held: bool,
}

#[derive(Default, Clone)]
struct Post(Arc<Mutex<Vec<Granted>>>);

impl Deliver for Post {
    fn granted(&self, owner: OwnerId, grants: &[Granted]) {
        assert!(!grants.is_empty() && grants.iter().all(|grant| grant.owner == owner));
        self.0.lock().unwrap().extend_from_slice(grants);
    }
}

struct Both {
    table: LocalTable,
    post: Post,
    owners: Vec<(OwnerId, Vec<Opened>)>,
    /// The model: all that hold or wait, oldest first.
    requests: Vec<Asked>,
    /// By serial.
    ways: Vec<(Way, OwnerId)>,
    last_token: Token,
}

impl Both {
    fn run(steps: Vec<Step>) {
        let post = Post::default();
        let mut both = Both {
            table: LocalTable::new(0, Box::new(post.clone())),
            post,
            owners: Vec::new(),
            requests: Vec::new(),
            ways: Vec::new(),
            last_token: Token(0),
        };
        for _ in 0..OWNERS {
            let born = both.born();
            both.owners.push(born);
        }
        for step in steps {
            both.step(step);
            both.compare();
        }
        for owner in 0..OWNERS {
            both.table.owner_gone(both.owners[owner].0);
        }
        assert_eq!(
            (both.table.requests(), both.table.handles(), both.table.locks()),
            (0, 0, 0)
        );
    }

    fn born(&self) -> (OwnerId, Vec<Opened>) {
        let owner = self.table.new_owner();
        (
            owner,
            IDS.iter()
                .map(|id| self.table.open(id, owner, Who::default()).unwrap())
                .collect(),
        )
    }

    fn word(&self, id: usize) -> u32 {
        let slot = self.owners[0].1[id].slot;
        self.table.chunk(slot.chunk).unwrap()[slot.offset as usize].load(Ordering::SeqCst)
    }

    fn at(&self, id: usize) -> Vec<Asked> {
        self.requests.iter().filter(|one| one.id == id).copied().collect()
    }

    fn permits(&self, id: usize, mode: Mode) -> bool {
        let mut held = self.requests.iter().filter(|one| one.id == id && one.held);
        held.all(|held| held.mode == Mode::Shared && mode == Mode::Shared)
    }

    fn promote(&mut self, id: usize) -> Vec<usize> {
        let mut granted = Vec::new();
        while let Some(first) = self.at(id).iter().find(|one| !one.held) {
            if !self.permits(id, first.mode) {
                break;
            }
            granted.push(first.serial);
            self.requests
                .iter_mut()
                .find(|one| one.serial == first.serial)
                .unwrap()
                .held = true;
        }
        granted
    }

    /// Takes a request out of the model, and checks that exactly those were granted whom that lets in.
    fn leave(&mut self, gone: Asked, mine: &[Granted]) {
        self.requests.retain(|one| one.serial != gone.serial);
        let expected = self.promote(gone.id);
        self.check_grants(gone.owner, &expected, mine);
    }

    fn check_grants(&mut self, caller: OwnerId, expected: &[usize], mine: &[Granted]) {
        let delivered = std::mem::take(&mut *self.post.0.lock().unwrap());
        assert!(mine.iter().all(|grant| grant.owner == caller));
        assert!(delivered.iter().all(|grant| grant.owner != caller));
        let mut all: Vec<_> = mine.iter().chain(&delivered).collect();
        for grant in &all {
            assert_eq!(
                self.ways[grant.cookie as usize],
                (Way::Table(grant.ticket), grant.owner)
            );
        }
        all.sort_by_key(|grant| grant.token);
        assert_eq!(
            all.iter().map(|grant| grant.cookie as usize).collect::<Vec<_>>(),
            expected
        );
        for grant in all {
            assert!(grant.token > self.last_token);
            self.last_token = grant.token;
        }
    }

    fn step(&mut self, step: Step) {
        let mut mine = Vec::new();
        match step {
            Step::Ask {
                owner,
                id,
                mode,
                attempt,
            } => self.ask(owner, id, mode, attempt),
            Step::Release { which } => {
                let Some(serial) = which.checked_rem(self.ways.len()) else {
                    return;
                };
                let (way, owner) = self.ways[serial];
                let held = self
                    .requests
                    .iter()
                    .find(|one| one.serial == serial && one.held)
                    .copied();
                let released = match way {
                    // Only a holder's own thread writes the word.
                    Way::Word(_) if held.is_none() => return,
                    Way::Word(handle) => {
                        let slot = self.owners.iter().flat_map(|(_, opened)| opened);
                        let slot = slot.clone().find(|opened| opened.handle == handle).unwrap().slot;
                        let chunk = self.table.chunk(slot.chunk).unwrap();
                        if words::free(&chunk[slot.offset as usize], handle) {
                            Ok(())
                        } else {
                            self.table.release_fast(handle, &mut mine)
                        }
                    }
                    Way::Table(ticket) => self.table.release(ticket, owner, &mut mine),
                };
                assert_eq!(released, if held.is_some() { Ok(()) } else { Err(NotHeld) });
                if let Some(held) = held {
                    self.leave(held, &mine);
                }
            }
            Step::Cancel { which } => {
                let Some(serial) = which.checked_rem(self.ways.len()) else {
                    return;
                };
                let (Way::Table(ticket), owner) = self.ways[serial] else {
                    return;
                };
                let asked = self.requests.iter().find(|one| one.serial == serial).copied();
                let cancelled = self.table.cancel(ticket, owner, &mut mine);
                match asked {
                    Some(asked) if asked.held => assert_eq!(cancelled, Cancelled::AlreadyGranted),
                    Some(asked) => {
                        assert_eq!(cancelled, Cancelled::Withdrawn(()));
                        self.leave(asked, &mine);
                    }
                    None => assert_eq!(cancelled, Cancelled::Unknown),
                }
            }
            Step::Fence { owner, id } => {
                let handle = self.owners[owner].1[id].handle;
                let fast = self.by_word(handle);
                let token = self.table.ticket_of(handle).map(|(_, token)| token);
                assert_eq!(token.is_some(), fast.is_some());
                // Drawn now, or when the hold was moved; later than all tokens of this lock in any case.
                self.last_token = self.last_token.max(token.unwrap_or(self.last_token));
            }
            Step::Reopen { owner, id } => {
                let handle = self.owners[owner].1[id].handle;
                let fast = self.by_word(handle);
                self.table.close(handle, &mut mine).unwrap();
                self.owners[owner].1[id] = self.table.open(IDS[id], self.owners[owner].0, Who::default()).unwrap();
                match fast {
                    Some(fast) => self.leave(fast, &mine),
                    None => self.check_grants(self.owners[owner].0, &[], &mine),
                }
            }
            Step::OwnerGone { owner } => {
                let gone = self.owners[owner].0;
                // Another environment opens first, so that the words stay.
                let born = self.born();
                self.table.owner_gone(gone);
                self.owners[owner] = born;
                self.requests.retain(|one| one.owner != gone);
                // Which lock comes first is not promised, so each is checked on its own.
                let delivered = std::mem::take(&mut *self.post.0.lock().unwrap());
                for id in 0..IDS.len() {
                    let expected = self.promote(id);
                    let mut got: Vec<_> = delivered
                        .iter()
                        .filter(|grant| expected.contains(&(grant.cookie as usize)))
                        .collect();
                    got.sort_by_key(|grant| grant.token);
                    assert_eq!(
                        got.iter().map(|grant| grant.cookie as usize).collect::<Vec<_>>(),
                        expected
                    );
                }
                assert!(delivered.iter().all(|grant| grant.token > self.last_token));
                self.last_token = delivered
                    .iter()
                    .map(|grant| grant.token)
                    .max()
                    .unwrap_or(self.last_token);
                let held = |grant: &Granted| {
                    self.requests
                        .iter()
                        .any(|one| one.serial == grant.cookie as usize && one.held)
                };
                assert!(delivered.iter().all(held));
            }
        }
    }

    fn by_word(&self, handle: Handle) -> Option<Asked> {
        self.requests
            .iter()
            .find(|one| self.ways[one.serial].0 == Way::Word(handle))
            .copied()
    }

    fn ask(&mut self, owner: usize, id: usize, mode: Mode, attempt: Attempt) {
        let (owner, Opened { slot, handle, .. }) = (self.owners[owner].0, self.owners[owner].1[id]);
        let (idle, waited) = (self.at(id).is_empty(), self.at(id).iter().any(|one| !one.held));
        let free = !waited && self.permits(id, mode);
        let serial = self.ways.len();
        let mut asked = Asked {
            serial,
            id,
            owner,
            mode,
            held: true,
        };
        let chunk = self.table.chunk(slot.chunk).unwrap();
        if mode == Mode::Exclusive && words::take(&chunk[slot.offset as usize], handle) {
            assert!(idle, "the word let somebody in beside others");
            self.ways.push((Way::Word(handle), owner));
            self.requests.push(asked);
            return;
        }
        assert!(
            !idle || mode == Mode::Shared,
            "the word kept somebody out of a free lock"
        );
        match self.table.request(handle, mode, attempt, serial as u32, None).unwrap() {
            Outcome::Granted(ticket, token) => {
                assert!(free && token > self.last_token);
                self.last_token = token;
                self.ways.push((Way::Table(ticket), owner));
            }
            Outcome::Queued(ticket) => {
                assert!(!free && attempt == Attempt::Wait);
                asked.held = false;
                self.ways.push((Way::Table(ticket), owner));
            }
            Outcome::Busy => {
                assert!(!free && attempt == Attempt::Try);
                return;
            }
        }
        self.requests.push(asked);
    }

    fn compare(&self) {
        for (id, name) in IDS.iter().enumerate() {
            let Snapshot { held, pending } = self.table.snapshot(name);
            let asked = self.at(id);
            let owners = |held: bool| {
                asked
                    .iter()
                    .filter(|one| one.held == held)
                    .map(|one| one.owner)
                    .collect::<Vec<_>>()
            };
            assert_eq!(held.iter().map(|info| info.owner).collect::<Vec<_>>(), owners(true));
            assert_eq!(pending.iter().map(|info| info.owner).collect::<Vec<_>>(), owners(false));
            assert_eq!(self.word(id) == 0, asked.is_empty());
        }
        assert_eq!(
            (self.table.handles(), self.table.locks()),
            (OWNERS * IDS.len(), IDS.len())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn word_and_table_together_do_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        Both::run(steps);
    }
}
