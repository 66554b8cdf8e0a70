//! The log: the ordered events of each guild. Append is publish.
//!
//! A guild's log keeps the guild's whole truth, hidden rooms included; what a viewer may see of it
//! is decided where it is read (the hub's `view`). One thread writes ([`writer`]): what is told is
//! tried on a copy, made durable, and only then published and acknowledged. What is durable is in
//! one file ([`store`]), from which a hub that starts again has all of it back.

pub mod address;
pub mod chain;
mod fights;
mod files;
mod open;
mod past;
mod published;
pub mod reach;
mod seen;
mod settings;
pub mod state;
mod store;
pub mod tail;
pub mod truth;
mod writer;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use proto::chain::{Claim, Claimed, Conflict, IdentifyNotice, Link};
use proto::delivery::RefusedEvent;
use proto::event::Event;
use proto::{ChannelId, GuildId};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::chain::Holder;
pub use self::fights::Fights;
pub use self::open::StoreError;
use self::published::Published;
pub use self::settings::LogSettings;
pub use self::state::{Change, GuildState};
use self::tail::Tail;
use self::truth::Written;
pub use self::writer::LedgerRow;
use self::writer::{Answer, Draft, Job, Memory};

/// How often a store that can not be written is tried.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked for what has grown too old, at least.
const AGE_INTERVAL: Duration = Duration::from_secs(60);

/// It can not be made durable now; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store can not be written")]
pub struct Unavailable;

/// Why a worker's word is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It does not fit to what is here.
    Conflict(Conflict),
    /// See [`Unavailable`].
    Unavailable,
}

/// How the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// What is acknowledged is kept.
    Storing,
    /// Nothing can be written, and nothing is acknowledged.
    Failing,
    /// The file is damaged, or another hub's: this process must end.
    Ruined,
}

/// All logs of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    store: String,
    jobs: mpsc::Sender<Job>,
    health: watch::Receiver<Health>,
    published: Arc<Published>,
    age_interval: Duration,
}

/// A place in one guild's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Which continuous history.
    pub epoch: u64,
    /// How many entries it holds.
    pub offset: u64,
    /// Names the entry there and all before it: another history has another check here.
    pub check: u32,
}

/// One entry of a guild's log.
#[derive(Debug)]
pub struct Entry {
    /// Where the log stands with it.
    pub place: Place,
    /// What changed.
    pub change: Change,
    /// When the worker read it, in ms since the Unix epoch.
    pub ts: u64,
}

/// An entry that is published, with the guild's state on both sides of it: followers apply nothing.
/// The states share what they have in common, so that each costs next to nothing.
#[derive(Debug)]
pub struct Applied {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The guild before the entry.
    pub before: GuildState,
    /// The guild with the entry.
    pub after: GuildState,
}

/// A guild's state, and everything that comes after it.
pub struct Following {
    /// Where the state was taken.
    pub place: Place,
    /// The state.
    pub state: GuildState,
    /// What came before it, as far as it is kept.
    pub tail: Tail,
    /// What comes after it, in order and without a gap. A follower that lags loses its place and
    /// follows anew.
    pub entries: broadcast::Receiver<Arc<Applied>>,
}

/// What became of the events of one delivery.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// How many are new.
    pub accepted: u64,
    /// How many were known.
    pub duplicates: u64,
    /// Which were refused.
    pub refused: Vec<RefusedEvent>,
}

/// Who tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Teller {
    /// A worker, who tells of a room before it tells who is in it: what it has not told of is
    /// not for everyone.
    Worker,
    /// Somebody who can sign, by hand or by program: an event makes its room known.
    Hand,
}

impl Log {
    /// Names what is kept: another name means that what was told before is forgotten.
    pub fn store(&self) -> &str {
        &self.0.store
    }

