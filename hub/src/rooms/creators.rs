//! How often one subject may create a room. Pure: the time is given, and never goes back.

use std::collections::HashMap;

use crate::auth::Subject;

/// What a minute is, in ms.
const MINUTE_MS: u64 = 60_000;

/// For each subject a bucket that holds a minute's rooms and fills evenly. A subject whose bucket
/// is full again is forgotten.
pub(super) struct Creators {
    interval_ms: u64,
    max: usize,
    /// When each bucket will be full again.
    full_at_ms: HashMap<Subject, u64>,
}

impl Creators {
    /// `per_minute` rooms a subject (at least one); at most `max` subjects are remembered. When
    /// more than that create rooms within a minute, further ones wait.
    pub(super) fn new(per_minute: u32, max: usize) -> Self {
        Self {
            interval_ms: MINUTE_MS / u64::from(per_minute.max(1)),
            max,
            full_at_ms: HashMap::new(),
        }
    }

    /// Takes one room from the subject's bucket. `now_ms` is monotonic, from any zero.
    ///
    /// # Errors
    /// How long to wait, in ms.
    pub(super) fn take(&mut self, subject: &Subject, now_ms: u64) -> Result<(), u64> {
        let full_at_ms = self
            .full_at_ms
            .get(subject)
            .copied()
            .unwrap_or(0)
            .max(now_ms);
        let empty_by_ms = full_at_ms + self.interval_ms - now_ms;
        if empty_by_ms > MINUTE_MS {
            return Err(empty_by_ms - MINUTE_MS);
        }
        if self.full_at_ms.len() >= self.max && !self.full_at_ms.contains_key(subject) {
            self.full_at_ms.retain(|_, full_at_ms| *full_at_ms > now_ms);
            if self.full_at_ms.len() >= self.max {
                return Err(self.interval_ms);
            }
        }
        self.full_at_ms
            .insert(subject.clone(), full_at_ms + self.interval_ms);
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
    fn a_minute_holds_so_many_rooms_for_each_subject() {
        let mut creators = Creators::new(3, 100);
        let (ada, bob) = (subject("ada"), subject("bob"));
        for _ in 0..3 {
            assert_eq!(creators.take(&ada, 1_000_000), Ok(()));
        }
        assert_eq!(creators.take(&ada, 1_000_000), Err(20_000));
        assert_eq!(
            creators.take(&ada, 1_005_000),
            Err(15_000),
            "asking costs nothing"
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
    fn however_many_subjects_there_are_the_memory_is_bounded() {
        let mut creators = Creators::new(10, 2);
        assert_eq!(creators.take(&subject("a"), 0), Ok(()));
        assert_eq!(creators.take(&subject("b"), 0), Ok(()));
        assert_eq!(creators.take(&subject("c"), 0), Err(6_000));
        assert_eq!(
            creators.take(&subject("a"), 0),
            Ok(()),
            "who is known goes on"
        );
        assert_eq!(
            creators.take(&subject("c"), 6_000),
            Ok(()),
            "b's bucket is full again"
        );
        assert_eq!(creators.full_at_ms.len(), 2);
    }
}
