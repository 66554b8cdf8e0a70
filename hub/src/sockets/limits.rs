//! The bounds of the sockets, each with its unit.

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
#[derive(Debug, Clone)]
pub struct RegistryLimits {
    /// Connections at once.
    pub connections_max: usize,
    /// Among them, those that have not authenticated.
    pub unauthenticated_max: usize,
    /// Among those, the ones of one address (of one /64 for IPv6).
    pub unauthenticated_per_address_max: usize,
    /// Connections of one subject.
    pub connections_per_subject_max: usize,
}

/// The bounds of the fan-out.
#[derive(Debug, Clone)]
pub struct FanoutLimits {
    /// Different views of one guild: each event costs each of them.
    pub views_per_guild_max: usize,
    /// A client that missed more gets a snapshot.
    pub recovery: HistoryBounds,
    /// Views of one guild whose history is kept encoded. The least recently used one is dropped.
    pub histories_per_guild_max: usize,
    /// How long a history is kept without use, in ms.
    pub history_idle_ms: u64,
    /// A larger snapshot is sent in parts of this size, in bytes.
    pub snapshot_part_bytes: usize,
}

/// What a client that recovers may have missed at most.
#[derive(Debug, Clone, Copy)]
pub struct HistoryBounds {
    /// In frames.
    pub frames_max: usize,
    /// In bytes.
    pub bytes_max: usize,
}

impl FanoutLimits {
    /// Different views of one guild.
    pub const VIEWS_PER_GUILD_MAX: usize = 1_000;
    /// Frames that a client that recovers may have missed.
    pub const RECOVERY_FRAMES_MAX: usize = 2_000;
    /// Their bytes.
    pub const RECOVERY_BYTES_MAX: usize = 512 * 1024;
    /// Views of one guild whose history is kept encoded.
    pub const HISTORIES_PER_GUILD_MAX: usize = 16;
    /// How long a history is kept without use, in ms.
    pub const HISTORY_IDLE_MS: u64 = 60_000;
    /// The size of a snapshot's parts, in bytes.
    pub const SNAPSHOT_PART_BYTES: usize = 64 * 1024;
}

impl Default for FanoutLimits {
    fn default() -> Self {
        Self {
            views_per_guild_max: Self::VIEWS_PER_GUILD_MAX,
            recovery: HistoryBounds {
                frames_max: Self::RECOVERY_FRAMES_MAX,
                bytes_max: Self::RECOVERY_BYTES_MAX,
            },
            histories_per_guild_max: Self::HISTORIES_PER_GUILD_MAX,
            history_idle_ms: Self::HISTORY_IDLE_MS,
            snapshot_part_bytes: Self::SNAPSHOT_PART_BYTES,
        }
    }
}
