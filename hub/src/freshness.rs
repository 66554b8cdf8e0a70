//! How fresh each guild is: the worker's report on its gateway connection, and its age.
//!
//! [`Freshness`] reads the clock and announces changes. [`Guilds`] holds the rules, and is pure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use launch::clock::Monotonic;
use proto::GuildId;
use proto::delivery::GatewayReport;
use proto::gateway::{GatewayPayload, GatewayState};
use roomlog::Health;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the silence of workers is checked: a fraction of the shortest WORKER_SILENCE_MAX_MS.
const SILENCE_TICK: Duration = Duration::from_millis(250);

/// The freshness of all guilds of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Freshness(Arc<Shared>);

struct Shared {
    guilds: Mutex<Guilds>,
    /// A new version of a guild's channel announces that its freshness changed.
    changes: BTreeMap<GuildId, watch::Sender<()>>,
    silence_max_ms: u64,
    clock: Monotonic,
}

/// What this hub knows of a guild on which a worker reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coverage {
    /// The worker's claim does not name the guild.
    NotFollowed,
    /// The log has no snapshot of the guild.
    NoSnapshot,
    /// The log has the guild's state.
    Complete,
}

impl Freshness {
    /// No report on any guild yet. After `silence_max_ms` without a report a guild is `down`.
    pub fn new(guilds: &[GuildId], silence_max_ms: u64, clock: Monotonic) -> Self {
        let channels = guilds.iter().map(|guild| (*guild, watch::Sender::new(())));
        Self(Arc::new(Shared {
            guilds: Mutex::new(Guilds::new(guilds, clock.elapsed_ms())),
            changes: channels.collect(),
            silence_max_ms,
            clock,
        }))
    }

    /// The longest time without a report on a guild, in ms.
    pub fn silence_max_ms(&self) -> u64 {
        self.0.silence_max_ms
    }

    /// Announces each later change of a guild's freshness; `None` for a guild of another hub.
    pub fn changes(&self, guild: GuildId) -> Option<watch::Receiver<()>> {
        self.0.changes.get(&guild).map(watch::Sender::subscribe)
    }

    /// Stores a worker's report on the guilds of one shard. A guild without a complete state is not
    /// live, whatever the state of the connection.
    pub fn report(
        &self,
        shard: (u32, u32),
        report: &GatewayReport,
        coverage: impl Fn(GuildId) -> Coverage,
    ) {
        self.update(|guilds, now_ms| guilds.report(shard, report, coverage, now_ms));
    }

    /// Marks guilds `down` whose worker is silent, and returns their number. Call it often.
    pub fn tick(&self) -> usize {
        let silence_max_ms = self.0.silence_max_ms;
        self.update(|guilds, now_ms| guilds.tick(silence_max_ms, now_ms))
    }

    /// Stores whether the log can store events. While it cannot, every guild is `down`.
    pub fn set_storing(&self, is_storing: bool) {
        self.update(|guilds, now_ms| guilds.set_storing(is_storing, now_ms));
    }

    /// Marks guilds of silent workers `down` until `stopped`.
    pub(crate) async fn watch_silence(self, stopped: CancellationToken) {
        let mut tick = tokio::time::interval(SILENCE_TICK);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stopped.cancelled() => return,
            }
            let guilds = self.tick();
            if guilds > 0 {
                tracing::warn!(
                    guilds,
                    "the worker is silent; these guilds are shown as down"
                );
            }
        }
    }

    /// Follows whether the log can store events, until `stopped`.
    pub(crate) async fn follow_store(
        self,
        mut health: watch::Receiver<Health>,
        stopped: CancellationToken,
    ) {
        loop {
            let is_storing = *health.borrow_and_update() == Health::Storing;
            self.set_storing(is_storing);
            tokio::select! {
                changed = health.changed() => if changed.is_err() { return },
                () = stopped.cancelled() => return,
            }
        }
    }

    /// How fresh a guild is now.
    pub fn of(&self, guild: GuildId) -> GatewayPayload {
        self.lock().of(guild, self.0.clock.elapsed_ms())
    }

    /// The state of every guild.
    pub fn states(&self) -> Vec<(GuildId, GatewayState)> {
        self.lock().states()
    }

    /// The number of guilds in each state: live, resuming, rebuilding, down.
    pub fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for (_, state) in self.states() {
            counts[match state {
                GatewayState::Live => 0,
                GatewayState::Resuming => 1,
                GatewayState::Rebuilding => 2,
                GatewayState::Down => 3,
            }] += 1;
        }
        counts
    }

    fn update(&self, update: impl FnOnce(&mut Guilds, u64) -> Vec<GuildId>) -> usize {
        let changed = update(&mut self.lock(), self.0.clock.elapsed_ms());
        let channels = changed.iter().filter_map(|guild| self.0.changes.get(guild));
        channels.for_each(|channel| channel.send_replace(()));
        changed.len()
    }

    fn lock(&self) -> MutexGuard<'_, Guilds> {
        self.0.guilds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The freshness of all guilds at given times, in ms of a monotonic clock. Each change returns the
