//! One guild's rooms, who may view them, and who is in them. Pure: a dispatch in, facts out.
//!
//! GUILD_CREATE replaces everything and the difference is told as facts, so that nobody who left
//! unseen stays behind as a ghost ([`diff`]). A fact about a room always comes before the first fact
//! about somebody in it. What would have to be guessed is not applied but returned as a [`Subject`]
//! to be asked for. What is told of a roster is all there is to it, so that it can be had back from
//! whoever was told ([`Roster::restore`]).

mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use proto::event::{
    Everyone, Fact, Member, Overwrite, RoomKind, Roster as RosterState, VoiceFlags,
};
use proto::{ChannelId, GuildId, UserId};

use crate::dispatch::{Channel, Dispatch, GuildState, Hides, Subject, VoiceState};

pub use told::diff;

/// One guild as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Roster {
    guild_id: GuildId,
    setting: RosterSetting,
    /// Whether the guild was ever told whole.
    known: bool,
    everyone: Everyone,
    channels: BTreeMap<ChannelId, Channel>,
    seats: BTreeMap<UserId, Seat>,
    /// Channels that were deleted, oldest first: updates of them come late and mean nothing
    /// (discord-api-docs issue 449).
    tombstones: VecDeque<ChannelId>,
}

/// What a roster is told at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RosterSetting {
    /// Where pictures are served, without a slash at its end.
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

    /// A roster as it was told: as [`Roster::snapshot`] made it, or as the facts since have left it.
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
            roster.bury(channel);
        }
        roster
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
            Dispatch::EveryoneChanged(_, everyone) => {
                let before = self.clone();
                self.everyone = everyone;
                return Change::facts(diff(&before, self));
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

    /// What this may have taken away is not known any more, so it is denied to @everyone until it is.
    pub fn hide(&mut self, what: Hides) -> Vec<Fact> {
        let before = self.clone();
        if what.has_role() {
            self.everyone = Everyone::Nothing;
        }
        for (id, channel) in &mut self.channels {
            if what.has_channel(*id) {
                channel.overwrite = Overwrite::Deny;
            }
        }
        diff(&before, self)
    }

    /// Takes the news that a channel is gone: everybody in it has left, then it is deleted.
    pub fn delete_channel(&mut self, id: ChannelId) -> Vec<Fact> {
        if self.channels.remove(&id).is_none() {
            return Vec::new();
        }
        self.bury(id);
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

    /// Takes over what another roster of the guild says of a subject that is being asked for.
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
        // Compared as a whole, before and after: with the new permissions and the old overwrites, or
        // the other way round, a hidden room could look public for a moment.
        let before = self.clone();
        self.everyone = state.everyone;
        let mut kept: BTreeSet<ChannelId> = BTreeSet::new();
        let mut in_voice: BTreeSet<UserId> = BTreeSet::new();
        for gap in &gaps {
            match gap {
                Subject::Channel(id) => {
                    kept.insert(*id);
                    if let Some(channel) = self.channels.get_mut(id) {
                        // Its overwrites are not known, so it is hidden until they are; those that
                        // it had may have been changed unseen.
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
            gaps.extend(self.seat(voice).gaps);
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

    fn bury(&mut self, channel: ChannelId) {
        if self.setting.tombstones_max == 0 {
            return;
        }
        if self.tombstones.len() >= self.setting.tombstones_max {
            self.tombstones.pop_front();
        }
        self.tombstones.push_back(channel);
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
        self.seats.insert(user, seat.clone());
        Change::facts(self.seated(user, before.as_ref(), &seat))
    }

    fn leave(&mut self, user: UserId) -> Option<Fact> {
        let seat = self.seats.remove(&user)?;
        Some(Fact::VoiceLeft(self.voice(user, &seat)))
    }
}

#[cfg(test)]
mod tests;
