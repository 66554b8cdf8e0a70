//! The control side: requests of a test to the simulator, under `/_sim`.
//!
//! ControlError input is answered with 400 and `{"error": "…"}`, and changes nothing.

mod disruptions;
mod requests;
mod views;

use axum::body::to_bytes;
use axum::extract::Request;
use axum::response::Response;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::rest::errors::json_response;
use crate::rest::faults::Fault;
use crate::snowflake::Id;
use crate::state::{Change, Channel, ChannelKind, Guild, Overwrite, OverwriteKind, Refusal, Role};
use crate::{Sim, interactions};
use requests::{
    ChannelChange, ChannelRequest, GuildChange, MemberRequest, RoleRequest, VoiceRequest,
};

/// Why a control request is refused.
struct ControlError {
    status: StatusCode,
    why: String,
}

impl<T: ToString> From<T> for ControlError {
    fn from(why: T) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            why: why.to_string(),
        }
    }
}

/// Answers one request below `/_sim`.
pub(crate) async fn answer(sim: Sim, request: Request) -> Response {
    match route(&sim, request).await {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(bad) => json_response(bad.status, &json!({"error": bad.why})),
    }
}

async fn route(sim: &Sim, request: Request) -> Result<Value, ControlError> {
    let (parts, body) = request.into_parts();
    let most = usize::try_from(sim.settings().sim_body_bytes_max).unwrap_or(usize::MAX);
    let body = to_bytes(body, most).await.map_err(|_| ControlError {
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
        (&Method::POST, ["gateway"]) => disruptions::gateway(sim, read(&body)?),
        (&Method::POST, ["rest"]) => script(sim, read(&body)?),
        (&Method::DELETE, ["rest"]) => {
            sim.rest().faults.clear();
            Ok(json!({"ok": true}))
        }
        (&Method::POST, ["interactions"]) => Ok(interactions::deliver(sim, read(&body)?).await?),
        (&Method::POST, ["webhook-events"]) => {
            Ok(interactions::deliver_event(sim, read(&body)?).await?)
        }
        _ => Err(ControlError {
            status: StatusCode::NOT_FOUND,
            why: format!("no such control: {} {path}", parts.method),
        }),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(ControlError::from)
}

fn id_in_path(text: &str) -> Result<Id, ControlError> {
    text.parse()
        .map_err(|error| ControlError::from(format!("{text:?}: {error}")))
}

fn voice(sim: &Sim, request: &VoiceRequest) -> Result<Value, ControlError> {
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    world.act(|state| state.voice(request.guild_id, request.user_id, request.change(), now_ms))?;
    Ok(json!({"seq": world.state.seq()}))
}

fn create_channel(sim: &Sim, request: ChannelRequest) -> Result<Value, ControlError> {
    let now_ms = sim.now_ms();
    let kind = ChannelKind::from_number(request.kind).ok_or("type: one of 0, 2, 4, 13")?;
    let mut channel = Channel::new(request.guild_id, kind, &request.name);
    check_name(&channel.name)?;
    channel.parent_id = request.parent_id;
    channel.user_limit = request.user_limit;
    channel.overwrites = requests::overwrites(request.overwrites)?;
    let mut world = sim.world();
    check_roles(world.state.guild(request.guild_id)?, &channel)?;
    let made = world.act(|state| state.create_channel(request.guild_id, channel, now_ms))?;
    let id = made.iter().find_map(|transition| match &transition.change {
        Change::ChannelCreated(channel) => Some(channel.id),
        _ => None,
    });
    Ok(json!({"seq": world.state.seq(), "channelId": id}))
}

/// An overwrite of a role that the guild does not have would change nothing.
fn check_roles(guild: &Guild, channel: &Channel) -> Result<(), ControlError> {
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

fn check_name(name: &str) -> Result<(), ControlError> {
    if (1..=100).contains(&name.chars().count()) {
        Ok(())
    } else {
        Err("name: 1 to 100 characters".into())
    }
}

fn change_channel(sim: &Sim, id: &str, request: ChannelChange) -> Result<Value, ControlError> {
    let id = id_in_path(id)?;
    let now_ms = sim.now_ms();
    let overwrites = request.overwrites.map(requests::overwrites).transpose()?;
    let mut world = sim.world();
    let guild = world.state.guild_of(id).map_err(not_found)?;
    let mut channel = guild
        .channels
        .get(&id)
        .cloned()
        .ok_or_else(|| not_found(Refusal::UnknownChannel))?;
    if let Some(name) = request.name {
        channel.name = crate::state::normalise_name(channel.kind, &name);
        check_name(&channel.name)?;
    }
    if let Some(parent) = request.parent_id {
        channel.parent_id = parent;
    }
    if let Some(limit) = request.user_limit {
        channel.user_limit = limit;
    }
    if let Some(overwrites) = overwrites {
        channel.overwrites = overwrites;
        check_roles(guild, &channel)?;
    }
    let status = request.status.unwrap_or_else(|| channel.status.clone());
    if status.is_some() && !channel.kind.is_voice() {
        return Err(Refusal::NotVoice.into());
    }
    world.act(|state| state.update_channel(channel.clone(), now_ms))?;
    if status != channel.status {
        world.act(|state| state.set_status(id, status, now_ms))?;
    }
    Ok(json!({"seq": world.state.seq()}))
}

fn not_found(refusal: Refusal) -> ControlError {
    ControlError {
        status: StatusCode::NOT_FOUND,
        why: refusal.to_string(),
    }
}

fn delete_channel(sim: &Sim, id: &str) -> Result<Value, ControlError> {
    let id = id_in_path(id)?;
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    world
        .act(|state| state.delete_channel(id, now_ms))
        .map_err(not_found)?;
    Ok(json!({"seq": world.state.seq()}))
}

fn rename_guild(sim: &Sim, id: &str, request: &GuildChange) -> Result<Value, ControlError> {
    let id = id_in_path(id)?;
    let now_ms = sim.now_ms();
    check_name(&request.name)?;
    let mut world = sim.world();
    world
        .act(|state| state.rename_guild(id, &request.name, now_ms))
        .map_err(not_found)?;
    Ok(json!({"seq": world.state.seq()}))
}

fn set_role(sim: &Sim, request: RoleRequest) -> Result<Value, ControlError> {
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    if request.delete {
        world.act(|state| state.delete_role(request.guild_id, request.role_id, now_ms))?;
        return Ok(json!({"seq": world.state.seq()}));
    }
    let permissions = request
        .permissions
        .ok_or("permissions: a decimal string")?
        .0;
    let guild = world.state.guild(request.guild_id)?;
    let mut role = guild
        .roles
        .get(&request.role_id)
        .cloned()
        .unwrap_or_else(|| Role {
            id: request.role_id,
            name: "new role".to_owned(),
            permissions: 0,
            position: u32::try_from(guild.roles.len()).unwrap_or(u32::MAX),
            color: 0,
            bot_id: None,
        });
    role.permissions = permissions;
    if let Some(name) = request.name {
        check_name(&name)?;
        role.name = name;
    }
    world.act(|state| state.set_role(request.guild_id, role, now_ms))?;
    Ok(json!({"seq": world.state.seq()}))
}

fn set_member(sim: &Sim, request: MemberRequest) -> Result<Value, ControlError> {
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    world.act(|state| {
        state.set_member_roles(request.guild_id, request.user_id, request.roles, now_ms)
    })?;
    Ok(json!({"seq": world.state.seq()}))
}

fn script(sim: &Sim, fault: Fault) -> Result<Value, ControlError> {
    let most = usize::try_from(sim.settings().sim_faults_max).unwrap_or(usize::MAX);
    sim.rest().faults.add(fault, most)?;
    Ok(json!({"ok": true}))
}
