//! The asks of this process that wait, and what wakes them.

use super::answer::{Micros, Place, Standing};
use crate::backend::{Owner, Taken};
use crate::clock;
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
    /// What weighs less never displaces what weighs more: a grant is not asked about, and who has to ask learns the rest by that.
    fn weight(self) -> u8 {
        match self {
            Wake::Granted { .. } | Wake::Found(_) => 2,
            Wake::Again => 1,
            Wake::Moved(_) | Wake::Stands(..) => 0,
        }
    }
}

/// Where a waiter is told; of news of one weight the latest wins.
#[derive(Debug, Default)]
pub(super) struct Bell {
    news: Cell<Option<Wake>>,
    /// When it last heard that it had moved.
    moved: Cell<Option<Moment>>,
    rung: Notify,
}

impl Bell {
    pub fn ring(&self, wake: Wake) {
        match wake {
            Wake::Moved(_) => self.moved.set(Some(clock::now())),
            // The answer of a renewal comes by another connection, and may be from before the move.
            Wake::Stands(_, sent) if self.moved.get().is_some_and(|moved| sent <= moved) => return,
            _ => {}
        }
        if self.news.get().is_none_or(|news| news.weight() <= wake.weight()) {
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

#[cfg(test)]
mod tests {
    use super::{Bell, Wake};
    use crate::backend::Taken;
    use crate::backend::redis::answer::Place;
    use crate::clock;
    use std::time::Duration;

    fn place(first: bool) -> Place {
        Place {
            first,
            foreign: false,
            left: Some(Duration::from_secs(9)),
        }
    }

    fn heard(rings: &[Wake]) -> Option<Wake> {
        let bell = Bell::default();
        for wake in rings {
            bell.ring(*wake);
        }
        bell.news.take()
    }

    #[test]
    fn what_has_to_be_asked_is_not_displaced_by_a_place_nor_a_grant_by_either() {
        let now = clock::now();
        let taken = Taken {
            token: None,
            leased_at: now,
        };
        let (again, found) = (Wake::Again, Wake::Found(taken));
        for less in [Wake::Moved(place(true)), Wake::Stands(place(false), now)] {
            assert_eq!(heard(&[again, less]), Some(again));
            assert_eq!(heard(&[less, again]), Some(again));
            assert_eq!(heard(&[again, found, less]), Some(found));
        }
        assert_eq!(heard(&[found, again]), Some(found));
    }

    #[test]
    fn a_renewal_that_was_sent_before_a_move_does_not_undo_it() {
        let before = clock::now();
        let moved = Wake::Moved(place(true));
        assert_eq!(heard(&[moved, Wake::Stands(place(false), before)]), Some(moved));
        let after = clock::now() + Duration::from_secs(1);
        let stands = Wake::Stands(place(false), after);
        assert_eq!(heard(&[moved, stands]), Some(stands));
    }

    #[test]
    fn a_move_that_was_heard_already_is_not_undone_either() {
        let bell = Bell::default();
        let before = clock::now();
        bell.ring(Wake::Moved(place(true)));
        bell.news.take();
        bell.ring(Wake::Stands(place(false), before));
        assert_eq!(bell.news.take(), None);
    }
}
