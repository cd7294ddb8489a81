//! Telling a machine that stood still from a program that was late.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, spawn_local};

/// How often it is looked whether time goes on.
const TICK: Duration = Duration::from_millis(10);

/// Watches, until it is dropped, for how long this thread does not get its turn, or a server its own. Where a promise is one of time, a
/// test that was stopped for longer than its margin has not seen whether it was kept.
pub struct Stalls {
    seen: Rc<Seen>,
    watching: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    longest: Cell<Duration>,
    looks: Cell<u64>,
}

impl Stalls {
    /// `probe` is something that takes no time by itself.
    pub fn watch(probe: impl AsyncFn() + 'static) -> Self {
        let seen = Rc::new(Seen::default());
        let watching = spawn_local({
            let seen = seen.clone();
            async move {
                loop {
                    let before = Instant::now();
                    tokio::time::sleep(TICK).await;
                    probe().await;
                    seen.longest.set(seen.longest.get().max(before.elapsed()));
                    seen.looks.set(seen.looks.get() + 1);
                }
            }
        });
        Self { seen, watching }
    }

    /// The longest time so far that a look took, the present one included.
    pub async fn longest(&self) -> Duration {
        let present = self.seen.looks.get();
        while self.seen.looks.get() == present {
            tokio::time::sleep(TICK).await;
        }
        self.seen.longest.get()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
