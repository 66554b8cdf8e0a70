//! The facts of a roster: a room, a member in one, a snapshot, and the difference of two rosters.

use proto::event::{
    Audience, Everyone, Fact, GuildAccess, Member, Overwrite, Room, RoomGone, RoomKind,
    Roster as RosterState, Voice,
};
use proto::{ChannelId, UserId};

use super::{Roster, Seat};
use crate::dispatch::{Channel, Profile};

impl Roster {
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
            everyone: self.everyone,
            tombstones: self.tombstones.iter().copied().collect(),
        }
    }

    /// The facts about a member whose seat was `before` and is `seat` now.
    pub(super) fn voice_facts(
        &self,
        user: UserId,
        before: Option<&Seat>,
        seat: &Seat,
    ) -> Vec<Fact> {
        let now = self.voice(user, seat);
        match before {
            None => vec![Fact::VoiceJoined(now)],
            Some(before) if before == seat => Vec::new(),
            Some(before) if before.channel == seat.channel => vec![Fact::VoiceStateChanged(now)],
            Some(before) => vec![
                Fact::VoiceLeft(Voice {
                    moved_to: Some(seat.channel),
                    ..self.voice(user, before)
                }),
                Fact::VoiceJoined(Voice {
                    moved_from: Some(before.channel),
                    ..now
                }),
            ],
        }
    }

    pub(super) fn room(&self, channel: &Channel) -> Room {
        Room {
            guild_id: self.guild_id,
            channel_id: channel.id,
            name: channel.name.clone(),
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
            kind: channel.kind.unwrap_or_default(),
            audience: self.audience(channel),
            overwrite: channel.overwrite,
        }
    }

    /// Discord's order (documentation, "Permission Overwrites"): the role's permissions, then the
    /// overwrite. Administrators view everything.
    fn audience(&self, channel: &Channel) -> Audience {
        if channel.obfuscated {
            return Audience::Obfuscated;
        }
        match (self.everyone, channel.overwrite) {
            (Everyone::Administer, _)
            | (_, Overwrite::Allow)
            | (Everyone::View, Overwrite::None) => Audience::Everyone,
            (Everyone::View | Everyone::Nothing, _) => Audience::Restricted,
        }
    }

    /// The channel that [`Roster::room`] makes this room of. If the room's overwrite does not lead to
    /// its audience, the overwrite is chosen to fit.
    pub(super) fn channel_of(&self, room: Room) -> Channel {
        let mut channel = Channel {
            id: room.channel_id,
            kind: Some(room.kind),
            name: room.name,
            parent_id: room.parent_id,
            user_limit: room.user_limit,
            overwrite: room.overwrite,
            obfuscated: room.audience == Audience::Obfuscated,
        };
        if self.audience(&channel) != room.audience {
            channel.overwrite = match room.audience {
                Audience::Everyone => Overwrite::Allow,
                Audience::Restricted | Audience::Obfuscated => Overwrite::Deny,
            };
        }
        channel
    }

    pub(super) fn gone(&self, channel_id: ChannelId) -> Fact {
        Fact::RoomDeleted(RoomGone {
            guild_id: self.guild_id,
            channel_id,
        })
    }

    pub(super) fn voice(&self, user: UserId, seat: &Seat) -> Voice {
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
    pub(super) fn member(&self, user: UserId, profile: Profile) -> Member {
        let (cdn, guild) = (&self.setting.cdn, self.guild_id);
        let avatar_url = match (profile.guild_avatar, profile.user_avatar) {
            (Some(hash), _) => format!("{cdn}/guilds/{guild}/users/{user}/avatars/{hash}.png"),
            (None, Some(hash)) => format!("{cdn}/avatars/{user}/{hash}.png"),
            (None, None) => {
                let index = match profile.discriminator {
                    0 => (user.get() >> 22) % 6,
                    number => u64::from(number % 5),
                };
                format!("{cdn}/embed/avatars/{index}.png")
            }
        };
        Member {
            display_name: profile.display_name,
            avatar_url,
        }
    }
}

/// The facts that lead from `from` to `to`: what @everyone may do, then the rooms, then the members,
/// then the rooms that become visible or are gone. A room is hidden before a member moves in it. It
/// is shown only after the members that it had while hidden have left: its new viewers must not learn
/// of them.
pub fn diff(from: &Roster, to: &Roster) -> Vec<Fact> {
    let mut facts = Vec::new();
    if from.everyone != to.everyone {
        facts.push(Fact::GuildUpdated(GuildAccess {
            guild_id: to.guild_id,
            everyone: to.everyone,
        }));
    }
    // Categories first, so that a room never names an unknown category.
    let mut revealed = Vec::new();
    let mut rooms: Vec<&Channel> = to.channels.values().collect();
    rooms.sort_by_key(|channel| (channel.kind != Some(RoomKind::Category), channel.id));
    for channel in rooms {
        let room = to.room(channel);
        let before = from
            .channels
            .get(&channel.id)
            .map(|channel| from.room(channel));
        match before {
            None => facts.push(Fact::RoomCreated(room)),
            Some(before) if before == room => {}
            Some(before) if reveals(&before, &room) => revealed.push(Fact::RoomUpdated(room)),
            Some(_) => facts.push(Fact::RoomUpdated(room)),
        }
    }
    for (user, seat) in &to.seats {
        facts.extend(to.voice_facts(*user, from.seats.get(user), seat));
    }
    let left = from.seats.iter();
    facts.extend(
        left.filter(|(user, _)| !to.seats.contains_key(user))
            .map(|(user, seat)| Fact::VoiceLeft(from.voice(*user, seat))),
    );
    facts.extend(revealed);
    let gone = from.channels.keys();
    facts.extend(
        gone.filter(|channel| !to.channels.contains_key(channel))
            .map(|channel| to.gone(*channel)),
    );
    facts
}

/// Whether a change may make a room visible: @everyone may view it now. Or it is an owned room, and
/// its channel lost the deny that hid it, or the bot may view it again.
fn reveals(before: &Room, after: &Room) -> bool {
    let is_public = |room: &Room| room.audience == Audience::Everyone;
    let is_denied =
        |room: &Room| room.overwrite == Overwrite::Deny || room.audience == Audience::Obfuscated;
    is_public(after) && !is_public(before)
        || is_denied(before) && !is_denied(after) && !is_public(before)
}
