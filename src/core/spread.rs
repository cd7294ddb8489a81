//! A hasher for small numbers that this crate gives out itself, where nobody can choose them to collide.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps keyed by such a number: a few nanoseconds cheaper per look-up than the standard hasher, in paths where that
/// is a good part of the whole.
pub(crate) type BuildSpread = BuildHasherDefault<Spread>;

/// Multiplies by the odd number next to 2^64 divided by the golden ratio, which spreads consecutive numbers over the upper
/// bits, and folds these down, because hash tables look at both ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}
