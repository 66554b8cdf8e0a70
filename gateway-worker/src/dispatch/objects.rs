//! The objects that dispatches, and answers over REST, are made of.

use proto::event::{Everyone, Overwrite, RoomKind, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};
use serde_json::Value;

use super::fields::{bits, id, number, optional_id};
use super::{Channel, Profile, VoiceState};

/// Channel flag of a channel that the bot may not view (announced for November 2026).
const OBFUSCATED_FLAG: u64 = 1 << 17;
/// The name that such a channel comes with. It never goes further than this file.
const OBFUSCATED_NAME: &str = "___hidden___";
/// Permission bit ADMINISTRATOR (Discord's documentation, "Permissions").
const ADMINISTRATOR: u128 = 1 << 3;
/// Permission bit VIEW_CHANNEL.
const VIEW_CHANNEL: u128 = 1 << 10;
/// The longest hash of a picture that is accepted, in bytes; Discord's have 32 or 34.
const HASH_BYTES_MAX: usize = 64;

/// Reads what `GET /channels/{id}` answers, for a channel of this guild.
pub fn read_channel(data: &[u8], guild: GuildId) -> Option<Channel> {
    let data: Value = serde_json::from_slice(data).ok()?;
    channel(&data, guild).ok()
}

/// Reads what `GET /guilds/{g}/voice-states/{user}` answers.
pub fn read_voice_state(data: &[u8]) -> Option<VoiceState> {
    let data: Value = serde_json::from_slice(data).ok()?;
    voice_state(&data).ok()
}

/// @everyone is the role that has the guild's id.
pub(super) fn everyone_of(roles: &[Value], guild: GuildId) -> Option<Everyone> {
    let everyone = roles
        .iter()
        .find(|role| id::<GuildId>(role.get("id")) == Some(guild))?;
    bits(everyone.get("permissions")).map(may)
}

/// What matters here of a role's permissions.
pub(super) fn may(permissions: u128) -> Everyone {
    if permissions & ADMINISTRATOR != 0 {
        Everyone::Administer
    } else if permissions & VIEW_CHANNEL != 0 {
        Everyone::View
    } else {
        Everyone::Nothing
    }
}

/// Discord applies the denied bits first, then the allowed ones (its documentation, "Permission
/// Overwrites").
fn overwrite_of(allow: u128, deny: u128) -> Overwrite {
    if allow & VIEW_CHANNEL != 0 {
        Overwrite::Allow
    } else if deny & VIEW_CHANNEL != 0 {
        Overwrite::Deny
    } else {
        Overwrite::None
    }
}

/// On failure: the channel's id, if at least that can be read.
pub(super) fn channel(data: &Value, guild: GuildId) -> Result<Channel, Option<ChannelId>> {
    let id_here: ChannelId = id(data.get("id")).ok_or(None)?;
    let needed = Some(id_here);
    let kind = match number(data.get("type")).ok_or(needed)? {
        2 => Some(RoomKind::Voice),
        4 => Some(RoomKind::Category),
        13 => Some(RoomKind::Stage),
        _ => None,
    };
    let mut channel = Channel {
        id: id_here,
        kind,
        ..Channel::hidden(id_here)
    };
    if kind.is_none() {
        channel.obfuscated = false;
        return Ok(channel);
    }
    channel.parent_id = optional_id(data.get("parent_id")).map_err(|()| needed)?;
    channel.user_limit = match data.get("user_limit") {
        None | Some(Value::Null) => 0,
        limit => number(limit)
            .and_then(|limit| u32::try_from(limit).ok())
            .ok_or(needed)?,
    };
    let name = data.get("name").and_then(Value::as_str).ok_or(needed)?;
    let flags = number(data.get("flags")).unwrap_or(0);
    channel.obfuscated = flags & OBFUSCATED_FLAG != 0 || name == OBFUSCATED_NAME;
    if channel.obfuscated {
        return Ok(channel);
    }
    name.clone_into(&mut channel.name);
    // Needed: without its overwrites a staff room would look public.
    let overwrites = data
        .get("permission_overwrites")
        .and_then(Value::as_array)
        .ok_or(needed)?;
    for overwrite in overwrites {
        let target: GuildId = id(overwrite.get("id")).ok_or(needed)?;
        if target == guild {
            let allow = bits(overwrite.get("allow")).ok_or(needed)?;
            let deny = bits(overwrite.get("deny")).ok_or(needed)?;
            channel.overwrite = overwrite_of(allow, deny);
        }
    }
    Ok(channel)
}

/// On failure: the user's id, if at least that can be read.
pub(super) fn voice_state(data: &Value) -> Result<VoiceState, Option<UserId>> {
    let member = data.get("member");
    let user_id: UserId = id(data.get("user_id"))
        .or_else(|| id(member?.get("user")?.get("id")))
        .ok_or(None)?;
    let needed = Some(user_id);
    // Null means "left"; an absent field means nothing.
    let channel_id = match data.get("channel_id") {
        None => return Err(needed),
        channel => optional_id(channel).map_err(|()| needed)?,
    };
    let flag = |name: &str| data.get(name).and_then(Value::as_bool);
    let flags = if channel_id.is_some() {
        VoiceFlags {
            mute: flag("mute").ok_or(needed)?,
            deaf: flag("deaf").ok_or(needed)?,
            self_mute: flag("self_mute").ok_or(needed)?,
            self_deaf: flag("self_deaf").ok_or(needed)?,
            self_video: flag("self_video").ok_or(needed)?,
            // The one mark that Discord leaves out when it is off.
            self_stream: match data.get("self_stream") {
                None | Some(Value::Null) => false,
                Some(stream) => stream.as_bool().ok_or(needed)?,
            },
            suppress: flag("suppress").ok_or(needed)?,
        }
    } else {
        VoiceFlags::default()
    };
    Ok(VoiceState {
        user_id,
        channel_id,
        flags,
        profile: member.and_then(profile),
    })
}

/// Name and pictures are never worth a question: an unreadable one is left out.
pub(super) fn profile(member: &Value) -> Option<Profile> {
    let user = member.get("user");
    let text = |value: Option<&Value>| {
        value
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let of_user = |field: &str| user.and_then(|user| user.get(field));
    Some(Profile {
        display_name: text(member.get("nick"))
            .or_else(|| text(of_user("global_name")))
            .or_else(|| text(of_user("username")))?,
        guild_avatar: text(member.get("avatar")).filter(|hash| is_hash(hash)),
        user_avatar: text(of_user("avatar")).filter(|hash| is_hash(hash)),
        discriminator: of_user("discriminator").map_or(0, discriminator),
    })
}

/// A user's number behind the name: four digits; "0" for those who have moved to unique names.
fn discriminator(value: &Value) -> u16 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Whether a picture's hash may stand in a URL.
fn is_hash(text: &str) -> bool {
    text.len() <= HASH_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
