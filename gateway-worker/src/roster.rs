//! One guild's rooms, who may view them, and who is in them. Pure: a dispatch in, facts out.
//!
//! GUILD_CREATE replaces everything and the difference is told as facts, so that nobody who left
//! unseen stays behind as a ghost. A fact about a room always comes before the first fact about
//! somebody in it. What would have to be guessed is not applied but returned as a [`Subject`] to
//! be asked for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proto::event::{
    Audience, Fact, Member, Room, RoomGone, RoomKind, Roster as RosterState, Voice, VoiceFlags,
};
use proto::{ChannelId, GuildId, UserId};

use crate::dispatch::{Channel, Dispatch, GuildState, Profile, Subject, VoiceState};

/// Permission bit ADMINISTRATOR (Discord's documentation, "Permissions").
const ADMINISTRATOR: u128 = 1 << 3;
/// Permission bit VIEW_CHANNEL.
const VIEW_CHANNEL: u128 = 1 << 10;

/// One guild as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    guild_id: GuildId,
    setting: RosterSetting,
    /// Whether the guild was ever told whole.
    known: bool,
    everyone: u128,
    channels: BTreeMap<ChannelId, Channel>,
    seats: BTreeMap<UserId, Seat>,
    /// Channels that were deleted, oldest first: updates of them come late and mean nothing
    /// (discord-api-docs issue 449).
    tombstones: VecDeque<ChannelId>,
}

/// What a roster is told at its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RosterSetting {
    /// Where pictures are served, without a slash at its end.
    pub cdn: Arc<str>,
    /// How many deleted channels are remembered. A forgotten one costs a question over REST.
    pub tombstones_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seat {
    channel: ChannelId,
    member: Option<Member>,
    flags: VoiceFlags,
}

/// What a dispatch did to a roster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What happened, in order.
    pub facts: Vec<Fact>,
    /// What has to be asked for before it can be known.
    pub gaps: Vec<Subject>,
    /// The guild was told whole for the first time: a snapshot is due instead of facts.
    pub began: bool,
}

impl Change {
    fn facts(facts: Vec<Fact>) -> Self {
        Self {
            facts,
            ..Self::default()
        }
    }

    fn gap(subject: Subject) -> Self {
        Self {
            gaps: vec![subject],
            ..Self::default()
        }
    }
}

impl Roster {
    /// A roster that knows nothing yet.
    pub fn new(guild_id: GuildId, setting: RosterSetting) -> Self {
        Self {
            guild_id,
            setting,
            known: false,
            everyone: 0,
            channels: BTreeMap::new(),
            seats: BTreeMap::new(),
            tombstones: VecDeque::new(),
        }
    }

    /// Whether the guild was ever told whole.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether this channel is known.
    pub fn is_channel(&self, channel: ChannelId) -> bool {
        self.channels.contains_key(&channel)
    }

    /// Whether this is a channel that somebody can be in.
    fn is_room(&self, channel: ChannelId) -> bool {
        self.channels
            .get(&channel)
            .is_some_and(|channel| channel.kind != Some(RoomKind::Category))
    }

    /// Applies a dispatch about this guild.
    pub fn apply(&mut self, dispatch: Dispatch) -> Change {
        match dispatch {
            Dispatch::GuildCreated(state) => return self.replace(state),
            Dispatch::GuildRemoved(_) => return self.remove(),
            _ if !self.known => {
                // GUILD_CREATE is still to come and will contain it.
                return Change::default();
            }
            Dispatch::Ready(_) | Dispatch::Resumed | Dispatch::GuildUnavailable(_) => {}
            Dispatch::EveryoneChanged(_, permissions) => {
                return Change::facts(self.change_everyone(permissions));
            }
            Dispatch::ChannelCreated(_, channel) => return self.hear_created(channel),
            Dispatch::ChannelUpdated(_, channel) => return self.hear_updated(channel),
            Dispatch::ChannelDeleted(_, channel) => {
                return Change::facts(self.delete_channel(channel));
            }
            Dispatch::VoiceChanged(_, state) => return self.seat(state),
        }
        Change::default()
    }

    /// Takes a channel as Discord's REST just told it; that is the present, whatever came before.
    pub fn put_channel(&mut self, channel: Channel) -> Vec<Fact> {
        if channel.kind.is_none() {
            return self.delete_channel(channel.id);
        }
        self.tombstones.retain(|gone| *gone != channel.id);
        let id = channel.id;
        let before = self.channels.get(&id).map(|channel| self.room(channel));
        let after = self.room(&channel);
        self.channels.insert(id, channel);
        match before {
            None => vec![Fact::RoomCreated(after)],
            Some(before) if before != after => vec![Fact::RoomUpdated(after)],
            Some(_) => Vec::new(),
        }
    }

