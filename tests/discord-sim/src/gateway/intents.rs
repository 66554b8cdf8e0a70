//! Intents: which dispatches a session asked for (`gateway.mdx`, "List of Intents").

/// Guilds, roles, channels, and the status lines of voice channels.
pub(crate) const GUILDS: u64 = 1 << 0;
/// Members come and go. Privileged.
pub(crate) const GUILD_MEMBERS: u64 = 1 << 1;
/// Who sits in voice.
pub(crate) const GUILD_VOICE_STATES: u64 = 1 << 7;
/// Presences. Privileged.
pub(crate) const GUILD_PRESENCES: u64 = 1 << 8;
/// The text of messages. Privileged.
pub(crate) const MESSAGE_CONTENT: u64 = 1 << 15;
/// Those that an application must be granted.
pub(crate) const PRIVILEGED: u64 = GUILD_MEMBERS | GUILD_PRESENCES | MESSAGE_CONTENT;
/// All that exist: bits 0 to 16, 20, 21, 24 and 25.
pub(crate) const KNOWN: u64 = ((1 << 17) - 1) | (1 << 20) | (1 << 21) | (1 << 24) | (1 << 25);
