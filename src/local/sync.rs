//! Where atomics and mutex come from: the system's, or loom's, which tries every interleaving.

#[cfg(not(loom))]
mod real {
    pub use parking_lot::Mutex;
    pub use std::sync::atomic::{AtomicU32, Ordering};
}

#[cfg(loom)]
mod real {
    pub use loom::sync::atomic::{AtomicU32, Ordering};

    /// loom's mutex in the words of parking_lot's.
    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("only a panicking test poisons it")
        }
    }
}

pub use real::*;
