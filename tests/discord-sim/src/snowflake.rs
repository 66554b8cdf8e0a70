//! Ids: Discord's snowflakes, and the hashes it hands out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The first millisecond of 2015, from which snowflakes count (`reference.mdx`, "Snowflakes").
const DISCORD_EPOCH_MS: u64 = 1_420_070_400_000;

/// A snowflake: 1 to 2^63−1, in JSON a decimal string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

impl Id {
    /// An id from a number that is known to be one; out of range becomes the nearest.
    pub const fn new(number: u64) -> Self {
        if number == 0 {
            Self(1)
        } else if number > i64::MAX as u64 {
            Self(i64::MAX as u64)
        } else {
            Self(number)
        }
    }

    /// The id that Discord would give at `now_ms` (Unix milliseconds), kept above `last`.
    pub fn at(now_ms: u64, last: Self) -> Self {
        let by_time = now_ms.saturating_sub(DISCORD_EPOCH_MS) << 22;
        Self::new(by_time.max(last.0.saturating_add(1)))
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// When the id was made, in Unix milliseconds.
    pub const fn created_ms(self) -> u64 {
        (self.0 >> 22) + DISCORD_EPOCH_MS
    }

    /// The shard that serves this guild: `(id >> 22) % count` (`gateway.mdx`, "Sharding").
    pub const fn shard(self, count: u32) -> u64 {
        (self.0 >> 22) % if count == 0 { 1 } else { count as u64 }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a snowflake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a snowflake")]
pub struct NotASnowflake;

impl FromStr for Id {
    type Err = NotASnowflake;

    fn from_str(text: &str) -> Result<Self, NotASnowflake> {
        if text.is_empty() || text.len() > 19 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotASnowflake);
        }
        match text.parse::<u64>() {
            Ok(number) if number > 0 && i64::try_from(number).is_ok() => Ok(Self(number)),
            _ => Err(NotASnowflake),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// 32 hexadecimal digits that depend on nothing but their input: an avatar hash, a session id.
pub fn hash_of(parts: &[u64]) -> String {
    format!("{:016x}{:016x}", scramble(parts, 1), scramble(parts, 2))
}

/// A number that looks random and depends on nothing but its input (splitmix64 over the parts).
pub fn scramble(parts: &[u64], salt: u64) -> u64 {
    let mut state = salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for part in parts {
        state = state
            .wrapping_add(*part)
            .wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        state ^= state >> 31;
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_between_one_and_two_to_the_63_are_snowflakes() {
        for good in ["1", "100000000000000001", "9223372036854775807"] {
            assert_eq!(good.parse::<Id>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "0",
            "-1",
            "+1",
            "1x",
            " 1",
            "9223372036854775808",
            "18446744073709551616",
        ] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn new_ids_rise_even_within_one_millisecond() {
        let first = Id::at(1_700_000_000_000, Id::new(1));
        let second = Id::at(1_700_000_000_000, first);
        assert!(second > first);
        assert_eq!(first.created_ms(), 1_700_000_000_000);
    }
}
