//! Health, readiness and metrics for operators. Only a short health is on the public listener too.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use launch::metrics::Metrics;
use proto::gateway::GatewayState;
use serde_json::json;

use crate::freshness::Freshness;
use crate::lifecycle::Readiness;
use crate::metrics::METRICS;
use roomlog::Log;

/// The states of [`Freshness::counts`] as labels, as browsers get them.
const STATES: [&str; 4] = ["live", "resuming", "rebuilding", "down"];

/// The parts whose state is reported. A clone is a reference.
#[derive(Clone)]
pub struct Ops(Arc<Shared>);

struct Shared {
    readiness: Readiness,
    freshness: Freshness,
    log: Log,
    metrics: Option<Metrics>,
}

impl Ops {
    /// Reports the state of these parts.
    pub(crate) fn new(
        readiness: Readiness,
        freshness: Freshness,
        log: Log,
        metrics: Option<Metrics>,
    ) -> Self {
        Self(Arc::new(Shared {
            readiness,
            freshness,
            log,
            metrics,
        }))
    }

    /// `GET /health`: one word, and nothing that an attacker could use.
    pub fn public_router(&self) -> Router {
        Router::new()
            .route("/health", get(|State(ops): State<Self>| async move { Json(json!({ "status": ops.status() })) }))
            .with_state(self.clone())
    }

    /// `GET /healthz`, `/readyz`, `/metrics`, and `/health` in full.
    pub fn internal_router(&self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { Json(json!({ "alive": true })) }))
            .route("/readyz", get(readiness))
            .route("/metrics", get(metrics_text))
            .route("/health", get(health))
            .with_state(self.clone())
    }

    fn status(&self) -> &'static str {
        let [live, ..] = self.0.freshness.counts();
        let all: usize = self.0.freshness.counts().iter().sum();
        let readiness = &self.0.readiness;
        if readiness.is_draining() {
            "draining"
        } else if readiness.has_all_keys() && readiness.is_storing() && live == all {
            "ok"
        } else {
            "degraded"
        }
    }
}

/// Starts to record metrics; `None` if this process records them already.
pub fn record_metrics() -> Option<Metrics> {
    Metrics::record("hub_build_info", env!("CARGO_PKG_VERSION"), METRICS).ok()
}

async fn readiness(State(ops): State<Ops>) -> Response {
    let readiness = &ops.0.readiness;
    let status = if readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ready": readiness.is_ready(),
        "store": readiness.is_storing(),
        "keys": readiness.has_keys(),
        "draining": readiness.is_draining(),
    });
    (status, Json(body)).into_response()
}

async fn health(State(ops): State<Ops>) -> Response {
    let [live, resuming, rebuilding, down] = ops.0.freshness.counts();
    Json(json!({
        "status": ops.status(),
        "version": env!("CARGO_PKG_VERSION"),
        "store": ops.0.log.store(),
        "storing": ops.0.readiness.is_storing(),
        "keys": ops.0.readiness.has_all_keys(),
        "draining": ops.0.readiness.is_draining(),
        "guilds": { "live": live, "resuming": resuming, "rebuilding": rebuilding, "down": down },
    }))
    .into_response()
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    match &ops.0.metrics {
        Some(metrics) => {
            measure(&ops.0.freshness, &ops.0.log);
            (
                [(
                    header::CONTENT_TYPE,
                    "text/plain; version=0.0.4; charset=utf-8",
                )],
                metrics.render(),
            )
                .into_response()
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// Sets the gauges that are read when Prometheus scrapes. Guilds are labels: the settings name them,
/// so their number is bounded.
#[expect(
    clippy::cast_precision_loss,
    reason = "a number of guilds, far below 2^52"
)]
fn measure(freshness: &Freshness, log: &Log) {
    metrics::gauge!("hub_store_failing").set(f64::from(u8::from(!log.is_storing())));
    for (state, count) in STATES.into_iter().zip(freshness.counts()) {
        metrics::gauge!("hub_guilds", "state" => state).set(count as f64);
    }
    for (guild, state) in freshness.states() {
        let live = f64::from(u8::from(state == GatewayState::Live));
        metrics::gauge!("hub_guild_live", "guild" => guild.to_string()).set(live);
    }
}
