//! What a backend gives back when it is opened.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use proto::GuildId;

use crate::log_state::{GuildRecord, LogState, StateBounds};
use crate::retention::Retention;
use crate::rooms::LedgerChange;
use crate::tail::{Known, Tail};
use crate::workers::Workers;

/// What was stored, or a new store.
pub(crate) struct Loaded {
    /// Names the store.
    pub(crate) store: String,
    /// The state.
    pub(crate) state: LogState,
    /// The newest entries of each guild.
    pub(crate) retentions: BTreeMap<GuildId, Retention>,
    /// The ledger's rooms and budgets, as changes of an empty ledger.
    pub(crate) ledger: Vec<LedgerChange>,
    /// Interactions that were answered, oldest first, each with when, and the number of the next.
    pub(crate) interactions: (Vec<(u64, Arc<str>)>, u64),
}

impl Loaded {
    /// A new store of this name, in which no entry is known.
    pub(crate) fn new(named: &str, bounds: StateBounds, now_ms: u64) -> Self {
        Self {
            store: named.to_owned(),
            state: LogState::restored(bounds, Workers::default(), [], 0, now_ms),
            retentions: BTreeMap::new(),
            ledger: Vec::new(),
            interactions: (Vec::new(), 0),
        }
    }

    /// Adds a guild without entries.
    pub(crate) fn begin(&mut self, guild: GuildId, record: GuildRecord) {
        self.put(guild, retention_from(&record), record);
    }

    /// Adds a guild.
    pub(crate) fn put(&mut self, guild: GuildId, retention: Retention, record: GuildRecord) {
        self.retentions.insert(guild, retention);
        self.state.put(guild, record);
    }
}

/// The retention of a guild whose entries are all forgotten.
pub(crate) fn retention_from(record: &GuildRecord) -> Retention {
    let known = Known {
        position: record.position,
        state: record.state.clone(),
    };
    Retention::restored(Tail::begin(known), VecDeque::new(), 0)
}
