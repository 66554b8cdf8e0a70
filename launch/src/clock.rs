//! The clocks, read at the edges only: pure parts get the time as an argument.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A clock that never goes back. It counts from its start. A clone is the same clock.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic {
    start: Instant,
}

impl Monotonic {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// Milliseconds since the start.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Milliseconds since the Unix epoch, by the wall clock. A clock before 1970 reads as 0.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that the others ask"
)]
pub fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}
