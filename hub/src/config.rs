//! The hub's settings: the only reader of its environment.
//!
//! All settings are parsed before a listener is bound. Every bound and timeout is a setting, so that
//! tests can reach it in seconds.

use std::net::SocketAddr;

use clap::Parser;
use launch::listener::ListenerSettings;
use launch::logs::LogSettings;
use launch::settings::bounds::{MS_MAX, bytes, count, count_to, ms};
use launch::settings::{Problem, Program, address, list, origin};
use proto::GuildId;
use proto::signing::SigningKeys;
use url::Url;

use crate::access::Access;
use crate::auth::reach::{PlainHttp, parse_key_set_url, plain_http_problem};
use crate::auth::settings::{self as auth, AuthSettings};
use crate::auth::{
    AudienceClaim, Audiences, ClaimPath, Issuer, IssuersFile, claim_warning, parse_issuer,
    read_issuers,
};
use crate::discord::DiscordSettings;
use crate::discord_http::{InteractionSettings, PublicKey};
use crate::error::ErrorLog;
use crate::rooms::api::RoomsApi;
use crate::sockets::client_address::Network;
use crate::sockets::limits::{FanoutLimits, RegistryLimits, SessionLimits, SocketLimits};
use crate::view::RoomsShown;
use roomlog::LogSettings as LogBounds;
use roomlog::address::{Durability, StoreAddress};
use roomlog::ledger::LedgerBounds;

/// How long Discord waits for the first response to an interaction, in ms ("Responding to an
/// Interaction" in Discord's documentation).
const DISCORD_WAITS_MS: u64 = 3_000;
/// `JWT_BYTES_MAX` is at most this, in bytes: the listener accepts a request head of 64 KiB, and
/// other headers need their part of it.
const JWT_BYTES_MAX_LIMIT: u64 = 48 * 1024;
/// The size of the first message without its token, in bytes: guilds, rooms and positions.
const AUTH_BESIDE_TOKEN_BYTES: usize = 4 * 1024;

/// Roomwire's hub: shows Discord voice rooms to browsers, and opens and closes them.
#[derive(Debug, Clone, Parser)]
#[command(name = "hub", version, about, max_term_width = 110)]
#[expect(
    missing_docs,
    reason = "the text of a flattened field would become the help's; see its type"
)]
pub struct Settings {
    /// The address of the public listener, for browsers and Discord
    #[arg(long, env = "HUB_LISTEN", default_value = "0.0.0.0:3000")]
    pub hub_listen: SocketAddr,
    /// The address of the internal listener, for the worker and operators; do not expose it to the Internet
    #[arg(long, env = "INTERNAL_LISTEN", default_value = "127.0.0.1:3100")]
    pub internal_listen: SocketAddr,
    /// Signs the worker's deliveries and seals browsers' positions: one or more whsec_<base64> of at least 32 bytes, as a list. Every secret verifies and opens, the first seals. Set it to the same value at hub and gateway-worker; docs/operations.md says how to make one
    #[arg(long, env = "HUB_SECRET", hide_env_values = true, value_parser = parse_signing_keys)]
    pub hub_secret: SigningKeys,
    /// The `iss` of accepted tokens, compared as a string; required without JWT_ISSUERS_FILE. Set it to the "iss" of your tokens
    #[arg(long, env = "JWT_ISSUER", value_parser = parse_issuer)]
    pub jwt_issuer: Option<String>,
    /// A list of audiences of which a token must name one; required without JWT_ISSUERS_FILE. Set it to the "aud" of your tokens
    #[arg(long, env = "JWT_AUDIENCE")]
    pub jwt_audience: Option<Audiences>,
    /// The URL of the issuer's key set (https, or http on loopback); required without JWT_ISSUERS_FILE. Set it to the "jwks_uri" of your issuer
    #[arg(long, env = "JWT_PUBLIC_JWK_URL", value_parser = parse_key_set_url)]
    pub jwt_public_jwk_url: Option<Url>,
    /// The token claim that names the audience: aud, client_id or azp [default: aud]
    #[arg(long, env = "JWT_AUDIENCE_CLAIM")]
    pub jwt_audience_claim: Option<AudienceClaim>,
    /// The token claim that lists the guilds: a name, or a path with dots such as app_metadata.guilds; never a claim that users can write themselves [default: guilds]
    #[arg(long, env = "JWT_GUILDS_CLAIM")]
    pub jwt_guilds_claim: Option<ClaimPath>,
    /// The token claim that lists the rights, named like JWT_GUILDS_CLAIM: a string of words, or an array [default: scope]
    #[arg(long, env = "JWT_SCOPE_CLAIM")]
    pub jwt_scope_claim: Option<ClaimPath>,
    /// A JSON file with several issuers, instead of the six settings above
    #[arg(long, env = "JWT_ISSUERS_FILE", value_parser = read_issuers)]
    pub jwt_issuers_file: Option<IssuersFile>,
    /// true allows key sets over plain http from private addresses, not only from loopback
    #[arg(long, env = "JWKS_ALLOW_HTTP", default_value_t = false, action = clap::ArgAction::Set)]
    pub jwks_allow_http: bool,
    /// The pages that may use the hub: a list of exact origins. App shells such as capacitor://localhost are possible. Set it to the origin of your pages, as in https://rooms.example.org
    #[arg(long, env = "WEB_ORIGIN", value_delimiter = ',', required = true, value_parser = origin::parse)]
    pub web_origin: Vec<String>,
    /// The guild of tokens and requests that name no guild. Set it to the id of your Discord server
    #[arg(long, env = "PRIMARY_GUILD_ID", value_parser = parse_guild)]
    pub primary_guild_id: GuildId,
    /// A list of more guilds
    #[arg(long, env = "GUILD_IDS", value_delimiter = ',', value_parser = parse_guild)]
    pub guild_ids: Vec<GuildId>,
    /// A list of the reverse proxies whose X-Forwarded-For or Forwarded header is trusted: addresses and networks, such as 10.0.0.7 or
    /// 10.0.0.0/8. Without it, a peer on loopback or in a private network counts as a proxy, and no limit by address applies
    #[arg(long, env = "TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<Network>,
    /// Where the log and the ledger are stored: sqlite://<path of a file> (created with its directories if it is missing), or
    /// memory: (lost when the process ends)
    #[arg(long, env = "STORE_URL", default_value = "sqlite://data/hub.db")]
    pub store_url: StoreAddress,
    /// What survives: process keeps acknowledged changes when the process dies, power also in a power cut, for one flush of the disk per group
    #[arg(long, env = "STORE_DURABILITY", value_enum, default_value = "process")]
    pub store_durability: Durability,
    /// Which rooms browsers may see: everyone (those that @everyone may view, and Roomwire's own), owned, or a list of
    /// channel and category ids
    #[arg(long, env = "ROOMS_SHOWN", default_value = "everyone")]
    pub rooms_shown: RoomsShown,
    /// The address of members' pictures, which the console's content security policy allows
    #[arg(long, env = "DISCORD_CDN_URL", default_value = "https://cdn.discordapp.com", value_parser = |text: &str| address::parse(text, address::HTTP_SERVER))]
    pub discord_cdn_url: Url,
    /// The application's public key, in hex. Without it, Discord's signed requests get 404
    #[arg(long, env = "DISCORD_PUBLIC_KEY")]
    pub discord_public_key: Option<PublicKey>,
    /// The public address of POST /interactions. The hub logs it at start, and `check --reach` compares it with Discord's
    #[arg(long, env = "INTERACTIONS_ENDPOINT_URL", value_parser = |text: &str| address::parse(text, address::HTTP))]
    pub interactions_endpoint_url: Option<Url>,
    /// A development issuer (http on loopback) at which the console signs users in. Without it, the console asks for a token
    #[arg(long, env = "CONSOLE_ISSUER_URL", value_parser = parse_demo_issuer)]
    pub console_issuer_url: Option<Url>,
    #[command(flatten)]
    pub logs: LogSettings,
    #[command(flatten)]
    pub listener: ListenerSettings,
    #[command(flatten)]
    pub discord: DiscordSettings,
    #[command(flatten)]
    pub interactions: InteractionSettings,
    #[command(flatten)]
    pub registry: RegistryLimits,
    #[command(flatten)]
    pub fanout: FanoutLimits,
    #[command(flatten)]
    pub bounds: Bounds,
}

