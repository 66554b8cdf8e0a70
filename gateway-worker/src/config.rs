//! Every setting of the worker, and the only reader of its environment.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser};
use launch::Secret;
use launch::listener::ListenerSettings;
use launch::logs::LogSettings;
use launch::settings::{Problem, Program, address, list};
use proto::GuildId;
use proto::signing::SigningKeys;
use reqwest::Url;

/// Keeps the Discord gateway session and posts what happens, signed, to the hub.
#[derive(Debug, Clone, Parser)]
#[command(name = "gateway-worker", version, about)]
#[expect(missing_docs, reason = "the type of a flattened field says it")]
pub struct Config {
    /// A list of secrets shared with the hub, each whsec_<base64> of at least 32 bytes; the first
    /// signs. Set it to the same value at hub and gateway-worker; docs/operations.md says how to
    /// make one
    #[arg(long, env = "HUB_SECRET", hide_env_values = true, value_parser = parse_keys)]
    pub hub_secret: SigningKeys,
    /// The guild that is followed. Set it to the id of your Discord server
    #[arg(long, env = "PRIMARY_GUILD_ID", value_parser = parse_guild)]
    pub primary_guild_id: GuildId,
    /// A list of more guilds to follow
    #[arg(long, env = "GUILD_IDS", value_delimiter = ',', value_parser = parse_guild)]
    pub guild_ids: Vec<GuildId>,
    /// Where deliveries are posted; its path ends in `/events`, and claims go to `claim` beside it
    #[arg(long, env = "HUB_ENDPOINT", default_value = "http://127.0.0.1:3100/api/internal/events", value_parser = parse_hub_endpoint)]
    pub hub_endpoint: Url,
    /// Where health and metrics are served
    #[arg(long, env = "WORKER_LISTEN", default_value = "127.0.0.1:3001")]
    pub worker_listen: SocketAddr,
    #[command(flatten)]
    pub discord: DiscordSettings,
    #[command(flatten)]
    pub gateway: GatewaySettings,
    #[command(flatten)]
    pub delivery: DeliverySettings,
    #[command(flatten)]
    pub listener: ListenerSettings,
    #[command(flatten)]
    pub logs: LogSettings,
}

/// Where Discord is and who asks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Discord")]
pub struct DiscordSettings {
    /// The bot's token. Set it to the token on the page Bot of your application at Discord
    #[arg(long, env = "DISCORD_BOT_TOKEN", hide_env_values = true, value_parser = Secret::visible_ascii)]
    pub discord_bot_token: Secret,
    /// Discord's REST: scheme, host and port. Another one than Discord's is for tests
    #[arg(long, env = "DISCORD_API_URL", default_value = "https://discord.com", value_parser = |text: &str| address::parse(text, address::HTTP_SERVER))]
    pub discord_api_url: Url,
    /// The gateway (ws or wss); default: asked of the API
    #[arg(long, env = "DISCORD_GATEWAY_URL", value_parser = |text: &str| address::parse(text, address::WEB_SOCKET))]
    pub discord_gateway_url: Option<Url>,
    /// Where pictures are served
    #[arg(long, env = "DISCORD_CDN_URL", default_value = "https://cdn.discordapp.com", value_parser = |text: &str| address::parse(text, address::HTTP_SERVER))]
    pub discord_cdn_url: Url,
    /// Run this shard only (from 0); needs SHARD_COUNT. Default: all shards
    #[arg(long, env = "SHARD_ID")]
    pub shard_id: Option<u32>,
    /// How many shards there are (1 to 10000); needs SHARD_ID. Default: Discord's recommendation
    #[arg(long, env = "SHARD_COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub shard_count: Option<u32>,
    /// Milliseconds that a request to Discord's REST may take: Discord answers within a second,
    /// a rate limit of one route lasts a few
    #[arg(long, env = "DISCORD_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub discord_timeout_ms: u64,
}

