//! The control side: what a test asks of the simulator, under `/_sim`.
//!
//! Bad input is answered with 400 and `{"error": "…"}`, and changes nothing.

mod upsets;
mod views;
mod wishes;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::rest::errors::json_response;
use crate::rest::faults::Fault;
use crate::snowflake::Id;
use crate::truth::{Change, Channel, ChannelKind, Guild, Overwrite, OverwriteKind, Refusal, Role};
use crate::{Sim, interactions};
use wishes::{ChannelChange, ChannelWish, GuildChange, MemberWish, RoleWish, VoiceWish};

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
        (&Method::GET, ["state"]) => Ok(views::state(sim)),
        (&Method::GET, ["transitions"]) => {
            views::transitions(sim, parts.uri.query().unwrap_or_default())
        }
        (&Method::GET, ["sessions"]) => {
            let since = views::since(parts.uri.query().unwrap_or_default())?;
            Ok(sim.world().gateway.history(since))
        }
        (&Method::POST, ["voice"]) => voice(sim, &read(&body)?),
        (&Method::POST, ["channels"]) => create_channel(sim, read(&body)?),
        (&Method::PATCH, ["channels", id]) => change_channel(sim, id, read(&body)?),
        (&Method::DELETE, ["channels", id]) => delete_channel(sim, id),
        (&Method::PATCH, ["guilds", id]) => rename_guild(sim, id, &read(&body)?),
        (&Method::POST, ["roles"]) => set_role(sim, read(&body)?),
        (&Method::POST, ["members"]) => set_member(sim, read(&body)?),
        (&Method::POST, ["gateway"]) => upsets::gateway(sim, read(&body)?),
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
    check_roles(world.truth.guild(wish.guild_id)?, &channel)?;
    let made = world.act(|truth| truth.create_channel(wish.guild_id, channel, now_ms))?;
    let id = made.iter().find_map(|transition| match &transition.change {
        Change::ChannelCreated(channel) => Some(channel.id),
        _ => None,
    });
    Ok(json!({"seq": world.truth.seq(), "channelId": id}))
}

/// An overwrite of a role that the guild does not have would change nothing.
fn check_roles(guild: &Guild, channel: &Channel) -> Result<(), Bad> {
    let mut roles = channel.overwrites.values();
    let unknown = |overwrite: &&Overwrite| {
        overwrite.kind == OverwriteKind::Role && !guild.roles.contains_key(&overwrite.id)
    };
    match roles.find(unknown) {
        None => Ok(()),
        Some(overwrite) => Err(format!(
            "overwrites: no role {} in guild {}; see GET /_sim/state",
            overwrite.id, guild.id
        )
        .into()),
    }
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
        check_roles(guild, &channel)?;
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
