//! What a guild owes: one snapshot with a later mark than the debt. While the hub refuses it, the
//! waits between retries grow.

use proto::chain::Mark;

/// Milliseconds before a refused snapshot is retried, at first; doubles.
const AGAIN_MIN_MS: u64 = 1_000;
/// Milliseconds that this grows to.
const AGAIN_MAX_MS: u64 = 60_000;

/// The debt of one guild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Debt {
    /// Why, in a fixed word.
    pub reason: &'static str,
    /// The guild's newest mark when the debt was recorded: a snapshot with a later one pays it.
    pub since: Mark,
    /// Why the last snapshot was not taken.
    pub failure: Option<FailureReason>,
    /// The mark of the snapshot that is queued for it.
    paying: Option<Mark>,
    failures: u32,
    not_before_ms: u64,
}

/// Why a snapshot is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// It is larger than any delivery may be.
    TooLarge,
    /// The hub calls it malformed.
    Refused,
}

impl Debt {
    pub(super) fn new(reason: &'static str) -> Self {
        Self {
            reason,
            since: Mark::default(),
            failure: None,
            paying: None,
            failures: 0,
            not_before_ms: 0,
        }
    }

    /// Records the debt, or renews it: only a snapshot newer than `since` pays it.
    pub(super) fn renew(&mut self, since: Mark) {
        self.since = self.since.max(since);
        self.paying = None;
    }

    /// The mark of the snapshot that is queued for it.
    pub(super) fn paying(&self) -> Option<Mark> {
        self.paying
    }

    /// Whether its snapshot is due.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        // No wait is that long: the clock was set back.
        let set_back = self.not_before_ms > now_ms.saturating_add(AGAIN_MAX_MS);
        self.paying.is_none() && (self.not_before_ms <= now_ms || set_back)
    }

    /// Whether a snapshot with this mark would pay it.
    pub(super) fn takes(&self, mark: Mark) -> bool {
        self.paying.is_none() && self.since < mark
    }

    /// The snapshot with this mark is queued for it.
    pub(super) fn pay(&mut self, mark: Mark) {
        self.paying = Some(mark);
    }

    /// Its snapshot was refused: each retry waits longer.
    pub(super) fn fail(&mut self, failure: FailureReason, now_ms: u64) {
        let factor = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let wait = AGAIN_MIN_MS.saturating_mul(factor).min(AGAIN_MAX_MS);
        self.failures = self.failures.saturating_add(1);
        self.failure = Some(failure);
        self.not_before_ms = now_ms.saturating_add(wait);
        self.paying = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_snapshot_does_not_wait_for_a_clock_that_was_set_back() {
        let begun = 10_000_000;
        let mut debt = Debt::new("refused");
        debt.fail(FailureReason::Refused, begun);
        assert!(!debt.is_due(begun));
        assert!(debt.is_due(begun + AGAIN_MIN_MS));
        assert!(!debt.is_due(begun - 1_000), "within the longest wait");
        assert!(debt.is_due(begun - 3_600_000));
    }
}
