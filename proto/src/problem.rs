//! The body of a refused request: problem details (RFC 9457).

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::chain::Conflict;

/// The media type of a [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// Why something was refused. The names are stable; clients act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// The request is not of the documented form.
    BadRequest,
    /// No token, or one that does not hold.
    Unauthorized,
    /// Known, and not allowed.
    Forbidden,
    /// Not there, or not to be known.
    NotFound,
    /// Something else was done meanwhile.
    Conflict,
    /// The first request with this idempotency key has no known outcome yet; wait.
    InProgress,
    /// Well formed, and cannot be done.
    Unprocessable,
    /// Larger than the documented bound.
    TooLarge,
    /// Too many; wait.
    RateLimited,
    /// Discord does not let Roomwire's bot do this; waiting does not help.
    DiscordForbidden,
    /// Discord does not answer, or asks to wait.
    DiscordUnavailable,
    /// The hub cannot do it now; wait.
    Unavailable,
    /// A fault of the hub.
    Internal,
    /// A signed endpoint (the worker's, Discord's): the signature does not match.
    BadSignature,
    /// The worker's endpoint: the signature matches, but the time is outside the replay window.
    StaleTimestamp,
}

impl Code {
    /// Every code.
    pub const ALL: [Self; 15] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::InProgress,
        Self::Unprocessable,
        Self::TooLarge,
        Self::RateLimited,
        Self::DiscordForbidden,
        Self::DiscordUnavailable,
        Self::Unavailable,
        Self::Internal,
        Self::BadSignature,
        Self::StaleTimestamp,
    ];

    /// The name, as in `code`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "BAD_REQUEST",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::InProgress => "IN_PROGRESS",
            Self::Unprocessable => "UNPROCESSABLE",
            Self::TooLarge => "TOO_LARGE",
            Self::RateLimited => "RATE_LIMITED",
            Self::DiscordForbidden => "DISCORD_FORBIDDEN",
            Self::DiscordUnavailable => "DISCORD_UNAVAILABLE",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL",
            Self::BadSignature => "BAD_SIGNATURE",
            Self::StaleTimestamp => "STALE_TIMESTAMP",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized | Self::BadSignature | Self::StaleTimestamp => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::InProgress => 409,
            Self::TooLarge => 413,
            Self::Unprocessable => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::DiscordForbidden => 502,
            Self::DiscordUnavailable | Self::Unavailable => 503,
        }
    }

    /// A short sentence that is the same for every problem of this code.
    pub fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "The request is not of the documented form",
            Self::Unauthorized => "A valid token is needed",
            Self::Forbidden => "Not allowed",
            Self::NotFound => "Not found",
            Self::Conflict => "Something else was done meanwhile",
            Self::InProgress => "The first request with this key is not finished",
            Self::Unprocessable => "This cannot be done",
            Self::TooLarge => "Too large",
            Self::RateLimited => "Too many requests",
            Self::DiscordForbidden => "Discord does not let Roomwire's bot do this",
            Self::DiscordUnavailable => "Discord is not available right now",
            Self::Unavailable => "Not available right now",
            Self::Internal => "A fault of the hub",
            Self::BadSignature => "The signature does not hold",
            Self::StaleTimestamp => "The timestamp is outside the window",
        }
    }

    /// Whether the same request may succeed later without a change.
    pub fn retriable(self) -> bool {
        matches!(
            self,
            Self::InProgress
                | Self::RateLimited
                | Self::DiscordUnavailable
                | Self::Unavailable
                | Self::Internal
                | Self::StaleTimestamp
        )
    }
}

/// The body of a refusal (RFC 9457), as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:roomwire:<code in lower case>`.
    pub r#type: String,
    /// The same for every problem of the code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What it is this time.
    pub detail: String,
    /// What clients act on.
    pub code: Code,
    /// Names this request in the hub's log.
    pub request_id: String,
    /// Which fields are wrong, for `BAD_REQUEST`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<Vec<FieldProblem>>")]
    pub errors: Vec<FieldProblem>,
    /// Where waiting helps: how long, in ms. The header `Retry-After` says it in whole seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional, type = "number")]
    pub retry_after_ms: Option<u64>,
    /// The worker's door, with `CONFLICT`: why the delivery does not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(skip)]
    pub conflict: Option<Conflict>,
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct FieldProblem {
    /// The field's name.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: Code, detail: impl Into<String>, request_id: impl Into<String>) -> Self {
        Self {
            r#type: format!("urn:roomwire:{}", code.name().to_lowercase()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            request_id: request_id.into(),
            errors: Vec::new(),
            retry_after_ms: None,
            conflict: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_its_name() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        }
    }
}
