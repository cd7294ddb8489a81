//! How many connections of one kind may be in use at a time, and fewer of them while the server has none left to give.
//!
//! Consul counts the connections of a machine, whatever program they belong to, and refuses everybody once there are too many. A
//! process knows nothing of the others, only that it was refused: then it uses half as many as before, and one more now and then.

use crate::clock;
use crate::core::time::Moment;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// As many are always allowed.
const LEAST: usize = 2;
/// How often one more is allowed.
const RECOVERY: Duration = Duration::from_secs(20);
/// Refusals that come together count as one.
const TOGETHER: Duration = Duration::from_secs(2);

pub struct Turns {
    semaphore: Arc<Semaphore>,
    most: usize,
    allowed: Cell<usize>,
    changed: Cell<Moment>,
}

impl Turns {
    pub fn new(most: usize) -> Self {
        Self {
            semaphore: Arc::new(Semaphore::new(most)),
            most,
            allowed: Cell::new(most),
            changed: Cell::new(Moment(0)),
        }
    }

    /// Resolves when one may be used, for as long as the permit lives.
    pub async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        self.widen();
        self.semaphore.clone().acquire_owned().await.ok()
    }

    /// Whether at least half of them are free.
    pub fn are_plenty(&self) -> bool {
        self.semaphore.available_permits() >= self.allowed.get() / 2
    }

    fn widen(&self) {
        let now = clock::now();
        if self.allowed.get() < self.most && now.since(self.changed.get()) >= RECOVERY {
            self.changed.set(now);
            self.allowed.set(self.allowed.get() + 1);
            self.semaphore.add_permits(1);
        }
    }

    /// The server has refused a connection.
    pub fn narrow(&self) {
        let now = clock::now();
        let allowed = (self.allowed.get() / 2).max(LEAST);
        let surplus = self.allowed.get().saturating_sub(allowed);
        if surplus == 0 || (self.allowed.get() < self.most && now.since(self.changed.get()) < TOGETHER) {
            return;
        }
        self.changed.set(now);
        self.allowed.set(allowed);
        let in_use = surplus - self.semaphore.forget_permits(surplus);
        for _ in 0..in_use {
            let semaphore = self.semaphore.clone();
            tokio::task::spawn_local(async move {
                if let Ok(permit) = semaphore.acquire_owned().await {
                    permit.forget();
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use tokio::task::{LocalSet, yield_now};

    fn run<F: Future<Output = ()>>(test: impl FnOnce(Rc<Turns>) -> F) {
        clock::stop_at(Moment(1_000_000_000_000));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, test(Rc::new(Turns::new(16))));
    }

    fn pass(span: Duration) {
        clock::stop_at(clock::now() + span);
    }

    /// How many can be used now.
    async fn count(turns: &Rc<Turns>) -> usize {
        for _ in 0..50 {
            yield_now().await;
        }
        let mut permits = Vec::new();
        while turns.semaphore.available_permits() > 0 {
            permits.push(turns.turn().await);
        }
        permits.len()
    }

    #[test]
    fn each_refusal_halves_them_and_those_that_come_together_are_one() {
        run(|turns| async move {
            for expected in [8, 4, 2, 2] {
                for _ in 0..5 {
                    turns.narrow();
                }
                assert_eq!(count(&turns).await, expected);
                pass(TOGETHER);
            }
        });
    }

    #[test]
    fn those_in_use_are_taken_away_when_they_are_given_back() {
        run(|turns| async move {
            let mut used = Vec::new();
            for _ in 0..16 {
                used.push(turns.turn().await);
            }
            turns.narrow();
            assert!(turns.semaphore.available_permits() == 0);
            used.truncate(10);
            assert_eq!(count(&turns).await, 0);
            used.clear();
            assert_eq!(count(&turns).await, 8);
        });
    }

    #[test]
    fn they_come_back_one_by_one() {
        run(|turns| async move {
            turns.narrow();
            for expected in 9..=16 {
                pass(RECOVERY);
                assert_eq!(count(&turns).await, expected);
            }
            pass(RECOVERY);
            assert_eq!(count(&turns).await, 16);
        });
    }
}
