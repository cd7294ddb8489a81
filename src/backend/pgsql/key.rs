//! From a lock's name to the number that PostgreSQL's advisory locks know it by.

use crate::url::PAIR;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// One of PostgreSQL's two separate key spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// `pg_advisory_lock(bigint)`: what a mutex URL uses.
    Big(i64),
    /// `pg_advisory_lock(int4, int4)`: what the package advisory-lock uses.
    Pair(i32, i32),
}

/// Which of the two a statement is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Big,
    Pair,
}

impl Key {
    /// The key of the lock called `id`: for a name what ipc-mutex 1.x computes, so that old and new programs exclude each
    /// other, for a pair the pair.
    pub fn of(id: &str) -> Self {
        let pair = id
            .strip_prefix(PAIR)
            .map(|rest| rest.split_once('/').map_or(rest, |(pair, _)| pair));
        if let Some((a, b)) = pair.and_then(|pair| pair.split_once(','))
            && let (Ok(a), Ok(b)) = (a.parse(), b.parse())
        {
            return Key::Pair(a, b);
        }
        Key::Big(folded(id))
    }

    pub fn shape(self) -> Shape {
        match self {
            Key::Big(_) => Shape::Big,
            Key::Pair(..) => Shape::Pair,
        }
    }

    /// `classid`, `objid` and `objsubid` of this key in `pg_locks`.
    pub fn locator(self) -> (i64, i64, i16) {
        match self {
            Key::Big(n) => (n >> 32 & 0xffff_ffff, n & 0xffff_ffff, 1),
            Key::Pair(a, b) => (i64::from(a.cast_unsigned()), i64::from(b.cast_unsigned()), 2),
        }
    }
}

/// The keys of the names that were used of late: a hash of a name takes longer than all else that is done for a request here.
#[derive(Default)]
pub struct Keys(RefCell<HashMap<Arc<str>, Key>>);

/// How many are remembered.
const REMEMBERED: usize = 4096;

impl Keys {
    /// As [`Key::of`].
    pub fn of(&self, id: &Arc<str>) -> Key {
        let mut keys = self.0.borrow_mut();
        if let Some(key) = keys.get(id) {
            return *key;
        }
        if keys.len() >= REMEMBERED {
            keys.clear();
        }
        let key = Key::of(id);
        keys.insert(id.clone(), key);
        key
    }
}

/// The UUID (version 5, URL namespace) of `id`, its 16 bytes XOR-folded to 8 and then to 4, read big-endian.
fn folded(id: &str) -> i64 {
    let uuid = Uuid::new_v5(&Uuid::NAMESPACE_URL, id.as_bytes());
    let mut fold = [0_u8; 4];
    for (index, byte) in uuid.as_bytes().iter().enumerate() {
        fold[index % 4] ^= byte;
    }
    i64::from(u32::from_be_bytes(fold))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_number_that_1_x_gives_it() {
        for (id, number) in [
            ("foo", 1_467_327_550),
            ("test", 2_619_831_090),
            ("leader-election", 3_597_615_033),
            ("my_lock", 2_692_244_975),
        ] {
            assert_eq!(Key::of(id), Key::Big(number), "{id}");
        }
    }

    #[test]
    fn a_pair_is_taken_as_it_stands_and_shows_unsigned_in_pg_locks() {
        let key = Key::of("\u{1}pair:-107789403,-1898803861");
        assert_eq!(key, Key::Pair(-107_789_403, -1_898_803_861));
        assert_eq!(key.locator(), (4_187_177_893, 2_396_163_435, 2));
        assert_eq!(Key::of("\u{1}pair:1,2/a,b/c"), Key::Pair(1, 2));
        assert!(matches!(Key::of("\u{1}pair:1"), Key::Big(_)));
        assert!(matches!(Key::of("pair:1,2"), Key::Big(_)));
    }
}
