//! The life of the process: readiness, critical tasks, and the drain at its end.

mod critical_tasks;

use std::time::Duration;

use roomlog::{Health, Log};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::critical_tasks::CriticalTasks;
use crate::auth::Verifier;

/// What runs, and how it ends.
pub(crate) struct Lifecycle {
    shutdown: CancellationToken,
    draining: CancellationToken,
    stopped: CancellationToken,
    critical: CriticalTasks,
    background: TaskTracker,
}

impl Lifecycle {
    /// A process that runs until `shutdown` is cancelled.
    pub(crate) fn new(shutdown: CancellationToken) -> Self {
        Self {
            shutdown,
            draining: CancellationToken::new(),
            stopped: CancellationToken::new(),
            critical: CriticalTasks::default(),
            background: TaskTracker::new(),
        }
    }

    /// Cancelled when no new client is accepted.
    pub(crate) fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Cancelled when clients are asked to reconnect elsewhere.
    pub(crate) fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Cancelled when the last client has gone, so that tasks end.
    pub(crate) fn stopped(&self) -> CancellationToken {
        self.stopped.clone()
    }

    /// Runs a task without which the process must not continue.
    pub(crate) fn spawn_critical(
        &mut self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.critical.spawn(name, work);
    }

    /// Runs a task that may end at any time.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(work);
    }

    /// Waits until the process is asked to end.
    ///
    /// # Errors
    /// The log or a critical task has ended. The process must end at once: its state may be wrong.
    pub(crate) async fn run(&mut self, log: &Log) -> anyhow::Result<()> {
        tokio::select! {
            () = self.shutdown.cancelled() => Ok(()),
            () = log_end(log) => anyhow::bail!("the log has ended"),
            name = self.critical.first_end() => anyhow::bail!("a critical task has ended: {name}"),
        }
    }

    /// Ends everything within this time: first the clients, then the internal listener and the tasks,
    /// at last the log.
    pub(crate) async fn drain(
        self,
        within: Duration,
        clients: impl Future<Output = ()>,
        internal: JoinHandle<()>,
        log: &Log,
    ) {
        self.draining.cancel();
        let drain = async {
            clients.await;
            self.stopped.cancel();
            let _joined = internal.await;
            self.critical.all_ended().await;
            self.background.close();
            self.background.wait().await;
            log.close().await;
        };
        if timeout(within, drain).await.is_err() {
            tracing::warn!("the drain took longer than DRAIN_TIMEOUT_MS");
        }
        tracing::info!("hub has stopped");
    }
}

/// Whether the process can serve clients. A clone is a reference.
#[derive(Clone)]
pub(crate) struct Readiness {
    verifier: Verifier,
    log: Log,
    draining: CancellationToken,
}

impl Readiness {
    /// The readiness of these parts.
    pub(crate) fn new(verifier: Verifier, log: Log, draining: CancellationToken) -> Self {
        Self {
            verifier,
            log,
            draining,
        }
    }

    /// Whether tokens of some issuer can be verified, events can be stored, and no drain has begun.
    pub(crate) fn is_ready(&self) -> bool {
        self.has_keys() && self.is_storing() && !self.is_draining()
    }

    /// Whether tokens of some issuer can be verified.
    pub(crate) fn has_keys(&self) -> bool {
        self.verifier.keys_loaded()
    }

    /// Whether tokens of every issuer can be verified.
    pub(crate) fn has_all_keys(&self) -> bool {
        self.verifier.all_keys_loaded()
    }

    /// Whether events can be stored.
    pub(crate) fn is_storing(&self) -> bool {
        self.log.is_storing()
    }

    /// Whether clients are asked to reconnect elsewhere.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

/// Keeps the process alive when a file reaches a limit on its size (`ulimit -f`). With a handler the
/// signal does nothing and the write fails, as on a full disk.
pub(crate) fn ignore_file_size_signal() {
    /// SIGXFSZ, on Linux and macOS.
    const FILE_SIZE: i32 = 25;
    if let Err(error) = signal(SignalKind::from_raw(FILE_SIZE)) {
        tracing::warn!(%error, "a limit on the size of files would end this process");
    }
}

/// Ends when the log has ended.
async fn log_end(log: &Log) {
    let is_ruined = |health: &Health| *health == Health::Ruined;
    // An error means that the writer has ended without a report.
    let mut health = log.health();
    let _ruined = health.wait_for(is_ruined).await;
}
