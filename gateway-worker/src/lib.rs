//! Keeps the Discord gateway session and posts what happens, signed, to the hub.
//!
//! The data's way: [`shards`] (the sockets) → [`dispatch`] (what is read of them) → [`roster`]
//! (events) → [`outbox`] (bounded) → [`deliver`] (signed, in order). [`feed`] holds one shard's
//! rosters and outbox together; [`ops`] shows how it is.

pub mod config;
pub mod deliver;
pub mod dispatch;
pub mod feed;
pub mod ops;
pub mod outbox;
pub mod retry;
pub mod roster;
pub mod shards;

use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use proto::gateway::GatewayState;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use config::{Config, ms};
use deliver::{Acknowledged, Courier, Hub};
use feed::{Desk, Feed, FeedSetting};
use ops::{Board, Shown};
use outbox::Limits;
use roster::RosterSetting;
use shards::{Gateway, Refused};

/// Why the worker ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Discord will not have this bot; restarting does not help.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// This machine can not make requests.
    #[error("no HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    /// A part of the worker ended by itself.
    #[error("a part of the worker ended by itself: {0}")]
    Crashed(String),
}

impl Failure {
    /// The code that the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => launch::exit::DISCORD_REFUSED,
            Self::Client(_) | Self::Crashed(_) => launch::exit::FAILED,
        }
    }
}

/// Makes this process record metrics, once.
///
/// # Errors
/// When the process records metrics already.
pub fn record_metrics() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new().install_recorder()?;
    ops::describe();
    Ok(handle)
}

/// Runs the worker until `shutdown` is cancelled, and then leaves so that its gateway sessions can
/// be resumed and the hub has heard all.
///
/// # Errors
/// [`Failure`] says why it ended by itself.
pub async fn run(
    config: Config,
    listener: TcpListener,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    // Whoever was first chose the same.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let board = Arc::new(Board::default());
    let end = CancellationToken::new();
    let mut pages = tokio::spawn(ops::serve(
        listener,
        Arc::clone(&board),
        metrics,
        end.clone(),
    ));
    let ended = tokio::select! {
        ended = follow(Arc::new(config), &board, shutdown) => ended,
        served = &mut pages => Err(Failure::Crashed(format!("the health listener: {served:?}"))),
    };
    end.cancel();
    ended
}

/// Follows the guilds: connections, and the deliveries that outlive them by a little.
async fn follow(
    config: Arc<Config>,
    board: &Board,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let hub = Hub::new(&config)?;
    let last = CancellationToken::new();
    let mut couriers = JoinSet::new();
    let mut begin = |shard: (u32, u32)| {
        let shown = Shown {
            desk: Arc::new(Desk::new(Feed::new(feed_setting(&config, shard)))),
            acknowledged: Arc::default(),
        };
        let desk = Arc::clone(&shown.desk);
        let acknowledged: Arc<Acknowledged> = Arc::clone(&shown.acknowledged);
        let courier = Courier::new(
            hub.clone(),
            Arc::clone(&desk),
            acknowledged,
            config.delivery.clone(),
        );
        couriers.spawn(courier.run(last.clone()));
        board.show(shown);
        desk
    };
    let stop = shutdown.child_token();
    let ended = match Gateway::discover(&config, &stop).await {
        Ok(None) => Ok(()),
        Ok(Some(gateway)) => {
            let desks: Vec<_> = gateway
                .shards()
                .map(|shard| (shard, begin(shard)))
                .collect();
            warn_of_guilds_elsewhere(&desks);
            connect_all(Arc::new(gateway), desks, &config, &stop).await
        }
        Err(refused) => {
            let shard = config.discord.shard_id.unwrap_or(0);
            refuse(&begin((shard, config.discord.shard_count.unwrap_or(1))));
            Err(Failure::Refused(refused))
        }
    };
    board.drain();
    last.cancel();
    let drained = async { while couriers.join_next().await.is_some() {} };
    if timeout(ms(config.delivery.drain_ms), drained)
        .await
        .is_err()
    {
        tracing::warn!("stopped before the hub had taken everything");
    }
    ended
}

/// Connects every shard; when one ends, all do.
async fn connect_all(
    gateway: Arc<Gateway>,
    desks: Vec<((u32, u32), Arc<Desk>)>,
    config: &Arc<Config>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut connections = JoinSet::new();
    for (shard, desk) in desks {
        let (gateway, config, stop) = (Arc::clone(&gateway), Arc::clone(config), stop.clone());
        connections.spawn(async move {
            let ended = gateway
                .connect(shard, Arc::clone(&desk), &config, stop)
                .await;
            if ended.is_err() {
                refuse(&desk);
            }
            ended
        });
    }
    let mut ended = Ok(());
    while let Some(joined) = connections.join_next().await {
        stop.cancel();
        let this = match joined {
            Ok(this) => this.map_err(Failure::Refused),
            Err(error) => Err(Failure::Crashed(error.to_string())),
        };
        ended = ended.and(this);
    }
    ended
}

fn refuse(desk: &Desk) {
    desk.with(|feed| feed.set_gateway(GatewayState::Down, "discord_refused"));
}

fn warn_of_guilds_elsewhere(desks: &[((u32, u32), Arc<Desk>)]) {
    for ((shard, count), desk) in desks {
        if desk.look(|feed| feed.health(launch::clock::now_ms()).guilds) == 0 {
            tracing::info!(shard, count, "no followed guild is on this shard");
        }
    }
}

fn feed_setting(config: &Config, shard: (u32, u32)) -> FeedSetting {
    let size = |setting: u64| usize::try_from(setting).unwrap_or(usize::MAX);
    FeedSetting {
        shard,
        guilds: config.guilds(),
        roster: RosterSetting {
            cdn: config
                .discord
                .discord_cdn_url
                .as_str()
                .trim_end_matches('/')
                .into(),
            tombstones_max: size(config.gateway.tombstones_max.into()),
        },
        outbox: Limits {
            events_max: size(config.delivery.outbox_events_max.into()),
            bytes_max: size(config.delivery.outbox_bytes_max),
            batch_events_max: size(config.delivery.batch_events_max.into()),
            batch_bytes_max: size(config.delivery.batch_bytes_max),
        },
        gaps_max: size(config.gateway.gaps_max.into()),
        // Two beats: a burst is not a backlog.
        behind_max_ms: config.delivery.beat_ms.saturating_mul(2),
    }
}