/// guilds whose state or reason is another now.
struct Guilds {
    guilds: BTreeMap<GuildId, Gateway>,
    /// Since when the log cannot store events.
    failing_since_ms: Option<u64>,
}

#[derive(Debug, Clone)]
struct Gateway {
    state: GatewayState,
    reason: Option<String>,
    since_ms: u64,
    reported_ms: u64,
}

impl Guilds {
    fn new(guilds: &[GuildId], now_ms: u64) -> Self {
        let unreported = Gateway {
            state: GatewayState::Down,
            reason: Some("no_worker".to_owned()),
            since_ms: now_ms,
            reported_ms: now_ms,
        };
        Self {
            guilds: guilds
                .iter()
                .map(|guild| (*guild, unreported.clone()))
                .collect(),
            failing_since_ms: None,
        }
    }

    fn report(
        &mut self,
        shard: (u32, u32),
        report: &GatewayReport,
        coverage: impl Fn(GuildId) -> Coverage,
        now_ms: u64,
    ) -> Vec<GuildId> {
        let mut changed = Vec::new();
        for (guild, gateway) in self
            .guilds
            .iter_mut()
            .filter(|(guild, _)| guild.shard(shard.1) == shard.0)
        {
            let (mut state, mut reason) = report
                .guilds
                .get(guild)
                .map_or((report.state, report.reason.as_deref()), |own| {
                    (own.state, own.reason.as_deref())
                });
            match coverage(*guild) {
                Coverage::NotFollowed => {
                    (state, reason) = (GatewayState::Down, Some("not_followed"));
                }
                Coverage::NoSnapshot if state == GatewayState::Live => {
                    (state, reason) = (GatewayState::Rebuilding, Some("not_told"));
                }
                Coverage::NoSnapshot | Coverage::Complete => {}
            }
            gateway.reported_ms = now_ms;
            if gateway.set(state, reason, now_ms) {
                changed.push(*guild);
            }
        }
        changed
    }

    fn tick(&mut self, silence_max_ms: u64, now_ms: u64) -> Vec<GuildId> {
        let mut changed = Vec::new();
        for (guild, gateway) in &mut self.guilds {
            if now_ms.saturating_sub(gateway.reported_ms) >= silence_max_ms
                && gateway.state != GatewayState::Down
                // The state is unknown since the last report.
                && gateway.set(GatewayState::Down, Some("worker_silent"), gateway.reported_ms)
            {
                changed.push(*guild);
            }
        }
        changed
    }

    fn set_storing(&mut self, is_storing: bool, now_ms: u64) -> Vec<GuildId> {
        if self.failing_since_ms.is_none() == is_storing {
            return Vec::new();
        }
        self.failing_since_ms = (!is_storing).then_some(now_ms);
        self.guilds.keys().copied().collect()
    }

    fn of(&self, guild: GuildId, now_ms: u64) -> GatewayPayload {
        let down = |since_ms: u64, reason: Option<&str>| GatewayPayload {
            state: GatewayState::Down,
            age_ms: now_ms.saturating_sub(since_ms),
            reason: reason.map(str::to_owned),
        };
        match (self.guilds.get(&guild), self.failing_since_ms) {
            (None, _) => down(now_ms, None),
            (Some(_), Some(since_ms)) => down(since_ms, Some("store_failing")),
            (Some(gateway), None) => gateway.payload(now_ms),
        }
    }

    fn states(&self) -> Vec<(GuildId, GatewayState)> {
        let failing = self.failing_since_ms.map(|_| GatewayState::Down);
        let guilds = self.guilds.iter();
        guilds
            .map(|(guild, gateway)| (*guild, failing.unwrap_or(gateway.state)))
            .collect()
    }
}

impl Gateway {
    /// Whether the state or the reason is another now.
    fn set(&mut self, state: GatewayState, reason: Option<&str>, since_ms: u64) -> bool {
        if self.state == state && self.reason.as_deref() == reason {
            return false;
        }
        if self.state != state {
            self.since_ms = since_ms;
        }
        self.state = state;
        self.reason = reason.map(str::to_owned);
        true
    }

