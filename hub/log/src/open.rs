//! Opening the log: the backend gives back what was stored, and the writer starts on it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::GuildId;
use tokio::sync::{mpsc, watch};

use crate::address::StoreAddress;
use crate::backend::loaded::Loaded;
use crate::backend::sqlite::{Store, StoreBounds};
use crate::backend::{Backend, StoreError};
use crate::health::Health;
use crate::log::{AGE_INTERVAL, Log, PROBE_INTERVAL, Shared};
use crate::log_state::{GuildRecord, StateBounds};
use crate::published::{GuildLog, Published, measure_rooms};
use crate::retention::RetentionBounds;
use crate::rooms::Ledger;
use crate::settings::LogSettings;
use crate::writer::Writer;

impl Log {
    /// The logs of these guilds and the ledger, as they were stored. `named` names a new store; it must
    /// not repeat.
    ///
    /// # Errors
    /// The store cannot be opened, or not used.
    pub fn open(
        guilds: &[GuildId],
        named: &str,
        settings: &LogSettings,
    ) -> Result<Self, StoreError> {
        let now_ms = launch::clock::now_ms();
        let bounds = StateBounds {
            event_ids_max: settings.seen_events_max,
            fencings_per_minute_max: settings.fencings_per_minute_max,
        };
        let (backend, loaded) = match &settings.store {
            StoreAddress::Memory => {
                let mut loaded = Loaded::new(named, bounds, now_ms);
                for guild in guilds {
                    loaded.begin(*guild, GuildRecord::begin(now_ms));
                }
                (Backend::Memory, loaded)
            }
            StoreAddress::File(path) => {
                let bounds = StoreBounds {
                    durability: settings.durability,
                    bytes_max: settings.store_bytes_max,
                    journal_bytes_max: settings.journal_bytes_max,
                    entries_max: settings.entries_max as u64,
                    age_max_ms: settings.age_max_ms,
                    state: bounds,
                };
                let (store, loaded) = Store::open(path, &bounds, guilds, named, now_ms)
                    .map_err(|error| error.of(path))?;
                (Backend::Sqlite(Box::new(store)), loaded)
            }
        };
        Self::begin(backend, loaded, settings)
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
        Self::open(guilds, "memory", &settings)
    }

    fn begin(backend: Backend, loaded: Loaded, settings: &LogSettings) -> Result<Self, StoreError> {
        let bounds = RetentionBounds {
            entries_max: settings.entries_max,
            age_max_ms: settings.age_max_ms,
        };
        let Loaded {
            store,
            mut state,
            retentions,
            ledger,
            interactions: (interactions, next),
        } = loaded;
        state.ledger = Ledger::restored(settings.ledger.clone(), interactions, next);
        for change in &ledger {
            state.ledger.apply(change);
        }
        measure_rooms(&state);
        let guilds = retentions.into_iter().filter_map(|(guild, retention)| {
            let known = state.guild(guild)?;
            Some((guild, GuildLog::begin(known, retention, settings)))
        });
        let published = Arc::new(Published {
            guilds: guilds.collect(),
            state: Mutex::new(state.clone()),
            bounds,
        });
        let (jobs, waiting) = mpsc::channel(settings.queue_max);
        let (health_sender, health) = watch::channel(Health::Storing);
        let writer = Writer {
            state,
            backend,
            jobs: waiting,
            health: health_sender,
            published: Arc::clone(&published),
        };
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StoreError::failed(format!("no thread for the writer: {error}")))?;
        let age = Duration::from_millis(settings.age_max_ms / 4);
        Ok(Self(Arc::new(Shared {
            store,
            jobs,
            health,
            published,
            age_interval: age.clamp(PROBE_INTERVAL, AGE_INTERVAL),
        })))
    }
}
