//! Every metric of the worker, and what it means. docs/operations.md explains their labels.

use launch::listener::HttpMetrics;
use launch::metrics::{Metric, Metrics};
use metrics_exporter_prometheus::BuildError;

/// The requests of the worker's listener.
pub(crate) const HTTP: HttpMetrics = HttpMetrics {
    requests: "worker_http_requests_total",
    seconds: "worker_http_request_seconds",
    listener: "internal",
};

/// Makes this process record metrics, once.
///
/// # Errors
/// When the process records metrics already.
pub fn record() -> Result<Metrics, BuildError> {
    Metrics::record("worker_build_info", env!("CARGO_PKG_VERSION"), METRICS)
}

/// Every metric of the worker.
const METRICS: &[Metric] = &[
    Metric::labelled(
        "worker_http_requests_total",
        "HTTP requests, by listener, method, route and status",
    ),
    Metric::seconds(
        "worker_http_request_seconds",
        "Time until the head of a request's answer was ready, by listener, method and route",
    ),
    Metric::gauge(
        "worker_gateway_live",
        "1 while the gateway session is live, by shard",
    ),
    Metric::gauge(
        "worker_hub_acknowledged",
        "1 while the hub takes deliveries, by shard",
    ),
    Metric::gauge(
        "worker_checkpoint_age_seconds",
        "Time since the checkpoint last moved or covered everything that was read, by shard",
    ),
    Metric::gauge(
        "worker_sequence_read",
        "Newest sequence that was read of the gateway session, by shard",
    ),
    Metric::gauge(
        "worker_sequence_acknowledged",
        "Sequence of the checkpoint, by shard; 0: of another gateway session",
    ),
    Metric::gauge("worker_guilds", "Guilds that the worker follows, by shard"),
    Metric::gauge(
        "worker_guilds_in_debt",
        "Guilds that owe a snapshot, by shard",
    ),
    Metric::gauge(
        "worker_guilds_not_served",
        "Guilds that the worker follows and the hub does not serve, by shard",
    ),
    Metric::gauge(
        "worker_guilds_silent",
        "Guilds whose replay has not passed what the hub knows, by shard",
    ),
    Metric::gauge(
        "worker_outbox_events",
        "Events that wait for the hub, by shard",
    ),
    Metric::gauge(
        "worker_outbox_bytes",
        "JSON of the events that wait for the hub, by shard",
    ),
    Metric::counter(
        "worker_outbox_full_total",
        "Times that a guild's backlog was dropped because the outbox was full",
    ),
    Metric::gauge(
        "worker_questions_open",
        "Open questions to Discord about unreadable dispatches, by shard",
    ),
    Metric::labelled(
        "worker_questions_total",
        "Questions to Discord about unreadable dispatches, by result",
    ),
    Metric::labelled("worker_dispatches_total", "Dispatches received, by name"),
    Metric::counter(
        "worker_dispatches_foreign_total",
        "Dispatches about guilds that are not followed",
    ),
    Metric::counter(
        "worker_dispatches_repeated_total",
        "Dispatches that had been read before",
    ),
    Metric::labelled(
        "worker_illegible_total",
        "Dispatches that could not be read and were asked for, by name",
    ),
    Metric::counter(
        "worker_payloads_unreadable_total",
        "Gateway payloads that could not be read at all",
    ),
    Metric::counter(
        "worker_rebuilds_total",
        "Identifies because a guild could not be known otherwise",
    ),
    Metric::labelled("worker_events_total", "Events made, by fate"),
    Metric::counter(
        "worker_events_delivered_total",
        "Events that the hub appended",
    ),
    Metric::counter(
        "worker_events_duplicate_total",
        "Events that the hub had already",
    ),
    Metric::counter("worker_events_refused_total", "Events that the hub refused"),
    Metric::labelled(
        "worker_deliveries_total",
        "Attempts to deliver, by the hub's answer",
    ),
    Metric::seconds(
        "worker_delivery_seconds",
        "Duration of an attempt to deliver",
    ),
    Metric::counter(
        "worker_deliveries_halved_total",
        "Deliveries that the hub refused as a whole and that were retried in halves",
    ),
    Metric::counter(
        "worker_groups_set_aside_total",
        "Groups of events that the hub refused for good; each is a bug",
    ),
    Metric::labelled(
        "worker_claims_total",
        "Attempts to claim a shard, by the hub's answer",
    ),
    Metric::counter(
        "worker_claims_too_large_total",
        "Claims whose answer was too large to read",
    ),
    Metric::counter(
        "worker_snapshots_too_large_total",
        "Snapshots that are larger than any delivery may be",
    ),
    Metric::labelled(
        "worker_store_changes_total",
        "Times that the hub's store was older than before, by how it was noticed",
    ),
    Metric::gauge(
        "worker_clock_skew_seconds",
        "Difference between the hub's clock and this one",
    ),
    Metric::counter("worker_identifies_total", "Identifies sent"),
    Metric::counter(
        "worker_rate_limited_total",
        "Answers of Discord's REST with status 429",
    ),
    Metric::counter("worker_resumes_total", "RESUMEs sent"),
    Metric::counter(
        "worker_sessions_lost_total",
        "Gateway sessions given up because Discord did not answer RESUME_ATTEMPTS_MAX RESUMEs",
    ),
    Metric::counter(
        "worker_identify_notices_late_total",
        "Identifies that the hub was notified of only later",
    ),
    Metric::gauge(
        "worker_identify_budget_used",
        "Identifies of the last 24 h: the highest of Discord's, the hub's and this process's count",
    ),
    Metric::gauge(
        "worker_identify_budget_remaining",
        "Identifies that Discord leaves",
    ),
    Metric::counter(
        "worker_identify_budget_exhausted_total",
        "Times that the day's identify budget was spent",
    ),
    Metric::labelled(
        "worker_gateway_closes_total",
        "Gateway connections that ended, by close code",
    ),
    Metric::counter(
        "worker_gateway_connect_failures_total",
        "Connections to the gateway that failed",
    ),
    Metric::counter(
        "worker_gateway_stalls_total",
        "Gateway connections given up because they were silent",
    ),
    Metric::counter(
        "worker_accept_failures_total",
        "TCP connections that could not be accepted",
    ),
    Metric::gauge(
        "worker_lingering_connections",
        "Connections that have their last answer and are read until the client closes",
    ),
    Metric::labelled(
        "worker_linger_cut_total",
        "Connections that the worker closed before their client had closed, by why",
    ),
];
