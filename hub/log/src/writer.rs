//! The log's one writer: takes everything that waits, tries it on a copy of the truth, makes it
//! durable, and only then lets it be the truth, be seen, and be answered.
//!
//! While a slow disk makes one group durable the next one gathers, so that the disk's pace decides
//! how large the groups are, and not how many events a second there can be.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use proto::{ChannelId, GuildId};
use tokio::sync::{mpsc, oneshot, watch};

use super::Health;
use super::published::Published;
use super::seen::Seen;
use super::store::{Failure, Store};
use super::truth::{Truth, Written};

/// How many jobs become durable together at most.
const GROUP_MAX: usize = 256;

/// What the log knows, besides what its readers see.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) truth: Truth,
    pub(super) seen: Seen,
}

/// A room of the ledger as it is kept; the log does not know what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its channel.
    pub channel: ChannelId,
    /// The room; none: it is forgotten.
    pub room: Option<Vec<u8>>,
}

/// What a group of jobs changes, as long as it is not durable.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) memory: Memory,
    /// By the wall clock, in ms since the Unix epoch.
    pub(super) now_ms: u64,
    /// New entries, in order.
    pub(super) written: Vec<Written>,
    /// Guilds whose place or mark may be another.
    pub(super) guilds: BTreeSet<GuildId>,
    /// Shards whose checkpoint may be another.
    pub(super) shards: BTreeSet<u32>,
    /// A shard has another holder, or the bot identified.
    pub(super) claimed: bool,
    /// Rooms of the ledger.
    pub(super) rooms: Vec<LedgerRow>,
    /// Guilds whose past is to be forgotten.
    pub(super) aged: BTreeSet<GuildId>,
    /// Whether to write although there is nothing to be written.
    pub(super) probe: bool,
}

/// Tells who waits for a job whether it is durable.
pub(super) type Answer = Box<dyn FnOnce(bool) + Send>;

/// What the writer is asked to do.
pub(super) enum Job {
    /// Changes something.
    Change(Box<dyn FnOnce(&mut Draft) -> Answer + Send>),
    /// Sees whether the store is still where it was.
    Look,
    /// The end.
    Close(oneshot::Sender<()>),
}

pub(super) struct Writer {
    pub(super) memory: Memory,
    /// None: nothing is kept.
    pub(super) store: Option<Store>,
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) health: watch::Sender<Health>,
    pub(super) published: Arc<Published>,
}

impl Draft {
    fn begin(memory: Memory, now_ms: u64) -> Self {
        Self {
            memory,
            now_ms,
            written: Vec::new(),
            guilds: BTreeSet::new(),
            shards: BTreeSet::new(),
            claimed: false,
            rooms: Vec::new(),
            aged: BTreeSet::new(),
            probe: false,
        }
    }

    fn is_empty(&self, before: &Memory) -> bool {
        self.written.is_empty()
            && self.guilds.is_empty()
            && self.shards.is_empty()
            && !self.claimed
            && self.rooms.is_empty()
            && self.aged.is_empty()
            && !self.probe
            && self.memory.seen.next() == before.seen.next()
    }

    /// Does a job; one that panics leaves nothing behind, and whoever waits for it hears nothing.
    fn take(&mut self, job: impl FnOnce(&mut Self) -> Answer) -> Option<Answer> {
        let memory = self.memory.clone();
        let (written, rooms) = (self.written.len(), self.rooms.len());
        catch_unwind(AssertUnwindSafe(|| job(self)))
            .map_err(|_panic| {
                metrics::counter!("hub_panics_total").increment(1);
                tracing::error!("ALARM: a change of the log ended in a fault of the hub");
                self.memory = memory;
                self.written.truncate(written);
                self.rooms.truncate(rooms);
            })
            .ok()
    }
}

impl Writer {
    /// Writes until nobody can ask any more, or until it must not go on.
    pub(super) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let mut draft = Draft::begin(self.memory.clone(), launch::clock::now_ms());
            let (mut answers, mut closed) = (Vec::new(), None);
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Change(job) => answers.extend(draft.take(job)),
                    Job::Look => self.look(),
                    Job::Close(told) => closed = Some(told),
                }
                next = (answers.len() < GROUP_MAX && closed.is_none())
                    .then(|| self.jobs.try_recv().ok())
                    .flatten();
            }
            let durable = self.commit(draft, answers.len());
            for answer in answers {
                answer(durable);
            }
            if let Some(told) = closed {
                self.jobs.close();
                // The store closes before that is told.
                self.store = None;
                // Nobody may be waiting.
                let _heard = told.send(());
                return;
            }
            if *self.health.borrow() == Health::Ruined {
                return;
            }
        }
    }

    fn look(&mut self) {
        let now_ms = launch::clock::now_ms();
        let looked = self.store.as_mut().map(|store| store.keep_place(now_ms));
        if let Some(Err(failure)) = looked {
            self.fail(&failure);
        }
    }

    /// Makes a draft durable, and then the truth. False: it is as if it had never been.
    fn commit(&mut self, mut draft: Draft, jobs: usize) -> bool {
        if draft.is_empty(&self.memory) {
            return true;
        }
        let written: BTreeSet<GuildId> =
            draft.written.iter().map(|written| written.guild).collect();
        draft.aged.retain(|guild| !written.contains(guild));
        if let Some(store) = &mut self.store {
            let began = Instant::now();
            if let Err(failure) = store.commit(&draft, &self.memory) {
                self.fail(&failure);
                return false;
            }
            metrics::histogram!("hub_store_commit_seconds").record(began.elapsed());
            metrics::histogram!("hub_store_group_jobs")
                .record(u32::try_from(jobs).unwrap_or(u32::MAX));
            self.heal();
            launch::mutation::pass("stored");
        }
        let Draft {
            memory,
            written,
            aged,
            now_ms,
            ..
        } = draft;
        self.memory = memory;
        self.published
            .publish(self.memory.truth.clone(), written, &aged, now_ms);
        launch::mutation::pass("published");
        true
    }

    fn fail(&self, failure: &Failure) {
        metrics::counter!("hub_store_failures_total").increment(1);
        match failure {
            Failure::Damaged(why) => {
                tracing::error!(
                    why,
                    "ALARM: the store is damaged; the hub ends, and sets it aside when it starts again"
                );
                if let Some(Err(error)) = self.store.as_ref().map(Store::suspect) {
                    tracing::error!(%error, "the suspicion could not be written down");
                }
                self.health.send_replace(Health::Ruined);
            }
            Failure::Taken => {
                tracing::error!(%failure, "ALARM: the hub ends");
                self.health.send_replace(Health::Ruined);
            }
            Failure::Failed(_) | Failure::NoPlace(_) => {
                let failed_before = self.health.send_replace(Health::Failing) == Health::Failing;
                if !failed_before {
                    tracing::error!(
                        %failure,
                        "ALARM: the store can not be written; nothing is acknowledged until it can"
                    );
                }
            }
        }
    }

    fn heal(&self) {
        let healed = self.health.send_if_modified(|health| {
            let failing = *health == Health::Failing;
            if failing {
                *health = Health::Storing;
            }
            failing
        });
        if healed {
            tracing::info!("the store can be written again");
        }
    }
}
