//! What can be set, with its defaults and their reasons.

use launch::settings::address;
use url::{Host, Url};

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
/// How long the last good set is used while no new one can be had, in milliseconds: an issuer's
/// bad day does not log anybody out; a key can not outlive its removal by more than this.
pub const STALE_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// The largest key set that is read, in bytes. Real ones are a few kilobytes.
pub const JWKS_BYTES_MAX: usize = 1024 * 1024;
/// The most entries of a key set. Large public issuers publish about ten.
pub const KEYS_MAX: usize = 100;
/// The largest token that is looked at, in bytes: what an HTTP header usually holds. (The
/// WebSocket's first frame is smaller still.)
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// Everything that the verification of tokens depends on.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// What `iss` must be, compared as a string.
    pub issuer: String,
    /// What `aud` must be or contain.
    pub audience: String,
    /// Where the key set is; see [`parse_jwks_url`]. Nothing else is ever asked.
    pub jwks_url: Url,
    /// See [`LEEWAY_S`].
    pub leeway_s: u64,
    /// See [`REFRESH_COOLDOWN_MS`].
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
    /// The settings with every bound at its default.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, jwks_url: Url) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            jwks_url,
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

/// Reads the address of a key set: https, or http on loopback, since whoever can change the
/// answer on its way can sign in as anybody. Link-local addresses are refused: clouds keep their
/// machines' credentials there.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_jwks_url(text: &str) -> Result<Url, String> {
    let url = address::parse(text, address::HTTP)?;
    let (loopback, link_local) = match url.host() {
        Some(Host::Domain(name)) => (name == "localhost", false),
        Some(Host::Ipv4(ip)) => (ip.is_loopback(), ip.is_link_local()),
        Some(Host::Ipv6(ip)) => {
            let inner = ip.to_ipv4_mapped();
            (
                ip.is_loopback() || inner.is_some_and(|ip| ip.is_loopback()),
                ip.is_unicast_link_local() || inner.is_some_and(|ip| ip.is_link_local()),
            )
        }
        None => (false, false),
    };
    if link_local {
        return Err("It must not be a link-local address: clouds keep their machines' credentials there. Name the issuer's own host.".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err("Plain http is allowed on loopback alone. Write https://.".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_comes_by_https_or_from_this_machine() {
        for good in [
            "https://issuer.example/.well-known/jwks.json",
            "http://127.0.0.1:3901/.well-known/jwks.json",
            "http://localhost:3901/a",
            "http://[::1]:3901/a",
            "https://10.0.0.7/keys",
        ] {
            assert!(parse_jwks_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "issuer.example",
            "http://issuer.example/",
            "http://localhost.example.org/",
            "http://127.0.0.1@issuer.example/",
            "https://user:word@issuer.example/",
            "https://169.254.169.254/latest",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "file:///etc/passwd",
            "data:application/json,{}",
        ] {
            assert!(parse_jwks_url(bad).is_err(), "{bad}");
        }
    }
}
