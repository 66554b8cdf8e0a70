//! How long a browser that lost its hub waits, as the SDK does: full jitter, drawn evenly from zero
//! to a ceiling that doubles with each attempt.
//!
//! Pure.

use std::time::Duration;

/// The bounds of the ceiling.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    /// Of the first wait.
    pub(crate) base: Duration,
    /// Of every wait.
    pub(crate) cap: Duration,
}

impl Backoff {
    /// The wait before attempt `attempt` (0 is the first); `random` is from 0 to 1.
    pub(crate) fn wait(self, attempt: u32, random: f64) -> Duration {
        // 2^20 is past every cap.
        let ceiling = self.base.saturating_mul(1 << attempt.min(20)).min(self.cap);
        ceiling.mul_f64(random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_cap_and_waits_lie_below_them() {
        let backoff = Backoff {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(15),
        };
        let ceilings =
            [0, 1, 4, 5, 31, u32::MAX].map(|attempt| backoff.wait(attempt, 1.0).as_millis());
        assert_eq!(ceilings, [500, 1_000, 8_000, 15_000, 15_000, 15_000]);
        assert_eq!(backoff.wait(3, 0.25), Duration::from_secs(1));
        assert_eq!(backoff.wait(3, 0.0), Duration::ZERO);
    }
}
