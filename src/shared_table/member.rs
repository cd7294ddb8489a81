//! What a process has with one table: its slot, and the requests of its threads.

use super::files::{self, Files, Locked};
use super::keeper;
use super::layout::LIVES;
use super::memory::{self, Fault};
use super::system;
use super::table::{Alive, Ask, Crowd, Grant, Hash, Process, Slot, Table, Who};
use super::waits::Waits;
use crate::core::attempt::Attempt;
use crate::core::ids::{Ticket, Token};
use crate::core::mode::Mode;
use crate::core::table::{Cancelled, Outcome};
use crate::error::{Error, Kind, Result};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// How many FIFOs of other processes are kept open.
const FIFOS: usize = 256;

/// The byte whose lock says that the process of a slot lives.
fn life(slot: Slot) -> u64 {
    u64::from(slot.number) * LIVES + u64::from(slot.epoch)
}

/// A request as the process's threads name it: environment and number.
pub(super) type Name = (u32, u32);

/// Hears what happens to requests, and must not call the member.
pub trait Tell: Send + Sync {
    fn granted(&self, environment: u32, number: u32, token: u64);
    fn lost(&self, environment: u32, number: u32, error: Error);
    fn failed(&self, environment: u32, number: u32, error: Error);
}

/// This process as a member of a table, until the table is deleted.
pub struct Member {
    inner: Mutex<Inner>,
    tell: Arc<dyn Tell>,
    /// Wakes the keeper; others write to it too.
    bell: File,
    space: u64,
}

struct Inner {
    files: Files,
    slot: Slot,
    waiting: Waits,
    held: HashMap<Name, Ticket>,
    fifos: HashMap<u32, File>,
    is_lost: bool,
}

/// What the keeper has to know.
#[derive(Default)]
pub(super) struct Attended {
    /// Processes that are before this one at a lock that it waits for.
    pub before: Vec<Process>,
    /// Whether these are all.
    pub is_complete: bool,
    pub is_waiting: bool,
}

/// The name of a lock in the table.
pub fn hash(id: &str) -> Hash {
    let digest = Sha256::digest(id.as_bytes());
    let mut hash = Hash::default();
    for (word, bytes) in hash.iter_mut().zip(digest.chunks_exact(4)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
    }
    hash
}

/// Enters the table, undoes what a dead process has left there, and does something.
fn inside<R>(files: &Files, act: impl FnOnce(&Table) -> memory::Result<R>) -> Result<R> {
    let path = files.path();
    let path = path.display();
    let server = |message: String| Error::new(Kind::Server, message);
    let _locked = Locked::new(&files.file)
        .map_err(|error| server(format!("lock table {path} cannot be locked")).because(error))?;
    files
        .table
        .memory
        .roll_back()
        .and_then(|()| act(&files.table))
        .map_err(|fault| match fault {
            Fault::Damaged => server(format!("lock table {path} is damaged: end all processes that use it")),
            Fault::Full => server(format!("lock table {path} is full")),
            Fault::NoSpace => server(format!("no space left on the device of lock table {path}")),
        })
}

impl Member {
    /// Joins the table of a folder, which by default is that of this process's user.
    pub fn join(folder: Option<&Path>, host: &str, tell: Arc<dyn Tell>) -> Result<Arc<Self>> {
        let files = files::open(folder)?;
        let broken = |error: std::io::Error| {
            Error::new(
                Kind::Server,
                format!("lock table {} cannot be used", files.path().display()),
            )
            .because(error)
        };
        let space = keeper::pid_space();
        let alive = |slot| system::is_locked(&files.file, system::READ, life(slot), 1).unwrap_or(true);
        let enter = |slot| system::try_lock(&files.file, system::WRITE, life(slot)).unwrap_or(false);
        let mut granted = Vec::new();
        let slot = inside(&files, |table| {
            table.join(std::process::id(), space, host, &alive, enter, &mut granted)
        })?;
        let bell = files.fifo(slot.number).map_err(broken)?;
        let own = bell.try_clone().map_err(broken)?;
        files.entered().map_err(broken)?;
        let member = Arc::new(Self {
            inner: Mutex::new(Inner {
                files,
                slot,
                waiting: Waits::default(),
                held: HashMap::new(),
                fifos: HashMap::new(),
                is_lost: false,
            }),
            tell,
            bell,
            space,
        });
        member.wake(&mut member.inner.lock(), granted);
        keeper::start(Arc::clone(&member), own).map_err(|error| {
            Error::new(Kind::Server, "the operating system refuses a thread for local locks").because(error)
        })?;
        Ok(member)
    }

