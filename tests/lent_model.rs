//! A cluster's table with lent memory against a simple model: any sequence of what several workers do to two locks, each by the word if it can, with
//! workers that go on after they have been cut off, and marks of which the primary has not been told.

mod words;

use ipc_mutex::core::attempt::Attempt;
use ipc_mutex::core::ids::{OwnerId, Ticket};
use ipc_mutex::core::mode::Mode;
use ipc_mutex::core::table::{Cancelled, NotHeld, Outcome};
use ipc_mutex::local::lent::Lent;
use ipc_mutex::local::words::AtomicU32;
use ipc_mutex::local::{self, Deliver, Granted, LocalTable, Opened, Who};
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use words::{MARK, Memory, Word};

const IDS: [&str; 2] = ["a", "b"];
/// Workers, each with one mutex object per id.
const WORKERS: usize = 3;
/// Behind the places of the locks.
const SIGNS: usize = IDS.len() * Lent::PLACE;
const STEPS: usize = 120;

#[derive(Debug, Clone)]
enum Step {
    Ask {
        worker: usize,
        id: usize,
        mode: Mode,
        attempt: Attempt,
    },
    /// Of the `which`-th request that ever held or waited. If it leaves a mark, the primary is told at once or not.
    Release {
        which: usize,
        told: bool,
    },
    Cancel {
        which: usize,
    },
    /// Somebody looks who has the lock.
    Look {
        id: usize,
    },
    /// Close the mutex object and open it again.
    Reopen {
        worker: usize,
        id: usize,
    },
    CutOff {
        worker: usize,
    },
    /// What one that is cut off still does.
    Linger {
        which: usize,
        call: usize,
    },
    /// A handle that is open, but of the other lock, comes to stand in the word and the mark.
    Stray {
        worker: usize,
        id: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![3 => Just(Mode::Exclusive), 1 => Just(Mode::Shared)];
    let attempt = prop_oneof![3 => Just(Attempt::Wait), 1 => Just(Attempt::Try)];
    let (worker, id) = (0..WORKERS, 0..IDS.len());
    prop_oneof![
        8 => (worker.clone(), id.clone(), mode, attempt)
            .prop_map(|(worker, id, mode, attempt)| Step::Ask { worker, id, mode, attempt }),
        8 => (any::<usize>(), any::<bool>()).prop_map(|(which, told)| Step::Release { which, told }),
        3 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        2 => id.clone().prop_map(|id| Step::Look { id }),
        1 => (worker.clone(), id.clone()).prop_map(|(worker, id)| Step::Reopen { worker, id }),
        1 => worker.clone().prop_map(|worker| Step::CutOff { worker }),
        2 => (any::<usize>(), 0..4usize).prop_map(|(which, call)| Step::Linger { which, call }),
        1 => (worker, id).prop_map(|(worker, id)| Step::Stray { worker, id }),
    ]
}

#[derive(Clone)]
struct Shared(Arc<Vec<AtomicU32>>);

impl Shared {
    fn read(&self, at: usize) -> u32 {
        self.0[at].load(Ordering::SeqCst)
    }
}

/// The table's part.
struct Places(Shared);

impl AsRef<[AtomicU32]> for Places {
    fn as_ref(&self) -> &[AtomicU32] {
        &self.0.0[..SIGNS]
    }
}

impl Memory for Shared {
    fn load(&self, at: usize) -> u32 {
        self.read(at)
    }

    fn store(&self, at: usize, value: u32) {
        self.0[at].store(value, Ordering::SeqCst);
    }

    fn compare_exchange(&self, at: usize, from: u32, to: u32) -> u32 {
        match self.0[at].compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(before) | Err(before) => before,
        }
    }

    fn now(&self) -> u64 {
        1
    }
}

#[derive(Default, Clone)]
struct Post(Arc<Mutex<Vec<Granted>>>);

impl Deliver for Post {
    fn granted(&self, _owner: OwnerId, grants: &[Granted]) {
        self.0.lock().unwrap().extend_from_slice(grants);
    }
}

