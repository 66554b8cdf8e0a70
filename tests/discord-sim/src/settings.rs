//! What can be set, each with its unit, default and reason; read from the environment by the binary.

use std::net::SocketAddr;

use clap::Parser;
use launch::settings::{Problem, Program, address};

use crate::state::permissions;

/// A simulated Discord: gateway v10 at `/`, REST under `/api/v10`, pictures, and a control side
/// under `/_sim`. It listens on loopback only, and is meant for tests and demonstrations.
#[derive(Debug, Clone, Parser)]
#[command(name = "discord-sim", version, about)]
pub struct Settings {
    /// Where to listen; loopback only, unless SIM_ALLOW_REMOTE=1
    #[arg(long, env = "SIM_LISTEN", default_value = "127.0.0.1:3900")]
    pub sim_listen: SocketAddr,
    /// 1: may listen beyond loopback (its token is public, so only in a network of its own)
    #[arg(long, env = "SIM_ALLOW_REMOTE", default_value = "0", action = clap::ArgAction::Set, value_parser = parse_switch)]
    pub sim_allow_remote: bool,
    /// Host and port that clients reach it by, in the URLs it hands out; default: the address it
    /// is bound to
    #[arg(long, env = "SIM_PUBLIC_HOST", value_parser = parse_public_host)]
    pub sim_public_host: Option<String>,
    /// Where interactions are delivered, signed; without it they go over the gateway, as with Discord
    #[arg(long, env = "SIM_INTERACTIONS_URL", value_parser = parse_url)]
    pub sim_interactions_url: Option<String>,
    /// Where webhook events are delivered, signed
    #[arg(long, env = "SIM_WEBHOOK_EVENTS_URL", value_parser = parse_url)]
    pub sim_webhook_events_url: Option<String>,
    /// 1: people move only on request
    #[arg(long, env = "SIM_QUIET", default_value = "0", action = clap::ArgAction::Set, value_parser = parse_switch)]
    pub sim_quiet: bool,
    /// Seed of everything that looks random: who moves when, session ids, tokens
    #[arg(long, env = "SIM_SEED", default_value_t = 1)]
    pub sim_seed: u64,
    /// Channels that the bot cannot view arrive as `___hidden___` and are left out of lists, as
    /// announced for all bots from 16 November 2026. 0: only for a bot that opts in
    #[arg(long, env = "SIM_OBFUSCATE", default_value = "1", action = clap::ArgAction::Set, value_parser = parse_switch)]
    pub sim_obfuscate: bool,
    /// Guilds that the bot is in; the second and later ones have ids 2^22 apart, so that shards
    /// get them in turn
    #[arg(long, env = "SIM_GUILDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub sim_guilds: u32,
    /// What the bot's role allows, as a bit field (topics/permissions); the bot may also do what
    /// @everyone may. The default is what Roomwire uses, VIEW_AUDIT_LOG included
    #[arg(long, env = "SIM_BOT_PERMISSIONS", default_value_t = permissions::BOT_DEFAULT, value_parser = clap::value_parser!(u64).range(..=permissions::ALL))]
    pub sim_bot_permissions: u64,

