//! What a process measures: its recorder, what each metric means, and the metrics that every
//! process has (`process_*`, `<program>_build_info`, HTTP requests).
//!
//! A program lists its metrics in one table of [`Metric`], which gives each a `# HELP` line and each
//! histogram its buckets.

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio_util::sync::CancellationToken;

/// How often the recorder folds the samples of histograms into their buckets. Between two times they
/// wait in memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds of a histogram's buckets, in seconds: for what should take milliseconds.
pub const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The label of a request that no route matches. Its path is the client's choice and is no label.
pub const UNMATCHED: &str = "unmatched";

/// One metric of a program.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What sort it is.
    pub kind: Kind,
    /// Its `# HELP` line.
    pub help: &'static str,
}

/// What sort a metric is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A counter without labels. It is exported as 0 from the start, so that its first increase
    /// shows.
    Counter,
    /// A counter with labels. A series is exported once it has counted.
    LabelledCounter,
    /// A gauge.
    Gauge,
    /// A histogram with these upper bounds.
    Histogram(&'static [f64]),
    /// Quantiles of the last minutes.
    Summary,
}

impl Metric {
    /// A counter without labels.
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, help)
    }

    /// A counter with labels.
    pub const fn labelled(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::LabelledCounter, help)
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, help)
    }

    /// A histogram of seconds.
    pub const fn seconds(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Histogram(SECONDS), help)
    }

    /// A metric of any kind.
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { name, kind, help }
    }
}

/// The recorded metrics of this process. A clone is a reference.
#[derive(Clone)]
pub struct Metrics {
    recorded: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Starts to record, once for a process. `build_info` is the name of the gauge that carries the
    /// version.
    ///
    /// # Errors
    /// When the process records metrics already.
    pub fn record(
        build_info: &'static str,
        version: &'static str,
        table: &[Metric],
    ) -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in table {
            if let Kind::Histogram(bounds) = metric.kind {
                builder = builder
                    .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
            }
        }
        let recorded = builder.install_recorder()?;
        for Metric { name, kind, help } in table {
            match kind {
                Kind::Counter => {
                    describe_counter!(*name, *help);
                    metrics::counter!(*name).increment(0);
                }
                Kind::LabelledCounter => describe_counter!(*name, *help),
                Kind::Gauge => describe_gauge!(*name, *help),
                Kind::Histogram(_) | Kind::Summary => describe_histogram!(*name, *help),
            }
        }
        describe_gauge!(build_info, "1, with the version of the program as a label");
        metrics::gauge!(build_info, "version" => version).set(1.0);
        let process = Collector::default();
        process.describe();
        Ok(Self { recorded, process })
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.process.collect();
        self.recorded.run_upkeep();
        self.recorded.render()
    }

    /// Folds samples into buckets until `stopped`, so that they do not pile up while nobody scrapes.
    pub async fn keep_up(self, stopped: CancellationToken) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            tokio::select! {
                _ = interval.tick() => self.recorded.run_upkeep(),
                () = stopped.cancelled() => return,
            }
        }
    }
}

/// Which metrics count the requests of a listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpMetrics {
    /// The counter of requests, by listener, method, route and status.
    pub requests: &'static str,
    /// The histogram of their duration, by listener, method and route.
    pub seconds: &'static str,
    /// The label `listener`.
    pub listener: &'static str,
}

impl HttpMetrics {
    /// The router with its requests counted. A request counts when the head of its answer is ready;
    /// the answer's body and an upgraded connection are not part of its duration.
    pub fn count(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, count))
    }
}

async fn count(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let HttpMetrics {
        requests,
        seconds,
        listener,
    } = metrics;
    let method = known(request.method());
    // The route as the program wrote it, `/api/rooms/{channel}`: never the path of the request.
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| UNMATCHED.to_owned(), |path| path.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!(seconds, "listener" => listener, "method" => method, "route" => route.clone())
        .record(began.elapsed());
    metrics::counter!(requests, "listener" => listener, "method" => method, "route" => route, "status" => status)
        .increment(1);
    response
}

/// The method as a label: a client may write any word there.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
