//! Which rooms of a guild a viewer sees, and what a change means to them.
//!
//! Pure. A view is a value: principals who may see the same share one, and each event is encoded
//! once for them. Every endpoint gets what it shows to browsers from here. Nothing about a room
//! outside the view differs from that room's absence.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use launch::settings::list;
use proto::event::{Audience, Fact, Overwrite, Room, RoomKind, Voice};
use proto::frame::{RoomPayload, SnapshotRoom, ViewEvent, VoicePayload, join_url};
use proto::{ChannelId, GuildId};
use sha2::{Digest, Sha256};

use roomlog::ledger::OwnedRoom;
use roomlog::state::{RoomState, unknown_room};
use roomlog::{Change, GuildState};

/// The setting `ROOMS_SHOWN`: which rooms browsers may see at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RoomsShown {
    /// Rooms that @everyone may view, and Roomwire's own.
    Everyone,
    /// Roomwire's own.
    Owned,
    /// These channels, with any permissions in Discord, and the rooms in these categories that
    /// @everyone may view or that are Roomwire's own.
    Listed(BTreeSet<ChannelId>),
}

impl FromStr for RoomsShown {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "everyone" => Ok(Self::Everyone),
            "owned" => Ok(Self::Owned),
            ids => {
                let ids: Result<BTreeSet<_>, _> = list::items(ids).map(str::parse).collect();
                match ids {
                    Ok(ids) if !ids.is_empty() => Ok(Self::Listed(ids)),
                    _ => Err(
                        "It must be everyone, owned, or a list of channel and category ids."
                            .to_owned(),
                    ),
                }
            }
        }
    }
}

/// What some principals may see of one guild.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct View {
    guild: GuildId,
    shown: Arc<RoomsShown>,
    only: Option<BTreeSet<ChannelId>>,
}

/// Whose a room is, as far as it decides who may see the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provenance {
    /// Not Roomwire's: Discord's permissions decide.
    Foreign,
    /// Roomwire's own.
    Owned,
    /// Roomwire's own, and staff hid it in Discord: its channel denies @everyone viewing it, and
    /// this deny was added after the channel was created.
    Hidden,
}

impl Provenance {
    fn of(state: &GuildState, channel: ChannelId) -> Self {
        let denies = |room: &RoomState| room.room.overwrite == Overwrite::Deny;
        if !state.owned.contains(&channel) {
            Self::Foreign
        } else if state.rooms.get(&channel).is_some_and(denies) && !state.inherits_deny(channel) {
            Self::Hidden
        } else {
            Self::Owned
        }
    }
}

impl View {
    /// The view of a guild, narrowed to some rooms where the viewer wants only those.
    pub fn new(guild: GuildId, shown: Arc<RoomsShown>, only: Option<BTreeSet<ChannelId>>) -> Self {
        Self { guild, shown, only }
    }

    /// The guild of this view.
    pub fn guild(&self) -> GuildId {
        self.guild
    }

