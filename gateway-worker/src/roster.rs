//! One guild's rooms, who may view them, and who is in them. Pure: a dispatch in, facts out.
//!
//! GUILD_CREATE replaces everything, and the difference becomes facts, so that no member who left
//! unseen stays as a ghost ([`diff`]). A fact about a room always comes before the first fact about a
//! member in it. What would have to be guessed is not applied, but returned as a [`Subject`] to ask
//! for. The facts and snapshots of a roster contain all of it, so that the hub's copy can be restored
//! ([`Roster::restore`]).

mod facts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proto::event::{
    Everyone, Fact, Member, Overwrite, RoomKind, Roster as RosterState, VoiceFlags,
};
use proto::{ChannelId, GuildId, UserId};

use crate::dispatch::{Channel, Dispatch, GuildState, Redaction, Subject, VoiceState};

pub use facts::diff;

/// One guild's known state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Roster {
    guild_id: GuildId,
    setting: RosterSetting,
    /// Whether the guild's whole state ever came.
    known: bool,
    everyone: Everyone,
    channels: BTreeMap<ChannelId, Channel>,
    seats: BTreeMap<UserId, Seat>,
    /// Deleted channels, oldest first: late updates of them are ignored (discord-api-docs issue 449).
    tombstones: VecDeque<ChannelId>,
}

/// How a roster is configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RosterSetting {
    /// The URL of the pictures' server, without a slash at its end.
    pub cdn: Arc<str>,
    /// How many deleted channels are remembered. A forgotten one costs a question over REST.
    pub tombstones_max: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Seat {
    channel: ChannelId,
    member: Option<Member>,
    flags: VoiceFlags,
}

/// What a dispatch changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What happened, in order.
    pub facts: Vec<Fact>,
    /// What the worker has to ask for.
    pub gaps: Vec<Subject>,
    /// The guild's whole state came for the first time: a snapshot is due instead of facts.
    pub began: bool,
}

