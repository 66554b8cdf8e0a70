//! What the rest of the hub asks of the log.

use std::sync::Arc;
use std::time::Duration;

use proto::chain::{Claim, Claimed, Conflict, IdentifyNoted, IdentifyNotice, Link};
use proto::event::Event;
use proto::{ChannelId, GuildId};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::command::{Appended, ClaimRefused, Command, Identified, Reply};
use crate::dedup::Admission;
use crate::entry::{Applied, Position};
use crate::health::Health;
use crate::ledger::{
    Begun, CreateOutcome, CreateRefused, CreateTicket, Ledger, NewCreate, NotPending, OwnedRoom,
};
use crate::published::{Published, lock};
use crate::state::GuildState;
use crate::tail::Tail;
use crate::workers::Holder;
use crate::writer::Job;

/// How often a store that cannot be written is tried.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is looked for what has grown too old, at least.
pub(crate) const AGE_INTERVAL: Duration = Duration::from_secs(60);

/// How late a slot to identify may be used, in ms. The next slot of the bucket counts from it, and the
/// worker leaves 500 ms between them beside Discord's 5 s. A later one is replaced.
const SLOT_LATE_MAX_MS: u64 = 250;
/// How many slots an identify may get until one is stored in time.
const SLOTS_MAX: u32 = 3;

/// It cannot be made durable now: the store cannot be written, or the command failed, or the log is
/// closed. The command has changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store cannot be written")]
pub struct Unavailable;

/// Why a worker's word is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// Two workers take the shard from one another.
    Contended {
        /// When to claim again.
        wait_ms: u64,
    },
    /// It does not fit to what is here.
    Conflict(Conflict),
    /// See [`Unavailable`].
    Unavailable,
}

/// All logs of this hub. A clone is a reference.
#[derive(Clone)]
pub struct Log(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) store: String,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) published: Arc<Published>,
    pub(crate) age_interval: Duration,
}

/// A guild's state, and everything that comes after it.
pub struct Following {
    /// Where the state was taken.
    pub position: Position,
    /// The state.
    pub state: GuildState,
    /// What came before it, as far as it is kept.
    pub tail: Tail,
    /// What comes after it, in order and without a gap. A follower that lags loses its place and
    /// follows again.
    pub entries: broadcast::Receiver<Arc<Applied>>,
}

impl From<Unavailable> for NotTaken {
    fn from(Unavailable: Unavailable) -> Self {
        Self::Unavailable
    }
}

impl Log {
    /// Names what is kept: another name means that the earlier content is forgotten.
    pub fn store(&self) -> &str {
        &self.0.store
    }

