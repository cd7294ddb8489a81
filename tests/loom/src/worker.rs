//! A stand-in for a cluster's worker: it has the lock by a word in lent memory if it can, and may be cut off while it goes on.

use crate::core::attempt::Attempt;
use crate::core::ids::{OwnerId, Ticket};
use crate::core::mode::Mode;
use crate::core::table::Outcome;
use crate::local::lent::Lent;
use crate::local::{Deliver, Granted, LocalTable, Opened, Who};
use crate::words::{MARK, Memory, Word};
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Notify};

/// How many workers there can be.
const WORKERS: usize = 4;

/// Where the grants to each worker arrive.
#[derive(Default)]
struct Inboxes([Inbox; WORKERS]);

#[derive(Default)]
struct Inbox {
    arrived: AtomicU32,
    wake: Notify,
}

impl Inboxes {
    fn of(&self, owner: OwnerId) -> &Inbox {
        &self.0[owner.0 as usize - 1]
    }
}

struct Post(Arc<Inboxes>);

impl Deliver for Post {
    fn granted(&self, owner: OwnerId, grants: &[Granted]) {
        for _ in grants {
            self.0.of(owner).arrived.fetch_add(1, Ordering::SeqCst);
            self.0.of(owner).wake.notify();
        }
    }
}

/// The memory of one lock, and the signs of the workers behind it.
pub struct Shared(Vec<AtomicU32>);

const SIGNS: usize = Lent::PLACE;

impl Shared {
    fn sign(owner: OwnerId) -> usize {
        SIGNS + owner.0 as usize - 1
    }
}

/// The table's part.
struct Places(std::sync::Arc<Shared>);

impl AsRef<[AtomicU32]> for Places {
    fn as_ref(&self) -> &[AtomicU32] {
        &self.0.0[..SIGNS]
    }
}

impl Memory for Shared {
    fn load(&self, at: usize) -> u32 {
        if at == MARK {
            // A plain load before a compare-and-exchange keeps loom from trying other changes in between.
            self.0[at].fetch_add(0, Ordering::SeqCst)
        } else {
            self.0[at].load(Ordering::SeqCst)
        }
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

/// The primary, and what it lends.
pub struct Cluster {
    pub table: LocalTable,
    memory: std::sync::Arc<Shared>,
    inboxes: Arc<Inboxes>,
    /// Only the lock keeps it right.
    guarded: AtomicU32,
}

impl Cluster {
    pub fn new() -> Arc<Self> {
        let memory = std::sync::Arc::new(Shared((0..SIGNS + WORKERS).map(|_| AtomicU32::new(0)).collect()));
        let lent = Lent::new(std::sync::Arc::new(Places(memory.clone())), || 1);
        let inboxes = Arc::new(Inboxes::default());
        Arc::new(Self {
            table: LocalTable::lending(0, lent, Box::new(Post(inboxes.clone()))),
            memory,
            inboxes,
            guarded: AtomicU32::new(0),
        })
    }

    pub fn guarded(&self) -> u32 {
        self.guarded.load(Ordering::Relaxed)
    }

    /// The primary hears that the worker's channel is cut, or that it has ended.
    pub fn cut_off(&self, owner: OwnerId) {
        self.memory.store(Shared::sign(owner), 0);
        self.table.owner_gone(owner);
    }
}

/// A way to leave a mark.
pub type Leave = fn(Word, &Shared) -> bool;

/// How the lock is held.
#[derive(Debug, Clone, Copy)]
pub enum Hold {
    Word,
    Table,
}

pub struct Worker {
    pub cluster: Arc<Cluster>,
    pub owner: OwnerId,
    opened: Opened,
}

impl Worker {
    pub fn new(cluster: &Arc<Cluster>) -> Self {
        let owner = cluster.table.new_owner();
        cluster.memory.store(Shared::sign(owner), owner.0);
        let opened = cluster.table.open("id", owner, Who::default()).unwrap();
        assert_eq!(opened.lent, Some(0));
        Self {
            cluster: cluster.clone(),
            owner,
            opened,
        }
    }

    fn word(&self) -> Word {
        Word {
            at: 0,
            handle: self.opened.handle.0,
            sign: Shared::sign(self.owner),
            owner: self.owner.0,
        }
    }

    pub fn take(&self) -> bool {
        self.word().take(&*self.cluster.memory)
    }

    /// What the primary does with a request. `None`: the worker is cut off, or the lock is taken.
    pub fn ask(&self, attempt: Attempt) -> Option<Outcome> {
        self.told_to_look();
        let asked = self
            .cluster
            .table
            .request(self.opened.handle, Mode::Exclusive, attempt, 1, None);
        asked.ok().filter(|outcome| *outcome != Outcome::Busy)
    }

    pub fn wait(&self) {
        let inbox = self.cluster.inboxes.of(self.owner);
        while inbox.arrived.load(Ordering::SeqCst) == 0 {
            inbox.wake.wait();
        }
        inbox.arrived.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn acquire(&self) -> Hold {
        if self.take() {
            return Hold::Word;
        }
        if let Some(Outcome::Queued(_)) = self.ask(Attempt::Wait) {
            self.wait();
        }
        Hold::Table
    }

    pub fn work(&self) {
        let before = self.cluster.guarded.load(Ordering::Relaxed);
        self.cluster.guarded.store(before + 1, Ordering::Relaxed);
    }

    /// Whether the hold was given back rather than lost. If so, the primary is still to be told to look.
    pub fn give_back(&self, hold: Hold) -> bool {
        if let Hold::Word = hold
            && self.word().free(&*self.cluster.memory)
        {
            return true;
        }
        self.word().leave(&*self.cluster.memory)
    }

    /// Gives back a hold that was taken by the word, with `leave` in place of [`Word::leave`].
    pub fn give_back_by(&self, leave: Leave) {
        if !self.word().free(&*self.cluster.memory) {
            leave(self.word(), &self.cluster.memory);
        }
    }

    /// What the primary does when it is told that this worker has left its mark.
    pub fn told_to_look(&self) {
        let mut mine = Vec::new();
        self.cluster.table.settle(self.opened.handle, &mut mine);
        assert!(mine.is_empty(), "nobody else of this worker waits");
    }

    pub fn release(&self, hold: Hold) {
        assert!(self.give_back(hold), "nobody cuts this one off");
        self.told_to_look();
    }

    pub fn cancel(&self, ticket: Ticket) {
        self.cluster.table.cancel(ticket, self.owner, &mut Vec::new());
    }

    pub fn assert_free(&self) {
        assert!(
            self.cluster.table.snapshot("id").held.is_empty(),
            "held by nobody's hold"
        );
        assert_eq!(self.cluster.table.requests(), 0);
        assert!(self.take() || self.ask(Attempt::Try).is_some());
    }
}
