//! The asks of this process that wait, and what wakes them.

use super::answer::{Micros, Place, Standing};
use crate::backend::{Owner, Taken};
use crate::core::time::Moment;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Notify;

/// Why a waiter wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// The lock was handed to it, in answer to the question that the server calls `asked`.
    Granted { token: Option<u64>, asked: Micros },
    /// A renewal found that it has the lock.
    Found(Taken),
    /// What it knew may no longer be true: ask the server again.
    Again,
    /// It stands differently in the queue.
    Moved(Place),
    /// A renewal that was sent then has found it in the queue.
    Stands(Place, Moment),
}

impl Wake {
    fn is_grant(self) -> bool {
        matches!(self, Wake::Granted { .. } | Wake::Found(_))
    }
}

/// Where a waiter is told; the latest news wins, but nothing displaces a grant except a newer one.
#[derive(Debug, Default)]
pub(super) struct Bell {
    news: Cell<Option<Wake>>,
    rung: Notify,
}

impl Bell {
    pub fn ring(&self, wake: Wake) {
        let keep = self.news.get().is_some_and(Wake::is_grant) && !wake.is_grant();
        if !keep {
            self.news.set(Some(wake));
        }
        self.rung.notify_one();
    }

    /// Resolves with the next news.
    pub async fn heard(&self) -> Wake {
        loop {
            if let Some(wake) = self.news.take() {
                return wake;
            }
            self.rung.notified().await;
        }
    }
}

/// All waiters, by owner. A waiter is in here from before its first question until its `acquire` ends or is dropped.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    bells: RefCell<HashMap<Arc<str>, Rc<Bell>>>,
}

impl Waiting {
    pub fn enter(self: &Rc<Self>, owner: &Owner) -> Seat {
        let bell = Rc::new(Bell::default());
        self.bells.borrow_mut().insert(owner.0.clone(), bell.clone());
        Seat {
            waiting: self.clone(),
            owner: owner.clone(),
            bell,
        }
    }

    pub fn ring(&self, owner: &str, wake: Wake) {
        let bell = self.bells.borrow().get(owner).cloned();
        if let Some(bell) = bell {
            bell.ring(wake);
        }
    }

    pub fn ring_all(&self, wake: Wake) {
        for bell in self.bells.borrow().values() {
            bell.ring(wake);
        }
    }

    /// Tells a waiter what a renewal that was sent at `sent` found out about it.
    pub fn inform(&self, owner: &Owner, standing: Standing, sent: Moment) {
        let wake = match standing {
            Standing::Held { token } => Wake::Found(Taken { token, leased_at: sent }),
            Standing::Queued(place) => Wake::Stands(place, sent),
            Standing::Busy | Standing::Gone => Wake::Again,
        };
        self.ring(&owner.0, wake);
    }
}

/// A waiter's entry; leaving is dropping it.
pub(super) struct Seat {
    waiting: Rc<Waiting>,
    owner: Owner,
    pub bell: Rc<Bell>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut bells = self.waiting.bells.borrow_mut();
        if bells
            .get(&self.owner.0)
            .is_some_and(|bell| Rc::ptr_eq(bell, &self.bell))
        {
            bells.remove(&self.owner.0);
        }
    }
}
