//! Whose turn it is to identify. Pure.
//!
//! Discord takes one identify of a bucket in 5 s, and answers an earlier one with op 9, which costs
//! another. Workers that are processes of their own do not know of each other, and all of them ask
//! here: so each is given a turn, as soon as the bucket is free.

use proto::chain::Bucket;

/// The longest time between two identifies of one bucket that is believed, in ms.
const EVERY_MAX_MS: u64 = 60_000;

/// The turns that were given. They are not stored: after a restart, the newest identify of the ledger
/// stands for those before, and a turn that was still to come may meet another, which costs one
/// identify. At most one to come for each shard, and one past for each bucket.
#[derive(Debug, Default)]
pub struct Turns {
    /// By `at_ms`.
    given: Vec<Turn>,
    /// The newest identify before all of these: when it was, at the earliest and in no known bucket.
    before: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Turn {
    bucket: u32,
    shard: u32,
    at_ms: u64,
    /// How long it keeps the bucket busy.
    every_ms: u64,
}

impl Turns {
    /// Turns of a hub whose ledger ends so long ago; none: it is empty.
    pub fn after(ago_ms: Option<u64>, now_ms: u64) -> Self {
        Self {
            given: Vec::new(),
            before: ago_ms.map(|ago_ms| (now_ms, ago_ms)),
        }
    }

    /// Gives a shard the bucket's next turn, in place of one to come that it has. Returns how long it
    /// is until then, in ms. `now_ms` is monotonic.
    pub fn give(&mut self, shard: u32, bucket: Bucket, now_ms: u64) -> u64 {
        let every_ms = bucket.every_ms.min(EVERY_MAX_MS);
        self.given.retain(|turn| {
            let moved = turn.shard == shard && turn.at_ms > now_ms;
            !moved && turn.at_ms.saturating_add(turn.every_ms) > now_ms
        });
        let busy = self.before.map_or(0, |(begun_ms, ago_ms)| {
            begun_ms.saturating_add(every_ms.saturating_sub(ago_ms))
        });
        let mut at_ms = now_ms.max(busy);
        for turn in self.given.iter().filter(|one| one.bucket == bucket.number) {
            let apart = every_ms.max(turn.every_ms);
            if turn.at_ms.abs_diff(at_ms) < apart {
                at_ms = turn.at_ms.saturating_add(apart);
            }
        }
        let later = self.given.partition_point(|one| one.at_ms <= at_ms);
        self.given.insert(
            later,
            Turn {
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
    fn shards_of_one_bucket_take_turns_and_buckets_do_not_wait_for_each_other() {
        let mut turns = Turns::default();
        let given = [0, 2, 4, 6].map(|shard| turns.give(shard, bucket(0), 10_000));
        assert_eq!(given, [0, 5_500, 11_000, 16_500]);
        assert_eq!(turns.give(1, bucket(1), 10_000), 0);
        // Later, when the first two have had theirs.
        assert_eq!(turns.give(8, bucket(0), 16_000), 16_000);
        assert_eq!(turns.give(1, bucket(1), 16_000), 0);
    }

    #[test]
    fn who_asks_again_keeps_the_place_and_who_has_identified_gets_another() {
        let mut turns = Turns::default();
        for shard in 0..3 {
            turns.give(shard, bucket(0), 0);
        }
        assert_eq!(turns.give(1, bucket(0), 1_000), 4_500, "its place");
        assert_eq!(turns.give(2, bucket(0), 1_000), 10_000, "its place");
        assert_eq!(turns.give(0, bucket(0), 1_000), 15_500, "behind the others");
        assert_eq!(turns.given.len(), 4);
        // A turn that nobody takes up is lost, and no other.
        assert_eq!(turns.give(3, bucket(0), 40_000), 0);
        assert_eq!(turns.given.len(), 1);
    }

    #[test]
    fn after_a_restart_the_ledger_tells_when_the_bot_identified() {
        for (ago_ms, wait_ms) in [(None, 0), (Some(2_000), 3_500), (Some(9_000), 0)] {
            let mut turns = Turns::after(ago_ms, 50);
            assert_eq!(turns.give(0, bucket(7), 50), wait_ms, "{ago_ms:?}");
        }
        let mut turns = Turns::after(Some(0), 50);
        let endless = Bucket {
            number: 0,
            every_ms: u64::MAX,
        };
        assert_eq!(turns.give(0, endless, 50), EVERY_MAX_MS);
    }
}
