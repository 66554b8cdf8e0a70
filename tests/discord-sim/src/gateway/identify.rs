//! The identify budget: so many a day, and one a bucket every five seconds (`gateway.mdx`,
//! "Session Start Limit Object", "Max Concurrency"). Pure: the time is given.

use std::collections::BTreeMap;

/// What an identify costs, and when it may.
#[derive(Debug)]
pub(crate) struct Budget {
    total: u32,
    window_ms: u64,
    every_ms: u64,
    max_concurrency: u32,
    used: u32,
    window_from_ms: u64,
    buckets: BTreeMap<u32, u64>,
}

/// The answer to an identify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may start a session.
    Go,
    /// Its bucket is busy: op 9.
    Busy,
    /// The budget is spent: every session ends, and the token is reset.
    Spent,
}

impl Budget {
    /// A full budget.
    pub(crate) fn new(total: u32, window_ms: u64, every_ms: u64, max_concurrency: u32) -> Self {
        Self {
            total,
            window_ms,
            every_ms,
            max_concurrency,
            used: 0,
            window_from_ms: 0,
            buckets: BTreeMap::new(),
        }
    }

    /// Counts one identify of `shard`. Refused ones count as well: the limit is on calls.
    pub(crate) fn spend(&mut self, shard: u32, now_ms: u64) -> Verdict {
        if self.reset_after_ms(now_ms) == 0 {
            self.used = 0;
            self.window_from_ms = now_ms;
        }
        if self.used >= self.total {
            return Verdict::Spent;
        }
        self.used += 1;
        let bucket = shard % self.max_concurrency;
        match self.buckets.get(&bucket) {
            Some(free_ms) if now_ms < *free_ms => Verdict::Busy,
            _ => {
                self.buckets
                    .insert(bucket, now_ms.saturating_add(self.every_ms));
                Verdict::Go
            }
        }
    }

    /// How many identifies are left in this window.
    pub(crate) fn remaining(&self, now_ms: u64) -> u32 {
        if self.reset_after_ms(now_ms) == 0 {
            self.total
        } else {
            self.total - self.used
        }
    }

    /// Milliseconds until the budget is full again; 0: it is.
    pub(crate) fn reset_after_ms(&self, now_ms: u64) -> u64 {
        if self.used == 0 {
            return 0;
        }
        self.window_from_ms
            .saturating_add(self.window_ms)
            .saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_fills_up_again_when_its_window_ends() {
        let mut budget = Budget::new(2, 10_000, 0, 1);
        assert_eq!(budget.remaining(7), 2);
        assert_eq!(budget.spend(0, 7), Verdict::Go);
        assert_eq!(budget.reset_after_ms(7), 10_000);
        assert_eq!(budget.spend(0, 8), Verdict::Go);
        assert_eq!(budget.spend(0, 9), Verdict::Spent);
        assert_eq!(budget.remaining(9), 0);
        assert_eq!(budget.spend(0, 10_007), Verdict::Go);
        assert_eq!(budget.remaining(10_007), 1);
    }
}
