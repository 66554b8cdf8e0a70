//! Rate limits: a bucket for each route and top-level resource, and one for the bot over all
//! (`topics/rate-limits.mdx`). Pure: the time is given.

use std::collections::BTreeMap;

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::json;

use super::errors::json_response;

/// Buckets kept at most; beyond it, those whose window is over are dropped, and then the limits
/// start again.
const BUCKETS_MAX: usize = 10_000;

/// The state of all limits.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    buckets: BTreeMap<String, Window>,
    global: Window,
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    from_ms: u64,
    length_ms: u64,
    used: u32,
}

impl Window {
    fn take(&mut self, limit: u32, length_ms: u64, now_ms: u64) -> bool {
        if now_ms >= self.ends_ms() || self.length_ms != length_ms {
            *self = Self {
                from_ms: now_ms,
                length_ms,
                used: 0,
            };
        }
        if self.used >= limit {
            return false;
        }
        self.used += 1;
        true
    }

    fn ends_ms(&self) -> u64 {
        self.from_ms.saturating_add(self.length_ms)
    }
}

/// The state of a bucket after a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LimitState {
    /// Requests in one window.
    pub(crate) limit: u32,
    /// Those that are left.
    pub(crate) remaining: u32,
    /// When the window ends, Unix milliseconds.
    pub(crate) ends_ms: u64,
    /// The bucket's name, without its top-level resource.
    pub(crate) bucket: String,
    /// The request was one too many.
    pub(crate) exceeded: bool,
}

/// Whose limit was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The bot's, on this route.
    User,
    /// The bot's, over all routes.
    Global,
    /// The resource's.
    Shared,
}

impl Limits {
    /// Takes one request of the bot, over all routes; otherwise the milliseconds to wait.
    pub(crate) fn take_global(&mut self, limit: u32, now_ms: u64) -> Result<(), u64> {
        if self.global.take(limit, 1_000, now_ms) {
            Ok(())
        } else {
            Err(self.global.ends_ms().saturating_sub(now_ms))
        }
    }

    /// Takes one request of `bucket` for the top-level `resource`.
    pub(crate) fn take(
        &mut self,
        bucket: &str,
        resource: &str,
        limit: u32,
        length_ms: u64,
        now_ms: u64,
    ) -> LimitState {
        if self.buckets.len() >= BUCKETS_MAX {
            self.buckets.retain(|_, window| now_ms < window.ends_ms());
            if self.buckets.len() >= BUCKETS_MAX {
                self.buckets.clear();
            }
        }
        let window = self
            .buckets
            .entry(format!("{bucket}:{resource}"))
            .or_default();
        let taken = window.take(limit, length_ms, now_ms);
        LimitState {
            limit,
            remaining: limit.saturating_sub(window.used),
            ends_ms: window.ends_ms(),
            bucket: bucket.to_owned(),
            exceeded: !taken,
        }
    }
}

impl LimitState {
    /// Adds the `X-RateLimit-*` headers.
    pub(crate) fn write(&self, response: &mut Response, now_ms: u64) {
        let after_ms = self.ends_ms.saturating_sub(now_ms);
        for (name, value) in [
            ("x-ratelimit-limit", self.limit.to_string()),
            ("x-ratelimit-remaining", self.remaining.to_string()),
            ("x-ratelimit-reset", seconds(self.ends_ms)),
            ("x-ratelimit-reset-after", seconds(after_ms)),
            ("x-ratelimit-bucket", self.bucket.clone()),
        ] {
            put(response, name, &value);
        }
    }
}

/// A 429: how long to wait, and whose limit it is.
pub(crate) fn too_many(wait_ms: u64, scope: Scope, code: u32) -> Response {
    let message = match scope {
        Scope::User | Scope::Global => "You are being rate limited.",
        Scope::Shared => "The resource is being rate limited.",
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds of a wait are far below 2^53"
    )]
    let retry_after = wait_ms as f64 / 1_000.0;
    let body = json!({
        "message": message, "retry_after": retry_after, "global": scope == Scope::Global, "code": code,
    });
    let mut response = json_response(StatusCode::TOO_MANY_REQUESTS, &body);
    put(
        &mut response,
        "retry-after",
        &wait_ms.div_ceil(1_000).to_string(),
    );
    let scope_name = match scope {
        Scope::User => "user",
        Scope::Global => "global",
        Scope::Shared => "shared",
    };
    put(&mut response, "x-ratelimit-scope", scope_name);
    if scope == Scope::Global {
        put(&mut response, "x-ratelimit-global", "true");
    }
    response
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

fn put(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_down_and_fills_up_when_its_window_ends() {
        let mut limits = Limits::default();
        let mut take = |now_ms| limits.take("b", "1", 2, 1_000, now_ms);
        assert_eq!((take(100).remaining, take(101).remaining), (1, 0));
        let third = take(102);
        assert!(third.exceeded);
        assert_eq!(third.ends_ms, 1_100);
        assert!(!take(1_100).exceeded);
    }

    #[test]
    fn the_global_limit_says_how_long_to_wait() {
        let mut limits = Limits::default();
        assert_eq!(limits.take_global(1, 5_000), Ok(()));
        assert_eq!(limits.take_global(1, 5_400), Err(600));
        assert_eq!(limits.take_global(1, 6_000), Ok(()));
    }
}
