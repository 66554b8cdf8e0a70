//! How often one owner may create a room.

use imbl::{OrdMap, OrdSet};
use launch::rate::{RateBucket, RateLimit};

use super::{LedgerBounds, Owner};

/// How far in the future a bucket is full at most, in ms: it holds one minute's rooms. The second
/// minute is for a clock that was set back a little.
const FULL_WITHIN_MS: u64 = 2 * 60_000;

/// A bucket for each owner. Those that are full are not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct CreateBudgets {
    buckets: OrdMap<Owner, RateBucket>,
    /// The same, the one that is full first comes first.
    soonest: OrdSet<(RateBucket, Owner)>,
}

impl CreateBudgets {
    /// What changes when an owner takes one room from their bucket: this bucket, and those that are
    /// full by now. When more owners than the bound create rooms within a minute, a new one waits.
    ///
    /// # Errors
    /// How long to wait, in ms.
    pub(super) fn take(
        &self,
        owner: &Owner,
        now_ms: u64,
        bounds: &LedgerBounds,
    ) -> Result<Vec<(Owner, Option<RateBucket>)>, u64> {
        let limit = RateLimit::per_minute(bounds.creates_per_minute);
        let known = self.buckets.get(owner).copied();
        let mut bucket = known
            .filter(|bucket| !is_from_the_future(*bucket, now_ms))
            .unwrap_or_default();
        bucket.take(limit, now_ms)?;
        let full = self
            .soonest
            .iter()
            .take_while(|(other, _)| other.is_full(now_ms));
        let wrong = self
            .soonest
            .iter()
            .rev()
            .take_while(|(other, _)| is_from_the_future(*other, now_ms));
        let mut changes: Vec<_> = full
            .chain(wrong)
            .filter(|(_, other)| other != owner)
            .map(|(_, other)| (other.clone(), None))
            .collect();
        let is_above = || self.buckets.len() - changes.len() >= bounds.creators_max;
        if known.is_none() && is_above() {
            return Err(limit.interval_ms());
        }
        changes.push((owner.clone(), Some(bucket)));
        Ok(changes)
    }

    /// Keeps an owner's bucket. None: it is full.
    pub(super) fn set(&mut self, owner: &Owner, bucket: Option<RateBucket>) {
        let before = match bucket {
            Some(bucket) => self.buckets.insert(owner.clone(), bucket),
            None => self.buckets.remove(owner),
        };
        if let Some(before) = before {
            self.soonest.remove(&(before, owner.clone()));
        }
        if let Some(bucket) = bucket {
            self.soonest.insert((bucket, owner.clone()));
        }
    }
}

/// Written before the clock was set back. It counts as full.
fn is_from_the_future(bucket: RateBucket, now_ms: u64) -> bool {
    bucket.full_at_us() / 1_000 > now_ms + FULL_WITHIN_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Creators {
        budgets: CreateBudgets,
        bounds: LedgerBounds,
    }

    impl Creators {
        fn new(creates_per_minute: u32, creators_max: usize) -> Self {
            Self {
                budgets: CreateBudgets::default(),
                bounds: LedgerBounds {
                    creates_per_minute,
                    creators_max,
                    ..LedgerBounds::default()
                },
            }
        }

        fn take(&mut self, owner: &str, now_ms: u64) -> Result<(), u64> {
            let taken = self
                .budgets
                .take(&Owner::new(owner), now_ms, &self.bounds)?;
            for (owner, bucket) in taken {
                self.budgets.set(&owner, bucket);
            }
            assert_eq!(self.budgets.buckets.len(), self.budgets.soonest.len());
            Ok(())
        }
    }

    #[test]
    fn each_owner_may_create_so_many_rooms_in_a_minute() {
        let mut creators = Creators::new(3, 100);
        for _ in 0..3 {
            assert_eq!(creators.take("ada", 1_000_000), Ok(()));
        }
        assert_eq!(creators.take("ada", 1_000_000), Err(20_000));
        assert_eq!(
            creators.take("ada", 1_005_000),
            Err(15_000),
            "a refusal costs nothing"
        );
        assert_eq!(creators.take("bob", 1_005_000), Ok(()));
        assert_eq!(creators.take("ada", 1_020_000), Ok(()));
        assert_eq!(creators.take("ada", 1_020_000), Err(20_000));
        for _ in 0..3 {
            assert_eq!(creators.take("ada", 9_000_000), Ok(()));
        }
        assert!(creators.take("ada", 9_000_000).is_err());
    }

    #[test]
    fn the_memory_is_bounded_for_any_number_of_owners() {
        let mut creators = Creators::new(10, 2);
        assert_eq!(creators.take("a", 0), Ok(()));
        assert_eq!(creators.take("b", 0), Ok(()));
        assert_eq!(creators.take("c", 0), Err(6_000));
        assert_eq!(creators.take("a", 0), Ok(()), "a known owner continues");
        assert_eq!(
            creators.take("c", 6_000),
            Ok(()),
            "b's bucket is full again"
        );
        assert_eq!(creators.budgets.buckets.len(), 2);
    }

    #[test]
    fn a_clock_that_is_set_back_blocks_no_owner() {
        let mut creators = Creators::new(1, 2);
        assert_eq!(creators.take("ada", 9_000_000), Ok(()));
        assert_eq!(creators.take("bob", 9_000_000), Ok(()));
        assert_eq!(creators.take("ada", 1_000_000), Ok(()));
        assert!(creators.take("ada", 1_000_000).is_err());
        assert_eq!(
            creators.take("eve", 1_000_000),
            Ok(()),
            "bob's is forgotten"
        );
        assert_eq!(creators.take("eve", 990_000), Err(70_000), "a small step");
    }
}