    /// Seconds that a session outlives its connection ("a few minutes" with Discord)
    #[arg(
        long,
        env = "SIM_SESSION_TTL_S",
        default_value_t = 180,
        help_heading = "Gateway"
    )]
    pub sim_session_ttl_s: u64,
    /// Heartbeat interval in HELLO, milliseconds (Discord's own value)
    #[arg(long, env = "SIM_HEARTBEAT_MS", default_value_t = 41_250, value_parser = clap::value_parser!(u64).range(50..), help_heading = "Gateway")]
    pub sim_heartbeat_ms: u64,
    /// Shards that `GET /gateway/bot` recommends
    #[arg(long, env = "SIM_SHARDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Gateway")]
    pub sim_shards: u32,
    /// `max_concurrency`: identify buckets (1 for all but the largest bots)
    #[arg(long, env = "SIM_MAX_CONCURRENCY", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Gateway")]
    pub sim_max_concurrency: u32,
    /// Milliseconds that an identify keeps its bucket busy
    #[arg(
        long,
        env = "SIM_IDENTIFY_EVERY_MS",
        default_value_t = 5_000,
        help_heading = "Gateway"
    )]
    pub sim_identify_every_ms: u64,
    /// Identifies allowed in one window; past it every session ends and the token is reset
    #[arg(
        long,
        env = "SIM_IDENTIFY_TOTAL",
        default_value_t = 1_000,
        help_heading = "Gateway"
    )]
    pub sim_identify_total: u32,
    /// The window of the identify budget, seconds
    #[arg(
        long,
        env = "SIM_IDENTIFY_WINDOW_S",
        default_value_t = 86_400,
        help_heading = "Gateway"
    )]
    pub sim_identify_window_s: u64,
    /// Privileged intents that the application was granted, as a bit field (2, 256, 32768)
    #[arg(
        long,
        env = "SIM_INTENTS_GRANTED",
        default_value_t = 0,
        help_heading = "Gateway"
    )]
    pub sim_intents_granted: u64,
    /// Guilds that one shard can carry, above which sharding is required
    #[arg(
        long,
        env = "SIM_GUILDS_PER_SHARD",
        default_value_t = 2_500,
        help_heading = "Gateway"
    )]
    pub sim_guilds_per_shard: u32,
    /// Payloads that a client may send on one connection within 60 s; more is closed with 4008
    #[arg(
        long,
        env = "SIM_SENDS_PER_MINUTE",
        default_value_t = 120,
        help_heading = "Gateway"
    )]
    pub sim_sends_per_minute: u32,
    /// Milliseconds between RECONNECT (op 7) and the end of the connection
    #[arg(
        long,
        env = "SIM_RECONNECT_GRACE_MS",
        default_value_t = 5_000,
        help_heading = "Gateway"
    )]
    pub sim_reconnect_grace_ms: u64,

    /// Requests within one window of a route's rate limit
    #[arg(long, env = "SIM_ROUTE_REQUESTS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), help_heading = "REST")]
    pub sim_route_requests: u32,
    /// The window of a route's rate limit, milliseconds
    #[arg(long, env = "SIM_ROUTE_WINDOW_MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..), help_heading = "REST")]
    pub sim_route_window_ms: u64,
    /// Renames of one channel within 10 minutes (Discord's own, undocumented, number)
    #[arg(long, env = "SIM_RENAMES", default_value_t = 2, help_heading = "REST")]
    pub sim_renames: u32,
    /// Requests of the bot within one second, over all routes
    #[arg(long, env = "SIM_GLOBAL_PER_S", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), help_heading = "REST")]
    pub sim_global_per_s: u32,

    /// Open TCP connections; more wait to be accepted (file descriptors are finite)
    #[arg(long, env = "SIM_CONNECTIONS_MAX", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub sim_connections_max: u32,
    /// Gateway sessions; the oldest detached one makes room, else IDENTIFY gets op 9
    #[arg(long, env = "SIM_SESSIONS_MAX", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub sim_sessions_max: u32,
    /// Dispatches that a session keeps for RESUME; a client further behind gets op 9
    #[arg(long, env = "SIM_REPLAY_MAX", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub sim_replay_max: u32,
    /// Payloads queued to one connection; a client that does not read is cut and may resume
    #[arg(long, env = "SIM_QUEUE_MAX", default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub sim_queue_max: u32,
    /// Transitions of the state that are kept; older ones are forgotten, and the answer says so
    #[arg(long, env = "SIM_TRANSITIONS_MAX", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub sim_transitions_max: u32,
    /// Members of one guild; more are refused with 400
    #[arg(
        long,
        env = "SIM_MEMBERS_MAX",
        default_value_t = 50_000,
        help_heading = "Bounds"
    )]
    pub sim_members_max: u32,
    /// Bytes of a request's body
    #[arg(
        long,
        env = "SIM_BODY_BYTES_MAX",
        default_value_t = 1_048_576,
        help_heading = "Bounds"
    )]
    pub sim_body_bytes_max: u32,
    /// Scripted REST faults that wait for their request; more are refused with 400
    #[arg(
        long,
        env = "SIM_FAULTS_MAX",
        default_value_t = 1_000,
        help_heading = "Bounds"
    )]
    pub sim_faults_max: u32,
    /// Audit log entries, and interactions with their messages; the oldest make room
    #[arg(long, env = "SIM_RECORDS_MAX", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..), help_heading = "Bounds")]
    pub sim_records_max: u32,
    /// Seconds until a request's header must be whole, and that a connection may be idle between
    /// two requests (longer than clients keep theirs, so that none is cut while it is reused)
    #[arg(long, env = "SIM_HEADER_S", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..), help_heading = "Bounds")]
    pub sim_header_s: u64,

    /// How the process logs.
    #[command(flatten)]
    pub logs: launch::logs::LogSettings,
}

impl Settings {
    /// Every setting at its default, for tests and for embedding: quiet, on a free loopback port.
    pub fn quiet() -> Self {
        let arguments = ["discord-sim", "--sim-listen=127.0.0.1:0", "--sim-quiet=1"];
        // The environment is not asked, so that tests do not depend on it.
        launch::settings::parse_from(arguments.map(Into::into), |_| None)
            .unwrap_or_else(|refusal| launch::settings::refuse(&format!("{refusal:?}")))
    }
}

impl Program for Settings {
    fn problems(&self) -> Vec<Problem> {
        if self.sim_listen.ip().is_loopback() || self.sim_allow_remote {
            return Vec::new();
        }
        let text = format!(
            "SIM_LISTEN is {}, which is not a loopback address. Use one, as in 127.0.0.1:3900, or set SIM_ALLOW_REMOTE=1.",
            self.sim_listen
        );
        vec![Problem::new(&["SIM_LISTEN", "SIM_ALLOW_REMOTE"], text)]
    }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("It must be 0 or 1.".to_owned()),
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    address::parse(text, address::HTTP).map(|_| text.to_owned())
}

fn parse_public_host(text: &str) -> Result<String, String> {
    let is_server = address::parse(&format!("http://{text}"), address::HTTP_SERVER).is_ok();
    if is_server && !text.contains(['/', '@', '?', '#']) {
        Ok(text.to_owned())
    } else {
        Err("It must be a host and a port, as in localhost:3900.".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_whole() {
        let settings = Settings::quiet();
        assert!(settings.sim_quiet);
        assert_eq!(settings.sim_session_ttl_s, 180);
        assert_eq!(settings.problems(), []);
    }

    #[test]
    fn it_listens_beyond_loopback_only_if_a_setting_allows_it() {
        let mut settings = Settings::quiet();
        settings.sim_listen = ([0, 0, 0, 0], 3900).into();
        assert!(settings.problems()[0].to_string().starts_with("SIM_LISTEN"));
        settings.sim_allow_remote = true;
        assert_eq!(settings.problems(), []);
    }
}
