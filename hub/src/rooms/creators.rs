//! How often one subject may create a room. Pure: the time is given, and never goes back.

use std::collections::HashMap;

use launch::rate::{RateBucket, RateLimit};

use crate::auth::Subject;

/// A bucket for each subject that created a room in the last minute.
pub(super) struct Creators {
    limit: RateLimit,
    max: usize,
    buckets: HashMap<Subject, RateBucket>,
}

impl Creators {
    /// `per_minute` rooms a subject (at least one), and buckets of at most `max` subjects. When more
    /// subjects create rooms within a minute, further ones wait.
    pub(super) fn new(per_minute: u32, max: usize) -> Self {
        Self {
            limit: RateLimit::per_minute(per_minute),
            max,
            buckets: HashMap::new(),
        }
    }

    /// Takes one room from the subject's bucket. `now_ms` is monotonic, from any zero.
    ///
    /// # Errors
    /// How long to wait, in ms.
    pub(super) fn take(&mut self, subject: &Subject, now_ms: u64) -> Result<(), u64> {
        if let Some(bucket) = self.buckets.get_mut(subject) {
            return bucket.take(self.limit, now_ms);
        }
        if self.buckets.len() >= self.max {
            self.buckets.retain(|_, bucket| !bucket.is_full(now_ms));
            if self.buckets.len() >= self.max {
                return Err(self.limit.interval_ms());
            }
        }
        let mut bucket = RateBucket::default();
        bucket.take(self.limit, now_ms)?;
        self.buckets.insert(subject.clone(), bucket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> Subject {
        Subject::new(name).unwrap()
    }

    #[test]
    fn each_subject_may_create_its_rooms_of_a_minute() {
        let mut creators = Creators::new(3, 100);
        let (ada, bob) = (subject("ada"), subject("bob"));
        for _ in 0..3 {
            assert_eq!(creators.take(&ada, 1_000_000), Ok(()));
        }
        assert_eq!(creators.take(&ada, 1_000_000), Err(20_000));
        assert_eq!(
            creators.take(&ada, 1_005_000),
            Err(15_000),
            "a refusal costs nothing"
        );
        assert_eq!(creators.take(&bob, 1_005_000), Ok(()));
        assert_eq!(creators.take(&ada, 1_020_000), Ok(()));
        assert_eq!(creators.take(&ada, 1_020_000), Err(20_000));
        for _ in 0..3 {
            assert_eq!(creators.take(&ada, 9_000_000), Ok(()));
        }
        assert!(creators.take(&ada, 9_000_000).is_err());
    }

    #[test]
    fn the_memory_is_bounded_for_any_number_of_subjects() {
        let mut creators = Creators::new(10, 2);
        assert_eq!(creators.take(&subject("a"), 0), Ok(()));
        assert_eq!(creators.take(&subject("b"), 0), Ok(()));
        assert_eq!(creators.take(&subject("c"), 0), Err(6_000));
        assert_eq!(
            creators.take(&subject("a"), 0),
            Ok(()),
            "a subject with a bucket goes on"
        );
        assert_eq!(
            creators.take(&subject("c"), 6_000),
            Ok(()),
            "b's bucket is full again"
        );
        assert_eq!(creators.buckets.len(), 2);
    }
}