/// A request that holds or waits, in the model. Its serial is its cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    serial: usize,
    id: usize,
    owner: OwnerId,
    mode: Mode,
    held: bool,
    /// `None`: it was granted by the word.
    ticket: Option<Ticket>,
    word: Word,
}

struct Worker {
    owner: OwnerId,
    opened: Vec<Opened>,
}

struct Both {
    table: LocalTable,
    memory: Shared,
    post: Post,
    workers: Vec<Worker>,
    /// What those who are cut off had.
    lost: Vec<Word>,
    /// The model: all that hold or wait, oldest first.
    requests: Vec<Asked>,
    /// All that there ever were, by serial.
    ever: Vec<Asked>,
    /// By id: a hold was given back by a mark, and the table has not looked yet.
    unseen: [bool; IDS.len()],
    /// By id: somebody who does not have the lock stands in its word.
    stray: [bool; IDS.len()],
}

impl Both {
    fn run(steps: Vec<Step>) {
        let memory = Shared(Arc::new(
            (0..SIGNS + WORKERS + STEPS).map(|_| AtomicU32::new(0)).collect(),
        ));
        let post = Post::default();
        let lent = Lent::new(Arc::new(Places(memory.clone())), || 1);
        let mut both = Both {
            table: LocalTable::lending(0, lent, Box::new(post.clone())),
            memory,
            post,
            workers: Vec::new(),
            lost: Vec::new(),
            requests: Vec::new(),
            ever: Vec::new(),
            unseen: [false; IDS.len()],
            stray: [false; IDS.len()],
        };
        for _ in 0..WORKERS {
            let born = both.born();
            both.workers.push(born);
        }
        for step in steps {
            both.step(step);
            both.compare();
        }
        for worker in 0..WORKERS {
            both.table.owner_gone(both.workers[worker].owner);
        }
        assert_eq!(
            (both.table.requests(), both.table.handles(), both.table.locks()),
            (0, 0, 0)
        );
    }

    fn born(&self) -> Worker {
        let owner = self.table.new_owner();
        self.memory.store(Self::sign(owner), owner.0);
        let opened = IDS.iter().map(|id| self.table.open(id, owner, Who::default()).unwrap());
        Worker {
            owner,
            opened: opened.collect(),
        }
    }

    fn sign(owner: OwnerId) -> usize {
        SIGNS + owner.0 as usize - 1
    }

    fn word(&self, worker: usize, id: usize) -> Word {
        let Worker { owner, opened } = &self.workers[worker];
        Word {
            at: opened[id].lent.unwrap() as usize * Lent::PLACE,
            handle: opened[id].handle.0,
            sign: Self::sign(*owner),
            owner: owner.0,
        }
    }

    fn at(&self, id: usize) -> Vec<Asked> {
        self.requests.iter().filter(|one| one.id == id).copied().collect()
    }

    fn permits(&self, id: usize, mode: Mode) -> bool {
        let mut held = self.requests.iter().filter(|one| one.id == id && one.held);
        held.all(|held| held.mode == Mode::Shared && mode == Mode::Shared)
    }

    /// Lets in who comes next, and checks that just those were granted.
    fn promote(&mut self, id: usize, mine: &[Granted]) {
        let mut expected = Vec::new();
        while let Some(first) = self.at(id).into_iter().find(|one| !one.held) {
            if self.unseen[id] || !self.permits(id, first.mode) {
                break;
            }
            let first = self.requests.iter_mut().find(|one| one.serial == first.serial).unwrap();
            first.held = true;
            expected.push(first.serial);
        }
        let delivered = std::mem::take(&mut *self.post.0.lock().unwrap());
        let mut got: Vec<_> = mine.iter().chain(&delivered).collect();
        got.sort_by_key(|grant| grant.token);
        for grant in &got {
            let asked = &self.ever[grant.cookie as usize];
            assert_eq!((Some(grant.ticket), grant.owner), (asked.ticket, asked.owner));
        }
        let got: Vec<_> = got.iter().map(|grant| grant.cookie as usize).collect();
        assert_eq!(got, expected);
    }

    fn forget(&mut self, serial: usize) {
        self.requests.retain(|one| one.serial != serial);
    }

