//! The token bucket of every limit on a rate. Pure: the time is given, and never goes back.

/// How many microseconds a millisecond has.
const US_PER_MS: u64 = 1_000;

/// A rate with a burst: how fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    interval_us: u64,
    capacity_us: u64,
}

impl RateLimit {
    /// On average `count` a second, and `burst` at once. With a burst of 0 nothing is admitted.
    pub fn per_second(count: u32, burst: u32) -> Self {
        Self::new(1_000_000 / u64::from(count.max(1)), burst)
    }

    /// On average `count` a minute (at least one), and as many at once.
    pub fn per_minute(count: u32) -> Self {
        let count = count.max(1);
        Self::new(60_000_000 / u64::from(count), count)
    }

    fn new(interval_us: u64, burst: u32) -> Self {
        Self {
            interval_us,
            capacity_us: interval_us.saturating_mul(u64::from(burst)),
        }
    }

    /// The time in which the bucket gains one, in ms.
    pub fn interval_ms(self) -> u64 {
        self.interval_us.div_ceil(US_PER_MS)
    }
}

/// One bucket. A new one is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RateBucket {
    full_at_us: u64,
}

impl RateBucket {
    /// Takes one from the bucket. `now_ms` is monotonic, from any zero.
    ///
    /// # Errors
    /// How long to wait for the next, in ms.
    pub fn take(&mut self, limit: RateLimit, now_ms: u64) -> Result<(), u64> {
        let now_us = now_ms.saturating_mul(US_PER_MS);
        let full_at_us = self
            .full_at_us
            .max(now_us)
            .saturating_add(limit.interval_us);
        let missing_us = full_at_us - now_us;
        if missing_us > limit.capacity_us {
            return Err((missing_us - limit.capacity_us).div_ceil(US_PER_MS));
        }
        self.full_at_us = full_at_us;
        Ok(())
    }

    /// The bucket that is full at this time, in µs from the same zero.
    pub fn full_at(full_at_us: u64) -> Self {
        Self { full_at_us }
    }

    /// When the bucket is full, in µs.
    pub fn full_at_us(self) -> u64 {
        self.full_at_us
    }

    /// Whether the bucket is full, and so need not be kept.
    pub fn is_full(&self, now_ms: u64) -> bool {
        self.full_at_us <= now_ms.saturating_mul(US_PER_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_a_burst_and_then_fills_evenly() {
        let (limit, mut bucket) = (RateLimit::per_second(2, 3), RateBucket::default());
        for _ in 0..3 {
            assert_eq!(bucket.take(limit, 10_000), Ok(()));
        }
        assert_eq!(bucket.take(limit, 10_000), Err(500));
        // A refusal costs nothing.
        assert_eq!(bucket.take(limit, 10_400), Err(100));
        assert_eq!(bucket.take(limit, 10_500), Ok(()));
        assert!(!bucket.is_full(11_999) && bucket.is_full(12_000));
        for _ in 0..3 {
            assert_eq!(bucket.take(limit, 99_000), Ok(()));
        }
        assert_eq!(bucket.take(limit, 99_000), Err(500));
    }

    #[test]
    fn a_minute_holds_its_count_and_no_more() {
        for count in [1, 7, 60, 1_000] {
            let (limit, mut bucket) = (RateLimit::per_minute(count), RateBucket::default());
            let taken = (0..2_000).filter(|_| bucket.take(limit, 5).is_ok()).count();
            assert_eq!(taken, count as usize);
            assert!(bucket.is_full(60_005));
        }
    }

    #[test]
    fn a_burst_of_nothing_admits_nothing_and_the_highest_rates_are_exact() {
        let mut bucket = RateBucket::default();
        let nothing = RateLimit::per_second(0, 0);
        assert!((0..10).all(|second| bucket.take(nothing, second * 1_000).is_err()));
        let (limit, mut bucket) = (RateLimit::per_second(1_000_000, 1), RateBucket::default());
        assert!((0..10).all(|ms| bucket.take(limit, ms) == Ok(())));
    }
}
