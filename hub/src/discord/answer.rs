//! What Discord's answers mean. Pure.

use std::collections::BTreeSet;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::DiscordError;
use super::pace::Said;

/// "Maximum number of guild channels reached (500)" (Discord's list of JSON error codes).
const GUILD_CHANNELS_MAX: u64 = 30_013;
/// "Invalid form body".
const INVALID_FORM: u64 = 50_035;
/// The word inside an invalid form that means: this category holds 50 channels already.
const CATEGORY_FULL: &str = "CHANNEL_PARENT_MAX_CHANNELS";
/// A 429 that does not say how long is worth a second.
const RETRY_UNSAID_MS: u64 = 1_000;
/// How many wrong fields of an answer are read.
const FIELDS_MAX: usize = 16;

/// Discord's own form of an error.
#[derive(Debug, Deserialize)]
struct ApiError {
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

/// What an answer says about further calls.
pub(super) fn said(status: u16, headers: &HeaderMap, body: &[u8]) -> Said {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = |name: &str| text(name)?.parse().ok().and_then(to_ms);
    let mut said = Said {
        status,
        ..Said::default()
    };
    if status == 429 {
        let limited = serde_json::from_slice::<LimitedBody>(body).ok();
        let in_body = limited.as_ref().and_then(|body| to_ms(body.retry_after));
        said.retry_after_ms = in_body
            .or_else(|| seconds("retry-after"))
            .or(Some(RETRY_UNSAID_MS));
        said.global = limited.is_some_and(|body| body.global)
            || text("x-ratelimit-global") == Some("true")
            || text("x-ratelimit-scope") == Some("global");
        said.shared = text("x-ratelimit-scope") == Some("shared");
    } else if text("x-ratelimit-remaining") == Some("0") {
        said.exhausted_ms = seconds("x-ratelimit-reset-after");
    }
    said
}

/// What a refusal means. `said` is what [`said`] read of the same answer.
pub(super) fn meaning(said: Said, body: &[u8]) -> DiscordError {
    let error = serde_json::from_slice::<ApiError>(body).ok();
    match (said.status, error) {
        (401 | 403, _) => DiscordError::Forbidden,
        // Anything may answer 404; only Discord's own form says that Discord does not know it.
        (404, Some(_)) => DiscordError::NotFound,
        (429, _) => DiscordError::RateLimited {
            retry_after_ms: said.retry_after_ms.unwrap_or(RETRY_UNSAID_MS),
        },
        (400, Some(error)) => match error.code {
            GUILD_CHANNELS_MAX => DiscordError::Full,
            INVALID_FORM
                if error
                    .errors
                    .as_ref()
                    .is_some_and(|errors| says(errors, CATEGORY_FULL)) =>
            {
                DiscordError::Full
            }
            _ => DiscordError::Invalid {
                fields: fields(error.errors.as_ref()),
            },
        },
        (400..=499, Some(_)) => DiscordError::Invalid {
            fields: BTreeSet::new(),
        },
        _ => DiscordError::Unavailable,
    }
}

/// The names of the wrong fields: the keys of `errors`.
fn fields(errors: Option<&Value>) -> BTreeSet<String> {
    errors
        .and_then(Value::as_object)
        .map(|errors| errors.keys().take(FIELDS_MAX).cloned().collect())
        .unwrap_or_default()
}

/// Whether an error of this code stands anywhere inside.
fn says(errors: &Value, code: &str) -> bool {
    match errors {
        Value::Object(inner) => {
            inner.get("code").and_then(Value::as_str) == Some(code)
                || inner.values().any(|value| says(value, code))
        }
        Value::Array(inner) => inner.iter().any(|value| says(value, code)),
        _ => false,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates; negative and not-a-number are sorted out before"
)]
fn to_ms(seconds: f64) -> Option<u64> {
    (seconds >= 0.0).then(|| (seconds * 1000.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn an_answer_means_what_discord_documents() {
        let invalid = |fields: &[&str]| DiscordError::Invalid {
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
        };
        for (status, body, meant) in [
            (
                401,
                r#"{"message":"401: Unauthorized","code":0}"#,
                DiscordError::Forbidden,
            ),
            (
                403,
                r#"{"message":"Missing Permissions","code":50013}"#,
                DiscordError::Forbidden,
            ),
            (
                404,
                r#"{"message":"Unknown Channel","code":10003}"#,
                DiscordError::NotFound,
            ),
            (
                404,
                "<html>somebody else's page</html>",
                DiscordError::Unavailable,
            ),
            (
                400,
                r#"{"message":"Maximum…","code":30013}"#,
                DiscordError::Full,
            ),
            (
                400,
                r#"{"code":50035,"message":"Invalid Form Body","errors":{"parent_id":{"_errors":[{"code":"CHANNEL_PARENT_MAX_CHANNELS","message":"…"}]}}}"#,
                DiscordError::Full,
            ),
            (
                400,
                r#"{"code":50035,"errors":{"name":{"_errors":[]},"parent_id":{"_errors":[{"code":"CHANNEL_PARENT_INVALID"}]}}}"#,
                invalid(&["name", "parent_id"]),
            ),
            (400, r#"{"code":50035}"#, invalid(&[])),
            (405, r#"{"code":0}"#, invalid(&[])),
            (400, "no JSON", DiscordError::Unavailable),
            (500, "", DiscordError::Unavailable),
            (502, r#"{"code":0}"#, DiscordError::Unavailable),
        ] {
            let said = said(status, &HeaderMap::new(), body.as_bytes());
            assert_eq!(meaning(said, body.as_bytes()), meant, "{status} {body}");
        }
    }

    #[test]
    fn a_429_says_how_long_in_its_body_or_its_header() {
        for (pairs, body, retry_after_ms, global, shared) in [
            (
                &[("retry-after", "3")][..],
                r#"{"retry_after":2.25,"global":false}"#,
                2_250,
                false,
                false,
            ),
            (
                &[("retry-after", "3"), ("x-ratelimit-scope", "shared")][..],
                "",
                3_000,
                false,
                true,
            ),
            (
                &[][..],
                r#"{"retry_after":0.5,"global":true}"#,
                500,
                true,
                false,
            ),
            (
                &[("x-ratelimit-global", "true")][..],
                "",
                1_000,
                true,
                false,
            ),
            (
                &[("retry-after", "-1")][..],
                r#"{"retry_after":-1}"#,
                1_000,
                false,
                false,
            ),
            (&[("retry-after", "NaN")][..], "", 1_000, false, false),
        ] {
            let said = said(429, &headers(pairs), body.as_bytes());
            let meant = DiscordError::RateLimited { retry_after_ms };
            assert_eq!(meaning(said, body.as_bytes()), meant, "{pairs:?} {body}");
            assert_eq!(
                (said.global, said.shared),
                (global, shared),
                "{pairs:?} {body}"
            );
        }
    }

    #[test]
    fn an_empty_bucket_is_noticed_before_it_is_overdrawn() {
        let left = |remaining| {
            headers(&[
                ("x-ratelimit-remaining", remaining),
                ("x-ratelimit-reset-after", "0.75"),
            ])
        };
        assert_eq!(said(201, &left("0"), b"").exhausted_ms, Some(750));
        assert_eq!(said(201, &left("1"), b"").exhausted_ms, None);
    }
}
