//! A guild's rooms and who is in them: as frames show them, and as the simulated Discord has them.
//!
//! Written by `docs/protocol.md` and by Discord's documentation ("Permissions"), without a line of
//! the hub's, the worker's or the SDK's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A decimal id.
pub type Id = String;
/// Room ids, and the users in each room.
pub type Seating = BTreeMap<Id, BTreeSet<Id>>;

/// Permission bit ADMINISTRATOR.
const ADMINISTRATOR: u64 = 1 << 3;
/// Permission bit VIEW_CHANNEL.
const VIEW_CHANNEL: u64 = 1 << 10;
/// The flags of a voice state, as Roomwire and the simulator name them.
const FLAGS: [&str; 7] = [
    "mute",
    "deaf",
    "selfMute",
    "selfDeaf",
    "selfVideo",
    "selfStream",
    "suppress",
];

/// A user's place in a room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat {
    /// The room.
    pub channel: Id,
    /// The seven flags, one bit each.
    pub flags: u8,
}

impl Seat {
    /// A voice state in this room, as Roomwire's payloads and the simulator's state both write it.
    pub fn read(channel: &str, described: &Value) -> Self {
        let bit = |(place, name): (usize, &&str)| {
            u8::from(described[*name].as_bool().unwrap_or(false)) << place
        };
        Self {
            channel: channel.to_owned(),
            flags: FLAGS.iter().enumerate().map(bit).sum(),
        }
    }
}

/// A room without its members.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Room {
    /// Its name.
    pub name: String,
    /// Its category.
    pub parent: Option<Id>,
    /// The number of users that it takes; 0: any number.
    pub limit: u64,
}

impl Room {
    /// A room, as Roomwire's payloads and the simulator's state both write it.
    pub fn read(described: &Value) -> Self {
        Self {
            name: text(&described["name"]),
            parent: described["parentId"].as_str().map(str::to_owned),
            limit: described["userLimit"].as_u64().unwrap_or(0),
        }
    }
}

/// A guild in one view.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Its rooms.
    pub rooms: BTreeMap<Id, Room>,
    /// The users in them.
    pub seats: BTreeMap<Id, Seat>,
}

impl Roster {
    /// The rooms of a snapshot's payload.
    pub fn read(payload: &Value) -> Self {
        let mut roster = Self::default();
        for room in payload["rooms"].as_array().into_iter().flatten() {
            let id = text(&room["channelId"]);
            for member in room["members"].as_array().into_iter().flatten() {
                let seat = Seat::read(&id, member);
                roster.seats.insert(text(&member["userId"]), seat);
            }
            roster.rooms.insert(id, Room::read(room));
        }
        roster
    }

    /// Who is in which room, without names and flags.
    pub fn seating(&self) -> Seating {
        let empty = self.rooms.keys().map(|id| (id.clone(), BTreeSet::new()));
        let mut seating: Seating = empty.collect();
        for (user, seat) in &self.seats {
            let room = seating.entry(seat.channel.clone()).or_default();
            room.insert(user.clone());
        }
        seating
    }
}

/// A guild as Discord has it, read from the simulator.
#[derive(Debug, Clone, Default)]
pub struct Guild {
    id: Id,
    everyone: u64,
    /// Every channel, shown or not.
    pub channels: BTreeMap<Id, Channel>,
    /// Every user in a channel, shown or not.
    pub seats: BTreeMap<Id, Seat>,
}

/// One of its channels.
#[derive(Debug, Clone, Default)]
pub struct Channel {
    kind: u64,
    room: Room,
    allow: u64,
    deny: u64,
}

impl Channel {
    /// Voice (2) and stage (13), Discord's "Channel Types".
    pub fn is_room(&self) -> bool {
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

impl Guild {
    /// A guild of the simulator's state.
    pub fn read(id: &str, state: &Value) -> Self {
        let described = &state["guilds"][id];
        let mut guild = Self {
            id: id.to_owned(),
            everyone: bits(&described["roles"][id]["permissions"]),
            ..Self::default()
        };
        for (channel_id, channel) in described["channels"].as_object().into_iter().flatten() {
            for (user, voice) in channel["members"].as_object().into_iter().flatten() {
                let seat = Seat::read(channel_id, voice);
                guild.seats.insert(user.clone(), seat);
            }
            let channel = Channel::read(id, channel);
            guild.channels.insert(channel_id.clone(), channel);
        }
        guild
    }

    /// Applies a transition of the simulator.
    pub fn apply(&mut self, one: &Value) {
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

    /// The view of @everyone, or only these rooms of it.
    pub fn roster(&self, only: Option<&BTreeSet<Id>>) -> Roster {
        let shown = |id: &Id, channel: &Channel| {
            self.shows(channel) && only.is_none_or(|only| only.contains(id))
        };
        let rooms: BTreeMap<Id, Room> = self
            .channels
            .iter()
            .filter(|(id, channel)| shown(id, channel))
            .map(|(id, channel)| (id.clone(), channel.room.clone()))
            .collect();
        let seats = self
            .seats
            .iter()
            .filter(|(_, seat)| rooms.contains_key(&seat.channel))
            .map(|(user, seat)| (user.clone(), seat.clone()))
            .collect();
        Roster { rooms, seats }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Permission bits, which are decimal strings.
fn bits(value: &Value) -> u64 {
    let bits = value.as_str().and_then(|bits| bits.parse().ok());
    bits.unwrap_or(0)
}