/// The hub's bounds and timeouts.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Bounds and timeouts")]
pub struct Bounds {
    /// The most TCP connections of the public listener; more wait in the kernel's queue [count; the hub raises its soft descriptor limit to the hard one]
    #[arg(long, env = "TCP_CONNECTIONS_MAX", default_value_t = 20_000, value_parser = count())]
    pub tcp_connections_max: usize,
    /// The time in which a request is read and answered, else 408 [ms]
    #[arg(long, env = "REQUEST_TIMEOUT_MS", default_value_t = 10_000, value_parser = ms())]
    pub request_timeout_ms: u64,
    /// The time for a clean end after SIGTERM [ms; below the 30 s that supervisors usually grant]
    #[arg(long, env = "DRAIN_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(0..=MS_MAX))]
    pub drain_timeout_ms: u64,
    /// While draining, clients reconnect spread over this time [ms]
    #[arg(long, env = "RECONNECT_SPREAD_MS", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(0..=MS_MAX))]
    pub reconnect_spread_ms: u64,

    /// A client authenticates within this time, else 4408 [ms]
    #[arg(long, env = "AUTH_TIMEOUT_MS", default_value_t = 10_000, value_parser = ms())]
    pub auth_timeout_ms: u64,
    /// The largest client message, else 1009; about as much is read ahead while a message is processed [bytes]
    #[arg(long, env = "MESSAGE_BYTES_MAX", default_value_t = 16 * 1024, value_parser = bytes())]
    pub message_bytes_max: usize,
    /// The largest client message before authentication, else 1009; at least JWT_BYTES_MAX + 4096, at most MESSAGE_BYTES_MAX [bytes; a token and a few ids]
    #[arg(long, env = "UNAUTHENTICATED_MESSAGE_BYTES_MAX", default_value_t = 12 * 1024, value_parser = bytes())]
    pub unauthenticated_message_bytes_max: usize,
    /// A client message is complete within this time of its first byte, else 1008 [ms]
    #[arg(long, env = "MESSAGE_TIMEOUT_MS", default_value_t = 10_000, value_parser = ms())]
    pub message_timeout_ms: u64,
    /// The most client frames a second on average, else 4429 [count; users do not click faster]
    #[arg(long, env = "CLIENT_FRAMES_PER_S_MAX", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub client_frames_per_s_max: u32,
    /// The most client frames in a burst, else 4429 [count; a page that subscribes to all its guilds]
    #[arg(long, env = "CLIENT_FRAMES_BURST_MAX", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub client_frames_burst_max: u32,
    /// The most guilds of one WebSocket [count]
    #[arg(long, env = "SUBSCRIPTIONS_MAX", default_value_t = 100, value_parser = count())]
    pub subscriptions_max: usize,
    /// The hub pings this often [ms; below what proxies take for idle]
    #[arg(long, env = "PING_INTERVAL_MS", default_value_t = 20_000, value_parser = ms())]
    pub ping_interval_ms: u64,
    /// The time for the pong, else the hub closes the connection [ms]
    #[arg(long, env = "PONG_TIMEOUT_MS", default_value_t = 10_000, value_parser = ms())]
    pub pong_timeout_ms: u64,
    /// The most that may wait for one WebSocket when another frame arrives, else 1013 [bytes]
    #[arg(long, env = "OUTBOX_BYTES_MAX", default_value_t = 1_000_000, value_parser = bytes())]
    pub outbox_bytes_max: usize,
    /// The time for a WebSocket's close handshake [ms]
    #[arg(long, env = "CLOSE_TIMEOUT_MS", default_value_t = 1_000, value_parser = ms())]
    pub close_timeout_ms: u64,

