//! From a dispatch's name and text to a [`Dispatch`].

use std::collections::BTreeMap;

use proto::chain::NAME_BYTES_MAX;
use proto::{GuildId, UserId};
use serde_json::Value;

use super::fields::{bits, id};
use super::objects::{channel, everyone_of, may, profile, voice_state};
use super::{Channel, Dispatch, GuildState, Profile, Read, Redaction, SessionStart, Subject};

/// Dispatches that are read.
pub(super) const READ: &[&str] = &[
    "READY",
    "RESUMED",
    "GUILD_CREATE",
    "GUILD_UPDATE",
    "GUILD_DELETE",
    "GUILD_ROLE_CREATE",
    "GUILD_ROLE_UPDATE",
    "CHANNEL_CREATE",
    "CHANNEL_UPDATE",
    "CHANNEL_DELETE",
    "VOICE_STATE_UPDATE",
];

/// Dispatches that are known and ignored. @everyone cannot be deleted, so GUILD_ROLE_DELETE is one of
/// them.
const IGNORED: &[&str] = &[
    "GUILD_ROLE_DELETE",
    "VOICE_CHANNEL_STATUS_UPDATE",
    "VOICE_CHANNEL_START_TIME_UPDATE",
    "VOICE_CHANNEL_EFFECT_SEND",
    "VOICE_SERVER_UPDATE",
    "CHANNEL_INFO",
    "CHANNEL_PINS_UPDATE",
    "THREAD_CREATE",
    "THREAD_UPDATE",
    "THREAD_DELETE",
    "THREAD_LIST_SYNC",
    "THREAD_MEMBER_UPDATE",
    "THREAD_MEMBERS_UPDATE",
    "STAGE_INSTANCE_CREATE",
    "STAGE_INSTANCE_UPDATE",
    "STAGE_INSTANCE_DELETE",
    "GUILD_MEMBER_UPDATE",
    "INTERACTION_CREATE",
    "USER_UPDATE",
];

/// The label under which a dispatch is counted: its name if it is one of a fixed set, else `other`.
pub fn label(name: &str) -> &'static str {
    READ.iter()
        .chain(IGNORED)
        .find(|known| **known == name)
        .copied()
        .unwrap_or("other")
}

/// Reads a dispatch: its name (`t`) and the text of its data (`d`).
pub fn read(name: &str, data: &str) -> Read {
    if !READ.contains(&name) {
        return Read::Ignored;
    }
    let data: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let guild = guild_of(name, &data);
    let known = match name {
        "READY" => ready(&data),
        "RESUMED" => Ok(Some(Dispatch::Resumed)),
        "GUILD_CREATE" => guild_created(&data).map(Some),
        "GUILD_UPDATE" => guild_updated(&data),
        "GUILD_DELETE" => guild_deleted(&data),
        "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE" => role_changed(&data),
        "CHANNEL_CREATE" => channel_of(&data, guild, Dispatch::ChannelCreated),
        "CHANNEL_UPDATE" => channel_of(&data, guild, Dispatch::ChannelUpdated),
        "CHANNEL_DELETE" => match (guild, id(data.get("id"))) {
            (Some(guild), Some(channel)) => Ok(Some(Dispatch::ChannelDeleted(guild, channel))),
            _ => Err(Subject::Guild),
        },
        _ => match (guild, voice_state(&data)) {
            (Some(guild), Ok(state)) => Ok(Some(Dispatch::VoiceChanged(guild, state))),
            (None, Ok(state)) => Err(Subject::Voice(state.user_id)),
            (_, Err(Some(user))) => Err(Subject::Voice(user)),
            (_, Err(None)) => Err(Subject::Guild),
        },
    };
    match known {
        Ok(Some(dispatch)) => Read::Known(dispatch),
        Ok(None) => Read::Ignored,
        Err(subject) => Read::Unreadable {
            guild,
            subject,
            redaction: redaction(name, &data),
        },
    }
}

type Outcome = Result<Option<Dispatch>, Subject>;

fn guild_of(name: &str, data: &Value) -> Option<GuildId> {
    match name {
        "GUILD_CREATE" | "GUILD_UPDATE" | "GUILD_DELETE" => id(data.get("id")),
        _ => id(data.get("guild_id")),
    }
}

