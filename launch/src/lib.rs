//! How a Roomwire process starts and ends: settings, secrets, logs, metrics, the clock, signals.
//!
//! Every binary begins the same way: read all settings ([`settings::parse`]), start the logs
//! ([`logs::init`]), bind ([`bind`]), then run until [`shutdown::on_signals`] says otherwise.

pub mod check;
pub mod clock;
pub mod descriptors;
pub mod exit;
#[cfg(feature = "listener")]
pub mod listener;
pub mod logs;
pub mod metrics;
pub mod mutation;
pub mod rate;
pub mod secret;
pub mod settings;
pub mod shutdown;

pub use secret::Secret;

use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Binds a TCP listener.
///
/// # Errors
/// The error names the setting and the address, so that a taken port is found without a search.
pub async fn bind(setting: &str, address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("{setting}: cannot listen on {address}: {error}"),
        )
    })
}
