//! What Discord's refusals are to whoever wished for a room.

use proto::problem::Code;

use crate::discord::DiscordError;
use crate::refusal::Refusal;

/// What is wrong with a category that does not exist, and with one that must not be known.
pub(super) const NOT_A_CATEGORY: &str = "not a category of this guild";
/// When to come back to a Discord that does not answer, in ms.
const UNAVAILABLE_RETRY_MS: u64 = 2_000;

/// Of creating a channel.
pub(super) fn create(error: &DiscordError) -> Refusal {
    match error {
        // A guild that Discord does not know is one that the bot is not in.
        DiscordError::NotFound | DiscordError::Forbidden => forbidden(),
        DiscordError::Full => Refusal::new(
            Code::Unprocessable,
            "no more channels fit: Discord allows 500 a guild and 50 a category",
        ),
        DiscordError::Invalid { fields } => {
            let mut refusal = Refusal::new(Code::BadRequest, "Discord calls some fields wrong");
            for field in fields {
                refusal = match field.as_str() {
                    "parent_id" => refusal.field("parentId", NOT_A_CATEGORY),
                    "name" => refusal.field("name", "Discord does not take this name"),
                    "user_limit" => refusal.field("userLimit", "Discord does not take this limit"),
                    _ => refusal,
                };
            }
            if refusal.errors.is_empty() {
                refusal = Refusal::new(Code::Unprocessable, "Discord does not take this room");
            }
            refusal
        }
        DiscordError::RateLimited { retry_after_ms } => limited(*retry_after_ms),
        DiscordError::Unavailable => unavailable(),
    }
}

/// Of deleting a channel.
pub(super) fn end(error: &DiscordError) -> Refusal {
    match error {
        DiscordError::Forbidden => forbidden(),
        DiscordError::RateLimited { retry_after_ms } => limited(*retry_after_ms),
        DiscordError::NotFound | DiscordError::Unavailable => unavailable(),
        DiscordError::Full | DiscordError::Invalid { .. } => Refusal::new(
            Code::Unprocessable,
            "Discord does not let this channel be deleted",
        ),
    }
}

fn forbidden() -> Refusal {
    Refusal::new(
        Code::DiscordForbidden,
        "Discord does not let the bot do this: it needs the permission Manage Channels in this guild and category",
    )
}

fn limited(retry_after_ms: u64) -> Refusal {
    Refusal::new(Code::DiscordUnavailable, "Discord asks to wait").retry_after_ms(retry_after_ms)
}

fn unavailable() -> Refusal {
    Refusal::new(
        Code::DiscordUnavailable,
        "Discord does not answer right now",
    )
    .retry_after_ms(UNAVAILABLE_RETRY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_discord_has_its_code_and_says_when_to_come_back() {
        let invalid = |fields: &[&str]| DiscordError::Invalid {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        };
        for (error, code, retry_after_ms) in [
            (DiscordError::Forbidden, Code::DiscordForbidden, None),
            (DiscordError::NotFound, Code::DiscordForbidden, None),
            (DiscordError::Full, Code::Unprocessable, None),
            (invalid(&["parent_id"]), Code::BadRequest, None),
            (invalid(&["type"]), Code::Unprocessable, None),
            (invalid(&[]), Code::Unprocessable, None),
            (
                DiscordError::RateLimited {
                    retry_after_ms: 750,
                },
                Code::DiscordUnavailable,
                Some(750),
            ),
            (
                DiscordError::Unavailable,
                Code::DiscordUnavailable,
                Some(2_000),
            ),
        ] {
            let refusal = create(&error);
            assert_eq!(
                (refusal.code, refusal.retry_after_ms),
                (code, retry_after_ms),
                "{error:?}"
            );
            assert!(refusal.code != Code::BadRequest || !refusal.errors.is_empty());
        }
        for (error, code) in [
            (DiscordError::Forbidden, Code::DiscordForbidden),
            (DiscordError::NotFound, Code::DiscordUnavailable),
            (
                DiscordError::RateLimited { retry_after_ms: 1 },
                Code::DiscordUnavailable,
            ),
            (DiscordError::Unavailable, Code::DiscordUnavailable),
            (DiscordError::Full, Code::Unprocessable),
        ] {
            assert_eq!(end(&error).code, code, "{error:?}");
        }
    }
}
