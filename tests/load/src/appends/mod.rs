//! Appends: the hub's endpoint for workers, the hub alone, driven by signed deliveries as workers send
//! them. At the end the hub is killed and started again, and must know everything that it
//! acknowledged.

mod floor;
mod hub;
mod source;

use std::path::Path;
use std::time::{Duration, Instant};

use proto::GuildId;
use proto::chain::{Claim, Claimed};
use proto::delivery::Receipt;
use proto::signing::{ID_HEADER, SIGNATURE_HEADER, SigningKeys, TIMESTAMP_HEADER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use world::{Folder, SECRET, pooled};

use crate::bare::Durability;
use crate::figures::{Figure, quantile};
use crate::request::Request;
use crate::settings::Settings;
use hub::Hub;
use source::Source;

/// Numbers of guilds, each with the number of shards over which they spread.
const SIZES: [(usize, u32); 2] = [(1, 1), (1_000, 16)];
/// Events of a large delivery.
const BATCH: u64 = 500;
/// Small deliveries of a shard before any is timed: connections are open, and everything ran once.
const WARM_UP: usize = 5;

/// Measures both modes of the store with one and with many guilds, one after the other.
///
/// # Errors
/// Something was refused, lost or doubled.
pub(crate) async fn measure(settings: &Settings, directory: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for durability in [Durability::Process, Durability::Power] {
        for (guilds, shards) in SIZES {
            let plan = Plan {
                guilds: source::guilds(guilds),
                shards,
                durability,
                store: Folder::below(directory),
                seconds: settings.append_seconds,
                batches: settings.append_batches,
            };
            figures.append(&mut plan.measure().await?);
        }
    }
    Ok(figures)
}

struct Plan {
    guilds: Vec<GuildId>,
    shards: u32,
    durability: Durability,
    store: Folder,
    seconds: u32,
    batches: u32,
}

impl Plan {
    async fn measure(&self) -> anyhow::Result<Vec<Figure>> {
        let guilds: Vec<String> = self.guilds.iter().map(ToString::to_string).collect();
        let mut hub = Hub::start(&guilds, self.durability.name(), &self.store).await;
        let endpoint = Endpoint::new(&hub.internal)?;
        let mut workers = Vec::new();
        for shard in 0..self.shards {
            workers.push(self.begin(&endpoint, shard).await?);
        }
        let bulk = self.bulk(&mut workers).await?;
        let (mut latency_ms, one_bytes) = self.singles(&mut workers).await?;
        hub.kill_and_restart().await;
        self.check(&endpoint, &workers).await?;
        hub.stop().await;
        let (floor_s, mut floor_ms) = self.floor(bulk.sizes, one_bytes).await?;

        let guilds = match self.shards {
            1 => "1 guild".to_owned(),
            shards => format!("{} guilds on {shards} shards", self.guilds.len()),
        };
        let what = format!("appends, {}, {guilds}", self.durability.name());
        let mut figures = vec![Figure::rate(
            format!("{what}, {BATCH} a delivery, events/s (more is better)"),
            bulk.events as f64 / bulk.elapsed_s,
            bulk.events as f64 / floor_s,
        )];
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            figures.push(Figure::new(
                format!("{what}, one event, acknowledged, {name}, ms"),
                quantile(&mut latency_ms, share),
                quantile(&mut floor_ms, share),
            ));
        }
        Ok(figures)
    }

    /// Claims each shard again: the restarted hub must know everything that it acknowledged.
    async fn check(&self, endpoint: &Endpoint, workers: &[Worker]) -> anyhow::Result<()> {
        for worker in workers {
            let claimed = endpoint.claim(&self.claim(worker.shard, "after")).await?;
            let checkpoint = claimed.checkpoint.map(|at| at.reached());
            let reached = checkpoint.unwrap_or_default();
            if let Some(differs) = worker.source.differs(reached, &claimed.guilds) {
                anyhow::bail!("lost or doubled, once the hub was killed and back: {differs}");
            }
        }
        Ok(())
    }

    /// The time to write bodies of these sizes to one file, in s, and the times of exchanges of one
    /// event's size with a bare process, in ms.
    async fn floor(&self, sizes: Vec<usize>, one_bytes: usize) -> anyhow::Result<(f64, Vec<f64>)> {
        let limit = Duration::from_secs(self.seconds.into());
        let (path, sync) = (
            self.store.file("floor"),
            self.durability == Durability::Power,
        );
        let writing = move || floor::write(&path, &sizes, sync, limit);
        let floor_s = tokio::task::spawn_blocking(writing).await??;
        let echo = floor::Echo {
            shards: self.shards,
            bytes: one_bytes,
            store: &self.store,
            durability: self.durability,
            limit,
        };
        Ok((floor_s, echo.measure().await?))
    }

    fn claim(&self, shard: u32, worker: &str) -> Claim {
        let guilds = source::of_shard(&self.guilds, shard, self.shards);
        source::claim((shard, self.shards), worker, &guilds)
    }

    /// Claims a shard, delivers the snapshots of its guilds, and warms up.
    async fn begin(&self, endpoint: &Endpoint, shard: u32) -> anyhow::Result<Worker> {
        let claim = self.claim(shard, "measured");
        let claimed = endpoint.claim(&claim).await?;
        let source = Source::new(claim.shard, claimed.generation, claim.guilds);
        let mut worker = Worker {
            shard,
            source,
            endpoint: endpoint.clone(),
        };
        let (events, body) = worker.source.snapshots(launch::clock::now_ms())?;
        let delivery = endpoint.sign(format!("load-{shard}-guilds"), events, body);
        endpoint.deliver(delivery).await?;
        for nth in 0..WARM_UP {
            worker.deliver_one(&format!("warm-{nth}")).await?;
        }
        Ok(worker)
    }

    /// Large deliveries, made before the clock starts: one in flight for each shard.
    async fn bulk(&self, workers: &mut Vec<Worker>) -> anyhow::Result<Bulk> {
        let batches = self.batches.div_ceil(self.shards);
        let mut ready = Vec::new();
        for worker in workers.drain(..) {
            ready.push(worker.prepare(batches)?);
        }
        let begun = Instant::now();
        let until = begun + Duration::from_secs(self.seconds.into());
        let mut delivering = JoinSet::new();
        for (worker, deliveries) in ready {
            delivering.spawn(worker.deliver_all(deliveries, until));
        }
        let mut sizes = Vec::new();
        while let Some(delivered) = delivering.join_next().await {
            let (worker, mut delivered) = delivered??;
            workers.push(worker);
            sizes.append(&mut delivered);
        }
        Ok(Bulk {
            elapsed_s: begun.elapsed().as_secs_f64(),
            events: sizes.len() as u64 * BATCH,
            sizes,
        })
    }

    /// Deliveries of one event, one in flight for each shard: how long each took, in ms, and the
    /// size of one, in bytes.
    async fn singles(&self, workers: &mut Vec<Worker>) -> anyhow::Result<(Vec<f64>, usize)> {
        let until = Instant::now() + Duration::from_secs(self.seconds.into());
        let mut delivering = JoinSet::new();
        for mut worker in workers.drain(..) {
            delivering.spawn(async move {
                let (mut took_ms, mut bytes) = (Vec::new(), 0);
                while took_ms.is_empty() || Instant::now() < until {
                    let one = worker.deliver_one(&took_ms.len().to_string()).await?;
                    took_ms.push(one.0);
                    bytes = one.1;
                }
                anyhow::Ok((worker, took_ms, bytes))
            });
        }
        let (mut all_ms, mut bytes) = (Vec::new(), 0);
        while let Some(delivered) = delivering.join_next().await {
            let (worker, mut took_ms, size) = delivered??;
            workers.push(worker);
            all_ms.append(&mut took_ms);
            bytes = size;
        }
        Ok((all_ms, bytes))
    }
}

