//! Opening the log: the backend gives back what was stored, and the writer starts on it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::GuildId;
use tokio::sync::{mpsc, watch};

use crate::address::StoreAddress;
use crate::backend::loaded::Loaded;
use crate::backend::sqlite::Store;
use crate::backend::{Backend, StoreError};
use crate::dedup::StoredIds;
use crate::health::Health;
use crate::ledger::Ledger;
use crate::log::{AGE_INTERVAL, Log, PROBE_INTERVAL, Shared};
use crate::log_state::{GuildRecord, LogState};
use crate::published::{GuildLog, Published, measure_rooms};
use crate::settings::LogSettings;
use crate::workers::Workers;
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
        let (backend, loaded) = match &settings.store {
            StoreAddress::Memory => {
                let (workers, ledger) = (Workers::default(), Ledger::new(settings.ledger.clone()));
                let event_ids = StoredIds::default();
                let state = LogState::restored(settings, workers, ledger, event_ids, now_ms);
                let mut loaded = Loaded::new(named.to_owned(), state);
                for guild in guilds {
                    loaded.begin(*guild, GuildRecord::begin(now_ms));
                }
                (Backend::Memory, loaded)
            }
            StoreAddress::File(path) => {
                let (store, loaded) = Store::open(path, settings, guilds, named, now_ms)
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
        let Loaded {
            store,
            state,
            tails,
        } = loaded;
        measure_rooms(&state);
        let guilds = tails.into_iter().filter_map(|(guild, tail)| {
            let known = state.guild(guild)?;
            Some((guild, GuildLog::begin(known, tail, settings)))
        });
        let published = Arc::new(Published {
            guilds: guilds.collect(),
            state: Mutex::new(state.clone()),
            settings: settings.clone(),
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
