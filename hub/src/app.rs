//! The parts of the hub, and the routers over them. The only module that knows all parts.

mod tasks;

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use launch::clock::Monotonic;
use launch::listener::{MetricNames, serve};
use launch::metrics::Metrics;
use proto::GuildId;
use proto::position::PositionKey;
use roomlog::{Following, Log};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use crate::access::Access;
use crate::auth::Verifier;
use crate::config::Settings;
use crate::console;
use crate::discord::Discord;
use crate::discord_http::Interactions;
use crate::error::ErrorLog;
use crate::freshness::Freshness;
use crate::http::layers;
use crate::http::queue::{Queue, wait_for_slot};
use crate::ingest::{Ingest, Reports};
use crate::lifecycle::{Lifecycle, Readiness, ignore_file_size_signal};
use crate::metrics::{INTERNAL_HTTP, PUBLIC_HTTP};
use crate::ops::{self, Ops};
use crate::positions::Positions;
use crate::rooms::Rooms;
use crate::rooms::api::RoomsApi;
use crate::sockets::fanout::Fanout;
use crate::sockets::registry::Registry;
use crate::sockets::{self, Sockets};

/// The metrics of both listeners together.
const LISTENER_METRICS: MetricNames = MetricNames {
    accept_failures: "hub_accept_failures_total",
    lingering: "hub_lingering_connections",
    linger_cut: "hub_linger_cut_total",
};

/// Runs the hub on these listeners until `shutdown`, then drains.
///
/// # Errors
/// The store or the client of Discord cannot be opened, or a critical task has ended.
pub async fn run(
    public: TcpListener,
    internal: TcpListener,
    settings: Settings,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    ignore_file_size_signal();
    let mut lifecycle = Lifecycle::new(shutdown);
    let (parts, followed) = Parts::new(&settings, &lifecycle)?;
    tasks::start(&parts, &settings, followed, &mut lifecycle);
    tracing::info!(
        public = %public.local_addr()?, internal = %internal.local_addr()?, guilds = parts.access.guilds().len(),
        "hub is listening"
    );
    let (public, internal) = parts.serve(public, internal, &settings, &lifecycle);
    lifecycle.run(&parts.log).await?;
    let clients = async {
        let (_joined, ()) = tokio::join!(public, parts.sockets.drained());
        // Calls to Discord that have begun are finished.
        parts.interactions.settled().await;
        parts.rooms.settled().await;
    };
    let within = Duration::from_millis(settings.bounds.drain_timeout_ms);
    lifecycle.drain(within, clients, internal, &parts.log).await;
    Ok(())
}

/// The parts of the hub. Each is a handle whose clone is a reference.
struct Parts {
    access: Access,
    verifier: Verifier,
    log: Log,
    freshness: Freshness,
    fanout: Fanout,
    sockets: Sockets,
    ingest: Ingest,
    discord: Discord,
    rooms: Rooms,
    rooms_api: RoomsApi,
    interactions: Interactions,
    ops: Ops,
    metrics: Option<Metrics>,
    errors: ErrorLog,
}

