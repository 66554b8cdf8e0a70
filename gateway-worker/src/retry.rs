//! How long to wait before trying again: exponential, with full jitter. Pure.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Waits that grow with each failure in a row, up to a bound.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits between zero and `min`, then twice that, and so on up to `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            failures: 0,
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// After a success: the next wait is short again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after a failure: random between zero and the bound, so that many callers that failed
    /// at the same moment do not retry at the same moment.
    pub fn after_failure(&mut self, rng: &mut impl Rng) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rng.random_range(0.0..=1.0))
    }

    /// As [`Backoff::after_failure`], and at least as long as the other side asked for (Retry-After), of
    /// which at most `asked_max` is obeyed.
    pub fn after_refusal(
        &mut self,
        rng: &mut impl Rng,
        asked: Option<Duration>,
        asked_max: Duration,
    ) -> Duration {
        let asked = asked.map_or(Duration::ZERO, |asked| asked.min(asked_max));
        self.after_failure(rng).max(asked)
    }

    /// As [`Backoff::after_failure`], without jitter: for waits that save a budget.
    pub fn after_failure_in_full(&mut self) -> Duration {
        let bound = self.bound();
        self.failures = self.failures.saturating_add(1);
        bound
    }

    fn bound(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.min.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_shrink_after_a_success() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::new(min, max);
        let waits: Vec<_> = (0..200).map(|_| backoff.after_failure(&mut rng)).collect();
        assert!(waits[0] <= min);
        assert!(waits.iter().all(|wait| *wait <= max));
        assert!(waits.iter().any(|wait| *wait > Duration::from_secs(1)));
        backoff.reset();
        assert!(backoff.after_failure(&mut rng) <= min);
        assert_eq!(backoff.after_failure_in_full(), min * 2);
    }
}
