//! The gateway connections: twilight holds the sockets, heartbeats, resumes and identifies. Our own
//! [`dispatch`](crate::dispatch) reads what it receives.
//!
//! A shard heartbeats only while it is polled, so it never waits for a delivery: undelivered events
//! stay in the outbox, which has its own bound.

mod buckets;
pub mod budget;
mod connection;
mod identify_queue;
mod questions;
mod rest;

use std::sync::Arc;
use std::time::Duration;

use proto::GuildId;
use proto::chain::Claimed;
use rand::rng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use twilight_gateway::{Config as ShardConfig, ConfigBuilder, Intents};

use crate::config::{Config, ms};
use crate::feed::SharedFeed;
use crate::hub::Hub;
use crate::retry::Backoff;
use budget::{Budget, Verdict};
use connection::Connection;
use identify_queue::{IdentifyQueue, IdentifyQueueSetting};
use questions::Questions;
use rest::{Failure, GatewayBot, Rest};

/// The dispatches that the gateway is asked for.
const INTENTS: Intents = Intents::GUILDS.union(Intents::GUILD_VOICE_STATES);
/// Counts the changes of what a roster remembers.
const ROSTER_SCHEMA: u32 = 1;

/// A hash of what a shard's rosters depend on besides Discord's dispatches. After a change of it a
/// session cannot be resumed, because RESUME brings no GUILD_CREATE.
pub fn fingerprint(shards: u32, guilds: &[GuildId]) -> String {
    let mut guilds: Vec<_> = guilds.iter().map(|guild| guild.get()).collect();
    guilds.sort_unstable();
    let all = format!("{ROSTER_SCHEMA} {} {shards} {guilds:?}", INTENTS.bits());
    // FNV-1a: no attacker chooses the input, and it must be the same in every build.
    let hash = all.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Discord refuses this bot for good: restarting does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Discord refused for good ({code}): {remedy}")]
pub struct Refused {
    /// The gateway's close code; 401 for REST.
    pub code: u16,
    /// What the operator has to do.
    pub remedy: &'static str,
}

impl Refused {
    /// The remedies for close codes after which a bot must not reconnect (Discord's documentation,
    /// "Gateway Close Event Codes").
    fn of(code: u16) -> Self {
        let remedy = match code {
            401 | 4004 => "the bot's token is wrong or was reset; set DISCORD_BOT_TOKEN",
            4010 => "the shard is not valid; check SHARD_ID and SHARD_COUNT",
            4011 => {
                "the bot is in too many guilds for this many shards; raise SHARD_COUNT or leave it to Discord"
            }
            4012 => "this version of the gateway is no longer served; a newer worker is needed",
            4013 => "the intents are not valid; a newer worker is needed",
            4014 => "the intents are not allowed to this bot; see the developer portal",
            _ => "see Discord's close codes",
        };
        Self { code, remedy }
    }
}

/// The gateway as Discord describes it, from which connections are made.
#[derive(Debug)]
pub struct Gateway {
    rest: Rest,
    queue: IdentifyQueue,
    shards: Vec<u32>,
    count: u32,
    shard_config: ShardConfig<IdentifyQueue>,
}

impl Gateway {
    /// Asks Discord for the gateway's URL, the number of shards and of buckets, and retries until it
    /// answers. `None` when stopped before.
    ///
    /// # Errors
    /// [`Refused`] if Discord does not take the token.
    pub async fn discover(
        config: &Config,
        hub: &Hub,
        stop: &CancellationToken,
    ) -> Result<Option<Self>, Refused> {
        let rest = Rest::new(&config.discord);
        let Some(bot) = gateway_bot(&rest, ms(config.gateway.reconnect_max_ms), stop).await? else {
            return Ok(None);
        };
        let (shards, count) = match (config.discord.shard_id, config.discord.shard_count) {
            (Some(id), Some(count)) => (vec![id], count),
            _ => ((0..bot.shards.max(1)).collect(), bot.shards.max(1)),
        };
        let own = u32::try_from(shards.len()).unwrap_or(u32::MAX);
        let queue = IdentifyQueue::new(
            rest.clone(),
            hub.clone(),
            IdentifyQueueSetting {
                budget: Budget {
                    per_day_max: config.gateway.identifies_per_day_max,
                    free: config.gateway.identifies_free.max(count.saturating_mul(4)),
                    wait_max: Duration::from_secs(config.gateway.identify_wait_max_s),
                },
                every: ms(config.gateway.identify_every_ms),
                again: ms(config.gateway.identify_again_ms),
                alone: own == count,
                max_concurrency: bot.session_start_limit.max_concurrency,
            },
        );
        let url = match &config.discord.discord_gateway_url {
            Some(url) => url.as_str(),
            None => &bot.url,
        };
        let shard_config = ConfigBuilder::new(
            config.discord.discord_bot_token.expose().to_owned(),
            INTENTS,
        )
        .proxy_url(url.trim_end_matches('/').to_owned())
        .queue(queue.clone())
        .build();
        tracing::info!(shards = own, of = count, "found the gateway");
        Ok(Some(Self {
            rest,
            queue,
            shards,
            count,
            shard_config,
        }))
    }

    /// The shards to run, each with the number of all.
    pub fn shards(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.shards.iter().map(|shard| (*shard, self.count))
    }

    /// A shard was claimed just now, with this answer.
    pub fn observe_claim(&self, shard: (u32, u32), claimed: &Claimed) {
        self.queue
            .observe_claim(shard.0, claimed.identifies, claimed.last_session);
    }

    /// Keeps one shard connected until stopped, and then closes it so that it can be resumed.
    ///
    /// # Errors
    /// [`Refused`] if Discord closes it for good.
    pub async fn connect(
        &self,
        shard: (u32, u32),
        feed: Arc<SharedFeed>,
        config: &Config,
        stop: CancellationToken,
    ) -> Result<(), Refused> {
        self.queue.serve(shard.0, Arc::clone(&feed));
        let questions = Questions::new(self.rest.clone(), Arc::clone(&feed), &config.gateway);
        let connection = Connection::new(
            shard,
            self.shard_config.clone(),
            self.queue.clone(),
            feed,
            config.gateway.clone(),
            ms(config.delivery.fence_check_ms),
        );
        tokio::select! {
            ended = connection.run(stop) => ended,
            () = questions.run() => Ok(()),
        }
    }
}

/// Asks for the gateway until Discord answers. `None` when stopped before.
async fn gateway_bot(
    rest: &Rest,
    wait_max: Duration,
    stop: &CancellationToken,
) -> Result<Option<GatewayBot>, Refused> {
    let mut backoff = Backoff::new(Duration::from_secs(1), wait_max);
    loop {
        let asked = tokio::select! {
            asked = rest.gateway_bot() => asked,
            () = stop.cancelled() => return Ok(None),
        };
        let why = match asked {
            Ok(bot) => return Ok(Some(bot)),
            Err(Failure::Unauthorized) => return Err(Refused::of(401)),
            Err(why) => why,
        };
        let wait = backoff.after_failure(&mut rng());
        tracing::warn!(%why, wait_ms = wait.as_millis(), "Discord's API does not answer with the gateway's URL; retrying");
        tokio::select! {
            () = sleep(wait) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// What Discord answers before any gateway session begins.
pub(crate) struct Found {
    /// The gateway's URL.
    pub(crate) gateway: String,
    /// How many shards Discord recommends.
    pub(crate) shards: u32,
    /// Identifies of the day that are used, over all shards.
    pub(crate) identifies: u32,
    /// Whether a worker has to wait for the next window.
    pub(crate) exhausted: bool,
    /// Of each followed guild: whether the bot is in it, or why that is unknown.
    pub(crate) guilds: Vec<(GuildId, Result<bool, Failure>)>,
}

/// Asks Discord what a start depends on. Nothing is changed, and no identify is used.
pub(crate) async fn inspect(config: &Config) -> Result<Found, Failure> {
    let rest = Rest::new(&config.discord);
    let bot = rest.gateway_bot().await?;
    let budget = Budget {
        per_day_max: config.gateway.identifies_per_day_max,
        free: config.gateway.identifies_free,
        wait_max: Duration::from_secs(config.gateway.identify_wait_max_s),
    };
    let mut guilds = Vec::new();
    for guild in config.guilds() {
        let is_in = match rest.guild(guild).await {
            Ok(()) => Ok(true),
            Err(Failure::NotFound | Failure::Forbidden) => Ok(false),
            Err(why) => Err(why),
        };
        guilds.push((guild, is_in));
    }
    let ledger = bot.session_start_limit;
    Ok(Found {
        gateway: bot.url,
        shards: bot.shards.max(1),
        identifies: budget.used(ledger, 0),
        exhausted: matches!(budget.judge(ledger, 0), Verdict::Exhausted(_)),
        guilds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_names_the_guilds_and_the_number_of_shards() {
        let guild = |id| GuildId::new(id).unwrap();
        let print = fingerprint(1, &[guild(1), guild(2)]);
        assert_eq!(print, fingerprint(1, &[guild(2), guild(1)]));
        for other in [
            fingerprint(2, &[guild(1), guild(2)]),
            fingerprint(1, &[guild(1)]),
            fingerprint(1, &[guild(12)]),
        ] {
            assert_ne!(print, other);
        }
    }
}
