//! One guild as its log has it: every room, hidden ones included, and who is in them.
//!
//! Pure. [`GuildState::admit`] makes what is reported consistent, [`GuildState::apply`] is the only
//! thing that changes a state: the same changes in the same order give the same state.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};
use proto::event::{Audience, Everyone, Fact, Overwrite, Room, RoomKind, Roster, Voice};
use proto::{ChannelId, GuildId, UserId};
use serde::{Deserialize, Serialize};

/// How many deleted channels are remembered for a worker that takes over: as many as Discord allows
/// a guild to have. A forgotten one costs the worker a question.
const TOMBSTONES_MAX: usize = 500;

/// Where an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// From a worker, which reports a room before it reports who is in it: a room that it has not
    /// reported is not for everyone.
    Worker,
    /// From somebody who can sign, by hand or by a program: an event makes its room known.
    Manual,
}

/// What changes a guild's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// A worker reported it, or it was sent by hand.
    #[serde(rename = "told")]
    Fact(Fact),
    /// The room is Roomwire's own, whether or not the worker has reported it yet. Its channel was
    /// created without a deny of @everyone viewing it.
    Owned(ChannelId),
    /// As [`Change::Owned`], of a channel that was created with such a deny, as its category has it.
    #[serde(rename = "owned_under_deny")]
    OwnedUnderDeny(ChannelId),
    /// The room is not Roomwire's own any more.
    Disowned(ChannelId),
}

/// A guild's rooms and who is in them. Persistent: a clone shares what it has in common, so that
/// keeping a past state, or taking a change back, costs next to nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuildState {
    /// The worker sent the whole guild at least once.
    pub known: bool,
    /// Rooms and categories.
    pub rooms: OrdMap<ChannelId, RoomState>,
    /// Which channels are Roomwire's own; some may not be among `rooms` yet.
    pub owned: OrdSet<ChannelId>,
    /// Channels whose deny of @everyone viewing them is as old as they are, as far as it is known:
    /// they had it when they were first reported, or when Discord created them, and ever since. No one
    /// added it to hide them.
    #[serde(default)]
    inherited_denies: OrdSet<ChannelId>,
    /// What @everyone may do, for a worker that takes over.
    everyone: Everyone,
    /// Which channels were deleted, oldest first; also for the next claim.
    tombstones: Vector<ChannelId>,
    whereabouts: OrdMap<UserId, ChannelId>,
}

/// A room and who is in it. Shared parts: a map that copies some of its nodes copies references.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RoomState {
    /// The room.
    pub room: Arc<Room>,
    /// Who is in it.
    pub voices: OrdMap<UserId, Arc<Voice>>,
}

impl GuildState {
    /// Where a user is.
    pub fn whereabouts(&self, user: UserId) -> Option<ChannelId> {
        self.whereabouts.get(&user).copied()
    }

    /// Whether a channel was reported as deleted, as far as that is remembered.
    pub fn was_deleted(&self, channel: ChannelId) -> bool {
        self.tombstones.contains(&channel)
    }

    /// Whether the channel's deny of @everyone viewing it, if it has one, is as old as the channel.
    pub fn inherits_deny(&self, channel: ChannelId) -> bool {
        self.inherited_denies.contains(&channel)
    }

    /// Everything that the worker sent of the guild, as it sent it.
    pub fn roster(&self, guild_id: GuildId, reason: &str) -> Roster {
        Roster {
            guild_id,
            rooms: self
                .rooms
                .values()
                .map(|room| Room::clone(&room.room))
                .collect(),
            voices: self
                .rooms
                .values()
                .flat_map(|room| room.voices.values())
                .map(|voice| Voice::clone(voice))
                .collect(),
            reason: reason.to_owned(),
            everyone: self.everyone,
            tombstones: self.tombstones.iter().copied().collect(),
        }
    }

