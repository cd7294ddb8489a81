//! The session that all uncontended locks of the process share.
//!
//! To PostgreSQL a session is one owner: it would grant the session's own locks again, whatever the mode, and count. So the
//! session is asked only for what nobody of ours has on it, and for further shared holds of a shared lock; [`Claims`] knows.

use super::key::Key;
use super::login::{Fault, Login, SessionId, uncancelled};
use super::session::{Purpose, Session, Standing};
use super::sql::{Call, Verb};
use crate::core::mode::Mode;
use crate::error::Result;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use tokio::sync::Semaphore;

/// How many statements are on their way at a time: a heartbeat has to wait for so many, at most.
const WINDOW: usize = 64;

pub struct MainSession {
    standing: Rc<Standing>,
    /// Those of the latest session.
    claims: RefCell<Option<Rc<Claims>>>,
    window: Rc<Semaphore>,
}

/// The main session, and what is claimed on it.
#[derive(Clone)]
pub struct Main {
    pub session: Rc<Session>,
    pub claims: Rc<Claims>,
    window: Rc<Semaphore>,
}

impl MainSession {
    pub fn new(login: &Rc<Login>) -> Self {
        Self {
            standing: Standing::new(login, Purpose::Locks),
            claims: RefCell::default(),
            window: Rc::new(Semaphore::new(WINDOW)),
        }
    }

    /// The session if it is there.
    pub fn current(&self) -> Option<Rc<Session>> {
        self.standing.current()
    }

    /// The session, opened if it is not there.
    pub async fn get(&self) -> Result<Main> {
        let session = self.standing.session().await?;
        let mut latest = self.claims.borrow_mut();
        let claims = match &*latest {
            Some(claims) if claims.of == session.id => claims.clone(),
            _ => latest.insert(Rc::new(Claims::on(session.id))).clone(),
        };
        Ok(Main {
            session,
            claims,
            window: self.window.clone(),
        })
    }

    /// See [`Standing::rest`]. Nothing may be held.
    pub fn rest(&self) {
        self.standing.rest();
    }

    /// See [`Standing::close`].
    pub fn close(&self) -> Option<Rc<Session>> {
        self.standing.close()
    }
}

impl Main {
    /// Tries to take the lock at once, unless one of our own is in the way here. Whether that worked.
    ///
    /// On `Err` the session does not have the lock for the caller.
    pub async fn attempt(&self, key: Key, mode: Mode) -> Result<bool, Fault> {
        let verb = match self.claims.enter(key, mode) {
            Admission::First => Verb::Try,
            Admission::Another => Verb::TryUnlessAwaited,
            Admission::No => return Ok(false),
        };
        let tried = uncancelled(async |again| {
            if again {
                self.claims.doubt(key);
            }
            self.call(verb, mode, key).await
        });
        match tried.await {
            Ok(true) if self.session.is_open() => Ok(true),
            Ok(_) => {
                self.leave(key, mode).await;
                Ok(false)
            }
            Err(fault) => {
                self.claims.doubt(key);
                self.leave(key, mode).await;
                Err(fault)
            }
        }
    }

    /// Gives one hold back. Whether the server had it.
    pub async fn free(&self, key: Key, mode: Mode) -> Result<bool, Fault> {
        // If it was cancelled after it had done its work, the next one finds nothing.
        let freed = uncancelled(async |again| Ok(self.call(Verb::Free, mode, key).await? || again)).await;
        if freed.is_err() {
            self.claims.doubt(key);
        }
        self.leave(key, mode).await;
        freed
    }

    async fn call(&self, verb: Verb, mode: Mode, key: Key) -> Result<bool, Fault> {
        // The window is never closed.
        let _turn = self.window.acquire().await;
        self.session.call(Call::new(verb, mode, key), key).await
    }

    /// Takes a request off the claims; the last one settles what is in doubt, by giving back until there is nothing left.
    async fn leave(&self, key: Key, mode: Mode) {
        if self.claims.must_drain(key) {
            Box::pin(self.drain(key, mode)).await;
        }
        self.claims.leave(key);
    }

    async fn drain(&self, key: Key, mode: Mode) {
        while self.session.is_open() && self.claims.must_drain(key) {
            match uncancelled(async |_| self.call(Verb::Free, mode, key).await).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(fault) => self.session.cut(fault.into()),
            }
        }
    }
}

/// Whether the main session may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// Nobody of ours is there.
    First,
    /// Others of ours share it.
    Another,
    /// One of ours is in the way.
    No,
}

#[derive(Debug)]
struct Claim {
    mode: Mode,
    /// How many ask or hold.
    count: u32,
    /// Whether the server may have counted one more than we know of.
    in_doubt: bool,
}

/// The claims on one session; they end with it.
#[derive(Debug)]
pub struct Claims {
    of: SessionId,
    claims: RefCell<HashMap<Key, Claim>>,
}

impl Claims {
    fn on(session: SessionId) -> Self {
        Self {
            of: session,
            claims: RefCell::default(),
        }
    }

    /// Registers a request, unless the answer is [`Admission::No`].
    fn enter(&self, key: Key, mode: Mode) -> Admission {
        let mut claims = self.claims.borrow_mut();
        match claims.get_mut(&key) {
            None => {
                let claim = Claim {
                    mode,
                    count: 1,
                    in_doubt: false,
                };
                claims.insert(key, claim);
                Admission::First
            }
            Some(claim) if claim.mode == Mode::Shared && mode == Mode::Shared => {
                claim.count += 1;
                Admission::Another
            }
            Some(_) => Admission::No,
        }
    }

    /// A statement failed half-way: the server may hold the lock once more than we count.
    fn doubt(&self, key: Key) {
        if let Some(claim) = self.claims.borrow_mut().get_mut(&key) {
            claim.in_doubt = true;
        }
    }

    /// Whether the request that leaves now is the last one and the lock must be given back until there is nothing left.
    fn must_drain(&self, key: Key) -> bool {
        self.claims
            .borrow()
            .get(&key)
            .is_some_and(|claim| claim.count == 1 && claim.in_doubt)
    }

    /// Takes one request off.
    fn leave(&self, key: Key) {
        let mut claims = self.claims.borrow_mut();
        if let Some(claim) = claims.get_mut(&key) {
            claim.count -= 1;
            if claim.count == 0 {
                claims.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId { pid: 1, started: 1 };

    #[test]
    fn only_readers_share_the_main_session() {
        let claims = Claims::on(SESSION);
        let (a, b) = (Key::Big(1), Key::Big(2));
        assert_eq!(claims.enter(a, Mode::Shared), Admission::First);
        assert_eq!(claims.enter(a, Mode::Shared), Admission::Another);
        assert_eq!(claims.enter(a, Mode::Exclusive), Admission::No);
        assert_eq!(claims.enter(b, Mode::Exclusive), Admission::First);
        assert_eq!(claims.enter(b, Mode::Shared), Admission::No);
        claims.leave(a);
        assert_eq!(claims.enter(a, Mode::Exclusive), Admission::No);
        claims.leave(a);
        assert_eq!(claims.enter(a, Mode::Exclusive), Admission::First);
    }

    #[test]
    fn a_doubt_is_settled_by_the_last_to_leave() {
        let claims = Claims::on(SESSION);
        let key = Key::Pair(1, 2);
        claims.enter(key, Mode::Shared);
        claims.enter(key, Mode::Shared);
        claims.doubt(key);
        assert!(!claims.must_drain(key));
        claims.leave(key);
        assert!(claims.must_drain(key));
        claims.leave(key);
        claims.enter(key, Mode::Shared);
        assert!(!claims.must_drain(key));
    }
}