    /// Whether the table was deleted, so that this member has nothing any more.
    pub fn is_lost(&self) -> bool {
        self.look(&mut self.inner.lock()).is_err()
    }

    /// Asks for a lock. `who` names the request; a grant that comes later is told.
    pub fn request(&self, id: &str, hash: &Hash, mode: Mode, attempt: Attempt, who: &Who) -> Result<Outcome> {
        let mut inner = self.inner.lock();
        let answer = self.act(&mut inner, |table, inner, alive, granted| {
            let slot = inner.slot.number;
            table.request(
                &Ask {
                    id,
                    hash,
                    slot,
                    mode,
                    attempt,
                    who,
                },
                alive,
                granted,
            )
        })?;
        let name = (who.environment, who.number);
        match answer {
            Outcome::Granted(ticket, _) => drop(inner.held.insert(name, ticket)),
            Outcome::Queued(ticket) => {
                if inner.waiting.add(name, ticket, *hash) {
                    system::ring(&self.bell);
                }
            }
            Outcome::Busy => {}
        }
        Ok(answer)
    }

    /// Ends a hold. The error says that it is no hold any more, or that the table cannot be used.
    pub fn release(&self, environment: u32, number: u32) -> Result<()> {
        self.release_in(&mut self.inner.lock(), (environment, number))
    }

    fn release_in(&self, inner: &mut Inner, name: Name) -> Result<()> {
        self.look(inner).map_err(|_| lost())?;
        let ticket = inner.held.remove(&name).ok_or_else(lost)?;
        match self.act(inner, |table, inner, _, granted| {
            table.release(ticket, inner.slot.number, granted)
        })? {
            true => Ok(()),
            false => Err(lost()),
        }
    }

    /// Withdraws a request, also if it was granted in the meantime.
    pub fn cancel(&self, environment: u32, number: u32) {
        self.cancel_in(&mut self.inner.lock(), (environment, number));
    }

    fn cancel_in(&self, inner: &mut Inner, name: Name) {
        if let Some(ticket) = inner.waiting.remove(name) {
            let cancelled = self.act(inner, |table, inner, _, granted| {
                table.cancel(ticket, inner.slot.number, granted)
            });
            if cancelled != Ok(Cancelled::AlreadyGranted) {
                return;
            }
            inner.held.insert(name, ticket);
        }
        let _ = self.release_in(inner, name);
    }

    /// Ends all requests of a thread, those that wait first.
    pub fn environment_gone(&self, environment: u32) {
        let mut inner = self.inner.lock();
        let waiting = inner.waiting.of_environment(environment);
        let held: Vec<Name> = inner
            .held
            .keys()
            .filter(|name| name.0 == environment)
            .copied()
            .collect();
        for name in waiting.into_iter().chain(held) {
            self.cancel_in(&mut inner, name);
        }
    }

    /// Whether this is a hold.
    pub fn is_held(&self, environment: u32, number: u32) -> bool {
        let mut inner = self.inner.lock();
        self.look(&mut inner).is_ok() && inner.held.contains_key(&(environment, number))
    }

    /// Holders and waiters of a lock.
    pub fn snapshot(&self, hash: &Hash) -> Result<Crowd> {
        self.act(&mut self.inner.lock(), |table, _, alive, granted| {
            table.sweep(hash, alive, granted)?;
            table.snapshot(hash)
        })
    }

    /// The same of all locks, with their ids.
    pub fn snapshots(&self) -> Result<Vec<(String, Crowd)>> {
        self.act(&mut self.inner.lock(), |table, _, alive, granted| {
            table.sweep_all(alive, granted)?;
            table.snapshots()
        })
    }

