//! Questions for credentials on their way to JavaScript and back.

use super::environment::find;
use super::event::Event;
use crate::options::{Given, Provider};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::oneshot;

/// By the question's number: where its answer goes.
static OPEN: LazyLock<Mutex<HashMap<u32, oneshot::Sender<Given>>>> = LazyLock::new(Mutex::default);
static LAST: AtomicU32 = AtomicU32::new(0);

/// The function that thread `env` calls `number`; `None` for 0.
pub fn provider(env: u32, number: u32) -> Option<Provider> {
    (number != 0).then(|| Provider::new((env, number), move || ask(env, number)))
}

fn ask(env: u32, number: u32) -> oneshot::Receiver<Given> {
    let (sender, receiver) = oneshot::channel();
    // Of a thread that has ended, the sender goes at once, which tells the asker.
    if let Some(environment) = find(env) {
        let question = LAST.fetch_add(1, Ordering::Relaxed);
        let mut open = OPEN.lock();
        // Nobody waits any more for what the time ran out for.
        open.retain(|_, sender| !sender.is_closed());
        open.insert(question, sender);
        drop(open);
        environment.inbox.push(Event::Credentials(number, question));
    }
    receiver
}

/// Does nothing if nobody waits for it any more.
pub fn answer(question: u32, given: Given) {
    if let Some(sender) = OPEN.lock().remove(&question) {
        let _ = sender.send(given);
    }
}
