//! What all remote backends share: the gate inside the process, retries, renewal, the lease rule, cancellation, shutdown.
//!
//! Everything here runs on one thread of its own with a current-thread tokio runtime, started when the first remote mutex
//! opens. JavaScript that computes without yielding therefore never delays a renewal. Calls come in over one channel
//! as [`Command`]s, in the order in which JavaScript made them; answers leave through the [`Sink`].
//!
//! Per server there is one backend and one gate: a [`crate::core::table::Table`] in which the process's own requests
//! queue first, so that a process never contends with itself over the network. A request that has its turn in
//! the gate asks the backend (`asking`); a granted one is kept alive by the server's `keeper`.

mod asking;
mod commands;
mod entry;
pub mod express;
mod keeper;
mod leaving;
mod leftovers;
mod opening;
mod outage;
mod pause;
mod registry;
mod renewing;
mod request;
mod showing;
#[cfg(test)]
mod tests;
mod trying;

use crate::backend::Identity;
/// What the words of a call and its answer mean; whoever makes calls need not know the backends for that.
pub use crate::backend::{Attempt, Info, Snapshot, Snapshots};
pub use commands::{Call, Command, EnvId, MutexId, Notice, Sink};

use express::Express;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// The way from any thread of the process to the runtime's thread.
pub struct Runtime {
    commands: mpsc::UnboundedSender<Command>,
    /// Where calls go that may not need this thread at all.
    pub express: Arc<Express>,
    next_mutex: AtomicU32,
}

impl Runtime {
    /// Starts the thread. `host` is what other processes see as this machine's name; answers go to
    /// `sink`, from the runtime's thread.
    ///
    /// # Errors
    /// The operating system refuses a thread or an event queue.
    pub fn start(host: String, sink: Arc<dyn Sink>) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let identity = Arc::new(Identity::of_this_process(host));
        let express = Arc::new(Express::new(commands.clone(), identity.clone()));
        // Weak, so that the thread ends with the last sender of commands.
        let lane = Arc::downgrade(&express);
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("ipc-mutex".into()).spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            tokio.block_on(tasks.run_until(registry::run(inbox, identity, sink, lane)));
        })?;
        Ok(Self {
            commands,
            express,
            next_mutex: AtomicU32::new(1),
        })
    }

    /// A name for a mutex object that is about to be opened.
    pub fn new_mutex(&self) -> MutexId {
        MutexId(self.next_mutex.fetch_add(1, Ordering::Relaxed))
    }

    /// Hands a command over without waiting. Commands take effect in the order of these calls.
    pub fn send(&self, command: Command) {
        // The receiver lives as long as the process: its thread never ends.
        let _ = self.commands.send(command);
    }

    /// Gives back everything that the process holds and ends all connections, waiting at most `limit`. For the moment
    /// before the process exits. Returns whether all was given back in time.
    pub fn shut_down(&self, limit: Duration) -> bool {
        let (done, finished) = std::sync::mpsc::channel();
        self.express.shut_down();
        self.send(Command::Shutdown { done });
        finished.recv_timeout(limit).is_ok()
    }
}
