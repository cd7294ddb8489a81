//! What the table says without being changed.

use super::layout::*;
use super::lists::{PLACE, REQUEST};
use super::memory::{Fault, Result};
use super::table::{Crowd, Process, Seen, Slot};
use super::table::{Hash, Table, Who, holders, number, slot_at, waiters};
use crate::core::ids::{Ticket, Token};
use crate::core::mode::Mode;
use std::collections::HashSet;

impl Table {
    /// The processes that hold lock `hash` or wait for it, first come first.
    pub fn processes(&self, hash: &Hash) -> Result<Vec<Process>> {
        let Some(place) = self.find(hash)? else {
            return Ok(Vec::new());
        };
        let at = self.memory.record(PLACE, place)?;
        let (mut processes, mut known) = (Vec::new(), HashSet::new());
        for list in [holders(at), waiters(at)] {
            for request in self.memory.members(list)? {
                let number = self.memory.load(self.memory.record(REQUEST, request)? + REQUEST_SLOT)?;
                if known.insert(number) {
                    processes.push(self.process(number)?);
                }
            }
        }
        Ok(processes)
    }

    fn process(&self, number: u32) -> Result<Process> {
        let at = slot_at(number)?;
        let epoch = self.memory.load(at + SLOT_EPOCH)?;
        Ok(Process {
            slot: Slot { number, epoch },
            pid: self.memory.load(at + SLOT_PID)?,
            space: self.memory.load_long(at + SLOT_SPACE)?,
        })
    }

    /// The token of a slot's request if it holds; `Some(None)` if it waits, `None` if there is no such request.
    pub fn state(&self, ticket: Ticket, slot: u32) -> Result<Option<Option<Token>>> {
        let Ok(at) = self.memory.record(REQUEST, number(ticket)?) else {
            return Ok(None);
        };
        let is_current = self.memory.load(at + REQUEST_GENERATION)? == ticket.generation();
        if !is_current || self.memory.load(at + REQUEST_SLOT)? != slot || slot == 0 {
            return Ok(None);
        }
        self.token(at).map(Some)
    }

    /// Holders and waiters of lock `hash`, in order.
    pub fn snapshot(&self, hash: &Hash) -> Result<Crowd> {
        let Some(place) = self.find(hash)? else {
            return Ok((Vec::new(), Vec::new()));
        };
        self.snapshot_at(self.memory.record(PLACE, place)?)
    }

    /// The same of all locks, with their ids.
    pub fn snapshots(&self) -> Result<Vec<(String, Crowd)>> {
        let (mut all, mut count) = (Vec::new(), 0);
        for at in self.places()? {
            let seen = self.snapshot_at(at)?;
            count += seen.0.len() + seen.1.len();
            if count > REQUEST_COUNT as usize {
                return Err(Fault::Damaged);
            }
            all.push((self.id(at)?, seen));
        }
        Ok(all)
    }

    fn snapshot_at(&self, at: usize) -> Result<Crowd> {
        let seen = |list| {
            self.memory
                .members(list)?
                .into_iter()
                .map(|request| self.seen(request))
                .collect::<Result<Vec<_>>>()
        };
        Ok((seen(holders(at))?, seen(waiters(at))?))
    }

    fn seen(&self, request: u32) -> Result<Seen> {
        let memory = &self.memory;
        let at = memory.record(REQUEST, request)?;
        let slot = slot_at(memory.load(at + REQUEST_SLOT)?)?;
        Ok(Seen {
            mode: self.mode(at)?,
            token: self.token(at)?,
            pid: memory.load(slot + SLOT_PID)?,
            host: memory.load_text(slot + SLOT_HOST, HOST_BYTES)?,
            who: Who {
                environment: memory.load(at + REQUEST_ENVIRONMENT)?,
                number: memory.load(at + REQUEST_NUMBER)?,
                thread: memory.load(at + REQUEST_THREAD)?,
                label: Some(memory.load_text(at + REQUEST_LABEL, LABEL_BYTES)?).filter(|label| !label.is_empty()),
                since: memory.load_long(at + REQUEST_SINCE)?,
            },
        })
    }

    pub(super) fn mode(&self, at: usize) -> Result<Mode> {
        match self.memory.load(at + REQUEST_MODE)? {
            SHARED => Ok(Mode::Shared),
            EXCLUSIVE => Ok(Mode::Exclusive),
            _ => Err(Fault::Damaged),
        }
    }

    fn token(&self, at: usize) -> Result<Option<Token>> {
        match self.memory.load(at + REQUEST_HELD)? {
            0 => Ok(None),
            _ => Ok(Some(Token(self.memory.load_long(at + REQUEST_TOKEN)?))),
        }
    }
}
