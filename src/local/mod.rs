//! The locks of one process: the lock table of `spm:`, and that of a cluster's primary for `mpm:`.
//!
//! Every lock has a [word](words) that JavaScript of any thread can see, so that taking and freeing a lock that nobody
//! else wants never leaves JavaScript. Everything else goes through one lock table behind one mutex ([`LocalTable`]).
//!
//! # The word
//!
//! | word | meaning |
//! |---|---|
//! | 0 | free, and the table has nobody for this lock |
//! | a [`Handle`] | held exclusively by that handle, and the table has nobody for this lock |
//! | [`words::INFLATED`] | look into the table |
//!
//! | change | by whom |
//! |---|---|
//! | 0 to handle | the handle's own thread, without the mutex: taken |
//! | handle to 0 | the handle's own thread, without the mutex: freed. Under the mutex: the handle is closed, its owner gone |
//! | 0 to `INFLATED` | under the mutex, before the table gets its first request for this lock |
//! | handle to `INFLATED` | under the mutex: the hold moves into the table, before anybody else's request |
//! | handle to `INFLATED`, hold ended | under the mutex: another request steals the lock. The thread hears of it, and asks ([`LocalTable::holds`]) before it hands on or frees what it had by the word |
//! | `INFLATED` to 0 | under the mutex, after the table has lost its last request for this lock |
//!
//! Every change is a compare-and-exchange on one word, so the two ways never both grant: who finds the word 0 and
//! changes it first has the lock or has made everybody use the table. A thread whose exchange fails has to ask
//! [`LocalTable`], which decides under the mutex. All accesses are sequentially consistent, as JavaScript's
//! `Atomics` are: what one holder wrote, the next one sees.
//!
//! # The line
//!
//! An exclusive request of a handle that finds the word to be its own need not ask the table either: JavaScript puts it into a
//! line of that handle, and a release hands the hold to the first of the line with no change to the word. That keeps the
//! order: whoever else comes turns the word into `INFLATED` first, so all who stand in the line came before, and from then
//! on nobody joins it. For the table the line is one hold, which ends when the line is empty. Only the thread of the handle
//! knows who is in the line; its length stands behind the words, for [`LocalTable::snapshot`].
//!
//! # Other processes
//!
//! The words of a cluster's table are in memory that the workers see too, with what that needs besides: see [`lent`].

pub mod deliver;
mod handles;
pub mod lent;
mod state;
mod sync;
pub mod table;
pub mod who;
pub mod words;

pub use deliver::{Deliver, Granted, Stolen};
pub use handles::Handle;
pub use table::{LocalTable, Opened, Unknown};
pub use who::{Info, Snapshot, Tag, Who};
