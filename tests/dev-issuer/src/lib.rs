//! A token issuer for development and tests.
//!
//! It stands where a product's own login would stand: it publishes a key set and hands out
//! signed tokens to every client. That is why it serves loopback addresses only, and why nothing
//! of it belongs into production.
//!
//! | request | answer |
//! |---|---|
//! | `GET /.well-known/jwks.json` | the public keys: one RSA, one P-256, one Ed25519 key for each generation that is still published |
//! | `GET /.well-known/openid-configuration` | issuer, key set address, algorithms |
//! | `POST /token` | `{"token":"…"}`, see [`token::TokenRequest`] |
//! | `GET /token?sub=ada` | the token alone, as `text/plain`; `guilds` (ids with commas between), `scope` and `ttl` may follow, see [`token::TokenQuery`] |
//! | `POST /rotate` | makes new keys: `{"signing":[kid…],"published":[kid…],"removed":[kid…]}` |
//!
//! **Rotation.** Tokens are always signed by the newest generation of keys. The public keys of
//! the [`Settings::generations_kept`] generations before it stay in the set, so that tokens given
//! out before a rotation go on to work; older ones are removed, and a verifier has to refuse
//! their tokens as soon as it has read the set again. Key ids are RFC 7638 thumbprints.

pub mod keys;
mod server;
pub mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use launch::listener::{Bounds, LingerBounds, MetricNames};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The audience (`aud`) of every token, unless the request says otherwise.
pub const AUDIENCE: &str = "roomwire";

/// Origins whose pages may always ask: the hub's, in the demo.
pub const DEMO_ORIGINS: [&str; 2] = ["http://127.0.0.1:3000", "http://localhost:3000"];

const BOUNDS: Bounds = Bounds {
    connections_max: 1_024,
    // Longer than clients keep an idle connection, so that none is closed while it is used again.
    header_timeout: Duration::from_secs(100),
    write_timeout: Duration::from_secs(30),
    finish_timeout: Duration::from_secs(3),
    linger: LingerBounds {
        time_max: Duration::from_secs(10),
        bytes_max: 8 * 1024 * 1024,
        connections_max: 1_024,
    },
};
/// Nothing publishes them.
const METRICS: MetricNames = MetricNames {
    accept_failures: "issuer_accept_failures_total",
    lingering: "issuer_lingering_connections",
    linger_cut: "issuer_linger_cut_total",
};

/// What can be chosen, besides the address.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Settings {
    /// A list of more origins whose pages may ask, besides the demo's two
    #[arg(
        id = "issuer_origins",
        long = "issuer-origins",
        env = "ISSUER_ORIGINS",
        value_delimiter = ',',
        value_parser = launch::settings::origin::parse
    )]
    pub origins: Vec<String>,
    /// How many generations of public keys stay published after a rotation, besides the newest
    /// (0 to 16). 1 is how careful issuers rotate: nobody's token breaks, and the set stays small
    #[arg(
        id = "issuer_generations_kept",
        long = "issuer-generations-kept",
        env = "ISSUER_GENERATIONS_KEPT",
        default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(0..=16)
    )]
    pub generations_kept: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            generations_kept: 1,
        }
    }
}

/// Whether tokens may be served from this address: only where no other machine can ask.
pub fn is_allowed(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Serves tokens until `shutdown` is cancelled. The issuer (`iss`) is `http://<address>` of the
/// listener. Keys are made first; the listener queues connections meanwhile.
///
/// # Errors
/// When the listener is not on a loopback address, or when keys cannot be made.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener.local_addr().context("the listener's address")?;
    anyhow::ensure!(
        is_allowed(address),
        "{address} is not a loopback address: this issuer gives tokens to every client"
    );
    let issuer = format!("http://{address}");
    let kept = usize::from(settings.generations_kept);
    let ring = tokio::task::spawn_blocking(move || keys::Ring::generate(kept))
        .await
        .context("key generation")??;
    let router = server::router(
        Arc::new(server::Issuer::new(issuer.clone(), ring)),
        &settings.origins,
    )?;
    tracing::info!(issuer, audience = AUDIENCE, "giving out tokens");
    launch::listener::serve(listener, router, BOUNDS, METRICS, shutdown).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_allowed() {
        for yes in [
            "127.0.0.1:0",
            "127.8.9.1:1",
            "[::1]:3901",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_allowed(yes.parse().unwrap()), "{yes}");
        }
        for no in [
            "0.0.0.0:3901",
            "[::]:3901",
            "10.0.0.1:1",
            "192.168.1.2:1",
            "[::ffff:10.0.0.1]:1",
        ] {
            assert!(!is_allowed(no.parse().unwrap()), "{no}");
        }
    }
}