    fn step(&mut self, step: Step) {
        let mut mine = Vec::new();
        match step {
            Step::Ask {
                worker,
                id,
                mode,
                attempt,
            } => self.ask(worker, id, mode, attempt),
            Step::Release { which, told } => {
                let Some(serial) = which.checked_rem(self.ever.len()) else {
                    return;
                };
                self.release(serial, told);
            }
            Step::Cancel { which } => {
                let Some(serial) = which.checked_rem(self.ever.len()) else {
                    return;
                };
                let Asked { ticket, owner, id, .. } = self.ever[serial];
                let Some(ticket) = ticket else { return };
                let asked = self.requests.iter().find(|one| one.serial == serial).copied();
                let cancelled = self.table.cancel(ticket, owner, &mut mine);
                match asked {
                    Some(asked) if asked.held => assert_eq!(cancelled, Cancelled::AlreadyGranted),
                    Some(_) => {
                        assert_eq!(cancelled, Cancelled::Withdrawn(()));
                        self.forget(serial);
                        self.promote(id, &mine);
                    }
                    // One that left a mark is there until the table looks.
                    None if self.unseen[id] => assert_ne!(cancelled, Cancelled::Withdrawn(())),
                    None => assert_eq!(cancelled, Cancelled::Unknown),
                }
            }
            Step::Look { id } => {
                let snapshot = self.table.snapshot(IDS[id]);
                self.unseen[id] = false;
                self.promote(id, &mine);
                let owners = |held: bool| -> Vec<_> {
                    let those = self.at(id).into_iter().filter(|one| one.held == held);
                    those.map(|one| one.owner).collect()
                };
                assert_eq!(
                    snapshot.held.iter().map(|info| info.owner).collect::<Vec<_>>(),
                    owners(true)
                );
                let pending: Vec<_> = snapshot.pending.iter().map(|info| info.owner).collect();
                assert_eq!(pending, owners(false));
            }
            Step::Reopen { worker, id } => {
                let Worker { owner, opened } = &self.workers[worker];
                let (owner, handle) = (*owner, opened[id].handle);
                // What an object has left behind is told before its end.
                self.look_by(worker, id);
                self.table.close(handle, &mut mine).unwrap();
                self.workers[worker].opened[id] = self.table.open(IDS[id], owner, Who::default()).unwrap();
                let by_word = |one: &Asked| one.ticket.is_none() && one.word.handle == handle.0;
                self.requests.retain(|one| !by_word(one));
                self.promote(id, &mine);
            }
            Step::CutOff { worker } => {
                let owner = self.workers[worker].owner;
                let words: Vec<_> = (0..IDS.len()).map(|id| self.word(worker, id)).collect();
                self.lost.extend(words);
                let born = self.born();
                self.memory.store(Self::sign(owner), 0);
                self.table.owner_gone(owner);
                self.workers[worker] = born;
                self.requests.retain(|one| one.owner != owner);
                // The hold of a mark that was not seen may have ended with its owner; that is found out by looking.
                let delivered = std::mem::take(&mut *self.post.0.lock().unwrap());
                for id in 0..IDS.len() {
                    let of = |grant: &Granted| self.ever[grant.cookie as usize].id == id;
                    let here: Vec<_> = delivered.iter().filter(|grant| of(grant)).copied().collect();
                    self.unseen[id] &= here.is_empty();
                    self.promote(id, &here);
                    self.look_by(worker, id);
                }
            }
            Step::Linger { which, call } => {
                let Some(which) = which.checked_rem(self.lost.len()) else {
                    return;
                };
                let word = self.lost[which];
                let id = self.id_of(word);
                match call {
                    0 => assert!(!word.take(&self.memory)),
                    1 => drop(word.free(&self.memory)),
                    2 => assert!(!word.leave(&self.memory)),
                    // Stopped half-way through taking.
                    _ => drop(self.memory.compare_exchange(word.at, 0, word.handle)),
                }
                self.stray[id] |= self.memory.read(word.at) == word.handle;
            }
            Step::Stray { worker, id } => {
                let (word, other) = (self.word(worker, id), self.word(worker, 1 - id));
                self.memory.compare_exchange(word.at + MARK, 0, other.handle);
                self.stray[id] |= self.memory.compare_exchange(word.at, 0, other.handle) == 0;
            }
        }
    }

