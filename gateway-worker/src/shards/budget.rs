//! When a shard may identify: the day's budget, and waits that grow with what was spent of it.
//!
//! Past 1000 identifies in 24 h Discord ends every session *and resets the bot's token*. Discord
//! itself keeps the count (`session_start_limit` of `GET /gateway/bot`), over every process that
//! used the token. So no file of ours has to: a worker in a crash loop finds its earlier identifies
//! there. Pure.

use std::time::Duration;

/// Discord's count of identifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct Ledger {
    /// Identifies in one window.
    pub total: u32,
    /// What is left of them.
    pub remaining: u32,
    /// Milliseconds until the next window.
    #[serde(default)]
    pub reset_after: u64,
    /// How many shards may identify at the same time.
    #[serde(default)]
    pub max_concurrency: u32,
}

/// How the budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Identifies in 24 h at which the worker stops.
    pub per_day_max: u32,
    /// Identifies that cost no wait.
    pub free: u32,
    /// The longest wait before one.
    pub wait_max: Duration,
}

/// Whether a shard may identify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// After this wait.
    After(Duration),
    /// Not now: ask again after this.
    Exhausted(Duration),
}

/// Identifies that are never spent, so that a person can still start a bot manually.
const RESERVE_MAX: u32 = 10;
/// The wait that follows the free identifies; it doubles.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The shortest pause before an exhausted budget is checked_at at again.
const CHECK_AGAIN_MIN: Duration = Duration::from_secs(5);

impl Budget {
    /// Judges by Discord's ledger and by what this process itself has spent in the last 24 h.
    pub fn judge(&self, ledger: Ledger, own: u32) -> Verdict {
        let used = self.used(ledger, own);
        let reserve = RESERVE_MAX.min(ledger.total / 10);
        if used >= self.per_day_max || ledger.remaining <= reserve {
            return Verdict::Exhausted(
                Duration::from_millis(ledger.reset_after).max(CHECK_AGAIN_MIN),
            );
        }
        let Some(beyond) = used.checked_sub(self.free) else {
            return Verdict::After(Duration::ZERO);
        };
        let factor = 1_u32.checked_shl(beyond).unwrap_or(u32::MAX);
        Verdict::After(WAIT_MIN.saturating_mul(factor).min(self.wait_max))
    }

    /// How many identifies were spent in the window.
    pub fn used(&self, ledger: Ledger, own: u32) -> u32 {
        ledger.total.saturating_sub(ledger.remaining).max(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        per_day_max: 500,
        free: 20,
        wait_max: Duration::from_secs(300),
    };

    fn ledger(used: u32) -> Ledger {
        Ledger {
            total: 1_000,
            remaining: 1_000 - used,
            reset_after: 3_600_000,
            max_concurrency: 1,
        }
    }

    #[test]
    fn the_wait_grows_with_what_was_spent_and_stops_at_the_bound() {
        for (used, own, verdict) in [
            (0, 0, Verdict::After(Duration::ZERO)),
            (19, 0, Verdict::After(Duration::ZERO)),
            (20, 0, Verdict::After(Duration::from_secs(1))),
            (0, 23, Verdict::After(Duration::from_secs(8))),
            (28, 0, Verdict::After(Duration::from_secs(256))),
            (29, 0, Verdict::After(Duration::from_secs(300))),
            (499, 0, Verdict::After(Duration::from_secs(300))),
            (500, 0, Verdict::Exhausted(Duration::from_secs(3_600))),
            (0, 500, Verdict::Exhausted(Duration::from_secs(3_600))),
        ] {
            assert_eq!(BUDGET.judge(ledger(used), own), verdict, "{used}, {own}");
        }
    }

    #[test]
    fn a_crash_loop_cannot_spend_the_budget_of_a_day() {
        // Each start identifies as soon as it may and dies at once.
        let (mut spent, mut elapsed) = (0, Duration::ZERO);
        while elapsed < Duration::from_secs(86_400) {
            match BUDGET.judge(ledger(spent), 0) {
                Verdict::After(wait) => elapsed += wait + Duration::from_millis(100),
                Verdict::Exhausted(_) => panic!("the hard stop was reached"),
            }
            spent += 1;
        }
        assert!(spent < 330, "{spent}");
    }

    #[test]
    fn the_last_few_are_left_whatever_the_total() {
        for (total, remaining, spent_out) in [
            (1_000, 10, true),
            (50, 5, true),
            (50, 6, false),
            (0, 0, true),
        ] {
            let ledger = Ledger {
                total,
                remaining,
                reset_after: 0,
                max_concurrency: 1,
            };
            let budget = Budget {
                free: 1_000,
                per_day_max: 2_000,
                ..BUDGET
            };
            assert_eq!(
                budget.judge(ledger, 0) != Verdict::After(Duration::ZERO),
                spent_out,
                "{remaining} of {total}"
            );
        }
    }
}
