//! Discord's address, the bot's identity, and the bounds of calls.

use launch::Secret;
use launch::settings::address;
use launch::settings::bounds::{bytes, count, ms};
use twilight_model::id::Id;
use twilight_model::id::marker::ApplicationMarker;
use url::Url;

/// An application of Discord's developer portal.
pub type ApplicationId = Id<ApplicationMarker>;

/// Discord's address, the bot's identity, and the bounds of calls.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Discord")]
pub struct DiscordSettings {
    /// The bot's token. Set it to the token on the page Bot of your application at Discord
    #[arg(long, env = "DISCORD_BOT_TOKEN", hide_env_values = true, value_parser = Secret::visible_ascii)]
    pub discord_bot_token: Secret,
    /// The application's id. Without it, the hub asks Discord
    #[arg(long, env = "DISCORD_APPLICATION_ID", value_parser = parse_application)]
    pub discord_application_id: Option<ApplicationId>,
    /// The address of Discord's API: scheme and host
    #[arg(long, env = "DISCORD_API_URL", default_value = "https://discord.com", value_parser = |text: &str| address::parse(text, address::HTTP_SERVER))]
    pub discord_api_url: Url,
    /// The time for a call to Discord, with its wait in the queue [ms; Discord answers in a fraction of it, and a person waits]
    #[arg(long, env = "DISCORD_TIMEOUT_MS", default_value_t = 5_000, value_parser = ms())]
    pub discord_timeout_ms: u64,
    /// How long after a create a channel may still appear whose answer was lost [ms; twice DISCORD_TIMEOUT_MS at least: a request may wait at Discord]
    #[arg(long, env = "DISCORD_SETTLE_MS", default_value_t = 20_000, value_parser = ms())]
    pub discord_settle_ms: u64,
    /// The most calls to Discord in progress [count; at 100 to 200 ms a call, more than 50 a second need]
    #[arg(long, env = "DISCORD_CONCURRENT_MAX", default_value_t = 16, value_parser = count())]
    pub discord_concurrent_max: usize,
    /// The most calls to Discord that wait; more fail [count; as many as finish within DISCORD_TIMEOUT_MS]
    #[arg(long, env = "DISCORD_WAITING_MAX", default_value_t = 64, value_parser = count())]
    pub discord_waiting_max: usize,
    /// The most calls to Discord a second [count; Discord allows a bot 50, and the worker needs a few]
    #[arg(long, env = "DISCORD_PER_SECOND_MAX", default_value_t = 45, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub discord_per_second_max: u32,
    /// After this many responses 401, 403 and 429 in 10 minutes the hub makes no call to Discord [count; Discord bans an address at 10,000]
    #[arg(long, env = "DISCORD_INVALID_ANSWERS_MAX", default_value_t = 100, value_parser = count())]
    pub discord_invalid_answers_max: usize,
    /// The largest response of Discord that is read [bytes; a list of 100 commands is well below it]
    #[arg(long, env = "DISCORD_ANSWER_BYTES_MAX", default_value_t = 1024 * 1024, value_parser = bytes())]
    pub discord_answer_bytes_max: usize,
}

fn parse_application(text: &str) -> Result<ApplicationId, String> {
    text.parse().map_err(|_| {
        "It must be the application's id: digits alone, from its page at Discord.".to_owned()
    })
}
