//! The one place that knows all parts of the hub: it puts them together, runs them, and drains them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use launch::clock::Monotonic;
use launch::listener::{MetricNames, serve};
use proto::position::PositionKey;
use proto::rest::{ConsoleConfig, SignIn};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::timeout::TimeoutLayer;

use crate::access::Access;
use crate::auth::Verifier;
use crate::commands::registration;
use crate::config::Settings;
use crate::console;
use crate::discord::Discord;
use crate::discord_http::Interactions;
use crate::error::ErrorLog;
use crate::freshness::Freshness;
use crate::http::layers;
use crate::http::queue::{Queue, wait_for_slot};
use crate::ingest::{Ingest, Turns};
use crate::metrics::{INTERNAL_HTTP, PUBLIC_HTTP};
use crate::ops::{self, Ops};
use crate::positions::Positions;
use crate::rooms::Rooms;
use crate::rooms::api::RoomsApi;
use crate::sockets::Sockets;
use crate::sockets::fanout::Fanout;
use crate::sockets::registry::Registry;
use crate::vital::Vital;
use roomlog::{Fights, Health, Log};

/// How often silence is looked for: a fraction of the shortest that matters.
const TICK: Duration = Duration::from_millis(250);
/// Of both listeners together.
const LISTENER_METRICS: MetricNames = MetricNames {
    accept_failures: "hub_accept_failures_total",
    lingering: "hub_lingering_connections",
    linger_cut: "hub_linger_cut_total",
};

/// Runs the hub on these listeners until `shutdown`, then drains.
///
/// # Errors
/// What can not be put together from the settings.
pub async fn run(
    public: TcpListener,
    internal: TcpListener,
    settings: Settings,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let metrics = ops::record_metrics();
    let bounds = settings.bounds.clone();
    let access = Access::new(
        settings.primary_guild_id,
        &settings.guild_ids,
        settings.rooms_shown.clone(),
    );
    let now_ms = launch::clock::now_ms();
    // The wall clock and a random part: a store is never taken for an earlier one.
    let store = format!("{now_ms:x}-{:08x}", rand::Rng::next_u32(&mut rand::rng()));
    heed_file_limit();
    let log = Log::open(access.guilds(), &store, &settings.log())?;
    let ruined = watch_ruin(&log);
    let clock = Monotonic::start();
    let freshness = Freshness::new(access.guilds(), bounds.worker_silence_max_ms, clock);
    let positions = Positions::new(PositionKey::derive_all(&settings.hub_secret));
    let (fanout, followed) = Fanout::new(
        &log,
        access.guilds(),
        freshness.clone(),
        positions.clone(),
        settings.fanout(),
        clock,
    );
    let verifier = Verifier::new(settings.auth());
    let errors = ErrorLog::new(bounds.refusals_logged_per_s_max);
    let draining = CancellationToken::new();
    let sockets = Sockets::new(
        verifier.clone(),
        access.clone(),
        fanout.clone(),
        Registry::new(settings.registry()),
        errors.clone(),
        settings.web_origin.clone(),
        settings.sockets(),
        draining.clone(),
    );
    let (stopped, tasks) = (CancellationToken::new(), TaskTracker::new());
    if let Some(metrics) = metrics.clone() {
        tasks.spawn(metrics.keep_up(stopped.clone()));
    }
    let ops = Ops::new(
        verifier.clone(),
        freshness.clone(),
        log.clone(),
        draining.clone(),
        metrics,
    );
    let ingest = Ingest {
        keys: settings.hub_secret.clone(),
        log: log.clone(),
        freshness: freshness.clone(),
        clock,
        body_bytes_max: bounds.delivery_bytes_max,
        events_max: bounds.delivery_events_max,
        guilds_max: bounds.claim_guilds_max,
        fights: Arc::new(Mutex::new(Fights::new(bounds.fencings_per_minute_max))),
        turns: Arc::new(Mutex::new(Turns::after(
            log.identified_ago_ms(launch::clock::now_ms()),
            clock.elapsed_ms(),
        ))),
    };

    let discord = Discord::new(settings.discord())?;
    let rooms = Rooms::new(log.clone(), access.clone(), discord.clone());
    let rooms_api = RoomsApi {
        verifier: verifier.clone(),
        access: access.clone(),
        rooms: rooms.clone(),
        positions,
        freshness: freshness.clone(),
        body_bytes_max: bounds.request_bytes_max,
    };
    let key = settings.discord_public_key.clone();
    let signed_doors_open = key.is_some();
    let interactions =
        Interactions::new(key, rooms.clone(), discord.clone(), settings.interactions());

    let mut vital = Vital::default();
    vital.spawn("keys", verifier.clone().run(stopped.clone()));
    for (guild, following) in followed {
        let fanout = fanout.clone();
        vital.spawn("fan-out", fanout.run(guild, following, stopped.clone()));
    }
    vital.spawn(
        "store watch",
        watch_store(freshness.clone(), log.clone(), stopped.clone()),
    );
    let (tended, stop_tending) = (log.clone(), stopped.clone());
    vital.spawn("retention", async move { tended.tend(stop_tending).await });
    vital.spawn("silence watch", watch_silence(freshness, stopped.clone()));
    if signed_doors_open {
        tasks.spawn(registration::register(
            discord,
            access.guilds().to_vec(),
            stopped.clone(),
        ));
        let endpoint = settings
            .interactions_endpoint_url
            .as_ref()
            .map_or("<public address>/interactions", |url| url.as_str());
        tracing::info!(
            endpoint,
            "slash commands are answered; this is the interactions endpoint URL for Discord's developer portal"
        );
    } else {
        tracing::info!(
            "DISCORD_PUBLIC_KEY is not set: Discord's signed requests are answered 404, and there are no slash commands"
        );
    }

    let sign_in = settings
        .console_issuer_url
        .as_ref()
        .map_or(SignIn::Token, |url| SignIn::Demo {
            issuer_url: url.origin().ascii_serialization(),
        });
    let console = console::router(
        ConsoleConfig {
            sign_in,
            guild_ids: access.guilds().to_vec(),
        },
        settings.console_issuer_url.as_ref(),
        &settings.discord_cdn_url,
    );
    let request_timeout = TimeoutLayer::with_status_code(
        StatusCode::REQUEST_TIMEOUT,
        Duration::from_millis(bounds.request_timeout_ms),
    );
    let queue = Queue::new(
        bounds.requests_max,
        bounds.requests_waiting_max,
        Duration::from_millis(bounds.request_timeout_ms),
    );
    // Discord waits 3 s for an answer: its requests are not queued behind others.
    let requests = rooms_api
        .router()
        .layer(request_timeout)
        .layer(from_fn_with_state(queue, wait_for_slot))
        .merge(interactions.router().layer(request_timeout));
    let public_router = Router::new()
        .merge(sockets.router())
        .merge(requests)
        .merge(ops.public_router())
        .merge(console);
    let internal_router = ingest
        .router()
        .merge(ops.internal_router())
        .layer(request_timeout);

    tracing::info!(
        public = %public.local_addr()?, internal = %internal.local_addr()?, guilds = access.guilds().len(),
        "hub is listening"
    );
    let finish_timeout = Duration::from_millis(bounds.drain_timeout_ms / 2);
    let limits = settings
        .listener
        .bounds(bounds.tcp_connections_max, finish_timeout);
    let public_router = layers::public(public_router, errors.clone(), &settings.web_origin);
    let (public_router, end) = (PUBLIC_HTTP.count(public_router), shutdown.clone());
    let public = serve(public, public_router, limits, LISTENER_METRICS, end);
    // The worker may deliver, and operators may look, until the last browser is gone.
    let (internal_router, end) = (
        INTERNAL_HTTP.count(layers::internal(internal_router, errors)),
        stopped.clone(),
    );
    let internal = serve(internal, internal_router, limits, LISTENER_METRICS, end);
    let (public, internal) = (tokio::spawn(public), tokio::spawn(internal));

    tokio::select! {
        () = shutdown.cancelled() => {}
        // Whatever it would still say may be wrong.
        () = ruined => anyhow::bail!("the log has ended"),
        what = vital.ended() => anyhow::bail!("a part of the hub has ended: {what}"),
    }
    draining.cancel();
    let drain = async {
        let (_joined, ()) = tokio::join!(public, sockets.drained());
        // What was begun with Discord is done to its end.
        interactions.settled().await;
        rooms.settled().await;
        stopped.cancel();
        let _joined = internal.await;
        vital.all().await;
        tasks.close();
        tasks.wait().await;
        log.close().await;
    };
    if timeout(Duration::from_millis(bounds.drain_timeout_ms), drain)
        .await
        .is_err()
    {
        tracing::warn!("not everything ended in time");
    }
    tracing::info!("hub has stopped");
    Ok(())
}

