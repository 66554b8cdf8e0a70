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
    book: Mutex<Book>,
    silence_max_ms: u64,
}

struct Book {
    guilds: BTreeMap<GuildId, Gateway>,
    /// Since when nothing that is told can be kept, and so nothing is heard.
    failing_since_ms: Option<u64>,
}

/// What this hub has of a guild that a worker reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// The worker's claim does not name it.
    Not,
    /// It was never told as a whole.
    Untold,
    /// It was told.
    Told,
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
            book: Mutex::new(Book {
                guilds,
                failing_since_ms: None,
            }),
            silence_max_ms,
        }))
    }

    /// How long nothing may be heard of a guild's worker, in ms.
    pub fn silence_max_ms(&self) -> u64 {
        self.0.silence_max_ms
    }

    /// A worker reports of the guilds of one shard. One that it does not follow, or never told of
    /// as a whole, is not live, whatever the connection is: there is nothing to be fresh.
    pub fn report(
        &self,
        shard: (u32, u32),
        report: &GatewayReport,
        followed: impl Fn(GuildId) -> Followed,
        now_ms: u64,
    ) -> Changed {
        let mut changed = Vec::new();
        for (guild, gateway) in self
            .lock()
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
            match followed(*guild) {
                Followed::Not => (state, reason) = (GatewayState::Down, Some("not_followed")),
                Followed::Untold if state == GatewayState::Live => {
                    (state, reason) = (GatewayState::Rebuilding, Some("not_told"));
                }
                Followed::Untold | Followed::Told => {}
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
        for (guild, gateway) in &mut self.lock().guilds {
            if now_ms.saturating_sub(gateway.heard_ms) >= self.0.silence_max_ms
                && gateway.state != GatewayState::Down
                // From the last word on, nothing was known.
                && gateway.turn(GatewayState::Down, Some("worker_silent"), gateway.heard_ms)
            {
                changed.push(*guild);
            }
        }
        changed
    }

    /// Whether what is told can be kept: while it can not be, every guild is `down`.
    pub fn store(&self, is_storing: bool, now_ms: u64) -> Changed {
        let mut book = self.lock();
        if book.failing_since_ms.is_none() == is_storing {
            return Vec::new();
        }
        book.failing_since_ms = (!is_storing).then_some(now_ms);
        book.guilds.keys().copied().collect()
    }

    /// How fresh a guild is now.
    pub fn of(&self, guild: GuildId, now_ms: u64) -> GatewayPayload {
        let book = self.lock();
        let down = |since_ms: u64, reason: Option<&str>| GatewayPayload {
            state: GatewayState::Down,
            age_ms: now_ms.saturating_sub(since_ms),
            reason: reason.map(str::to_owned),
        };
        match (book.guilds.get(&guild), book.failing_since_ms) {
            (None, _) => down(now_ms, None),
            (Some(_), Some(since_ms)) => down(since_ms, Some("store_failing")),
            (Some(gateway), None) => gateway.payload(now_ms),
        }
    }

    /// Every guild with its state.
    pub fn states(&self) -> Vec<(GuildId, GatewayState)> {
        let book = self.lock();
        let failing = book.failing_since_ms.map(|_| GatewayState::Down);
        let guilds = book.guilds.iter();
        guilds
            .map(|(guild, gateway)| (*guild, failing.unwrap_or(gateway.state)))
            .collect()
    }

    /// How many guilds are in each state: live, resuming, rebuilding, down.
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

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gateway {
    fn turn(&mut self, state: GatewayState, reason: Option<&str>, since_ms: u64) -> bool {
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
                .report((0, 1), &report(GatewayState::Live), |_| Followed::Told, 100)
                .len(),
            1
        );
        assert!(
            freshness
                .report(
                    (0, 1),
                    &report(GatewayState::Live),
                    |_| Followed::Told,
                    2_100
                )
                .is_empty(),
            "nothing new"
        );
        assert_eq!(freshness.of(guild, 2_150).age_ms, 50);
        assert!(freshness.tick(8_099).is_empty());
        assert_eq!(freshness.tick(8_100), [guild]);
        let told = freshness.of(guild, 8_100);
        assert_eq!(
            (told.state, told.age_ms),
            (GatewayState::Down, 6_000),
            "since the last word"
        );
        assert!(freshness.tick(9_000).is_empty(), "told once");
        assert_eq!(freshness.of(guild, 9_100).age_ms, 7_000);
    }

    #[test]
    fn a_report_is_of_the_guilds_of_its_shard() {
        let guilds = [
            GuildId::new(1 << 22).unwrap(),
            GuildId::new(2 << 22).unwrap(),
        ];
        let freshness = Freshness::new(&guilds, 6_000, 0);
        let changed = freshness.report((1, 2), &report(GatewayState::Live), |_| Followed::Told, 0);
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0], guilds[0]);
        assert_eq!(freshness.counts(), [1, 0, 0, 1]);
    }

    #[test]
    fn a_guild_that_the_worker_does_not_follow_or_never_told_of_is_not_live() {
        let guild = GuildId::new(1).unwrap();
        for (followed, state, expected) in [
            (
                Followed::Untold,
                GatewayState::Live,
                (GatewayState::Rebuilding, Some("not_told")),
            ),
            (
                Followed::Untold,
                GatewayState::Resuming,
                (GatewayState::Resuming, None),
            ),
            (
                Followed::Not,
                GatewayState::Live,
                (GatewayState::Down, Some("not_followed")),
            ),
            (
                Followed::Told,
                GatewayState::Live,
                (GatewayState::Live, None),
            ),
        ] {
            let freshness = Freshness::new(&[guild], 6_000, 0);
            freshness.report((0, 1), &report(state), |_| followed, 0);
            let told = freshness.of(guild, 0);
            assert_eq!(
                (told.state, told.reason.as_deref()),
                expected,
                "{followed:?}"
            );
        }
    }

    #[test]
    fn while_nothing_can_be_stored_every_guild_is_down() {
        let guild = GuildId::new(1).unwrap();
        let freshness = Freshness::new(&[guild], 6_000, 0);
        freshness.report((0, 1), &report(GatewayState::Live), |_| Followed::Told, 0);
        assert!(freshness.store(true, 0).is_empty());
        assert_eq!(freshness.store(false, 1_000), [guild]);
        assert!(freshness.store(false, 1_500).is_empty(), "told once");
        let told = freshness.of(guild, 2_000);
        assert_eq!(
            (told.state, told.age_ms, told.reason.as_deref()),
            (GatewayState::Down, 1_000, Some("store_failing"))
        );
        assert_eq!(freshness.counts(), [0, 0, 0, 1]);
        assert_eq!(freshness.store(true, 3_000), [guild]);
        assert_eq!(freshness.of(guild, 3_000).state, GatewayState::Live);
    }
}
