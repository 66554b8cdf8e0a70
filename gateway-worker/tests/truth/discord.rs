//! The simulator's truth as Discord dispatches it, with every fault that Discord's rules allow.

#![expect(clippy::unwrap_used, reason = "a test's own world may fall over")]

use std::collections::BTreeMap;

use discord_sim::snowflake::Id;
use discord_sim::state::{
    Change, Channel, ChannelKind, DiscordState, Guild, LOUNGE, Overwrite, OverwriteKind, Role,
    STAFF_ROOM, Transition, VoiceChange, guild_id,
};
use gateway_worker::dispatch::{self, Subject};
use gateway_worker::feed::{ChannelFinding, Finding, Question};
use proptest::prelude::*;
use proto::event::{Audience, Member, Overwrite as Said, Room, RoomKind, Voice, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};
use serde_json::{Value, json};

const VIEW: u64 = 1 << 10;
const ADMINISTRATOR: u64 = 1 << 3;

/// What happens next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Wish {
    Voice {
        user: u64,
        room: usize,
        flags: u8,
    },
    Leave {
        user: u64,
    },
    CreateRoom {
        stage: bool,
        hidden: bool,
    },
    ChangeRoom {
        room: usize,
        name: bool,
        hidden: bool,
    },
    DeleteRoom {
        room: usize,
    },
    Everyone {
        permissions: u64,
    },
    /// The last dispatches come again, as they were.
    Repeat {
        count: usize,
    },
    /// The current state is dispatched again, under new sequence numbers.
    DispatchAgain,
    /// A deleted channel is updated.
    LateUpdate,
    /// Two dispatches change places.
    Swap,
    /// The next change is dispatched in a form that cannot be read.
    Garble,
    /// The next change is not dispatched at all. A new gateway session follows it.
    Miss,
    /// A new gateway session.
    Identify,
    Outage,
    /// The worker asks, and gets the answer when it asks the next time.
    Ask,
    /// The worker gets its answers.
    CatchUp,
}

pub(crate) fn wishes() -> impl Strategy<Value = Wish> {
    let room = 0..100_usize;
    prop_oneof![
        6 => (1..6_u64, room.clone(), any::<u8>()).prop_map(|(user, room, flags)| Wish::Voice { user, room, flags }),
        2 => (1..6_u64).prop_map(|user| Wish::Leave { user }),
        1 => any::<(bool, bool)>().prop_map(|(stage, hidden)| Wish::CreateRoom { stage, hidden }),
        2 => (room.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(room, name, hidden)| Wish::ChangeRoom { room, name, hidden }),
        2 => room.prop_map(|room| Wish::DeleteRoom { room }),
        1 => prop_oneof![Just(0), Just(VIEW), Just(ADMINISTRATOR), Just(VIEW | 1)]
            .prop_map(|permissions| Wish::Everyone { permissions }),
        1 => (1..5_usize).prop_map(|count| Wish::Repeat { count }),
        1 => Just(Wish::DispatchAgain),
        1 => Just(Wish::LateUpdate),
        1 => Just(Wish::Swap),
        3 => Just(Wish::Garble),
        1 => Just(Wish::Miss),
        1 => Just(Wish::Identify),
        1 => Just(Wish::Outage),
        3 => Just(Wish::Ask),
        1 => Just(Wish::CatchUp),
    ]
}

/// One dispatch.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) session: String,
    pub(crate) sequence: u64,
    pub(crate) name: &'static str,
    pub(crate) data: String,
}

#[derive(Clone, Copy, PartialEq)]
enum NextDispatch {
    Plain,
    Garbled,
    Missed,
}

pub(crate) struct Discord {
    truth: DiscordState,
    sessions: u64,
    sequence: u64,
    sent: Vec<Sent>,
    deleted: Vec<Channel>,
    held: Option<Sent>,
    swap: bool,
    next: NextDispatch,
    now: u64,
}

pub(crate) fn guild() -> GuildId {
    guild_id(0).to_string().parse().unwrap()
}

impl Discord {
    pub(crate) fn new() -> Self {
        Self {
            truth: DiscordState::seeded(1, 1, 1_000, 100),
            sessions: 0,
            sequence: 0,
            sent: Vec::new(),
            deleted: Vec::new(),
            held: None,
            swap: false,
            next: NextDispatch::Plain,
            now: 1_700_000_000_000,
        }
    }

