//! Records, their free lists, and the doubly linked lists that requests are in.

use super::layout::*;
use super::memory::{Fault, Memory, Result};

/// A list of requests: the word of its first member, which that of the last one follows, and where its links are in a request.
#[derive(Clone, Copy)]
pub struct List {
    pub ends: usize,
    pub links: usize,
}

/// A kind of record that is handed out and comes back.
#[derive(Clone, Copy)]
pub struct Kind {
    free: usize,
    high: usize,
    base: usize,
    words: usize,
    count: u32,
    link: usize,
}

pub const PLACE: Kind = Kind {
    free: PLACE_FREE,
    high: PLACE_HIGH,
    base: PLACES,
    words: PLACE_WORDS,
    count: PLACE_COUNT,
    link: PLACE_NEXT,
};

pub const REQUEST: Kind = Kind {
    free: REQUEST_FREE,
    high: REQUEST_HIGH,
    base: REQUESTS,
    words: REQUEST_WORDS,
    count: REQUEST_COUNT,
    link: REQUEST_IN_SLOT + 1,
};

pub const TEXT: Kind = Kind {
    free: TEXT_FREE,
    high: TEXT_HIGH,
    base: TEXTS,
    words: TEXT_WORDS,
    count: TEXT_COUNT,
    link: TEXT_NEXT,
};

/// Asks the file system for room: first byte and length.
pub type Reserve = Box<dyn Fn(usize, usize) -> bool + Send + Sync>;

impl Memory {
    /// The first word of a record whose number comes from the memory.
    pub fn record(&self, kind: Kind, number: u32) -> Result<usize> {
        if number == 0 || number > kind.count || number > self.load(kind.high)? {
            return Err(Fault::Damaged);
        }
        Ok(kind.base + (number as usize - 1) * kind.words)
    }

    /// A free record: its number.
    pub fn take(&self, kind: Kind, reserve: &Reserve) -> Result<u32> {
        let free = self.load(kind.free)?;
        if free != 0 {
            let at = self.record(kind, free)?;
            self.store(kind.free, self.load(at + kind.link)?)?;
            return Ok(free);
        }
        let high = self.load(kind.high)?;
        if high >= kind.count {
            return Err(Fault::Full);
        }
        let byte = (kind.base + high as usize * kind.words) * 4;
        // A write to a page that the file system has no room for would kill the process.
        if byte.is_multiple_of(PIECE_BYTES) && !reserve(byte, PIECE_BYTES) {
            return Err(Fault::NoSpace);
        }
        self.store(kind.high, high + 1)?;
        Ok(high + 1)
    }

    pub fn give_back(&self, kind: Kind, number: u32) -> Result<()> {
        let at = self.record(kind, number)?;
        self.store(at + kind.link, self.load(kind.free)?)?;
        self.store(kind.free, number)
    }

    pub fn push_back(&self, list: List, number: u32) -> Result<()> {
        let links = self.record(REQUEST, number)? + list.links;
        let last = self.load(list.ends + 1)?;
        self.store(links, last)?;
        self.store(links + 1, 0)?;
        match last {
            0 => self.store(list.ends, number)?,
            last => self.store(self.record(REQUEST, last)? + list.links + 1, number)?,
        }
        self.store(list.ends + 1, number)
    }

    pub fn remove(&self, list: List, number: u32) -> Result<()> {
        let links = self.record(REQUEST, number)? + list.links;
        let (before, after) = (self.load(links)?, self.load(links + 1)?);
        let to_it = match before {
            0 => list.ends,
            before => self.record(REQUEST, before)? + list.links + 1,
        };
        let back_to_it = match after {
            0 => list.ends + 1,
            after => self.record(REQUEST, after)? + list.links,
        };
        // Who takes the first member again and again would never end if it stayed the first.
        if self.load(to_it)? != number || self.load(back_to_it)? != number {
            return Err(Fault::Damaged);
        }
        self.store(to_it, after)?;
        self.store(back_to_it, before)
    }

    /// All members, in order.
    pub fn members(&self, list: List) -> Result<Vec<u32>> {
        let mut members = Vec::new();
        let mut at = self.load(list.ends)?;
        while at != 0 {
            if members.len() >= REQUEST_COUNT as usize {
                return Err(Fault::Damaged);
            }
            members.push(at);
            at = self.load(self.record(REQUEST, at)? + list.links + 1)?;
        }
        Ok(members)
    }

    /// Text of at most `bytes` bytes: its length, and then the bytes.
    pub fn store_text(&self, at: usize, bytes: usize, text: &str) -> Result<()> {
        let mut end = text.len().min(bytes);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.store(at, end as u32)?;
        self.store_bytes(at + 1, &text.as_bytes()[..end])
    }

    pub fn load_text(&self, at: usize, bytes: usize) -> Result<String> {
        let length = (self.load(at)? as usize).min(bytes);
        Ok(String::from_utf8_lossy(&self.load_bytes(at + 1, length)?).into_owned())
    }

    pub fn store_bytes(&self, at: usize, bytes: &[u8]) -> Result<()> {
        for (number, four) in bytes.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..four.len()].copy_from_slice(four);
            self.store(at + number, u32::from_le_bytes(word))?;
        }
        Ok(())
    }

    pub fn load_bytes(&self, at: usize, length: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length + 3);
        for number in 0..length.div_ceil(4) {
            bytes.extend(self.load(at + number)?.to_le_bytes());
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}
