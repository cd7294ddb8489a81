//! What a process has with one table: its slot, and the requests of its threads.

use super::files::{self, Files, Locked};
use super::keeper;
use super::layout::LIVES;
use super::memory::{self, Fault};
use super::system;
use super::table::{Alive, Ask, Grant, Hash, Process, Seen, Slot, Table, Who};
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
type Name = (u32, u32);

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
    waiting: HashMap<Name, (Ticket, Hash)>,
    held: HashMap<Name, Ticket>,
    fifos: HashMap<u32, File>,
    /// Whether the keeper has not seen all waits yet.
    has_new_waits: bool,
    is_lost: bool,
}

/// What the keeper has to know.
pub(super) struct Attended {
    /// The processes before those of this one that wait; `None` if that was not looked at.
    pub before: Option<Vec<Process>>,
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
                waiting: HashMap::new(),
                held: HashMap::new(),
                fifos: HashMap::new(),
                has_new_waits: false,
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
    pub fn request(&self, hash: &Hash, mode: Mode, attempt: Attempt, who: &Who) -> Result<Outcome> {
        let mut inner = self.inner.lock();
        let answer = self.act(&mut inner, |table, slot, alive, granted| {
            let slot = slot.number;
            table.request(
                &Ask {
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
                inner.waiting.insert(name, (ticket, *hash));
                inner.has_new_waits = true;
                system::ring(&self.bell);
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
        let ticket = inner.held.remove(&name).ok_or_else(lost)?;
        match self.act(inner, |table, slot, _, granted| {
            table.release(ticket, slot.number, granted)
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
        if let Some((ticket, _)) = inner.waiting.remove(&name) {
            let cancelled = self.act(inner, |table, slot, _, granted| {
                table.cancel(ticket, slot.number, granted)
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
        let is_its = |name: &&Name| name.0 == environment;
        let waiting: Vec<Name> = inner.waiting.keys().filter(is_its).copied().collect();
        let held: Vec<Name> = inner.held.keys().filter(is_its).copied().collect();
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
    pub fn snapshot(&self, hash: &Hash) -> Result<(Vec<Seen>, Vec<Seen>)> {
        self.act(&mut self.inner.lock(), |table, _, alive, granted| {
            table.sweep(hash, alive, granted)?;
            table.snapshot(hash)
        })
    }

    /// The keeper's round: hears of grants, and, if it is to sweep, ends the requests of dead processes before ours. `None` once the table is lost.
    pub(super) fn attend(&self, sweep: bool) -> Option<Attended> {
        let mut inner = self.inner.lock();
        self.look(&mut inner).ok()?;
        if inner.waiting.is_empty() {
            return Some(Attended {
                before: None,
                is_waiting: false,
            });
        }
        let look = std::mem::take(&mut inner.has_new_waits) || sweep;
        let waiting: Vec<_> = inner
            .waiting
            .iter()
            .map(|(name, &(ticket, hash))| (*name, ticket, hash))
            .collect();
        let seen = self.act(&mut inner, |table, slot, alive, granted| {
            let mut before = HashSet::new();
            if look {
                for hash in waiting.iter().map(|(_, _, hash)| hash).collect::<HashSet<_>>() {
                    if sweep {
                        table.sweep(hash, alive, granted)?;
                    }
                    before.extend(
                        table
                            .processes(hash)?
                            .into_iter()
                            .filter(|process| process.slot != slot),
                    );
                }
            }
            let mut held = Vec::new();
            for &(name, ticket, _) in &waiting {
                if let Some(Some(token)) = table.state(ticket, slot.number)? {
                    held.push((name, token));
                }
            }
            Ok((before, held))
        });
        // A table that cannot be used now is looked at again.
        let before = seen.ok().map(|(before, held)| {
            for (name, token) in held {
                self.grant(&mut inner, name, token);
            }
            before.into_iter().collect()
        });
        Some(Attended {
            before: before.filter(|_| look),
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
        act: impl FnOnce(&Table, Slot, Alive, &mut Vec<Grant>) -> memory::Result<R>,
    ) -> Result<R> {
        self.look(inner)?;
        let mut granted = Vec::new();
        let Inner { files, slot, .. } = &*inner;
        let alive =
            |other| other == *slot || system::is_locked(&files.file, system::READ, life(other), 1).unwrap_or(true);
        let result = inside(files, |table| act(table, *slot, &alive, &mut granted));
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
        if let Some((ticket, _)) = inner.waiting.remove(&name) {
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
            for ((environment, number), _) in inner.waiting.drain() {
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
