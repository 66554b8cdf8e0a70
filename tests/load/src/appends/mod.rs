//! Appends: the hub's door for workers, the hub alone, driven by signed deliveries as workers send
//! them. At the end the hub is killed and started anew, and must know everything that it
//! acknowledged.

mod floor;
mod teller;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proto::GuildId;
use proto::chain::{Claim, Claimed};
use proto::delivery::Receipt;
use proto::signing::{ID_HEADER, SIGNATURE_HEADER, SigningKeys, TIMESTAMP_HEADER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::figures::{Figure, quantile};
use crate::processes::{Processes, client, free_addresses};
use crate::settings::Settings;
use crate::store::{Durability, Store};
use crate::world::{Asked, HUB_SECRET, HubPlan, keys_url, ready_url};
use teller::Teller;

/// Numbers of guilds, each with the number of shards over which they spread.
const SIZES: [(usize, u32); 2] = [(1, 1), (1_000, 16)];
/// Events of a large delivery.
const BATCH: u64 = 500;
/// Small deliveries of a shard before any is timed: connections are open, and everything ran once.
const WARM_UP: usize = 5;
/// That nobody hears of a worker while only the door is measured is no news.
const LOG_LEVEL: &str = "error";
/// Nothing listens there: a hub that is only told asks Discord nothing.
const NO_DISCORD: &str = "127.0.0.1:9";

/// Measures both modes of the store with one and with many guilds, one after the other.
///
/// # Errors
/// Something can not be started, was refused, lost or doubled.
pub(crate) async fn measure(settings: &Settings, directory: &Path) -> anyhow::Result<Vec<Figure>> {
    let [issuer] = free_addresses().await?;
    let mut processes = Processes::none(LOG_LEVEL)?;
    processes.spawn("dev-issuer", &[("ISSUER_LISTEN", &issuer)])?;
    processes.ready(&keys_url(&issuer)).await?;
    let mut figures = Vec::new();
    for durability in Durability::ALL {
        for (guilds, shards) in SIZES {
            let store = Store::new(directory)?;
            let plan = Plan {
                guilds: teller::guilds(guilds),
                shards,
                durability,
                store: &store,
                issuer: &issuer,
                seconds: settings.append_seconds,
                batches: settings.append_batches,
            };
            figures.append(&mut plan.measure(&mut processes).await?);
        }
    }
    processes.stop().await;
    Ok(figures)
}

struct Plan<'a> {
    guilds: Vec<GuildId>,
    shards: u32,
    durability: Durability,
    store: &'a Store,
    issuer: &'a str,
    seconds: u32,
    batches: u32,
}

