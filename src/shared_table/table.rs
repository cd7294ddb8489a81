//! What can be done with the table. The caller holds its mutex.

use super::layout::*;
use super::lists::{List, PLACE, REQUEST, Reserve};
use super::memory::{Fault, Memory, Result};
use crate::core::attempt::Attempt;
use crate::core::ids::{Index, Ticket, Token};
use crate::core::mode::Mode;
use crate::core::table::{Cancelled, Outcome};

/// How many waiters are granted in one change, so that the log has room.
const GRANTS_PER_CHANGE: usize = 128;

/// A process's membership: its slot, and which of the slot's owners it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    pub number: u32,
    pub epoch: u32,
}

/// Whether the process of a slot lives.
pub type Alive<'a> = &'a dyn Fn(Slot) -> bool;

/// SHA-256 of a lock's id.
pub type Hash = [u32; HASH_WORDS];

/// Whose code asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    pub environment: u32,
    pub number: u32,
    pub thread: u32,
    pub label: Option<String>,
    /// Milliseconds since 1970.
    pub since: u64,
}

/// A call for a lock.
pub struct Ask<'a> {
    pub id: &'a str,
    pub hash: &'a Hash,
    pub slot: u32,
    pub mode: Mode,
    pub attempt: Attempt,
    pub who: &'a Who,
}

/// A waiting request was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub ticket: Ticket,
    pub slot: u32,
    pub environment: u32,
    pub number: u32,
    pub token: Token,
}

/// A holder or waiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub mode: Mode,
    pub token: Option<Token>,
    pub pid: u32,
    pub host: String,
    pub who: Who,
}

/// The holders and the waiters of a lock, in order.
pub type Crowd = (Vec<Seen>, Vec<Seen>);

/// What is needed to watch a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    pub slot: Slot,
    pub pid: u32,
    pub space: u64,
}

pub struct Table {
    pub(super) memory: Memory,
    pub(super) reserve: Reserve,
}

impl Table {
    pub fn new(memory: Memory, reserve: Reserve) -> Self {
        Self { memory, reserve }
    }

    /// Makes an empty table of memory that is zero, but for the last token.
    pub fn format(&self, token: u64) {
        self.memory.put(LAST_TOKEN, token as u32);
        self.memory.put(LAST_TOKEN + 1, (token >> 32) as u32);
        self.memory.put(HEADER_LAYOUT, LAYOUT);
        self.memory.put(HEADER_MAGIC, MAGIC);
    }

    pub fn is_formatted(&self) -> bool {
        self.memory.load(HEADER_MAGIC) == Ok(MAGIC) && self.memory.load(HEADER_LAYOUT) == Ok(LAYOUT)
    }

    /// Makes a process a member, in the place of a dead one if there is one. `enter` takes the life lock and says whether that worked.
    pub fn join(
        &self,
        pid: u32,
        space: u64,
        host: &str,
        alive: Alive,
        enter: impl Fn(Slot) -> bool,
        granted: &mut Vec<Grant>,
    ) -> Result<Slot> {
        let memory = &self.memory;
        for number in 1..=SLOT_COUNT {
            let at = slot_at(number)?;
            let epoch = memory.load(at + SLOT_EPOCH)?;
            if epoch != 0 {
                if alive(Slot { number, epoch }) {
                    continue;
                }
                self.gone(number, granted)?;
            }
            return memory.change(|| {
                let epoch = memory.load(LAST_EPOCH)?.wrapping_add(1).max(1);
                let slot = Slot { number, epoch };
                if !enter(slot) {
                    return Err(Fault::Full);
                }
                memory.store(LAST_EPOCH, epoch)?;
                memory.store(at + SLOT_PID, pid)?;
                memory.store_long(at + SLOT_SPACE, space)?;
                memory.store_text(at + SLOT_HOST, HOST_BYTES, host)?;
                memory.store(at + SLOT_EPOCH, epoch)?;
                Ok(slot)
            });
        }
        Err(Fault::Full)
    }

    /// Ends the membership of a process that has left or died, with all its requests.
    pub fn gone(&self, number: u32, granted: &mut Vec<Grant>) -> Result<()> {
        let memory = &self.memory;
        let at = slot_at(number)?;
        let requests = memory.members(requests_of(at))?;
        // Those that wait go first, so that none of them is granted.
        for waiting in [true, false] {
            // From the last to the first, as a wait that ends may let in those behind it.
            for &request in requests.iter().rev() {
                let record = memory.record(REQUEST, request)?;
                if (memory.load(record + REQUEST_HELD)? == 0) == waiting
                    && memory.load(record + REQUEST_SLOT)? == number
                {
                    self.end(request, granted)?;
                }
            }
        }
        memory.change(|| memory.store(at + SLOT_EPOCH, 0))
    }

