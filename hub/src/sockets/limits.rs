//! The bounds of the sockets, each with its unit.

use launch::settings::bounds::{bytes, count, ms};

use super::client_address::Network;

/// The bounds of the endpoint and of every connection.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// The bounds of one connection's session.
    pub session: SessionLimits,
    /// The largest message, in bytes.
    pub message_bytes_max: usize,
    /// The longest time from a message's first byte to its last, in ms.
    pub message_timeout_ms: u64,
    /// The bytes that may wait for one connection.
    pub outbox_bytes_max: usize,
    /// The longest time for the closing handshake, in ms.
    pub close_timeout_ms: u64,
    /// On a drain, clients reconnect spread over this time, in ms.
    pub reconnect_spread_ms: u64,
    /// The proxies whose header names the client's address.
    pub trusted_proxies: Vec<Network>,
}

/// The bounds of a connection's session.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// The longest time until a client authenticates, in ms.
    pub auth_timeout_ms: u64,
    /// The largest frame before that, in bytes.
    pub unauthenticated_frame_bytes_max: usize,
    /// The largest frame after that, in bytes.
    pub frame_bytes_max: usize,
    /// Client frames (and pings) a second, over time.
    pub frames_per_s_max: u32,
    /// Client frames that may come at once.
    pub frames_burst_max: u32,
    /// Guilds of one connection.
    pub subscriptions_max: usize,
    /// The time between two pings of the hub, in ms.
    pub ping_interval_ms: u64,
    /// The longest time until the pong, in ms.
    pub pong_timeout_ms: u64,
    /// How long a token is valid after its `exp`, in ms.
    pub expiry_leeway_ms: u64,
    /// The bytes of the frames that wait for an operation; one frame may exceed it.
    pub held_back_bytes_max: usize,
}

/// The bounds of the registry.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Bounds and timeouts")]
pub struct RegistryLimits {
    /// The most WebSockets; more get 503 [count]
    #[arg(long, env = "CONNECTIONS_MAX", default_value_t = 15_000, value_parser = count())]
    pub connections_max: usize,
    /// The most unauthenticated WebSockets; more get 503 [count]
    #[arg(long, env = "UNAUTHENTICATED_MAX", default_value_t = 2_000, value_parser = count())]
    pub unauthenticated_max: usize,
    /// The most unauthenticated WebSockets of one address (of one /64 for IPv6); more get 503 [count; see TRUSTED_PROXIES]
    #[arg(long, env = "UNAUTHENTICATED_PER_ADDRESS_MAX", default_value_t = 64, value_parser = count())]
    pub unauthenticated_per_address_max: usize,
    /// The most WebSockets of one subject; another is closed with 4429 [count; the tabs and devices of one user]
    #[arg(long, env = "CONNECTIONS_PER_SUBJECT_MAX", default_value_t = 50, value_parser = count())]
    pub connections_per_subject_max: usize,
}

/// The bounds of the fan-out.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Bounds and timeouts")]
pub struct FanoutLimits {
    /// The most different views of one guild (choices of rooms), else UNAVAILABLE [count; each event is encoded once per view]
    #[arg(long, env = "VIEWS_PER_GUILD_MAX", default_value_t = 1_000, value_parser = count())]
    pub views_per_guild_max: usize,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "see the type; a text here would become the help's"
    )]
    pub recovery: HistoryBounds,
    /// The most views of one guild whose recent frames are kept encoded for recovery; the least recently used is dropped [count]
    #[arg(long, env = "HISTORIES_PER_GUILD_MAX", default_value_t = 16, value_parser = count())]
    pub histories_per_guild_max: usize,
    /// How long such frames are kept without use [ms; longer than all clients take to reconnect]
    #[arg(long, env = "HISTORY_IDLE_MS", default_value_t = 60_000, value_parser = ms())]
    pub history_idle_ms: u64,
    /// The size of a snapshot's parts; a smaller snapshot is one part [bytes]
    #[arg(long, env = "SNAPSHOT_PART_BYTES", default_value_t = 64 * 1024, value_parser = bytes())]
    pub snapshot_part_bytes: usize,
}

/// What a client that recovers may have missed at most.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct HistoryBounds {
    /// The most frames that a client recovers by position; beyond it, a snapshot [frames; one view's events of a busy minute]
    #[arg(id = "recovery_frames_max", long = "recovery-frames-max", env = "RECOVERY_FRAMES_MAX", default_value_t = 2_000, value_parser = count())]
    pub frames_max: usize,
    /// The most bytes that a client recovers; beyond it, a snapshot [bytes; shared by all clients of one view]
    #[arg(id = "recovery_bytes_max", long = "recovery-bytes-max", env = "RECOVERY_BYTES_MAX", default_value_t = 512 * 1024, value_parser = bytes())]
    pub bytes_max: usize,
}

#[cfg(test)]
impl Default for FanoutLimits {
    fn default() -> Self {
        launch::settings::part(&[]).unwrap()
    }
}
