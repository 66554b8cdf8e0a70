//! What readers and followers see of the log: never more than is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::GuildId;
use tokio::sync::broadcast;

use crate::entry::{Applied, Position};
use crate::log_state::{GuildRecord, LogState};
use crate::record::NewEntry;
use crate::settings::LogSettings;
use crate::state::GuildState;
use crate::tail::Tail;

/// What readers see: never more than is durable.
pub(crate) struct Published {
    pub(crate) state: Mutex<LogState>,
    pub(crate) guilds: BTreeMap<GuildId, GuildLog>,
    pub(crate) settings: LogSettings,
}

pub(crate) struct GuildLog {
    pub(crate) shown: Mutex<Shown>,
    pub(crate) followers: broadcast::Sender<Arc<Applied>>,
}

/// What readers see of a guild.
pub(crate) struct Shown {
    pub(crate) position: Position,
    pub(crate) state: GuildState,
    pub(crate) tail: Tail,
}

impl Published {
    /// Shows what is durable now to readers and followers, in its order.
    pub(crate) fn publish(
        &self,
        state: LogState,
        entries: Vec<NewEntry>,
        expired: &BTreeSet<GuildId>,
        now_ms: u64,
    ) {
        measure_rooms(&state);
        *lock(&self.state) = state;
        let mut of_guilds: BTreeMap<GuildId, Vec<NewEntry>> = BTreeMap::new();
        for entry in entries {
            of_guilds.entry(entry.guild).or_default().push(entry);
        }
        for (guild, entries) in of_guilds {
            if let Some(log) = self.guilds.get(&guild) {
                log.publish(entries, &self.settings, now_ms);
            }
        }
        for guild in expired {
            if let Some(log) = self.guilds.get(guild) {
                let mut shown = lock(&log.shown);
                shown.tail = Tail::begin(shown.position, shown.state.clone());
            }
        }
    }

    /// Counts what is kept.
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^52 entries do not fit into memory"
    )]
    pub(crate) fn measure(&self) {
        let kept = |log: &GuildLog| lock(&log.shown).tail.len();
        let kept: usize = self.guilds.values().map(kept).sum();
        metrics::gauge!("hub_log_entries").set(kept as f64);
    }

    /// Guilds whose entries are all too old.
    pub(crate) fn expired(&self, now_ms: u64) -> BTreeSet<GuildId> {
        let age_max_ms = self.settings.age_max_ms;
        let is_expired = |log: &GuildLog| lock(&log.shown).tail.is_expired(age_max_ms, now_ms);
        let expired = self.guilds.iter().filter(|(_, log)| is_expired(log));
        expired.map(|(guild, _)| *guild).collect()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a ledger of 2^52 rooms does not fit into memory"
)]
pub(crate) fn measure_rooms(state: &LogState) {
    metrics::gauge!("hub_rooms_open").set(state.ledger.open_count() as f64);
    metrics::gauge!("hub_creates_pending").set(state.ledger.pending_count() as f64);
    metrics::gauge!("hub_create_answers").set(state.ledger.answer_count() as f64);
}

impl GuildLog {
    pub(crate) fn begin(known: &GuildRecord, tail: Tail, settings: &LogSettings) -> Self {
        let (followers, _) = broadcast::channel(settings.follow_entries_max);
        let shown = Shown {
            position: known.position,
            state: known.state.clone(),
            tail,
        };
        Self {
            shown: Mutex::new(shown),
            followers,
        }
    }

    /// Shows what was written together in one step: nobody reads, or begins to follow, in the
    /// middle of a delivery.
    fn publish(&self, entries: Vec<NewEntry>, settings: &LogSettings, now_ms: u64) {
        let mut shown = lock(&self.shown);
        for NewEntry { applied, .. } in entries {
            let Applied { entry, after, .. } = &*applied;
            shown.position = entry.position;
            if entry.position.offset == 0 {
                shown.tail = Tail::begin(entry.position, after.clone());
            } else {
                shown.tail.push(Arc::clone(entry), after, now_ms);
                let (entries_max, age_max_ms) = (settings.entries_max, settings.age_max_ms);
                shown.tail.trim(entries_max, age_max_ms, now_ms);
            }
            shown.state.clone_from(after);
            // Nobody following is fine.
            let _followed = self.followers.send(applied);
        }
    }
}

/// A panic in another holder leaves whole entries behind: they are replaced, not changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
