//! Blocking queries of those who wait.
//!
//! Consul goes on with a query whose client has left, and counts its connection until the query ends. So a query is never dropped: it
//! runs to its end in a task of its own, whoever waits for it, and the next who wants to know the same waits for the same query.
//! The first look of a waiter is short, because most waits are.

use super::fault::Fault;
use super::http::Link;
use super::keys;
use super::txn::Pair;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::watch;

/// When more than half of the connections for this are in use, waiters take turns with short looks instead of long ones.
const SHORT: Duration = Duration::from_millis(500);
/// How long a waiter's first look takes at most; each further one twice as long.
const FIRST: Duration = Duration::from_secs(2);
/// Pause of a waiter whose knowledge is older than a query that is under way.
const BEHIND: Duration = Duration::from_millis(20);

type Answer = Result<(Rc<Vec<Pair>>, u64), Fault>;

struct Query {
    index: u64,
    answer: watch::Sender<Option<Answer>>,
}

pub struct Watches {
    link: Rc<Link>,
    longest: Duration,
    running: Rc<RefCell<HashMap<String, Rc<Query>>>>,
}

impl Watches {
    pub fn new(link: Rc<Link>, longest: Duration) -> Self {
        Self {
            link,
            longest,
            running: Rc::default(),
        }
    }

    /// Returns what is at the key (or below the prefix) when it was written after `index`, or after a while. `looks` is how often this
    /// waiter has looked before. `None` if there is nothing to be said but that it should be read again.
    pub async fn change(&self, key: &str, below: bool, index: u64, looks: u32) -> Result<Option<Rc<Vec<Pair>>>, Fault> {
        let path = keys::path(key, below);
        let running = self.running.borrow().get(&path).cloned();
        let query = match running {
            Some(query) => query,
            None => self.start(path, index, looks),
        };
        if query.index > index {
            tokio::time::sleep(BEHIND).await;
            return Ok(None);
        }
        let mut answer = query.answer.subscribe();
        let answer = match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            Err(_) => None,
        };
        match answer {
            Some(Ok((pairs, now))) if query.index == index || now > index => Ok(Some(pairs)),
            Some(Err(fault)) => Err(fault),
            // It asked for an older change, which this waiter knows; or it was given up.
            _ => Ok(None),
        }
    }

    fn start(&self, path: String, index: u64, looks: u32) -> Rc<Query> {
        let query = Rc::new(Query {
            index,
            answer: watch::Sender::new(None),
        });
        self.running.borrow_mut().insert(path.clone(), query.clone());
        let (link, running) = (self.link.clone(), self.running.clone());
        let longest = self.longest;
        let asked = query.clone();
        tokio::task::spawn_local(async move {
            let _turn = link.waits.turn().await;
            let mut answer = None;
            // Those who wanted it may have left while it waited for its turn.
            if asked.answer.receiver_count() > 0 {
                let wait = match link.waits.are_plenty() {
                    true => FIRST.saturating_mul(1 << looks.min(16)).min(longest),
                    false => SHORT.min(longest),
                };
                answer = Some(look(&link, &path, asked.index, wait).await);
            }
            running.borrow_mut().remove(&path);
            asked.answer.send_replace(answer);
        });
        query
    }
}

async fn look(link: &Link, path: &str, index: u64, wait: Duration) -> Answer {
    let reply = link.block(path, index, wait).await?;
    Ok((Rc::new(link.pairs(&reply)?), reply.index))
}