/// What an unreadable dispatch may have hidden. A new channel was shown to nobody yet.
fn redaction(name: &str, data: &Value) -> Redaction {
    match name {
        "GUILD_CREATE" => Redaction::Everything,
        "GUILD_UPDATE" | "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE" => Redaction::Role,
        "CHANNEL_UPDATE" => id(data.get("id")).map_or(Redaction::Channels, Redaction::Channel),
        _ => Redaction::Nothing,
    }
}

fn ready(data: &Value) -> Outcome {
    let guilds = data
        .get("guilds")
        .and_then(Value::as_array)
        .ok_or(Subject::Guild)?;
    // A guild whose id cannot be read here could not be distinguished from one that was removed.
    let guilds = guilds
        .iter()
        .map(|guild| id(guild.get("id")).ok_or(Subject::Guild))
        .collect::<Result<_, _>>()?;
    let resume_url = data
        .get("resume_gateway_url")
        .and_then(Value::as_str)
        .filter(|url| url.len() <= NAME_BYTES_MAX)
        .map(str::to_owned);
    Ok(Some(Dispatch::Ready(SessionStart { guilds, resume_url })))
}

fn guild_created(data: &Value) -> Result<Dispatch, Subject> {
    let guild_id: GuildId = id(data.get("id")).ok_or(Subject::Guild)?;
    if data.get("unavailable").and_then(Value::as_bool) == Some(true) {
        return Ok(Dispatch::GuildUnavailable(guild_id));
    }
    let list = |field: &str| {
        data.get(field)
            .and_then(Value::as_array)
            .ok_or(Subject::Guild)
    };
    let everyone = everyone_of(list("roles")?, guild_id).ok_or(Subject::Guild)?;
    let mut unreadable = Vec::new();
    let mut channels = Vec::new();
    for found in list("channels")? {
        match channel(found, guild_id) {
            Ok(channel) if channel.kind.is_some() => channels.push(channel),
            Ok(_) => {}
            Err(Some(channel)) => unreadable.push(Subject::Channel(channel)),
            Err(None) => return Err(Subject::Guild),
        }
    }
    let profiles: BTreeMap<UserId, Profile> = data
        .get("members")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|member| Some((id(member.get("user")?.get("id"))?, profile(member)?)))
        .collect();
    let mut voices = Vec::new();
    for found in list("voice_states")? {
        match voice_state(found) {
            Ok(mut state) => {
                if state.profile.is_none() {
                    state.profile = profiles.get(&state.user_id).cloned();
                }
                voices.push(state);
            }
            Err(Some(user)) => unreadable.push(Subject::Voice(user)),
            Err(None) => return Err(Subject::Guild),
        }
    }
    Ok(Dispatch::GuildCreated(GuildState {
        guild_id,
        everyone,
        channels,
        voices,
        unreadable,
    }))
}

fn guild_updated(data: &Value) -> Outcome {
    let guild: GuildId = id(data.get("id")).ok_or(Subject::Guild)?;
    match data.get("roles").and_then(Value::as_array) {
        None => Ok(None),
        Some(roles) => match everyone_of(roles, guild) {
            Some(everyone) => Ok(Some(Dispatch::EveryoneChanged(guild, everyone))),
            None => Err(Subject::Guild),
        },
    }
}

fn guild_deleted(data: &Value) -> Outcome {
    let guild = id(data.get("id")).ok_or(Subject::Guild)?;
    match data.get("unavailable") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(Some(Dispatch::GuildRemoved(guild))),
        Some(Value::Bool(true)) => Ok(Some(Dispatch::GuildUnavailable(guild))),
        Some(_) => Err(Subject::Guild),
    }
}

fn role_changed(data: &Value) -> Outcome {
    let guild: GuildId = id(data.get("guild_id")).ok_or(Subject::Guild)?;
    let role = data.get("role").ok_or(Subject::Guild)?;
    let role_id: GuildId = id(role.get("id")).ok_or(Subject::Guild)?;
    if role_id != guild {
        return Ok(None);
    }
    match bits(role.get("permissions")) {
        Some(permissions) => Ok(Some(Dispatch::EveryoneChanged(guild, may(permissions)))),
        None => Err(Subject::Guild),
    }
}

fn channel_of(
    data: &Value,
    guild: Option<GuildId>,
    dispatch: fn(GuildId, Channel) -> Dispatch,
) -> Outcome {
    let Some(guild) = guild else {
        return Err(Subject::Guild);
    };
    match channel(data, guild) {
        Ok(channel) => Ok(Some(dispatch(guild, channel))),
        Err(Some(channel)) => Err(Subject::Channel(channel)),
        Err(None) => Err(Subject::Guild),
    }
}
