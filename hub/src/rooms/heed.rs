//! The ledger heeds the log: what the worker tells of a guild says which of Roomwire's own rooms
//! are still there.
//!
//! It never says that a room has ended for good: that is Discord's word alone, when it is asked to
//! delete it. A room that is missing here by mistake can still be ended by its creator.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use proto::event::Fact;
use proto::{ChannelId, GuildId};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Rooms;
use super::ledger::Standing;
use crate::log::Change;

impl Rooms {
    /// Keeps the ledger in line with the log, until `shutdown`: a room that somebody deletes in
    /// Discord is not open any more.
    pub async fn heed_log(&self, shutdown: CancellationToken) {
        let guilds = self
            .0
            .access
            .guilds()
            .iter()
            .map(|guild| self.heed_guild(*guild));
        shutdown.run_until_cancelled(join_all(guilds)).await;
    }

    async fn heed_guild(&self, guild: GuildId) {
        while let Some(mut following) = self.0.log.follow(guild) {
            if following.state.known {
                let there = following.state.rooms.keys().copied().collect();
                self.heed_whole(guild, &there, &following.state.owned);
            }
            loop {
                match following.entries.recv().await {
                    Ok(entry) => self.heed(guild, &entry.change),
                    // What was missed is in the state of the next follower.
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    fn heed(&self, guild: GuildId, change: &Change) {
        let now_ms = launch::clock::now_ms();
        let owned = |channel: ChannelId| {
            self.0
                .log
                .read(guild, |state, _| state.owned.contains(&channel))
                == Some(true)
        };
        match change {
            Change::Told(Fact::RoomDeleted(gone)) => {
                self.0.ledger.missing(gone.channel_id);
                if owned(gone.channel_id) {
                    self.0.log.disown(guild, gone.channel_id, now_ms);
                }
            }
            Change::Told(Fact::RoomCreated(room) | Fact::RoomUpdated(room)) => {
                if self.0.ledger.found(room.channel_id) {
                    self.0.log.own(guild, room.channel_id, now_ms);
                }
            }
            Change::Told(Fact::Snapshot(roster)) => {
                let there = roster.rooms.iter().map(|room| room.channel_id).collect();
                let owned = self
                    .0
                    .log
                    .read(guild, |state, _| state.owned.clone())
                    .unwrap_or_default();
                self.heed_whole(guild, &there, &owned);
            }
            // It was told to be gone just before it was published to be ours.
            Change::Owned(channel) => {
                let standing = self.0.ledger.room(*channel).map(|room| room.standing);
                if standing == Some(Standing::Missing) {
                    self.0.log.disown(guild, *channel, now_ms);
                }
            }
            Change::Told(
                Fact::VoiceJoined(_) | Fact::VoiceLeft(_) | Fact::VoiceStateChanged(_),
            )
            | Change::Disowned(_) => {}
        }
    }

    /// The whole guild was told: what of ours is not there is not shown as ours any more.
    fn heed_whole(&self, guild: GuildId, there: &BTreeSet<ChannelId>, owned: &BTreeSet<ChannelId>) {
        let now_ms = launch::clock::now_ms();
        let compared = self.0.ledger.compare(guild, there);
        for channel in &compared.found {
            self.0.log.own(guild, *channel, now_ms);
        }
        for channel in owned.difference(there) {
            self.0.log.disown(guild, *channel, now_ms);
        }
    }
}
