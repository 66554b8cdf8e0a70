//! Health, readiness and metrics, on a listener of their own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use launch::listener::{self, ListenerSettings, MetricNames};
use launch::metrics::Metrics;
use proto::gateway::GatewayState;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::deliver::Acknowledged;
use crate::feed::{Feed, FeedHealth, SharedFeed};
use crate::metrics::HTTP;

/// Connections at once: there are a few probes and scrapes, and each takes milliseconds.
const CONNECTIONS_MAX: usize = 64;
/// How long an answer may still take after the worker has ended everything else.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
const LISTENER_METRICS: MetricNames = MetricNames {
    accept_failures: "worker_accept_failures_total",
    lingering: "worker_lingering_connections",
    linger_cut: "worker_linger_cut_total",
};

/// The shards whose health the pages show.
#[derive(Debug, Default)]
pub struct HealthRegistry {
    shards: Mutex<Vec<ShardHealth>>,
    draining: CancellationToken,
}

/// The sources of one shard's health.
#[derive(Debug, Clone)]
pub struct ShardHealth {
    /// Its feed.
    pub feed: Arc<SharedFeed>,
    /// Its delivery.
    pub acknowledged: Arc<Acknowledged>,
}

/// The status of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Degraded,
    Draining,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthBody {
    status: Status,
    shards: Vec<ShardBody>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardBody {
    #[serde(flatten)]
    feed: FeedHealth,
    /// What the shard waits for before it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<&'static str>,
    /// The hub took the last delivery.
    acknowledged: bool,
    /// When it last took one, in ms since the Unix epoch.
    acknowledged_at: Option<u64>,
}

impl HealthRegistry {
    /// Adds a shard.
    pub fn add(&self, shard: ShardHealth) {
        self.lock().push(shard);
    }

    /// The worker is stopping.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    fn shards(&self) -> Vec<ShardHealth> {
        self.lock().clone()
    }

    fn is_ready(&self) -> bool {
        let shards = self.shards();
        !self.draining.is_cancelled()
            && !shards.is_empty()
            && shards
                .iter()
                .all(|shard| shard.acknowledged.is_current() && shard.feed.read(Feed::is_live))
    }

    fn health(&self) -> HealthBody {
        let shards: Vec<ShardBody> = self
            .shards()
            .into_iter()
            .map(|shard| (feed_health(&shard), shard))
            .map(|(feed, shard)| ShardBody {
                waiting: (feed.generation == 0).then_some("waiting for the hub"),
                feed,
                acknowledged: shard.acknowledged.is_current(),
                acknowledged_at: shard.acknowledged.at_ms(),
            })
            .collect();
        // A shard that catches up is ready, since its session and the hub work, but it is degraded.
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
        HealthBody { status, shards }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ShardHealth>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Pages {
    registry: Arc<HealthRegistry>,
    metrics: Metrics,
}

/// Serves the pages until the token is cancelled.
pub async fn serve(
    listener: TcpListener,
    settings: ListenerSettings,
    registry: Arc<HealthRegistry>,
    metrics: Metrics,
    end: CancellationToken,
) {
    let pages = Pages { registry, metrics };
    let router = Router::new()
        .route("/health", get(health))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .with_state(pages);
    let bounds = settings.bounds(CONNECTIONS_MAX, FINISH_TIMEOUT);
    let router = HTTP.count(router);
    listener::serve(listener, router, bounds, LISTENER_METRICS, end).await;
}

async fn health(State(pages): State<Pages>) -> impl IntoResponse {
    Json(pages.registry.health())
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    if pages.registry.is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    }
}

async fn render_metrics(State(pages): State<Pages>) -> impl IntoResponse {
    for shard in pages.registry.shards() {
        set_gauges(&shard);
    }
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        pages.metrics.render(),
    )
}

fn feed_health(shard: &ShardHealth) -> FeedHealth {
    let now_ms = launch::clock::now_ms();
    shard.feed.read(|feed| feed.health(now_ms))
}

/// Sets the gauges of a shard, at each scrape.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts far below 2^52, for a gauge"
)]
fn set_gauges(shard: &ShardHealth) {
    let health = feed_health(shard);
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
    set(
        "worker_checkpoint_age_seconds",
        shard.acknowledged.checkpoint_age().as_secs_f64(),
    );
    set("worker_questions_open", health.gaps as f64);
    set(
        "worker_gateway_live",
        f64::from(u8::from(shard.feed.read(Feed::is_live))),
    );
    set(
        "worker_hub_acknowledged",
        f64::from(u8::from(shard.acknowledged.is_current())),
    );
}
