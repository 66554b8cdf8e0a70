//! What Discord's responses mean. Pure.

use std::collections::BTreeSet;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::error::{DiscordError, Missing, Unknown};
use super::rate_limiter::{PAUSE_MAX_MS, ResponseLimits};

// Discord's list of JSON error codes ("Opcodes and Status Codes", "JSON").
/// "General error (such as a malformed request body, amongst other things)". A plain status has it
/// too, as in `{"message": "401: Unauthorized", "code": 0}`.
const GENERAL_ERROR: u64 = 0;
/// The lowest code that is documented besides it. A proxy's JSON has HTTP statuses as codes.
const DOCUMENTED_FIRST: u64 = 10_001;
/// "Unknown channel".
const UNKNOWN_CHANNEL: u64 = 10_003;
/// "Unknown guild".
const UNKNOWN_GUILD: u64 = 10_004;
/// All codes of something unknown.
const UNKNOWN_FIRST: u64 = 10_001;
const UNKNOWN_LAST: u64 = 10_999;
/// "Your Stage topic, server name, server description, or channel names contain words that are not
/// allowed".
const WORDS_NOT_ALLOWED: u64 = 20_031;
/// "Maximum number of guild channels reached (500)".
const GUILD_CHANNELS_MAX: u64 = 30_013;
/// "Maximum number of invites reached (1000)".
const GUILD_INVITES_MAX: u64 = 30_016;
/// "Unauthorized. Provide a valid token and try again".
const UNAUTHORIZED: u64 = 40_001;
/// "This feature has been temporarily disabled server-side".
const DISABLED: u64 = 40_006;
/// "Missing access": the bot may not view the channel, its category or the guild.
const MISSING_ACCESS: u64 = 50_001;
/// "You lack permissions to perform that action".
const MISSING_PERMISSIONS: u64 = 50_013;
/// "Invalid authentication token provided".
const INVALID_TOKEN: u64 = 50_014;
/// "Invalid webhook token provided": an interaction's is over.
const INVALID_WEBHOOK_TOKEN: u64 = 50_027;
/// "Invalid form body".
const INVALID_FORM: u64 = 50_035;
/// "Two factor is required for this operation".
const TWO_FACTOR: u64 = 60_003;
/// "Index not yet available. Try again later".
const NO_INDEX_YET: u64 = 110_000;
/// "Application not yet available. Try again later".
const NO_APPLICATION_YET: u64 = 110_001;
/// "API resource is currently overloaded. Try again a little later".
const OVERLOADED: u64 = 130_000;
/// The code inside an invalid form for a category that already holds 50 channels.
const CATEGORY_FULL: &str = "CHANNEL_PARENT_MAX_CHANNELS";
/// How long to wait after a 429 without a time, in milliseconds.
const RETRY_DEFAULT_MS: u64 = 1_000;
/// How many wrong fields of a response are read.
const FIELDS_MAX: usize = 16;

/// Discord's form of an error.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    code: u64,
    #[serde(default)]
    errors: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct LimitedBody {
    retry_after: f64,
    #[serde(default)]
    global: bool,
}

/// What a response says about further calls.
pub(super) fn limits(status: u16, headers: &HeaderMap, body: &[u8]) -> ResponseLimits {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = |name: &str| text(name)?.parse().ok().and_then(to_ms);
    let mut limits = ResponseLimits {
        status,
        ..ResponseLimits::default()
    };
    if status == 429 {
        let limited = serde_json::from_slice::<LimitedBody>(body).ok();
        let in_body = limited.as_ref().and_then(|body| to_ms(body.retry_after));
        let wait_ms = in_body.or_else(|| seconds("retry-after"));
        limits.retry_after_ms = Some(wait_ms.unwrap_or(RETRY_DEFAULT_MS).min(PAUSE_MAX_MS));
        // Without Discord's form and headers it is Cloudflare's ban of this address
        // ("Invalid Request Limit aka Cloudflare bans").
        let is_discords = limited.is_some() || text("x-ratelimit-scope").is_some();
        limits.global = limited.is_some_and(|body| body.global)
            || text("x-ratelimit-global") == Some("true")
            || text("x-ratelimit-scope") == Some("global")
            || !is_discords;
        limits.shared = text("x-ratelimit-scope") == Some("shared");
    } else if text("x-ratelimit-remaining") == Some("0") {
        limits.exhausted_ms = seconds("x-ratelimit-reset-after");
    }
    limits
}