/// How the gateway connection behaves, and what is kept of what it says.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Gateway")]
pub struct GatewaySettings {
    /// Identifies in 24 h, over all shards, at which the worker stops: Discord resets the token
    /// past 1000, and another worker may need the rest
    #[arg(long, env = "IDENTIFIES_PER_DAY_MAX", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=999))]
    pub identifies_per_day_max: u32,
    /// Identifies in 24 h that cost no wait; at least four for each of the bot's shards. Enough for
    /// a day of deploys
    #[arg(long, env = "IDENTIFIES_FREE", default_value_t = 20)]
    pub identifies_free: u32,
    /// Seconds that an identify waits at most: after the free ones the wait starts at 1 s and
    /// doubles. 300 s bounds a crash loop to about 320 identifies a day
    #[arg(long, env = "IDENTIFY_WAIT_MAX_S", default_value_t = 300)]
    pub identify_wait_max_s: u64,
    /// Milliseconds between two identifies of one bucket (Discord counts 5 s between their arrivals,
    /// and a connection takes its time: half a second more saves an identify that comes too early)
    #[arg(long, env = "IDENTIFY_EVERY_MS", default_value_t = 5_500)]
    pub identify_every_ms: u64,
    /// Milliseconds before identifying again after op 9 (random between a fifth of it and all of
    /// it; Discord asks for 1 to 5 s)
    #[arg(long, env = "IDENTIFY_AGAIN_MS", default_value_t = 5_000)]
    pub identify_again_ms: u64,
    /// Milliseconds before the worker identifies to read a guild that it could not read; doubles
    #[arg(long, env = "REBUILD_MIN_MS", default_value_t = 5_000)]
    pub rebuild_min_ms: u64,
    /// Milliseconds that this wait grows to: a guild that is never readable costs 24 identifies a
    /// day
    #[arg(long, env = "REBUILD_MAX_MS", default_value_t = 3_600_000)]
    pub rebuild_max_ms: u64,
    /// Milliseconds between two attempts to connect, at most, with full jitter
    #[arg(long, env = "RECONNECT_MAX_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub reconnect_max_ms: u64,
    /// Milliseconds of silence after which a gateway connection that is not live is replaced
    /// (heartbeats watch a live one). Above the 10 s that connecting may take
    #[arg(long, env = "GATEWAY_STALL_MS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub gateway_stall_ms: u64,
    /// RESUMEs of one session without RESUMED, on connections that sent HELLO, after which the
    /// worker gives the session up and identifies; counted over restarts of the worker
    #[arg(long, env = "RESUME_ATTEMPTS_MAX", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub resume_attempts_max: u32,
    /// Milliseconds from a RESUME to RESUMED, the replay included; then the worker ends the connection
    #[arg(long, env = "RESUME_ANSWER_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..))]
    pub resume_answer_ms: u64,
    /// Milliseconds between two questions to Discord about unreadable dispatches, for each shard:
    /// far below Discord's 50 requests a second
    #[arg(long, env = "QUESTION_EVERY_MS", default_value_t = 200)]
    pub question_every_ms: u64,
    /// Attempts of such a question before the worker identifies instead
    #[arg(long, env = "QUESTION_ATTEMPTS_MAX", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub question_attempts_max: u32,
    /// Open questions of one guild; with more, the worker identifies instead
    #[arg(long, env = "GAPS_MAX", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub gaps_max: u32,
    /// Deleted channels that a guild remembers, to ignore late updates; a forgotten one costs one
    /// question
    #[arg(long, env = "TOMBSTONES_MAX", default_value_t = 500)]
    pub tombstones_max: u32,
}

