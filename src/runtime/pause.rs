//! Growing, jittered pauses between tries.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// The pauses of one sequence of tries: 50 ms at first, doubling up to 2 s, each drawn at random from its upper half, so that
/// many processes that lost the same server do not come back in step.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    next: Duration,
}

impl Pause {
    pub fn new() -> Self {
        Self { next: FIRST }
    }

    /// How long to wait before the next try.
    pub fn next(&mut self) -> Duration {
        let span = self.next;
        self.next = (self.next * 2).min(LONGEST);
        span / 2 + (span / 2).mul_f64(random_fraction())
    }
}

/// A number between 0 and 1.
fn random_fraction() -> f64 {
    // Without randomness the pauses still grow; they only lose their jitter.
    let bits = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_below_the_longest() {
        let mut pause = Pause::new();
        let mut upper = FIRST;
        for _ in 0..20 {
            let span = pause.next();
            assert!(span >= upper / 2 && span <= upper, "{span:?} of {upper:?}");
            upper = (upper * 2).min(LONGEST);
        }
        assert_eq!(upper, LONGEST);
    }
}
