//! What Discord does to a bot's connections: closes, cuts, silence, outages, oddities.

use std::time::Duration;

use serde_json::{Value, json};

use super::ControlError;
use super::requests::GatewayRequest;
use crate::gateway::Which;
use crate::render::{self, GuildCreate};
use crate::snowflake::Id;
use crate::state::{Change, Channel, DiscordState, Guild};
use crate::{Sim, World};

pub(super) fn gateway(sim: &Sim, request: GatewayRequest) -> Result<Value, ControlError> {
    let now_ms = sim.now_ms();
    let which = Which {
        shard: request.shard,
        session: request.session.clone(),
    };
    let mut world = sim.world();
    if let Some(session) = &which.session
        && !world.gateway.has_session(session)
    {
        return Err("session: one of GET /_sim/state, `sessions`".into());
    }
    let touched = match request.action.as_str() {
        "close" => {
            let code = request.close_code()?;
            world.gateway.close_all(&which, code, now_ms)
        }
        "drop" => world.gateway.cut_all(&which, now_ms),
        "reconnect" => world.gateway.reconnect_all(&which),
        "heartbeat" => world.gateway.request_heartbeats(&which),
        "invalidate" => {
            world
                .gateway
                .invalidate_all(&which, request.resumable.unwrap_or(false), now_ms)
        }
        "silence" => world.gateway.silence_all(&which, request.time()?),
        "forget" => world.gateway.expire_all(&which, now_ms),
        "odd" => odd(&mut world, &which),
        "resumes" => world.gateway.fail_resumes(request.resumes()?),
        "dispatch" => {
            let event = request
                .event
                .as_deref()
                .ok_or("event: the dispatch's name")?;
            world
                .gateway
                .dispatch_all(&which, event, &request.data.unwrap_or_default())
        }
        "outage" => {
            let guild = request.guild_id.ok_or("guildId: which guild")?;
            let time = request.time()?;
            if world.state.guild(guild)?.unavailable {
                return Err("the guild has an outage already".into());
            }
            world.act(|state| state.set_outage(guild, true, now_ms))?;
            sim.tasks().spawn(end_outage(sim.clone(), guild, time));
            1
        }
        _ => {
            return Err(
                "action: one of close, drop, reconnect, heartbeat, invalidate, silence, outage, forget, odd, resumes, dispatch"
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
        .act(|state| state.set_outage(guild, false, now_ms))
    {
        tracing::warn!(%refusal, "an outage could not end");
    }
}

/// What a client must survive, though none of it changes the state: duplicates, fields that are
/// null or missing, unknown events, and events about deleted objects.
fn odd(world: &mut World, which: &Which) -> usize {
    let World { state, gateway, .. } = world;
    let hidden = gateway.hides();
    let mut touched = gateway.dispatch_all(
        which,
        "SOMETHING_NEW_FROM_DISCORD",
        &json!({"id": "1", "nested": [null]}),
    );
    touched = touched.max(gateway.dispatch_all(which, "SOMETHING_ELSE", &Value::Null));
    for guild in state.guilds.values().filter(|guild| !guild.unavailable) {
        for (user, voice) in &guild.voice {
            let whole = render::full_voice_state(state, guild, *user, Some(voice), None);
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
            let mut object = render::seen_channel(guild, channel, hidden);
            if let Some(fields) = object.as_object_mut() {
                for optional in [
                    "last_message_id",
                    "rtc_region",
                    "nsfw",
                    "rate_limit_per_user",
                ] {
                    fields.remove(optional);
                }
                // 0 may be left out; the mark of an obfuscated channel may not.
                if fields.get("flags") == Some(&json!(0)) {
                    fields.remove("flags");
                }
                if channel.parent_id.is_none() {
                    fields.remove("parent_id");
                }
                fields.insert("a_field_of_tomorrow".to_owned(), json!({"x": 1}));
            }
            gateway.dispatch_all(which, "CHANNEL_UPDATE", &object);
        }
        // An update may arrive after the channel's end.
        if let Some(gone) = last_deleted(state, guild) {
            let update = render::seen_channel(guild, &gone, hidden);
            gateway.dispatch_all(which, "CHANNEL_UPDATE", &update);
        }
        let again = GuildCreate {
            voice_states: true,
            all_members: false,
            hidden,
        };
        gateway.dispatch_all(which, "GUILD_CREATE", &again.render(state, guild));
    }
    touched
}

fn last_deleted(state: &DiscordState, guild: &Guild) -> Option<Channel> {
    let (_, transitions) = state.transitions_since(0);
    transitions
        .filter(|transition| transition.guild == guild.id)
        .filter_map(|transition| match &transition.change {
            Change::ChannelDeleted(channel) => Some(channel.as_ref().clone()),
            _ => None,
        })
        .last()
}