/// How events reach the hub.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Delivery")]
pub struct DeliverySettings {
    /// Events that wait for the hub, for each shard; beyond that they are dropped, and the guild
    /// owes a snapshot. An hour at 25 events a second
    #[arg(long, env = "OUTBOX_EVENTS_MAX", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub outbox_events_max: u32,
    /// The same bound for their JSON, in bytes. About 650 bytes an event; must hold the largest
    /// delivery twice
    #[arg(long, env = "OUTBOX_BYTES_MAX", default_value_t = 67_108_864, value_parser = clap::value_parser!(u64).range(65_536..))]
    pub outbox_bytes_max: u64,
    /// Events of one delivery: one transaction of the hub
    #[arg(long, env = "BATCH_EVENTS_MAX", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_events_max: u32,
    /// Their JSON, in bytes: what one transaction of the hub writes quickly
    #[arg(long, env = "BATCH_BYTES_MAX", default_value_t = 786_432, value_parser = clap::value_parser!(u64).range(16_384..=1_000_000))]
    pub batch_bytes_max: u64,
    /// The largest delivery, in bytes: a guild's snapshot, or the events of one dispatch, go in one,
    /// alone if they are larger than a batch. As much as the hub takes
    #[arg(long, env = "DELIVERY_BYTES_MAX", default_value_t = 8_388_608, value_parser = clap::value_parser!(u64).range(131_072..))]
    pub delivery_bytes_max: u64,
    /// Events of one delivery that the hub takes; more of one dispatch become a snapshot
    #[arg(long, env = "DELIVERY_EVENTS_MAX", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub delivery_events_max: u32,
    /// The largest answer to a claim, in bytes: all that the hub remembers of a shard's guilds,
    /// about 400 bytes a room or person. Without a larger one, the worker identifies
    #[arg(long, env = "CLAIM_BYTES_MAX", default_value_t = 67_108_864, value_parser = clap::value_parser!(u64).range(65_536..))]
    pub claim_bytes_max: u64,
    /// Milliseconds that the hub has to answer an identify notice; after that it is sent again
    /// later
    #[arg(long, env = "IDENTIFY_NOTICE_TIMEOUT_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub identify_notice_timeout_ms: u64,
    /// Milliseconds that the hub has to confirm, before a lost gateway connection is replaced, that
    /// no newer worker has the shard. An unreachable hub blocks no RESUME
    #[arg(long, env = "FENCE_CHECK_MS", default_value_t = 1_000)]
    pub fence_check_ms: u64,
    /// Milliseconds that a delivery may take: a hub that needs longer is not healthy
    #[arg(long, env = "HUB_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub hub_timeout_ms: u64,
    /// Milliseconds before a failed delivery is tried again, at first (with full jitter); doubles
    #[arg(long, env = "RETRY_MIN_MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub retry_min_ms: u64,
    /// Milliseconds that this wait grows to: a hub that is back gets a delivery within this time
    #[arg(long, env = "RETRY_MAX_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub retry_max_ms: u64,
    /// The longest Retry-After of the hub that the worker obeys, in milliseconds
    #[arg(long, env = "RETRY_AFTER_MAX_MS", default_value_t = 60_000)]
    pub retry_after_max_ms: u64,
    /// Milliseconds after which a delivery is sent even without events: after three missed ones the
    /// hub considers the worker gone
    #[arg(long, env = "BEAT_MS", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..))]
    pub beat_ms: u64,
    /// Milliseconds that the outbox has to empty when the worker is asked to stop; below the 10 s
    /// after which container runtimes kill
    #[arg(long, env = "DRAIN_MS", default_value_t = 5_000)]
    pub drain_ms: u64,
    /// Milliseconds between the hub's clock and this one that raise an alarm; the hub refuses what
    /// is a minute off
    #[arg(long, env = "CLOCK_SKEW_ALARM_MS", default_value_t = 10_000)]
    pub clock_skew_alarm_ms: u64,
}

