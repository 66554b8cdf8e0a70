//! What whoever runs the worker has to hear of a shard's deliveries, and how often: what lasts is
//! said when it begins, once a minute while it lasts, and when it ends.

use std::collections::BTreeSet;
use std::time::Duration;

use proto::GuildId;
use tokio::time::Instant;

use crate::config::{DeliverySettings, ms};
use crate::feed::Feed;

/// How often it is said that something is still so.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// One shard's deliveries, as they look from outside.
#[derive(Debug)]
pub(super) struct Watch {
    delivery_bytes_max: u64,
    skew_alarm: Duration,
    skewed: Lasting,
    wanting: Lasting,
    /// Guilds that are too large to be told, as far as the alarm was raised.
    too_large: BTreeSet<GuildId>,
    /// Guilds that the hub does not serve, as far as it was said.
    not_served: BTreeSet<GuildId>,
}

/// Something that is so for a while.
#[derive(Debug, Default)]
struct Lasting {
    /// While it is so: when it was last said.
    said: Option<Instant>,
}

/// What there is to say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Say {
    Begun,
    StillSo,
    Over,
}

impl Lasting {
    fn look(&mut self, is_so: bool, now: Instant) -> Option<Say> {
        let say = match (self.said, is_so) {
            (None, false) => return None,
            (None, true) => Say::Begun,
            (Some(_), false) => Say::Over,
            (Some(said), true) if now.duration_since(said) >= AGAIN_AFTER => Say::StillSo,
            (Some(_), true) => return None,
        };
        self.said = is_so.then_some(now);
        Some(say)
    }
}

impl Watch {
    pub(super) fn new(settings: &DeliverySettings) -> Self {
        Self {
            delivery_bytes_max: settings.delivery_bytes_max,
            skew_alarm: ms(settings.clock_skew_alarm_ms),
            skewed: Lasting::default(),
            wanting: Lasting::default(),
            too_large: BTreeSet::new(),
            not_served: BTreeSet::new(),
        }
    }

    /// The hub does not know so many of the shard's guilds whole, as it says with every receipt.
    pub(super) fn see_wanted(&mut self, guilds: usize) {
        match self.wanting.look(guilds > 0, Instant::now()) {
            Some(Say::Begun) => {
                tracing::info!(guilds, "the hub does not know guilds whole; telling it");
            }
            Some(Say::StillSo) => {
                tracing::warn!(guilds, "the hub still does not know guilds whole");
            }
            Some(Say::Over) => tracing::info!("the hub knows every guild whole"),
            None => {}
        }
    }

    /// Guilds that can not be told, each once.
    pub(super) fn see_guilds(&mut self, feed: &Feed) {
        let not_served = feed.not_served();
        for guild in not_served.difference(&self.not_served) {
            tracing::warn!(
                %guild,
                "the hub does not serve this guild, and hears no more of it: add it to the hub's GUILD_IDS, or take it out of the worker's"
            );
        }
        self.not_served = not_served;
        let too_large = feed.too_large();
        for guild in too_large.difference(&self.too_large) {
            metrics::counter!("worker_snapshots_too_large_total").increment(1);
            tracing::error!(
                %guild,
                bound = self.delivery_bytes_max,
                "ALARM: a guild's snapshot is larger than DELIVERY_BYTES_MAX and can not be told"
            );
        }
        self.too_large = too_large;
    }

    /// The hub's `Date`, in seconds since the Unix epoch, shows how far its clock is from ours, to a
    /// second.
    pub(super) fn see_clock(&mut self, hub_s: Option<u64>) {
        let Some(hub_s) = hub_s else {
            return;
        };
        let skew_s = hub_s.abs_diff(launch::clock::now_ms() / 1_000);
        #[expect(clippy::cast_precision_loss, reason = "a gauge of seconds")]
        metrics::gauge!("worker_clock_skew_seconds").set(skew_s as f64);
        let off = self.skew_alarm <= Duration::from_secs(skew_s);
        match self.skewed.look(off, Instant::now()) {
            Some(Say::Begun | Say::StillSo) => tracing::error!(
                skew_s,
                "ALARM: the hub's clock and this one differ; past a minute it refuses every delivery"
            ),
            Some(Say::Over) => tracing::info!(skew_s, "the hub's clock and this one agree again"),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_when_it_begins_once_a_minute_and_when_it_ends() {
        let begun = Instant::now();
        let mut lasting = Lasting::default();
        let mut said = Vec::new();
        // A beat every 2 s; it is so from the 10th second to the 200th.
        for second in (0..240).step_by(2) {
            let now = begun + Duration::from_secs(second);
            let is_so = (10..200).contains(&second);
            said.extend(lasting.look(is_so, now).map(|say| (second, say)));
        }
        let expected = [
            (10, Say::Begun),
            (70, Say::StillSo),
            (130, Say::StillSo),
            (190, Say::StillSo),
            (200, Say::Over),
        ];
        assert_eq!(said, expected);
    }
}
