//! Discord's ids: snowflakes, as decimal strings wherever they are written.
//!
//! JavaScript's numbers end at 2^53, so an id is never a JSON number
//! (Discord's API reference, "Snowflakes").

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The largest id, 2^63 − 1.
pub const ID_MAX: u64 = i64::MAX.unsigned_abs();

/// A text that is not a decimal id of 1 to 2^63 − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is a decimal string from 1 to 9223372036854775807")]
pub struct NotAnId;

fn parse(text: &str) -> Result<NonZeroU64, NotAnId> {
    // One spelling an id: no sign, no leading zero, no space.
    if text.len() > 19 || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NotAnId);
    }
    text.parse()
        .ok()
        .filter(|id: &NonZeroU64| id.get() <= ID_MAX)
        .ok_or(NotAnId)
}

struct IdVisitor;

impl de::Visitor<'_> for IdVisitor {
    type Value = NonZeroU64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&NotAnId, f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<NonZeroU64, E> {
        parse(text).map_err(E::custom)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ts_rs::TS)]
        #[ts(type = "string")]
        pub struct $name(NonZeroU64);

        impl $name {
            /// The id of this number, if it is one: 1 to 2^63 − 1.
            ///
            /// # Errors
            /// [`NotAnId`] for 0 and for anything above.
            pub fn new(id: u64) -> Result<Self, NotAnId> {
                NonZeroU64::new(id).filter(|id| id.get() <= ID_MAX).map(Self).ok_or(NotAnId)
            }

            /// The number, for arithmetic on the parts of a snowflake.
            pub fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor).map(Self)
            }
        }
    };
}

id!(
    /// A guild: what Discord's users call a server.
    GuildId
);
id!(
    /// A channel; the voice and stage channels among them are rooms.
    ChannelId
);
id!(
    /// A Discord user.
    UserId
);

impl GuildId {
    /// The shard that serves this guild among `count` (Discord's gateway documentation, "Sharding").
    pub fn shard(self, count: u32) -> u32 {
        u32::try_from((self.get() >> 22) % u64::from(count.max(1))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_decimal_spelling_is_an_id() {
        for (text, good) in [
            ("1", true),
            ("9223372036854775807", true),
            ("0", false),
            ("9223372036854775808", false),
            ("18446744073709551616", false),
            ("", false),
            ("01", false),
            ("+1", false),
            ("-1", false),
            ("1 ", false),
            ("1e3", false),
            ("１", false),
        ] {
            assert_eq!(text.parse::<GuildId>().is_ok(), good, "{text:?}");
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(
                serde_json::from_str::<GuildId>(&json).is_ok(),
                good,
                "{json}"
            );
        }
        assert!(
            serde_json::from_str::<GuildId>("1").is_err(),
            "a number is not an id"
        );
        assert!(GuildId::new(0).is_err() && GuildId::new(u64::MAX).is_err());
    }

    #[test]
    fn a_guild_lives_on_the_shard_that_its_creation_time_names() {
        let guild = GuildId::new(100_000_000_000_000_001).unwrap();
        assert_eq!(guild.shard(1), 0);
        assert_eq!(guild.shard(16), ((guild.get() >> 22) % 16) as u32);
    }
}