impl Program for Config {
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "HUB_SECRET",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ),
        ("PRIMARY_GUILD_ID", "100000000000000001"),
        ("DISCORD_BOT_TOKEN", "token"),
    ];

    const CHECK: Option<&'static str> = Some(
        "the hub and the shared secret, Discord, the identify budget, the gateway, the guilds",
    );

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |settings: [&str; 2], text: String| {
            problems.push(Problem::new(&settings, text));
        };
        let shard = ["SHARD_ID", "SHARD_COUNT"];
        match (self.discord.shard_id, self.discord.shard_count) {
            (Some(_), None) => add(
                shard,
                "SHARD_ID needs SHARD_COUNT. Set both, or neither to run all shards.".to_owned(),
            ),
            (None, Some(_)) => add(
                ["SHARD_COUNT", "SHARD_ID"],
                "SHARD_COUNT needs SHARD_ID. Set both, or neither to run all shards.".to_owned(),
            ),
            (Some(id), Some(count)) if id >= count => add(
                shard,
                format!(
                    "SHARD_ID is {id}, and SHARD_COUNT is {count}. Shards count from 0: SHARD_ID must be from 0 to {}.",
                    count - 1
                ),
            ),
            _ => {}
        }
        let delivery = &self.delivery;
        if delivery.outbox_bytes_max < delivery.delivery_bytes_max.saturating_mul(2) {
            add(
                ["OUTBOX_BYTES_MAX", "DELIVERY_BYTES_MAX"],
                format!(
                    "OUTBOX_BYTES_MAX is {}. It must be at least twice DELIVERY_BYTES_MAX, which is {}, or no snapshot fits. Raise it.",
                    delivery.outbox_bytes_max, delivery.delivery_bytes_max
                ),
            );
        }
        for (lower, lower_value, upper, upper_value) in [
            (
                "BATCH_BYTES_MAX",
                delivery.batch_bytes_max,
                "DELIVERY_BYTES_MAX",
                delivery.delivery_bytes_max,
            ),
            (
                "RETRY_MIN_MS",
                delivery.retry_min_ms,
                "RETRY_MAX_MS",
                delivery.retry_max_ms,
            ),
            (
                "REBUILD_MIN_MS",
                self.gateway.rebuild_min_ms,
                "REBUILD_MAX_MS",
                self.gateway.rebuild_max_ms,
            ),
        ] {
            if lower_value > upper_value {
                add(
                    [lower, upper],
                    format!(
                        "{lower} is {lower_value}. It must not be above {upper}, which is {upper_value}. Lower it, or raise {upper}."
                    ),
                );
            }
        }
        problems
    }
}

impl Config {
    /// The guilds that are followed, each once.
    pub fn guilds(&self) -> Vec<GuildId> {
        let guilds: BTreeSet<GuildId> = std::iter::once(self.primary_guild_id)
            .chain(self.guild_ids.iter().copied())
            .collect();
        guilds.into_iter().collect()
    }
}

/// A setting in milliseconds as a duration.
pub(crate) const fn ms(setting: u64) -> Duration {
    Duration::from_millis(setting)
}

fn parse_keys(text: &str) -> Result<SigningKeys, String> {
    let secrets: Vec<&str> = list::items(text).collect();
    SigningKeys::parse(&secrets.join(",")).map_err(|why| why.to_string())
}

fn parse_guild(text: &str) -> Result<GuildId, String> {
    text.parse().map_err(|_| {
        "It must be the id of a Discord server: digits alone, as \"Copy Server ID\" gives them."
            .to_owned()
    })
}

/// Claims and notices are posted beside `events`.
fn parse_hub_endpoint(text: &str) -> Result<Url, String> {
    let url = address::parse(text, address::HTTP)?;
    if url.path().ends_with("/events") {
        Ok(url)
    } else {
        Err(format!(
            "Its path must end in /events. Write {}/api/internal/events.",
            url.origin().ascii_serialization()
        ))
    }
}

#[cfg(test)]
mod tests {
    use launch::settings::{Refusal, example};

    use super::*;

    fn read(changes: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        example(changes).map_err(|refusal: Refusal| refusal.lines())
    }

