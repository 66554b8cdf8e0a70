//! The log's one writer: it takes every command that waits, executes them on a copy of the state,
//! stores what they add, and only then publishes it and sends the replies.
//!
//! While a slow disk makes one group durable, the next group gathers. So the disk decides how large
//! the groups are, and not how many events a second there can be.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use crate::backend::{Backend, Failure};
use crate::command::{Command, Reply};
use crate::group::Group;
use crate::health::Health;
use crate::log_state::LogState;
use crate::published::Published;

/// How many jobs become durable together at most.
const GROUP_MAX: usize = 256;

/// What the writer is asked to do.
pub(crate) enum Job {
    /// To execute a command. The reply is sent once the record is durable, and not at all if it
    /// cannot be made durable.
    Execute(Command, oneshot::Sender<Reply>),
    /// To forget the entries of guilds that have only old ones.
    Expire(oneshot::Sender<Reply>),
    /// To find out whether the store can be written.
    Probe(oneshot::Sender<Reply>),
    /// To find out whether the store is still in its place.
    CheckPlace,
    /// To end.
    Close(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    pub(crate) state: LogState,
    pub(crate) backend: Backend,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) published: Arc<Published>,
}

impl Writer {
    /// Writes until no job can come any more, or until the writer must not go on.
    pub(crate) fn run(mut self) {
        while let Some(first) = self.jobs.blocking_recv() {
            let mut group = Group::new(self.state.clone(), launch::clock::now_ms());
            // The replies that wait for their group.
            let (mut waiting, mut closed) = (Vec::new(), None);
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Execute(command, caller) => {
                        let reply = group.execute(&command);
                        waiting.extend(reply.map(|reply| (caller, reply)));
                    }
                    Job::Expire(caller) => {
                        // Judged here: a guild may have got an entry while the job waited.
                        group.expired.extend(self.published.expired(group.now_ms));
                        waiting.push((caller, Reply::Done));
                    }
                    Job::Probe(caller) => {
                        group.probe = true;
                        waiting.push((caller, Reply::Done));
                    }
                    Job::CheckPlace => self.check_place(),
                    Job::Close(caller) => closed = Some(caller),
                }
                next = (waiting.len() < GROUP_MAX && closed.is_none())
                    .then(|| self.jobs.try_recv().ok())
                    .flatten();
            }
            if self.commit(group, waiting.len()) {
                for (caller, reply) in waiting {
                    // The caller may have gone away.
                    let _received = caller.send(reply);
                }
            }
            if let Some(caller) = closed {
                self.jobs.close();
                // The store closes before the caller continues.
                self.backend = Backend::Memory;
                // The caller may have gone away.
                let _received = caller.send(());
                return;
            }
            if *self.health.borrow() == Health::Ruined {
                return;
            }
        }
    }

    fn check_place(&mut self) {
        let now_ms = launch::clock::now_ms();
        if let Err(failure) = self.backend.ensure_in_place(now_ms) {
            self.fail(&failure);
        }
    }

    /// Makes a group durable, and publishes it. False: it cannot be made durable, and nothing has
    /// changed.
    fn commit(&mut self, mut group: Group, jobs: usize) -> bool {
        if group.is_empty() {
            return true;
        }
        let changed = group.record.guilds();
        group.expired.retain(|guild| !changed.contains(guild));
        if self.backend.is_durable() && group.is_stored() {
            let began = Instant::now();
            if let Err(failure) = self.backend.commit(&group, &self.state) {
                self.fail(&failure);
                return false;
            }
            metrics::histogram!("hub_store_commit_seconds").record(began.elapsed());
            metrics::histogram!("hub_store_group_jobs")
                .record(u32::try_from(jobs).unwrap_or(u32::MAX));
            self.heal();
            launch::mutation::pass("stored");
        }
        let Group {
            after,
            record,
            expired,
            now_ms,
            ..
        } = group;
        self.state = after;
        self.published
            .publish(self.state.clone(), record.entries, &expired, now_ms);
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
                if let Err(error) = self.backend.mark_corrupt() {
                    tracing::error!(%error, "the store could not be marked as damaged");
                }
                self.health.send_replace(Health::Ruined);
            }
            Failure::Taken => {
                tracing::error!(%failure, "ALARM: the hub ends");
                self.health.send_replace(Health::Ruined);
            }
            Failure::Failed(_) => {
                let failed_before = self.health.send_replace(Health::Failing) == Health::Failing;
                if !failed_before {
                    tracing::error!(
                        %failure,
                        "ALARM: the store cannot be written; nothing is acknowledged until it can"
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