    /// What a fact changes: the fact, preceded by what it silently presupposes. So every
    /// reader can rely on it that a room is made before somebody is in it, and that nobody is in
    /// two rooms.
    pub fn admit(&self, fact: Fact, source: Source) -> Vec<Change> {
        let mut changes = Vec::with_capacity(1);
        match fact {
            Fact::VoiceJoined(voice) => {
                self.admit_voice(voice, source, Fact::VoiceJoined, &mut changes);
            }
            Fact::VoiceStateChanged(voice) => {
                self.admit_voice(voice, source, Fact::VoiceStateChanged, &mut changes);
            }
            Fact::VoiceLeft(voice) => {
                self.presuppose_room(&voice, source, &mut changes);
                changes.push(Change::Fact(Fact::VoiceLeft(voice)));
            }
            Fact::RoomUpdated(room) if !self.rooms.contains_key(&room.channel_id) => {
                changes.push(Change::Fact(Fact::RoomCreated(room)));
            }
            Fact::RoomCreated(room) if self.rooms.contains_key(&room.channel_id) => {
                changes.push(Change::Fact(Fact::RoomUpdated(room)));
            }
            // A room that was never reported was never shown.
            Fact::RoomDeleted(gone)
                if source == Source::Worker && !self.rooms.contains_key(&gone.channel_id) => {}
            fact @ (Fact::RoomCreated(_)
            | Fact::RoomUpdated(_)
            | Fact::RoomDeleted(_)
            | Fact::GuildUpdated(_)
            | Fact::Snapshot(_)) => {
                changes.push(Change::Fact(fact));
            }
        }
        changes
    }

