//! The store on a disk, and what its tests have in common.

mod claims;
mod damage;
mod eviction;
mod kept;
mod model;
mod taken_away;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proto::chain::{CLAIM_TYPE, Claim, Conflict, GatewaySession, Link, Mark, Reached};
use proto::event::{Event, Fact};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::address::StoreAddress;
use crate::log_state::LogState;
use crate::rooms::{CreateOutcome, CreateTicket, CreatedChannel, Owner};
use crate::{Health, Log, LogSettings, NotTaken, Unavailable};

/// A directory of one test, gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let number = PLACES.fetch_add(1, Relaxed);
        let name = format!("roomwire-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _absent = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("hub.db")
    }

    fn settings(&self) -> LogSettings {
        LogSettings {
            store: StoreAddress::File(self.file()),
            ..LogSettings::default()
        }
    }

    /// What a power switch or a kill leaves: the files as they are now.
    fn copy(&self, to: &Self) {
        for suffix in ["", "-wal"] {
            let name = format!("hub.db{suffix}");
            let _gone = fs::remove_file(to.0.join(&name));
            if self.0.join(&name).exists() {
                fs::copy(self.0.join(&name), to.0.join(&name)).unwrap();
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn guild(id: u64) -> GuildId {
    GuildId::new(id).unwrap()
}

fn guilds() -> Vec<GuildId> {
    vec![guild(1), guild(2)]
}

fn open(settings: &LogSettings) -> Log {
    Log::open(&guilds(), "named", settings).unwrap()
}

fn state(log: &Log) -> LogState {
    let mut state = log.0.published.state.lock().unwrap().clone();
    state.forget_unstored();
    state
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

    async fn deliver(&mut self, log: &Log, facts: Vec<Fact>) -> Result<(), NotTaken> {
        let before = self.sequence;
        let events = facts.into_iter().map(|fact| self.event(fact)).collect();
        let delivered = log.deliver(self.link(), events).await.map(drop);
        if delivered.is_err() {
            self.sequence = before;
        }
        delivered
    }
}

fn fact(json: Value) -> Fact {
    serde_json::from_value(json).unwrap()
}

fn joined(guild: u64, channel: u64, user: u64) -> Fact {
    fact(
        json!({"event": "voice.joined", "payload": {"guildId": guild.to_string(),
        "channelId": channel.to_string(), "userId": user.to_string(),
        "member": {"displayName": "Zoë", "avatarUrl": "https://cdn/x"}}}),
    )
}

fn snapshot(guild: u64, rooms: &[u64]) -> Fact {
    let rooms: Vec<_> = rooms
        .iter()
        .map(|id| json!({"guildId": guild.to_string(), "channelId": id.to_string(), "name": "r"}))
        .collect();
    fact(
        json!({"event": "guild.snapshot", "payload": {"guildId": guild.to_string(),
        "rooms": rooms, "voices": [], "reason": "worker_started"}}),
    )
}

/// A store in a place of its own, and a worker that has delivered: what most tests begin with.
async fn begun(name: &str, delivered: Vec<Fact>) -> (Place, Log, Worker) {
    let place = Place::new(name);
    let log = open(&place.settings());
    let mut worker = Worker::claim(&log).await;
    worker.deliver(&log, delivered).await.unwrap();
    (place, log, worker)
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

fn by_hand(id: &str) -> Event {
    Event {
        id: id.to_owned(),
        fact: joined(2, 21, 5),
        ts: 1,
        at: None,
    }
}

/// Creates a room of the first guild whose name has so many bytes.
async fn create_room(log: &Log, channel: u64, bytes: usize) -> Result<(), Unavailable> {
    let (ticket, owner) = (CreateTicket(channel), Owner::new(&channel.to_string()));
    let begun = log.begin_create(ticket, guild(1), owner).await?;
    assert_eq!(begun, Ok(()));
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

fn channel_id(id: u64) -> proto::ChannelId {
    proto::ChannelId::new(id).unwrap()
}
