//! What can be set, with its defaults and their reasons.

use url::Url;

use super::issuers::Issuer;
use super::reach::PlainHttp;

/// Leeway on `exp` and `nbf`, in seconds: clocks of separate machines differ by less.
pub const LEEWAY_S: u64 = 60;
/// The least time between two refreshes that unknown keys cause, in milliseconds: whatever
/// strangers send, the issuer sees at most one request in it.
pub const REFRESH_COOLDOWN_MS: u64 = 30_000;
/// The time between two refreshes of a good set, in milliseconds. A key that the issuer took out
/// is refused within it; five minutes leaves room to fail once and still be below ten.
pub const REFRESH_INTERVAL_MS: u64 = 300_000;
/// How long one refresh may take as a whole, in milliseconds.
pub const FETCH_TIMEOUT_MS: u64 = 5_000;
/// How long the last good set is used while no new one is available, in milliseconds. An outage of
/// the issuer logs no user out. A removed key is accepted for at most this time.
pub const STALE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// The largest key set that is read, in bytes. Real ones are a few kilobytes.
pub const JWKS_BYTES_MAX: usize = 1024 * 1024;
/// The most entries of a key set. Large public issuers publish about ten.
pub const KEYS_MAX: usize = 100;
/// The largest token that is accepted, in bytes: what an HTTP header usually holds. The
/// WebSocket's first message holds it too.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Everything that the verification of tokens depends on.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Whose tokens are accepted; at least one.
    pub issuers: Vec<Issuer>,
    /// From where key sets may come over plain http.
    pub plain_http: PlainHttp,
    /// See [`LEEWAY_S`].
    pub leeway_s: u64,
    /// See [`REFRESH_COOLDOWN_MS`]. Each issuer has its own.
    pub refresh_cooldown_ms: u64,
    /// See [`REFRESH_INTERVAL_MS`].
    pub refresh_interval_ms: u64,
    /// See [`FETCH_TIMEOUT_MS`].
    pub fetch_timeout_ms: u64,
    /// See [`STALE_MAX_MS`].
    pub stale_max_ms: u64,
    /// See [`JWKS_BYTES_MAX`].
    pub jwks_bytes_max: usize,
    /// See [`KEYS_MAX`].
    pub keys_max: usize,
    /// See [`TOKEN_BYTES_MAX`].
    pub token_bytes_max: usize,
}

impl AuthSettings {
    /// The settings of one issuer, with every bound at its default.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, jwks_url: Url) -> Self {
        Self {
            issuers: vec![Issuer::new(issuer, audience, jwks_url)],
            plain_http: PlainHttp::Loopback,
            leeway_s: LEEWAY_S,
            refresh_cooldown_ms: REFRESH_COOLDOWN_MS,
            refresh_interval_ms: REFRESH_INTERVAL_MS,
            fetch_timeout_ms: FETCH_TIMEOUT_MS,
            stale_max_ms: STALE_MAX_MS,
            jwks_bytes_max: JWKS_BYTES_MAX,
            keys_max: KEYS_MAX,
            token_bytes_max: TOKEN_BYTES_MAX,
        }
    }
}