    pub(crate) fn session(&self) -> String {
        format!("session{}", self.sessions)
    }

    /// The dispatch that another one has overtaken.
    pub(crate) fn take_held(&mut self) -> Option<Sent> {
        self.held.take()
    }

    /// The dispatches after this sequence, in order, as a resumed session receives them. None if the
    /// session is not the newest one.
    pub(crate) fn resume(&mut self, session: &str, behind: u64) -> Option<Vec<Sent>> {
        if session != self.session() {
            return None;
        }
        self.held = None;
        self.swap = false;
        self.send("RESUMED", &json!({}));
        let mut missed: Vec<Sent> = self
            .sent
            .iter()
            .filter(|sent| sent.sequence > behind)
            .cloned()
            .collect();
        missed.sort_by_key(|sent| sent.sequence);
        Some(missed)
    }

    pub(crate) fn identify(&mut self) -> Vec<Sent> {
        self.sessions += 1;
        self.sequence = 0;
        self.sent.clear();
        self.held = None;
        self.swap = false;
        self.next = NextDispatch::Plain;
        let mut sent = vec![self.send(
            "READY",
            &json!({"guilds": [{"id": guild(), "unavailable": true}]}),
        )];
        let whole = self.guild_create();
        sent.push(if self.here().unavailable {
            self.send("GUILD_DELETE", &json!({"id": guild(), "unavailable": true}))
        } else {
            self.send("GUILD_CREATE", &whole)
        });
        sent
    }

    pub(crate) fn end_outage(&mut self) -> Vec<Sent> {
        let mut sent: Vec<Sent> = self.held.take().into_iter().collect();
        self.swap = false;
        if self.here().unavailable {
            let made = self.truth.set_outage(guild_id(0), false, self.now);
            sent.extend(self.dispatch(made.unwrap_or_default()));
        }
        if self.next == NextDispatch::Missed {
            sent.extend(self.identify());
        }
        sent.extend(self.held.take());
        sent
    }

    pub(crate) fn grant(&mut self, wish: &Wish) -> Vec<Sent> {
        self.now += 1_000;
        let (id, now) = (guild_id(0), self.now);
        let made = match *wish {
            Wish::Voice { user, room, flags } => {
                let channel = self.room(room);
                let Some(channel) = channel else {
                    return Vec::new();
                };
                let bit = |n: u8| Some(flags & (1 << n) != 0);
                let change = VoiceChange {
                    channel: Some(Some(channel)),
                    mute: bit(0),
                    deaf: bit(1),
                    self_mute: bit(2),
                    self_deaf: bit(3),
                    self_video: bit(4),
                    self_stream: bit(5),
                    suppress: bit(6),
                };
                self.truth
                    .voice(id, Id::new(200_000_000_000_000_000 + user), change, now)
            }
            Wish::Leave { user } => {
                let change = VoiceChange {
                    channel: Some(None),
                    ..VoiceChange::default()
                };
                self.truth
                    .voice(id, Id::new(200_000_000_000_000_000 + user), change, now)
            }
            Wish::CreateRoom { stage, hidden } => {
                let kind = if stage {
                    ChannelKind::Stage
                } else {
                    ChannelKind::Voice
                };
                let mut channel = Channel::new(Id::new(LOUNGE), kind, "made");
                hide(&mut channel, hidden);
                self.truth.create_channel(id, channel, now)
            }
            Wish::ChangeRoom { room, name, hidden } => {
                let Some(channel) = self
                    .room(room)
                    .and_then(|room| self.here().channels.get(&room).cloned())
                else {
                    return Vec::new();
                };
                let mut channel = channel;
                channel.name = if name { "one" } else { "two" }.to_owned();
                hide(&mut channel, hidden);
                self.truth.update_channel(channel, now)
            }
            Wish::DeleteRoom { room } => {
                // Some rooms stay, so that there is always somewhere to go.
                let Some(room) = self
                    .room(room)
                    .filter(|room| room.get() != STAFF_ROOM && room.get() != LOUNGE)
                else {
                    return Vec::new();
                };
                self.truth.delete_channel(room, now)
            }
            Wish::Everyone { permissions } => {
                let role = Role {
                    permissions,
                    ..self.here().roles[&id].clone()
                };
                self.truth.set_role(id, role, now)
            }
            Wish::Outage => {
                let over = self.here().unavailable;
                self.truth.set_outage(id, !over, now)
            }
            Wish::Repeat { count } => {
                let from = self.sent.len().saturating_sub(count);
                return self.sent[from..].to_vec();
            }
            Wish::DispatchAgain => return self.dispatch_again(),
            Wish::LateUpdate => {
                let Some(channel) = self.deleted.last() else {
                    return Vec::new();
                };
                let data = channel_json(channel, true);
                if self.here().unavailable {
                    return Vec::new();
                }
                return vec![self.send("CHANNEL_UPDATE", &data)];
            }
            Wish::Swap => {
                self.swap = true;
                return Vec::new();
            }
            Wish::Garble => {
                self.next = NextDispatch::Garbled;
                return Vec::new();
            }
            Wish::Miss => {
                self.next = NextDispatch::Missed;
                return Vec::new();
            }
            Wish::Identify => return self.identify(),
            Wish::Ask | Wish::CatchUp => return Vec::new(),
        };
        let sent = self.dispatch(made.unwrap_or_default());
        self.swapped(sent)
    }