    /// Takes the news that the bot may not view a channel; nothing happens if it is not known.
    pub fn hide_channel(&mut self, id: ChannelId) -> Vec<Fact> {
        let Some(channel) = self.channels.get(&id) else {
            return Vec::new();
        };
        let hidden = Channel {
            kind: channel.kind,
            parent_id: channel.parent_id,
            ..Channel::hidden(id)
        };
        self.put_channel(hidden)
    }

    /// Takes the news that a channel is gone: everybody in it has left, then it is deleted.
    pub fn delete_channel(&mut self, id: ChannelId) -> Vec<Fact> {
        if self.channels.remove(&id).is_none() {
            return Vec::new();
        }
        if self.setting.tombstones_max > 0 {
            if self.tombstones.len() >= self.setting.tombstones_max {
                self.tombstones.pop_front();
            }
            self.tombstones.push_back(id);
        }
        let left: Vec<UserId> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.channel == id)
            .map(|(user, _)| *user)
            .collect();
        let mut facts: Vec<Fact> = left.iter().filter_map(|user| self.leave(*user)).collect();
        facts.push(Fact::RoomDeleted(RoomGone {
            guild_id: self.guild_id,
            channel_id: id,
        }));
        facts
    }

    /// Everything, as a snapshot with this reason.
    pub fn snapshot(&self, reason: &str) -> RosterState {
        RosterState {
            guild_id: self.guild_id,
            rooms: self
                .channels
                .values()
                .map(|channel| self.room(channel))
                .collect(),
            voices: self
                .seats
                .iter()
                .map(|(user, seat)| self.voice(*user, seat))
                .collect(),
            reason: reason.to_owned(),
        }
    }

    fn replace(&mut self, state: GuildState) -> Change {
        let mut gaps: BTreeSet<Subject> = state.illegible.iter().copied().collect();
        if !self.known {
            self.known = true;
            self.everyone = state.everyone;
            for channel in state.channels {
                self.put_channel(channel);
            }
            for voice in state.voices {
                gaps.extend(self.seat(voice).gaps);
            }
            return Change {
                facts: Vec::new(),
                gaps: gaps.into_iter().collect(),
                began: true,
            };
        }
        // Rooms are compared as a whole, before and after: with the new permissions and the old
        // overwrites, or the other way round, a hidden room could look public for a moment.
        let before: BTreeMap<ChannelId, Room> = self
            .channels
            .iter()
            .map(|(id, channel)| (*id, self.room(channel)))
            .collect();
        let everyone_changed = self.everyone != state.everyone;
        self.everyone = state.everyone;
        let mut kept: BTreeSet<ChannelId> = BTreeSet::new();
        let mut in_voice: BTreeSet<UserId> = BTreeSet::new();
        for gap in &gaps {
            match gap {
                Subject::Channel(id) => {
                    kept.insert(*id);
                    if let Some(channel) = self.channels.get_mut(id).filter(|_| everyone_changed) {
                        // Its overwrites are not known, so it is hidden until they are.
                        channel.everyone_allow = 0;
                        channel.everyone_deny = VIEW_CHANNEL;
                    }
                }
                Subject::Voice(user) => {
                    in_voice.insert(*user);
                }
                Subject::Guild => {}
            }
        }
        for channel in state.channels {
            kept.insert(channel.id);
            self.tombstones.retain(|gone| *gone != channel.id);
            self.channels.insert(channel.id, channel);
        }
        let mut facts: Vec<Fact> = Vec::new();
        // Categories first, so that a room never names a category that is not known yet.
        let mut rooms: Vec<Room> = self
            .channels
            .values()
            .map(|channel| self.room(channel))
            .collect();
        rooms.sort_by_key(|room| (room.kind != RoomKind::Category, room.channel_id));
        for room in rooms {
            match before.get(&room.channel_id) {
                None => facts.push(Fact::RoomCreated(room)),
                Some(before) if *before != room => facts.push(Fact::RoomUpdated(room)),
                Some(_) => {}
            }
        }
        let mut voices = state.voices;
        voices.sort_by_key(|voice| voice.user_id);
        for voice in voices {
            in_voice.insert(voice.user_id);
            let change = self.seat(voice);
            facts.extend(change.facts);
            gaps.extend(change.gaps);
        }
        let left: Vec<UserId> = self
            .seats
            .keys()
            .filter(|user| !in_voice.contains(user))
            .copied()
            .collect();
        facts.extend(left.iter().filter_map(|user| self.leave(*user)));
        let gone: Vec<ChannelId> = self
            .channels
            .keys()
            .filter(|channel| !kept.contains(channel))
            .copied()
            .collect();
        for channel in gone {
            facts.extend(self.delete_channel(channel));
        }
        Change {
            facts,
            gaps: gaps.into_iter().collect(),
            began: false,
        }
    }

    fn remove(&mut self) -> Change {
        if !self.known {
            self.known = true;
            return Change {
                began: true,
                ..Change::default()
            };
        }
        let channels: Vec<ChannelId> = self.channels.keys().copied().collect();
        Change::facts(
            channels
                .into_iter()
                .flat_map(|channel| self.delete_channel(channel))
                .collect(),
        )
    }

    fn change_everyone(&mut self, permissions: u128) -> Vec<Fact> {
        let before: Vec<Room> = self
            .channels
            .values()
            .map(|channel| self.room(channel))
            .collect();
        self.everyone = permissions;
        self.channels
            .values()
            .map(|channel| self.room(channel))
            .zip(before)
            .filter(|(after, before)| after != before)
            .map(|(after, _)| Fact::RoomUpdated(after))
            .collect()
    }

    fn hear_created(&mut self, channel: Channel) -> Change {
        let id = channel.id;
        match self.channels.get(&id) {
            Some(known) if *known == channel => Change::default(),
            // A repeat of an old creation, or one that was told twice: only asking tells.
            Some(_) => Change::gap(Subject::Channel(id)),
            None if self.tombstones.contains(&id) => Change::gap(Subject::Channel(id)),
            None => Change::facts(self.put_channel(channel)),
        }
    }

    fn hear_updated(&mut self, channel: Channel) -> Change {
        let id = channel.id;
        if self.channels.contains_key(&id) {
            Change::facts(self.put_channel(channel))
        } else if channel.kind.is_none() || self.tombstones.contains(&id) {
            Change::default()
        } else {
            // Its creation was missed, or its deletion is forgotten.
            Change::gap(Subject::Channel(id))
        }
    }

    fn seat(&mut self, state: VoiceState) -> Change {
        let user = state.user_id;
        let Some(channel) = state.channel_id else {
            return Change::facts(self.leave(user).into_iter().collect());
        };
        if !self.is_room(channel) {
            return Change::gap(Subject::Voice(user));
        }
        let before = self.seats.get(&user).cloned();
        let member = match state.profile {
            Some(profile) => Some(self.member(user, profile)),
            None => before.as_ref().and_then(|seat| seat.member.clone()),
        };
        let seat = Seat {
            channel,
            member,
            flags: state.flags,
        };
        let now = self.voice(user, &seat);
        self.seats.insert(user, seat.clone());
        Change::facts(match before {
            None => vec![Fact::VoiceJoined(now)],
            Some(before) if before == seat => Vec::new(),
            Some(before) if before.channel == channel => vec![Fact::VoiceStateChanged(now)],
            Some(before) => vec![
                Fact::VoiceLeft(Voice {
                    moved_to: Some(channel),
                    ..self.voice(user, &before)
                }),
                Fact::VoiceJoined(Voice {
                    moved_from: Some(before.channel),
                    ..now
                }),
            ],
        })
    }

    fn leave(&mut self, user: UserId) -> Option<Fact> {
        let seat = self.seats.remove(&user)?;
        Some(Fact::VoiceLeft(self.voice(user, &seat)))
    }

    fn room(&self, channel: &Channel) -> Room {
        Room {
            guild_id: self.guild_id,
            channel_id: channel.id,
            name: channel.name.clone(),
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
            kind: channel.kind.unwrap_or_default(),
            audience: self.audience(channel),
        }
    }

    /// Discord's order (documentation, "Permission Overwrites"): the role's permissions, then what
    /// the overwrite denies, then what it allows; administrators view everything.
    fn audience(&self, channel: &Channel) -> Audience {
        if channel.obfuscated {
            return Audience::Obfuscated;
        }
        let allowed =
            ((self.everyone & !channel.everyone_deny) | channel.everyone_allow) & VIEW_CHANNEL != 0;
        if allowed || self.everyone & ADMINISTRATOR != 0 {
            Audience::Everyone
        } else {
            Audience::Restricted
        }
    }

    fn voice(&self, user: UserId, seat: &Seat) -> Voice {
        Voice {
            guild_id: self.guild_id,
            channel_id: seat.channel,
            user_id: user,
            member: seat.member.clone(),
            flags: seat.flags,
            moved_to: None,
            moved_from: None,
        }
    }

    /// Pictures: Discord's documentation, "Image Formatting".
    fn member(&self, user: UserId, profile: Profile) -> Member {
        let (cdn, guild) = (&self.setting.cdn, self.guild_id);
        let avatar_url = match (profile.guild_avatar, profile.user_avatar) {
            (Some(hash), _) => format!("{cdn}/guilds/{guild}/users/{user}/avatars/{hash}.png"),
            (None, Some(hash)) => format!("{cdn}/avatars/{user}/{hash}.png"),
            (None, None) => format!("{cdn}/embed/avatars/{}.png", (user.get() >> 22) % 6),
        };
        Member {
            display_name: profile.display_name,
            avatar_url,
        }
    }
}

#[cfg(test)]
mod tests;
