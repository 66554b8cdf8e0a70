//! The tasks of the hub.

use proto::GuildId;
use roomlog::Following;

use super::Parts;
use crate::commands::registration;
use crate::config::Settings;
use crate::lifecycle::Lifecycle;

/// Starts every task.
pub(super) fn start(
    parts: &Parts,
    settings: &Settings,
    followed: Vec<(GuildId, Following)>,
    lifecycle: &mut Lifecycle,
) {
    let stopped = lifecycle.stopped();
    lifecycle.spawn_critical("keys", parts.verifier.clone().run(stopped.clone()));
    for (guild, following) in followed {
        let fanout = parts.fanout.clone();
        let task = fanout.run(guild, following, stopped.clone());
        lifecycle.spawn_critical("fan-out", task);
    }
    let (freshness, health) = (parts.freshness.clone(), parts.log.health());
    let task = freshness.follow_store(health, stopped.clone());
    lifecycle.spawn_critical("store watch", task);
    let task = parts.freshness.clone().watch_silence(stopped.clone());
    lifecycle.spawn_critical("silence watch", task);
    let (log, end) = (parts.log.clone(), stopped.clone());
    lifecycle.spawn_critical("retention", async move { log.tend(end).await });
    let task = parts.rooms.clone().reconcile_creates(stopped.clone());
    lifecycle.spawn_critical("creates", task);
    if let Some(metrics) = parts.metrics.clone() {
        lifecycle.spawn(metrics.keep_up(stopped));
    }
    start_commands(parts, settings, lifecycle);
}

/// Registers the slash commands, if interactions can be verified.
fn start_commands(parts: &Parts, settings: &Settings, lifecycle: &Lifecycle) {
    if settings.discord_public_key.is_none() {
        tracing::info!(
            "DISCORD_PUBLIC_KEY is not set: Discord's signed requests get 404, and slash commands are disabled"
        );
        return;
    }
    let guilds = parts.access.guilds().to_vec();
    let discord = parts.discord.clone();
    lifecycle.spawn(registration::register(discord, guilds, lifecycle.stopped()));
    let endpoint = settings
        .interactions_endpoint_url
        .as_ref()
        .map_or("<public address>/interactions", |url| url.as_str());
    tracing::info!(
        endpoint,
        "slash commands are enabled; this is the interactions endpoint URL for Discord's developer portal"
    );
}
