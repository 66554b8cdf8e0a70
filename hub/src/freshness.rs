//! How fresh each guild is: what the worker says of its gateway connection, and how long ago.
//!
//! Pure but for its lock: `now_ms` is monotonic and comes from outside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::GuildId;
use proto::delivery::GatewayReport;
use proto::gateway::{GatewayPayload, GatewayState};

/// The freshness of all guilds of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Freshness(Arc<Shared>);

struct Shared {
    guilds: Mutex<BTreeMap<GuildId, Gateway>>,
    silence_max_ms: u64,
}

#[derive(Debug, Clone)]
struct Gateway {
    state: GatewayState,
    reason: Option<String>,
    since_ms: u64,
    heard_ms: u64,
}

/// Guilds whose state is another now.
pub type Changed = Vec<GuildId>;

impl Freshness {
    /// Nothing heard of any guild yet. After `silence_max_ms` without a delivery a guild is `down`.
    pub fn new(guilds: &[GuildId], silence_max_ms: u64, now_ms: u64) -> Self {
        let unheard = Gateway {
            state: GatewayState::Down,
            reason: Some("no_worker".to_owned()),
            since_ms: now_ms,
            heard_ms: now_ms,
        };
        let guilds = guilds
            .iter()
            .map(|guild| (*guild, unheard.clone()))
            .collect();
        Self(Arc::new(Shared {
            guilds: Mutex::new(guilds),
            silence_max_ms,
        }))
    }

    /// A worker reports of the guilds of one shard. One that it never told of (`is_known`) is not
    /// live, whatever the connection is: there is nothing to be fresh.
    pub fn report(
        &self,
        shard: (u32, u32),
        report: &GatewayReport,
        is_known: impl Fn(GuildId) -> bool,
        now_ms: u64,
    ) -> Changed {
        let mut changed = Vec::new();
        for (guild, gateway) in self
            .lock()
            .iter_mut()
            .filter(|(guild, _)| guild.shard(shard.1) == shard.0)
        {
            let (mut state, mut reason) = report
                .guilds
                .get(guild)
                .map_or((report.state, report.reason.as_deref()), |own| {
                    (own.state, own.reason.as_deref())
                });
            if state == GatewayState::Live && !is_known(*guild) {
                (state, reason) = (GatewayState::Rebuilding, Some("not_told"));
            }
            gateway.heard_ms = now_ms;
            if gateway.turn(state, reason, now_ms) {
                changed.push(*guild);
            }
        }
        changed
    }

    /// Time passes: guilds of which nothing was heard for too long are `down`.
    pub fn tick(&self, now_ms: u64) -> Changed {
        let mut changed = Vec::new();
        for (guild, gateway) in self.lock().iter_mut() {
            if now_ms.saturating_sub(gateway.heard_ms) >= self.0.silence_max_ms
                && gateway.state != GatewayState::Down
                && gateway.turn(GatewayState::Down, Some("worker_silent"), now_ms)
            {
                changed.push(*guild);
            }
        }
        changed
    }

    /// How fresh a guild is now.
    pub fn of(&self, guild: GuildId, now_ms: u64) -> GatewayPayload {
        self.lock().get(&guild).map_or_else(
            || GatewayPayload {
                state: GatewayState::Down,
                age_ms: 0,
                reason: None,
            },
            |gateway| gateway.payload(now_ms),
        )
    }

    /// How many guilds are in each state: live, resuming, rebuilding, down.
    pub fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for gateway in self.lock().values() {
            counts[match gateway.state {
                GatewayState::Live => 0,
                GatewayState::Resuming => 1,
                GatewayState::Rebuilding => 2,
                GatewayState::Down => 3,
            }] += 1;
        }
        counts
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GuildId, Gateway>> {
        self.0.guilds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    fn turn(&mut self, state: GatewayState, reason: Option<&str>, now_ms: u64) -> bool {
        if self.state == state && self.reason.as_deref() == reason {
            return false;
        }
        if self.state != state {
            self.since_ms = now_ms;
        }
        self.state = state;
        self.reason = reason.map(str::to_owned);
        true
    }

    fn payload(&self, now_ms: u64) -> GatewayPayload {
        let from_ms = if self.state == GatewayState::Live {
            self.heard_ms
        } else {
            self.since_ms
        };
        GatewayPayload {
            state: self.state,
            age_ms: now_ms.saturating_sub(from_ms),
            reason: self.reason.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: GatewayState) -> GatewayReport {
        GatewayReport {
            state,
            reason: None,
            guilds: BTreeMap::new(),
        }
    }

    #[test]
    fn a_guild_is_down_until_a_worker_speaks_and_after_it_fell_silent() {
        let guild = GuildId::new(1).unwrap();
        let freshness = Freshness::new(&[guild], 6_000, 0);
        assert_eq!(freshness.of(guild, 50).state, GatewayState::Down);
        assert_eq!(freshness.of(guild, 50).age_ms, 50);
        assert_eq!(
            freshness
                .report((0, 1), &report(GatewayState::Live), |_| true, 100)
                .len(),
            1
        );
        assert!(
            freshness
                .report((0, 1), &report(GatewayState::Live), |_| true, 2_100)
                .is_empty(),
            "nothing new"
        );
        assert_eq!(freshness.of(guild, 2_150).age_ms, 50);
        assert!(freshness.tick(8_099).is_empty());
        assert_eq!(freshness.tick(8_100), [guild]);
        let told = freshness.of(guild, 8_100);
        assert_eq!((told.state, told.age_ms), (GatewayState::Down, 0));
        assert!(freshness.tick(9_000).is_empty(), "told once");
        assert_eq!(freshness.of(guild, 9_100).age_ms, 1_000);
    }

    #[test]
    fn a_report_is_of_the_guilds_of_its_shard() {
        let guilds = [
            GuildId::new(1 << 22).unwrap(),
            GuildId::new(2 << 22).unwrap(),
        ];
        let freshness = Freshness::new(&guilds, 6_000, 0);
        let changed = freshness.report((1, 2), &report(GatewayState::Live), |_| true, 0);
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0], guilds[0]);
        assert_eq!(freshness.counts(), [1, 0, 0, 1]);
    }

    #[test]
    fn a_guild_that_the_worker_never_told_of_is_not_live() {
        let guild = GuildId::new(1).unwrap();
        let freshness = Freshness::new(&[guild], 6_000, 0);
        freshness.report((0, 1), &report(GatewayState::Live), |_| false, 0);
        let told = freshness.of(guild, 0);
        assert_eq!(
            (told.state, told.reason.as_deref()),
            (GatewayState::Rebuilding, Some("not_told"))
        );
    }
}
