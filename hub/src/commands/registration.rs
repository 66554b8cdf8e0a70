//! Tells Discord of the commands, in each guild, and only where something changed: a guild takes
//! 200 new commands a day, and whatever else the application registered there stays.

use std::time::Duration;

use proto::GuildId;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::definition::{self, Definition};
use crate::discord::{Discord, DiscordError};

/// How often a guild is tried before an operator has to look.
const ATTEMPTS_MAX: u32 = 8;
/// The first pause between two attempts, in ms; each further one doubles.
const PAUSE_MS: u64 = 1_000;
/// No pause is longer, in ms, unless Discord asks for it.
const PAUSE_MAX_MS: u64 = 60_000;

/// Registers the commands in these guilds, one after the other, until `shutdown`. A guild that can
/// not be reached does not keep the others waiting for more than its attempts, nor the hub at all.
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
            Err(error @ DiscordError::Unavailable) => (error, 0),
            Err(error) => {
                metrics::counter!("hub_discord_registrations_total", "outcome" => "refused")
                    .increment(1);
                tracing::error!(guild_id = %guild, %error, "slash commands can not be registered; was the bot invited with the scope applications.commands?");
                return;
            }
        };
        if attempt < ATTEMPTS_MAX {
            let pause_ms = pause_ms(attempt, rand::Rng::next_u32(&mut rand::rng())).max(asked_ms);
            tracing::warn!(guild_id = %guild, attempt, %error, pause_ms, "slash commands could not be registered yet");
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }
    metrics::counter!("hub_discord_registrations_total", "outcome" => "given_up").increment(1);
    tracing::error!(guild_id = %guild, attempts = ATTEMPTS_MAX, "slash commands are not registered; restart the hub to try again");
}

async fn put_if_changed(discord: &Discord, guild: GuildId) -> Result<&'static str, DiscordError> {
    let wanted = definition::room();
    // Others' commands may have forms that ours do not; what can not be read is not ours.
    let there = discord.guild_commands::<Value>(guild).await?;
    let same = |command| {
        serde_json::from_value::<Definition>(command).is_ok_and(|command| command == wanted)
    };
    if there.into_iter().any(same) {
        return Ok("unchanged");
    }
    discord.put_guild_command(guild, &wanted).await?;
    Ok("registered")
}

/// Doubling, and by luck up to a half shorter, so that hubs that fell together do not come together.
fn pause_ms(attempt: u32, luck: u32) -> u64 {
    let whole = PAUSE_MS
        .saturating_mul(1 << attempt.saturating_sub(1).min(16))
        .min(PAUSE_MAX_MS);
    whole - whole / 2 * u64::from(luck % 1_000) / 1_000
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
