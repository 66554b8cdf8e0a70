//! The few dispatches that are read, tolerantly.
//!
//! Discord's objects grow, and single fields come as null, as a number instead of a string, or not
//! at all. So only what the roster needs is read, field by field; what is optional may be absent,
//! and what is needed and can not be read makes the dispatch *illegible*: it is then asked for over
//! REST instead of being guessed. Shapes: Discord's documentation, "Gateway Events", "Voice
//! Resource", "Channel Resource", "Guild Resource".

use std::collections::BTreeMap;

use proto::chain::NAME_BYTES_MAX;
use proto::event::{Everyone, Overwrite, RoomKind, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};
use serde_json::Value;

/// Channel flag of a channel that the bot may not view (announced for November 2026).
const OBFUSCATED_FLAG: u64 = 1 << 17;
/// The name that such a channel comes with. It never goes further than this file.
const OBFUSCATED_NAME: &str = "___hidden___";
/// Permission bit ADMINISTRATOR (Discord's documentation, "Permissions").
const ADMINISTRATOR: u128 = 1 << 3;
/// Permission bit VIEW_CHANNEL.
const VIEW_CHANNEL: u128 = 1 << 10;
/// The longest hash of a picture that is believed, in bytes; Discord's have 32 or 34.
const HASH_BYTES_MAX: usize = 64;

/// A dispatch that changes what is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// A new gateway session.
    Ready(SessionStart),
    /// The old gateway session goes on; what was missed came before this.
    Resumed,
    /// Everything of one guild.
    GuildCreated(GuildState),
    /// What @everyone may do, as a guild or role update tells it.
    EveryoneChanged(GuildId, Everyone),
    /// An outage: nothing is told of this guild for a while.
    GuildUnavailable(GuildId),
    /// The bot is no longer in this guild.
    GuildRemoved(GuildId),
    /// A channel was made.
    ChannelCreated(GuildId, Channel),
    /// A channel is different.
    ChannelUpdated(GuildId, Channel),
    /// A channel is gone.
    ChannelDeleted(GuildId, ChannelId),
    /// One user's voice state, whole.
    VoiceChanged(GuildId, VoiceState),
}

impl Dispatch {
    /// The guild that it is about; none for those that are about the gateway session.
    pub fn guild_id(&self) -> Option<GuildId> {
        match self {
            Self::Ready(_) | Self::Resumed => None,
            Self::GuildCreated(state) => Some(state.guild_id),
            Self::EveryoneChanged(guild, _)
            | Self::GuildUnavailable(guild)
            | Self::GuildRemoved(guild)
            | Self::ChannelCreated(guild, _)
            | Self::ChannelUpdated(guild, _)
            | Self::ChannelDeleted(guild, _)
            | Self::VoiceChanged(guild, _) => Some(*guild),
        }
    }

    /// What would have to be read anew if this dispatch could not be used.
    pub fn subject(&self) -> Subject {
        match self {
            Self::ChannelCreated(_, channel) | Self::ChannelUpdated(_, channel) => {
                Subject::Channel(channel.id)
            }
            Self::ChannelDeleted(_, channel) => Subject::Channel(*channel),
            Self::VoiceChanged(_, voice) => Subject::Voice(voice.user_id),
            _ => Subject::Guild,
        }
    }
}

/// A gateway session as READY tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionStart {
    /// The guilds that the bot is in; each GUILD_CREATE follows.
    pub guilds: Vec<GuildId>,
    /// Where Discord wants the session resumed.
    pub resume_url: Option<String>,
}

/// A guild as GUILD_CREATE tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuildState {
    /// Which.
    pub guild_id: GuildId,
    /// What @everyone may do.
    pub everyone: Everyone,
    /// Its channels; those that are neither room nor category are left out.
    pub channels: Vec<Channel>,
    /// Who is in voice.
    pub voices: Vec<VoiceState>,
    /// Channels and voice states in it that could not be read.
    pub illegible: Vec<Subject>,
}

/// A channel, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Which.
    pub id: ChannelId,
    /// What sort of room; `None` for text channels, threads and whatever else there is.
    pub kind: Option<RoomKind>,
    /// Empty for obfuscated channels.
    pub name: String,
    /// The category that it stands in.
    pub parent_id: Option<ChannelId>,
    /// 0: no limit.
    pub user_limit: u32,
    /// What its overwrite for @everyone says of viewing it.
    pub overwrite: Overwrite,
    /// The bot may not view it.
    pub obfuscated: bool,
}