    /// The largest delivery, else 413 [bytes; the largest guild's snapshot is one delivery]
    #[arg(long, env = "DELIVERY_BYTES_MAX", default_value_t = 8 * 1024 * 1024, value_parser = bytes())]
    pub delivery_bytes_max: usize,
    /// The most events of one delivery, else 413 [count]
    #[arg(long, env = "DELIVERY_EVENTS_MAX", default_value_t = 5_000, value_parser = count())]
    pub delivery_events_max: usize,
    /// The most guilds of a worker's claim, else 400 [count; Discord wants at most 2500 on a shard]
    #[arg(long, env = "CLAIM_GUILDS_MAX", default_value_t = 5_000, value_parser = count())]
    pub claim_guilds_max: usize,
    /// The most workers of one shard that are fenced in a minute; beyond it, claims of other workers wait (429) [count; a rolling deploy fences one]
    #[arg(long, env = "FENCINGS_PER_MINUTE_MAX", default_value_t = 3, value_parser = count_to(1_000))]
    pub fencings_per_minute_max: usize,
    /// The largest store; near the bound the oldest entries are evicted, and without entries to evict nothing is acknowledged [bytes, from 1 MiB]
    #[arg(long, env = "STORE_BYTES_MAX", default_value_t = LogBounds::STORE_BYTES_MAX, value_parser = clap::value_parser!(u64).range(1024 * 1024..=1 << 44))]
    pub store_bytes_max: u64,
    /// The largest WAL file of the store; at the bound the writer waits for the WAL checkpoint [bytes, from 1 MiB; larger only by one group, or while another program reads the file]
    #[arg(long, env = "STORE_JOURNAL_BYTES_MAX", default_value_t = LogBounds::JOURNAL_BYTES_MAX, value_parser = clap::value_parser!(u64).range(1024 * 1024..=1 << 44))]
    pub store_journal_bytes_max: u64,
    /// The most changes that wait for the store; further requests wait [count; a few groups]
    #[arg(long, env = "STORE_QUEUE_MAX", default_value_t = LogBounds::QUEUE_MAX, value_parser = count_to(1_000_000))]
    pub store_queue_max: usize,
    /// The most entries of a guild that are kept for recovery, within LOG_AGE_MAX_S [count; about 1 KB each in memory, a few hundred more at most]
    #[arg(long, env = "LOG_ENTRIES_MAX", default_value_t = LogBounds::ENTRIES_MAX, value_parser = count())]
    pub log_entries_max: usize,
    /// How long entries are kept for recovery [s; a client that was away for longer gets a snapshot]
    #[arg(long, env = "LOG_AGE_MAX_S", default_value_t = LogBounds::AGE_MAX_MS / 1000, value_parser = clap::value_parser!(u64).range(1..=MS_MAX / 1000))]
    pub log_age_max_s: u64,
    /// After this time without a delivery the gateway is `down` [ms; three beats of the worker]
    #[arg(long, env = "WORKER_SILENCE_MAX_MS", default_value_t = 6_000, value_parser = ms())]
    pub worker_silence_max_ms: u64,
    /// The most entries that the fan-out may lag behind a log; beyond it, viewers get a snapshot [entries]
    #[arg(long, env = "FOLLOW_ENTRIES_MAX", default_value_t = 4_096, value_parser = count())]
    pub follow_entries_max: usize,
    /// The most event ids that are stored to recognise repeats [count; about 100 bytes each]
    #[arg(long, env = "SEEN_EVENTS_MAX", default_value_t = 1_000_000, value_parser = count())]
    pub seen_events_max: usize,

    /// The most refused requests and tokens that are logged in a second; others are only counted [count]
    #[arg(long, env = "REFUSALS_LOGGED_PER_S_MAX", default_value_t = ErrorLog::PER_S_MAX, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub refusals_logged_per_s_max: u32,
    /// The most REST requests in progress; more wait [count]
    #[arg(long, env = "REQUESTS_MAX", default_value_t = 256, value_parser = count_to(1_000_000))]
    pub requests_max: usize,
    /// The most REST requests that wait, each at most REQUEST_TIMEOUT_MS; more get 503 [count]
    #[arg(long, env = "REQUESTS_WAITING_MAX", default_value_t = 1_024, value_parser = count_to(1_000_000))]
    pub requests_waiting_max: usize,
    /// The largest body of a REST request, else 413 [bytes]
    #[arg(long, env = "REQUEST_BYTES_MAX", default_value_t = RoomsApi::BODY_BYTES_MAX, value_parser = bytes())]
    pub request_bytes_max: usize,
    /// Rooms that one subject may create in a minute, else 429 [count]
    #[arg(long, env = "CREATE_ROOMS_PER_MINUTE", default_value_t = LedgerBounds::CREATES_PER_MINUTE, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub create_rooms_per_minute: u32,
    /// Subjects that are remembered for it [count; those of one minute]
    #[arg(long, env = "CREATORS_MAX", default_value_t = LedgerBounds::CREATORS_MAX, value_parser = count())]
    pub creators_max: usize,
    /// Roomwire's own rooms that stand open, else nobody can create one [count]
    #[arg(long, env = "LEDGER_ROOMS_MAX", default_value_t = LedgerBounds::ROOMS_MAX, value_parser = count())]
    pub ledger_rooms_max: usize,
    /// Past rooms that are remembered, so that ending one twice succeeds twice [count]
    #[arg(long, env = "LEDGER_PAST_MAX", default_value_t = LedgerBounds::PAST_MAX, value_parser = count())]
    pub ledger_past_max: usize,
    /// Answers to creates with an `Idempotency-Key` that are kept for 24 h; the oldest makes room [count]
    #[arg(long, env = "LEDGER_ANSWERS_MAX", default_value_t = LedgerBounds::ANSWERS_MAX, value_parser = count())]
    pub ledger_answers_max: usize,

