//! How much a request insists.

/// Whether to wait when the lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// Take a place in the queue and wait as long as it takes.
    Wait,
    /// Say so at once, and leave no trace.
    Try,
    /// Take it from whoever has it, before all who wait. Not for the lock table's own requests, which have
    /// [`steal`](super::table::Table::steal).
    Steal,
}
