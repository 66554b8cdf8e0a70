//! Registers the commands in each guild, and only where they changed: Discord allows 200 new commands
//! a day and guild. Other commands of the application stay.

use std::time::Duration;

use proto::GuildId;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::definition::{self, Definition};
use crate::discord::{Discord, DiscordError};

/// The most attempts for a guild.
const ATTEMPTS_MAX: u32 = 8;
/// The first pause between two attempts, in ms; each further one doubles.
const PAUSE_MS: u64 = 1_000;
/// The longest pause, in ms, unless Discord asks for a longer one.
const PAUSE_MAX_MS: u64 = 60_000;

/// Registers the commands in these guilds, one after the other, until `shutdown`. A guild that fails
/// delays the others by its attempts alone.
pub async fn register(discord: Discord, guilds: Vec<GuildId>, shutdown: CancellationToken) {
    let all = async {
        for guild in guilds {
            register_in(&discord, guild).await;
        }
    };
    shutdown.run_until_cancelled(all).await;
}

async fn register_in(discord: &Discord, guild: GuildId) {
    for attempt in 1..=ATTEMPTS_MAX {
        let (error, asked_ms) = match put_if_changed(discord, guild).await {
            Ok(outcome) => {
                metrics::counter!("hub_discord_registrations_total", "outcome" => outcome)
                    .increment(1);
                tracing::info!(guild_id = %guild, outcome, "slash commands");
                return;
            }
            Err(error @ DiscordError::RateLimited { retry_after_ms }) => (error, retry_after_ms),
            Err(error @ (DiscordError::Unreached | DiscordError::Unavailable)) => (error, 0),
            Err(error) => {
                metrics::counter!("hub_discord_registrations_total", "outcome" => "refused")
                    .increment(1);
                tracing::error!(guild_id = %guild, %error, "slash commands cannot be registered; was the bot invited with the scope applications.commands?");
                return;
            }
        };
        if attempt < ATTEMPTS_MAX {
            let pause_ms = pause_ms(attempt, rand::Rng::next_u32(&mut rand::rng())).max(asked_ms);
            tracing::warn!(guild_id = %guild, attempt, %error, pause_ms, "slash commands are not registered yet");
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
    metrics::counter!("hub_discord_registrations_total", "outcome" => "given_up").increment(1);
    tracing::error!(guild_id = %guild, attempts = ATTEMPTS_MAX, "slash commands are not registered; restart the hub to try again");
}

async fn put_if_changed(discord: &Discord, guild: GuildId) -> Result<&'static str, DiscordError> {
    let ours = definition::room();
    // Other commands may have fields that ours do not have. An unreadable command is not ours.
    let registered = discord.guild_commands::<Value>(guild).await?;
    let same = |command| {
        serde_json::from_value::<Definition>(command).is_ok_and(|command| command == ours)
    };
    if registered.into_iter().any(same) {
        return Ok("unchanged");
    }
    discord.put_guild_command(guild, &ours).await?;
    Ok("registered")
}

/// Doubles with each attempt, minus a random part of up to a half, so that hubs that fail together
/// do not retry together.
fn pause_ms(attempt: u32, random: u32) -> u64 {
    let whole = PAUSE_MS
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(PAUSE_MAX_MS);
    whole - whole / 2 * u64::from(random % 1_000) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        assert_eq!(pause_ms(1, 0), 1_000);
        assert_eq!(pause_ms(3, 0), 4_000);
        assert_eq!(pause_ms(3, 500), 3_000);
        assert_eq!(pause_ms(60, 0), PAUSE_MAX_MS);
        assert!(pause_ms(60, 999) >= PAUSE_MAX_MS / 2);
    }
}
