//! The ledger heeds the log: what the worker tells of a guild says which of Roomwire's own rooms
//! are still there.
//!
//! It never says that a room has ended for good: that is Discord's word alone, when it is asked to
//! delete it. A room that is missing here by mistake can still be ended by its creator.

use std::time::Duration;

use futures_util::future::join_all;
use proto::event::{Fact, Room};
use proto::{ChannelId, GuildId};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Rooms;
use super::ledger::Standing;
use roomlog::state::may_deny_everyone;
use roomlog::{Change, Following};

/// How long to wait until what could not be stored is tried again: nothing is told meanwhile.
const STORE_AGAIN: Duration = Duration::from_secs(1);

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
            self.catch_up(guild, &following).await;
            loop {
                match following.entries.recv().await {
                    Ok(applied) => self.heed(guild, &applied.entry.change).await,
                    // What was missed is in the state of the next follower.
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }

    /// What was told while nobody heeded it: before a restart, or faster than it could be heeded.
    /// A room that is not there is missing only if it may have been there: it was told to be
    /// deleted, or the guild was told as a whole since it was made. Any other is still to come.
    async fn catch_up(&self, guild: GuildId, following: &Following) {
        let state = &following.state;
        if !state.known {
            return;
        }
        let there = |channel| state.rooms.contains_key(&channel);
        let gone = |channel, epoch| epoch != following.place.epoch || state.was_deleted(channel);
        let compared = self.0.ledger.catch_up(guild, there, gone);
        for channel in &state.owned {
            if !state.inherits_deny(*channel) {
                self.0.ledger.lost_inherited_deny(*channel);
            }
        }
        let open = self.0.ledger.open_rooms(guild);
        let changed = compared.missing.into_iter().chain(compared.found);
        let ours = open.into_iter().map(|room| room.channel_id);
        for channel in changed.chain(ours).chain(state.owned.iter().copied()) {
            self.align_at_last(guild, channel).await;
        }
    }

    async fn heed(&self, guild: GuildId, change: &Change) {
        match change {
            Change::Told(Fact::RoomDeleted(gone)) => {
                self.0.ledger.missing(gone.channel_id);
                self.align_at_last(guild, gone.channel_id).await;
            }
            Change::Told(Fact::RoomCreated(room) | Fact::RoomUpdated(room)) => {
                let lost = self.note_overwrite(room);
                if self.0.ledger.found(room.channel_id) || lost {
                    self.align_at_last(guild, room.channel_id).await;
                }
            }
            Change::Told(Fact::Snapshot(roster)) => {
                for room in &roster.rooms {
                    self.note_overwrite(room);
                }
                let there = roster.rooms.iter().map(|room| room.channel_id).collect();
                let compared = self.0.ledger.compare(guild, &there);
                let owned = self.0.log.read(guild, |state, _| state.owned.clone());
                let changed = compared.missing.into_iter().chain(compared.found);
                for channel in changed.chain(owned.unwrap_or_default()) {
                    self.align_at_last(guild, channel).await;
                }
            }
            // It was told to be gone just before it was published to be ours.
            Change::Owned(channel) | Change::OwnedUnderDeny(channel) => {
                let standing = self.0.ledger.room(*channel).map(|room| room.standing);
                if standing == Some(Standing::Missing) {
                    self.align_at_last(guild, *channel).await;
                }
            }
            Change::Told(
                Fact::VoiceJoined(_)
                | Fact::VoiceLeft(_)
                | Fact::VoiceStateChanged(_)
                | Fact::GuildUpdated(_),
            )
            | Change::Disowned(_) => {}
        }
    }

    /// Whether a reported room loses the deny that it was created with: the ledger keeps that
    /// for the next time that the room is published as Roomwire's own.
    fn note_overwrite(&self, room: &Room) -> bool {
        !may_deny_everyone(room) && self.0.ledger.lost_inherited_deny(room.channel_id)
    }

    async fn align_at_last(&self, guild: GuildId, channel: ChannelId) {
        while self.align(guild, channel).await.is_err() {
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }
}
