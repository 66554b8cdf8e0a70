//! Lists: what was reported of a guild, and Roomwire's own rooms that were not reported yet.

use std::collections::BTreeSet;

use proto::frame::SnapshotRoom;
use proto::problem::Code;
use proto::{ChannelId, GuildId};
use roomlog::Position;

use super::Rooms;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::view::View;

/// Rooms of one guild as one principal sees them.
#[derive(Debug)]
pub struct Listed {
    /// How the principal sees the guild.
    pub view: View,
    /// The rooms, by channel.
    pub rooms: Vec<SnapshotRoom>,
    /// The position of the guild's log.
    pub position: Position,
}

impl Rooms {
    /// The rooms of a guild that a principal sees: those that were reported, and Roomwire's own that
    /// were not reported yet (`opening`). `only` narrows it to one room.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right to read is missing, or the token does not allow the guild.
    pub fn list(
        &self,
        actor: &Principal,
        guild: GuildId,
        only: Option<ChannelId>,
    ) -> Result<Listed, ApiError> {
        let view =
            self.0
                .access
                .view(actor, guild, only.map(|channel| BTreeSet::from([channel])))?;
        let ended = self.ended_channels();
        let read = self.0.log.read(guild, |state, position| {
            let mut rooms = view.rooms(state);
            // The ledger is as new as the guild's state, or newer.
            let ledger = self.0.log.ledger();
            let opening = ledger
                .open_rooms(guild)
                .filter(|room| !state.rooms.contains_key(&room.channel_id))
                .filter(|room| !ended.contains(&room.channel_id));
            rooms.extend(opening.filter_map(|room| view.opening(room)));
            rooms.sort_by_key(|room| room.room.channel_id);
            (rooms, position)
        });
        let (rooms, position) =
            read.ok_or_else(|| ApiError::new(Code::Forbidden, "not a guild of this token"))?;
        Ok(Listed {
            view,
            rooms,
            position,
        })
    }

    /// One room that a principal sees, in any of their guilds.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right to read is missing. `NOT_FOUND`: no such room, or not one that they see.
    pub fn get(&self, actor: &Principal, channel: ChannelId) -> Result<Listed, ApiError> {
        for guild in self.0.access.guilds_of(actor) {
            let listed = self.list(actor, guild, Some(channel))?;
            if !listed.rooms.is_empty() {
                return Ok(listed);
            }
        }
        Err(ApiError::new(Code::NotFound, "no such room"))
    }
}
