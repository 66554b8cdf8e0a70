//! The settings that every listener has.

use std::time::Duration;

use clap::Args;

use super::{Bounds, LingerBounds};
use crate::settings::bounds::{BYTES_MAX, ms};

/// How long a program waits for its clients.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Connections")]
pub struct ListenerSettings {
    /// A request's head must be complete this long after its first byte; a connection that sends no byte is closed after
    /// the same time [ms]
    #[arg(long, env = "HEADER_TIMEOUT_MS", default_value_t = 10_000, value_parser = ms())]
    pub header_timeout_ms: u64,
    /// A client that accepts no byte of an answer for this long is disconnected [ms]
    #[arg(long, env = "WRITE_TIMEOUT_MS", default_value_t = 30_000, value_parser = ms())]
    pub write_timeout_ms: u64,
    /// After an answer that ends a connection, what the client still sends is read and discarded for this long, so that
    /// the answer arrives [ms; the time to send a body that was refused]
    #[arg(long, env = "LINGER_MS", default_value_t = 10_000, value_parser = ms())]
    pub linger_ms: u64,
    /// ... up to this size [bytes; nothing of it is kept in memory]
    #[arg(long, env = "LINGER_BYTES_MAX", default_value_t = 8 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1..=BYTES_MAX))]
    pub linger_bytes_max: u64,
    /// ... on this many connections of a listener at once; for one more the oldest is closed [count; each is a descriptor, beside TCP_CONNECTIONS_MAX]
    #[arg(long, env = "LINGER_CONNECTIONS_MAX", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub linger_connections_max: u32,
}

impl ListenerSettings {
    /// The bounds of a listener with these settings.
    pub fn bounds(&self, connections_max: usize, finish_timeout: Duration) -> Bounds {
        Bounds {
            connections_max,
            header_timeout: Duration::from_millis(self.header_timeout_ms),
            write_timeout: Duration::from_millis(self.write_timeout_ms),
            finish_timeout,
            linger: LingerBounds {
                time_max: Duration::from_millis(self.linger_ms),
                bytes_max: self.linger_bytes_max,
                connections_max: self.linger_connections_max as usize,
            },
        }
    }
}
