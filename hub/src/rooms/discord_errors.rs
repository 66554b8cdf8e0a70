//! What Discord's errors mean to the person who creates or ends a room.

use proto::problem::Code;

use crate::discord::{DiscordError, Missing, Unknown};
use crate::error::ApiError;

/// The detail for a category that does not exist, and for one that the client may not know of.
pub(super) const NOT_A_CATEGORY: &str = "not a category of this guild";
/// When to retry while Discord does not answer, in ms.
const UNAVAILABLE_RETRY_MS: u64 = 2_000;
/// When to retry while Discord does not accept the bot's token, in ms: the operator has to set
/// another one.
const UNAUTHORIZED_RETRY_MS: u64 = 60_000;

/// The error of creating a channel.
pub(super) fn create(error: &DiscordError) -> ApiError {
    match error {
        DiscordError::Forbidden(Missing::Permissions) => forbidden(
            "the bot lacks the permission Manage Channels. Give it that permission in this guild, \
             and in the category that the room is for",
        ),
        DiscordError::Forbidden(Missing::Access) => forbidden(
            "the bot cannot see the place of the room. Give it the permissions View Channel \
             and Connect in this guild, and in the category that the room is for",
        ),
        DiscordError::Full => ApiError::new(
            Code::Unprocessable,
            "no more channels fit: Discord allows 500 a guild and 50 a category",
        ),
        DiscordError::Invalid { fields } => {
            let mut error = ApiError::new(Code::BadRequest, "Discord does not accept some fields");
            for field in fields {
                error = match field.as_str() {
                    "parent_id" => error.field("parentId", NOT_A_CATEGORY),
                    "name" => error.field("name", "Discord does not accept this name"),
                    "user_limit" => error.field("userLimit", "Discord does not accept this limit"),
                    _ => error,
                };
            }
            if error.errors.is_empty() {
                error = ApiError::new(Code::Unprocessable, "Discord does not accept this room");
            }
            error
        }
        _ => of_any_call(error),
    }
}

/// The error of deleting a channel.
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
        _ => of_any_call(error),
    }
}

/// The error of creating an invite.
pub(super) fn invite(error: &DiscordError) -> ApiError {
    match error {
        DiscordError::Forbidden(Missing::Permissions) => forbidden(
            "the bot lacks the permission Create Invite in the room's channel. Give it that \
             permission in this guild",
        ),
        DiscordError::Forbidden(Missing::Access) => forbidden(
            "the bot cannot see the room's channel. Give it the permission View Channel there",
        ),
        DiscordError::NotFound(Unknown::Channel) => ApiError::new(Code::NotFound, "no such room"),
        DiscordError::Full => ApiError::new(
            Code::Unprocessable,
            "no more invites fit: Discord allows 1,000 a guild",
        ),
        DiscordError::Invalid { .. } => {
            ApiError::new(Code::Unprocessable, "Discord does not accept this invite")
        }
        _ => of_any_call(error),
    }
}

/// The error of any call.
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
        | DiscordError::Unreached
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
    fn every_error_of_discord_has_a_code_and_says_what_to_do_or_when_to_retry() {
        use DiscordError::{
            Forbidden, Full, NotFound, RateLimited, Unauthorized, Unavailable, Unreached,
        };
        let invalid = |fields: &[&str]| DiscordError::Invalid {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        };
        let limited = RateLimited {
            retry_after_ms: 750,
        };
        let forbidden = (Code::DiscordForbidden, None);
        let wait = |ms| (Code::DiscordUnavailable, Some(ms));
        let bad = (Code::BadRequest, None);
        let no = (Code::Unprocessable, None);
        // Each error: its code for a create and for an end, and a word of its detail.
        for (error, of_create, of_end, word) in [
            (
                Forbidden(Missing::Permissions),
                forbidden,
                forbidden,
                "Manage Channels",
            ),
            (
                Forbidden(Missing::Access),
                forbidden,
                forbidden,
                "View Channel",
            ),
            (
                Forbidden(Missing::TwoFactor),
                forbidden,
                forbidden,
                "two-factor",
            ),
            (
                NotFound(Unknown::Guild),
                forbidden,
                forbidden,
                "not in this guild",
            ),
            (NotFound(Unknown::Channel), wait(2_000), wait(2_000), ""),
            (NotFound(Unknown::Other), wait(2_000), wait(2_000), ""),
            (
                Unauthorized,
                wait(60_000),
                wait(60_000),
                "DISCORD_BOT_TOKEN",
            ),
            (limited, wait(750), wait(750), "wait"),
            (Unavailable, wait(2_000), wait(2_000), ""),
            (Unreached, wait(2_000), wait(2_000), ""),
            (Full, no, no, ""),
            (invalid(&["parent_id"]), bad, no, ""),
            (invalid(&["type"]), no, no, ""),
            (invalid(&[]), no, no, ""),
        ] {
            for (result, expected) in [(create(&error), of_create), (end(&error), of_end)] {
                let found = (result.code, result.retry_after_ms);
                assert_eq!(found, expected, "{error:?}");
                assert!(result.detail.contains(word), "{error:?}: {}", result.detail);
                assert!(result.code != Code::BadRequest || !result.errors.is_empty());
                assert_eq!(
                    result.code.retriable(),
                    result.retry_after_ms.is_some(),
                    "{error:?}"
                );
            }
        }
        let access = Forbidden(Missing::Access);
        for result in [create(&access), end(&access)] {
            assert!(!result.detail.contains("Manage Channels"));
        }
    }
}
