//! What withdrawn requests may still have at the server, because clearing away has failed so far.

use crate::error::Error;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub struct Leftovers {
    by_lock: RefCell<HashMap<Arc<str>, Leftover>>,
}

struct Leftover {
    /// How many requests.
    count: usize,
    /// Why the last of them could not be cleared away.
    error: Error,
}

impl Leftovers {
    /// Why the server may still have something of this lock; `None` if it has nothing.
    pub fn of(&self, id: &str) -> Option<Error> {
        self.by_lock.borrow().get(id).map(|leftover| leftover.error.clone())
    }

    pub fn is_empty(&self) -> bool {
        self.by_lock.borrow().is_empty()
    }

    /// Clearing away has failed for one more request.
    pub fn add(&self, id: &Arc<str>, error: Error) {
        let mut by_lock = self.by_lock.borrow_mut();
        let count = by_lock.get(id).map_or(0, |leftover| leftover.count) + 1;
        by_lock.insert(id.clone(), Leftover { count, error });
    }

    /// It has succeeded for one.
    pub fn remove(&self, id: &str) {
        let mut by_lock = self.by_lock.borrow_mut();
        if let Some(leftover) = by_lock.get_mut(id) {
            leftover.count -= 1;
            if leftover.count == 0 {
                by_lock.remove(id);
            }
        }
    }
}
