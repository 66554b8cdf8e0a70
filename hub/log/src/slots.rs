//! When each shard may identify. Pure and persistent.
//!
//! Discord takes one identify of a bucket in 5 s, and answers an earlier one with op 9, which costs
//! another identify. Workers that are processes of their own do not know of each other, and all of
//! them ask the hub. So each shard is given a slot, as soon as the bucket is free.

use imbl::Vector;
use proto::chain::Bucket;

/// The longest time between two identifies of one bucket that is believed, in ms.
const EVERY_MAX_MS: u64 = 60_000;

/// The slots that were given: at most one to come for each shard, and one past for each bucket. They
/// are not stored. After a restart the newest stored identify stands for those before; a slot that
/// was still to come may meet another, which costs one identify.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct IdentifySlots {
    /// By `at_ms`.
    given: Vector<Slot>,
    /// When the newest identify before all of these was, in an unknown bucket.
    before_ms: Option<u64>,
}

/// A time at which a shard may identify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The bucket.
    pub bucket: u32,
    /// The shard.
    pub shard: u32,
    /// When, in ms since the Unix epoch.
    pub at_ms: u64,
    /// How long the identify occupies the bucket, in ms.
    pub every_ms: u64,
}

impl IdentifySlots {
    /// The slots of a hub that starts now, if the newest stored identify was then.
    pub(crate) fn after(newest_ms: Option<u64>, now_ms: u64) -> Self {
        Self {
            given: Vector::new(),
            before_ms: newest_ms.map(|newest_ms| newest_ms.min(now_ms)),
        }
    }

    /// The bucket's next slot for a shard, in place of one to come that the shard has.
    pub(crate) fn next(&self, shard: u32, bucket: Bucket, now_ms: u64) -> Slot {
        let every_ms = bucket.every_ms.min(EVERY_MAX_MS);
        // An identify that is still to come was before the clock was set back.
        let before_ms = self.before_ms.filter(|before_ms| *before_ms <= now_ms);
        let busy_until_ms = before_ms.map_or(0, |before_ms| before_ms.saturating_add(every_ms));
        let mut at_ms = now_ms.max(busy_until_ms);
        let given = self.given.iter();
        for slot in
            given.filter(|slot| slot.bucket == bucket.number && self.holds(slot, shard, now_ms))
        {
            let apart = every_ms.max(slot.every_ms);
            if slot.at_ms.abs_diff(at_ms) < apart {
                at_ms = slot.at_ms.saturating_add(apart);
            }
        }
        Slot {
            bucket: bucket.number,
            shard,
            at_ms,
            every_ms,
        }
    }

    /// Gives a slot, and forgets those that are of no more use.
    pub(crate) fn give(&mut self, slot: Slot, now_ms: u64) {
        let mut given: Vector<Slot> = self
            .given
            .iter()
            .filter(|known| self.holds(known, slot.shard, now_ms))
            .copied()
            .collect();
        let later = given.iter().take_while(|known| known.at_ms <= slot.at_ms);
        given.insert(later.count(), slot);
        self.given = given;
    }

    /// Whether a slot still counts when this shard asks for another.
    fn holds(&self, slot: &Slot, shard: u32, now_ms: u64) -> bool {
        let is_replaced = slot.shard == shard && slot.at_ms > now_ms;
        // Slots queue without a gap: one that is further away was given before the clock was set back.
        let queue_ms = EVERY_MAX_MS.saturating_mul(self.given.len() as u64);
        !is_replaced
            && slot.at_ms.saturating_add(slot.every_ms) > now_ms
            && slot.at_ms <= now_ms.saturating_add(queue_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(number: u32) -> Bucket {
        Bucket {
            number,
            every_ms: 5_500,
        }
    }

    fn give(slots: &mut IdentifySlots, shard: u32, bucket: Bucket, now_ms: u64) -> u64 {
        let slot = slots.next(shard, bucket, now_ms);
        slots.give(slot, now_ms);
        slot.at_ms - now_ms
    }

    #[test]
    fn shards_of_one_bucket_queue_and_buckets_do_not_wait_for_each_other() {
        let mut slots = IdentifySlots::default();
        let given = [0, 2, 4, 6].map(|shard| give(&mut slots, shard, bucket(0), 10_000));
        assert_eq!(given, [0, 5_500, 11_000, 16_500]);
        assert_eq!(give(&mut slots, 1, bucket(1), 10_000), 0);
        // Later, when the first two have identified.
        assert_eq!(give(&mut slots, 8, bucket(0), 16_000), 16_000);
        assert_eq!(give(&mut slots, 1, bucket(1), 16_000), 0);
    }

    #[test]
    fn a_shard_that_asks_again_keeps_its_slot_and_one_that_has_identified_gets_another() {
        let mut slots = IdentifySlots::default();
        for shard in 0..3 {
            give(&mut slots, shard, bucket(0), 0);
        }
        assert_eq!(give(&mut slots, 1, bucket(0), 1_000), 4_500, "its slot");
        assert_eq!(give(&mut slots, 2, bucket(0), 1_000), 10_000, "its slot");
        assert_eq!(
            give(&mut slots, 0, bucket(0), 1_000),
            15_500,
            "behind the others"
        );
        assert_eq!(slots.given.len(), 4);
        // A slot that no shard uses is lost, and no other.
        assert_eq!(give(&mut slots, 3, bucket(0), 40_000), 0);
        assert_eq!(slots.given.len(), 1);
    }

    #[test]
    fn after_a_restart_the_newest_stored_identify_counts() {
        let now_ms = 50_000;
        for (newest_ms, wait_ms) in [
            (None, 0),
            (Some(48_000), 3_500),
            (Some(41_000), 0),
            (Some(90_000), 5_500),
        ] {
            let mut slots = IdentifySlots::after(newest_ms, now_ms);
            assert_eq!(
                give(&mut slots, 0, bucket(7), now_ms),
                wait_ms,
                "{newest_ms:?}"
            );
        }
        let mut slots = IdentifySlots::after(Some(now_ms), now_ms);
        let endless = Bucket {
            number: 0,
            every_ms: u64::MAX,
        };
        assert_eq!(give(&mut slots, 0, endless, now_ms), EVERY_MAX_MS);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_shard_wait_for_long() {
        let mut slots = IdentifySlots::after(Some(9_000_000), 9_000_000);
        for shard in 0..3 {
            give(&mut slots, shard, bucket(0), 10_000_000);
        }
        assert_eq!(give(&mut slots, 3, bucket(0), 1_000), 0);
        assert_eq!(give(&mut slots, 4, bucket(0), 1_000), 5_500);
    }
}
