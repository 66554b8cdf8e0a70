//! The state in Discord's JSON: the objects that both the gateway and REST hand out.
//!
//! Fields follow Discord's documentation (`resources/*.mdx`) and its OpenAPI description.

use serde_json::{Map, Value, json};

use crate::snowflake::Id;
use crate::state::permissions::{self, VIEW_CHANNEL};
use crate::state::{
    APPLICATION_ID, Channel, ChannelKind, DiscordState, Guild, Member, Overwrite, OverwriteKind,
    Role, User, Voice, VoiceFlags,
};
use crate::timestamp::iso8601;

/// What an obfuscated channel is called (`resources/channel.mdx`, "Obfuscated Channels").
const HIDDEN_NAME: &str = "___hidden___";
/// `CHANNEL_OBFUSCATED`.
const HIDDEN_FLAG: u64 = 1 << 17;

/// A user, as others see them.
pub(crate) fn user(user: &User) -> Value {
    let mut object = json!({
        "id": user.id,
        "username": user.username,
        "discriminator": if user.bot { "4242" } else { "0" },
        "global_name": user.global_name,
        "avatar": user.avatar,
        "banner": null,
        "accent_color": null,
        "avatar_decoration_data": null,
        "collectibles": null,
        "primary_guild": null,
        "public_flags": 0,
        "flags": 0,
    });
    if user.bot {
        object["bot"] = true.into();
    }
    object
}

/// The bot's own user, with what only itself may see.
pub(crate) fn own_user(bot: &User) -> Value {
    let mut object = user(bot);
    object["verified"] = true.into();
    object["email"] = Value::Null;
    object["mfa_enabled"] = true.into();
    object["locale"] = "en-US".into();
    object["premium_type"] = 0.into();
    object
}

/// A member, with their user and the marks that the server gave them.
pub(crate) fn member(state: &DiscordState, guild: &Guild, id: Id) -> Option<Value> {
    let who = state.users.get(&id)?;
    let Member {
        nick,
        roles,
        joined_ms,
    } = guild.members.get(&id)?;
    let flags = guild
        .voice
        .get(&id)
        .map_or_else(VoiceFlags::default, |voice| voice.flags);
    Some(json!({
        "user": user(who),
        "nick": nick,
        "avatar": null,
        "banner": null,
        "avatar_decoration_data": null,
        "collectibles": null,
        "roles": roles,
        "joined_at": iso8601(*joined_ms),
        "premium_since": null,
        "deaf": flags.deaf,
        "mute": flags.mute,
        "flags": 0,
        "pending": false,
        "communication_disabled_until": null,
    }))
}

/// A voice state without its guild and member, as GUILD_CREATE lists them; `voice` none: left.
pub(crate) fn voice_state(user: Id, voice: Option<&Voice>, left: Option<&Voice>) -> Value {
    let last = voice.or(left);
    let flags = last.map_or_else(VoiceFlags::default, |voice| voice.flags);
    json!({
        "channel_id": voice.map(|voice| voice.channel),
        "user_id": user,
        "session_id": last.map_or("", |voice| voice.session_id.as_str()),
        "deaf": flags.deaf,
        "mute": flags.mute,
        "self_deaf": flags.self_deaf,
        "self_mute": flags.self_mute,
        "self_stream": flags.self_stream,
        "self_video": flags.self_video,
        "suppress": flags.suppress,
        "request_to_speak_timestamp": null,
    })
}

/// A voice state with its guild and, while they are one, its member.
pub(crate) fn full_voice_state(
    state: &DiscordState,
    guild: &Guild,
    user: Id,
    voice: Option<&Voice>,
    left: Option<&Voice>,
) -> Value {
    let mut object = voice_state(user, voice, left);
    object["guild_id"] = json!(guild.id);
    if let Some(member) = member(state, guild, user) {
        object["member"] = member;
    }
    object
}

/// A role.
pub(crate) fn role(role: &Role) -> Value {
    let mut object = json!({
        "id": role.id,
        "name": role.name,
        "color": role.color,
        "colors": {"primary_color": role.color, "secondary_color": null, "tertiary_color": null},
        "hoist": role.color != 0,
        "icon": null,
        "unicode_emoji": null,
        "position": role.position,
        "permissions": role.permissions.to_string(),
        "managed": role.bot_id.is_some(),
        "mentionable": false,
        "flags": 0,
    });
    if let Some(bot) = role.bot_id {
        object["tags"] = json!({"bot_id": bot});
    }
    object
}

/// An overwrite.
pub(crate) fn overwrite(overwrite: &Overwrite) -> Value {
    json!({
        "id": overwrite.id,
        "type": match overwrite.kind { OverwriteKind::Role => 0, OverwriteKind::Member => 1 },
        "allow": overwrite.allow.to_string(),
        "deny": overwrite.deny.to_string(),
    })
}

/// Whether a bot is shown channels that it cannot view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Whole, as it was until November 2026.
    Shown,
    /// Obfuscated, as it is since.
    Obfuscated,
}

