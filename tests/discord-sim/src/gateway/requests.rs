//! What a client asks of the gateway once its session has begun: to sit in voice, members, sounds,
//! and what is known of channels (`gateway-events.mdx`, "Send Events").

use serde_json::{Value, json};

use super::receive::Asked;
use super::{Gateway, intents};
use crate::render;
use crate::snowflake::{Id, hash_of};
use crate::state::{APPLICATION_ID, DiscordState, VoiceChange, permissions};

/// Members in one GUILD_MEMBERS_CHUNK.
const CHUNK_MAX: usize = 1_000;
/// Members that a prefix or a list of ids may find.
const FOUND_MAX: u64 = 100;

impl Gateway {
    pub(super) fn bot_voice(
        &mut self,
        state: &DiscordState,
        connection: u64,
        data: &Value,
        now_ms: u64,
    ) -> Asked {
        let guild = id_of(&data["guild_id"]).and_then(|id| state.guilds.get(&id));
        let (Some(guild), channel) = (guild, id_of(&data["channel_id"])) else {
            if id_of(&data["guild_id"]).is_none() {
                self.refuse(connection, 4002, now_ms);
            }
            return Asked::Nothing;
        };
        if let Some(channel) = channel {
            let may = guild.channels.get(&channel).is_some_and(|channel| {
                permissions::in_channel(guild, channel, APPLICATION_ID) & permissions::CONNECT != 0
            });
            if !may {
                return Asked::Nothing;
            }
            // No media here: a null endpoint makes the client wait for a voice server.
            if let Some(session) = self
                .session_of(connection)
                .map(|session| session.id.clone())
            {
                let token = hash_of(&[guild.id.get(), channel.get()]);
                let data = json!({"token": token, "guild_id": guild.id, "endpoint": null});
                self.dispatch(&session, "VOICE_SERVER_UPDATE", &data);
            }
        }
        Asked::Voice(
            guild.id,
            VoiceChange {
                channel: Some(channel),
                self_mute: data["self_mute"].as_bool(),
                self_deaf: data["self_deaf"].as_bool(),
                ..VoiceChange::default()
            },
        )
    }

    pub(super) fn request_members(
        &mut self,
        state: &DiscordState,
        connection: u64,
        data: &Value,
        now_ms: u64,
    ) {
        let Some(guild) = one_id_of(&data["guild_id"]) else {
            return self.refuse(connection, 4002, now_ms);
        };
        let Some(guild) = state.guilds.get(&guild) else {
            return;
        };
        let Some(session) = self.session_of(connection) else {
            return;
        };
        let whole_list = session.intents & intents::GUILD_MEMBERS != 0;
        let session = session.id.clone();
        let asked: Option<Vec<&str>> = match &data["user_ids"] {
            Value::String(id) => Some(vec![id]),
            Value::Array(ids) => Some(ids.iter().filter_map(Value::as_str).collect()),
            _ => None,
        };
        let query = data["query"].as_str().unwrap_or_default().to_lowercase();
        let limit = data["limit"].as_u64().unwrap_or(0);
        if asked.is_none() && query.is_empty() && limit == 0 && !whole_list {
            // The whole list needs the privileged intent; without it nothing comes.
            return;
        }
        let bound = match (&asked, limit) {
            (None, 0) if query.is_empty() => u64::MAX,
            (None, 1..) => limit.min(FOUND_MAX),
            _ => FOUND_MAX,
        };
        let named = |id: Id| match &asked {
            Some(ids) => ids.contains(&id.to_string().as_str()),
            None => state
                .users
                .get(&id)
                .is_some_and(|user| user.username.to_lowercase().starts_with(&query)),
        };
        let found: Vec<Value> = guild
            .members
            .keys()
            .filter(|id| named(**id))
            .take(usize::try_from(bound).unwrap_or(usize::MAX))
            .filter_map(|id| render::member(state, guild, *id))
            .collect();
        let missing: Vec<&str> = asked
            .iter()
            .flatten()
            .filter(|id| {
                id.parse::<Id>()
                    .map_or(true, |id| !guild.members.contains_key(&id))
            })
            .copied()
            .collect();
        let chunks: Vec<&[Value]> = if found.is_empty() {
            vec![&[]]
        } else {
            found.chunks(CHUNK_MAX).collect()
        };
        for (index, members) in chunks.iter().enumerate() {
            let mut chunk = json!({
                "guild_id": guild.id, "members": members, "chunk_index": index, "chunk_count": chunks.len(),
            });
            if !missing.is_empty() {
                chunk["not_found"] = json!(missing);
            }
            if let Some(nonce) = data["nonce"].as_str().filter(|nonce| nonce.len() <= 32) {
                chunk["nonce"] = nonce.into();
            }
            self.dispatch(&session, "GUILD_MEMBERS_CHUNK", &chunk);
        }
    }

    pub(super) fn request_sounds(
        &mut self,
        state: &DiscordState,
        connection: u64,
        data: &Value,
        now_ms: u64,
    ) {
        let Some(guilds) = data["guild_ids"].as_array() else {
            return self.refuse(connection, 4002, now_ms);
        };
        let Some(session) = self
            .session_of(connection)
            .map(|session| session.id.clone())
        else {
            return;
        };
        for guild in guilds
            .iter()
            .filter_map(id_of)
            .filter(|id| state.guilds.contains_key(id))
        {
            let data = json!({"guild_id": guild, "soundboard_sounds": []});
            self.dispatch(&session, "SOUNDBOARD_SOUNDS", &data);
        }
    }

    pub(super) fn request_channel_info(
        &mut self,
        state: &DiscordState,
        connection: u64,
        data: &Value,
        now_ms: u64,
    ) {
        let (Some(guild), Some(fields)) = (id_of(&data["guild_id"]), data["fields"].as_array())
        else {
            return self.refuse(connection, 4002, now_ms);
        };
        let (Some(guild), Some(session)) = (
            state.guilds.get(&guild),
            self.session_of(connection)
                .map(|session| session.id.clone()),
        ) else {
            return;
        };
        let asks = |name: &str| fields.iter().any(|field| field == name);
        let channels: Vec<Value> = guild
            .channels
            .values()
            .filter(|channel| channel.status.is_some() || channel.voice_start_s.is_some())
            .map(|channel| {
                let mut object = json!({"id": channel.id});
                if asks("status") {
                    object["status"] = json!(channel.status);
                }
                if asks("voice_start_time") {
                    object["voice_start_time"] = json!(channel.voice_start_s);
                }
                object
            })
            .collect();
        self.dispatch(
            &session,
            "CHANNEL_INFO",
            &json!({"guild_id": guild.id, "channels": channels}),
        );
    }
}

fn id_of(value: &Value) -> Option<Id> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// One id, or a list of exactly one, as some libraries send it.
fn one_id_of(value: &Value) -> Option<Id> {
    match value {
        Value::Array(ids) if ids.len() == 1 => ids.first().and_then(id_of),
        other => id_of(other),
    }
}