/// The error of a response that is no success. `limits` are those of the same response.
///
/// Only Discord's own JSON counts ("JSON Error Codes"), with any content type. A proxy's page, a ban
/// page, an empty body and a code that is not documented for the status are
/// [`DiscordError::Unavailable`].
pub(super) fn error(limits: ResponseLimits, body: &[u8]) -> DiscordError {
    let parsed = serde_json::from_slice::<ErrorBody>(body).ok();
    let code = parsed.as_ref().map(|body| body.code);
    match (limits.status, code) {
        (429, _) => DiscordError::RateLimited {
            retry_after_ms: limits.retry_after_ms.unwrap_or(RETRY_DEFAULT_MS),
        },
        (401, Some(GENERAL_ERROR | UNAUTHORIZED | INVALID_TOKEN)) => DiscordError::Unauthorized,
        (404, Some(UNKNOWN_CHANNEL)) => DiscordError::NotFound(Unknown::Channel),
        (404, Some(UNKNOWN_GUILD)) => DiscordError::NotFound(Unknown::Guild),
        (404, Some(UNKNOWN_FIRST..=UNKNOWN_LAST)) | (400..=499, Some(INVALID_WEBHOOK_TOKEN)) => {
            DiscordError::NotFound(Unknown::Other)
        }
        (400 | 403, Some(MISSING_ACCESS)) => DiscordError::Forbidden(Missing::Access),
        (400 | 403, Some(MISSING_PERMISSIONS)) => DiscordError::Forbidden(Missing::Permissions),
        (400 | 403, Some(TWO_FACTOR)) => DiscordError::Forbidden(Missing::TwoFactor),
        (400 | 403, Some(GUILD_CHANNELS_MAX | GUILD_INVITES_MAX)) => DiscordError::Full,
        (400 | 403, Some(WORDS_NOT_ALLOWED)) => DiscordError::Invalid {
            fields: BTreeSet::from(["name".to_owned()]),
        },
        (400, Some(INVALID_FORM)) => {
            let errors = parsed.and_then(|body| body.errors);
            let is_full = |errors: &Value| has_code(errors, CATEGORY_FULL);
            if errors.as_ref().is_some_and(is_full) {
                return DiscordError::Full;
            }
            DiscordError::Invalid {
                fields: fields(errors.as_ref()),
            }
        }
        // Temporary according to Discord, although no 5xx.
        (400..=499, Some(DISABLED | OVERLOADED | NO_INDEX_YET | NO_APPLICATION_YET)) => {
            DiscordError::Unavailable
        }
        // Another 403 is no documented lack of a permission.
        (401 | 403 | 404 | 407 | 408, _) => DiscordError::Unavailable,
        // The request is wrong, and no field is named.
        (400..=499, Some(GENERAL_ERROR | DOCUMENTED_FIRST..)) => DiscordError::Invalid {
            fields: BTreeSet::new(),
        },
        _ => DiscordError::Unavailable,
    }
}

/// The JSON error code of a response, for the log.
pub(super) fn code(body: &[u8]) -> Option<u64> {
    let error = serde_json::from_slice::<ErrorBody>(body).ok()?;
    Some(error.code)
}

/// The names of the wrong fields: the keys of `errors`.
fn fields(errors: Option<&Value>) -> BTreeSet<String> {
    errors
        .and_then(Value::as_object)
        .map(|errors| errors.keys().take(FIELDS_MAX).cloned().collect())
        .unwrap_or_default()
}

