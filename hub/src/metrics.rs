//! Every metric of the hub, and what it means. docs/operations.md explains their labels.

use launch::listener::HttpMetrics;
use launch::metrics::{Kind, Metric};

/// Upper bounds in seconds of how old an event is when its frames go out: from one hop on one host to a
/// backlog of the worker.
const EVENT_SECONDS: &[f64] = &[
    0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// The requests of the public listener.
pub(crate) const PUBLIC_HTTP: HttpMetrics = http("public");
/// The requests of the internal listener.
pub(crate) const INTERNAL_HTTP: HttpMetrics = http("internal");

const fn http(listener: &'static str) -> HttpMetrics {
    HttpMetrics {
        requests: "hub_http_requests_total",
        seconds: "hub_http_request_seconds",
        listener,
    }
}

/// Every metric of the hub.
pub(crate) const METRICS: &[Metric] = &[
    Metric::labelled(
        "hub_http_requests_total",
        "HTTP requests, by listener, method, route and status",
    ),
    Metric::seconds(
        "hub_http_request_seconds",
        "Time until the head of a request's answer was ready, by listener, method and route",
    ),
    Metric::gauge("hub_sockets_connections", "Open WebSockets"),
    Metric::gauge(
        "hub_sockets_unauthenticated",
        "Open WebSockets that have not authenticated",
    ),
    Metric::labelled(
        "hub_sockets_refused_total",
        "WebSockets refused before the upgrade, by reason",
    ),
    Metric::labelled(
        "hub_requests_refused_total",
        "REST requests refused because too many were being answered, by reason",
    ),
    Metric::labelled(
        "hub_sockets_closed_total",
        "WebSockets that the hub closed, by close code",
    ),
    Metric::counter(
        "hub_sockets_outbox_full_total",
        "WebSockets closed with 1013 because too much waited for them",
    ),
    Metric::counter(
        "hub_sockets_held_back_full_total",
        "Times that a client sent more than is read ahead while it waited",
    ),
    Metric::new(
        "hub_event_seconds",
        Kind::Histogram(EVENT_SECONDS),
        "Time from the worker's reading of an event to its frames in the outboxes, once for each event",
    ),
    Metric::counter(
        "hub_fanout_frames_total",
        "Event frames handed to connections",
    ),
    Metric::counter("hub_fanout_snapshots_total", "Snapshots encoded"),
    Metric::counter(
        "hub_fanout_views_full_total",
        "Subscriptions refused because the guild has VIEWS_PER_GUILD_MAX views",
    ),
    Metric::counter(
        "hub_fanout_lagged_total",
        "Times that the fan-out fell behind a log",
    ),
    Metric::labelled(
        "hub_recoveries_total",
        "Subscriptions that named a position, by outcome",
    ),
    Metric::counter(
        "hub_recovery_frames_total",
        "Missed frames handed to clients that recovered",
    ),
    Metric::gauge(
        "hub_recovery_histories",
        "Views whose past is kept encoded for recovery",
    ),
    Metric::gauge(
        "hub_guilds",
        "Guilds that the hub serves, by the state of their gateway connection",
    ),
    Metric::gauge("hub_guild_live", "1 while a guild is live, by guild"),
    Metric::labelled(
        "hub_ingest_deliveries_total",
        "Deliveries of workers, by outcome",
    ),
    Metric::labelled("hub_ingest_events_total", "Delivered events, by outcome"),
    Metric::labelled("hub_ingest_claims_total", "Claims of workers, by outcome"),
    Metric::seconds(
        "hub_store_commit_seconds",
        "Time to store a group of changes",
    ),
    Metric::new(
        "hub_store_group_jobs",
        Kind::Summary,
        "Changes stored together in a group",
    ),
    Metric::counter(
        "hub_store_failures_total",
        "Groups of changes that could not be stored",
    ),
    Metric::gauge("hub_store_failing", "1 while nothing can be stored"),
    Metric::gauge(
        "hub_store_file_bytes",
        "Size of the store's file and its journal after the last WAL checkpoint",
    ),
    Metric::counter(
        "hub_store_set_aside_total",
        "Damaged stores that were set aside",
    ),
    Metric::counter(
        "hub_store_written_anew_total",
        "Times that the store was written again because its files were taken away",
    ),
    Metric::counter(
        "hub_store_forgotten_early_total",
        "Times that a guild's oldest entries in the file were evicted near STORE_BYTES_MAX",
    ),
    Metric::labelled(
        "hub_store_journal_full_total",
        "Times that the journal reached STORE_JOURNAL_BYTES_MAX, by outcome",
    ),
    Metric::gauge("hub_log_entries", "Entries kept in memory for recovery"),
    Metric::counter(
        "hub_log_seen_forgotten_early_total",
        "Event ids evicted early because of SEEN_EVENTS_MAX",
    ),
    Metric::counter(
        "hub_refusals_unlogged_total",
        "Refusals without a line in the log because of REFUSALS_LOGGED_PER_S_MAX",
    ),
    Metric::labelled("hub_auth_tokens_total", "Tokens, by result"),
    Metric::labelled(
        "hub_auth_refreshes_total",
        "Fetches of the key sets, by issuer and result",
    ),
    Metric::gauge("hub_auth_keys", "Usable keys of the key set, by issuer"),
    Metric::gauge(
        "hub_auth_keys_skipped",
        "Keys of the key set that cannot be used, by issuer",
    ),
    Metric::gauge("hub_rooms_open", "Open rooms in the ledger"),
    Metric::gauge(
        "hub_creates_pending",
        "Creates whose outcome at Discord is not known yet",
    ),
    Metric::labelled(
        "hub_creates_reconciled_total",
        "Creates whose outcome was found out later, by what it was",
    ),
    Metric::gauge(
        "hub_create_answers",
        "Answers to creates with an Idempotency-Key that are kept for their repeats",
    ),
    Metric::counter(
        "hub_create_answers_forgotten_early_total",
        "Answers to creates evicted early because of LEDGER_ANSWERS_MAX",
    ),
    Metric::labelled(
        "hub_rooms_creates_total",
        "Commands to create a room, by outcome",
    ),
    Metric::labelled(
        "hub_rooms_invites_total",
        "Commands to make an invite to a room, by outcome",
    ),
    Metric::labelled("hub_rooms_ends_total", "Commands to end a room, by outcome"),
    Metric::labelled(
        "hub_discord_calls_total",
        "Calls to Discord's REST API, by call and outcome",
    ),
    Metric::seconds(
        "hub_discord_call_seconds",
        "Duration of calls to Discord's REST API, by call",
    ),
    Metric::labelled(
        "hub_discord_registrations_total",
        "Registrations of slash commands, one for each guild, by outcome",
    ),
    Metric::labelled("hub_discord_interactions_total", "Interactions, by outcome"),
    Metric::counter(
        "hub_discord_interactions_forgotten_early_total",
        "Interactions evicted early because of INTERACTIONS_REMEMBERED_MAX",
    ),
    Metric::counter(
        "hub_accept_failures_total",
        "TCP connections that could not be accepted",
    ),
    Metric::gauge(
        "hub_lingering_connections",
        "Connections that have their last answer and are read until the client closes",
    ),
    Metric::labelled(
        "hub_linger_cut_total",
        "Connections that the hub closed before their client had closed, by why",
    ),
    Metric::counter("hub_panics_total", "Panics that were caught; each is a bug"),
];
