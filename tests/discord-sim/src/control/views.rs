//! What the control side shows: the state with its counters, and the transitions.

use serde_json::{Map, Value, json};

use super::ControlError;
use crate::snowflake::Id;
use crate::state::{Change, Channel, DiscordState, Role, Transition, Voice};
use crate::{Sim, interactions, render};

/// Transitions in one answer, so that it stays readable; ask again from the last one.
const TRANSITIONS_AT_ONCE: usize = 10_000;

pub(super) fn state(sim: &Sim) -> Value {
    let world = sim.world();
    let guilds: Map<String, Value> = world
        .state
        .guilds
        .values()
        .map(|guild| {
            let channels: Map<String, Value> = guild
                .channels
                .values()
                .map(|channel| {
                    let mut object = describe_channel(channel);
                    object["members"] = guild
                        .voice
                        .iter()
                        .filter(|(_, voice)| voice.channel == channel.id)
                        .map(|(user, voice)| {
                            (
                                user.to_string(),
                                describe_voice(sim_user(&world.state, *user), voice),
                            )
                        })
                        .collect::<Map<_, _>>()
                        .into();
                    (channel.id.to_string(), object)
                })
                .collect();
            let roles: Map<String, Value> = guild
                .roles
                .values()
                .map(|role| (role.id.to_string(), describe_role(role)))
                .collect();
            let object = json!({
                "name": guild.name,
                "unavailable": guild.unavailable,
                "memberCount": guild.members.len(),
                "roles": roles,
                "channels": channels,
            });
            (guild.id.to_string(), object)
        })
        .collect();
    let counts = &world.gateway.counts;
    let closed: Map<String, Value> = counts
        .closed
        .iter()
        .map(|(code, times)| (code.to_string(), (*times).into()))
        .collect();
    let books = sim.rest();
    json!({
        "guilds": guilds,
        "seq": world.state.seq(),
        "counters": {
            "identify": counts.identify,
            "resume": counts.resume,
            "resumed": counts.resumed,
            "heartbeats": counts.heartbeats,
            "dispatches": counts.dispatches,
            "closed": closed,
            "rest": books.counts,
        },
        "publicKey": interactions::public_key(),
        "sessions": world.gateway.describe(),
        "tokenReset": world.gateway.token_reset,
        "auditLog": books.audit.describe(),
        "commands": books.commands.describe(),
        "invites": books.invites.describe(),
        "interactions": sim.interactions().describe(),
    })
}

fn sim_user(state: &DiscordState, id: Id) -> (Option<&str>, Option<&str>) {
    state.users.get(&id).map_or((None, None), |user| {
        (Some(user.username.as_str()), user.global_name.as_deref())
    })
}

fn describe_voice((username, name): (Option<&str>, Option<&str>), voice: &Voice) -> Value {
    let mut object = describe_flags(voice);
    object["username"] = json!(username);
    object["displayName"] = json!(name.or(username));
    object
}

fn describe_flags(voice: &Voice) -> Value {
    let flags = voice.flags;
    json!({
        "mute": flags.mute,
        "deaf": flags.deaf,
        "selfMute": flags.self_mute,
        "selfDeaf": flags.self_deaf,
        "selfVideo": flags.self_video,
        "selfStream": flags.self_stream,
        "suppress": flags.suppress,
    })
}

fn describe_channel(channel: &Channel) -> Value {
    let overwrites: Vec<Value> = channel.overwrites.values().map(render::overwrite).collect();
    json!({
        "name": channel.name,
        "type": channel.kind.number(),
        "position": channel.position,
        "parentId": channel.parent_id,
        "userLimit": channel.user_limit,
        "status": channel.status,
        "overwrites": overwrites,
    })
}

fn describe_role(role: &Role) -> Value {
    json!({"name": role.name, "permissions": role.permissions.to_string(), "position": role.position})
}

/// Reads `since=<number>`; 0 if it is not there.
pub(super) fn since(query: &str) -> Result<u64, ControlError> {
    let mut since = 0;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("since", number)) => since = number.parse().map_err(|_| "since: a number")?,
            _ => return Err("only since=<number> is known".into()),
        }
    }
    Ok(since)
}

pub(super) fn transitions(sim: &Sim, query: &str) -> Result<Value, ControlError> {
    let since = since(query)?;
    let world = sim.world();
    let (first, transitions) = world.state.transitions_since(since);
    let list: Vec<Value> = transitions
        .take(TRANSITIONS_AT_ONCE)
        .map(describe)
        .collect();
    Ok(json!({
        "seq": world.state.seq(),
        // The oldest that is kept: a `since` below `first - 1` has a hole after it.
        "first": first,
        "complete": since.saturating_add(1) >= first,
        "transitions": list,
    }))
}

fn describe(transition: &Transition) -> Value {
    let place = |voice: &Option<Voice>| {
        voice.as_ref().map_or(Value::Null, |voice| {
            let mut object = describe_flags(voice);
            object["channelId"] = json!(voice.channel);
            object
        })
    };
    let of_channel = |kind: &str, channel: &Channel| {
        json!({
            "type": kind, "channelId": channel.id, "channel": describe_channel(channel),
        })
    };
    let mut object = match &transition.change {
        Change::Voice {
            user,
            before,
            after,
        } => {
            json!({"type": "voice", "userId": user, "before": place(before), "after": place(after)})
        }
        Change::ChannelCreated(channel) => of_channel("channel.created", channel),
        Change::ChannelUpdated(channel) => of_channel("channel.updated", channel),
        Change::ChannelDeleted(channel) => of_channel("channel.deleted", channel),
        Change::ChannelStatus { channel, status } => {
            json!({"type": "channel.status", "channelId": channel, "status": status})
        }
        Change::ChannelStart { channel, since_s } => {
            json!({"type": "channel.start", "channelId": channel, "since": since_s})
        }
        Change::RoleCreated(role) => {
            json!({"type": "role.created", "roleId": role.id, "role": describe_role(role)})
        }
        Change::RoleUpdated(role) => {
            json!({"type": "role.updated", "roleId": role.id, "role": describe_role(role)})
        }
        Change::RoleDeleted(role) => json!({"type": "role.deleted", "roleId": role}),
        Change::GuildUpdated => json!({"type": "guild.updated"}),
        Change::MemberAdded(user) => json!({"type": "member.added", "userId": user}),
        Change::MemberUpdated(user) => json!({"type": "member.updated", "userId": user}),
        Change::Unavailable => json!({"type": "guild.unavailable"}),
        Change::Available => json!({"type": "guild.available"}),
    };
    object["seq"] = transition.seq.into();
    object["ts"] = transition.at_ms.into();
    object["guildId"] = json!(transition.guild);
    object
}
