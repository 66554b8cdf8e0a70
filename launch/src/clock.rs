//! The wall clock, read at the edges only: pure parts are given `now`.

use std::time::{SystemTime, UNIX_EPOCH};

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
