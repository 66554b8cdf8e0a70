//! Ending a room: Discord deletes the channel, then the end is stored. Concurrent requests share one
//! end and its outcome.

use std::collections::BTreeSet;
use std::sync::Arc;

use proto::ChannelId;
use proto::problem::Code;
use roomlog::Log;
use roomlog::ledger::{OwnedRoom, RoomStatus};
use tokio::sync::watch;

use super::{Rooms, count, discord_errors, lock};
use crate::auth::{Principal, Subject};
use crate::error::ApiError;

/// Receives the outcome of an end.
pub(super) type Outcome = watch::Receiver<Option<Result<(), ApiError>>>;

impl Rooms {
    /// Ends a room. A room that is gone already is a success. A request for a room that another one is
    /// ending shares its outcome.
    ///
    /// # Errors
    /// `FORBIDDEN`: neither the right to end nor to manage rooms. `NOT_FOUND`: not a room that
    /// Roomwire created, or not theirs. By Discord's answer: `DISCORD_FORBIDDEN`,
    /// `DISCORD_UNAVAILABLE`, `UNPROCESSABLE`.
    pub async fn end(&self, actor: &Principal, channel: ChannelId) -> Result<(), ApiError> {
        let result = self.end_room(actor, channel).await;
        count("hub_rooms_ends_total", &result);
        result
    }

    async fn end_room(&self, actor: &Principal, channel: ChannelId) -> Result<(), ApiError> {
        if !actor.rights.end && !actor.rights.manage {
            return Err(ApiError::new(Code::Forbidden, "the token lacks rooms:end"));
        }
        let guilds = self.0.access.guilds_of(actor);
        let is_theirs = |room: &Arc<OwnedRoom>| {
            guilds.contains(&room.guild_id)
                && (actor.rights.manage || room.owner.as_str() == actor.subject.as_str())
        };
        let not_found = || ApiError::new(Code::NotFound, "no such room of yours");
        self.0
            .log
            .room(channel)
            .filter(is_theirs)
            .ok_or_else(not_found)?;
        let Some(mut outcome) = self.begin_end(channel, actor.subject.clone()) else {
            return Ok(());
        };
        let outcome = outcome
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outcome| outcome.clone());
        outcome.unwrap_or_else(|| {
            // Its task has gone without an outcome. The next request may try.
            lock(&self.0.ending).remove(&channel);
            Err(ApiError::new(Code::Internal, "ending the room failed"))
        })
    }

    /// The outcome of ending a room, by this request or by an earlier one. None: it has ended.
    fn begin_end(&self, channel: ChannelId, by: Subject) -> Option<Outcome> {
        let mut ending = lock(&self.0.ending);
        if let Some(outcome) = ending.get(&channel) {
            return Some(outcome.clone());
        }
        // Read under the lock: an end is stored before it leaves `ending`.
        let room = self
            .0
            .log
            .room(channel)
            .filter(|room| room.status != RoomStatus::Ended)?;
        let (sender, outcome) = watch::channel(None);
        ending.insert(channel, outcome.clone());
        let rooms = self.clone();
        self.0.work.spawn(async move {
            let result = rooms.delete_channel(&room, &by).await;
            let store = move |log: Log| async move { log.end_room(channel).await.is_ok() };
            let is_stored = result.is_err() || store(rooms.0.log.clone()).await;
            if is_stored {
                launch::mutation::pass("end_stored");
            }
            // Every client may have gone.
            sender.send_replace(Some(result));
            if !is_stored {
                // The channel is gone all the same. Until that is stored, the outcome stands here.
                rooms.retry_store(store).await;
            }
            lock(&rooms.0.ending).remove(&channel);
        });
        Some(outcome)
    }

    /// The channels that Discord has deleted and whose end is not stored yet.
    pub(super) fn ended_channels(&self) -> BTreeSet<ChannelId> {
        let ending = lock(&self.0.ending);
        let ended = ending
            .iter()
            .filter(|(_, outcome)| matches!(*outcome.borrow(), Some(Ok(()))));
        ended.map(|(channel, _)| *channel).collect()
    }

    async fn delete_channel(&self, room: &OwnedRoom, by: &Subject) -> Result<(), ApiError> {
        let reason = format!("Roomwire: end-room by {by}");
        let (guild_id, channel_id) = (room.guild_id, room.channel_id);
        launch::mutation::pass("end_begun");
        let deleted = self
            .0
            .discord
            .delete_channel(channel_id, &reason)
            .await
            .map_err(|error| discord_errors::end(&error))?;
        launch::mutation::pass("end_answered");
        tracing::info!(%guild_id, %channel_id, ?deleted, "room ended");
        Ok(())
    }
}
