//! A stand-in for a JavaScript environment: it takes the lock as the binding does, on the word if it can.

use crate::core::attempt::Attempt;
use crate::core::ids::{OwnerId, Ticket};
use crate::core::mode::Mode;
use crate::core::table::{Cancelled, Outcome};
use crate::local::words::Chunk;
use crate::local::{Deliver, Granted, LocalTable, Opened, Who};
use crate::words;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Arc, Notify};

/// Where grants of up to four owners arrive. An owner here waits for at most one.
#[derive(Default)]
struct Inboxes([Inbox; 4]);

struct Inbox {
    arrived: AtomicU32,
    wake: Notify,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            arrived: AtomicU32::new(0),
            wake: Notify::new(),
        }
    }
}

impl Inboxes {
    fn of(&self, owner: OwnerId) -> &Inbox {
        &self.0[owner.0 as usize - 1]
    }
}

struct Post(Arc<Inboxes>);

impl Deliver for Post {
    fn granted(&self, owner: OwnerId, grants: &[Granted]) {
        let inbox = self.0.of(owner);
        for grant in grants {
            inbox.arrived.fetch_add(grant.cookie, Ordering::SeqCst);
            inbox.wake.notify();
        }
    }
}

/// What all environments share: one lock table with one lock, and something that the lock guards.
pub struct Process {
    pub table: LocalTable,
    inboxes: Arc<Inboxes>,
    /// Read and written in two steps and with no ordering of its own: only the lock keeps it right.
    guarded: AtomicU32,
}

impl Process {
    pub fn new() -> Arc<Self> {
        let inboxes = Arc::new(Inboxes::default());
        Arc::new(Self {
            table: LocalTable::new(0, Box::new(Post(inboxes.clone()))),
            inboxes,
            guarded: AtomicU32::new(0),
        })
    }

    pub fn guarded(&self) -> u32 {
        self.guarded.load(Ordering::Relaxed)
    }
}

/// How the lock is held.
#[derive(Debug, Clone, Copy)]
pub enum Hold {
    Fast,
    Ticket(Ticket),
}

/// Where a request stands.
#[derive(Debug, Clone, Copy)]
pub enum Asked {
    Held(Hold),
    Queued(Ticket),
    Busy,
}

pub struct Environment {
    pub process: Arc<Process>,
    pub owner: OwnerId,
    pub opened: Opened,
    pub words: Chunk,
}

impl Environment {
    pub fn new(process: &Arc<Process>) -> Self {
        let owner = process.table.new_owner();
        let opened = process.table.open("id", owner, Who::default()).unwrap();
        Self {
            process: process.clone(),
            owner,
            opened,
            words: process.table.chunk(opened.slot.chunk).unwrap(),
        }
    }

    pub fn word(&self) -> &AtomicU32 {
        &self.words[self.opened.slot.offset as usize]
    }

    pub fn ask(&self, attempt: Attempt) -> Asked {
        if words::take(self.word(), self.opened.handle) {
            return Asked::Held(Hold::Fast);
        }
        self.ask_table(Mode::Exclusive, attempt)
    }

    pub fn ask_table(&self, mode: Mode, attempt: Attempt) -> Asked {
        match self
            .process
            .table
            .request(self.opened.handle, mode, attempt, 1, None)
            .unwrap()
        {
            Outcome::Granted(ticket, _) => Asked::Held(Hold::Ticket(ticket)),
            Outcome::Queued(ticket) => Asked::Queued(ticket),
            Outcome::Busy => Asked::Busy,
        }
    }

    pub fn wait(&self, asked: Asked) -> Hold {
        match asked {
            Asked::Held(hold) => hold,
            Asked::Queued(ticket) => {
                let inbox = self.process.inboxes.of(self.owner);
                while inbox.arrived.load(Ordering::SeqCst) == 0 {
                    inbox.wake.wait();
                }
                inbox.arrived.fetch_sub(1, Ordering::SeqCst);
                Hold::Ticket(ticket)
            }
            Asked::Busy => panic!("only a try is answered so"),
        }
    }

    pub fn acquire(&self) -> Hold {
        self.wait(self.ask(Attempt::Wait))
    }

    /// What needs the lock.
    pub fn work(&self) {
        let guarded = &self.process.guarded;
        let before = guarded.load(Ordering::Relaxed);
        guarded.store(before + 1, Ordering::Relaxed);
    }

    pub fn release(&self, hold: Hold) {
        let table = &self.process.table;
        let mut mine = Vec::new();
        match hold {
            Hold::Fast => {
                if !words::free(self.word(), self.opened.handle) {
                    table.release_fast(self.opened.handle, &mut mine).unwrap();
                }
            }
            Hold::Ticket(ticket) => table.release(ticket, self.owner, &mut mine).unwrap(),
        }
        assert!(mine.is_empty(), "nobody else of this environment waits");
    }

    pub fn cancel(&self, ticket: Ticket) -> Cancelled<()> {
        self.process.table.cancel(ticket, self.owner, &mut Vec::new())
    }

    /// The environment ends, whatever it holds or waits for.
    pub fn end(&self) {
        self.process.table.owner_gone(self.owner);
    }

    pub fn assert_free(&self) {
        assert_eq!(self.word().load(Ordering::SeqCst), 0);
        assert_eq!(self.process.table.requests(), 0);
    }
}