    /// Changes the state.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Fact(Fact::RoomCreated(room) | Fact::RoomUpdated(room)) => {
                self.note_deny(room, self.rooms.contains_key(&room.channel_id));
                self.put_room(room);
            }
            Change::Fact(Fact::RoomDeleted(gone)) => {
                if let Some(room) = self.rooms.remove(&gone.channel_id) {
                    for user in room.voices.keys() {
                        self.whereabouts.remove(user);
                    }
                }
                self.forget_deny(gone.channel_id);
                self.bury(gone.channel_id);
            }
            Change::Fact(Fact::GuildUpdated(access)) => self.everyone = access.everyone,
            Change::Fact(Fact::VoiceJoined(voice) | Fact::VoiceStateChanged(voice)) => {
                self.put_voice(voice);
            }
            Change::Fact(Fact::VoiceLeft(voice)) => {
                if let Some(room) = self.rooms.get_mut(&voice.channel_id)
                    && room.voices.remove(&voice.user_id).is_some()
                {
                    self.whereabouts.remove(&voice.user_id);
                }
            }
            Change::Fact(Fact::Snapshot(roster)) => {
                self.known = true;
                let before = std::mem::take(&mut self.rooms);
                self.whereabouts.clear();
                self.everyone = roster.everyone;
                self.tombstones.clear();
                for channel in &roster.tombstones {
                    self.bury(*channel);
                }
                for room in &roster.rooms {
                    self.note_deny(room, before.contains_key(&room.channel_id));
                    self.put_room(room);
                }
                for channel in before.keys() {
                    if !self.rooms.contains_key(channel) {
                        self.forget_deny(*channel);
                    }
                }
                // Somebody in a room that the snapshot does not list is in a room of unknown audience.
                for voice in roster
                    .voices
                    .iter()
                    .filter(|voice| self.rooms.contains_key(&voice.channel_id))
                    .collect::<Vec<_>>()
                {
                    self.put_voice(voice);
                }
            }
            Change::Owned(channel) => {
                self.owned.insert(*channel);
                self.inherited_denies.remove(channel);
            }
            Change::OwnedUnderDeny(channel) => {
                self.owned.insert(*channel);
                // What was reported of the channel before says whether it has the deny ever since.
                if !self.rooms.contains_key(channel) {
                    self.inherited_denies.insert(*channel);
                }
            }
            Change::Disowned(channel) => {
                self.owned.remove(channel);
                if !self.rooms.contains_key(channel) {
                    self.forget_deny(*channel);
                }
            }
        }
    }

    /// Keeps [`GuildState::inherits_deny`] in line with a reported room. A channel without the
    /// deny no longer has it from its creation. One that is reported for the first time may have been
    /// created with it, but for an owned one: the answer to its creation decided that.
    fn note_deny(&mut self, room: &Room, known: bool) {
        let channel = room.channel_id;
        if !may_deny_everyone(room) {
            self.inherited_denies.remove(&channel);
        } else if !known && !self.owned.contains(&channel) {
            self.inherited_denies.insert(channel);
        }
    }

    /// A channel that is gone. That of an owned one is kept until it is disowned: it may come back.
    fn forget_deny(&mut self, channel: ChannelId) {
        if !self.owned.contains(&channel) {
            self.inherited_denies.remove(&channel);
        }
    }

    fn bury(&mut self, channel: ChannelId) {
        if self.tombstones.len() >= TOMBSTONES_MAX {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back(channel);
    }

    fn put_room(&mut self, room: &Room) {
        if self.tombstones.contains(&room.channel_id) {
            self.tombstones.retain(|gone| *gone != room.channel_id);
        }
        let room = Arc::new(room.clone());
        match self.rooms.get_mut(&room.channel_id) {
            Some(known) => known.room = room,
            None => {
                let voices = OrdMap::new();
                self.rooms
                    .insert(room.channel_id, RoomState { room, voices });
            }
        }
    }

    fn put_voice(&mut self, voice: &Voice) {
        if self.whereabouts(voice.user_id) != Some(voice.channel_id)
            && let Some(old) = self.whereabouts.insert(voice.user_id, voice.channel_id)
            && let Some(room) = self.rooms.get_mut(&old)
        {
            room.voices.remove(&voice.user_id);
        }
        let mut kept = voice.clone();
        (kept.moved_to, kept.moved_from) = (None, None);
        self.room_of(voice)
            .voices
            .insert(voice.user_id, Arc::new(kept));
    }

    /// The room that a voice state names. An unknown one becomes known by it: an entry of an earlier
    /// version may name one, if its event was sent by hand.
    fn room_of(&mut self, voice: &Voice) -> &mut RoomState {
        self.rooms
            .entry(voice.channel_id)
            .or_insert_with(|| RoomState {
                room: Arc::new(unknown_room(
                    voice.guild_id,
                    voice.channel_id,
                    Audience::Everyone,
                )),
                voices: OrdMap::new(),
            })
    }

    fn admit_voice(
        &self,
        mut voice: Voice,
        source: Source,
        fact: fn(Voice) -> Fact,
        changes: &mut Vec<Change>,
    ) {
        self.presuppose_room(&voice, source, changes);
        match self
            .whereabouts(voice.user_id)
            .filter(|from| *from != voice.channel_id)
        {
            None => changes.push(Change::Fact(fact(voice))),
            // A user is in one room at most: a user who appears in another one has moved.
            Some(from) => {
                let mut left = self.voice_in(from, &voice);
                left.moved_to = Some(voice.channel_id);
                voice.moved_from = Some(from);
                changes.push(Change::Fact(Fact::VoiceLeft(left)));
                changes.push(Change::Fact(Fact::VoiceJoined(voice)));
            }
        }
    }

    /// A worker sends a room before its members. If this hub does not know the room
    /// all the same, it cannot know who may see it: nobody, until the room is sent.
    fn presuppose_room(&self, voice: &Voice, source: Source, changes: &mut Vec<Change>) {
        if !self.rooms.contains_key(&voice.channel_id) {
            let audience = match source {
                Source::Worker => Audience::Restricted,
                Source::Manual => Audience::Everyone,
            };
            let room = unknown_room(voice.guild_id, voice.channel_id, audience);
            changes.push(Change::Fact(Fact::RoomCreated(room)));
        }
    }

    /// What is known of a user in a room, for a leave that was not reported.
    fn voice_in(&self, channel: ChannelId, voice: &Voice) -> Voice {
        let room = self.rooms.get(&channel);
        room.and_then(|room| room.voices.get(&voice.user_id))
            .map_or_else(
                || Voice {
                    channel_id: channel,
                    moved_from: None,
                    ..voice.clone()
                },
                |known| Voice::clone(known),
            )
    }
}

/// Whether a room as it is reported may have a deny of @everyone viewing its channel. One that the bot
/// may not view says nothing of its overwrites.
pub fn may_deny_everyone(room: &Room) -> bool {
    room.overwrite == Overwrite::Deny || room.audience == Audience::Obfuscated
}

/// A room of which only the id is known.
pub fn unknown_room(guild_id: GuildId, channel_id: ChannelId, audience: Audience) -> Room {
    Room {
        guild_id,
        channel_id,
        name: String::new(),
        parent_id: None,
        user_limit: 0,
        kind: RoomKind::Voice,
        audience,
        overwrite: Overwrite::None,
    }
}