    fn id_of(&self, word: Word) -> usize {
        (0..IDS.len()).find(|id| self.word(0, *id).at == word.at).unwrap()
    }

    /// The primary looks for a mark, in the name of this worker.
    fn look_by(&mut self, worker: usize, id: usize) {
        let mut mine = Vec::new();
        self.table.settle(self.workers[worker].opened[id].handle, &mut mine);
        self.unseen[id] = false;
        self.promote(id, &mine);
    }

    fn release(&mut self, serial: usize, told: bool) {
        let Asked {
            ticket,
            owner,
            id,
            word,
            mode,
            ..
        } = self.ever[serial];
        let held = self.requests.iter().any(|one| one.serial == serial && one.held);
        let Some(worker) = self.workers.iter().position(|one| one.owner == owner) else {
            return;
        };
        if mode == Mode::Shared {
            let mut mine = Vec::new();
            let released = self.table.release(ticket.unwrap(), owner, &mut mine);
            assert_eq!(released, if held { Ok(()) } else { Err(NotHeld) });
            self.forget_if(held, serial);
            return self.promote(id, &mine);
        }
        // Only a holder writes, and through the object by which it holds.
        if !held || self.word(worker, id).handle != word.handle {
            return;
        }
        self.forget(serial);
        if ticket.is_none() && word.free(&self.memory) {
            return;
        }
        assert!(word.leave(&self.memory));
        self.unseen[id] = true;
        if told {
            self.look_by(worker, id);
        }
    }

    fn forget_if(&mut self, held: bool, serial: usize) {
        if held {
            self.forget(serial);
        }
    }

    fn ask(&mut self, worker: usize, id: usize, mode: Mode, attempt: Attempt) {
        let (word, handle) = (self.word(worker, id), self.workers[worker].opened[id].handle);
        let mut asked = Asked {
            serial: self.ever.len(),
            id,
            owner: self.workers[worker].owner,
            mode,
            held: true,
            ticket: None,
            word,
        };
        if mode == Mode::Exclusive && word.take(&self.memory) {
            assert!(
                self.at(id).is_empty() && !self.unseen[id],
                "the word let somebody in beside others"
            );
        } else {
            let known = self.unseen[id] || self.stray[id] || !self.at(id).is_empty();
            assert!(
                known || mode == Mode::Shared,
                "the word kept somebody out of a free lock"
            );
            self.look_by(worker, id);
            let waited = self.at(id).iter().any(|one| !one.held);
            let free = !waited && self.permits(id, mode);
            match self
                .table
                .request(handle, mode, attempt, asked.serial as u32, None)
                .unwrap()
            {
                Outcome::Granted(ticket, _) => {
                    assert!(free);
                    asked.ticket = Some(ticket);
                }
                Outcome::Queued(ticket) => {
                    assert!(!free && attempt == Attempt::Wait);
                    asked.ticket = Some(ticket);
                    asked.held = false;
                }
                Outcome::Busy => {
                    assert!(!free && attempt == Attempt::Try);
                    return;
                }
            }
            // The table has put the word right.
            self.stray[id] = false;
        }
        self.ever.push(asked);
        self.requests.push(asked);
    }

    fn compare(&self) {
        for (id, name) in IDS.iter().enumerate() {
            let value = self.memory.read(self.word(0, id).at);
            let free = self.at(id).is_empty() && !self.unseen[id];
            assert!(value != 0 || free, "{name} is taken, and its word says free");
            assert!(
                value == 0 || !free || self.stray[id],
                "{name} is free, and its word does not say so"
            );
        }
        assert_eq!(
            (self.table.handles(), self.table.locks()),
            (WORKERS * IDS.len(), IDS.len())
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lent_words_and_table_together_do_what_the_model_does(steps in prop::collection::vec(step(), 1..STEPS)) {
        Both::run(steps);
    }
}
