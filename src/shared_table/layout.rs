//! Where everything is in the file, in words of 32 bits. Whoever changes anything here gives the layout another number.

/// The number of this layout.
pub const LAYOUT: u32 = 2;
/// How a table begins.
pub const MAGIC: u32 = 0x784d_4c31;

pub const HEADER_MAGIC: usize = 0;
pub const HEADER_LAYOUT: usize = 1;
/// Two words, as all that is called a token.
pub const LAST_TOKEN: usize = 6;
pub const UNDO_COUNT: usize = 8;
/// First free record, and how many records have been used at all.
pub const REQUEST_FREE: usize = 9;
pub const REQUEST_HIGH: usize = 10;
pub const PLACE_FREE: usize = 11;
pub const PLACE_HIGH: usize = 12;
pub const LAST_EPOCH: usize = 13;
pub const TEXT_FREE: usize = 14;
pub const TEXT_HIGH: usize = 15;

pub const UNDO: usize = 1024;
pub const UNDO_CAPACITY: usize = 4096;

/// One per process: numbers from 1 to `SLOT_COUNT`.
pub const SLOTS: usize = 16 * 1024;
pub const SLOT_COUNT: u32 = 1024;
pub const SLOT_WORDS: usize = 32;
/// 0 in a free slot.
pub const SLOT_EPOCH: usize = 0;
pub const SLOT_PID: usize = 1;
/// The number of the process's pid namespace.
pub const SLOT_SPACE: usize = 2;
/// First and last request.
pub const SLOT_REQUESTS: usize = 4;
pub const SLOT_HOST: usize = 6;
pub const HOST_BYTES: usize = 64;

/// The places of all ids with the same hash, in a chain.
pub const BUCKETS: usize = SLOTS + SLOT_COUNT as usize * SLOT_WORDS;
pub const BUCKET_COUNT: usize = 4096;

/// What is there from the beginning; the records grow behind it.
pub const FIXED_WORDS: usize = 64 * 1024;

/// One per id that is held or waited for.
pub const PLACES: usize = FIXED_WORDS;
pub const PLACE_COUNT: u32 = 32 * 1024;
pub const PLACE_WORDS: usize = 16;
/// The next one in the bucket, or in the list of free ones.
pub const PLACE_NEXT: usize = 0;
pub const PLACE_HOLDERS: usize = 1;
pub const PLACE_WAITERS: usize = 3;
/// The text of its id: length, and first record.
pub const PLACE_ID_BYTES: usize = 5;
pub const PLACE_ID: usize = 6;
/// No id is longer.
pub const ID_BYTES: usize = 4096;
pub const PLACE_HASH: usize = 8;
pub const HASH_WORDS: usize = 8;

/// One per hold and wait.
pub const REQUESTS: usize = PLACES + PLACE_COUNT as usize * PLACE_WORDS;
pub const REQUEST_COUNT: u32 = 64 * 1024;
pub const REQUEST_WORDS: usize = 32;
pub const REQUEST_GENERATION: usize = 0;
/// 0 in a free record.
pub const REQUEST_SLOT: usize = 1;
/// The names that the process itself has for it.
pub const REQUEST_ENVIRONMENT: usize = 2;
pub const REQUEST_NUMBER: usize = 3;
pub const REQUEST_MODE: usize = 4;
/// 0 while it waits.
pub const REQUEST_HELD: usize = 5;
pub const REQUEST_TOKEN: usize = 6;
pub const REQUEST_PLACE: usize = 8;
/// Previous and next in the place's list of holders or waiters.
pub const REQUEST_IN_PLACE: usize = 9;
/// Previous and next in the slot's list; the second one also in the list of free ones.
pub const REQUEST_IN_SLOT: usize = 11;
pub const REQUEST_SINCE: usize = 13;
pub const REQUEST_THREAD: usize = 15;
pub const REQUEST_LABEL: usize = 16;
pub const LABEL_BYTES: usize = 60;

/// The ids of the places, in pieces.
pub const TEXTS: usize = REQUESTS + REQUEST_COUNT as usize * REQUEST_WORDS;
pub const TEXT_COUNT: u32 = 64 * 1024;
pub const TEXT_WORDS: usize = 16;
/// The next piece, or the next free one.
pub const TEXT_NEXT: usize = 0;
pub const TEXT_BYTES: usize = (TEXT_WORDS - 1) * 4;

pub const WORDS: usize = TEXTS + TEXT_COUNT as usize * TEXT_WORDS;
pub const BYTES: usize = WORDS * 4;

/// Disk space is asked for in pieces of this size.
pub const PIECE_BYTES: usize = 16 * 1024;

/// Bytes of the file that are never there, for locks: those of the members' lives, and the table's mutex.
pub const LIVES: u64 = 1 << 32;
pub const MUTEX: u64 = 1 << 60;

pub const SHARED: u32 = 1;
pub const EXCLUSIVE: u32 = 2;