/// Whether an error with this code exists at any depth.
fn has_code(errors: &Value, code: &str) -> bool {
    match errors {
        Value::Object(inner) => {
            inner.get("code").and_then(Value::as_str) == Some(code)
                || inner.values().any(|value| has_code(value, code))
        }
        Value::Array(inner) => inner.iter().any(|value| has_code(value, code)),
        _ => false,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; negative numbers and NaN are excluded before"
)]
fn to_ms(seconds: f64) -> Option<u64> {
    (seconds >= 0.0).then(|| (seconds * 1000.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: &str = "<!DOCTYPE html><html><head><title>403 Forbidden</title></head></html>";

    fn limits_of(status: u16, pairs: &[(&str, &str)], body: &str) -> ResponseLimits {
        let pairs = pairs.iter();
        let headers = pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        limits(status, &headers.collect(), body.as_bytes())
    }

    fn meaning_of(status: u16, body: &str) -> DiscordError {
        error(limits_of(status, &[], body), body.as_bytes())
    }

    fn of_code(status: u16, code: u32) -> DiscordError {
        meaning_of(status, &format!(r#"{{"message":"x","code":{code}}}"#))
    }

    fn invalid(fields: &[&str]) -> DiscordError {
        DiscordError::Invalid {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        }
    }

    #[test]
    fn a_response_means_what_discord_documents() {
        use DiscordError::{Forbidden, Full, NotFound, Unauthorized};
        for (status, code, meant) in [
            (401, 0, Unauthorized),
            (401, 40_001, Unauthorized),
            (401, 50_014, Unauthorized),
            (401, 50_027, NotFound(Unknown::Other)),
            (403, 50_001, Forbidden(Missing::Access)),
            (403, 50_013, Forbidden(Missing::Permissions)),
            (403, 60_003, Forbidden(Missing::TwoFactor)),
            (404, 10_003, NotFound(Unknown::Channel)),
            (404, 10_004, NotFound(Unknown::Guild)),
            (404, 10_015, NotFound(Unknown::Other)),
            (400, 30_013, Full),
            (400, 50_035, invalid(&[])),
            (400, 20_031, invalid(&["name"])),
            (400, 50_024, invalid(&[])),
            (400, 50_074, invalid(&[])),
            (400, 0, invalid(&[])),
            (405, 0, invalid(&[])),
        ] {
            assert_eq!(of_code(status, code), meant, "{status} {code}");
        }
        for (errors, meant) in [
            (
                r#"{"parent_id":{"_errors":[{"code":"CHANNEL_PARENT_MAX_CHANNELS"}]}}"#,
                Full,
            ),
            (
                r#"{"name":{"_errors":[]},"parent_id":{"_errors":[{"code":"CHANNEL_PARENT_INVALID"}]}}"#,
                invalid(&["name", "parent_id"]),
            ),
        ] {
            let body = format!(r#"{{"code":50035,"errors":{errors}}}"#);
            assert_eq!(meaning_of(400, &body), meant, "{body}");
        }
    }

    #[test]
    fn a_response_of_a_proxy_means_neither_forbidden_nor_not_found() {
        for status in [
            400, 401, 403, 404, 405, 407, 408, 409, 413, 451, 500, 502, 503, 520, 530,
        ] {
            for body in [
                HTML,
                "error code: 1020",
                "",
                "null",
                "[]",
                "{}",
                r#""forbidden""#,
                r#"{"error":"forbidden"}"#,
                r#"{"code":"50013"}"#,
                r#"{"code":50013"#,
                r#"{"code":-1,"message":"x"}"#,
                r#"{"kind":"Status","code":403,"message":"x"}"#,
                r#"{"code":404,"message":"no such upstream"}"#,
                r#"{"code":1010,"message":"x"}"#,
            ] {
                let found = meaning_of(status, body);
                assert_eq!(found, DiscordError::Unavailable, "{status} {body}");
            }
        }
        // Discord's form, and nothing that is documented for this status.
        for (status, code) in [
            (403, 0),
            (403, 40_333),
            (403, 50_009),
            (403, 99_999_999),
            (401, 50_013),
            (404, 0),
            (404, 50_001),
            (400, 40_006),
            (400, 110_001),
            (500, 0),
            (500, 50_013),
            (502, 10_003),
            (503, 130_000),
            (200, 50_013),
            (302, 10_003),
        ] {
            let found = of_code(status, code);
            assert_eq!(found, DiscordError::Unavailable, "{status} {code}");
        }
    }

    #[test]
    fn a_429_says_how_long_and_a_ban_page_pauses_every_call_for_at_most_an_hour() {
        const OWN: bool = false;
        const GLOBAL: bool = true;
        for (pairs, body, retry_after_ms, global) in [
            (
                &[("retry-after", "3")][..],
                r#"{"retry_after":2.25,"global":false}"#,
                2_250,
                OWN,
            ),
            (
                &[("retry-after", "-1")],
                r#"{"retry_after":-1}"#,
                1_000,
                OWN,
            ),
            (&[], r#"{"retry_after":1e300}"#, PAUSE_MAX_MS, OWN),
            (&[("x-ratelimit-scope", "user")], "", 1_000, OWN),
            (&[], r#"{"retry_after":0.5,"global":true}"#, 500, GLOBAL),
            (&[("x-ratelimit-global", "true")], "", 1_000, GLOBAL),
            (&[("retry-after", "NaN")], "", 1_000, GLOBAL),
            (&[("retry-after", "600")], HTML, 600_000, GLOBAL),
            (&[("retry-after", "1e300")], HTML, PAUSE_MAX_MS, GLOBAL),
            (&[], "error code: 1015", 1_000, GLOBAL),
        ] {
            let limits = limits_of(429, pairs, body);
            let meant = DiscordError::RateLimited { retry_after_ms };
            assert_eq!(error(limits, body.as_bytes()), meant, "{pairs:?} {body}");
            assert_eq!(
                (limits.global, limits.shared),
                (global, false),
                "{pairs:?} {body}"
            );
        }
        let shared = limits_of(429, &[("x-ratelimit-scope", "shared")], "");
        assert!(shared.shared && !shared.global);
    }

    #[test]
    fn an_empty_bucket_is_noticed_before_it_is_overdrawn() {
        for (remaining, exhausted_ms) in [("0", Some(750)), ("1", None)] {
            let left = [
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-reset-after", "0.75"),
            ];
            assert_eq!(limits_of(201, &left, "").exhausted_ms, exhausted_ms);
        }
    }
}
