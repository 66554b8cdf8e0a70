//! How much a client may say: a bucket that fills with time.

use super::SessionLimits;

/// A token bucket: milliseconds of allowance, of which each frame costs `1000 / frames_per_s_max`.
pub(super) struct Budget {
    left_ms: u64,
    at_ms: u64,
}

impl Budget {
    /// A full bucket.
    pub(super) fn new(limits: &SessionLimits, now_ms: u64) -> Self {
        Self {
            left_ms: Self::cost_ms(limits) * u64::from(limits.frames_burst_max),
            at_ms: now_ms,
        }
    }

    fn cost_ms(limits: &SessionLimits) -> u64 {
        (1000 / u64::from(limits.frames_per_s_max.max(1))).max(1)
    }

    /// Takes one frame from it; false if it is empty.
    pub(super) fn spend(&mut self, limits: &SessionLimits, now_ms: u64) -> bool {
        let cost_ms = Self::cost_ms(limits);
        let gained_ms = now_ms.saturating_sub(self.at_ms);
        self.left_ms = (self.left_ms + gained_ms).min(cost_ms * u64::from(limits.frames_burst_max));
        self.at_ms = now_ms;
        let affordable = self.left_ms >= cost_ms;
        if affordable {
            self.left_ms -= cost_ms;
        }
        affordable
    }
}