    fn payload(&self, now_ms: u64) -> GatewayPayload {
        let from_ms = if self.state == GatewayState::Live {
            self.reported_ms
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

    const SILENCE_MAX_MS: u64 = 6_000;

    fn report(state: GatewayState) -> GatewayReport {
        GatewayReport {
            state,
            reason: None,
            guilds: BTreeMap::new(),
        }
    }

    fn guild(id: u64) -> GuildId {
        GuildId::new(id).unwrap()
    }

    fn count(guilds: &Guilds, state: GatewayState) -> usize {
        let states = guilds.states();
        states.iter().filter(|(_, one)| *one == state).count()
    }

    #[test]
    fn a_guild_is_down_before_the_first_report_and_after_a_silence() {
        let mut guilds = Guilds::new(&[guild(1)], 0);
        let live = report(GatewayState::Live);
        assert_eq!(guilds.of(guild(1), 50).state, GatewayState::Down);
        assert_eq!(guilds.of(guild(1), 50).age_ms, 50);
        let changed = guilds.report((0, 1), &live, |_| Coverage::Complete, 100);
        assert_eq!(changed, [guild(1)]);
        let changed = guilds.report((0, 1), &live, |_| Coverage::Complete, 2_100);
        assert!(changed.is_empty(), "the same state");
        assert_eq!(guilds.of(guild(1), 2_150).age_ms, 50);
        assert!(guilds.tick(SILENCE_MAX_MS, 8_099).is_empty());
        assert_eq!(guilds.tick(SILENCE_MAX_MS, 8_100), [guild(1)]);
        let payload = guilds.of(guild(1), 8_100);
        assert_eq!(
            (payload.state, payload.age_ms),
            (GatewayState::Down, 6_000),
            "since the last report"
        );
        assert!(guilds.tick(SILENCE_MAX_MS, 9_000).is_empty(), "once");
        assert_eq!(guilds.of(guild(1), 9_100).age_ms, 7_000);
    }

    #[test]
    fn a_report_covers_the_guilds_of_its_shard() {
        let all = [guild(1 << 22), guild(2 << 22)];
        let mut guilds = Guilds::new(&all, 0);
        let live = report(GatewayState::Live);
        let changed = guilds.report((1, 2), &live, |_| Coverage::Complete, 0);
        assert_eq!(changed, [all[0]]);
        assert_eq!(count(&guilds, GatewayState::Live), 1);
        assert_eq!(count(&guilds, GatewayState::Down), 1);
    }

    #[test]
    fn a_guild_without_a_complete_state_is_not_live() {
        use Coverage::{Complete, NoSnapshot, NotFollowed};
        use GatewayState::{Down, Live, Rebuilding, Resuming};
        for (coverage, state, expected) in [
            (NoSnapshot, Live, (Rebuilding, Some("not_told"))),
            (NoSnapshot, Resuming, (Resuming, None)),
            (NotFollowed, Live, (Down, Some("not_followed"))),
            (Complete, Live, (Live, None)),
        ] {
            let mut guilds = Guilds::new(&[guild(1)], 0);
            guilds.report((0, 1), &report(state), |_| coverage, 0);
            let payload = guilds.of(guild(1), 0);
            assert_eq!(
                (payload.state, payload.reason.as_deref()),
                expected,
                "{coverage:?}"
            );
        }
    }

    #[test]
    fn while_the_log_cannot_store_events_every_guild_is_down() {
        let mut guilds = Guilds::new(&[guild(1)], 0);
        let live = report(GatewayState::Live);
        guilds.report((0, 1), &live, |_| Coverage::Complete, 0);
        assert!(guilds.set_storing(true, 0).is_empty());
        assert_eq!(guilds.set_storing(false, 1_000), [guild(1)]);
        assert!(guilds.set_storing(false, 1_500).is_empty(), "once");
        let payload = guilds.of(guild(1), 2_000);
        assert_eq!(
            (payload.state, payload.age_ms, payload.reason.as_deref()),
            (GatewayState::Down, 1_000, Some("store_failing"))
        );
        assert_eq!(count(&guilds, GatewayState::Down), 1);
        assert_eq!(guilds.set_storing(true, 3_000), [guild(1)]);
        assert_eq!(guilds.of(guild(1), 3_000).state, GatewayState::Live);
    }

    #[test]
    fn a_change_is_announced_to_the_followers_of_its_guild() {
        let all = [guild(1 << 22), guild(2 << 22)];
        let freshness = Freshness::new(&all, SILENCE_MAX_MS, Monotonic::start());
        let [changed, other] = all.map(|guild| freshness.changes(guild).unwrap());
        let live = report(GatewayState::Live);
        freshness.report((1, 2), &live, |_| Coverage::Complete);
        assert!(changed.has_changed().unwrap());
        assert!(!other.has_changed().unwrap());
        assert!(freshness.changes(guild(3)).is_none());
    }
}
