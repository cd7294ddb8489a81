//! Telling a machine that stood still from a program that was late.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, spawn_local};

/// How often it is looked whether time goes on.
const TICK: Duration = Duration::from_millis(10);

/// Watches, until it is dropped, for how long this thread does not get its turn. Where a promise is one of time, a test that was stopped
/// for longer than its margin has not seen whether it was kept.
pub struct Stalls {
    longest: Rc<Cell<Duration>>,
    watching: JoinHandle<()>,
}

impl Stalls {
    pub fn watch() -> Self {
        let longest = Rc::new(Cell::new(Duration::ZERO));
        let watching = spawn_local({
            let longest = longest.clone();
            async move {
                loop {
                    let before = Instant::now();
                    tokio::time::sleep(TICK).await;
                    longest.set(longest.get().max(before.elapsed()));
                }
            }
        });
        Self { longest, watching }
    }

    /// The longest time so far between two looks. Looks once more, in case the thread goes on just now.
    pub async fn longest(&self) -> Duration {
        tokio::time::sleep(2 * TICK).await;
        self.longest.get()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
