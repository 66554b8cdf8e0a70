//! What readers and followers see of the log: never more than is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proto::GuildId;
use tokio::sync::broadcast;

use super::past::{Past, PastBounds};
use super::settings::LogSettings;
use super::store::KeptPast;
use super::tail::Known;
use super::truth::{History, Truth, Written};
use super::{Applied, GuildState, Place, lock};

/// What readers see: never more than is durable.
pub(super) struct Published {
    pub(super) truth: Mutex<Truth>,
    pub(super) guilds: BTreeMap<GuildId, GuildLog>,
    pub(super) bounds: PastBounds,
}

pub(super) struct GuildLog {
    pub(super) shown: Mutex<Shown>,
    pub(super) followers: broadcast::Sender<Arc<Applied>>,
}

/// What readers see of a guild.
pub(super) struct Shown {
    pub(super) place: Place,
    pub(super) state: GuildState,
    pub(super) past: Past,
}

impl Published {
    /// Shows what is durable now to readers and followers, in its order.
    pub(super) fn publish(
        &self,
        truth: Truth,
        written: Vec<Written>,
        aged: &BTreeSet<GuildId>,
        now_ms: u64,
    ) {
        *lock(&self.truth) = truth;
        let mut of_guilds: BTreeMap<GuildId, Vec<Written>> = BTreeMap::new();
        for one in written {
            of_guilds.entry(one.guild).or_default().push(one);
        }
        for (guild, written) in of_guilds {
            if let Some(log) = self.guilds.get(&guild) {
                log.publish(written, self.bounds, now_ms);
            }
        }
        for guild in aged {
            if let Some(log) = self.guilds.get(guild) {
                let mut shown = lock(&log.shown);
                shown.past = Past::begin(Known {
                    place: shown.place,
                    state: shown.state.clone(),
                });
            }
        }
    }

    /// Counts what is kept.
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^52 entries do not fit into memory"
    )]
    pub(super) fn measure(&self) {
        let kept = |log: &GuildLog| lock(&log.shown).past.tail().len();
        let kept: usize = self.guilds.values().map(kept).sum();
        metrics::gauge!("hub_log_entries").set(kept as f64);
    }

    /// Guilds of which nothing was told for so long that their whole past is too old.
    pub(super) fn aged(&self, now_ms: u64) -> BTreeSet<GuildId> {
        let is_aged = |log: &GuildLog| lock(&log.shown).past.is_aged(self.bounds, now_ms);
        let aged = self.guilds.iter().filter(|(_, log)| is_aged(log));
        aged.map(|(guild, _)| *guild).collect()
    }
}

impl GuildLog {
    pub(super) fn begin(history: &History, kept: KeptPast, settings: &LogSettings) -> Self {
        let (followers, _) = broadcast::channel(settings.follow_entries_max);
        let shown = Shown {
            place: history.place,
            state: history.state.clone(),
            past: Past::restored(kept.tail, kept.times, kept.newest_ms),
        };
        Self {
            shown: Mutex::new(shown),
            followers,
        }
    }

    /// Shows what was written together in one step: nobody reads, or begins to follow, in the
    /// middle of a delivery.
    fn publish(&self, written: Vec<Written>, bounds: PastBounds, now_ms: u64) {
        let mut shown = lock(&self.shown);
        for Written { applied, .. } in written {
            let Applied { entry, after, .. } = &*applied;
            shown.place = entry.place;
            if entry.place.offset == 0 {
                shown.past = Past::begin(Known {
                    place: entry.place,
                    state: after.clone(),
                });
            } else {
                shown.past.push(Arc::clone(entry), after, bounds, now_ms);
            }
            shown.state.clone_from(after);
            // Nobody following is fine.
            let _followed = self.followers.send(applied);
        }
    }
}