    /// How the store is, and what becomes of it.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.health.clone()
    }

    /// Whether what is told now can be kept.
    pub fn is_storing(&self) -> bool {
        *self.0.health.borrow() == Health::Storing
    }

    /// A worker takes a shard, by a claim of this id: repeated, it is answered again.
    ///
    /// # Errors
    /// It does not have it: another has claimed since, or it can not be kept.
    pub async fn claim(&self, id: String, claim: Claim) -> Result<Claimed, NotTaken> {
        self.submit(move |draft| {
            draft.claimed = true;
            draft.memory.truth.claim_once(&id, &claim, draft.now_ms)
        })
        .await
        .map_err(|Unavailable| NotTaken::Unavailable)?
        .map_err(NotTaken::Conflict)
    }

    /// Notes that a worker's bot identifies, once for an id; how often it did in the last 24 h.
    ///
    /// # Errors
    /// As [`Log::deliver`].
    pub async fn identify(&self, id: String, notice: IdentifyNotice) -> Result<u32, NotTaken> {
        self.submit(move |draft| {
            let noted = draft.memory.truth.identify(&id, &notice, draft.now_ms)?;
            draft.claimed = true;
            Ok(noted)
        })
        .await
        .map_err(|Unavailable| NotTaken::Unavailable)?
        .map_err(NotTaken::Conflict)
    }

    /// Appends what a worker tells, and with that publishes it, as a whole or not at all. One of a
    /// guild that this hub does not serve is refused; what stands together in one delivery stays
    /// together in the log.
    ///
    /// # Errors
    /// The delivery does not fit to what is here, or can not be kept.
    pub async fn deliver(&self, link: Link, events: Vec<Event>) -> Result<Appended, NotTaken> {
        self.submit(move |draft| {
            let guilds: BTreeSet<_> = events.iter().map(|event| event.fact.guild_id()).collect();
            let told = draft.memory.truth.deliver(&link, events, draft.now_ms)?;
            draft.shards.insert(link.shard.0);
            Ok(draft.add(guilds, told.written, told.appended))
        })
        .await
        .map_err(|Unavailable| NotTaken::Unavailable)?
        .map_err(NotTaken::Conflict)
    }

    /// Followed guilds of a shard that are not known whole.
    pub fn wanted(&self, shard: u32) -> Vec<GuildId> {
        lock(&self.0.published.truth).wanted(shard)
    }

    /// Who holds a shard.
    pub fn holder(&self, shard: u32) -> Option<Holder> {
        lock(&self.0.published.truth).chain.holder(shard).cloned()
    }

    /// The highest number that stands for a gateway session or for a generation here: those to come
    /// are not much above it, or not above the time of day.
    pub fn newest_number(&self) -> u64 {
        let truth = lock(&self.0.published.truth).clone();
        truth.newest_number()
    }

    /// How long ago the bot last identified, in ms, as far as this hub was told.
    pub fn identified_ago_ms(&self, now_ms: u64) -> Option<u64> {
        let truth = lock(&self.0.published.truth).clone();
        let last = truth.chain.identified().next_back()?;
        Some(now_ms.saturating_sub(last))
    }

    /// Appends events that are told by hand, in order, and with that publishes them. An event whose
    /// id is known is a repeat; one of a guild that this hub does not serve is refused. `now_ms` is
    /// monotonic: how long an id is remembered does not depend on the time of day.
    ///
    /// # Errors
    /// [`Unavailable`]: none is appended.
    pub async fn append(&self, events: Vec<Event>, now_ms: u64) -> Result<Appended, Unavailable> {
        self.submit(move |draft| {
            let guilds: BTreeSet<_> = events.iter().map(|event| event.fact.guild_id()).collect();
            let Memory { truth, seen } = &mut draft.memory;
            let is_new = |id: &str| seen.insert(id, now_ms);
            let told = truth.tell(events, Teller::Hand, is_new, draft.now_ms);
            draft.add(guilds, told.written, told.appended)
        })
        .await
    }

    /// Publishes that a room is Roomwire's own.
    ///
    /// # Errors
    /// As [`Log::keep`].
    pub async fn own(&self, guild: GuildId, channel: ChannelId) -> Result<(), Unavailable> {
        self.keep(Vec::new(), vec![(guild, Change::Owned(channel))])
            .await
    }

    /// Publishes that a room is no longer Roomwire's own.
    ///
    /// # Errors
    /// As [`Log::keep`].
    pub async fn disown(&self, guild: GuildId, channel: ChannelId) -> Result<(), Unavailable> {
        self.keep(Vec::new(), vec![(guild, Change::Disowned(channel))])
            .await
    }

    /// Keeps rooms of the ledger, and publishes changes of guilds that no worker told: all of it
    /// or nothing. Gives nothing back, and ends when it is durable.
    ///
    /// # Errors
    /// [`Unavailable`]: it is not kept.
    pub async fn keep(
        &self,
        rooms: Vec<LedgerRow>,
        changes: Vec<(GuildId, Change)>,
    ) -> Result<(), Unavailable> {
        self.submit(move |draft| {
            draft.rooms.extend(rooms);
            for (guild, change) in changes {
                let now_ms = draft.now_ms;
                let written = draft.memory.truth.change(guild, change, now_ms, now_ms);
                draft.written.extend(written);
                draft.guilds.insert(guild);
            }
        })
        .await
    }

    /// Reads a guild's state where it stands now; `None` if this hub does not serve the guild.
    pub fn read<T>(&self, guild: GuildId, read: impl FnOnce(&GuildState, Place) -> T) -> Option<T> {
        let shown = lock(&self.0.published.guilds.get(&guild)?.shown);
        Some(read(&shown.state, shown.place))
    }

    /// A guild's state and all that comes after it, with nothing between them.
    pub fn follow(&self, guild: GuildId) -> Option<Following> {
        let guild = self.0.published.guilds.get(&guild)?;
        let shown = lock(&guild.shown);
        Some(Following {
            place: shown.place,
            state: shown.state.clone(),
            tail: shown.past.tail().clone(),
            entries: guild.followers.subscribe(),
        })
    }

    /// Looks after the store until `shutdown`: whether it is where it was, whether it can be written
    /// again, and what has grown too old.
    pub async fn tend(&self, shutdown: CancellationToken) {
        let (mut probe, mut age) = (
            tokio::time::interval(PROBE_INTERVAL),
            tokio::time::interval(self.0.age_interval),
        );
        loop {
            // Either may fail: the next one comes.
            let _tended = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = probe.tick() => {
                    self.0.published.measure();
                    if self.is_storing() {
                        // A writer that has more to do than it can hold looks by itself.
                        let _looks = self.0.jobs.try_send(Job::Look);
                        continue;
                    }
                    self.submit(|draft| draft.probe = true).await
                }
                _ = age.tick() => {
                    let aged = self.0.published.aged(launch::clock::now_ms());
                    if aged.is_empty() {
                        continue;
                    }
                    self.submit(|draft| draft.aged.extend(aged)).await
                }
            };
        }
    }

    /// Ends the log: what waits becomes durable, then the file is closed, and nothing more is taken.
    pub async fn close(&self) {
        let (told, closed) = oneshot::channel();
        if self.0.jobs.send(Job::Close(told)).await.is_ok() {
            // A writer that is gone has closed the file too.
            let _closed = closed.await;
        }
    }

    /// Has the writer change something, and waits until that is durable and seen.
    async fn submit<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Draft) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (told, answered) = oneshot::channel();
        let job = move |draft: &mut Draft| -> Answer {
            let answer = change(draft);
            Box::new(move |durable| {
                if durable {
                    // Whoever asked may have gone away.
                    let _heard = told.send(answer);
                }
            })
        };
        self.0
            .jobs
            .send(Job::Change(Box::new(job)))
            .await
            .map_err(|_closed| Unavailable)?;
        answered.await.map_err(|_dropped| Unavailable)
    }
}

impl Draft {
    /// Adds what was told of these guilds.
    fn add<T>(&mut self, guilds: BTreeSet<GuildId>, written: Vec<Written>, told: T) -> T {
        self.guilds.extend(guilds);
        self.written.extend(written);
        told
    }
}

/// A panic in another holder leaves whole entries behind: they are replaced, not changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
