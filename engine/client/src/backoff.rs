//! Pauses between attempts: drawn at random below a bound that doubles, so that many clients do not come at once.
//!
//! Nobody sleeps here.

use std::time::Duration;

/// See the module.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    bound: Duration,
    state: u64,
}

impl Backoff {
    /// Pauses between nothing and a bound that goes from `min` to `max`. Another `seed` draws other ones.
    pub fn new(min: Duration, max: Duration, seed: u64) -> Backoff {
        let min = min.max(Duration::from_millis(1));
        Backoff { min, max: max.max(min), bound: min, state: seed }
    }

    /// The next pause; its bound is twice that of the last one.
    pub fn pause(&mut self) -> Duration {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let share = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
        let pause = self.bound.mul_f64(share);
        self.bound = self.bound.saturating_mul(2).min(self.max);
        pause
    }

    /// Something succeeded: the next pause is short again.
    pub fn reset(&mut self) {
        self.bound = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_double_up_to_the_longest_and_pauses_spread_below_them() {
        let millis = Duration::from_millis;
        let mut bound = 10;
        let mut backoff = Backoff::new(millis(10), millis(500), 3);
        let mut highest = 0.0_f64;
        for _ in 0..1000 {
            let pause = backoff.pause();
            assert!(pause <= millis(bound));
            highest = highest.max(pause.as_secs_f64() / millis(bound).as_secs_f64());
            bound = (bound * 2).min(500);
        }
        assert!(highest > 0.9);
        backoff.reset();
        assert!(backoff.pause() <= millis(10));
        let draws = |seed| Backoff::new(millis(10), millis(500), seed).pause();
        assert_ne!(draws(1), draws(2));
    }
}