    /// The keeper's round: hears of grants, and, if it is to sweep, ends the requests of dead processes before ours. `None` once the table is lost.
    pub(super) fn attend(&self, sweep: bool) -> Option<Attended> {
        let mut inner = self.inner.lock();
        self.look(&mut inner).ok()?;
        if inner.waiting.is_empty() {
            return Some(Attended::default());
        }
        let unseen = inner.waiting.unseen();
        let seen = self.act(&mut inner, |table, inner, alive, granted| {
            let Inner { slot, waiting, .. } = inner;
            let mut before = HashSet::new();
            for hash in waiting.locks().filter(|hash| sweep || unseen.contains(*hash)) {
                if sweep {
                    table.sweep(hash, alive, granted)?;
                }
                let processes = table.processes(hash)?;
                before.extend(processes.into_iter().filter(|process| process.slot != *slot));
            }
            let held = waiting.granted(|ticket| table.state(ticket, slot.number))?;
            Ok((before, held))
        });
        // A table that cannot be used now is looked at again.
        let is_complete = sweep && seen.is_ok();
        let (before, held) = seen.unwrap_or_default();
        for (name, token) in held {
            self.grant(&mut inner, name, token);
        }
        Some(Attended {
            before: before.into_iter().collect(),
            is_complete,
            is_waiting: !inner.waiting.is_empty(),
        })
    }

    pub(super) fn space(&self) -> u64 {
        self.space
    }

    /// The path of the table.
    pub fn path(&self) -> std::path::PathBuf {
        self.inner.lock().files.path()
    }

    /// The paths whose end is the end of the table.
    pub(super) fn paths(&self) -> [std::path::PathBuf; 2] {
        let inner = self.inner.lock();
        [inner.files.path(), inner.files.folder.clone()]
    }

    /// Changes the table, and tells those who are granted by it.
    fn act<R>(
        &self,
        inner: &mut Inner,
        act: impl FnOnce(&Table, &Inner, Alive, &mut Vec<Grant>) -> memory::Result<R>,
    ) -> Result<R> {
        self.look(inner)?;
        let mut granted = Vec::new();
        let ours = &*inner;
        let Inner { files, slot, .. } = ours;
        let alive =
            |other| other == *slot || system::is_locked(&files.file, system::READ, life(other), 1).unwrap_or(true);
        let result = inside(files, |table| act(table, ours, &alive, &mut granted));
        self.wake(inner, granted);
        result
    }

    fn wake(&self, inner: &mut Inner, granted: Vec<Grant>) {
        let mut others = HashSet::new();
        for grant in granted {
            if grant.slot == inner.slot.number {
                self.grant(inner, (grant.environment, grant.number), grant.token);
            } else {
                others.insert(grant.slot);
            }
        }
        for slot in others {
            if inner.fifos.len() >= FIFOS {
                inner.fifos.clear();
            }
            if !inner.fifos.contains_key(&slot)
                && let Ok(fifo) = inner.files.fifo(slot)
            {
                inner.fifos.insert(slot, fifo);
            }
            if let Some(fifo) = inner.fifos.get(&slot) {
                system::ring(fifo);
            }
        }
    }

    /// The table says that a wait is a hold; told once.
    fn grant(&self, inner: &mut Inner, name: Name, token: Token) {
        if let Some(ticket) = inner.waiting.remove(name) {
            inner.held.insert(name, ticket);
            self.tell.granted(name.0, name.1, token.0);
        }
    }

    /// Finds out whether the table is still that of its folder. If not, all is lost, because others begin a new one there.
    fn look(&self, inner: &mut Inner) -> Result<()> {
        if !inner.is_lost && inner.files.are_in_place() {
            return Ok(());
        }
        let path = inner.files.path();
        let deleted = || Error::new(Kind::Server, format!("lock table {} was deleted", path.display()));
        if !inner.is_lost {
            inner.is_lost = true;
            for ((environment, number), _) in inner.held.drain() {
                self.tell.lost(environment, number, lost());
            }
            for (environment, number) in inner.waiting.take() {
                self.tell.failed(environment, number, deleted());
            }
            // Whoever still sees the table by another path takes this process for dead.
            let _ = system::lock(&inner.files.file, system::NONE, life(inner.slot));
        }
        Err(deleted())
    }
}

fn lost() -> Error {
    Error::new(Kind::LockLost, "the lock was lost: its lock table was deleted")
}
