//! The log's beginning: what was kept is opened, or nothing is, and the writer is started on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::GuildId;
use tokio::sync::{mpsc, watch};

use super::address::StoreAddress;
use super::past::PastBounds;
use super::published::{GuildLog, Published};
use super::seen::Seen;
use super::store::{Kept, KeptPast, Store, StoreBounds};
use super::truth::{History, Truth};
use super::writer::{LedgerRow, Memory, Writer};
use super::{AGE_INTERVAL, Health, Log, LogSettings, PROBE_INTERVAL, Shared};

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
#[error("STORE_URL: {why}")]
pub struct StoreError {
    why: String,
    /// Whether another setting is needed: starting again does not help.
    pub is_wrong_setting: bool,
}

impl StoreError {
    pub(super) fn wrong(why: String) -> Self {
        Self {
            why,
            is_wrong_setting: true,
        }
    }

    pub(super) fn failed(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            is_wrong_setting: false,
        }
    }

    fn of(mut self, path: &std::path::Path) -> Self {
        self.why = format!("{}: {}", path.display(), self.why);
        self
    }
}

impl Log {
    /// The logs of these guilds, as they were kept; and the ledger's rooms. `named` names a new
    /// store; it must not repeat.
    ///
    /// # Errors
    /// The store can not be opened, or not used.
    pub fn open(
        guilds: &[GuildId],
        named: &str,
        settings: &LogSettings,
    ) -> Result<(Self, Vec<LedgerRow>), StoreError> {
        let now_ms = launch::clock::now_ms();
        let (store, kept) = match &settings.store {
            StoreAddress::Memory => (None, Kept::nothing(guilds, named, now_ms)),
            StoreAddress::File(path) => {
                let bounds = StoreBounds {
                    durability: settings.durability,
                    bytes_max: settings.store_bytes_max,
                    journal_bytes_max: settings.journal_bytes_max,
                    entries_max: settings.entries_max as u64,
                    age_max_ms: settings.age_max_ms,
                };
                let (store, kept) = Store::open(path, &bounds, guilds, named, now_ms)
                    .map_err(|error| error.of(path))?;
                (Some(store), kept)
            }
        };
        Self::begin(store, kept, settings)
    }

    /// Logs that begin empty, and end with this process.
    ///
    /// # Errors
    /// There is no thread for their writer.
    pub fn in_memory(guilds: &[GuildId], settings: &LogSettings) -> Result<Self, StoreError> {
        let settings = LogSettings {
            store: StoreAddress::Memory,
            ..settings.clone()
        };
        Self::open(guilds, "memory", &settings).map(|(log, _)| log)
    }

    fn begin(
        store: Option<Store>,
        kept: Kept,
        settings: &LogSettings,
    ) -> Result<(Self, Vec<LedgerRow>), StoreError> {
        let bounds = PastBounds {
            entries_max: settings.entries_max,
            age_max_ms: settings.age_max_ms,
        };
        let guilds = kept.pasts.into_iter().filter_map(|(guild, past)| {
            let history = kept.truth.guild(guild)?;
            Some((guild, GuildLog::begin(history, past, settings)))
        });
        let published = Arc::new(Published {
            guilds: guilds.collect(),
            truth: Mutex::new(kept.truth.clone()),
            bounds,
        });
        let (jobs, waiting) = mpsc::channel(settings.queue_max);
        let (health_told, health) = watch::channel(Health::Storing);
        let writer = Writer {
            memory: Memory {
                truth: kept.truth,
                seen: Seen::new(settings.seen_events_max, kept.seen, kept.next_seen),
            },
            store,
            jobs: waiting,
            health: health_told,
            published: Arc::clone(&published),
        };
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::failed(format!("no thread for the writer: {error}")))?;
        let age = Duration::from_millis(settings.age_max_ms / 4);
        let log = Self(Arc::new(Shared {
            store: kept.store,
            jobs,
            health,
            published,
            age_interval: age.clamp(PROBE_INTERVAL, AGE_INTERVAL),
        }));
        Ok((log, kept.rooms))
    }
}

impl Kept {
    fn nothing(guilds: &[GuildId], named: &str, now_ms: u64) -> Self {
        let mut kept = Self {
            store: named.to_owned(),
            truth: Truth::default(),
            pasts: BTreeMap::new(),
            seen: Vec::new(),
            next_seen: 0,
            rooms: Vec::new(),
        };
        for guild in guilds {
            let history = History::begin(now_ms);
            kept.pasts.insert(*guild, KeptPast::begin(&history));
            kept.truth.put(*guild, history);
        }
        kept
    }
}
