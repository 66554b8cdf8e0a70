//! Everything that a command, or a group of them, adds to the log, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::GuildId;
use proto::chain::Mark;

use crate::Applied;
use crate::contention::Fencing;
use crate::ledger::LedgerChange;
use crate::slots::Slot;
use crate::workers::{Holder, Progress};

/// Effects only: [`LogState::absorb`](crate::log_state::LogState::absorb) applies them without a
/// judgement, a backend stores them.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// New entries, in order.
    pub entries: Vec<NewEntry>,
    /// Watermarks that rose.
    pub marks: BTreeMap<GuildId, Mark>,
    /// The newest generation of any shard, if it is another.
    pub generation: Option<u64>,
    /// Shards that changed hands. None: nobody holds the shard.
    pub holders: BTreeMap<u32, Option<Holder>>,
    /// How far workers are, after the changes of [`Record::holders`].
    pub progress: BTreeMap<u32, Progress>,
    /// When the bot identified.
    pub identifies: Vec<u64>,
    /// Ids of claims and notices that were executed, each with when.
    pub request_ids: Vec<(u64, Arc<str>)>,
    /// Ids of events that were appended by hand, each with when.
    pub event_ids: Vec<(u64, Arc<str>)>,
    /// Changes of the ledger, in order.
    pub ledger: Vec<LedgerChange>,
    /// Slots to identify that were given, each with when. Not stored.
    pub slots: Vec<(u64, Slot)>,
    /// Workers that were fenced. Not stored.
    pub fencings: Vec<Fencing>,
}

/// A new entry of one guild's log.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Whose log.
    pub guild: GuildId,
    /// The entry, and the guild before and after it.
    pub applied: Arc<Applied>,
    /// The change as it is stored. The entry's check covers these bytes.
    pub json: Vec<u8>,
}

impl Record {
    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        !self.is_stored() && self.slots.is_empty() && self.fencings.is_empty()
    }

    /// Whether a durable backend has something to store.
    pub fn is_stored(&self) -> bool {
        let Self {
            entries,
            marks,
            generation,
            holders,
            progress,
            identifies,
            request_ids,
            event_ids,
            ledger,
            slots: _,
            fencings: _,
        } = self;
        !(entries.is_empty()
            && marks.is_empty()
            && generation.is_none()
            && holders.is_empty()
            && progress.is_empty()
            && identifies.is_empty()
            && request_ids.is_empty()
            && event_ids.is_empty()
            && ledger.is_empty())
    }

    /// Adds the record of a later command: absorbing the sum has the effect of absorbing both.
    pub fn append(&mut self, later: Self) {
        self.entries.extend(later.entries);
        self.marks.extend(later.marks);
        self.generation = later.generation.or(self.generation);
        // A claim replaces the progress of the worker before it.
        self.progress
            .retain(|shard, _| !later.holders.contains_key(shard));
        self.holders.extend(later.holders);
        self.progress.extend(later.progress);
        self.identifies.extend(later.identifies);
        self.request_ids.extend(later.request_ids);
        self.event_ids.extend(later.event_ids);
        self.ledger.extend(later.ledger);
        self.slots.extend(later.slots);
        self.fencings.extend(later.fencings);
    }

    /// The guilds with new entries.
    pub fn guilds(&self) -> BTreeSet<GuildId> {
        self.entries.iter().map(|entry| entry.guild).collect()
    }
}
