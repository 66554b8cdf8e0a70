//! What a backend gives back when it is opened.

use std::collections::BTreeMap;

use proto::GuildId;

use crate::log_state::{GuildRecord, LogState};
use crate::tail::Tail;

/// What was stored, or a new store.
pub(crate) struct Loaded {
    /// Names the store.
    pub(crate) store: String,
    /// The state.
    pub(crate) state: LogState,
    /// The newest entries of each guild.
    pub(crate) tails: BTreeMap<GuildId, Tail>,
}

impl Loaded {
    /// A store of this name, and its state without guilds.
    pub(crate) fn new(store: String, state: LogState) -> Self {
        Self {
            store,
            state,
            tails: BTreeMap::new(),
        }
    }

    /// Adds a guild without entries.
    pub(crate) fn begin(&mut self, guild: GuildId, record: GuildRecord) {
        let tail = Tail::begin(record.position, record.state.clone());
        self.put(guild, tail, record);
    }

    /// Adds a guild.
    pub(crate) fn put(&mut self, guild: GuildId, tail: Tail, record: GuildRecord) {
        self.tails.insert(guild, tail);
        self.state.put(guild, record);
    }
}
