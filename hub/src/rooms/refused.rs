//! What Discord's refusals mean to the person who creates or ends a room.

use proto::problem::Code;

use crate::discord::{DiscordError, Missing, Unknown};
use crate::error::ApiError;

/// What is wrong with a category that does not exist, and with one that must not be known.
pub(super) const NOT_A_CATEGORY: &str = "not a category of this guild";
/// When to come back to a Discord that does not answer, in ms.
const UNAVAILABLE_RETRY_MS: u64 = 2_000;

/// When to come back to a Discord that does not accept the bot's token, in ms: the operator has to
/// give the hub another one.
const UNAUTHORIZED_RETRY_MS: u64 = 60_000;

/// Of creating a channel.
pub(super) fn create(error: &DiscordError) -> ApiError {
    match error {
        DiscordError::Forbidden(Missing::Permissions) => forbidden(
            "the bot lacks the permission Manage Channels. Give it that permission in this guild, \
             and in the category if the room is to stand in one",
        ),
        DiscordError::Forbidden(Missing::Access) => forbidden(
            "the bot cannot see where the room is to stand. Give it the permissions View Channel \
             and Connect in this guild, and in the category if there is one",
        ),
        DiscordError::Full => ApiError::new(
            Code::Unprocessable,
            "no more channels fit: Discord allows 500 a guild and 50 a category",
        ),
        DiscordError::Invalid { fields } => {
            let mut refusal = ApiError::new(Code::BadRequest, "Discord calls some fields wrong");
            for field in fields {
                refusal = match field.as_str() {
                    "parent_id" => refusal.field("parentId", NOT_A_CATEGORY),
                    "name" => refusal.field("name", "Discord does not take this name"),
                    "user_limit" => refusal.field("userLimit", "Discord does not take this limit"),
                    _ => refusal,
                };
            }
            if refusal.errors.is_empty() {
                refusal = ApiError::new(Code::Unprocessable, "Discord does not take this room");
            }
            refusal
        }
        DiscordError::NotFound(_)
        | DiscordError::Forbidden(Missing::TwoFactor)
        | DiscordError::Unauthorized
        | DiscordError::RateLimited { .. }
        | DiscordError::Unavailable => of_any_call(error),
    }
}

/// Of deleting a channel.
pub(super) fn end(error: &DiscordError) -> ApiError {
    match error {
        DiscordError::Forbidden(Missing::Permissions) => forbidden(
            "the bot lacks the permission Manage Channels in the room's channel. Give it that \
             permission there, and Connect: where Connect is denied, Discord takes Manage Channels \
             away",
        ),
        DiscordError::Forbidden(Missing::Access) => forbidden(
            "the bot cannot see the room's channel. Give it the permissions View Channel and \
             Connect there, or delete the channel in Discord",
        ),
        DiscordError::Full | DiscordError::Invalid { .. } => ApiError::new(
            Code::Unprocessable,
            "Discord does not let this channel be deleted",
        ),
        DiscordError::NotFound(_)
        | DiscordError::Forbidden(Missing::TwoFactor)
        | DiscordError::Unauthorized
        | DiscordError::RateLimited { .. }
        | DiscordError::Unavailable => of_any_call(error),
    }
}

/// Of what means the same whatever was asked for.
fn of_any_call(error: &DiscordError) -> ApiError {
    match error {
        DiscordError::NotFound(Unknown::Guild) => forbidden(
            "the bot is not in this guild. Invite it, with the permission Manage Channels",
        ),
        DiscordError::Forbidden(_) => forbidden(
            "this guild requires two-factor authentication for moderation. The owner of the bot's \
             application has to turn it on in their Discord account",
        ),
        DiscordError::Unauthorized => ApiError::new(
            Code::DiscordUnavailable,
            "Discord does not accept the bot's token. The operator has to set DISCORD_BOT_TOKEN",
        )
        .retry_after_ms(UNAUTHORIZED_RETRY_MS),
        DiscordError::RateLimited { retry_after_ms } => {
            ApiError::new(Code::DiscordUnavailable, "Discord asks to wait")
                .retry_after_ms(*retry_after_ms)
        }
        DiscordError::NotFound(_)
        | DiscordError::Full
        | DiscordError::Invalid { .. }
        | DiscordError::Unavailable => ApiError::new(
            Code::DiscordUnavailable,
            "Discord does not answer right now",
        )
        .retry_after_ms(UNAVAILABLE_RETRY_MS),
    }
}

fn forbidden(detail: &'static str) -> ApiError {
    ApiError::new(Code::DiscordForbidden, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_discord_has_its_code_and_says_what_to_do_or_when_to_come_back() {
        let invalid = |fields: &[&str]| DiscordError::Invalid {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        };
        let limited = DiscordError::RateLimited {
            retry_after_ms: 750,
        };
        let permissions = DiscordError::Forbidden(Missing::Permissions);
        let access = DiscordError::Forbidden(Missing::Access);
        let two_factor = DiscordError::Forbidden(Missing::TwoFactor);
        let forbidden = (Code::DiscordForbidden, None);
        let unavailable = |ms| (Code::DiscordUnavailable, Some(ms));
        let unprocessable = (Code::Unprocessable, None);
        // Of each error: what it is of a creation, and of an end; a word that its detail has.
        for (error, of_create, of_end, word) in [
            (&permissions, forbidden, forbidden, "Manage Channels"),
            (&access, forbidden, forbidden, "View Channel"),
            (&two_factor, forbidden, forbidden, "two-factor"),
            (
                &DiscordError::NotFound(Unknown::Guild),
                forbidden,
                forbidden,
                "not in this guild",
            ),
            (
                &DiscordError::NotFound(Unknown::Channel),
                unavailable(2_000),
                unavailable(2_000),
                "",
            ),
            (
                &DiscordError::NotFound(Unknown::Other),
                unavailable(2_000),
                unavailable(2_000),
                "",
            ),
            (
                &DiscordError::Unauthorized,
                unavailable(60_000),
                unavailable(60_000),
                "DISCORD_BOT_TOKEN",
            ),
            (&limited, unavailable(750), unavailable(750), "wait"),
            (
                &DiscordError::Unavailable,
                unavailable(2_000),
                unavailable(2_000),
                "",
            ),
            (&DiscordError::Full, unprocessable, unprocessable, ""),
            (
                &invalid(&["parent_id"]),
                (Code::BadRequest, None),
                unprocessable,
                "",
            ),
            (&invalid(&["type"]), unprocessable, unprocessable, ""),
            (&invalid(&[]), unprocessable, unprocessable, ""),
        ] {
            for (refusal, expected) in [(create(error), of_create), (end(error), of_end)] {
                let found = (refusal.code, refusal.retry_after_ms);
                assert_eq!(found, expected, "{error:?}");
                assert!(
                    refusal.detail.contains(word),
                    "{error:?}: {}",
                    refusal.detail
                );
                assert!(refusal.code != Code::BadRequest || !refusal.errors.is_empty());
                assert_eq!(
                    refusal.code.retriable(),
                    refusal.retry_after_ms.is_some(),
                    "{error:?}"
                );
            }
        }
        for refusal in [create(&access), end(&access)] {
            assert!(!refusal.detail.contains("Manage Channels"));
        }
    }
}
