//! The store on a disk, and what its tests have in common.

mod damage;
mod eviction;
mod kept;
mod model;
mod taken_away;

use std::fs;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proto::chain::{CLAIM_TYPE, Claim, Conflict, GatewaySession, Link, Mark, Reached};
use proto::event::{Event, Fact};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::address::StoreAddress;
use crate::fixture::*;
use crate::ledger::{Begun, CreateOutcome, CreateTicket, CreatedChannel};
use crate::log_state::LogState;
use crate::{Health, Log, LogSettings, NotTaken, Unavailable};

fn open(settings: &LogSettings) -> Log {
    Log::open(&guilds(), "named", settings).unwrap()
}

fn claim_by(worker: &str, shard: (u32, u32)) -> Claim {
    Claim {
        r#type: CLAIM_TYPE.to_owned(),
        shard,
        worker: worker.to_owned(),
        guilds: guilds(),
        memory: true,
    }
}

/// A worker that numbers its dispatches.
struct Worker {
    generation: u64,
    sequence: u64,
}

impl Worker {
    async fn claim(log: &Log) -> Self {
        let claim = claim_by("w", (0, 1));
        static CLAIMS: AtomicU64 = AtomicU64::new(0);
        let id = format!("claim {}", CLAIMS.fetch_add(1, Relaxed));
        let claimed = log.claim(id, claim).await.unwrap();
        Self {
            generation: claimed.generation,
            sequence: claimed
                .checkpoint
                .map_or(0, |checkpoint| checkpoint.sequence),
        }
    }

    fn link(&self) -> Link {
        let at = |sequence| Reached {
            session: 1,
            sequence,
        };
        Link {
            shard: (0, 1),
            generation: self.generation,
            from: Reached::default(),
            taken: 0,
            to: at(self.sequence),
            session: Some(GatewaySession {
                number: 1,
                id: "s".to_owned(),
                resume_url: None,
            }),
            fingerprint: "f".to_owned(),
            resumes: 0,
            lost: 0,
            absent: BTreeMap::new(),
        }
    }

    fn event(&mut self, fact: Fact) -> Event {
        self.sequence += 1;
        Event {
            id: format!("1:{}:0", self.sequence),
            fact,
            ts: 1,
            at: Some(Mark {
                reached: Reached {
                    session: 1,
                    sequence: self.sequence,
                },
                n: 0,
            }),
        }
    }

    async fn deliver(&mut self, log: &Log, facts: Vec<Fact>) {
        self.try_deliver(log, facts).await.unwrap();
    }

    async fn try_deliver(&mut self, log: &Log, facts: Vec<Fact>) -> Result<(), NotTaken> {
        let before = self.sequence;
        let events = facts.into_iter().map(|fact| self.event(fact)).collect();
        let delivered = log.deliver(self.link(), events).await.map(drop);
        if delivered.is_err() {
            self.sequence = before;
        }
        delivered
    }
}

/// A log, and a worker that has delivered: what most tests begin with.
async fn begin(settings: &LogSettings, facts: Vec<Fact>) -> (Log, Worker) {
    let log = open(settings);
    let mut worker = Worker::claim(&log).await;
    worker.deliver(&log, facts).await;
    (log, worker)
}

/// Closes a log, and finds the same again.
async fn assert_kept(log: &Log, settings: &LogSettings) {
    let before = state(log);
    log.close().await;
    assert_eq!(state(&open(settings)), before);
}

/// What is to come within 10 s.
async fn soon<T>(coming: impl Future<Output = T>) -> T {
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, coming).await.unwrap()
}

/// A log that is looked after.
struct Tended {
    stop: CancellationToken,
    tending: JoinHandle<()>,
}

impl Tended {
    fn begin(log: &Log) -> Self {
        let (log, stop) = (log.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let tending = tokio::spawn(async move { log.tend(stopped).await });
        Self { stop, tending }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tending.await.unwrap();
    }
}

/// Creates a room of the first guild whose name has so many bytes.
async fn create_room(log: &Log, channel: u64, bytes: usize) -> Result<(), Unavailable> {
    let (ticket, create) = (CreateTicket(channel), create(1, &channel.to_string(), None));
    let begun = log.begin_create(ticket, create).await?;
    assert_eq!(begun, Ok(Begun::Now));
    let finished = log.finish_create(ticket, created(channel, bytes)).await?;
    assert_eq!(finished, Ok(()));
    Ok(())
}

fn created(channel: u64, bytes: usize) -> CreateOutcome {
    CreateOutcome::Created(CreatedChannel {
        channel_id: channel_id(channel),
        name: "x".repeat(bytes),
        parent_id: None,
        user_limit: 0,
        denies_everyone: channel.is_multiple_of(2),
    })
}
