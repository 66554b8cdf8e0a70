//! What the bot can learn about itself: the gateway, its user, its application.

use serde_json::json;

use super::Call;
use super::errors::{Problem, Reply, Served};
use crate::gateway::application_flags;
use crate::state::{APPLICATION_ID, OWNER_ID};
use crate::{Sim, interactions, render};

pub(super) fn gateway(sim: &Sim, _: &Call) -> Served {
    Reply::ok(json!({"url": sim.world().gateway.url()}))
}

pub(super) fn gateway_bot(sim: &Sim, call: &Call) -> Served {
    let world = sim.world();
    Reply::ok(json!({
        "url": world.gateway.url(),
        "shards": sim.settings().sim_shards,
        "session_start_limit": world.gateway.session_start_limit(call.now_ms),
    }))
}

pub(super) fn me(sim: &Sim, _: &Call) -> Served {
    let world = sim.world();
    let bot = world.state.users.get(&APPLICATION_ID);
    Reply::ok(render::own_user(
        bot.ok_or_else(|| Problem::unknown(10013, "User"))?,
    ))
}

pub(super) fn user(sim: &Sim, call: &Call) -> Served {
    let world = sim.world();
    let user = world.state.users.get(&call.id(0)?);
    Reply::ok(render::user(
        user.ok_or_else(|| Problem::unknown(10013, "User"))?,
    ))
}

pub(super) fn application(sim: &Sim, _: &Call) -> Served {
    let world = sim.world();
    let user = |id| world.state.users.get(&id).map(render::user);
    let flags = application_flags(sim.settings().sim_intents_granted);
    Reply::ok(json!({
        "id": APPLICATION_ID,
        "name": "Roomwire",
        "icon": null,
        "description": "Voice rooms in a web page",
        "summary": "",
        "type": null,
        "bot": user(APPLICATION_ID),
        "owner": user(OWNER_ID),
        "bot_public": true,
        "bot_require_code_grant": false,
        "verify_key": interactions::public_key(),
        "flags": flags,
        "flags_new": flags.to_string(),
        "redirect_uris": [],
        "interactions_endpoint_url": sim.settings().sim_interactions_url,
        "role_connections_verification_url": null,
        "event_webhooks_url": sim.settings().sim_webhook_events_url,
        "approximate_guild_count": world.state.guilds.len(),
        "approximate_user_install_count": 0,
        "approximate_user_authorization_count": 0,
        "explicit_content_filter": 0,
        "team": null,
        "eligible_oauth2_scopes": ["bot", "applications.commands"],
    }))
}