    #[test]
    fn three_settings_are_enough() {
        let config = read(&[("PRIMARY_GUILD_ID", "1")]).unwrap();
        assert_eq!(config.worker_listen.port(), 3001);
        assert_eq!(
            config.hub_endpoint.as_str(),
            "http://127.0.0.1:3100/api/internal/events"
        );
        assert_eq!(config.guilds(), [GuildId::new(1).unwrap()]);
        for list in ["3,1", "3 1", "3, 1,", "3\n1\n3"] {
            let config = read(&[("PRIMARY_GUILD_ID", "1"), ("GUILD_IDS", list)]).unwrap();
            assert_eq!(config.guilds().len(), 2, "{list:?}");
        }
    }

    #[test]
    fn a_missing_setting_is_named_with_what_to_do() {
        for (name, _) in Config::EXAMPLES {
            let lines = read(&[(name, "")]).unwrap_err();
            let cure = format!("{name} is missing. Set it to ");
            assert!(lines.len() == 1 && lines[0].starts_with(&cure), "{lines:?}");
        }
    }

    #[test]
    fn every_setting_that_cannot_be_used_is_named_in_a_sentence() {
        for (changes, named) in [
            (vec![("HUB_SECRET", "hunter2")], "HUB_SECRET"),
            (
                vec![("DISCORD_BOT_TOKEN", "hunter2 x")],
                "DISCORD_BOT_TOKEN",
            ),
            (vec![("PRIMARY_GUILD_ID", "0")], "PRIMARY_GUILD_ID"),
            (vec![("GUILD_IDS", "1,x")], "GUILD_IDS"),
            (vec![("SHARD_ID", "0")], "SHARD_ID"),
            (vec![("SHARD_ID", "-1"), ("SHARD_COUNT", "2")], "SHARD_ID"),
            (vec![("SHARD_COUNT", "2")], "SHARD_COUNT"),
            (vec![("SHARD_ID", "2"), ("SHARD_COUNT", "2")], "SHARD_ID"),
            (vec![("SHARD_ID", "0"), ("SHARD_COUNT", "0")], "SHARD_COUNT"),
            (
                vec![("DISCORD_API_URL", "https://discord.com/api")],
                "DISCORD_API_URL",
            ),
            (vec![("DISCORD_API_URL", "ftp://x")], "DISCORD_API_URL"),
            (vec![("DISCORD_CDN_URL", "cdn")], "DISCORD_CDN_URL"),
            (
                vec![("DISCORD_GATEWAY_URL", "https://x")],
                "DISCORD_GATEWAY_URL",
            ),
            (vec![("HUB_ENDPOINT", "http://u:p@x/")], "HUB_ENDPOINT"),
            (vec![("HUB_ENDPOINT", "http://x:3100")], "HUB_ENDPOINT"),
            (
                vec![("HUB_ENDPOINT", "http://x/api/internal/events/")],
                "HUB_ENDPOINT",
            ),
            (vec![("OUTBOX_BYTES_MAX", "65536")], "OUTBOX_BYTES_MAX"),
            (vec![("RETRY_MIN_MS", "9000")], "RETRY_MIN_MS"),
            (vec![("REBUILD_MAX_MS", "1")], "REBUILD_MIN_MS"),
            (vec![("DELIVERY_BYTES_MAX", "131072")], "BATCH_BYTES_MAX"),
            (
                vec![("IDENTIFIES_PER_DAY_MAX", "1000")],
                "IDENTIFIES_PER_DAY_MAX",
            ),
        ] {
            let lines = read(&changes).unwrap_err();
            assert_eq!(lines.len(), 1, "{lines:?}");
            let line = &lines[0];
            assert!(
                line.starts_with(named) && line.ends_with('.'),
                "{changes:?}: {line}"
            );
            assert!(!line.contains('\n') && !line.contains("hunter2"), "{line}");
        }
    }
}
