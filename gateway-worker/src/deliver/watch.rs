//! The log lines about one shard's deliveries. A condition is logged when it begins, once a minute
//! while it lasts, and when it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::GuildId;
use tokio::time::Instant;

use crate::config::{DeliverySettings, ms};
use crate::feed::Feed;

/// How often a condition that lasts is logged again.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// What was logged about one shard's deliveries.
#[derive(Debug)]
pub(super) struct Watch {
    delivery_bytes_max: u64,
    skew_alarm: Duration,
    skewed: Condition,
    wanting: Condition,
    /// Guilds whose snapshot is too large, as far as the alarm was logged.
    too_large: BTreeSet<GuildId>,
    /// Guilds that the hub does not serve, as far as that was logged.
    not_served: BTreeSet<GuildId>,
}

/// A condition that holds for a while.
#[derive(Debug, Default)]
struct Condition {
    /// While it holds: when it was last logged.
    logged: Option<Instant>,
}

/// What is logged of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Begun,
    Lasting,
    Over,
}

impl Condition {
    fn observe(&mut self, holds: bool, now: Instant) -> Option<Change> {
        let change = match (self.logged, holds) {
            (None, false) => return None,
            (None, true) => Change::Begun,
            (Some(_), false) => Change::Over,
            (Some(logged), true) if now.duration_since(logged) >= REPEAT_AFTER => Change::Lasting,
            (Some(_), true) => return None,
        };
        self.logged = holds.then_some(now);
        Some(change)
    }
}

impl Watch {
    pub(super) fn new(settings: &DeliverySettings) -> Self {
        Self {
            delivery_bytes_max: settings.delivery_bytes_max,
            skew_alarm: ms(settings.clock_skew_alarm_ms),
            skewed: Condition::default(),
            wanting: Condition::default(),
            too_large: BTreeSet::new(),
            not_served: BTreeSet::new(),
        }
    }

    /// The number of the shard's guilds of which the hub lacks the whole state, from each receipt.
    pub(super) fn observe_wanted(&mut self, guilds: usize) {
        match self.wanting.observe(guilds > 0, Instant::now()) {
            Some(Change::Begun) => {
                tracing::info!(
                    guilds,
                    "the hub lacks the whole state of guilds; sending snapshots"
                );
            }
            Some(Change::Lasting) => {
                tracing::warn!(guilds, "the hub still lacks the whole state of guilds");
            }
            Some(Change::Over) => tracing::info!("the hub has the whole state of every guild"),
            None => {}
        }
    }

    /// Guilds that the hub cannot get, each logged once.
    pub(super) fn observe_guilds(&mut self, feed: &Feed) {
        let not_served = feed.not_served();
        for guild in not_served.difference(&self.not_served) {
            tracing::warn!(
                %guild,
                "the hub does not serve this guild, and gets no more of its events: add it to the hub's GUILD_IDS, or remove it from the worker's"
            );
        }
        self.not_served = not_served;
        let too_large = feed.too_large();
        for guild in too_large.difference(&self.too_large) {
            metrics::counter!("worker_snapshots_too_large_total").increment(1);
            tracing::error!(
                %guild,
                bound = self.delivery_bytes_max,
                "ALARM: a guild's snapshot is larger than DELIVERY_BYTES_MAX and cannot be delivered"
            );
        }
        self.too_large = too_large;
    }

    /// Compares the hub's `Date`, in seconds since the Unix epoch, with this clock.
    pub(super) fn observe_clock(&mut self, hub_s: Option<u64>) {
        let Some(hub_s) = hub_s else {
            return;
        };
        let skew_s = hub_s.abs_diff(launch::clock::now_ms() / 1_000);
        #[expect(clippy::cast_precision_loss, reason = "a gauge of seconds")]
        metrics::gauge!("worker_clock_skew_seconds").set(skew_s as f64);
        let off = self.skew_alarm <= Duration::from_secs(skew_s);
        match self.skewed.observe(off, Instant::now()) {
            Some(Change::Begun | Change::Lasting) => tracing::error!(
                skew_s,
                "ALARM: the hub's clock and this one differ; past a minute it refuses every delivery"
            ),
            Some(Change::Over) => {
                tracing::info!(skew_s, "the hub's clock and this one agree again");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_logged_when_it_begins_once_a_minute_and_when_it_ends() {
        let begun = Instant::now();
        let mut condition = Condition::default();
        let mut logged = Vec::new();
        // A beat every 2 s; the condition holds from the 10th second to the 200th.
        for second in (0..240).step_by(2) {
            let now = begun + Duration::from_secs(second);
            let holds = (10..200).contains(&second);
            logged.extend(condition.observe(holds, now).map(|change| (second, change)));
        }
        let expected = [
            (10, Change::Begun),
            (70, Change::Lasting),
            (130, Change::Lasting),
            (190, Change::Lasting),
            (200, Change::Over),
        ];
        assert_eq!(logged, expected);
    }
}