    /// How the store is, and its changes.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.health.clone()
    }

    /// Whether a change can be stored now.
    pub fn is_storing(&self) -> bool {
        *self.0.health.borrow() == Health::Storing
    }

    /// A worker takes a shard, by a claim of this id. Repeated, the claim is answered again.
    ///
    /// # Errors
    /// The worker does not have the shard: another has claimed since, or the claim cannot be stored.
    pub async fn claim(&self, id: String, claim: Claim) -> Result<Claimed, NotTaken> {
        let id = id.into();
        match self.execute(Command::Claim { id, claim }).await? {
            Reply::Claimed(claimed) => claimed.map_err(|refused| match refused {
                ClaimRefused::Conflict(conflict) => NotTaken::Conflict(conflict),
                ClaimRefused::Contended { wait_ms } => NotTaken::Contended { wait_ms },
            }),
            _ => Err(NotTaken::Unavailable),
        }
    }

    /// Counts that a worker's bot identifies, once for an id. Returns how often it did in the last
    /// 24 h, and how long the shard has to wait for its slot.
    ///
    /// # Errors
    /// As [`Log::deliver`].
    pub async fn identify(
        &self,
        id: String,
        notice: IdentifyNotice,
    ) -> Result<IdentifyNoted, NotTaken> {
        let id = id.into();
        let command = Command::Identify { id, notice };
        for _ in 0..SLOTS_MAX {
            let Reply::Identified(identified) = self.execute(command.clone()).await? else {
                return Err(NotTaken::Unavailable);
            };
            let Identified { noted, slot_ms } = identified.map_err(NotTaken::Conflict)?;
            let (Some(slot_ms), Some(after_ms)) = (slot_ms, noted.after_ms) else {
                return Ok(noted);
            };
            // Storing the reply took its time. A clock that was set back makes nobody wait longer.
            let now_ms = launch::clock::now_ms();
            if now_ms.saturating_sub(slot_ms) <= SLOT_LATE_MAX_MS {
                let after_ms = after_ms.min(slot_ms.saturating_sub(now_ms));
                return Ok(IdentifyNoted {
                    after_ms: Some(after_ms),
                    ..noted
                });
            }
        }
        Err(NotTaken::Unavailable)
    }

    /// Appends the events of a worker's delivery, and with that publishes them, as a whole or not at
    /// all. An event of a guild that this hub does not serve is refused. The events of one delivery
    /// stay together in the log.
    ///
    /// # Errors
    /// The delivery does not fit to the chain, or cannot be stored.
    pub async fn deliver(&self, link: Link, events: Vec<Event>) -> Result<Appended, NotTaken> {
        let shard = link.shard.0;
        match self.execute(Command::Deliver { link, events }).await? {
            Reply::Delivered(Ok(appended)) => Ok(appended),
            Reply::Delivered(Err(refused)) => {
                if refused.begins_contention {
                    tracing::error!(
                        shard,
                        "ALARM: two workers claim this shard in turn; the holder keeps it for now"
                    );
                }
                Err(NotTaken::Conflict(refused.conflict))
            }
            _ => Err(NotTaken::Unavailable),
        }
    }

    /// Followed guilds of a shard that are not known whole.
    pub fn wanted(&self, shard: u32) -> Vec<GuildId> {
        lock(&self.0.published.state).wanted(shard)
    }

    /// Who holds a shard.
    pub fn holder(&self, shard: u32) -> Option<Holder> {
        lock(&self.0.published.state).workers.holder(shard).cloned()
    }

    /// The highest number that stands for a gateway session or for a generation here: those to come
    /// are not much above it, or not above the time of day.
    pub fn newest_number(&self) -> u64 {
        let state = lock(&self.0.published.state).clone();
        state.newest_number()
    }

    /// Appends events that somebody sends by hand, in order, and with that publishes them. An event
    /// whose id is known is a repeat. One of a guild that this hub does not serve is refused.
    ///
    /// # Errors
    /// [`Unavailable`]: none is appended.
    pub async fn append(&self, events: Vec<Event>) -> Result<Appended, Unavailable> {
        match self.execute(Command::Append { events }).await? {
            Reply::Appended(appended) => {
                let counter = metrics::counter!("hub_log_seen_forgotten_early_total");
                counter.increment(appended.forgotten_early);
                Ok(appended)
            }
            _ => Err(Unavailable),
        }
    }

    /// Begins a create: Discord may be asked for a room once this is [`Begun::Now`].
    ///
    /// # Errors
    /// [`Unavailable`]: it is not stored.
    pub async fn begin_create(
        &self,
        ticket: CreateTicket,
        create: NewCreate,
    ) -> Result<Result<Begun, CreateRefused>, Unavailable> {
        match self
            .execute(Command::BeginCreate { ticket, create })
            .await?
        {
            Reply::CreateBegun(begun) => Ok(begun),
            _ => Err(Unavailable),
        }
    }

    /// Ends a create, by what Discord answered. A channel that Discord created is a room of the ledger
    /// once this is `Ok(Ok(()))`.
    ///
    /// # Errors
    /// [`Unavailable`]: it is not stored.
    pub async fn finish_create(
        &self,
        ticket: CreateTicket,
        outcome: CreateOutcome,
    ) -> Result<Result<(), NotPending>, Unavailable> {
        let command = Command::FinishCreate { ticket, outcome };
        match self.execute(command).await? {
            Reply::CreateFinished(finished) => Ok(finished.map(|finished| {
                let counter = metrics::counter!("hub_create_answers_forgotten_early_total");
                counter.increment(finished.forgotten_early);
            })),
            _ => Err(Unavailable),
        }
    }

    /// Ends a room, whose channel Discord has deleted.
    ///
    /// # Errors
    /// [`Unavailable`]: it is not stored.
    pub async fn end_room(&self, channel: ChannelId) -> Result<(), Unavailable> {
        self.execute(Command::EndRoom { channel }).await.map(drop)
    }

    /// Notes that an interaction is about to be answered. False: it was noted before, and must not be
    /// executed again.
    ///
    /// # Errors
    /// [`Unavailable`]: it is not stored.
    pub async fn note_interaction(&self, id: u64) -> Result<bool, Unavailable> {
        let id = id.to_string().into();
        match self.execute(Command::NoteInteraction { id }).await? {
            Reply::InteractionNoted(admission) => Ok(admission != Admission::Repeat),
            _ => Err(Unavailable),
        }
    }

    /// The ledger. A clone shares what it has in common.
    pub fn ledger(&self) -> Ledger {
        lock(&self.0.published.state).ledger.clone()
    }

    /// The room of the ledger with this channel, past ones included.
    pub fn room(&self, channel: ChannelId) -> Option<Arc<OwnedRoom>> {
        lock(&self.0.published.state).ledger.room(channel).cloned()
    }

    /// Reads a guild's state where it stands now; `None` if this hub does not serve the guild.
    pub fn read<T>(
        &self,
        guild: GuildId,
        read: impl FnOnce(&GuildState, Position) -> T,
    ) -> Option<T> {
        let shown = lock(&self.0.published.guilds.get(&guild)?.shown);
        Some(read(&shown.state, shown.position))
    }

    /// A guild's state and all that comes after it, with nothing between them.
    pub fn follow(&self, guild: GuildId) -> Option<Following> {
        let guild = self.0.published.guilds.get(&guild)?;
        let shown = lock(&guild.shown);
        Some(Following {
            position: shown.position,
            state: shown.state.clone(),
            tail: shown.tail.clone(),
            entries: guild.followers.subscribe(),
        })
    }

    /// Looks after the store until `shutdown`: brings the ledger in line, once, and then whether the
    /// store is where it was, whether it can be written again, and what has grown too old.
    pub async fn tend(&self, shutdown: CancellationToken) {
        let (mut probe, mut age) = (
            tokio::time::interval(PROBE_INTERVAL),
            tokio::time::interval(self.0.age_interval),
        );
        let mut is_to_reconcile = true;
        loop {
            // Each may fail: the next one comes.
            let _tended = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = probe.tick() => {
                    self.0.published.measure();
                    if self.is_storing() && is_to_reconcile {
                        let reconciled = self.execute(Command::ReconcileRooms).await;
                        // A command that failed although the store can be written fails again.
                        is_to_reconcile = reconciled.is_err() && !self.is_storing();
                    }
                    if self.is_storing() {
                        // A writer with a full queue checks the place by itself.
                        let _queued = self.0.jobs.try_send(Job::CheckPlace);
                        continue;
                    }
                    self.submit(Job::Probe).await
                }
                _ = age.tick() => {
                    self.submit(Job::Expire).await
                }
            };
        }
    }

    /// Ends the log: what waits becomes durable, then the file is closed, and nothing more is taken.
    pub async fn close(&self) {
        let (caller, closed) = oneshot::channel();
        if self.0.jobs.send(Job::Close(caller)).await.is_ok() {
            // A writer that is gone has closed the file too.
            let _closed = closed.await;
        }
    }

    /// Has the writer execute a command, and waits until its record is durable and published.
    pub(crate) async fn execute(&self, command: Command) -> Result<Reply, Unavailable> {
        self.submit(|caller| Job::Execute(command, caller)).await
    }

    pub(crate) async fn submit(
        &self,
        job: impl FnOnce(oneshot::Sender<Reply>) -> Job,
    ) -> Result<Reply, Unavailable> {
        let (caller, reply) = oneshot::channel();
        let queued = self.0.jobs.send(job(caller)).await;
        queued.map_err(|_closed| Unavailable)?;
        reply.await.map_err(|_dropped| Unavailable)
    }
}