impl Plan<'_> {
    async fn measure(&self, processes: &mut Processes) -> anyhow::Result<Vec<Figure>> {
        let [hub, internal] = free_addresses().await?;
        let primary = self.guilds.first().context("no guilds")?.to_string();
        let others: Vec<String> = self.guilds.iter().map(ToString::to_string).collect();
        let plan = HubPlan {
            hub: &hub,
            internal: &internal,
            issuer: self.issuer,
            discord: NO_DISCORD,
            guild: &primary,
            store: self.store,
        };
        let more = [
            ("GUILD_IDS", others.join(",")),
            ("STORE_DURABILITY", self.durability.name().to_owned()),
        ];
        let more = more.each_ref().map(|(name, value)| (*name, value.as_str()));
        plan.start(processes, &more).await?;

        let door = Door::new(&internal)?;
        let mut workers = Vec::new();
        for shard in 0..self.shards {
            workers.push(self.begin(&door, shard).await?);
        }
        let bulk = self.bulk(&mut workers).await?;
        let (mut latency_ms, one_bytes) = self.singles(&mut workers).await?;

        processes.kill("hub").await?;
        processes.revive("hub")?;
        processes.ready(&ready_url(&internal)).await?;
        for worker in &workers {
            let claimed = door.claim(&self.claim(worker.shard, "after")).await?;
            let reached = claimed
                .checkpoint
                .map(|at| at.reached())
                .unwrap_or_default();
            if let Some(differs) = worker.teller.differs(reached, &claimed.guilds) {
                anyhow::bail!("lost or doubled, once the hub was killed and back: {differs}");
            }
        }
        processes.end("hub").await?;

        let limit = Duration::from_secs(self.seconds.into());
        let (path, sync) = (
            self.store.file("floor"),
            self.durability == Durability::Power,
        );
        let sizes = bulk.sizes.clone();
        let floor_s =
            tokio::task::spawn_blocking(move || floor::write(&path, &sizes, sync, limit)).await??;
        let echo = floor::Echo {
            shards: self.shards,
            bytes: one_bytes,
            store: self.store,
            durability: self.durability,
            limit,
        };
        let mut floor_ms = echo.measure(processes).await?;

        let what = format!(
            "appends, {}, {}",
            self.durability.name(),
            if self.shards == 1 {
                "1 guild".to_owned()
            } else {
                format!("{} guilds on {} shards", self.guilds.len(), self.shards)
            },
        );
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

    fn claim(&self, shard: u32, worker: &str) -> Claim {
        let guilds = teller::of_shard(&self.guilds, shard, self.shards);
        teller::claim((shard, self.shards), worker, &guilds)
    }

    /// Claims a shard, tells all its guilds, and warms up.
    async fn begin(&self, door: &Door, shard: u32) -> anyhow::Result<Worker> {
        let claim = self.claim(shard, "measured");
        let claimed = door.claim(&claim).await?;
        let teller = Teller::new(claim.shard, claimed.generation, claim.guilds);
        let mut worker = Worker {
            shard,
            teller,
            door: door.clone(),
        };
        let (events, body) = worker.teller.snapshots(launch::clock::now_ms())?;
        let told = worker
            .door
            .sign(format!("load-{shard}-guilds"), events, body);
        worker.door.deliver(told).await?;
        for nth in 0..WARM_UP {
            worker.tell_one(&format!("warm-{nth}")).await?;
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
        let mut telling = JoinSet::new();
        for (worker, deliveries) in ready {
            telling.spawn(worker.tell_all(deliveries, until));
        }
        let mut sizes = Vec::new();
        while let Some(told) = telling.join_next().await {
            let (worker, mut told) = told??;
            workers.push(worker);
            sizes.append(&mut told);
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
        let mut telling = JoinSet::new();
        for mut worker in workers.drain(..) {
            telling.spawn(async move {
                let (mut took_ms, mut bytes) = (Vec::new(), 0);
                while took_ms.is_empty() || Instant::now() < until {
                    let one = worker.tell_one(&took_ms.len().to_string()).await?;
                    took_ms.push(one.0);
                    bytes = one.1;
                }
                anyhow::Ok((worker, took_ms, bytes))
            });
        }
        let (mut all_ms, mut bytes) = (Vec::new(), 0);
        while let Some(told) = telling.join_next().await {
            let (worker, mut took_ms, size) = told??;
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
    teller: Teller,
    door: Door,
}

/// A delivery that is signed already.
struct Told {
    id: String,
    timestamp_s: u64,
    signature: String,
    events: u64,
    body: Vec<u8>,
}

impl Worker {
    /// Tells one event: how long it took until it was acknowledged, in ms, and its size, in bytes.
    async fn tell_one(&mut self, name: &str) -> anyhow::Result<(f64, usize)> {
        let (events, body) = self.teller.events(1, launch::clock::now_ms())?;
        let id = format!("load-{}-one-{name}", self.shard);
        let (bytes, told) = (body.len(), self.door.sign(id, events, body));
        let begun = Instant::now();
        self.door.deliver(told).await?;
        Ok((begun.elapsed().as_secs_f64() * 1_000.0, bytes))
    }

    /// Makes deliveries, each with the teller as it is once that one is acknowledged.
    fn prepare(self, batches: u32) -> anyhow::Result<(Self, Vec<(Told, Teller)>)> {
        let (mut teller, now_ms) = (self.teller.clone(), launch::clock::now_ms());
        let mut deliveries = Vec::new();
        for nth in 0..batches {
            let (events, body) = teller.events(BATCH, now_ms)?;
            let id = format!("load-{}-batch-{nth}", self.shard);
            deliveries.push((self.door.sign(id, events, body), teller.clone()));
        }
        Ok((self, deliveries))
    }

    /// Tells one after the other until all are acknowledged or it is time; the sizes of those that are.
    async fn tell_all(
        mut self,
        deliveries: Vec<(Told, Teller)>,
        until: Instant,
    ) -> anyhow::Result<(Self, Vec<usize>)> {
        let mut sizes = Vec::new();
        for (told, after) in deliveries {
            if !sizes.is_empty() && Instant::now() >= until {
                break;
            }
            sizes.push(told.body.len());
            self.door.deliver(told).await?;
            self.teller = after;
        }
        Ok((self, sizes))
    }
}

/// The hub's door for workers. Clones share their connections; each delivery in flight has its own.
#[derive(Clone)]
struct Door {
    http: reqwest::Client,
    keys: SigningKeys,
    internal: String,
}

impl Door {
    fn new(internal: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: client()?,
            keys: SigningKeys::parse(HUB_SECRET)?,
            internal: internal.to_owned(),
        })
    }

    fn sign(&self, id: String, events: u64, body: Vec<u8>) -> Told {
        let timestamp_s = launch::clock::now_ms() / 1_000;
        Told {
            signature: self.keys.sign(&id, timestamp_s, &body),
            id,
            timestamp_s,
            events,
            body,
        }
    }

    async fn claim(&self, claim: &Claim) -> anyhow::Result<Claimed> {
        self.say("claim", claim).await
    }

    async fn say<T: DeserializeOwned>(
        &self,
        door: &str,
        what: &impl Serialize,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(what)?;
        let id = format!("load-{door}-{}", launch::clock::now_ms());
        self.post(door, self.sign(id, 0, body)).await
    }

    /// Delivers, once: whatever is not taken whole is no measurement.
    async fn deliver(&self, told: Told) -> anyhow::Result<()> {
        let events = told.events;
        let receipt: Receipt = self.post("events", told).await?;
        anyhow::ensure!(
            receipt.accepted == events && receipt.duplicates == 0 && receipt.refused.is_empty(),
            "of {events} events, {} were accepted, {} taken for repeats, {} refused",
            receipt.accepted,
            receipt.duplicates,
            receipt.refused.len()
        );
        Ok(())
    }

    async fn post<T: DeserializeOwned>(&self, door: &str, told: Told) -> anyhow::Result<T> {
        let request = self
            .http
            .post(format!("http://{}/api/internal/{door}", self.internal))
            .header(ID_HEADER, told.id)
            .header(TIMESTAMP_HEADER, told.timestamp_s)
            .header(SIGNATURE_HEADER, told.signature)
            .body(told.body);
        Asked::new(request).answer().await
    }
}
