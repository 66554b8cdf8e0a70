//! The state of a feed, as each delivery reports it to the hub and as the health page shows it.

use std::collections::BTreeSet;

use proto::GuildId;
use proto::chain::{Absence, Reached};
use proto::delivery::{GatewayReport, GuildReport};
use proto::gateway::GatewayState;

use super::Feed;
use super::tracked_guild::{Presence, TrackedGuild};
use crate::outbox::FailureReason;

/// The reason of a guild, or a shard, of which the hub does not have everything yet.
pub(super) const CATCHING_UP: &str = "catching_up";

/// The reason of a shard whose session Discord does not resume.
pub(super) const SESSION_LOST: &str = "session_lost";

/// A shard as its health page shows it.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedHealth {
    /// The shard and the number of shards.
    pub shard: (u32, u32),
    /// Of its claim; 0: not claimed yet.
    pub generation: u64,
    /// The point up to which the stream was read.
    pub read: Reached,
    /// The point up to which the hub has everything.
    pub acknowledged_to: Reached,
    /// The state, as the hub gets it.
    pub gateway: GatewayReport,
    /// Guilds that are followed here.
    pub guilds: usize,
    /// Guilds that this hub does not serve: their events are not sent.
    pub not_served: BTreeSet<GuildId>,
    /// Guilds that still replay what the hub has.
    pub silent: usize,
    /// Guilds that owe a snapshot.
    pub debts: usize,
    /// Questions to Discord that are open.
    pub gaps: usize,
    /// Events that wait for the hub.
    pub outbox_events: usize,
    /// Their JSON, in bytes.
    pub outbox_bytes: usize,
}

impl Feed {
    /// The state for the health page.
    pub fn health(&self, now_ms: u64) -> FeedHealth {
        FeedHealth {
            shard: self.setting.shard,
            generation: self.generation,
            read: self.stream.reached(),
            acknowledged_to: self.acked,
            gateway: self.gateway_report(now_ms),
            guilds: self.guilds.len(),
            not_served: self.not_served(),
            silent: self
                .guilds
                .values()
                .filter(|one| one.is_replaying())
                .count(),
            debts: self.outbox.debts().count(),
            gaps: self.guilds.values().map(|tracked| tracked.gaps.len()).sum(),
            outbox_events: self.outbox.len(),
            outbox_bytes: self.outbox.bytes(),
        }
    }

    /// The checkpoint, and the point up to which the gateway session was read.
    pub fn acknowledged_of_read(&self) -> (Reached, Reached) {
        (self.acked, self.stream.reached())
    }

    /// The state of the shard, and of guilds that differ, once the hub has what is in flight.
    pub(super) fn gateway_report(&self, now_ms: u64) -> GatewayReport {
        let (mut state, mut reason) = self.gateway;
        let late = self
            .outbox
            .behind_since_ms()
            .is_some_and(|since| now_ms.saturating_sub(since) > self.setting.behind_max_ms);
        if state == GatewayState::Live && late {
            (state, reason) = (GatewayState::Rebuilding, Some(CATCHING_UP));
        }
        let lacking = self.outbox.lacking();
        let guilds = self
            .guilds
            .iter()
            .filter_map(|(id, tracked)| {
                let failure = self.outbox.debt(*id).and_then(|debt| debt.failure);
                let (state, why) = own_state(tracked, failure, lacking.contains(id), state)?;
                let report = GuildReport {
                    state,
                    reason: Some(why.to_owned()),
                };
                Some((*id, report))
            })
            .collect();
        GatewayReport {
            state,
            reason: reason.map(str::to_owned),
            guilds,
        }
    }
}

/// The state of a guild, if it differs from its shard's.
fn own_state(
    tracked: &TrackedGuild,
    failure: Option<FailureReason>,
    lacking: bool,
    shard: GatewayState,
) -> Option<(GatewayState, &'static str)> {
    match (tracked.presence, failure.filter(|_| lacking)) {
        (Presence::Absent(Absence::Removed), _) => Some((GatewayState::Down, "removed")),
        (Presence::Absent(Absence::Outage), _) => Some((GatewayState::Down, "outage")),
        (_, Some(FailureReason::TooLarge)) => Some((GatewayState::Down, "too_large")),
        (_, Some(FailureReason::Refused)) => Some((GatewayState::Down, "refused")),
        // The shard's own state is worse, and holds for each guild.
        _ if shard != GatewayState::Live => None,
        (Presence::Absent(Absence::Awaited), _) if tracked.is_skipped() => None,
        (Presence::Absent(Absence::Awaited), _) => {
            Some((GatewayState::Rebuilding, "guild_awaited"))
        }
        (Presence::Present, _) if !tracked.gaps.is_empty() => {
            Some((GatewayState::Rebuilding, "illegible"))
        }
        (Presence::Present, _) if lacking || tracked.is_replaying() => {
            Some((GatewayState::Rebuilding, CATCHING_UP))
        }
        (Presence::Present, _) => None,
    }
}
