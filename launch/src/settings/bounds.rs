//! The ranges of bounds and timeouts. A bound of 0 would admit nothing.

use clap::builder::RangedU64ValueParser;

/// The longest time, in ms: a week.
pub const MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// The largest size, in bytes: a gibibyte.
pub const BYTES_MAX: u64 = 1 << 30;
/// The largest number.
const COUNT_MAX: u64 = 10_000_000;

/// A time in ms.
pub fn ms() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=MS_MAX)
}

/// A size in bytes.
pub fn bytes() -> RangedU64ValueParser<usize> {
    count_to(BYTES_MAX)
}

/// A number of things.
pub fn count() -> RangedU64ValueParser<usize> {
    count_to(COUNT_MAX)
}

/// A number of at most `max` things.
pub fn count_to(max: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=max)
}