    /// Identifies the view in a position. It is the same after a restart, and for every hub of these
    /// settings: the first four bytes of a SHA-256 over an encoding that does not change.
    pub fn fingerprint(&self) -> u32 {
        // The meaning of `project` is a part of the view: raise the number when it changes.
        let mut hash = Sha256::new_with_prefix(b"roomwire view 2");
        hash.update(self.guild.get().to_be_bytes());
        match &*self.shown {
            RoomsShown::Everyone => hash.update([0]),
            RoomsShown::Owned => hash.update([1]),
            RoomsShown::Listed(ids) => {
                hash.update([2]);
                hash_ids(&mut hash, ids);
            }
        }
        match &self.only {
            None => hash.update([0]),
            Some(ids) => {
                hash.update([1]);
                hash_ids(&mut hash, ids);
            }
        }
        let digest = hash.finalize();
        digest
            .first_chunk()
            .map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    /// Whether a room is in this view.
    pub fn sees(&self, state: &GuildState, channel: ChannelId) -> bool {
        state
            .rooms
            .get(&channel)
            .is_some_and(|room| self.sees_room(&room.room, Provenance::of(state, channel)))
    }

    fn sees_room(&self, room: &Room, provenance: Provenance) -> bool {
        let listed =
            |id: &ChannelId| matches!(&*self.shown, RoomsShown::Listed(ids) if ids.contains(id));
        let owned = provenance == Provenance::Owned;
        room.kind != RoomKind::Category
            && room.audience != Audience::Obfuscated
            && provenance != Provenance::Hidden
            && self
                .only
                .as_ref()
                .is_none_or(|only| only.contains(&room.channel_id))
            && match &*self.shown {
                RoomsShown::Everyone => owned || room.audience == Audience::Everyone,
                RoomsShown::Owned => owned,
                RoomsShown::Listed(_) => {
                    listed(&room.channel_id)
                        || (owned || room.audience == Audience::Everyone)
                            && room.parent_id.as_ref().is_some_and(listed)
                }
            }
    }

    /// Whether a viewer may name a category as the place of a new room.
    pub fn sees_category(&self, state: &GuildState, category: ChannelId) -> bool {
        state.rooms.get(&category).is_some_and(|room| {
            room.room.kind == RoomKind::Category
                && (room.room.audience == Audience::Everyone
                    || matches!(&*self.shown, RoomsShown::Listed(ids) if ids.contains(&category)))
        })
    }

    /// The rooms of this view with their members, by channel id.
    pub fn rooms(&self, state: &GuildState) -> Vec<SnapshotRoom> {
        state
            .rooms
            .values()
            .filter(|room| self.sees_room(&room.room, Provenance::of(state, room.room.channel_id)))
            .map(|room| SnapshotRoom {
                room: room_payload(&room.room),
                opening: false,
                members: room
                    .voices
                    .values()
                    .map(|voice| voice_payload(voice))
                    .collect(),
            })
            .collect()
    }

    /// A room of Roomwire's own that was not reported yet, if this view shows it. Who may view its
    /// channel is not known: that it is owned decides.
    pub fn opening(&self, room: &OwnedRoom) -> Option<SnapshotRoom> {
        let room = Room {
            guild_id: room.guild_id,
            channel_id: room.channel_id,
            name: room.name.clone(),
            parent_id: room.parent_id,
            user_limit: room.user_limit,
            kind: RoomKind::Voice,
            audience: Audience::Restricted,
            overwrite: Overwrite::None,
        };
        self.sees_room(&room, Provenance::Owned)
            .then(|| SnapshotRoom {
                room: room_payload(&room),
                opening: true,
                members: Vec::new(),
            })
    }

    /// Whether [`View::project`] compares the state before a change with the one after it. Of the others
    /// it reads only the state after it.
    pub fn compares(change: &Change) -> bool {
        match change {
            Change::Fact(Fact::RoomCreated(_) | Fact::RoomUpdated(_) | Fact::RoomDeleted(_))
            | Change::Owned(_)
            | Change::OwnedUnderDeny(_)
            | Change::Disowned(_) => true,
            Change::Fact(
                Fact::VoiceJoined(_)
                | Fact::VoiceLeft(_)
                | Fact::VoiceStateChanged(_)
                | Fact::GuildUpdated(_)
                | Fact::Snapshot(_),
            ) => false,
        }
    }

    /// The events of a change in this view: none, one, or several (a room that becomes visible brings
    /// its members). A snapshot has no events: read [`View::rooms`] again.
    pub fn project(
        &self,
        before: &GuildState,
        after: &GuildState,
        change: &Change,
    ) -> Vec<ViewEvent> {
        match change {
            Change::Fact(Fact::VoiceJoined(voice)) if self.sees(after, voice.channel_id) => {
                let mut payload = voice_payload(voice);
                payload.moved_from = voice.moved_from.filter(|from| self.sees(after, *from));
                vec![ViewEvent::VoiceJoined(payload)]
            }
            Change::Fact(Fact::VoiceLeft(voice)) if self.sees(after, voice.channel_id) => {
                let mut payload = voice_payload(voice);
                payload.moved_to = voice.moved_to.filter(|to| self.sees(after, *to));
                vec![ViewEvent::VoiceLeft(payload)]
            }
            Change::Fact(Fact::VoiceStateChanged(voice)) if self.sees(after, voice.channel_id) => {
                vec![ViewEvent::VoiceStateChanged(voice_payload(voice))]
            }
            Change::Fact(Fact::RoomCreated(room) | Fact::RoomUpdated(room)) => {
                self.project_room(before, after, room.channel_id)
            }
            Change::Owned(channel)
            | Change::OwnedUnderDeny(channel)
            | Change::Disowned(channel) => self.project_room(before, after, *channel),
            Change::Fact(Fact::RoomDeleted(gone)) => {
                // Only a manual event can delete an unknown room.
                let unknown = unknown_room(gone.guild_id, gone.channel_id, Audience::Everyone);
                let known = before.rooms.get(&gone.channel_id);
                let room = known.map_or(&unknown, |room| &room.room);
                if self.sees_room(room, Provenance::of(before, gone.channel_id)) {
                    vec![ViewEvent::RoomDeleted(room_payload(room))]
                } else {
                    Vec::new()
                }
            }
            Change::Fact(
                Fact::VoiceJoined(_)
                | Fact::VoiceLeft(_)
                | Fact::VoiceStateChanged(_)
                | Fact::GuildUpdated(_)
                | Fact::Snapshot(_),
            ) => Vec::new(),
        }
    }

    fn project_room(
        &self,
        before: &GuildState,
        after: &GuildState,
        channel: ChannelId,
    ) -> Vec<ViewEvent> {
        let was = before
            .rooms
            .get(&channel)
            .filter(|_| self.sees(before, channel));
        let is = after
            .rooms
            .get(&channel)
            .filter(|_| self.sees(after, channel));
        match (was, is) {
            (None, None) => Vec::new(),
            (None, Some(room)) => {
                let mut events = vec![ViewEvent::RoomCreated(room_payload(&room.room))];
                events.extend(
                    room.voices
                        .values()
                        .map(|voice| ViewEvent::VoiceJoined(voice_payload(voice))),
                );
                events
            }
            (Some(room), None) => {
                let mut events: Vec<_> = room
                    .voices
                    .values()
                    .map(|voice| ViewEvent::VoiceLeft(voice_payload(voice)))
                    .collect();
                events.push(ViewEvent::RoomDeleted(room_payload(&room.room)));
                events
            }
            (Some(was), Some(is)) => {
                let payload = room_payload(&is.room);
                // The change concerns a field that browsers do not get.
                let invisible = was.room != is.room && payload == room_payload(&was.room);
                let same_provenance =
                    Provenance::of(before, channel) == Provenance::of(after, channel);
                if same_provenance && !invisible {
                    vec![ViewEvent::RoomUpdated(payload)]
                } else {
                    Vec::new()
                }
            }
        }
    }

    /// The category of a new room for which the request named none. If a list says which rooms are
    /// shown, it is the first category of the list: elsewhere no viewer would see the room.
    pub fn default_category(&self, state: &GuildState) -> Option<ChannelId> {
        let RoomsShown::Listed(ids) = &*self.shown else {
            return None;
        };
        ids.iter()
            .copied()
            .find(|id| self.sees_category(state, *id))
    }
}

/// Their number, then each, by rising id.
fn hash_ids(hash: &mut Sha256, ids: &BTreeSet<ChannelId>) {
    hash.update((ids.len() as u64).to_be_bytes());
    for id in ids {
        hash.update(id.get().to_be_bytes());
    }
}

fn room_payload(room: &Room) -> RoomPayload {
    RoomPayload {
        guild_id: room.guild_id,
        channel_id: room.channel_id,
        name: room.name.clone(),
        parent_id: room.parent_id,
        user_limit: room.user_limit,
        join_url: join_url(room.guild_id, room.channel_id),
    }
}

fn voice_payload(voice: &Voice) -> VoicePayload {
    VoicePayload {
        guild_id: voice.guild_id,
        channel_id: voice.channel_id,
        user_id: voice.user_id,
        member: voice.member.clone(),
        flags: voice.flags,
        moved_to: None,
        moved_from: None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