    /// What REST answers, at this moment.
    pub(crate) fn answer(&self, question: Question) -> Finding {
        let here = self.here();
        let channel = |id: ChannelId| match here.channels.get(&Id::new(id.get())) {
            None => ChannelFinding::Gone(id),
            Some(channel) => {
                let json = channel_json(channel, true).to_string();
                ChannelFinding::There(dispatch::read_channel(json.as_bytes(), guild()).unwrap())
            }
        };
        match question.subject {
            Subject::Guild => Finding::Unknown,
            Subject::Channel(id) => Finding::Channel(channel(id)),
            Subject::Voice(user) => {
                let id = Id::new(user.get());
                let Some(voice) = here.voice.get(&id) else {
                    return Finding::Voice(None);
                };
                let json = self.voice_json(id, Some(voice)).to_string();
                let state = dispatch::read_voice_state(json.as_bytes()).unwrap();
                Finding::Voice(Some(state))
            }
        }
    }

    pub(crate) fn rooms(&self) -> Vec<Room> {
        let everyone = self.here().roles[&guild_id(0)].permissions;
        self.here()
            .channels
            .values()
            .filter_map(|channel| {
                let kind = match channel.kind {
                    ChannelKind::Voice => RoomKind::Voice,
                    ChannelKind::Stage => RoomKind::Stage,
                    ChannelKind::Category => RoomKind::Category,
                    ChannelKind::Text => return None,
                };
                let overwrite = channel.overwrites.get(&guild_id(0));
                let said = match overwrite {
                    Some(overwrite) if overwrite.allow & VIEW != 0 => Said::Allow,
                    Some(overwrite) if overwrite.deny & VIEW != 0 => Said::Deny,
                    _ => Said::None,
                };
                let mut may = everyone & VIEW != 0;
                if overwrite.is_some_and(|overwrite| overwrite.deny & VIEW != 0) {
                    may = false;
                }
                if overwrite.is_some_and(|overwrite| overwrite.allow & VIEW != 0) {
                    may = true;
                }
                if everyone & ADMINISTRATOR != 0 {
                    may = true;
                }
                Some(Room {
                    guild_id: guild(),
                    channel_id: channel_id(channel.id),
                    name: channel.name.clone(),
                    parent_id: channel.parent_id.map(channel_id),
                    user_limit: channel.user_limit,
                    kind,
                    audience: if may {
                        Audience::Everyone
                    } else {
                        Audience::Restricted
                    },
                    overwrite: said,
                })
            })
            .collect()
    }