    /// Ends the requests of all dead processes at lock `hash`, and grants what can be granted.
    pub fn sweep(&self, hash: &Hash, alive: Alive, granted: &mut Vec<Grant>) -> Result<()> {
        for process in self.processes(hash)? {
            if !alive(process.slot) {
                self.gone(process.slot.number, granted)?;
            }
        }
        match self.find(hash)? {
            Some(place) => self.promote(place, granted),
            None => Ok(()),
        }
    }

    /// The same at all locks.
    pub fn sweep_all(&self, alive: Alive, granted: &mut Vec<Grant>) -> Result<()> {
        for number in 1..=SLOT_COUNT {
            let at = slot_at(number)?;
            let epoch = self.memory.load(at + SLOT_EPOCH)?;
            if epoch != 0 && self.memory.load(requests_of(at).ends)? != 0 && !alive(Slot { number, epoch }) {
                self.gone(number, granted)?;
            }
        }
        Ok(())
    }

    /// Asks for lock `hash`.
    pub fn request(&self, ask: &Ask, alive: Alive, granted: &mut Vec<Grant>) -> Result<Outcome> {
        let &Ask {
            id,
            hash,
            slot,
            mode,
            attempt,
            who,
        } = ask;
        if !self.admits(hash, mode)? {
            self.sweep(hash, alive, granted)?;
        }
        let free = self.admits(hash, mode)?;
        if !free && attempt == Attempt::Try {
            return Ok(Outcome::Busy);
        }
        let memory = &self.memory;
        memory.change(|| {
            let place = self.find_or_add(id, hash)?;
            let number = memory.take(REQUEST, &self.reserve)?;
            let at = memory.record(REQUEST, number)?;
            memory.store(at + REQUEST_SLOT, slot)?;
            memory.store(at + REQUEST_ENVIRONMENT, who.environment)?;
            memory.store(at + REQUEST_NUMBER, who.number)?;
            memory.store(at + REQUEST_THREAD, who.thread)?;
            memory.store_long(at + REQUEST_SINCE, who.since)?;
            // 0 bytes mean that there is none.
            memory.store_text(
                at + REQUEST_LABEL,
                LABEL_BYTES,
                who.label.as_deref().unwrap_or_default(),
            )?;
            memory.store(at + REQUEST_MODE, if mode == Mode::Shared { SHARED } else { EXCLUSIVE })?;
            memory.store(at + REQUEST_HELD, 0)?;
            memory.store(at + REQUEST_PLACE, place)?;
            let lock = memory.record(PLACE, place)?;
            memory.push_back(if free { holders(lock) } else { waiters(lock) }, number)?;
            memory.push_back(requests_of(slot_at(slot)?), number)?;
            let ticket = ticket(number, memory.load(at + REQUEST_GENERATION)?)?;
            if !free {
                return Ok(Outcome::Queued(ticket));
            }
            Ok(Outcome::Granted(ticket, self.hold(at)?))
        })
    }

