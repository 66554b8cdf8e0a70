//! What operators look at: health, readiness, metrics; all but the public health on the internal
//! listener alone.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::auth::Verifier;
use crate::freshness::Freshness;
use crate::log::Log;

/// Seconds: from far below to far above what a request should take.
const LATENCY_BUCKETS_S: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What is asked for its state. A clone is a reference.
#[derive(Clone)]
pub struct Ops(Arc<Shared>);

struct Shared {
    verifier: Verifier,
    freshness: Freshness,
    log: Log,
    draining: CancellationToken,
    metrics: Option<PrometheusHandle>,
}

impl Ops {
    /// Looks at these.
    pub fn new(
        verifier: Verifier,
        freshness: Freshness,
        log: Log,
        draining: CancellationToken,
        metrics: Option<PrometheusHandle>,
    ) -> Self {
        Self(Arc::new(Shared {
            verifier,
            freshness,
            log,
            draining,
            metrics,
        }))
    }

    /// `GET /health`: a word, and nothing that a stranger could use.
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
        if self.0.draining.is_cancelled() {
            "draining"
        } else if self.0.verifier.keys_loaded() && self.0.log.is_storing() && live == all {
            "ok"
        } else {
            "degraded"
        }
    }

    fn ready(&self) -> bool {
        self.0.verifier.keys_loaded() && self.0.log.is_storing() && !self.0.draining.is_cancelled()
    }
}

/// Starts to collect metrics; `None` if this process collects them already.
pub fn collect_metrics() -> Option<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_BUCKETS_S)
        .ok()?
        .install_recorder()
        .ok()
}

async fn readiness(State(ops): State<Ops>) -> Response {
    let status = if ops.ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "ready": ops.ready(),
        "store": ops.0.log.is_storing(),
        "keys": ops.0.verifier.keys_loaded(),
        "draining": ops.0.draining.is_cancelled(),
    });
    (status, Json(body)).into_response()
}

async fn health(State(ops): State<Ops>) -> Response {
    let [live, resuming, rebuilding, down] = ops.0.freshness.counts();
    Json(json!({
        "status": ops.status(),
        "version": env!("CARGO_PKG_VERSION"),
        "store": ops.0.log.store(),
        "storing": ops.0.log.is_storing(),
        "keys": ops.0.verifier.keys_loaded(),
        "draining": ops.0.draining.is_cancelled(),
        "guilds": { "live": live, "resuming": resuming, "rebuilding": rebuilding, "down": down },
    }))
    .into_response()
}

async fn metrics_text(State(ops): State<Ops>) -> Response {
    match &ops.0.metrics {
        Some(metrics) => {
            metrics.run_upkeep();
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
