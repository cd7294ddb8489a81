//! Work that nobody waits for but the end of whoever began it.

use std::cell::RefCell;
use tokio::task::JoinSet;

/// What goes on beside: exchanges that must not be cut off when the call is over that they serve, because the server would keep
/// what they make or are to end. It goes on, too, when this is dropped.
#[derive(Default)]
pub struct Errands(RefCell<JoinSet<()>>);

impl Errands {
    pub fn run(&self, work: impl Future<Output = ()> + 'static) {
        let mut running = self.0.borrow_mut();
        while running.try_join_next().is_some() {}
        running.spawn_local(work);
    }

    /// Resolves when all is done, and what it led to.
    pub async fn done(&self) {
        loop {
            let mut running = Self(self.0.take().into());
            if running.0.get_mut().is_empty() {
                return;
            }
            while running.0.get_mut().join_next().await.is_some() {}
        }
    }
}

impl Drop for Errands {
    fn drop(&mut self) {
        self.0.get_mut().detach_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::task::{LocalSet, yield_now};

    #[test]
    fn the_end_waits_for_errands_and_for_what_they_lead_to_and_nothing_cuts_them_off() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let (errands, count) = (Rc::new(Errands::default()), Rc::new(Cell::new(0)));
            let (again, counts) = (errands.clone(), count.clone());
            errands.run(async move {
                yield_now().await;
                let counted = counts.clone();
                again.run(async move { counted.set(counted.get() + 1) });
                counts.set(counts.get() + 1);
            });
            errands.done().await;
            assert_eq!(count.get(), 2);
            let counts = count.clone();
            errands.run(async move {
                yield_now().await;
                counts.set(3);
            });
            // Neither the end of whoever has errands nor a wait for them that is given up.
            let waiting = errands.clone();
            let wait = tokio::task::spawn_local(async move { waiting.done().await });
            wait.abort();
            assert!(wait.await.is_err());
            drop(errands);
            for _ in 0..3 {
                yield_now().await;
            }
            assert_eq!(count.get(), 3);
        });
    }
}