struct Bulk {
    events: u64,
    elapsed_s: f64,
    /// Of each body, in bytes.
    sizes: Vec<usize>,
}

/// One shard's worker.
struct Worker {
    shard: u32,
    source: Source,
    endpoint: Endpoint,
}

/// A delivery that is signed already.
struct SignedDelivery {
    id: String,
    timestamp_s: u64,
    signature: String,
    events: u64,
    body: Vec<u8>,
}

impl Worker {
    /// Delivers one event: the time until it was acknowledged, in ms, and its size, in bytes.
    async fn deliver_one(&mut self, name: &str) -> anyhow::Result<(f64, usize)> {
        let (events, body) = self.source.events(1, launch::clock::now_ms())?;
        let id = format!("load-{}-one-{name}", self.shard);
        let (bytes, delivery) = (body.len(), self.endpoint.sign(id, events, body));
        let begun = Instant::now();
        self.endpoint.deliver(delivery).await?;
        Ok((begun.elapsed().as_secs_f64() * 1_000.0, bytes))
    }

    /// Makes deliveries, each with the source as it is once that delivery is acknowledged.
    fn prepare(self, batches: u32) -> anyhow::Result<(Self, Vec<(SignedDelivery, Source)>)> {
        let (mut source, now_ms) = (self.source.clone(), launch::clock::now_ms());
        let mut deliveries = Vec::new();
        for nth in 0..batches {
            let (events, body) = source.events(BATCH, now_ms)?;
            let id = format!("load-{}-batch-{nth}", self.shard);
            deliveries.push((self.endpoint.sign(id, events, body), source.clone()));
        }
        Ok((self, deliveries))
    }

