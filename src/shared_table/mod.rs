//! A lock table in a file that unrelated processes of one machine map into their memory.
//!
//! The rules are those of [`core::table`](crate::core::table), and the tests compare the two. What is different:
//!
//! - **Mutex**: every look at the table and every change happens under a write lock of the kernel (`F_OFD_SETLK`) on one byte of the file. The
//!   kernel releases it when the last thread of its process has ended, so no dead process changes anything behind the back of the next one.
//! - **Undo log**: a change logs each word's old value before it writes the word ([`memory`]). Whoever enters the mutex rolls back what a dead
//!   process has left unfinished. A grant that was committed is in force; a grant that was not has never been.
//! - **Life**: each process holds a write lock on a byte of its own, which belongs to its slot and the slot's epoch. If nobody has that
//!   lock, the process is dead, and anybody may end its requests.
//! - **Wake-up**: a process that grants a request of another one writes a byte to that process's FIFO. A process that waits watches all processes
//!   that are before it ([`keeper`]); when one dies, it ends the dead one's requests. So a process that dies between its commit
//!   and its byte delays nobody.
//!
//! Memory that others can write is not trusted: each index read from it is checked, and each loop has an end.

mod files;
mod keeper;
mod layout;
mod lists;
mod looks;
mod member;
mod memory;
mod places;
mod system;
mod table;
mod waits;

pub use member::{Member, Tell, hash};
pub use system::effective_user;
pub use table::{Crowd, Hash, Seen, Who};

#[cfg(test)]
mod tests;