impl Channel {
    /// A channel that the bot may not view, of which only a voice state in it told.
    pub fn hidden(id: ChannelId) -> Self {
        Self {
            id,
            kind: Some(RoomKind::Voice),
            name: String::new(),
            parent_id: None,
            user_limit: 0,
            overwrite: Overwrite::None,
            obfuscated: true,
        }
    }
}

/// One user's voice state in one guild.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VoiceState {
    /// Who.
    pub user_id: UserId,
    /// Where; `None`: nowhere.
    pub channel_id: Option<ChannelId>,
    /// Muted, on camera, …
    pub flags: VoiceFlags,
    /// Name and pictures, where told.
    pub profile: Option<Profile>,
}

/// What a member looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Nickname, else display name, else user name.
    pub display_name: String,
    /// The hash of the picture chosen for this guild.
    pub guild_avatar: Option<String>,
    /// The hash of the user's own picture.
    pub user_avatar: Option<String>,
}

/// What can not be known without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One channel; before the voice states, so that who is in it finds it known.
    Channel(ChannelId),
    /// One user's voice state.
    Voice(UserId),
    /// The guild as a whole; only GUILD_CREATE tells that.
    Guild,
}

impl Subject {
    /// Of what sort it is, for logs: which one may be nobody's business.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Channel(_) => "channel",
            Self::Voice(_) => "user",
            Self::Guild => "guild",
        }
    }
}

/// What became of the text of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// It says something that is followed.
    Known(Dispatch),
    /// It says nothing that matters here.
    PassedOver,
    /// It should say something, and can not be read.
    Illegible {
        /// Whose it is; `None`: not even that can be read, so it may be anybody's.
        guild: Option<GuildId>,
        /// What has to be asked for.
        subject: Subject,
    },
}

