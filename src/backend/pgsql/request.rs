//! One ask of the runtime from its first `acquire` to its last `release`, and where in its life it is.

use super::key::Key;
use super::main_session::Main;
use super::session::Session;
use crate::backend::{Ask, Refusal, Released, Taken};
use crate::clock;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::sync::{Notify, mpsc};

/// The steps of a request.
#[derive(Debug, Clone)]
pub enum Phase {
    /// On its way to the server, waiting there, or waiting for its token.
    Asking,
    Held(Taken),
    /// This process has nothing of it at the server, but for sessions that were left behind.
    Refused(Refusal),
    /// The lock is being given back.
    Freeing,
    Over(Released),
    /// The session that held it has ended.
    Lost,
}

/// Where a lock is held, since the server granted it.
pub struct Hold {
    pub session: Rc<Session>,
    pub place: Place,
    /// Milliseconds since 1970.
    pub since: u64,
    pub token: Cell<Option<u64>>,
}

/// Which kind of session holds it.
#[derive(Clone)]
pub enum Place {
    /// The session that all uncontended locks share.
    Main(Main),
    /// The session on which the lock was waited for, alone or together with other readers, of whom so many are left.
    Own(Rc<Cell<u32>>),
}

/// A wait in the server's queue, which several readers may share.
#[derive(Default)]
pub struct Wait {
    /// The process id of the server's session that waits, once there is one.
    pub pid: Cell<Option<i32>>,
    /// Somebody wants to leave.
    pub stirred: Notify,
}

pub struct Request {
    pub ask: Rc<Ask>,
    pub key: Key,
    phase: RefCell<Phase>,
    news: Notify,
    pub hold: RefCell<Option<Hold>>,
    /// The wait that it takes part in.
    pub wait: RefCell<Rc<Wait>>,
    withdrawn: Cell<bool>,
}

impl Request {
    pub fn new(ask: Rc<Ask>, key: Key) -> Rc<Self> {
        Rc::new(Self {
            key,
            ask,
            phase: RefCell::new(Phase::Asking),
            news: Notify::new(),
            hold: RefCell::default(),
            wait: RefCell::default(),
            withdrawn: Cell::new(false),
        })
    }

    pub fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// The next step is taken.
    pub fn enters(&self, phase: Phase) {
        self.phase.replace(phase);
        self.news.notify_waiters();
    }

    /// Resolves with the first phase that is not `left`.
    pub async fn leaves(&self, left: impl Fn(&Phase) -> bool) -> Phase {
        loop {
            let news = self.news.notified();
            if !left(&self.phase.borrow()) {
                return self.phase();
            }
            news.await;
        }
    }

    /// The server has granted the lock to `session`.
    pub fn holds(&self, session: &Rc<Session>, place: Place) {
        self.hold.replace(Some(Hold {
            session: session.clone(),
            place,
            since: clock::wall_ms(),
            token: Cell::new(None),
        }));
    }

    /// The session that holds the lock, if there is one.
    pub fn session(&self) -> Option<Rc<Session>> {
        self.hold.borrow().as_ref().map(|hold| hold.session.clone())
    }

    /// Ends the wait, if there is one.
    pub fn withdraw(&self) {
        self.withdrawn.set(true);
        self.wait.borrow().stirred.notify_one();
    }

    /// Resolves when the wait is to end.
    pub async fn withdrawal(&self) {
        let wait = self.wait.borrow().clone();
        while !self.is_withdrawn() {
            wait.stirred.notified().await;
        }
    }

    /// Whether the wait is to end.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.get()
    }
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Carries on with work whose caller went away: a statement was sent, and somebody has to hear the answer.
///
/// Whoever waits drives the work himself, so that the common case needs no task; what he leaves undone, a task goes on with.
pub struct Completion(mpsc::UnboundedSender<Work>);

impl Completion {
    pub fn new() -> Self {
        let (sender, mut left) = mpsc::unbounded_channel::<Work>();
        tokio::task::spawn_local(async move {
            while let Some(work) = left.recv().await {
                tokio::task::spawn_local(work);
            }
        });
        Self(sender)
    }

    /// Resolves when the work is done, which begins with the first poll. Dropping it does not end the work.
    pub fn of(&self, work: impl Future<Output = ()> + 'static) -> Completing {
        Completing {
            work: Some(Box::pin(work)),
            left: self.0.clone(),
        }
    }
}

pub struct Completing {
    work: Option<Work>,
    left: mpsc::UnboundedSender<Work>,
}

impl Future for Completing {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let done = self.work.as_mut().is_none_or(|work| work.as_mut().poll(cx).is_ready());
        if !done {
            return Poll::Pending;
        }
        self.work = None;
        Poll::Ready(())
    }
}

impl Drop for Completing {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // Nobody is left to take it only when the thread's runtime has ended, and with it everything.
            let _ = self.left.send(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::sync::Notify;
    use tokio::task::LocalSet;

    #[test]
    fn work_ends_with_and_without_the_one_who_waits_for_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let completion = Completion::new();
            let (go, done, told) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)), Rc::new(Notify::new()));
            let work = || {
                let (go, done, told) = (go.clone(), done.clone(), told.clone());
                completion.of(async move {
                    go.notified().await;
                    done.set(done.get() + 1);
                    told.notify_one();
                })
            };
            go.notify_one();
            work().await;
            assert_eq!(done.get(), 1);
            told.notified().await;
            // One that was polled and one that never was.
            let mut left = work();
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut left).poll(cx).is_pending())).await;
            drop((left, work()));
            assert_eq!(done.get(), 1);
            for _ in 0..2 {
                go.notify_one();
                told.notified().await;
            }
            assert_eq!(done.get(), 3);
        });
    }
}
