//! Log lines about errors of clients, at a bounded rate: a client that causes many errors must not
//! fill the disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// How many refusals are logged in a second, and which are not. A clone is a reference.
#[derive(Debug, Clone)]
pub struct ErrorLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    per_s_max: u32,
    started: Instant,
    second: Mutex<Second>,
}

/// What was logged in one second.
#[derive(Debug, Default)]
struct Second {
    number: u64,
    lines: u32,
    /// Refusals without a line, since the last line.
    unlogged: u64,
}

impl Second {
    fn admit(&mut self, number: u64, lines_max: u32) -> Option<u64> {
        if number != self.number {
            (self.number, self.lines) = (number, 0);
        }
        if self.lines >= lines_max {
            self.unlogged += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.unlogged))
    }
}

impl ErrorLog {
    /// [`ErrorLog::new`]'s bound where nothing else is set, in lines a second: enough for a
    /// person who looks for a reason.
    pub const PER_S_MAX: u32 = 10;

    /// Logs at most this many refusals in a second.
    pub fn new(per_s_max: u32) -> Self {
        Self(Arc::new(Shared {
            per_s_max,
            started: Instant::now(),
            second: Mutex::default(),
        }))
    }

    /// Whether a refusal may be logged now; then the number of refusals that were not logged since
    /// the last line.
    pub fn admit(&self) -> Option<u64> {
        let number = self.0.started.elapsed().as_secs();
        let mut second = self.0.second.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = second.admit(number, self.0.per_s_max);
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
    fn a_flood_of_refusals_has_few_lines_a_second_and_the_next_line_counts_the_others() {
        let mut second = Second::default();
        let lines: Vec<_> = (0..1_000).filter_map(|_| second.admit(5, 3)).collect();
        assert_eq!(lines, [0, 0, 0]);
        assert_eq!(second.admit(6, 3), Some(997));
        assert_eq!(second.admit(6, 3), Some(0));
    }
}
