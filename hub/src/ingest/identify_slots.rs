//! When each shard may identify. Pure.
//!
//! Discord accepts one identify of a bucket in 5 s, and responds to an earlier one with op 9, which
//! costs another. Separate workers do not know of each other, so all of them ask the hub. It reserves
//! a slot for each, as soon as the bucket is free.

use proto::chain::Bucket;

/// The longest accepted time between two identifies of one bucket, in ms.
const EVERY_MAX_MS: u64 = 60_000;

/// The reserved slots: at most one in the future for each shard, and one in the past for each bucket.
/// They are not stored. After a restart the newest stored identify counts for all earlier slots. A
/// slot in the future may then collide with another, which costs one identify.
#[derive(Debug, Default)]
pub struct IdentifySlots {
    /// In the order of `at_ms`.
    slots: Vec<Slot>,
    /// The newest identify before this hub started: the start, and the time since then, in ms. Its
    /// bucket is not known.
    before: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Slot {
    bucket: u32,
    shard: u32,
    at_ms: u64,
    /// How long the bucket is busy after it.
    every_ms: u64,
}

impl IdentifySlots {
    /// The slots of a hub that starts now. `ago_ms` is the time since the newest stored identify.
    pub fn after(ago_ms: Option<u64>, now_ms: u64) -> Self {
        Self {
            slots: Vec::new(),
            before: ago_ms.map(|ago_ms| (now_ms, ago_ms)),
        }
    }

    /// Reserves the bucket's next slot for a shard, and releases a future slot that the shard has.
    /// Returns the time until the slot, in ms. `now_ms` is monotonic.
    pub fn reserve(&mut self, shard: u32, bucket: Bucket, now_ms: u64) -> u64 {
        let every_ms = bucket.every_ms.min(EVERY_MAX_MS);
        self.slots.retain(|slot| {
            let is_released = slot.shard == shard && slot.at_ms > now_ms;
            !is_released && slot.at_ms.saturating_add(slot.every_ms) > now_ms
        });
        let busy = self.before.map_or(0, |(begun_ms, ago_ms)| {
            begun_ms.saturating_add(every_ms.saturating_sub(ago_ms))
        });
        let mut at_ms = now_ms.max(busy);
        for slot in self
            .slots
            .iter()
            .filter(|slot| slot.bucket == bucket.number)
        {
            let apart = every_ms.max(slot.every_ms);
            if slot.at_ms.abs_diff(at_ms) < apart {
                at_ms = slot.at_ms.saturating_add(apart);
            }
        }
        let later = self.slots.partition_point(|slot| slot.at_ms <= at_ms);
        self.slots.insert(
            later,
            Slot {
                bucket: bucket.number,
                shard,
                at_ms,
                every_ms,
            },
        );
        at_ms - now_ms
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

    #[test]
    fn shards_of_one_bucket_wait_for_each_other_and_buckets_do_not() {
        let mut slots = IdentifySlots::default();
        let reserved = [0, 2, 4, 6].map(|shard| slots.reserve(shard, bucket(0), 10_000));
        assert_eq!(reserved, [0, 5_500, 11_000, 16_500]);
        assert_eq!(slots.reserve(1, bucket(1), 10_000), 0);
        // Later, after the first two slots.
        assert_eq!(slots.reserve(8, bucket(0), 16_000), 16_000);
        assert_eq!(slots.reserve(1, bucket(1), 16_000), 0);
    }

    #[test]
    fn a_repeated_request_keeps_its_slot_and_one_after_an_identify_gets_another() {
        let mut slots = IdentifySlots::default();
        for shard in 0..3 {
            slots.reserve(shard, bucket(0), 0);
        }
        assert_eq!(slots.reserve(1, bucket(0), 1_000), 4_500, "its slot");
        assert_eq!(slots.reserve(2, bucket(0), 1_000), 10_000, "its slot");
        assert_eq!(
            slots.reserve(0, bucket(0), 1_000),
            15_500,
            "behind the others"
        );
        assert_eq!(slots.slots.len(), 4);
        // An unused slot is dropped, and no other.
        assert_eq!(slots.reserve(3, bucket(0), 40_000), 0);
        assert_eq!(slots.slots.len(), 1);
    }

    #[test]
    fn after_a_restart_the_newest_stored_identify_counts() {
        for (ago_ms, wait_ms) in [(None, 0), (Some(2_000), 3_500), (Some(9_000), 0)] {
            let mut slots = IdentifySlots::after(ago_ms, 50);
            assert_eq!(slots.reserve(0, bucket(7), 50), wait_ms, "{ago_ms:?}");
        }
        let mut slots = IdentifySlots::after(Some(0), 50);
        let endless = Bucket {
            number: 0,
            every_ms: u64::MAX,
        };
        assert_eq!(slots.reserve(0, endless, 50), EVERY_MAX_MS);
    }
}