    /// Leeway on a token's `exp` and `nbf` [s]
    #[arg(long, env = "JWT_LEEWAY_S", default_value_t = auth::LEEWAY_S, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub jwt_leeway_s: u64,
    /// The largest token, at most 49152 [bytes; a request's head is at most 65536]
    #[arg(long, env = "JWT_BYTES_MAX", default_value_t = auth::TOKEN_BYTES_MAX, value_parser = count_to(JWT_BYTES_MAX_LIMIT))]
    pub jwt_bytes_max: usize,
    /// Unknown key ids cause at most one refresh of the keys in this time [ms]
    #[arg(long, env = "JWKS_COOLDOWN_MS", default_value_t = auth::REFRESH_COOLDOWN_MS, value_parser = ms())]
    pub jwks_cooldown_ms: u64,
    /// The keys are refreshed this often; a removed key is rejected within this time [ms]
    #[arg(long, env = "JWKS_INTERVAL_MS", default_value_t = auth::REFRESH_INTERVAL_MS, value_parser = ms())]
    pub jwks_interval_ms: u64,
    /// The time for a refresh of the keys [ms]
    #[arg(long, env = "JWKS_TIMEOUT_MS", default_value_t = auth::FETCH_TIMEOUT_MS, value_parser = ms())]
    pub jwks_timeout_ms: u64,
    /// The longest use of the last good keys without a refresh [ms]
    #[arg(long, env = "JWKS_STALE_MAX_MS", default_value_t = auth::STALE_MAX_MS, value_parser = ms())]
    pub jwks_stale_max_ms: u64,
    /// The largest key set [bytes]
    #[arg(long, env = "JWKS_BYTES_MAX", default_value_t = auth::JWKS_BYTES_MAX, value_parser = bytes())]
    pub jwks_bytes_max: usize,
    /// The most keys of a set [count]
    #[arg(long, env = "JWKS_KEYS_MAX", default_value_t = auth::KEYS_MAX, value_parser = count())]
    pub jwks_keys_max: usize,
}

impl Program for Settings {
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "HUB_SECRET",
            "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ),
        ("JWT_ISSUER", "https://login.example.org"),
        ("JWT_AUDIENCE", "roomwire"),
        (
            "JWT_PUBLIC_JWK_URL",
            "https://login.example.org/.well-known/jwks.json",
        ),
        ("WEB_ORIGIN", "https://rooms.example.org"),
        ("PRIMARY_GUILD_ID", "100000000000000001"),
        ("DISCORD_BOT_TOKEN", "token"),
    ];

    const CHECK: Option<&'static str> = Some(
        "the key set, the store's place, Discord, the application and its endpoint, the bot's permissions in each guild",
    );

    fn problems(&self) -> Vec<Problem> {
        let bounds = &self.bounds;
        let mut problems = Vec::new();
        let mut add = |settings: [&str; 2], text: String| {
            problems.push(Problem::new(&settings, text));
        };
        if self.hub_listen == self.internal_listen && self.hub_listen.port() != 0 {
            let text = format!(
                "HUB_LISTEN and INTERNAL_LISTEN are both {}. Give each a port of its own.",
                self.hub_listen
            );
            add(["HUB_LISTEN", "INTERNAL_LISTEN"], text);
        }
        if bounds.jwks_stale_max_ms < bounds.jwks_interval_ms {
            let text = format!(
                "JWKS_STALE_MAX_MS is {}, below JWKS_INTERVAL_MS, which is {}: keys would be dropped before they are refreshed. Raise it.",
                bounds.jwks_stale_max_ms, bounds.jwks_interval_ms
            );
            add(["JWKS_STALE_MAX_MS", "JWKS_INTERVAL_MS"], text);
        }
        let (first, token) = (
            bounds.unauthenticated_message_bytes_max,
            bounds.jwt_bytes_max,
        );
        let needed = token.saturating_add(AUTH_BESIDE_TOKEN_BYTES);
        if first < needed {
            let text = format!(
                "UNAUTHENTICATED_MESSAGE_BYTES_MAX is {first}. It must be at least {needed}, which is JWT_BYTES_MAX ({token}) and {AUTH_BESIDE_TOKEN_BYTES} bytes. Raise it, or lower JWT_BYTES_MAX."
            );
            add(["UNAUTHENTICATED_MESSAGE_BYTES_MAX", "JWT_BYTES_MAX"], text);
        }
        if bounds.message_bytes_max < first {
            let text = format!(
                "MESSAGE_BYTES_MAX is {}. It must be at least UNAUTHENTICATED_MESSAGE_BYTES_MAX ({first}), because a later message carries a token too. Raise it, or lower UNAUTHENTICATED_MESSAGE_BYTES_MAX.",
                bounds.message_bytes_max
            );
            add(
                ["MESSAGE_BYTES_MAX", "UNAUTHENTICATED_MESSAGE_BYTES_MAX"],
                text,
            );
        }
        if let Err(of_issuers) = self.issuers() {
            problems.extend(of_issuers);
        }
        problems.extend(self.plain_http_problems());
        problems
    }

    fn warnings(&self) -> Vec<Problem> {
        let bounds = &self.bounds;
        let mut warnings = self.claim_warnings();
        let mut warn = |settings: [&str; 2], text: String| {
            warnings.push(Problem::new(&settings, text));
        };
        if bounds.request_timeout_ms <= self.discord.discord_timeout_ms {
            warn(
                ["REQUEST_TIMEOUT_MS", "DISCORD_TIMEOUT_MS"],
                format!(
                    "REQUEST_TIMEOUT_MS is {}, not above DISCORD_TIMEOUT_MS, which is {}: a request may get 408 while its call to Discord is still in progress. Raise REQUEST_TIMEOUT_MS, or lower DISCORD_TIMEOUT_MS.",
                    bounds.request_timeout_ms, self.discord.discord_timeout_ms
                ),
            );
        }
        if self.interactions.interaction_answer_ms >= DISCORD_WAITS_MS {
            warn(
                ["INTERACTION_ANSWER_MS"; 2],
                format!(
                    "INTERACTION_ANSWER_MS is {}, and Discord waits {DISCORD_WAITS_MS} ms for the first response: slow slash commands will fail. Lower it.",
                    self.interactions.interaction_answer_ms
                ),
            );
        }
        if self.interactions_endpoint_url.is_some() && self.discord_public_key.is_none() {
            warn(["INTERACTIONS_ENDPOINT_URL", "DISCORD_PUBLIC_KEY"], "INTERACTIONS_ENDPOINT_URL is set and DISCORD_PUBLIC_KEY is not: Discord's requests get 404. Set DISCORD_PUBLIC_KEY to the public key of your application.".to_owned());
        }
        warnings
    }
}

