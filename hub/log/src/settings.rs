//! The bounds of the log, and where it is kept.

use super::address::{Durability, StoreAddress};
use super::ledger::LedgerBounds;

/// The bounds of the log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Where it is kept.
    pub store: StoreAddress,
    /// What it survives there.
    pub durability: Durability,
    /// How large the file may grow, in bytes. Near the bound the oldest entries of any guild give
    /// way; with nothing left that could, nothing is acknowledged.
    pub store_bytes_max: u64,
    /// How large the journal beside it may grow, in bytes, and by one group of changes more. At the
    /// bound the writer waits until it is written back; it grows on only as long as another
    /// program reads the file.
    pub journal_bytes_max: u64,
    /// How many changes may wait for the writer; a further one waits to be queued.
    pub queue_max: usize,
    /// How many entries of a guild are kept, if there are as many and they are young enough. They are
    /// dropped by the hundred, so that a few more are kept.
    pub entries_max: usize,
    /// How long an entry is kept, in ms, if it is among the newest. Entries are dropped together, so
    /// that those of a quiet guild are kept for longer.
    pub age_max_ms: u64,
    /// How many entries a follower may be behind before it has to start again.
    pub follow_entries_max: usize,
    /// How many event ids are remembered at most, over all guilds.
    pub seen_events_max: usize,
    /// The bounds of the ledger.
    pub ledger: LedgerBounds,
    /// More workers of a shard that are fenced within a minute are a contention.
    pub fencings_per_minute_max: usize,
}

impl LogSettings {
    /// [`LogSettings::store_bytes_max`]: far more than a thousand busy guilds need.
    pub const STORE_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
    /// [`LogSettings::journal_bytes_max`]: some seconds of a busy hub, and read back in a moment.
    pub const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
    /// [`LogSettings::queue_max`]: some groups of the writer.
    pub const QUEUE_MAX: usize = 1_024;
    /// [`LogSettings::entries_max`]: what a browser that was away for minutes may have missed.
    pub const ENTRIES_MAX: usize = 5_000;
    /// [`LogSettings::age_max_ms`]: a client that was away for longer is as well served by a snapshot.
    pub const AGE_MAX_MS: u64 = 60 * 60 * 1000;
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            store: StoreAddress::Memory,
            durability: Durability::Process,
            store_bytes_max: Self::STORE_BYTES_MAX,
            journal_bytes_max: Self::JOURNAL_BYTES_MAX,
            queue_max: Self::QUEUE_MAX,
            entries_max: Self::ENTRIES_MAX,
            age_max_ms: Self::AGE_MAX_MS,
            follow_entries_max: 4_096,
            seen_events_max: 1_000_000,
            ledger: LedgerBounds::default(),
            fencings_per_minute_max: 3,
        }
    }
}