/// A store that meets a limit on the size of files (`ulimit -f`) is a full disk, and not the end of
/// the process: with a handler the signal says nothing, and the write fails.
fn heed_file_limit() {
    /// SIGXFSZ, on Linux and macOS.
    const FILE_SIZE: i32 = 25;
    if let Err(error) = signal(SignalKind::from_raw(FILE_SIZE)) {
        tracing::warn!(%error, "a limit on the size of files would end this process");
    }
}

/// Ends when the log does not go on.
fn watch_ruin(log: &Log) -> impl Future<Output = ()> + use<> {
    let mut health = log.health();
    async move {
        let is_ruined = |health: &Health| *health == Health::Ruined;
        // An error means that the writer is gone without a word.
        let _ruined = health.wait_for(is_ruined).await;
    }
}

/// Reports to `freshness` whether the log can store events.
async fn watch_store(freshness: Freshness, log: Log, stopped: CancellationToken) {
    let mut health = log.health();
    loop {
        let is_storing = *health.borrow_and_update() == Health::Storing;
        freshness.set_storing(is_storing);
        tokio::select! {
            changed = health.changed() => if changed.is_err() { return },
            () = stopped.cancelled() => return,
        }
    }
}

async fn watch_silence(freshness: Freshness, stopped: CancellationToken) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopped.cancelled() => return,
        }
        let guilds = freshness.tick();
        if guilds > 0 {
            tracing::warn!(
                guilds,
                "the worker is silent; these guilds are shown as down"
            );
        }
    }
}