impl Parts {
    /// Opens the store and makes every part. The second value is each guild's log from here on, for
    /// the fan-out.
    fn new(
        settings: &Settings,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<(Self, Vec<(GuildId, Following)>)> {
        let metrics = ops::record_metrics();
        let bounds = &settings.bounds;
        let access = settings.access();
        let log = Log::open(access.guilds(), &new_store_name(), &settings.log())?;
        let clock = Monotonic::start();
        let freshness = Freshness::new(access.guilds(), bounds.worker_silence_max_ms, clock);
        let positions = Positions::new(PositionKey::derive_all(&settings.hub_secret));
        let (fanout, followed) = Fanout::new(
            &log,
            access.guilds(),
            freshness.clone(),
            positions.clone(),
            settings.fanout.clone(),
            clock,
        );
        let verifier = Verifier::new(settings.auth());
        let errors = ErrorLog::new(bounds.refusals_logged_per_s_max);
        let context = sockets::Context {
            verifier: verifier.clone(),
            access: access.clone(),
            fanout: fanout.clone(),
            errors: errors.clone(),
            limits: settings.sockets(),
            draining: lifecycle.draining(),
            clock,
        };
        let registry = Registry::new(settings.registry.clone());
        let sockets = Sockets::new(context, registry, settings.web_origin.clone());
        let discord = Discord::new(settings.discord.clone())?;
        let rooms = Rooms::new(log.clone(), access.clone(), discord.clone());
        let rooms_api = RoomsApi {
            verifier: verifier.clone(),
            access: access.clone(),
            rooms: rooms.clone(),
            positions,
            freshness: freshness.clone(),
            body_bytes_max: bounds.request_bytes_max,
        };
        let interactions = Interactions::new(
            settings.discord_public_key.clone(),
            rooms.clone(),
            discord.clone(),
            settings.interactions.clone(),
        );
        let readiness = Readiness::new(verifier.clone(), log.clone(), lifecycle.draining());
        let ops = Ops::new(readiness, freshness.clone(), log.clone(), metrics.clone());
        let parts = Self {
            ingest: ingest(settings, &log, &freshness),
            access,
            verifier,
            log,
            freshness,
            fanout,
            sockets,
            discord,
            rooms,
            rooms_api,
            interactions,
            ops,
            metrics,
            errors,
        };
        Ok((parts, followed))
    }

    /// Serves both listeners. The internal one outlives the public one: the worker may deliver until
    /// the last browser has gone.
    fn serve(
        &self,
        public: TcpListener,
        internal: TcpListener,
        settings: &Settings,
        lifecycle: &Lifecycle,
    ) -> (JoinHandle<()>, JoinHandle<()>) {
        let finish_timeout = Duration::from_millis(settings.bounds.drain_timeout_ms / 2);
        let limits = settings
            .listener
            .bounds(settings.bounds.tcp_connections_max, finish_timeout);
        let listen = |listener, router, end| {
            tokio::spawn(serve(listener, router, limits, LISTENER_METRICS, end))
        };
        let public_router = PUBLIC_HTTP.count(self.public_router(settings));
        let internal_router = INTERNAL_HTTP.count(self.internal_router(settings));
        (
            listen(public, public_router, lifecycle.shutdown()),
            listen(internal, internal_router, lifecycle.stopped()),
        )
    }

    fn public_router(&self, settings: &Settings) -> Router {
        let bounds = &settings.bounds;
        let queue = Queue::new(
            bounds.requests_max,
            bounds.requests_waiting_max,
            Duration::from_millis(bounds.request_timeout_ms),
        );
        let rest = self
            .rooms_api
            .clone()
            .router()
            .layer(request_timeout(settings))
            .layer(from_fn_with_state(queue, wait_for_slot));
        // Discord waits 3 s for a response: its requests do not wait in the queue.
        let interactions = self.interactions.router().layer(request_timeout(settings));
        let console = console::router(
            self.access.guilds().to_vec(),
            settings.console_issuer_url.as_ref(),
            &settings.discord_cdn_url,
        );
        let router = Router::new()
            .merge(self.sockets.router())
            .merge(rest)
            .merge(interactions)
            .merge(self.ops.public_router())
            .merge(console);
        layers::public(router, self.errors.clone(), &settings.web_origin)
    }

    fn internal_router(&self, settings: &Settings) -> Router {
        let router = self
            .ingest
            .clone()
            .router()
            .merge(self.ops.internal_router())
            .layer(request_timeout(settings));
        layers::internal(router, self.errors.clone())
    }
}

fn ingest(settings: &Settings, log: &Log, freshness: &Freshness) -> Ingest {
    let bounds = &settings.bounds;
    Ingest {
        keys: settings.hub_secret.clone(),
        log: log.clone(),
        freshness: freshness.clone(),
        body_bytes_max: bounds.delivery_bytes_max,
        events_max: bounds.delivery_events_max,
        guilds_max: bounds.claim_guilds_max,
        reports: Reports::default(),
    }
}

/// A name that no earlier store has: the wall clock and a random part.
fn new_store_name() -> String {
    let (now_ms, random) = (
        launch::clock::now_ms(),
        rand::Rng::next_u32(&mut rand::rng()),
    );
    format!("{now_ms:x}-{random:08x}")
}

fn request_timeout(settings: &Settings) -> TimeoutLayer {
    TimeoutLayer::with_status_code(
        StatusCode::REQUEST_TIMEOUT,
        Duration::from_millis(settings.bounds.request_timeout_ms),
    )
}