impl Change {
    pub(crate) fn facts(facts: Vec<Fact>) -> Self {
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
            everyone: Everyone::Nothing,
            channels: BTreeMap::new(),
            seats: BTreeMap::new(),
            tombstones: VecDeque::new(),
        }
    }

    /// The roster of a snapshot ([`Roster::snapshot`]) and the facts since.
    pub fn restore(setting: RosterSetting, state: RosterState) -> Self {
        let mut roster = Self {
            known: true,
            everyone: state.everyone,
            ..Self::new(state.guild_id, setting)
        };
        for room in state.rooms {
            let channel = roster.channel_of(room);
            roster.channels.insert(channel.id, channel);
        }
        for voice in state.voices {
            if roster.is_room(voice.channel_id) {
                let seat = Seat {
                    channel: voice.channel_id,
                    member: voice.member,
                    flags: voice.flags,
                };
                roster.seats.insert(voice.user_id, seat);
            }
        }
        for channel in state.tombstones {
            roster.add_tombstone(channel);
        }
        roster
    }

    /// Whether the guild's whole state ever came.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether this channel is known.
    pub fn is_channel(&self, channel: ChannelId) -> bool {
        self.channels.contains_key(&channel)
    }

    /// Whether members can be in this channel.
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
                // GUILD_CREATE comes later, and contains it.
                return Change::default();
            }
            Dispatch::Ready(_) | Dispatch::Resumed | Dispatch::GuildUnavailable(_) => {}
            Dispatch::EveryoneChanged(_, everyone) => {
                let before = self.clone();
                self.everyone = everyone;
                return Change::facts(diff(&before, self));
            }
            Dispatch::ChannelCreated(_, channel) => return self.on_created(channel),
            Dispatch::ChannelUpdated(_, channel) => return self.on_updated(channel),
            Dispatch::ChannelDeleted(_, channel) => {
                return Change::facts(self.delete_channel(channel));
            }
            Dispatch::VoiceChanged(_, state) => return self.set_voice(state),
        }
        Change::default()
    }

    /// Takes a channel from Discord's REST: it is newer than every dispatch before.
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

    /// The bot may not view this channel. Does nothing if the channel is not known.
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

    /// Denies to @everyone what this redaction names, since the permissions are unknown until an answer
    /// comes.
    pub fn redact(&mut self, redaction: Redaction) -> Vec<Fact> {
        let before = self.clone();
        if redaction.has_role() {
            self.everyone = Everyone::Nothing;
        }
        for (id, channel) in &mut self.channels {
            if redaction.has_channel(*id) {
                channel.overwrite = Overwrite::Deny;
            }
        }
        diff(&before, self)
    }

    /// A channel is gone: its members leave, then it is deleted.
    pub fn delete_channel(&mut self, id: ChannelId) -> Vec<Fact> {
        if self.channels.remove(&id).is_none() {
            return Vec::new();
        }
        self.add_tombstone(id);
        let left: Vec<UserId> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.channel == id)
            .map(|(user, _)| *user)
            .collect();
        let mut facts: Vec<Fact> = left.iter().filter_map(|user| self.leave(*user)).collect();
        facts.push(self.gone(id));
        facts
    }

    /// Takes a subject with an open question from another roster of the guild.
    pub fn keep(&mut self, other: &Self, subject: Subject) {
        match subject {
            Subject::Channel(id) => {
                if let Some(channel) = other.channels.get(&id) {
                    self.tombstones.retain(|gone| *gone != id);
                    self.channels.insert(id, channel.clone());
                }
            }
            Subject::Voice(user) => match other.seats.get(&user) {
                Some(seat) if self.is_room(seat.channel) => {
                    self.seats.insert(user, seat.clone());
                }
                _ => {
                    self.seats.remove(&user);
                }
            },
            Subject::Guild => {}
        }
    }

    fn replace(&mut self, state: GuildState) -> Change {
        if !self.known {
            return self.begin(state);
        }
        let mut gaps: BTreeSet<Subject> = state.unreadable.iter().copied().collect();
        // Compared as a whole, before and after. With new permissions and old overwrites, or the other
        // way round, a hidden room could look public for a moment.
        let before = self.clone();
        self.everyone = state.everyone;
        let mut kept: BTreeSet<ChannelId> = BTreeSet::new();
        let mut in_voice: BTreeSet<UserId> = BTreeSet::new();
        for gap in &gaps {
            match gap {
                Subject::Channel(id) => {
                    kept.insert(*id);
                    if let Some(channel) = self.channels.get_mut(id) {
                        // Its overwrites may have changed, so it is hidden until they are known.
                        channel.overwrite = Overwrite::Deny;
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
        for voice in state.voices {
            in_voice.insert(voice.user_id);
            gaps.extend(self.set_voice(voice).gaps);
        }
        self.seats.retain(|user, _| in_voice.contains(user));
        let gone: Vec<ChannelId> = self
            .channels
            .keys()
            .filter(|channel| !kept.contains(channel))
            .copied()
            .collect();
        for channel in gone {
            self.delete_channel(channel);
        }
        Change {
            facts: diff(&before, self),
            gaps: gaps.into_iter().collect(),
            began: false,
        }
    }

    /// Takes the guild's first whole state.
    fn begin(&mut self, state: GuildState) -> Change {
        self.known = true;
        self.everyone = state.everyone;
        let mut gaps: BTreeSet<Subject> = state.unreadable.into_iter().collect();
        for channel in state.channels {
            self.put_channel(channel);
        }
        for voice in state.voices {
            gaps.extend(self.set_voice(voice).gaps);
        }
        Change {
            facts: Vec::new(),
            gaps: gaps.into_iter().collect(),
            began: true,
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
        let before = self.clone();
        let channels: Vec<ChannelId> = self.channels.keys().copied().collect();
        for channel in channels {
            self.delete_channel(channel);
        }
        Change::facts(diff(&before, self))
    }

    fn add_tombstone(&mut self, channel: ChannelId) {
        if self.setting.tombstones_max == 0 {
            return;
        }
        if self.tombstones.len() >= self.setting.tombstones_max {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back(channel);
    }

    fn on_created(&mut self, channel: Channel) -> Change {
        let id = channel.id;
        match self.channels.get(&id) {
            Some(known) if *known == channel => Change::default(),
            // A repeat, or a creation that differs: only REST can decide.
            Some(_) => Change::gap(Subject::Channel(id)),
            None if self.tombstones.contains(&id) => Change::gap(Subject::Channel(id)),
            None => Change::facts(self.put_channel(channel)),
        }
    }

    fn on_updated(&mut self, channel: Channel) -> Change {
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

    fn set_voice(&mut self, state: VoiceState) -> Change {
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
        self.seats.insert(user, seat.clone());
        Change::facts(self.voice_facts(user, before.as_ref(), &seat))
    }

    fn leave(&mut self, user: UserId) -> Option<Fact> {
        let seat = self.seats.remove(&user)?;
        Some(Fact::VoiceLeft(self.voice(user, &seat)))
    }
}

#[cfg(test)]
mod tests;
