//! The control side: what a test asks of the simulator, under `/_sim`.
//!
//! Bad input is answered with 400 and `{"error": "…"}`, and changes nothing.

mod wishes;

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::gateway::Which;
use crate::render::{self, GuildCreate, Hidden};
use crate::rest::errors::json_response;
use crate::rest::faults::Fault;
use crate::snowflake::Id;
use crate::truth::{
    Change, Channel, ChannelKind, Guild, OverwriteKind, Refusal, Role, Transition, Voice,
};
use crate::{Sim, interactions};
use wishes::{
    ChannelChange, ChannelWish, GatewayWish, GuildChange, MemberWish, RoleWish, VoiceWish,
};

/// Transitions in one answer, so that it stays readable; ask again from the last one.
const TRANSITIONS_AT_ONCE: usize = 10_000;

/// Why a wish is refused.
struct Bad {
    status: StatusCode,
    why: String,
}

impl<T: ToString> From<T> for Bad {
    fn from(why: T) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why: why.to_string(),
        }
    }
}

/// Answers one request below `/_sim`.
pub(crate) async fn answer(sim: Sim, request: Request) -> Response {
    match attend(&sim, request).await {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(bad) => json_response(bad.status, &json!({"error": bad.why})),
    }
}

async fn attend(sim: &Sim, request: Request) -> Result<Value, Bad> {
    let (parts, body) = request.into_parts();
    let most = usize::try_from(sim.settings().sim_body_bytes_max).unwrap_or(usize::MAX);
    let body = to_bytes(body, most).await.map_err(|_| Bad {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        why: "the body is larger than SIM_BODY_BYTES_MAX".to_owned(),
    })?;
    let path = parts.uri.path().trim_start_matches("/_sim/").to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    match (&parts.method, segments.as_slice()) {
        (&Method::GET, ["state"]) => Ok(state(sim)),
        (&Method::GET, ["transitions"]) => transitions(sim, parts.uri.query().unwrap_or_default()),
        (&Method::POST, ["voice"]) => voice(sim, &read(&body)?),
        (&Method::POST, ["channels"]) => create_channel(sim, read(&body)?),
        (&Method::PATCH, ["channels", id]) => change_channel(sim, id, read(&body)?),
        (&Method::DELETE, ["channels", id]) => delete_channel(sim, id),
        (&Method::PATCH, ["guilds", id]) => rename_guild(sim, id, &read(&body)?),
        (&Method::POST, ["roles"]) => set_role(sim, read(&body)?),
        (&Method::POST, ["members"]) => set_member(sim, read(&body)?),
        (&Method::POST, ["gateway"]) => gateway(sim, read(&body)?),
        (&Method::POST, ["rest"]) => script(sim, read(&body)?),
        (&Method::DELETE, ["rest"]) => {
            sim.rest().faults.clear();
            Ok(json!({"ok": true}))
        }
        (&Method::POST, ["interactions"]) => Ok(interactions::deliver(sim, read(&body)?).await?),
        (&Method::POST, ["webhook-events"]) => {
            Ok(interactions::deliver_event(sim, read(&body)?).await?)
        }
        _ => Err(Bad {
            status: StatusCode::NOT_FOUND,
            why: format!("no such control: {} {path}", parts.method),
        }),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Bad> {
    serde_json::from_slice(body).map_err(Bad::from)
}

fn id_in_path(text: &str) -> Result<Id, Bad> {
    text.parse()
        .map_err(|error| Bad::from(format!("{text:?}: {error}")))
}

fn state(sim: &Sim) -> Value {
    let world = sim.world();
    let guilds: Map<String, Value> = world
        .truth
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
                                describe_voice(sim_user(&world.truth, *user), voice),
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
        "seq": world.truth.seq(),
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
        "interactions": sim.interactions().describe(),
    })
}

