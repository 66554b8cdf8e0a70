//! What can go wrong with a call to Discord.

use std::collections::BTreeSet;

/// Why a call to Discord failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscordError {
    /// Discord does not know the object.
    #[error("Discord does not know the object")]
    NotFound(Unknown),
    /// Discord does not allow the bot to do this. Waiting does not help.
    #[error("Discord does not allow it: {0}")]
    Forbidden(Missing),
    /// Discord does not accept the bot's token. Waiting does not help.
    #[error("Discord does not accept DISCORD_BOT_TOKEN")]
    Unauthorized,
    /// Discord rejects the request as invalid.
    #[error("Discord rejects the request as invalid")]
    Invalid {
        /// Discord's names of the wrong fields, where it gives them.
        fields: BTreeSet<String>,
    },
    /// The guild holds 500 channels or 1,000 invites, or the category 50 channels.
    #[error("the guild or the category already has the most that Discord allows")]
    Full,
    /// Discord asks to wait, or would.
    #[error("Discord asks to wait {retry_after_ms} ms")]
    RateLimited {
        /// How long to wait, in ms.
        retry_after_ms: u64,
    },
    /// Nothing was sent: no connection, or too many calls wait.
    #[error("Discord cannot be reached")]
    Unreached,
    /// No answer, or none in Discord's form. The call may have taken effect.
    #[error("Discord does not answer")]
    Unavailable,
}

impl DiscordError {
    /// A short name, for a metric's label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::Forbidden(_) => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::Invalid { .. } => "invalid",
            Self::Full => "full",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unreached => "unreached",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Which object Discord does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The channel (error 10003).
    Channel,
    /// The guild (10004): the bot is not in it.
    Guild,
    /// Another object, such as an interaction whose token has expired.
    Other,
}

/// What the bot lacks for a call, according to Discord's list of JSON error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It may not view what the call is about, or not connect to it ("Missing access", 50001).
    #[error("the bot may not view it")]
    Access,
    /// It lacks the permission that the call needs ("You lack permissions to perform that action",
    /// 50013).
    #[error("the bot lacks the permission")]
    Permissions,
    /// The guild wants moderators to have two-factor authentication, and the owner of the bot's
    /// application has none (60003).
    #[error("the guild requires two-factor authentication")]
    TwoFactor,
}
