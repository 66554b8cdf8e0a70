//! The running worker: its shards, each with a claim, a connection and deliveries.

use std::pin::pin;
use std::sync::Arc;

use launch::metrics::Metrics;
use proto::gateway::GatewayState;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::claim::{Claimant, NotClaimed};
use crate::config::{Config, ms};
use crate::deliver::{Acknowledged, DeliveryTask, Ended};
use crate::feed::{Feed, FeedSetting, SharedFeed};
use crate::hub::Hub;
use crate::ops::{self, HealthRegistry, ShardHealth};
use crate::outbox::Limits;
use crate::roster::RosterSetting;
use crate::shards::{self, Gateway, Refused};

/// Why the worker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Discord refuses this bot; restarting does not help.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A shard cannot be claimed: a newer worker has it, or the hub's answer is too large.
    #[error(transparent)]
    NotClaimed(#[from] NotClaimed),
    /// No HTTP client can be built on this machine.
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
            Self::NotClaimed(NotClaimed::Fenced) => launch::exit::FENCED,
            Self::NotClaimed(NotClaimed::TooLarge(_)) | Self::Client(_) | Self::Crashed(_) => {
                launch::exit::FAILED
            }
        }
    }
}

/// Runs the worker until `shutdown` is cancelled. Then it closes its gateway sessions so that they can
/// be resumed, and delivers what is left.
///
/// # Errors
/// [`Failure`] says why it ended by itself.
pub async fn run(
    config: Config,
    listener: TcpListener,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    // An earlier installation made the same choice.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let registry = Arc::new(HealthRegistry::default());
    let end = CancellationToken::new();
    tokio::spawn(metrics.clone().keep_up(end.clone()));
    let mut pages = tokio::spawn(ops::serve(
        listener,
        config.listener,
        Arc::clone(&registry),
        metrics,
        end.clone(),
    ));
    let ended = tokio::select! {
        ended = follow(Arc::new(config), &registry, shutdown) => {
            end.cancel();
            // Answers in progress are finished.
            let _answered = pages.await;
            ended
        }
        served = &mut pages => Err(Failure::Crashed(format!("the health listener: {served:?}"))),
    };
    ended
}

/// Runs every shard. When one ends, all do.
async fn follow(
    config: Arc<Config>,
    registry: &Arc<HealthRegistry>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let hub = Hub::new(&config)?;
    let stop = shutdown.child_token();
    let Some(gateway) = Gateway::discover(&config, &hub, &stop).await? else {
        return Ok(());
    };
    let gateway = Arc::new(gateway);
    let claimant = Claimant::new(hub.clone(), &config.delivery);
    let mut shards = JoinSet::new();
    for shard in gateway.shards() {
        let one = Shard {
            shard,
            config: Arc::clone(&config),
            gateway: Arc::clone(&gateway),
            hub: hub.clone(),
            claimant: claimant.clone(),
            registry: Arc::clone(registry),
            stop: stop.clone(),
        };
        shards.spawn(one.follow());
    }
    let mut ended = Ok(());
    while let Some(joined) = shards.join_next().await {
        stop.cancel();
        let this = match joined {
            Ok(this) => this,
            Err(error) => Err(Failure::Crashed(error.to_string())),
        };
        ended = ended.and(this);
    }
    ended
}

/// One shard: its claim, its connection, and its deliveries, which end after the connection.
struct Shard {
    shard: (u32, u32),
    config: Arc<Config>,
    gateway: Arc<Gateway>,
    hub: Hub,
    claimant: Claimant,
    registry: Arc<HealthRegistry>,
    stop: CancellationToken,
}

impl Shard {
    async fn follow(self) -> Result<(), Failure> {
        let (number, count) = self.shard;
        let feed = Arc::new(SharedFeed::new(Feed::new(feed_setting(
            &self.config,
            self.shard,
        ))));
        let acknowledged: Arc<Acknowledged> = Arc::default();
        self.registry.add(ShardHealth {
            feed: Arc::clone(&feed),
            acknowledged: Arc::clone(&acknowledged),
        });
        let guilds: Vec<_> = feed.read(|feed| feed.guild_ids().collect());
        if guilds.is_empty() {
            tracing::info!(number, count, "no followed guild is on this shard");
        }
        let claimed = tokio::select! {
            claimed = self.claimant.claim(self.shard, guilds) => claimed,
            () = self.stop.cancelled() => return Ok(()),
        };
        let claimed = claimed.inspect_err(|_| self.stop.cancel())?;
        tracing::info!(
            shard = number,
            generation = claimed.generation,
            guilds = claimed.guilds.len(),
            "claimed the shard"
        );
        self.gateway.observe_claim(self.shard, &claimed);
        feed.update(|feed| feed.claim(claimed, launch::clock::now_ms()));
        let last = CancellationToken::new();
        let delivery = DeliveryTask::new(
            self.hub.clone(),
            self.claimant.clone(),
            Arc::clone(&feed),
            acknowledged,
            self.config.delivery.clone(),
        );
        let mut delivery = pin!(delivery.run(last.clone()));
        let mut connection = pin!(self.gateway.connect(
            self.shard,
            Arc::clone(&feed),
            &self.config,
            self.stop.clone(),
        ));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            ended = &mut delivery => {
                self.stop.cancel();
                self.registry.drain();
                let _closed = connection.await;
                return match ended {
                    Ended::Lost(why) => Err(why.into()),
                    // Nothing has asked it to end.
                    Ended::Drained => Err(Failure::Crashed("the delivery task".to_owned())),
                };
            }
        };
        self.registry.drain();
        if ended.is_err() {
            refuse(&feed);
        }
        last.cancel();
        match timeout(ms(self.config.delivery.drain_ms), delivery).await {
            Ok(Ended::Lost(why)) => return Err(why.into()),
            Ok(Ended::Drained) => {}
            Err(_) => tracing::warn!(number, "stopped before the hub took everything"),
        }
        Ok(ended?)
    }
}

fn refuse(feed: &SharedFeed) {
    feed.update(|feed| feed.set_gateway(GatewayState::Down, "discord_refused"));
}

pub(crate) fn feed_setting(config: &Config, shard: (u32, u32)) -> FeedSetting {
    let size = |setting: u64| usize::try_from(setting).unwrap_or(usize::MAX);
    let guilds: Vec<_> = config
        .guilds()
        .into_iter()
        .filter(|guild| guild.shard(shard.1) == shard.0)
        .collect();
    FeedSetting {
        shard,
        fingerprint: shards::fingerprint(shard.1, &guilds),
        guilds,
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
            group_events_max: size(config.delivery.delivery_events_max.into()),
            delivery_bytes_max: size(config.delivery.delivery_bytes_max),
        },
        gaps_max: size(config.gateway.gaps_max.into()),
        // Two beats: a burst is not a backlog.
        behind_max_ms: config.delivery.beat_ms.saturating_mul(2),
    }
}
