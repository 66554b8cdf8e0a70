//! When each bucket may identify: Discord takes one identify of a bucket in 5 s, and answers an
//! earlier one with op 9, which costs another. Pure.
//!
//! This process knows when it identified itself. When its predecessor did may be unknown: its notice
//! did not reach the hub, and it was killed. So if anything shows a predecessor, it counts as having
//! identified at the moment when its shard was claimed. A claim of a shard replaces no worker in
//! another bucket.

use std::time::Duration;

use tokio::time::Instant;

/// The buckets of a bot.
#[derive(Debug)]
pub(super) struct Buckets {
    every: Duration,
    buckets: Vec<Bucket>,
    /// Another worker ran before this one.
    has_predecessor: bool,
}

#[derive(Debug, Clone, Default)]
struct Bucket {
    identified: Option<Instant>,
    /// When the last of its shards was claimed.
    claimed: Option<Instant>,
}

impl Buckets {
    /// So many (Discord's `max_concurrency`), each with this time between two identifies.
    pub(super) fn new(count: u32, every: Duration) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
        Self {
            every,
            buckets: vec![Bucket::default(); count],
            has_predecessor: false,
        }
    }

    /// In which bucket a shard is (Discord's documentation, "Sharding for Large Bots").
    pub(super) fn of(&self, shard: u32) -> usize {
        usize::try_from(shard).unwrap_or(0) % self.buckets.len()
    }

    /// A shard was claimed: from now on no earlier worker identifies it.
    pub(super) fn claimed(&mut self, shard: u32, now: Instant) {
        let bucket = self.of(shard);
        self.buckets[bucket].claimed = Some(now);
    }

    /// Another worker ran before this one, and may have identified just before.
    pub(super) fn observe_predecessor(&mut self) {
        self.has_predecessor = true;
    }

    /// A shard identifies.
    pub(super) fn identified(&mut self, shard: u32, now: Instant) {
        let bucket = self.of(shard);
        self.buckets[bucket].identified = Some(now);
    }

    /// When the bucket lets a shard identify; none: at once.
    pub(super) fn free_at(&self, shard: u32) -> Option<Instant> {
        let bucket = &self.buckets[self.of(shard)];
        let before = bucket.claimed.filter(|_| self.has_predecessor);
        Some(bucket.identified.max(before)? + self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    #[test]
    fn only_a_shard_with_a_predecessor_waits_after_its_claim() {
        let begun = Instant::now();
        let mut buckets = Buckets::new(1, EVERY);
        buckets.claimed(0, begun);
        assert_eq!(buckets.free_at(0), None);
        buckets.observe_predecessor();
        assert_eq!(buckets.free_at(0), Some(begun + EVERY));
        // Shards of one bucket are claimed one after the other, and may have been so long before.
        let later = begun + Duration::from_secs(3);
        buckets.claimed(1, later);
        assert_eq!(buckets.free_at(0), Some(later + EVERY));
        buckets.identified(0, later + EVERY);
        assert_eq!(buckets.free_at(1), Some(later + 2 * EVERY));
    }

    #[test]
    fn buckets_do_not_wait_for_each_other() {
        let begun = Instant::now();
        let mut buckets = Buckets::new(2, EVERY);
        buckets.observe_predecessor();
        buckets.claimed(0, begun);
        assert_eq!(buckets.free_at(1), None);
        buckets.claimed(3, begun + EVERY);
        assert_eq!(buckets.free_at(2), Some(begun + EVERY));
        assert_eq!(buckets.free_at(1), Some(begun + 2 * EVERY));
        // Discord's answer may lack the number.
        assert_eq!(Buckets::new(0, EVERY).of(7), 0);
    }
}
