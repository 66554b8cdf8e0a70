//! Lists: what was told of a guild, and Roomwire's own rooms that were not told of yet.

use std::collections::BTreeSet;

use proto::event::{Audience, Fact, Overwrite, Room, RoomKind};
use proto::frame::SnapshotRoom;
use proto::problem::Code;
use proto::{ChannelId, GuildId};

use super::Rooms;
use super::ledger::OwnedRoom;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::view::View;
use roomlog::{Change, GuildState, Place};

/// Rooms of one guild as one principal sees them.
#[derive(Debug)]
pub struct Listed {
    /// How the principal sees the guild.
    pub view: View,
    /// The rooms, by channel.
    pub rooms: Vec<SnapshotRoom>,
    /// Where the guild's log stood.
    pub place: Place,
}

impl Rooms {
    /// The rooms of a guild that a principal sees: what was told, and Roomwire's own that were not
    /// told of yet (`opening`). `only` narrows it to one room.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right to read is missing, or the guild is none of theirs.
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
        let read = self.0.log.read(guild, |state, place| {
            let mut rooms = view.rooms(state);
            rooms.extend(opening(&view, state, self.0.ledger.open_rooms(guild)));
            rooms.sort_by_key(|room| room.room.channel_id);
            (rooms, place)
        });
        let (rooms, place) =
            read.ok_or_else(|| ApiError::new(Code::Forbidden, "not a guild of this token"))?;
        Ok(Listed { view, rooms, place })
    }

    /// One room that a principal sees, in whichever of their guilds it is.
    ///
    /// # Errors
    /// `FORBIDDEN`: the right to read is missing. `NOT_FOUND`: there is no such room, or not for them.
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

/// The rooms of the ledger that were not told of yet, as this view shows them.
fn opening(view: &View, told: &GuildState, ledger: Vec<OwnedRoom>) -> Vec<SnapshotRoom> {
    // A guild of just these rooms, so that the view judges them as it judges all others.
    let mut state = GuildState::default();
    for room in ledger {
        if told.rooms.contains_key(&room.channel_id) {
            continue;
        }
        state.apply(&Change::Owned(room.channel_id));
        state.apply(&Change::Told(Fact::RoomCreated(Room {
            guild_id: room.guild_id,
            channel_id: room.channel_id,
            name: room.name,
            parent_id: room.parent_id,
            user_limit: room.user_limit,
            kind: RoomKind::Voice,
            audience: Audience::Restricted,
            overwrite: Overwrite::None,
        })));
    }
    let mut rooms = view.rooms(&state);
    for room in &mut rooms {
        room.opening = true;
    }
    rooms
}
