//! Two workers that take a shard from one another for ever: noticed, and slowed down.
//!
//! Pure and persistent. A worker that is restarted again and again is no contention: the one before
//! it is dead. In a contention each side continues until it is fenced. So a delivery of an older
//! generation counts, once for each generation.

use std::collections::BTreeSet;

use imbl::Vector;

/// What a minute is, in ms.
const MINUTE_MS: u64 = 60_000;
/// How many fencings are remembered at most, over all shards.
const REMEMBERED_MAX: usize = 10_000;

/// The fencings of the last minute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClaimContention {
    per_minute_max: usize,
    /// Oldest first.
    fencings: Vector<Fencing>,
}

/// A worker of this generation has delivered after another one claimed its shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fencing {
    /// The shard.
    pub shard: u32,
    /// The fenced generation.
    pub generation: u64,
    /// When, in ms since the Unix epoch.
    pub at_ms: u64,
}

impl Fencing {
    /// One that is still to come was before the clock was set back.
    fn is_recent(&self, now_ms: u64) -> bool {
        now_ms
            .checked_sub(self.at_ms)
            .is_some_and(|age_ms| age_ms < MINUTE_MS)
    }
}

impl ClaimContention {
    /// More fencings of a shard within a minute than `per_minute_max` are a contention.
    pub fn new(per_minute_max: usize) -> Self {
        Self {
            per_minute_max,
            fencings: Vector::new(),
        }
    }

    /// Forgets all fencings.
    pub(crate) fn forget(&mut self) {
        self.fencings.clear();
    }

    /// Whether a fencing of this generation is already counted.
    pub(crate) fn knows(&self, shard: u32, generation: u64, now_ms: u64) -> bool {
        self.fencings.iter().any(|known| {
            (known.shard, known.generation) == (shard, generation) && known.is_recent(now_ms)
        })
    }

    /// Counts a fencing. True if a contention begins with it.
    pub(crate) fn add(&mut self, fencing: Fencing) -> bool {
        let now_ms = fencing.at_ms;
        self.fencings.retain(|known| known.is_recent(now_ms));
        if self.fencings.len() >= REMEMBERED_MAX {
            self.fencings.pop_front();
        }
        self.fencings.push_back(fencing);
        self.of(fencing.shard, now_ms).count() == self.per_minute_max + 1
    }

    /// How long another worker than the holder has to wait until it may claim a shard, in ms. None:
    /// there is no contention.
    pub(crate) fn wait_ms(&self, shard: u32, now_ms: u64) -> Option<u64> {
        let excess = self
            .of(shard, now_ms)
            .count()
            .checked_sub(self.per_minute_max + 1)?;
        let at_ms = self.of(shard, now_ms).nth(excess)?;
        Some((at_ms + MINUTE_MS).saturating_sub(now_ms).max(1))
    }

    /// As [`ClaimContention::wait_ms`], of the shard with the longest wait.
    pub(crate) fn wait_any_ms(&self, now_ms: u64) -> Option<u64> {
        let shards: BTreeSet<u32> = self.fencings.iter().map(|known| known.shard).collect();
        let waits = shards
            .into_iter()
            .filter_map(|shard| self.wait_ms(shard, now_ms));
        waits.max()
    }

    /// When the recent fencings of a shard were, oldest first.
    fn of(&self, shard: u32, now_ms: u64) -> impl Iterator<Item = u64> {
        self.fencings
            .iter()
            .filter(move |known| known.shard == shard && known.is_recent(now_ms))
            .map(|known| known.at_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fenced(contention: &mut ClaimContention, generation: u64, at_ms: u64) -> bool {
        !contention.knows(0, generation, at_ms)
            && contention.add(Fencing {
                shard: 0,
                generation,
                at_ms,
            })
    }

    #[test]
    fn more_fencings_in_a_minute_than_allowed_are_a_contention_until_they_are_old() {
        let mut contention = ClaimContention::new(3);
        for (n, generation) in [10, 11, 12].into_iter().enumerate() {
            let at_ms = 1_000 * n as u64;
            assert!(!fenced(&mut contention, generation, at_ms));
            assert!(
                !fenced(&mut contention, generation, at_ms),
                "once a generation"
            );
        }
        assert_eq!(contention.wait_ms(0, 2_000), None);
        assert!(fenced(&mut contention, 13, 3_000));
        assert_eq!(contention.wait_ms(0, 4_000), Some(56_000));
        assert_eq!(contention.wait_any_ms(4_000), Some(56_000));
        assert_eq!(contention.wait_ms(1, 4_000), None, "another shard");
        assert_eq!(contention.wait_ms(0, 60_000), None);
        assert!(fenced(&mut contention, 14, 60_500), "it begins again");
        assert!(!fenced(&mut contention, 15, 60_600), "it continues");
        assert_eq!(
            contention.wait_ms(0, 60_700),
            Some(300 + 1_000),
            "until three are left"
        );
        assert!(contention.fencings.len() <= 6);
    }

    #[test]
    fn a_clock_that_was_set_back_ends_a_contention() {
        let mut contention = ClaimContention::new(0);
        assert!(fenced(&mut contention, 1, 10_000_000));
        assert_eq!(contention.wait_ms(0, 1_000), None);
        assert!(fenced(&mut contention, 1, 1_000));
        assert_eq!(contention.fencings.len(), 1);
    }
}