    /// Ends a hold. `false` if it is not one of this slot's.
    pub fn release(&self, ticket: Ticket, slot: u32, granted: &mut Vec<Grant>) -> Result<bool> {
        match self.state(ticket, slot)? {
            Some(Some(_)) => self.end(number(ticket)?, granted).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Withdraws a wait.
    pub fn cancel(&self, ticket: Ticket, slot: u32, granted: &mut Vec<Grant>) -> Result<Cancelled<()>> {
        match self.state(ticket, slot)? {
            Some(None) => self.end(number(ticket)?, granted).map(|()| Cancelled::Withdrawn(())),
            Some(Some(_)) => Ok(Cancelled::AlreadyGranted),
            None => Ok(Cancelled::Unknown),
        }
    }

    /// Takes a request out, and grants what that permits.
    fn end(&self, request: u32, granted: &mut Vec<Grant>) -> Result<()> {
        let memory = &self.memory;
        let before = granted.len();
        let place = memory.change(|| {
            let at = memory.record(REQUEST, request)?;
            let place = memory.load(at + REQUEST_PLACE)?;
            let lock = memory.record(PLACE, place)?;
            let is_held = memory.load(at + REQUEST_HELD)? != 0;
            memory.remove(if is_held { holders(lock) } else { waiters(lock) }, request)?;
            memory.remove(requests_of(slot_at(memory.load(at + REQUEST_SLOT)?)?), request)?;
            memory.store(at + REQUEST_SLOT, 0)?;
            let generation = memory.load(at + REQUEST_GENERATION)?;
            // Behind the last generation the record is not used again, so no two requests have one ticket.
            if generation < Ticket::LAST_GENERATION {
                memory.store(at + REQUEST_GENERATION, generation + 1)?;
                memory.give_back(REQUEST, request)?;
            }
            self.grant_some(place, granted)?;
            self.forget_if_idle(place)?;
            Ok(place)
        });
        match place {
            // More may be to grant than fits into one change.
            Ok(place) if granted.len() - before == GRANTS_PER_CHANGE => self.promote(place, granted),
            Ok(_) => Ok(()),
            Err(fault) => {
                granted.truncate(before);
                Err(fault)
            }
        }
    }

    /// Grants from the head of the queue as far as the holders permit.
    fn promote(&self, place: u32, granted: &mut Vec<Grant>) -> Result<()> {
        loop {
            let before = granted.len();
            if let Err(fault) = self.memory.change(|| self.grant_some(place, granted)) {
                granted.truncate(before);
                return Err(fault);
            }
            if granted.len() - before < GRANTS_PER_CHANGE {
                return Ok(());
            }
        }
    }

    fn grant_some(&self, place: u32, granted: &mut Vec<Grant>) -> Result<()> {
        let memory = &self.memory;
        let lock = memory.record(PLACE, place)?;
        for _ in 0..GRANTS_PER_CHANGE {
            let next = memory.load(waiters(lock).ends)?;
            if next == 0 {
                break;
            }
            let at = memory.record(REQUEST, next)?;
            if !self.permits(lock, self.mode(at)?)? {
                break;
            }
            memory.remove(waiters(lock), next)?;
            memory.push_back(holders(lock), next)?;
            let token = self.hold(at)?;
            granted.push(Grant {
                ticket: ticket(next, memory.load(at + REQUEST_GENERATION)?)?,
                slot: memory.load(at + REQUEST_SLOT)?,
                environment: memory.load(at + REQUEST_ENVIRONMENT)?,
                number: memory.load(at + REQUEST_NUMBER)?,
                token,
            });
        }
        Ok(())
    }

    /// Whether a new request may hold at once.
    fn admits(&self, hash: &Hash, mode: Mode) -> Result<bool> {
        let Some(place) = self.find(hash)? else { return Ok(true) };
        let lock = self.memory.record(PLACE, place)?;
        Ok(self.memory.load(waiters(lock).ends)? == 0 && self.permits(lock, mode)?)
    }

    /// Whether the holders tolerate one more.
    fn permits(&self, lock: usize, mode: Mode) -> Result<bool> {
        match self.memory.load(holders(lock).ends)? {
            0 => Ok(true),
            first => Ok(mode == Mode::Shared && self.mode(self.memory.record(REQUEST, first)?)? == Mode::Shared),
        }
    }

    /// Makes a request a holder, with the next token.
    fn hold(&self, at: usize) -> Result<Token> {
        let token = self.memory.load_long(LAST_TOKEN)?.saturating_add(1);
        self.memory.store_long(LAST_TOKEN, token)?;
        self.memory.store_long(at + REQUEST_TOKEN, token)?;
        self.memory.store(at + REQUEST_HELD, 1)?;
        Ok(Token(token))
    }
}

pub(super) fn slot_at(number: u32) -> Result<usize> {
    if number == 0 || number > SLOT_COUNT {
        return Err(Fault::Damaged);
    }
    Ok(SLOTS + (number as usize - 1) * SLOT_WORDS)
}

pub(super) fn holders(place: usize) -> List {
    List {
        ends: place + PLACE_HOLDERS,
        links: REQUEST_IN_PLACE,
    }
}

pub(super) fn waiters(place: usize) -> List {
    List {
        ends: place + PLACE_WAITERS,
        links: REQUEST_IN_PLACE,
    }
}

pub(super) fn requests_of(slot: usize) -> List {
    List {
        ends: slot + SLOT_REQUESTS,
        links: REQUEST_IN_SLOT,
    }
}

pub(super) fn ticket(number: u32, generation: u32) -> Result<Ticket> {
    if generation > Ticket::LAST_GENERATION {
        return Err(Fault::Damaged);
    }
    let index = Index::of(number as usize - 1).ok_or(Fault::Damaged)?;
    Ok(Ticket::new(index, generation))
}

pub(super) fn number(ticket: Ticket) -> Result<u32> {
    let index = ticket.index().ok_or(Fault::Damaged)?;
    Ok(index.position() as u32 + 1)
}
