//! What a process measures: its recorder, what each metric means, and the metrics that every
//! process has (`process_*`, `<program>_build_info`).
//!
//! A program lists its metrics in one table of [`Metric`], which gives each a `# HELP` line and each
//! histogram its buckets.

use std::time::Duration;

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
