//! What this process knows of its own asks: enough to undo each of them, and no more than the server would confirm.

use super::fault::Fault;
use super::http::Link;
use super::session::{Behavior, Terms};
use super::txn::Outcome;
use crate::backend::Ask;
use crate::core::time::Moment;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A hold that the server has confirmed.
#[derive(Debug, Clone)]
pub struct Hold {
    pub ask: Rc<Ask>,
    pub kind: HoldKind,
    pub since: Moment,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldKind {
    /// `index` is the leader key's; `queued` tells that the ask had waited for it.
    Exclusive { index: u64, queued: bool },
    /// `index` is the reader key's; `group` is the session that has the leader key locked.
    Shared { index: u64, group: String },
}

impl HoldKind {
    pub fn token(&self) -> u64 {
        match self {
            Self::Exclusive { index, .. } | Self::Shared { index, .. } => *index,
        }
    }

    pub fn group(&self) -> Option<&str> {
        match self {
            Self::Exclusive { .. } => None,
            Self::Shared { group, .. } => Some(group),
        }
    }
}

/// The traces of one ask.
#[derive(Debug, Default)]
pub struct Trace {
    /// Held while a request that writes is under way, also when nobody waits for its answer any more.
    writing: Arc<Mutex<()>>,
    /// A request that writes got no answer, and may still take effect.
    doubtful: Cell<bool>,
    hold: RefCell<Option<Hold>>,
    /// Its release is under way, and how that goes says what became of the hold.
    pub leaving: Cell<bool>,
    /// A session that was made to lock a leader key for readers, while it is not known whether it does.
    pub group: RefCell<Option<String>>,
}

impl Trace {
    pub fn hold(&self) -> Option<Hold> {
        self.hold.borrow().clone()
    }

    pub fn kind(&self) -> Option<HoldKind> {
        self.hold.borrow().as_ref().map(|hold| hold.kind.clone())
    }

    pub fn note(&self, hold: Hold) {
        *self.hold.borrow_mut() = Some(hold);
    }

    /// The hold is over. Returns whether it was not before.
    pub fn end_hold(&self) -> bool {
        self.hold.borrow_mut().take().is_some()
    }

    /// Sends a transaction that runs to its end even if the future is dropped, and so does `afterwards`, unless it is refused.
    pub async fn write(
        self: &Rc<Self>,
        link: &Rc<Link>,
        exchange: impl Future<Output = Result<Outcome, Fault>> + 'static,
        afterwards: impl FnOnce() + 'static,
    ) -> Result<Outcome, Fault> {
        let trace = self.clone();
        self.finish(link, async move {
            let answer = exchange.await;
            if matches!(&answer, Err(fault) if fault.unanswered) {
                trace.doubtful.set(true);
            }
            if matches!(&answer, Ok(Outcome::Done(_))) {
                afterwards();
            }
            answer
        })
        .await
    }

    /// Makes a session for readers and notes it here, even if the future is dropped.
    pub async fn create_group(self: &Rc<Self>, link: &Rc<Link>, terms: &Terms) -> Result<String, Fault> {
        let (trace, sender, terms) = (self.clone(), link.clone(), terms.clone());
        self.finish(link, async move {
            let group = terms.create(&sender, Behavior::Release).await?;
            *trace.group.borrow_mut() = Some(group.clone());
            Ok(group)
        })
        .await
    }

    /// Runs an exchange to its end, alone among those of this ask, whoever waits for it.
    async fn finish<T: 'static>(
        &self,
        link: &Link,
        exchange: impl Future<Output = Result<T, Fault>> + 'static,
    ) -> Result<T, Fault> {
        let turn = self.writing.clone().lock_owned().await;
        let task = tokio::task::spawn_local(async move {
            let _turn = turn;
            exchange.await
        });
        task.await.unwrap_or_else(|error| {
            let message = format!("a request to Consul at {} was given up", link.peer.name);
            let fault = link.peer.away(message);
            Err(Fault {
                error: fault.error.because(error),
                unanswered: true,
            })
        })
    }

    /// Waits until no request of this ask is under way; then tells whether one of them may still take effect.
    pub async fn settled(&self) -> bool {
        drop(self.writing.lock().await);
        !self.doubtful.get()
    }

    /// This session does lock a leader key: it is not only noted any more.
    pub fn grouped(&self, group: &str) {
        self.group.borrow_mut().take_if(|noted| noted == group);
    }

    /// After the fence was written anew.
    pub fn certain(&self) {
        self.doubtful.set(false);
    }
}