fn sim_user(truth: &crate::truth::Truth, id: Id) -> (Option<&str>, Option<&str>) {
    truth.users.get(&id).map_or((None, None), |user| {
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
    let overwrites: Vec<Value> = channel
        .overwrites
        .values()
        .map(|overwrite| {
            json!({
                "id": overwrite.id,
                "type": match overwrite.kind { OverwriteKind::Role => 0, OverwriteKind::Member => 1 },
                "allow": overwrite.allow.to_string(),
                "deny": overwrite.deny.to_string(),
            })
        })
        .collect();
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

fn transitions(sim: &Sim, query: &str) -> Result<Value, Bad> {
    let mut since = 0;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("since", number)) => since = number.parse().map_err(|_| "since: a number")?,
            _ => return Err("only since=<number> is known".into()),
        }
    }
    let world = sim.world();
    let (first, transitions) = world.truth.transitions_since(since);
    let list: Vec<Value> = transitions
        .take(TRANSITIONS_AT_ONCE)
        .map(describe)
        .collect();
    Ok(json!({
        "seq": world.truth.seq(),
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

fn voice(sim: &Sim, wish: &VoiceWish) -> Result<Value, Bad> {
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    world.act(|truth| truth.voice(wish.guild_id, wish.user_id, wish.change(), now_ms))?;
    Ok(json!({"seq": world.truth.seq()}))
}

fn create_channel(sim: &Sim, wish: ChannelWish) -> Result<Value, Bad> {
    let now_ms = sim.now_ms();
    let kind = ChannelKind::from_number(wish.kind).ok_or("type: one of 0, 2, 4, 13")?;
    let mut channel = Channel::new(wish.guild_id, kind, &wish.name);
    check_name(&channel.name)?;
    channel.parent_id = wish.parent_id;
    channel.user_limit = wish.user_limit;
    channel.overwrites = wishes::overwrites(wish.overwrites)?;
    let mut world = sim.world();
    let made = world.act(|truth| truth.create_channel(wish.guild_id, channel, now_ms))?;
    let id = made.iter().find_map(|transition| match &transition.change {
        Change::ChannelCreated(channel) => Some(channel.id),
        _ => None,
    });
    Ok(json!({"seq": world.truth.seq(), "channelId": id}))
}

fn check_name(name: &str) -> Result<(), Bad> {
    if (1..=100).contains(&name.chars().count()) {
        Ok(())
    } else {
        Err("name: 1 to 100 characters".into())
    }
}

fn change_channel(sim: &Sim, id: &str, wish: ChannelChange) -> Result<Value, Bad> {
    let id = id_in_path(id)?;
    let now_ms = sim.now_ms();
    let overwrites = wish.overwrites.map(wishes::overwrites).transpose()?;
    let mut world = sim.world();
    let guild = world.truth.guild_of(id).map_err(not_found)?;
    let mut channel = guild
        .channels
        .get(&id)
        .cloned()
        .ok_or_else(|| not_found(Refusal::UnknownChannel))?;
    if let Some(name) = wish.name {
        channel.name = crate::truth::normalise_name(channel.kind, &name);
        check_name(&channel.name)?;
    }
    if let Some(parent) = wish.parent_id {
        channel.parent_id = parent;
    }
    if let Some(limit) = wish.user_limit {
        channel.user_limit = limit;
    }
    if let Some(overwrites) = overwrites {
        channel.overwrites = overwrites;
    }
    let status = wish.status.unwrap_or_else(|| channel.status.clone());
    if status.is_some() && !channel.kind.is_voice() {
        return Err(Refusal::NotVoice.into());
    }
    world.act(|truth| truth.update_channel(channel.clone(), now_ms))?;
    if status != channel.status {
        world.act(|truth| truth.set_status(id, status, now_ms))?;
    }
    Ok(json!({"seq": world.truth.seq()}))
}

fn not_found(refusal: Refusal) -> Bad {
    Bad {
        status: StatusCode::NOT_FOUND,
        why: refusal.to_string(),
    }
}

fn delete_channel(sim: &Sim, id: &str) -> Result<Value, Bad> {
    let id = id_in_path(id)?;
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    world
        .act(|truth| truth.delete_channel(id, now_ms))
        .map_err(not_found)?;
    Ok(json!({"seq": world.truth.seq()}))
}

fn rename_guild(sim: &Sim, id: &str, wish: &GuildChange) -> Result<Value, Bad> {
    let id = id_in_path(id)?;
    let now_ms = sim.now_ms();
    check_name(&wish.name)?;
    let mut world = sim.world();
    world
        .act(|truth| truth.rename_guild(id, &wish.name, now_ms))
        .map_err(not_found)?;
    Ok(json!({"seq": world.truth.seq()}))
}

fn set_role(sim: &Sim, wish: RoleWish) -> Result<Value, Bad> {
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    if wish.delete {
        world.act(|truth| truth.delete_role(wish.guild_id, wish.role_id, now_ms))?;
        return Ok(json!({"seq": world.truth.seq()}));
    }
    let permissions = wish.permissions.ok_or("permissions: a decimal string")?.0;
    let guild = world.truth.guild(wish.guild_id)?;
    let mut role = guild
        .roles
        .get(&wish.role_id)
        .cloned()
        .unwrap_or_else(|| Role {
            id: wish.role_id,
            name: "new role".to_owned(),
            permissions: 0,
            position: u32::try_from(guild.roles.len()).unwrap_or(u32::MAX),
            color: 0,
            bot_id: None,
        });
    role.permissions = permissions;
    if let Some(name) = wish.name {
        check_name(&name)?;
        role.name = name;
    }
    world.act(|truth| truth.set_role(wish.guild_id, role, now_ms))?;
    Ok(json!({"seq": world.truth.seq()}))
}

fn set_member(sim: &Sim, wish: MemberWish) -> Result<Value, Bad> {
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    world.act(|truth| truth.set_member_roles(wish.guild_id, wish.user_id, wish.roles, now_ms))?;
    Ok(json!({"seq": world.truth.seq()}))
}

fn script(sim: &Sim, fault: Fault) -> Result<Value, Bad> {
    let most = usize::try_from(sim.settings().sim_faults_max).unwrap_or(usize::MAX);
    sim.rest().faults.add(fault, most)?;
    Ok(json!({"ok": true}))
}

fn gateway(sim: &Sim, wish: GatewayWish) -> Result<Value, Bad> {
    let now_ms = sim.now_ms();
    let which = Which {
        shard: wish.shard,
        session: wish.session.clone(),
    };
    let mut world = sim.world();
    let touched = match wish.action.as_str() {
        "close" => {
            let code = wish.code.ok_or("code: a close code")?;
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err("code: a close code that may be sent".into());
            }
            world.gateway.close_all(&which, code, now_ms)
        }
        "drop" => world.gateway.cut_all(&which, now_ms),
        "reconnect" => world.gateway.reconnect_all(&which),
        "heartbeat" => world.gateway.request_heartbeats(&which),
        "invalidate" => {
            world
                .gateway
                .invalidate_all(&which, wish.resumable.unwrap_or(false), now_ms)
        }
        "silence" => world.gateway.silence_all(&which, wish.time()?),
        "forget" => world.gateway.expire_all(&which, now_ms),
        "odd" => odd(&mut world, &which),
        "dispatch" => {
            let event = wish.event.as_deref().ok_or("event: the dispatch's name")?;
            world
                .gateway
                .dispatch_all(&which, event, &wish.data.unwrap_or_default())
        }
        "outage" => {
            let guild = wish.guild_id.ok_or("guildId: which guild")?;
            let time = wish.time()?;
            world.act(|truth| truth.set_outage(guild, true, now_ms))?;
            tokio::spawn(end_outage(sim.clone(), guild, time));
            1
        }
        _ => {
            return Err(
                "action: one of close, drop, reconnect, heartbeat, invalidate, silence, outage, forget, odd, dispatch"
                    .into(),
            );
        }
    };
    Ok(json!({"ok": true, "sessions": touched}))
}

async fn end_outage(sim: Sim, guild: Id, time: Duration) {
    tokio::select! {
        () = sim.shutdown().cancelled() => return,
        () = tokio::time::sleep(time) => {}
    }
    let now_ms = sim.now_ms();
    if let Err(refusal) = sim
        .world()
        .act(|truth| truth.set_outage(guild, false, now_ms))
    {
        tracing::warn!(%refusal, "an outage could not end");
    }
}

/// What a client must survive, though none of it changes the truth: duplicates, fields that are
/// null or missing, events that nobody knows, and news of what is long gone.
fn odd(world: &mut crate::World, which: &Which) -> usize {
    let crate::World { truth, gateway, .. } = world;
    let mut touched = gateway.dispatch_all(
        which,
        "SOMETHING_NEW_FROM_DISCORD",
        &json!({"id": "1", "nested": [null]}),
    );
    touched = touched.max(gateway.dispatch_all(which, "SOMETHING_ELSE", &Value::Null));
    for guild in truth.guilds.values().filter(|guild| !guild.unavailable) {
        for (user, voice) in &guild.voice {
            let whole = render::full_voice_state(truth, guild, *user, Some(voice), None);
            gateway.dispatch_all(which, "VOICE_STATE_UPDATE", &whole);
            let mut bare = whole;
            if let Some(fields) = bare.as_object_mut() {
                fields.remove("member");
                fields.insert("request_to_speak_timestamp".to_owned(), Value::Null);
                if !voice.flags.self_stream {
                    fields.remove("self_stream");
                }
            }
            gateway.dispatch_all(which, "VOICE_STATE_UPDATE", &bare);
        }
        for channel in guild.channels.values() {
            let mut object = render::channel(guild, channel);
            if let Some(fields) = object.as_object_mut() {
                for optional in [
                    "last_message_id",
                    "rtc_region",
                    "nsfw",
                    "rate_limit_per_user",
                    "flags",
                ] {
                    fields.remove(optional);
                }
                if channel.parent_id.is_none() {
                    fields.remove("parent_id");
                }
                fields.insert("a_field_of_tomorrow".to_owned(), json!({"x": 1}));
            }
            gateway.dispatch_all(which, "CHANNEL_UPDATE", &object);
        }
        // An update may arrive after the channel's end.
        if let Some(gone) = last_deleted(truth, guild) {
            gateway.dispatch_all(which, "CHANNEL_UPDATE", &render::channel(guild, &gone));
        }
        let again = GuildCreate {
            voice_states: true,
            all_members: false,
            hidden: Hidden::Shown,
        };
        gateway.dispatch_all(which, "GUILD_CREATE", &again.render(truth, guild));
    }
    touched
}

fn last_deleted(truth: &crate::truth::Truth, guild: &Guild) -> Option<Channel> {
    let (_, transitions) = truth.transitions_since(0);
    transitions
        .filter(|transition| transition.guild == guild.id)
        .filter_map(|transition| match &transition.change {
            Change::ChannelDeleted(channel) => Some(channel.as_ref().clone()),
            _ => None,
        })
        .last()
}
