//! What the requests of this process have on the main session, so that they do not meet themselves there.
//!
//! To PostgreSQL a session is one owner: it would grant the session's own locks again, whatever the mode, and count. So the
//! main session is asked only for what nobody of ours has on it, and for further shared holds of a shared lock.

use super::key::Key;
use crate::core::mode::Mode;
use std::cell::RefCell;
use std::collections::HashMap;

/// Whether the main session may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
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
#[derive(Debug, Default)]
pub struct Claims(RefCell<HashMap<Key, Claim>>);

impl Claims {
    /// Registers a request, unless the answer is [`Admission::No`].
    pub fn enter(&self, key: Key, mode: Mode) -> Admission {
        let mut claims = self.0.borrow_mut();
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
    pub fn doubt(&self, key: Key) {
        if let Some(claim) = self.0.borrow_mut().get_mut(&key) {
            claim.in_doubt = true;
        }
    }

    /// Whether the request that leaves now is the last one and the lock must be given back until there is nothing left.
    pub fn must_drain(&self, key: Key) -> bool {
        self.0
            .borrow()
            .get(&key)
            .is_some_and(|claim| claim.count == 1 && claim.in_doubt)
    }

    /// Takes one request off.
    pub fn leave(&self, key: Key) {
        let mut claims = self.0.borrow_mut();
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

    #[test]
    fn only_readers_share_the_main_session() {
        let claims = Claims::default();
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
        let claims = Claims::default();
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
