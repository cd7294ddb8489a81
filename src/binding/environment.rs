//! The JavaScript threads of the process that use the addon, and what all of them share.

use super::cluster;
use super::event::Event;
use super::inbox::Inbox;
use super::local;
#[cfg(unix)]
use super::lock_file;
use super::machine;
use crate::core::ids::OwnerId;
use crate::core::lease::Lease;
use crate::core::time::Moment;
use crate::runtime::{Call, EnvId, Notice, Runtime, Sink};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

/// One JavaScript thread.
pub struct Environment {
    /// 0 for the main thread.
    pub thread: u32,
    pub inbox: Arc<Inbox>,
    /// How long each remote hold of this thread may be believed in.
    pub leases: Mutex<HashMap<u32, Lease>>,
}

static ENVIRONMENTS: LazyLock<RwLock<HashMap<EnvId, Arc<Environment>>>> = LazyLock::new(RwLock::default);
static HOST: OnceLock<String> = OnceLock::new();
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Makes an environment known, as an owner in the lock table too; it is forgotten by [`end`].
pub fn begin(thread: u32, host: String, inbox: Arc<Inbox>) -> EnvId {
    HOST.get_or_init(|| host);
    let id = local::TABLE.new_owner().0;
    let environment = Environment {
        thread,
        inbox,
        leases: Mutex::default(),
    };
    ENVIRONMENTS.write().insert(id, Arc::new(environment));
    id
}

/// The environment with this number, while it lives.
pub fn find(id: EnvId) -> Option<Arc<Environment>> {
    ENVIRONMENTS.read().get(&id).cloned()
}

/// Tells every environment but one the same.
pub fn tell_others(but: EnvId, event: impl Fn() -> Event) {
    for (_, environment) in ENVIRONMENTS.read().iter().filter(|(id, _)| **id != but) {
        environment.inbox.push(event());
    }
}

/// Forgets an environment and frees everything of it, wherever it is.
pub fn end(id: EnvId) {
    if let Some(environment) = ENVIRONMENTS.write().remove(&id) {
        environment.inbox.end();
    }
    local::TABLE.owner_gone(OwnerId(id));
    cluster::environment_ended(id);
    #[cfg(unix)]
    lock_file::environment_ended(id);
    machine::environment_ended(id);
    if let Some(runtime) = RUNTIME.get() {
        runtime.express.environment_ended(id);
    }
}

/// The name of this machine, as JavaScript gave it.
pub fn host() -> &'static str {
    HOST.get().map_or("", String::as_str)
}

/// The remote runtime, started when it is first asked for; `None` if the operating system refuses its thread.
pub fn runtime() -> Option<&'static Runtime> {
    if RUNTIME.get().is_none() {
        static STARTING: Mutex<()> = Mutex::new(());
        let _guard = STARTING.lock();
        if RUNTIME.get().is_none() {
            let runtime = Runtime::start(host().to_owned(), Arc::new(Answers)).ok()?;
            let _ = RUNTIME.set(runtime);
        }
    }
    RUNTIME.get()
}

/// The remote runtime, if it has been needed so far.
pub fn running() -> Option<&'static Runtime> {
    RUNTIME.get()
}

/// Whether the remote hold that JavaScript named so may still be believed in. Once it may not, it never may again.
pub fn is_believed(env: EnvId, cookie: u32, now: Moment) -> bool {
    find(env).is_some_and(|environment| {
        let leases = environment.leases.lock();
        leases.get(&cookie).is_some_and(|lease| !lease.expire(now))
    })
}

/// Passes the runtime's notices on to the environments.
struct Answers;

impl Sink for Answers {
    fn notify(&self, call: Call, notice: Notice) {
        let Some(environment) = find(call.env) else { return };
        let number = call.cookie;
        let event = match notice {
            Notice::Granted { token, lease } => {
                environment.leases.lock().insert(number, lease);
                Event::Granted(number, token)
            }
            Notice::Busy => Event::Busy(number),
            Notice::Done => Event::Done(number),
            Notice::Snapshot(snapshot) => Event::Snapshot(number, snapshot),
            Notice::Snapshots(snapshots) => Event::Snapshots(number, snapshots),
            Notice::Failed(error) => Event::Failed(number, error),
            Notice::Lost(error) => {
                environment.leases.lock().remove(&number);
                Event::Lost(number, error)
            }
            Notice::Disconnected => Event::Disconnected(number),
            Notice::Reconnected => Event::Reconnected(number),
        };
        environment.inbox.push(event);
    }
}