/// A channel as the bot gets it over the gateway.
pub(crate) fn seen_channel(guild: &Guild, channel: &Channel, hidden: Hidden) -> Value {
    if hidden == Hidden::Shown || permissions::views(guild, channel, APPLICATION_ID) {
        return self::channel(guild, channel);
    }
    let obfuscated = Channel {
        position: channel.position,
        parent_id: channel.parent_id,
        ..Channel::new(channel.id, channel.kind, HIDDEN_NAME)
    };
    let mut object = self::channel(guild, &obfuscated);
    object["flags"] = HIDDEN_FLAG.into();
    object["permission_overwrites"] = json!([{
        "id": guild.id, "type": 0, "allow": "0", "deny": VIEW_CHANNEL.to_string(),
    }]);
    object
}

/// A channel.
pub(crate) fn channel(guild: &Guild, channel: &Channel) -> Value {
    let mut object = Map::new();
    let mut set = |key: &str, value: Value| {
        object.insert(key.to_owned(), value);
    };
    set("id", json!(channel.id));
    set("type", channel.kind.number().into());
    set("guild_id", json!(guild.id));
    set("name", channel.name.clone().into());
    set("position", channel.position.into());
    set("flags", 0.into());
    set("parent_id", json!(channel.parent_id));
    set(
        "permission_overwrites",
        channel.overwrites.values().map(overwrite).collect(),
    );
    match channel.kind {
        ChannelKind::Category => {}
        ChannelKind::Text => {
            set("nsfw", channel.nsfw.into());
            set("topic", json!(channel.topic));
            set("last_message_id", Value::Null);
            set("last_pin_timestamp", Value::Null);
            set("rate_limit_per_user", channel.rate_limit_per_user.into());
        }
        ChannelKind::Voice | ChannelKind::Stage => {
            set("nsfw", channel.nsfw.into());
            set("last_message_id", Value::Null);
            set("rate_limit_per_user", channel.rate_limit_per_user.into());
            set("bitrate", channel.bitrate.into());
            set("user_limit", channel.user_limit.into());
            set("rtc_region", json!(channel.rtc_region));
            set("video_quality_mode", channel.video_quality_mode.into());
        }
    }
    Value::Object(object)
}

/// A guild as REST and GUILD_UPDATE have it.
pub(crate) fn guild(guild: &Guild) -> Value {
    json!({
        "id": guild.id,
        "name": guild.name,
        "icon": null,
        "description": null,
        "home_header": null,
        "splash": null,
        "discovery_splash": null,
        "features": [],
        "banner": null,
        "owner_id": guild.owner_id,
        "application_id": null,
        "region": "deprecated",
        "afk_channel_id": null,
        "afk_timeout": 300,
        "system_channel_id": null,
        "system_channel_flags": 0,
        "widget_enabled": false,
        "widget_channel_id": null,
        "verification_level": 1,
        "roles": guild.roles.values().map(role).collect::<Vec<_>>(),
        "default_message_notifications": 1,
        "mfa_level": 0,
        "explicit_content_filter": 2,
        "max_presences": null,
        "max_members": 500_000,
        "max_stage_video_channel_users": 50,
        "max_video_channel_users": 25,
        "vanity_url_code": null,
        "premium_tier": 0,
        "premium_subscription_count": 0,
        "preferred_locale": "en-US",
        "rules_channel_id": null,
        "safety_alerts_channel_id": null,
        "public_updates_channel_id": null,
        "hub_type": null,
        "premium_progress_bar_enabled": false,
        "nsfw": false,
        "nsfw_level": 0,
        "emojis": [],
        "stickers": [],
        "incidents_data": null,
    })
}

/// The GUILD_CREATE of a session with these choices.
pub(crate) struct GuildCreate {
    /// Whether voice states come along (the intent `GUILD_VOICE_STATES`).
    pub(crate) voice_states: bool,
    /// Whether all members come, or only the bot and who sits in voice.
    pub(crate) all_members: bool,
    /// How channels come that the bot cannot view.
    pub(crate) hidden: Hidden,
}

impl GuildCreate {
    /// The dispatch's data.
    pub(crate) fn render(&self, state: &DiscordState, guild: &Guild) -> Value {
        let mut object = self::guild(guild);
        let members: Vec<Value> = guild
            .members
            .keys()
            .filter(|id| {
                self.all_members || **id == APPLICATION_ID || guild.voice.contains_key(*id)
            })
            .filter_map(|id| member(state, guild, *id))
            .collect();
        let joined_ms = guild
            .members
            .get(&APPLICATION_ID)
            .map_or(0, |member| member.joined_ms);
        let voice_states: Vec<Value> = guild
            .voice
            .iter()
            .filter(|_| self.voice_states)
            .map(|(user, voice)| voice_state(*user, Some(voice), None))
            .collect();
        let channels: Vec<Value> = guild
            .channels
            .values()
            .map(|channel| {
                let mut object = seen_channel(guild, channel, self.hidden);
                // Channels inside a guild do not repeat its id.
                if let Some(fields) = object.as_object_mut() {
                    fields.remove("guild_id");
                }
                object
            })
            .collect();
        for (key, value) in [
            ("joined_at", json!(iso8601(joined_ms))),
            ("large", json!(false)),
            ("unavailable", json!(false)),
            ("member_count", json!(guild.members.len())),
            ("voice_states", json!(voice_states)),
            ("members", json!(members)),
            ("channels", json!(channels)),
            ("threads", json!([])),
            ("presences", json!([])),
            ("stage_instances", json!([])),
            ("guild_scheduled_events", json!([])),
            ("soundboard_sounds", json!([])),
        ] {
            object[key] = value;
        }
        object
    }
}
