//! Health, readiness and metrics, on a listener of their own.

mod exchange;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use proto::gateway::GatewayState;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::deliver::Acknowledged;
use crate::feed::{Desk, Feed, FeedHealth};
use exchange::Bounds;

/// The bounds of this listener. A probe or a scrape takes milliseconds, and there are a few.
const EXCHANGE: Bounds = Bounds {
    connections_max: 64,
    time_max: Duration::from_secs(10),
};

/// What the pages show: the shards, once Discord has said which there are.
#[derive(Debug, Default)]
pub struct Board {
    shards: Mutex<Vec<Shown>>,
    draining: CancellationToken,
}

/// One shard, as far as it is shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its feed.
    pub desk: Arc<Desk>,
    /// Its delivery.
    pub acknowledged: Arc<Acknowledged>,
}

/// Whether the worker does what it is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Degraded,
    Draining,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: Status,
    shards: Vec<ShardHealth>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardHealth {
    #[serde(flatten)]
    feed: FeedHealth,
    /// What it waits for, if it has not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<&'static str>,
    /// The hub took the last delivery.
    acknowledged: bool,
    /// When it last took one, in ms since the Unix epoch.
    acknowledged_at: Option<u64>,
}

impl Board {
    /// Shows one shard more.
    pub fn show(&self, shard: Shown) {
        self.lock().push(shard);
    }

    /// From now on the worker is on its way out.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    fn shards(&self) -> Vec<Shown> {
        self.lock().clone()
    }

    fn is_ready(&self) -> bool {
        let shards = self.shards();
        !self.draining.is_cancelled()
            && !shards.is_empty()
            && shards
                .iter()
                .all(|shard| shard.acknowledged.is_current() && shard.desk.look(Feed::is_live))
    }

    fn health(&self) -> Health {
        let shards: Vec<ShardHealth> = self
            .shards()
            .into_iter()
            .map(|shard| (look_at(&shard), shard))
            .map(|(feed, shard)| ShardHealth {
                waiting: (feed.generation == 0).then_some("waiting for the hub"),
                feed,
                acknowledged: shard.acknowledged.is_current(),
                acknowledged_at: shard.acknowledged.at_ms(),
            })
            .collect();
        // A shard that catches up is ready, since its session and its hub are there, but not well.
        let live = shards
            .iter()
            .all(|shard| shard.feed.gateway.state == GatewayState::Live);
        let status = if self.draining.is_cancelled() {
            Status::Draining
        } else if self.is_ready() && live {
            Status::Ok
        } else {
            Status::Degraded
        };
        Health { status, shards }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Shown>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Pages {
    board: Arc<Board>,
    metrics: PrometheusHandle,
}

/// Serves the pages until the token is cancelled.
pub async fn serve(
    listener: TcpListener,
    board: Arc<Board>,
    metrics: PrometheusHandle,
    end: CancellationToken,
) {
    let pages = Pages { board, metrics };
    let router = Router::new()
        .route("/health", get(health))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .with_state(pages);
    exchange::accept(listener, router, EXCHANGE, end).await;
}

async fn health(State(pages): State<Pages>) -> impl IntoResponse {
    Json(pages.board.health())
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    if pages.board.is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    }
}

async fn render_metrics(State(pages): State<Pages>) -> impl IntoResponse {
    for shard in pages.board.shards() {
        gauge(&shard);
    }
    pages.metrics.run_upkeep();
    pages.metrics.render()
}

fn look_at(shard: &Shown) -> FeedHealth {
    let now_ms = launch::clock::now_ms();
    shard.desk.look(|feed| feed.health(now_ms))
}

/// Gauges are read when somebody looks.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts far below 2^52, for a gauge"
)]
fn gauge(shard: &Shown) {
    let health = look_at(shard);
    let number = health.shard.0.to_string();
    let set = |name: &'static str, value: f64| {
        metrics::gauge!(name, "shard" => number.clone()).set(value);
    };
    set("worker_outbox_events", health.outbox_events as f64);
    set("worker_outbox_bytes", health.outbox_bytes as f64);
    set("worker_guilds", health.guilds as f64);
    set("worker_guilds_in_debt", health.debts as f64);
    set("worker_guilds_not_served", health.not_served.len() as f64);
    set("worker_guilds_silent", health.silent as f64);
    set("worker_sequence_read", health.read.sequence as f64);
    let same = health.acknowledged_to.session == health.read.session;
    set(
        "worker_sequence_acknowledged",
        if same {
            health.acknowledged_to.sequence as f64
        } else {
            0.0
        },
    );
    set("worker_questions_open", health.gaps as f64);
    set(
        "worker_gateway_live",
        f64::from(u8::from(shard.desk.look(Feed::is_live))),
    );
    set(
        "worker_hub_acknowledged",
        f64::from(u8::from(shard.acknowledged.is_current())),
    );
}

