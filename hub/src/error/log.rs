//! Log lines about errors of clients, at a bounded rate: a client that causes many errors must not
//! fill the disk.

use std::sync::{Arc, Mutex, PoisonError};

use launch::clock::Monotonic;
use launch::rate::{RateBucket, RateLimit};

/// Which errors are logged. A clone is a reference.
#[derive(Debug, Clone)]
pub struct ErrorLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: RateLimit,
    clock: Monotonic,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    bucket: RateBucket,
    /// Errors since the last line that were not logged.
    unlogged: u64,
}

impl Lines {
    fn admit(&mut self, limit: RateLimit, now_ms: u64) -> Option<u64> {
        if self.bucket.take(limit, now_ms).is_err() {
            self.unlogged += 1;
            return None;
        }
        Some(std::mem::take(&mut self.unlogged))
    }
}

impl ErrorLog {
    /// The default bound, in lines a second: enough for an operator who looks for a reason.
    pub const PER_S_MAX: u32 = 10;

    /// Logs at most this many errors a second.
    pub fn new(per_s_max: u32) -> Self {
        Self(Arc::new(Shared {
            limit: RateLimit::per_second(per_s_max, per_s_max),
            clock: Monotonic::start(),
            lines: Mutex::default(),
        }))
    }

    /// Whether an error may be logged now. If so, the number of errors since the last line that were
    /// not logged.
    pub fn admit(&self) -> Option<u64> {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = lines.admit(self.0.limit, self.0.clock.elapsed_ms());
        if admitted.is_none() {
            metrics::counter!("hub_refusals_unlogged_total").increment(1);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_errors_has_few_lines_a_second_and_the_next_line_counts_the_others() {
        let (mut lines, limit) = (Lines::default(), RateLimit::per_second(3, 3));
        let logged: Vec<_> = (0..1_000)
            .filter_map(|_| lines.admit(limit, 5_000))
            .collect();
        assert_eq!(logged, [0, 0, 0]);
        assert_eq!(lines.admit(limit, 6_000), Some(997));
        assert_eq!(lines.admit(limit, 6_000), Some(0));
    }
}