/// Dispatches that are read.
const READ: &[&str] = &[
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

/// Dispatches that are known and passed over. @everyone can not be deleted, so GUILD_ROLE_DELETE
/// is one of them.
const PASSED_OVER: &[&str] = &[
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
        .chain(PASSED_OVER)
        .find(|known| **known == name)
        .copied()
        .unwrap_or("other")
}

/// Reads a dispatch: its name (`t`) and the text of its data (`d`).
pub fn read(name: &str, data: &str) -> Read {
    if !READ.contains(&name) {
        return Read::PassedOver;
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
        Ok(None) => Read::PassedOver,
        Err(subject) => Read::Illegible { guild, subject },
    }
}

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

type Outcome = Result<Option<Dispatch>, Subject>;

fn guild_of(name: &str, data: &Value) -> Option<GuildId> {
    match name {
        "GUILD_CREATE" | "GUILD_UPDATE" | "GUILD_DELETE" => id(data.get("id")),
        _ => id(data.get("guild_id")),
    }
}

fn ready(data: &Value) -> Outcome {
    let guilds = data
        .get("guilds")
        .and_then(Value::as_array)
        .ok_or(Subject::Guild)?;
    // A guild that can not be read here is still followed once its GUILD_CREATE comes; but it
    // could not be told from one that was removed.
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
    let mut illegible = Vec::new();
    let mut channels = Vec::new();
    for found in list("channels")? {
        match channel(found, guild_id) {
            Ok(channel) if channel.kind.is_some() => channels.push(channel),
            Ok(_) => {}
            Err(Some(channel)) => illegible.push(Subject::Channel(channel)),
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
            Err(Some(user)) => illegible.push(Subject::Voice(user)),
            Err(None) => return Err(Subject::Guild),
        }
    }
    Ok(Dispatch::GuildCreated(GuildState {
        guild_id,
        everyone,
        channels,
        voices,
        illegible,
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

/// @everyone is the role that has the guild's id.
fn everyone_of(roles: &[Value], guild: GuildId) -> Option<Everyone> {
    let everyone = roles
        .iter()
        .find(|role| id::<GuildId>(role.get("id")) == Some(guild))?;
    bits(everyone.get("permissions")).map(may)
}

/// What matters here of a role's permissions.
fn may(permissions: u128) -> Everyone {
    if permissions & ADMINISTRATOR != 0 {
        Everyone::Administer
    } else if permissions & VIEW_CHANNEL != 0 {
        Everyone::View
    } else {
        Everyone::Nothing
    }
}

/// What is denied counts first, then what is allowed (Discord's documentation, "Permission
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
fn channel(data: &Value, guild: GuildId) -> Result<Channel, Option<ChannelId>> {
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
    // Without its overwrites a staff room would look public, so they are needed.
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
fn voice_state(data: &Value) -> Result<VoiceState, Option<UserId>> {
    let member = data.get("member");
    let user_id: UserId = id(data.get("user_id"))
        .or_else(|| id(member?.get("user")?.get("id")))
        .ok_or(None)?;
    let needed = Some(user_id);
    // Null says "left"; absent says nothing.
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

/// Name and pictures are never worth asking for: what can not be read is not told.
fn profile(member: &Value) -> Option<Profile> {
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
    })
}

/// Whether a picture's hash may stand in a URL.
fn is_hash(text: &str) -> bool {
    text.len() <= HASH_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn absent(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

/// An id: a decimal string, or the number that some libraries make of it.
fn id<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64()?.to_string().parse().ok(),
        _ => None,
    }
}

fn optional_id<T: std::str::FromStr>(value: Option<&Value>) -> Result<Option<T>, ()> {
    if absent(value) {
        return Ok(None);
    }
    id(value).map(Some).ok_or(())
}

fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Permission bits: a decimal string, since they outgrow what a JSON number carries.
fn bits(value: Option<&Value>) -> Option<u128> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64().map(u128::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn guild() -> GuildId {
        GuildId::new(1).unwrap()
    }

    fn voice(change: impl FnOnce(&mut Value)) -> Read {
        let mut data = json!({
            "guild_id": "1", "channel_id": "2", "user_id": "3", "session_id": "x",
            "deaf": false, "mute": true, "self_deaf": false, "self_mute": false,
            "self_video": false, "suppress": false, "request_to_speak_timestamp": null,
            "member": {"nick": null, "avatar": null, "roles": [],
                "user": {"id": "3", "username": "ada", "global_name": "Ada", "avatar": "a_00ff"}},
        });
        change(&mut data);
        read("VOICE_STATE_UPDATE", &data.to_string())
    }

    fn room(change: impl FnOnce(&mut Value)) -> Read {
        let mut data = json!({
            "id": "2", "guild_id": "1", "type": 2, "name": "Lounge", "parent_id": null,
            "user_limit": 5, "flags": 0,
            "permission_overwrites": [{"id": "1", "type": 0, "allow": "0", "deny": "1024"}],
        });
        change(&mut data);
        read("CHANNEL_UPDATE", &data.to_string())
    }

    fn illegible(subject: Subject) -> Read {
        Read::Illegible {
            guild: Some(guild()),
            subject,
        }
    }

    #[test]
    fn a_voice_state_is_read_with_its_member() {
        let Read::Known(Dispatch::VoiceChanged(of, state)) = voice(|_| ()) else {
            panic!("not read")
        };
        assert_eq!(of, guild());
        assert!(state.flags.mute && !state.flags.deaf);
        let profile = state.profile.unwrap();
        assert_eq!(profile.display_name, "Ada");
        assert_eq!(profile.user_avatar.as_deref(), Some("a_00ff"));
    }

    #[test]
    fn what_is_optional_in_a_voice_state_may_be_null_absent_or_odd() {
        let changes: [fn(&mut Value); 7] = [
            |data| data["member"] = Value::Null,
            |data| data["member"] = json!("odd"),
            |data| data["self_stream"] = Value::Null,
            |data| data["session_id"] = json!(7),
            |data| data["unheard_of"] = json!({"a": []}),
            |data| data["member"]["user"]["avatar"] = json!("../../x"),
            |data| data["user_id"] = json!(3),
        ];
        for change in changes {
            let read = voice(change);
            assert!(
                matches!(read, Read::Known(Dispatch::VoiceChanged(..))),
                "{read:?}"
            );
        }
    }

    #[test]
    fn a_voice_state_without_what_is_needed_names_its_user_where_it_can() {
        let user = Subject::Voice(UserId::new(3).unwrap());
        type Alter = fn(&mut Value);
        let changes: [(Alter, Subject); 5] = [
            (
                |data| drop(data.as_object_mut().unwrap().remove("channel_id")),
                user,
            ),
            (|data| data["channel_id"] = json!({}), user),
            (|data| data["mute"] = Value::Null, user),
            (|data| data["self_stream"] = json!("yes"), user),
            (
                |data| {
                    data["user_id"] = json!([]);
                    data["member"] = Value::Null;
                },
                Subject::Guild,
            ),
        ];
        for (change, subject) in changes {
            assert_eq!(voice(change), illegible(subject));
        }
        assert_eq!(
            voice(|data| data["guild_id"] = Value::Null),
            Read::Illegible {
                guild: None,
                subject: user
            }
        );
    }

    #[test]
    fn a_channel_is_read_or_asked_for_never_guessed() {
        let Read::Known(Dispatch::ChannelUpdated(_, channel)) = room(|_| ()) else {
            panic!("not read")
        };
        assert_eq!(
            (channel.user_limit, channel.overwrite),
            (5, Overwrite::Deny)
        );
        let asked = illegible(Subject::Channel(ChannelId::new(2).unwrap()));
        let changes: [fn(&mut Value); 6] = [
            |data| data["permission_overwrites"] = Value::Null,
            |data| data["permission_overwrites"][0]["deny"] = json!([]),
            |data| data["permission_overwrites"][0]["id"] = Value::Null,
            |data| data["name"] = Value::Null,
            |data| data["type"] = json!("voice"),
            |data| data["parent_id"] = json!(true),
        ];
        for change in changes {
            assert_eq!(room(change), asked);
        }
        assert_eq!(
            room(|data| data["id"] = Value::Null),
            illegible(Subject::Guild)
        );
    }

    #[test]
    fn an_obfuscated_channel_has_no_name() {
        let changes: [fn(&mut Value); 2] = [
            |data| data["flags"] = json!(1 << 17),
            |data| data["name"] = json!("___hidden___"),
        ];
        for change in changes {
            let Read::Known(Dispatch::ChannelUpdated(_, channel)) = room(change) else {
                panic!("not read")
            };
            assert!(channel.obfuscated);
            assert_eq!(channel.name, "");
        }
    }

    #[test]
    fn a_guild_is_taken_without_the_channels_and_voices_that_can_not_be_read() {
        let state = json!({
            "id": "1", "roles": [{"id": "1", "permissions": "1024"}],
            "channels": [
                {"id": "2", "type": 2, "name": "Lounge", "permission_overwrites": []},
                {"id": "4", "type": 0, "name": "text"},
                {"id": "5", "type": 13, "name": null, "permission_overwrites": []},
            ],
            "members": [{"nick": "Countess", "user": {"id": "3", "username": "ada"}}, null, {}],
            "voice_states": [
                {"user_id": "3", "channel_id": "2", "deaf": false, "mute": false,
                 "self_deaf": false, "self_mute": false, "self_video": false, "suppress": false},
                {"user_id": "6", "channel_id": "2"},
            ],
        });
        let Read::Known(Dispatch::GuildCreated(state)) = read("GUILD_CREATE", &state.to_string())
        else {
            panic!("not read")
        };
        assert_eq!(state.channels.len(), 1);
        assert_eq!(
            state.voices[0].profile.as_ref().unwrap().display_name,
            "Countess"
        );
        assert_eq!(
            state.illegible,
            [
                Subject::Channel(ChannelId::new(5).unwrap()),
                Subject::Voice(UserId::new(6).unwrap())
            ]
        );
    }

    #[test]
    fn a_guild_without_its_everyone_role_is_illegible() {
        for roles in [
            json!([]),
            json!(null),
            json!([{"id": "1", "permissions": {}}]),
        ] {
            let state = json!({"id": "1", "roles": roles, "channels": [], "voice_states": []});
            assert_eq!(
                read("GUILD_CREATE", &state.to_string()),
                illegible(Subject::Guild)
            );
        }
    }

    #[test]
    fn outage_and_removal_are_told_apart() {
        for (data, expected) in [
            (
                json!({"id": "1", "unavailable": true}),
                Dispatch::GuildUnavailable(guild()),
            ),
            (json!({"id": "1"}), Dispatch::GuildRemoved(guild())),
            (
                json!({"id": "1", "unavailable": null}),
                Dispatch::GuildRemoved(guild()),
            ),
        ] {
            assert_eq!(
                read("GUILD_DELETE", &data.to_string()),
                Read::Known(expected)
            );
        }
    }

    #[test]
    fn unknown_names_are_counted_under_one_label() {
        assert_eq!(label("VOICE_STATE_UPDATE"), "VOICE_STATE_UPDATE");
        assert_eq!(
            label("VOICE_CHANNEL_STATUS_UPDATE"),
            "VOICE_CHANNEL_STATUS_UPDATE"
        );
        assert_eq!(label("X\"} 1\n"), "other");
        assert_eq!(read("X", "{}"), Read::PassedOver);
        assert_eq!(read("VOICE_CHANNEL_STATUS_UPDATE", "?"), Read::PassedOver);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_fall(name in 0..READ.len(), text in ".{0,200}") {
            let _read = read(READ[name], &text);
        }
    }
}
