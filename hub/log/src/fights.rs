//! Two workers that take a shard from one another for ever: noticed, and slowed down.
//!
//! Pure: the time is given. A worker that is restarted again and again is no fight: the one before
//! is dead. In a fight each side goes on until it hears that it was fenced, so what counts is a
//! delivery of an older generation, once for each generation.

use std::collections::{BTreeSet, VecDeque};

/// What a minute is, in ms.
const MINUTE_MS: u64 = 60_000;
/// How many fencings are remembered at most, over all shards.
const REMEMBERED_MAX: usize = 10_000;
/// How many ids of deliveries are remembered: more than all shards send while a signature holds,
/// where there are a few; what is repeated later is told by its checkpoint.
const HEARD_MAX: usize = 512;

/// The fencings of the last minute.
#[derive(Debug)]
pub struct Fights {
    per_minute_max: usize,
    /// Shard, fenced generation, when; oldest first.
    fencings: VecDeque<(u32, u64, u64)>,
    /// The ids of the newest deliveries, oldest first.
    heard: VecDeque<String>,
}

impl Fights {
    /// More fencings of a shard within a minute than `per_minute_max` are a fight.
    pub fn new(per_minute_max: usize) -> Self {
        Self {
            per_minute_max,
            fencings: VecDeque::new(),
            heard: VecDeque::new(),
        }
    }

    /// Notes the id of a delivery; false if it was heard before.
    pub fn hears(&mut self, id: &str) -> bool {
        if self.heard.iter().any(|known| known == id) {
            return false;
        }
        if self.heard.len() >= HEARD_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back(id.to_owned());
        true
    }

    /// A worker of this generation was fenced; true if that begins a fight. `now_ms` is monotonic.
    pub fn fenced(&mut self, shard: u32, generation: u64, now_ms: u64) -> bool {
        self.forget(now_ms);
        let known = |(of, fenced, _): &(u32, u64, u64)| (*of, *fenced) == (shard, generation);
        if self.fencings.iter().any(known) {
            return false;
        }
        if self.fencings.len() >= REMEMBERED_MAX {
            self.fencings.pop_front();
        }
        self.fencings.push_back((shard, generation, now_ms));
        self.of(shard).count() == self.per_minute_max + 1
    }

    /// How long another worker than the holder has to wait until it may claim a shard, in ms;
    /// none: there is no fight.
    pub fn wait_ms(&mut self, shard: u32, now_ms: u64) -> Option<u64> {
        self.forget(now_ms);
        let excess = self
            .of(shard)
            .count()
            .checked_sub(self.per_minute_max + 1)?;
        let at = self.of(shard).nth(excess)?;
        Some((at + MINUTE_MS).saturating_sub(now_ms).max(1))
    }

    /// As [`Fights::wait_ms`], of whichever shard is fought for most.
    pub fn wait_any_ms(&mut self, now_ms: u64) -> Option<u64> {
        let shards: BTreeSet<u32> = self.fencings.iter().map(|(shard, ..)| *shard).collect();
        let waits = shards
            .into_iter()
            .filter_map(|shard| self.wait_ms(shard, now_ms));
        waits.max()
    }

    /// When fencings of a shard were, oldest first.
    fn of(&self, shard: u32) -> impl Iterator<Item = u64> {
        self.fencings
            .iter()
            .filter(move |(of, ..)| *of == shard)
            .map(|(.., at)| *at)
    }

    fn forget(&mut self, now_ms: u64) {
        while let Some((.., at)) = self.fencings.front()
            && now_ms.saturating_sub(*at) >= MINUTE_MS
        {
            self.fencings.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_fencings_in_a_minute_than_allowed_are_a_fight_until_they_are_old() {
        let mut fights = Fights::new(3);
        for (n, generation) in [10, 11, 12].into_iter().enumerate() {
            assert!(!fights.fenced(0, generation, 1_000 * n as u64));
            assert!(
                !fights.fenced(0, generation, 1_000 * n as u64),
                "once a generation"
            );
        }
        assert_eq!(fights.wait_ms(0, 2_000), None);
        assert!(fights.fenced(0, 13, 3_000));
        assert_eq!(fights.wait_ms(0, 4_000), Some(56_000));
        assert_eq!(fights.wait_ms(1, 4_000), None, "another shard");
        assert_eq!(fights.wait_ms(0, 60_000), None);
        assert!(fights.fenced(0, 14, 60_500), "it begins anew");
        assert!(!fights.fenced(0, 15, 60_600), "it goes on");
        assert_eq!(
            fights.wait_ms(0, 60_700),
            Some(300 + 1_000),
            "until three are left"
        );
        assert!(fights.fencings.len() <= 6);
    }
}