impl Settings {
    /// The issuers whose tokens are accepted: those of the file, or the one of the settings.
    ///
    /// # Errors
    /// Settings that are missing, or that contradict the file: one line for each problem.
    fn issuers(&self) -> Result<Vec<Issuer>, Vec<Problem>> {
        let Some(file) = &self.jwt_issuers_file else {
            return self.only_issuer().map(|only| vec![only]);
        };
        if !file.problems.is_empty() {
            let problems = file.problems.iter().map(|problem| {
                Problem::new(
                    &["JWT_ISSUERS_FILE"],
                    format!("JWT_ISSUERS_FILE is wrong. {problem}"),
                )
            });
            return Err(problems.collect());
        }
        let Some(first) = file.issuers.first() else {
            return Ok(Vec::new());
        };
        // The settings of a single issuer may stay beside the file if they have the same values.
        let differs = [
            (
                "JWT_ISSUER",
                differs(self.jwt_issuer.as_ref(), &first.issuer),
            ),
            (
                "JWT_AUDIENCE",
                differs(
                    self.jwt_audience.as_ref().map(Audiences::as_slice),
                    first.audiences.as_slice(),
                ),
            ),
            (
                "JWT_PUBLIC_JWK_URL",
                differs(self.jwt_public_jwk_url.as_ref(), &first.jwks_url),
            ),
            (
                "JWT_AUDIENCE_CLAIM",
                differs(self.jwt_audience_claim.as_ref(), &first.audience_claim),
            ),
            (
                "JWT_GUILDS_CLAIM",
                differs(self.jwt_guilds_claim.as_ref(), &first.guilds_claim),
            ),
            (
                "JWT_SCOPE_CLAIM",
                differs(self.jwt_scope_claim.as_ref(), &first.scope_claim),
            ),
        ];
        let problems: Vec<_> = differs
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(name, _)| {
                let text = format!(
                    "{name} is not that of the first issuer in JWT_ISSUERS_FILE, and the file lists every issuer. Remove {name}."
                );
                Problem::new(&[name, "JWT_ISSUERS_FILE"], text)
            })
            .collect();
        if problems.is_empty() {
            Ok(file.issuers.clone())
        } else {
            Err(problems)
        }
    }

    fn only_issuer(&self) -> Result<Issuer, Vec<Problem>> {
        let missing = [
            (
                self.jwt_issuer.is_none(),
                "JWT_ISSUER",
                "Set it to the \"iss\" of your tokens.",
            ),
            (
                self.jwt_audience.is_none(),
                "JWT_AUDIENCE",
                "Set it to the \"aud\" of your tokens.",
            ),
            (
                self.jwt_public_jwk_url.is_none(),
                "JWT_PUBLIC_JWK_URL",
                "Set it to the \"jwks_uri\" of your issuer.",
            ),
        ];
        let (Some(issuer), Some(audiences), Some(jwks_url)) = (
            self.jwt_issuer.clone(),
            &self.jwt_audience,
            self.jwt_public_jwk_url.clone(),
        ) else {
            let missing = missing.into_iter().filter(|(is_missing, ..)| *is_missing);
            return Err(missing
                // Named with the file: an invalid file hides these problems.
                .map(|(_, name, cure)| {
                    let text = format!("{name} is missing. {cure}");
                    Problem::new(&[name, "JWT_ISSUERS_FILE"], text)
                })
                .collect());
        };
        let usual = Issuer::new(issuer, "", jwks_url);
        Ok(Issuer {
            audiences: audiences.as_slice().to_vec(),
            audience_claim: self.jwt_audience_claim.unwrap_or(usual.audience_claim),
            guilds_claim: self.jwt_guilds_claim.clone().unwrap_or(usual.guilds_claim),
            scope_claim: self.jwt_scope_claim.clone().unwrap_or(usual.scope_claim),
            ..usual
        })
    }

    /// The key sets that are not allowed over plain http. Other problems do not hide them.
    fn plain_http_problems(&self) -> Vec<Problem> {
        let (setting, key_sets) = match &self.jwt_issuers_file {
            Some(file) => ("JWT_ISSUERS_FILE", &file.key_sets[..]),
            None => ("JWT_PUBLIC_JWK_URL", self.jwt_public_jwk_url.as_slice()),
        };
        let problems = key_sets.iter().filter_map(|url| {
            let problem = plain_http_problem(url, self.plain_http())?;
            let text = format!("{setting} has \"{url}\". {problem}");
            let is_never_allowed = plain_http_problem(url, PlainHttp::PrivateNetwork).is_some();
            Some(if is_never_allowed {
                Problem::new(&[setting], text)
            } else {
                Problem::new(&[setting, "JWKS_ALLOW_HTTP"], text)
            })
        });
        problems.collect()
    }

    /// The claims that users can write themselves. Other problems do not hide them.
    fn claim_warnings(&self) -> Vec<Problem> {
        if let Some(file) = &self.jwt_issuers_file {
            let texts = file.warnings.iter().cloned();
            return texts
                .map(|text| Problem::new(&["JWT_ISSUERS_FILE"], text))
                .collect();
        }
        let of = self.jwt_issuer.as_deref().unwrap_or("your issuer");
        let claims = [
            ("JWT_GUILDS_CLAIM", "guilds", &self.jwt_guilds_claim),
            ("JWT_SCOPE_CLAIM", "rights", &self.jwt_scope_claim),
        ];
        let warnings = claims.into_iter().filter_map(|(setting, what, path)| {
            let text = claim_warning(what, of, path.as_ref()?)?;
            Some(Problem::new(&[setting], text))
        });
        warnings.collect()
    }

    fn plain_http(&self) -> PlainHttp {
        if self.jwks_allow_http {
            PlainHttp::PrivateNetwork
        } else {
            PlainHttp::Loopback
        }
    }

    /// The settings of the verification of tokens. Without issuers if [`Settings::problems`] names
    /// problems of the issuers.
    pub fn auth(&self) -> AuthSettings {
        AuthSettings {
            issuers: self.issuers().unwrap_or_default(),
            plain_http: self.plain_http(),
            leeway_s: self.bounds.jwt_leeway_s,
            refresh_cooldown_ms: self.bounds.jwks_cooldown_ms,
            refresh_interval_ms: self.bounds.jwks_interval_ms,
            fetch_timeout_ms: self.bounds.jwks_timeout_ms,
            stale_max_ms: self.bounds.jwks_stale_max_ms,
            jwks_bytes_max: self.bounds.jwks_bytes_max,
            keys_max: self.bounds.jwks_keys_max,
            token_bytes_max: self.bounds.jwt_bytes_max,
        }
    }

    /// The access rules of this hub.
    pub fn access(&self) -> Access {
        Access::new(
            self.primary_guild_id,
            &self.guild_ids,
            self.rooms_shown.clone(),
        )
    }

    /// The bounds of the log.
    pub fn log(&self) -> LogBounds {
        LogBounds {
            store: self.store_url.clone(),
            durability: self.store_durability,
            store_bytes_max: self.bounds.store_bytes_max,
            journal_bytes_max: self.bounds.store_journal_bytes_max,
            queue_max: self.bounds.store_queue_max,
            entries_max: self.bounds.log_entries_max,
            age_max_ms: self.bounds.log_age_max_s * 1000,
            follow_entries_max: self.bounds.follow_entries_max,
            seen_events_max: self.bounds.seen_events_max,
            ledger: LedgerBounds {
                rooms_max: self.bounds.ledger_rooms_max,
                past_max: self.bounds.ledger_past_max,
                creates_per_minute: self.bounds.create_rooms_per_minute,
                creators_max: self.bounds.creators_max,
                interactions_max: self.interactions.interactions_remembered_max,
                answers_max: self.bounds.ledger_answers_max,
            },
            fencings_per_minute_max: self.bounds.fencings_per_minute_max,
        }
    }

    /// The most descriptors of the public listener's clients. A WebSocket does not count as a TCP
    /// connection, nor does a connection that is read after its last response.
    pub fn public_descriptors(&self) -> usize {
        let lingering = self.listener.linger_connections_max as usize;
        let bounds = &self.bounds;
        let serving = bounds
            .tcp_connections_max
            .saturating_add(self.registry.connections_max);
        serving.saturating_add(lingering)
    }

    /// The bounds of the WebSocket endpoint.
    pub fn sockets(&self) -> SocketLimits {
        let bounds = &self.bounds;
        SocketLimits {
            session: SessionLimits {
                auth_timeout_ms: bounds.auth_timeout_ms,
                unauthenticated_frame_bytes_max: bounds.unauthenticated_message_bytes_max,
                frame_bytes_max: bounds.message_bytes_max,
                frames_per_s_max: bounds.client_frames_per_s_max,
                frames_burst_max: bounds.client_frames_burst_max,
                subscriptions_max: bounds.subscriptions_max,
                ping_interval_ms: bounds.ping_interval_ms,
                pong_timeout_ms: bounds.pong_timeout_ms,
                expiry_leeway_ms: bounds.jwt_leeway_s.saturating_mul(1_000),
                held_back_bytes_max: bounds.message_bytes_max,
            },
            message_bytes_max: bounds.message_bytes_max,
            message_timeout_ms: bounds.message_timeout_ms,
            outbox_bytes_max: bounds.outbox_bytes_max,
            close_timeout_ms: bounds.close_timeout_ms,
            reconnect_spread_ms: bounds.reconnect_spread_ms,
            trusted_proxies: self.trusted_proxies.clone(),
        }
    }
}

