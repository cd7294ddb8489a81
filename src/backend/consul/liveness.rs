//! Noticing that a holder, or the waiter before, is dead before Consul does.
//!
//! Consul ends a session no earlier than its time to live after the last renewal, but in practice at twice that. Whoever waits need
//! not wait so long, because a holder itself stops believing in its hold after one time to live.
//! What is missing is a renewal that others can see, and it is written only while somebody looks:
//!
//! 1. The waiter makes a key beside the key of the other's process, its mark, locked by the other's session.
//! 2. The other renews its session, then reads both keys, and deletes the mark if it is there. Only then does the
//!    renewal count. So a mark that was not deleted for one time to live means: the last renewal that counts was
//!    sent before the mark was made, and has run out.
//! 3. The waiter then deletes the key of the other's process, if the mark is still the one it made: the two
//!    transactions exclude each other. From there on the other's renewals and everything it would write fail, and its
//!    sessions can be ended.
//!
//! The lock delay still applies after that, as after any end of a session. Each waiter looks after the one before it, and the first two
//! after the holders.

use super::fault::Fault;
use super::http::Lane;
use super::keys;
use super::session::{self, Sessions};
use super::store::Consul;
use super::txn::{self, Op, Outcome, Pair};
use super::view::Suspect;
use crate::clock;
use crate::core::time::Moment;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// Two clocks may run at slightly different rates.
const GRACE: Duration = Duration::from_millis(50);
/// How long somebody is trusted before it is looked after: most holds are short, and nobody needs to know who lives.
const CALM: Duration = Duration::from_millis(800);
/// How many processes one waiter looks after; more than that is left to Consul itself.
const MOST: usize = 8;

/// Marks that are out, by process key: the mark's index, and when it was first seen there.
pub type Marks = HashMap<String, (u64, Moment)>;

/// The processes that one waiter looks after. Ends with it.
#[derive(Default)]
pub struct Lookout {
    suspects: Vec<Suspect>,
    tasks: JoinSet<()>,
}

impl Lookout {
    /// Looks after these from now on.
    pub fn turn_to(&mut self, consul: &Consul, suspects: Vec<Suspect>, place: usize) {
        if self.suspects == suspects && !self.tasks.is_empty() {
            return;
        }
        // Whoever is far back has time.
        let calm = if place < 2 { CALM } else { consul.terms.ttl / 2 };
        self.tasks = JoinSet::new();
        for suspect in suspects.iter().take(MOST) {
            if let Some(consul) = consul.strong() {
                let suspect = suspect.clone();
                self.tasks
                    .spawn_local(async move { consul.look_after(&suspect, calm).await });
            }
        }
        self.suspects = suspects;
    }

    /// Resolves when one of them was found dead and its sessions were ended.
    pub async fn death(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

impl Consul {
    async fn look_after(&self, suspect: &Suspect, calm: Duration) {
        let seen = self.marks.borrow().get(&suspect.process).map(|(_, since)| *since);
        if seen.is_none_or(|since| clock::now().since(since) < self.terms.ttl / 2) {
            tokio::time::sleep(calm).await;
        }
        loop {
            match self.examine(suspect).await {
                Ok(Verdict::Alive) => {
                    self.marks.borrow_mut().remove(&suspect.process);
                }
                Ok(Verdict::Ended) => return,
                Err(_) => {}
            }
            tokio::time::sleep(CALM).await;
        }
    }

    /// Waits until the process has renewed, or ends its sessions if it does not in time.
    async fn examine(&self, suspect: &Suspect) -> Result<Verdict, Fault> {
        let key = keys::mark(&suspect.process);
        let pairs = self.link.read_now(Lane::Call, &suspect.process).await?;
        let process = find(&pairs, &suspect.process);
        let Some((process, own)) = process.and_then(|pair| Some((pair, pair.session()?))) else {
            // It was condemned, or ended: its leader keys must not stay locked.
            session::destroy(&self.link, &suspect.leads).await?;
            return Ok(Verdict::Ended);
        };
        let index = match find(&pairs, &key) {
            Some(mark) => mark.modify_index,
            None => {
                let ops = [
                    Op::CheckSession(suspect.process.clone(), own.to_owned()),
                    Op::CheckAbsent(key.clone()),
                    Op::Lock(key.clone(), own.to_owned(), Vec::new()),
                ];
                match self.link.txn(Lane::Call, &ops).await? {
                    Outcome::Done(pairs) => txn::written_at(&pairs),
                    Outcome::Refused(_) => return Ok(Verdict::Alive),
                }
            }
        };
        let since = self.mark_seen(&suspect.process, index);
        let ttl = session::ttl_of(&process.value()).unwrap_or(self.terms.ttl);
        loop {
            let left = (since + ttl + GRACE).since(clock::now());
            if left.is_zero() {
                break;
            }
            tokio::time::sleep(left.min(ttl / 8)).await;
            let (pairs, _) = self.link.read(&key, false).await?;
            if pairs.first().is_none_or(|mark| mark.modify_index != index) {
                return Ok(Verdict::Alive);
            }
        }
        let ops = [
            Op::CheckIndex(key, index),
            Op::CheckSession(suspect.process.clone(), own.to_owned()),
            Op::Delete(suspect.process.clone()),
        ];
        if let Outcome::Refused(_) = self.link.txn(Lane::Call, &ops).await? {
            return Ok(Verdict::Alive);
        }
        session::destroy(&self.link, &suspect.leads).await?;
        session::destroy(&self.link, own).await?;
        Ok(Verdict::Ended)
    }

    /// When this mark was first seen: whoever looks again goes on where it was.
    fn mark_seen(&self, process: &str, index: u64) -> Moment {
        let now = clock::now();
        let mut marks = self.marks.borrow_mut();
        // What nobody has looked at for hours is of no use.
        marks.retain(|_, (_, since)| now.since(*since) < self.terms.ttl * 100);
        match marks.get(process) {
            Some((seen, since)) if *seen == index => *since,
            _ => {
                marks.insert(process.to_owned(), (index, now));
                now
            }
        }
    }

    /// The other side: shows whoever asks that this process lives. `false` if it was given up. Begins with a consistent read.
    pub async fn show_life(&self, sessions: &Sessions, lane: Lane) -> Result<bool, Fault> {
        let mark = keys::mark(&sessions.key);
        let pairs = self.link.read_now(lane, &sessions.key).await?;
        let mine = find(&pairs, &sessions.key).is_some_and(|pair| pair.session() == Some(sessions.own.as_str()));
        if !mine || find(&pairs, &mark).is_none() {
            return Ok(mine);
        }
        let ops = [
            Op::CheckSession(sessions.key.clone(), sessions.own.clone()),
            Op::Delete(mark),
        ];
        Ok(matches!(self.link.txn(lane, &ops).await?, Outcome::Done(_)))
    }
}

enum Verdict {
    Alive,
    Ended,
}

fn find<'a>(pairs: &'a [Pair], key: &str) -> Option<&'a Pair> {
    pairs.iter().find(|pair| pair.key == key)
}
