//! The lock table: a state machine without I/O, clock, threads, randomness or environment.

mod answer;
pub mod attempt;
pub mod ids;
pub mod lease;
mod locks;
pub mod mode;
mod owners;
mod queue;
mod request;
mod slab;
pub(crate) mod spread;
pub mod table;
pub mod time;
