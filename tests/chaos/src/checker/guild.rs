//! A guild as Discord has it, read from the simulator, and what @everyone may see of it by Discord's
//! documented rules ("Permissions").

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::story::{Id, Room, Scene, Seat};

/// Permission bit ADMINISTRATOR.
const ADMINISTRATOR: u64 = 1 << 3;
/// Permission bit VIEW_CHANNEL.
const VIEW_CHANNEL: u64 = 1 << 10;
/// The marks of a voice state, as Roomwire and the simulator name them.
const MARKS: [&str; 7] = [
    "mute",
    "deaf",
    "selfMute",
    "selfDeaf",
    "selfVideo",
    "selfStream",
    "suppress",
];

/// One guild as Discord has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Guild {
    id: Id,
    everyone: u64,
    /// Every channel, shown or not.
    pub(super) channels: BTreeMap<Id, Channel>,
    /// Who sits where, seen or not.
    pub(super) seats: BTreeMap<Id, Seat>,
}

/// One of its channels.
#[derive(Debug, Clone, Default)]
pub(super) struct Channel {
    kind: u64,
    room: Room,
    allow: u64,
    deny: u64,
}

impl Channel {
    /// Voice (2) and stage (13), Discord's "Channel Types".
    pub(super) fn is_room(&self) -> bool {
        matches!(self.kind, 2 | 13)
    }

    fn read(guild_id: &str, described: &Value) -> Self {
        let overwrites = described["overwrites"].as_array().into_iter().flatten();
        let everyone: Vec<&Value> = overwrites.filter(|one| one["id"] == guild_id).collect();
        let sum = |field: &str| everyone.iter().fold(0, |sum, one| sum | bits(&one[field]));
        Self {
            kind: described["type"].as_u64().unwrap_or(0),
            room: Room::read(described),
            allow: sum("allow"),
            deny: sum("deny"),
        }
    }
}

impl Room {
    /// A room as Roomwire's payloads and the simulator's state both write it.
    pub fn read(described: &Value) -> Self {
        Self {
            name: text(&described["name"]),
            parent: described["parentId"].as_str().map(str::to_owned),
            limit: described["userLimit"].as_u64().unwrap_or(0),
        }
    }
}

impl Seat {
    /// A voice state in this room, as Roomwire's payloads and the simulator's state both write it.
    pub fn read(channel: &str, described: &Value) -> Self {
        let bit = |(place, name): (usize, &&str)| {
            u8::from(described[*name].as_bool().unwrap_or(false)) << place
        };
        Self {
            channel: channel.to_owned(),
            marks: MARKS
                .iter()
                .enumerate()
                .map(bit)
                .fold(0, |all, one| all | one),
        }
    }
}

impl Guild {
    /// The guild in the simulator's state.
    pub(super) fn read(id: &str, described: &Value) -> Self {
        let mut guild = Self {
            id: id.to_owned(),
            everyone: bits(&described["roles"][id]["permissions"]),
            ..Self::default()
        };
        for (channel_id, channel) in described["channels"].as_object().into_iter().flatten() {
            for (user, voice) in channel["members"].as_object().into_iter().flatten() {
                guild
                    .seats
                    .insert(user.clone(), Seat::read(channel_id, voice));
            }
            guild
                .channels
                .insert(channel_id.clone(), Channel::read(id, channel));
        }
        guild
    }

    /// Takes a transition in.
    pub(super) fn apply(&mut self, one: &Value) {
        let channel_id = || text(&one["channelId"]);
        match one["type"].as_str().unwrap_or_default() {
            "voice" => {
                let user = text(&one["userId"]);
                match one["after"]["channelId"].as_str() {
                    Some(channel) => {
                        self.seats.insert(user, Seat::read(channel, &one["after"]));
                    }
                    None => {
                        self.seats.remove(&user);
                    }
                }
            }
            "channel.created" | "channel.updated" => {
                self.channels
                    .insert(channel_id(), Channel::read(&self.id, &one["channel"]));
            }
            "channel.deleted" => {
                self.channels.remove(&channel_id());
            }
            "role.created" | "role.updated" if one["roleId"] == self.id.as_str() => {
                self.everyone = bits(&one["role"]["permissions"]);
            }
            _ => {}
        }
    }

    fn shows(&self, channel: &Channel) -> bool {
        channel.is_room()
            && (self.everyone & ADMINISTRATOR != 0
                || ((self.everyone & !channel.deny) | channel.allow) & VIEW_CHANNEL != 0)
    }

    /// What @everyone may see, or only these rooms of it.
    pub(super) fn scene(&self, only: Option<&BTreeSet<Id>>) -> Scene {
        let rooms: BTreeMap<Id, Room> = self
            .channels
            .iter()
            .filter(|(id, channel)| {
                self.shows(channel) && only.is_none_or(|only| only.contains(*id))
            })
            .map(|(id, channel)| (id.clone(), channel.room.clone()))
            .collect();
        let seats = self
            .seats
            .iter()
            .filter(|(_, seat)| rooms.contains_key(&seat.channel))
            .map(|(user, seat)| (user.clone(), seat.clone()))
            .collect();
        Scene { rooms, seats }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Permission bits, which are decimal strings.
fn bits(value: &Value) -> u64 {
    value
        .as_str()
        .and_then(|bits| bits.parse().ok())
        .unwrap_or(0)
}