/// Says what the metrics mean, for their help lines.
pub(crate) fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("worker_dispatches_total", "Dispatches received, by name");
    describe_counter!(
        "worker_dispatches_foreign_total",
        "Dispatches about guilds that are not followed"
    );
    describe_counter!(
        "worker_dispatches_repeated_total",
        "Dispatches that had been read before"
    );
    describe_counter!(
        "worker_illegible_total",
        "Dispatches that could not be read and were asked for, by name"
    );
    describe_counter!(
        "worker_payloads_unreadable_total",
        "Gateway payloads that could not be read at all"
    );
    describe_counter!(
        "worker_questions_total",
        "Questions to Discord's REST about what was illegible"
    );
    describe_counter!(
        "worker_rebuilds_total",
        "Identifies because a guild could not be known otherwise"
    );
    describe_counter!(
        "worker_events_total",
        "Events made, by whether they were queued, left to a snapshot, or known to the hub already"
    );
    describe_counter!(
        "worker_events_delivered_total",
        "Events that the hub appended"
    );
    describe_counter!(
        "worker_events_duplicate_total",
        "Events that the hub knew already"
    );
    describe_counter!("worker_events_refused_total", "Events that the hub refused");
    describe_counter!(
        "worker_outbox_full_total",
        "Times that a guild's backlog was forgotten because the outbox was full"
    );
    describe_counter!(
        "worker_deliveries_total",
        "Attempts to deliver, by the hub's answer"
    );
    describe_counter!(
        "worker_deliveries_halved_total",
        "Deliveries that the hub refused as malformed or too large, and that were halved to find why"
    );
    describe_counter!(
        "worker_groups_set_aside_total",
        "Groups of events that the hub refused for good"
    );
    describe_counter!(
        "worker_snapshots_too_large_total",
        "Snapshots that are larger than any delivery may be"
    );
    describe_counter!(
        "worker_store_changes_total",
        "Times that the hub's store was older than it had been, by how it was noticed"
    );
    describe_counter!(
        "worker_claims_total",
        "Attempts to claim a shard, by the hub's answer"
    );
    describe_counter!(
        "worker_claims_too_large_total",
        "Claims whose answer was too large to read"
    );
    describe_counter!(
        "worker_identify_notices_late_total",
        "Identifies that the hub could not be told of when they happened"
    );
    describe_histogram!(
        "worker_delivery_seconds",
        "How long an attempt to deliver took"
    );
    describe_counter!("worker_identifies_total", "Identifies sent");
    describe_counter!("worker_resumes_total", "RESUMEs sent");
    describe_counter!(
        "worker_sessions_lost_total",
        "Gateway sessions given up because Discord did not answer RESUME_ATTEMPTS_MAX RESUMEs"
    );
    describe_counter!(
        "worker_identify_budget_exhausted_total",
        "Times that the day's identify budget was spent"
    );
    describe_gauge!(
        "worker_identify_budget_used",
        "Identifies of the day, by the highest of Discord's, the hub's and this process's count"
    );
    describe_gauge!(
        "worker_identify_budget_remaining",
        "Identifies that Discord leaves"
    );
    describe_counter!(
        "worker_gateway_closes_total",
        "Gateway connections that ended, by close code"
    );
    describe_counter!(
        "worker_gateway_connect_failures_total",
        "Connections to the gateway that failed"
    );
    describe_counter!(
        "worker_gateway_stalls_total",
        "Gateway connections given up because they were silent"
    );
    describe_gauge!("worker_gateway_live", "1 while the gateway session is live");
    describe_gauge!(
        "worker_hub_acknowledged",
        "1 while the hub takes deliveries"
    );
    describe_gauge!(
        "worker_clock_skew_seconds",
        "How far the hub's clock is from this one"
    );
    describe_gauge!("worker_outbox_events", "Events that wait for the hub");
    describe_gauge!("worker_outbox_bytes", "Their JSON, in bytes");
    describe_gauge!("worker_guilds", "Guilds that are followed");
    describe_gauge!(
        "worker_guilds_not_served",
        "Guilds that are followed here and not served by the hub: one of both settings is wrong"
    );
    describe_gauge!("worker_guilds_in_debt", "Guilds that owe a snapshot");
    describe_gauge!(
        "worker_guilds_silent",
        "Guilds whose replay has not passed what the hub knows"
    );
    describe_gauge!(
        "worker_sequence_read",
        "How far the gateway session was read"
    );
    describe_gauge!(
        "worker_sequence_acknowledged",
        "How far the hub has it all; 0: not of this session"
    );
    describe_gauge!(
        "worker_questions_open",
        "Questions about what was illegible that are open"
    );
}