    pub(crate) fn voices(&self) -> Vec<Voice> {
        self.here()
            .voice
            .iter()
            .map(|(id, voice)| {
                let who = &self.truth.users[id];
                let flags = voice.flags;
                Voice {
                    guild_id: guild(),
                    channel_id: channel_id(voice.channel),
                    user_id: id.to_string().parse::<UserId>().unwrap(),
                    member: Some(Member {
                        display_name: who
                            .global_name
                            .clone()
                            .unwrap_or_else(|| who.username.clone()),
                        avatar_url: match &who.avatar {
                            Some(hash) => format!("https://cdn/avatars/{id}/{hash}.png"),
                            // The simulator's bots are all #4242.
                            None if who.bot => "https://cdn/embed/avatars/2.png".to_owned(),
                            None => {
                                format!("https://cdn/embed/avatars/{}.png", (id.get() >> 22) % 6)
                            }
                        },
                    }),
                    flags: VoiceFlags {
                        mute: flags.mute,
                        deaf: flags.deaf,
                        self_mute: flags.self_mute,
                        self_deaf: flags.self_deaf,
                        self_video: flags.self_video,
                        self_stream: flags.self_stream,
                        suppress: flags.suppress,
                    },
                    moved_to: None,
                    moved_from: None,
                }
            })
            .collect()
    }

    fn here(&self) -> &Guild {
        &self.truth.guilds[&guild_id(0)]
    }

    fn room(&self, index: usize) -> Option<Id> {
        let rooms: Vec<Id> = self
            .here()
            .channels
            .values()
            .filter(|channel| channel.kind.is_voice())
            .map(|channel| channel.id)
            .collect();
        (!rooms.is_empty()).then(|| rooms[index % rooms.len()])
    }

    fn send(&mut self, name: &'static str, data: &Value) -> Sent {
        self.sequence += 1;
        let sent = Sent {
            session: self.session(),
            sequence: self.sequence,
            name,
            data: data.to_string(),
        };
        self.sent.push(sent.clone());
        sent
    }

    /// Dispatches a change. Discord dispatches nothing about a guild in an outage.
    fn dispatch(&mut self, made: Vec<Transition>) -> Vec<Sent> {
        let mut sent = Vec::new();
        for transition in made {
            if let Change::ChannelDeleted(channel) = &transition.change {
                self.deleted.push(channel.as_ref().clone());
            }
            let outage = matches!(transition.change, Change::Unavailable | Change::Available);
            if (self.here().unavailable && !outage) || self.next == NextDispatch::Missed {
                continue;
            }
            let Some((name, mut data)) = self.dispatch_of(&transition.change) else {
                continue;
            };
            if self.next == NextDispatch::Garbled {
                for field in [
                    "channel_id",
                    "permission_overwrites",
                    "role",
                    "roles",
                    "voice_states",
                ] {
                    if data.get(field).is_some() {
                        data[field] = json!({"odd": true});
                    }
                }
                self.next = NextDispatch::Plain;
            }
            sent.push(self.send(name, &data));
        }
        if self.next == NextDispatch::Missed {
            return self.identify();
        }
        sent
    }

    fn dispatch_of(&self, change: &Change) -> Option<(&'static str, Value)> {
        Some(match change {
            Change::Voice { user, after, .. } => {
                ("VOICE_STATE_UPDATE", self.voice_json(*user, after.as_ref()))
            }
            Change::ChannelCreated(channel) => ("CHANNEL_CREATE", channel_json(channel, true)),
            Change::ChannelUpdated(channel) => ("CHANNEL_UPDATE", channel_json(channel, true)),
            Change::ChannelDeleted(channel) => ("CHANNEL_DELETE", channel_json(channel, true)),
            Change::ChannelStatus { channel, .. } | Change::ChannelStart { channel, .. } => (
                "VOICE_CHANNEL_STATUS_UPDATE",
                json!({"id": channel, "guild_id": guild(), "status": null}),
            ),
            Change::RoleCreated(role) => (
                "GUILD_ROLE_CREATE",
                json!({"guild_id": guild(), "role": role_json(role)}),
            ),
            Change::RoleUpdated(role) => (
                "GUILD_ROLE_UPDATE",
                json!({"guild_id": guild(), "role": role_json(role)}),
            ),
            Change::RoleDeleted(role) => (
                "GUILD_ROLE_DELETE",
                json!({"guild_id": guild(), "role_id": role}),
            ),
            Change::GuildUpdated => ("GUILD_UPDATE", json!({"id": guild()})),
            Change::MemberAdded(_) | Change::MemberUpdated(_) => return None,
            Change::Unavailable => ("GUILD_DELETE", json!({"id": guild(), "unavailable": true})),
            Change::Available => ("GUILD_CREATE", self.guild_create()),
        })
    }

