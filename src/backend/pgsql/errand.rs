//! Work that must come to its end even if the one who waits for it goes away: a statement was sent, and somebody has to hear
//! the answer.
//!
//! Whoever waits drives the work himself, so that the common case needs no task; what he leaves undone, a task goes on with.

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Takes over what is left undone.
pub struct Heirs(mpsc::UnboundedSender<Work>);

impl Heirs {
    pub fn new() -> Self {
        let (heirs, mut left) = mpsc::unbounded_channel::<Work>();
        tokio::task::spawn_local(async move {
            while let Some(work) = left.recv().await {
                tokio::task::spawn_local(work);
            }
        });
        Self(heirs)
    }

    /// Resolves when the work is done, which begins with the first poll. Dropping it does not end the work.
    pub fn errand(&self, work: impl Future<Output = ()> + 'static) -> Errand {
        Errand {
            work: Some(Box::pin(work)),
            heirs: self.0.clone(),
        }
    }
}

pub struct Errand {
    work: Option<Work>,
    heirs: mpsc::UnboundedSender<Work>,
}

impl Future for Errand {
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

impl Drop for Errand {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            // Nobody is left to take it only when the thread's runtime has ended, and with it everything.
            let _ = self.heirs.send(work);
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
            let heirs = Heirs::new();
            let (go, done, told) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)), Rc::new(Notify::new()));
            let errand = || {
                let (go, done, told) = (go.clone(), done.clone(), told.clone());
                heirs.errand(async move {
                    go.notified().await;
                    done.set(done.get() + 1);
                    told.notify_one();
                })
            };
            go.notify_one();
            errand().await;
            assert_eq!(done.get(), 1);
            told.notified().await;
            // One that was polled and one that never was.
            let mut left = errand();
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut left).poll(cx).is_pending())).await;
            drop((left, errand()));
            assert_eq!(done.get(), 1);
            for _ in 0..2 {
                go.notify_one();
                told.notified().await;
            }
            assert_eq!(done.get(), 3);
        });
    }
}