    /// Sends one after the other until all are acknowledged or the time is over; the sizes of those that
    /// are.
    async fn deliver_all(
        mut self,
        deliveries: Vec<(SignedDelivery, Source)>,
        until: Instant,
    ) -> anyhow::Result<(Self, Vec<usize>)> {
        let mut sizes = Vec::new();
        for (delivery, after) in deliveries {
            if !sizes.is_empty() && Instant::now() >= until {
                break;
            }
            sizes.push(delivery.body.len());
            self.endpoint.deliver(delivery).await?;
            self.source = after;
        }
        Ok((self, sizes))
    }
}

/// The hub's endpoint for workers. Clones share their connections; each delivery in flight has its own.
#[derive(Clone)]
struct Endpoint {
    http: reqwest::Client,
    keys: SigningKeys,
    internal: String,
}

impl Endpoint {
    fn new(internal: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: pooled(),
            keys: SigningKeys::parse(SECRET)?,
            internal: internal.to_owned(),
        })
    }

    fn sign(&self, id: String, events: u64, body: Vec<u8>) -> SignedDelivery {
        let timestamp_s = launch::clock::now_ms() / 1_000;
        SignedDelivery {
            signature: self.keys.sign(&id, timestamp_s, &body),
            id,
            timestamp_s,
            events,
            body,
        }
    }

    async fn claim(&self, claim: &Claim) -> anyhow::Result<Claimed> {
        self.post_json("claim", claim).await
    }

    async fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(what)?;
        let id = format!("load-{path}-{}", launch::clock::now_ms());
        self.post(path, self.sign(id, 0, body)).await
    }

    /// Delivers, once: a delivery that is not accepted completely is no measurement.
    async fn deliver(&self, delivery: SignedDelivery) -> anyhow::Result<()> {
        let events = delivery.events;
        let receipt: Receipt = self.post("events", delivery).await?;
        anyhow::ensure!(
            receipt.accepted == events && receipt.duplicates == 0 && receipt.refused.is_empty(),
            "of {events} events, {} were accepted, {} taken for repeats, {} refused",
            receipt.accepted,
            receipt.duplicates,
            receipt.refused.len()
        );
        Ok(())
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        signed: SignedDelivery,
    ) -> anyhow::Result<T> {
        let request = self
            .http
            .post(format!("http://{}/api/internal/{path}", self.internal))
            .header(ID_HEADER, signed.id)
            .header(TIMESTAMP_HEADER, signed.timestamp_s)
            .header(SIGNATURE_HEADER, signed.signature)
            .body(signed.body);
        Request(request).answer().await
    }
}