    /// Holds one dispatch back until another has overtaken it.
    fn swapped(&mut self, mut sent: Vec<Sent>) -> Vec<Sent> {
        if let Some(held) = self.held.take() {
            sent.push(held);
        } else if self.swap && sent.len() == 1 {
            self.swap = false;
            self.held = sent.pop();
        }
        sent
    }

    fn dispatch_again(&mut self) -> Vec<Sent> {
        if self.here().unavailable || self.held.is_some() {
            return Vec::new();
        }
        let mut all: Vec<(&'static str, Value)> = self
            .here()
            .channels
            .values()
            .flat_map(|channel| {
                [
                    ("CHANNEL_CREATE", channel_json(channel, true)),
                    ("CHANNEL_UPDATE", channel_json(channel, true)),
                ]
            })
            .collect();
        all.extend(
            self.here()
                .voice
                .iter()
                .map(|(user, voice)| ("VOICE_STATE_UPDATE", self.voice_json(*user, Some(voice)))),
        );
        all.push(("GUILD_CREATE", self.guild_create()));
        all.push(("SOMETHING_NEW", json!(null)));
        all.into_iter()
            .map(|(name, data)| self.send(name, &data))
            .collect()
    }

    fn guild_create(&self) -> Value {
        let here = self.here();
        let members: Vec<Value> = here
            .voice
            .keys()
            .map(|user| self.member_json(*user))
            .collect();
        let voices: Vec<Value> = here
            .voice
            .iter()
            .map(|(user, voice)| {
                let mut state = self.voice_json(*user, Some(voice));
                let fields = state.as_object_mut().unwrap();
                fields.remove("guild_id");
                fields.remove("member");
                state
            })
            .collect();
        json!({
            "id": guild(),
            "roles": here.roles.values().map(role_json).collect::<Vec<_>>(),
            "channels": here.channels.values().map(|channel| channel_json(channel, false)).collect::<Vec<_>>(),
            "members": members,
            "voice_states": voices,
        })
    }

    fn member_json(&self, user: Id) -> Value {
        let who = &self.truth.users[&user];
        json!({
            "nick": null,
            "user": {"id": user, "username": who.username, "global_name": who.global_name, "avatar": who.avatar},
        })
    }

    fn voice_json(&self, user: Id, voice: Option<&discord_sim::state::Voice>) -> Value {
        let flags = voice.map(|voice| voice.flags).unwrap_or_default();
        json!({
            "guild_id": guild(),
            "user_id": user,
            "channel_id": voice.map(|voice| voice.channel),
            "member": self.member_json(user),
            "mute": flags.mute, "deaf": flags.deaf, "self_mute": flags.self_mute, "self_deaf": flags.self_deaf,
            "self_video": flags.self_video, "self_stream": flags.self_stream, "suppress": flags.suppress,
        })
    }
}

fn channel_id(id: Id) -> ChannelId {
    id.to_string().parse().unwrap()
}

fn hide(channel: &mut Channel, hidden: bool) {
    let id = guild_id(0);
    channel.overwrites = BTreeMap::from([(
        id,
        Overwrite {
            id,
            kind: OverwriteKind::Role,
            allow: if hidden { 0 } else { VIEW },
            deny: if hidden { VIEW } else { 0 },
        },
    )]);
}

fn role_json(role: &Role) -> Value {
    json!({"id": role.id, "permissions": role.permissions.to_string()})
}

fn channel_json(channel: &Channel, whole: bool) -> Value {
    let overwrites: Vec<Value> = channel
        .overwrites
        .values()
        .map(|overwrite| {
            json!({
                "id": overwrite.id,
                "type": 0,
                "allow": overwrite.allow.to_string(),
                "deny": overwrite.deny.to_string(),
            })
        })
        .collect();
    let mut json = json!({
        "id": channel.id,
        "type": channel.kind.number(),
        "name": channel.name,
        "parent_id": channel.parent_id,
        "user_limit": channel.user_limit,
        "permission_overwrites": overwrites,
    });
    if whole {
        json["guild_id"] = json!(guild());
    }
    json
}