/// Whether a setting is set to another value.
fn differs<T: PartialEq + ?Sized>(setting: Option<&T>, than: &T) -> bool {
    setting.is_some_and(|setting| setting != than)
}

fn parse_signing_keys(text: &str) -> Result<SigningKeys, String> {
    let secrets: Vec<&str> = list::items(text).collect();
    SigningKeys::parse(&secrets.join(",")).map_err(|why| why.to_string())
}

fn parse_guild(text: &str) -> Result<GuildId, String> {
    text.parse().map_err(|_| {
        "It must be the id of a Discord server: digits alone, as \"Copy Server ID\" gives them."
            .to_owned()
    })
}

fn parse_demo_issuer(text: &str) -> Result<Url, String> {
    let url = parse_key_set_url(text)?;
    // It issues a token to anyone.
    if url.scheme() != "http" || plain_http_problem(&url, PlainHttp::Loopback).is_some() {
        return Err(
            "It must be a development issuer: http on loopback, as in http://127.0.0.1:3901."
                .to_owned(),
        );
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use launch::settings::{Refusal, Wrong, example};

    use super::*;

    /// The settings of a single issuer are not set.
    const NO_ISSUER: [(&str, &str); 3] = [
        ("JWT_ISSUER", ""),
        ("JWT_AUDIENCE", ""),
        ("JWT_PUBLIC_JWK_URL", ""),
    ];

    fn with(changes: &[(&str, &str)]) -> Result<Settings, Wrong> {
        example(changes).map_err(|refusal| match refusal {
            Refusal::Wrong(wrong) => wrong,
            Refusal::Help(text) => panic!("{text}"),
        })
    }

    fn lines(changes: &[(&str, &str)]) -> Vec<String> {
        let wrong = with(changes).unwrap_err();
        wrong.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn websockets_and_refused_clients_need_descriptors_of_their_own() {
        let settings = with(&[
            ("TCP_CONNECTIONS_MAX", "1000"),
            ("CONNECTIONS_MAX", "200"),
            ("UNAUTHENTICATED_MAX", "100"),
            ("LINGER_CONNECTIONS_MAX", "30"),
        ]);
        assert_eq!(settings.unwrap().public_descriptors(), 1_230);
    }

    #[test]
    fn the_required_settings_are_enough() {
        let settings = with(&[]).unwrap();
        assert_eq!(settings.web_origin, ["https://rooms.example.org"]);
        assert_eq!(settings.rooms_shown, RoomsShown::Everyone);
        assert!(settings.guild_ids.is_empty());
        assert_eq!(settings.hub_listen, "0.0.0.0:3000".parse().unwrap());
        assert_eq!(settings.problems(), []);
        assert_eq!(settings.warnings(), []);
    }

    #[test]
    fn a_missing_setting_is_named_with_what_to_do() {
        for (name, _) in Settings::EXAMPLES {
            let lines = lines(&[(name, "")]);
            let cure = format!("{name} is missing. Set it to ");
            assert!(lines.len() == 1 && lines[0].starts_with(&cure), "{lines:?}");
        }
    }

    #[test]
    fn an_issuer_and_an_audience_may_hold_an_address_of_ipv6() {
        let settings = with(&[
            ("JWT_ISSUER", "http://[::1]:3901"),
            ("JWT_AUDIENCE", "http://[::1], https://rooms.example.org"),
        ])
        .unwrap();
        assert_eq!(settings.auth().issuers[0].audiences.len(), 2);
    }

    #[test]
    fn every_wrong_setting_is_named_in_a_sentence() {
        for (name, value) in [
            ("HUB_SECRET", "whsec_MDEyMw=="),
            ("JWT_PUBLIC_JWK_URL", "http://example.org/jwks.json"),
            ("JWT_PUBLIC_JWK_URL", "http://10.0.0.7/keys"),
            ("JWT_AUDIENCE", " , "),
            ("JWT_AUDIENCE", r#"["a","b"]"#),
            ("JWT_AUDIENCE", "[a, b]"),
            ("JWT_AUDIENCE", "'a','b'"),
            ("JWT_AUDIENCE", "<audience>"),
            ("JWT_ISSUER", r#"["https://login.example.org"]"#),
            ("JWT_ISSUER", "https://login.example.org\""),
            ("JWT_ISSUER", "<https://login.example.org>"),
            ("JWT_GUILDS_CLAIM", r#"["guilds"]"#),
            ("JWT_AUDIENCE_CLAIM", "sub"),
            ("JWT_GUILDS_CLAIM", "my guilds"),
            ("JWKS_ALLOW_HTTP", "perhaps"),
            ("WEB_ORIGIN", "https://example.org,example.com"),
            ("PRIMARY_GUILD_ID", "99999999999999999999"),
            ("GUILD_IDS", "1,x"),
            ("ROOMS_SHOWN", "staff"),
            ("DISCORD_PUBLIC_KEY", "00"),
            ("DISCORD_BOT_TOKEN", "Bot hunter2"),
            ("DISCORD_APPLICATION_ID", "me"),
            ("OUTBOX_BYTES_MAX", "0"),
            ("TCP_CONNECTIONS_MAX", "9223372036854775807"),
            ("PING_INTERVAL_MS", "18446744073709551615"),
            ("CONSOLE_ISSUER_URL", "https://issuer.example"),
            ("STORE_URL", "redis://127.0.0.1:6379"),
            ("STORE_URL", "data/hub.db"),
            ("STORE_DURABILITY", "maybe"),
            ("STORE_BYTES_MAX", "1"),
            ("JWT_BYTES_MAX", "49153"),
            ("INTERNAL_LISTEN", "0.0.0.0:3000"),
            ("JWKS_STALE_MAX_MS", "1"),
        ] {
            let lines = lines(&[(name, value)]);
            let line = &lines[0];
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(line.contains(name) && !line.contains("hunter2"), "{line}");
            assert!(line.ends_with('.') && !line.contains('\n'), "{line}");
        }
    }

    /// What is wrong with this file of issuers, and no other settings of issuers.
    fn with_file(content: &[u8], changes: &[(&str, &str)]) -> Wrong {
        let folder = world::Folder::new();
        let path = folder.file("issuers.json");
        std::fs::write(&path, content).unwrap();
        let file = [("JWT_ISSUERS_FILE", &*path)];
        with(&[&NO_ISSUER[..], &file[..], changes].concat()).unwrap_err()
    }

    #[test]
    fn a_file_of_issuers_that_cannot_be_read_is_one_problem() {
        let [syntax, binary] = [b"[{'issuer':'a'}]", &[0xff][..]].map(|content| {
            let [problem] = &with_file(content, &[]).problems[..] else {
                panic!("{content:?}")
            };
            problem.to_string()
        });
        let absent = [("JWT_ISSUERS_FILE", "/no/such/file")];
        let [absent] = &lines(&[&NO_ISSUER[..], &absent[..]].concat())[..] else {
            panic!("not one line")
        };
        for (line, words) in [
            (&syntax, "is not JSON"),
            (&binary, "UTF-8"),
            (absent, "does not exist"),
        ] {
            assert!(line.starts_with("JWT_ISSUERS_FILE is wrong. "), "{line}");
            assert!(line.contains(words) && line.ends_with('.'), "{line}");
        }
    }

    #[test]
    fn no_problem_hides_another_one_of_an_issuer() {
        let found = lines(&[
            ("JWT_ISSUER", ""),
            ("JWT_PUBLIC_JWK_URL", "http://8.8.8.8/keys"),
            ("JWKS_ALLOW_HTTP", "perhaps"),
        ]);
        let begin: Vec<_> = found
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect();
        assert_eq!(
            begin,
            ["JWKS_ALLOW_HTTP", "JWT_ISSUER", "JWT_PUBLIC_JWK_URL"]
        );
        let wrong = with_file(
            br#"[{"issuer":"a","audience":[],"jwksUrl":"http://10.0.0.7/keys"},
                 {"issuer":"b","audience":["x"],"jwksUrl":"http://8.8.8.8/keys"}]"#,
            &[],
        );
        let named = [
            "audience",
            "subjectPrefix",
            "http://10.0.0.7",
            "http://8.8.8.8",
        ];
        for part in named {
            let found = wrong.problems.iter().map(ToString::to_string);
            let named = found.filter(|line| line.contains(part));
            assert_eq!(named.count(), 1, "{part}: {wrong:#?}");
        }
        assert_eq!(wrong.problems.len(), named.len(), "{wrong:#?}");
    }

    #[test]
    fn a_writable_claim_causes_a_warning_beside_problems() {
        for other in [("LOG_LEVEL", "loud"), ("JWT_ISSUER", "")] {
            let claim = ("JWT_GUILDS_CLAIM", "user_metadata.guilds");
            let wrong = with(&[claim, other]).unwrap_err();
            assert_eq!(wrong.problems.len(), 1, "{wrong:?}");
            let [warning] = &wrong.warnings[..] else {
                panic!("{wrong:?}")
            };
            assert!(warning.contains("user_metadata"), "{warning}");
        }
        let wrong = with_file(
            br#"[{"issuer":"a","audience":"x","jwksUrl":"","guildsClaim":"user_metadata.x"}]"#,
            &[],
        );
        assert_eq!(wrong.warnings.len(), 1, "{wrong:?}");
        // A stand-in is not what the operator wrote.
        let wrong = with(&[("REQUEST_TIMEOUT_MS", "5000"), ("DISCORD_TIMEOUT_MS", "x")]);
        assert_eq!(wrong.unwrap_err().warnings, [""; 0]);
    }

    #[test]
    fn settings_that_work_and_are_probably_not_meant_cause_a_warning() {
        for (name, value) in [
            ("REQUEST_TIMEOUT_MS", "5000"),
            ("INTERACTION_ANSWER_MS", "3000"),
            (
                "INTERACTIONS_ENDPOINT_URL",
                "https://rooms.example.org/interactions",
            ),
        ] {
            let warnings = with(&[(name, value)]).unwrap().warnings();
            assert!(
                warnings.len() == 1 && warnings[0].to_string().starts_with(name),
                "{warnings:?}"
            );
        }
    }

    #[test]
    fn message_sizes_below_the_largest_token_are_rejected_with_the_names_of_all_settings() {
        let line = |changes: &[(&str, &str)]| lines(changes).remove(0);
        let raised_alone = line(&[("JWT_BYTES_MAX", "8193")]);
        for part in [
            "UNAUTHENTICATED_MESSAGE_BYTES_MAX is 12288",
            "at least 12289",
            "JWT_BYTES_MAX (8193)",
        ] {
            assert!(raised_alone.contains(part), "{raised_alone}");
        }
        let both = [
            ("JWT_BYTES_MAX", "16384"),
            ("UNAUTHENTICATED_MESSAGE_BYTES_MAX", "20480"),
        ];
        assert!(line(&both).starts_with("MESSAGE_BYTES_MAX is 16384"));
        let mut all = both.to_vec();
        all.push(("MESSAGE_BYTES_MAX", "20480"));
        assert!(with(&all).is_ok());
        let less = [
            ("JWT_BYTES_MAX", "4096"),
            ("UNAUTHENTICATED_MESSAGE_BYTES_MAX", "8192"),
        ];
        assert!(with(&less).is_ok());
    }

    #[test]
    fn the_issuer_of_the_settings_has_the_claims_of_the_settings() {
        let settings = with(&[
            ("JWT_AUDIENCE", "one, two three"),
            ("JWT_AUDIENCE_CLAIM", "client_id"),
            ("JWT_GUILDS_CLAIM", "app_metadata.guilds"),
            ("JWT_SCOPE_CLAIM", "https://example.org/rights"),
        ])
        .unwrap();
        let [issuer] = &settings.auth().issuers[..] else {
            panic!("not one issuer")
        };
        assert_eq!(issuer.audiences, ["one", "two", "three"]);
        assert_eq!(issuer.audience_claim, AudienceClaim::ClientId);
        assert_eq!(issuer.guilds_claim.as_str(), "app_metadata.guilds");
        assert_eq!(issuer.scope_claim.as_str(), "https://example.org/rights");
        assert!(settings.warnings().is_empty());
        let writable = with(&[("JWT_GUILDS_CLAIM", "user_metadata.guilds")]).unwrap();
        assert_eq!(writable.warnings().len(), 1);
    }

    #[test]
    fn a_key_set_over_plain_http_from_a_private_address_needs_the_setting() {
        for (url, is_allowed) in [
            ("http://10.0.0.7/keys", true),
            ("http://keycloak:8080/keys", true),
            ("http://8.8.8.8/keys", false),
            ("http://169.254.169.254/keys", false),
        ] {
            let on = [("JWT_PUBLIC_JWK_URL", url), ("JWKS_ALLOW_HTTP", "true")];
            assert_eq!(with(&on).is_ok(), is_allowed, "{url}");
            assert!(with(&on[..1]).is_err(), "{url}");
        }
    }

    #[test]
    fn a_file_of_issuers_is_alone_or_beside_settings_with_the_same_values() {
        let folder = world::Folder::new();
        let path = folder.file("issuers.json");
        let file = r#"[
            {"issuer": "https://a.example", "audience": ["roomwire"], "jwksUrl": "https://a.example/keys"},
            {"issuer": "https://b.example", "audience": ["roomwire"], "jwksUrl": "https://b.example/keys", "subjectPrefix": "b:"}
        ]"#;
        std::fs::write(&path, file).unwrap();
        let beside = |others: &[(&str, &str)]| {
            with(&[&NO_ISSUER[..], &[("JWT_ISSUERS_FILE", &*path)][..], others].concat())
        };
        let same = [
            ("JWT_ISSUER", "https://a.example"),
            ("JWT_PUBLIC_JWK_URL", "https://a.example/keys"),
        ];
        for others in [&[][..], &same] {
            assert_eq!(beside(others).unwrap().auth().issuers.len(), 2);
        }
        for (name, value) in [
            ("JWT_ISSUER", "https://b.example"),
            ("JWT_AUDIENCE", "another"),
            ("JWT_PUBLIC_JWK_URL", "https://b.example/keys"),
            ("JWT_GUILDS_CLAIM", "app_metadata.guilds"),
        ] {
            let wrong = beside(&[(name, value)]).unwrap_err();
            let line = wrong.problems[0].to_string();
            assert!(
                line.starts_with(name) && line.contains("JWT_ISSUERS_FILE"),
                "{line}"
            );
        }
    }
}
