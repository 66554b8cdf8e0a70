//! Signed deliveries to the hub: one at a time for each shard, in order, retried until they are taken.
//!
//! A delivery keeps its id and its body over all attempts; every attempt gets its own signature. While
//! the hub does not answer, everything waits in the outbox. If the state changes meanwhile, the events
//! go into a new delivery, so that the hub never gets an old state.
//!
//! A [`Conflict`] has its own answers. A newer worker has the shard: this one ends. The hub forgot the
//! claim: the worker claims again. The hub lacks what the delivery builds on: every guild owes a
//! snapshot.

mod acknowledged;
mod answer;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::chain::Conflict;
use proto::delivery::{DELIVERY_TYPE, Delivery, Receipt};
use proto::problem::Code;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::claim::{Claimant, NotClaimed};
use crate::config::{DeliverySettings, ms};
use crate::feed::{Batch, Feed, SharedFeed};
use crate::hub::{ANSWER_BYTES_MAX, Endpoint, Hub, Noted};
use crate::outbox::{FailureReason, Rejected};
use crate::retry::Backoff;

pub use acknowledged::Acknowledged;
use answer::Answer;
use watch::Watch;

/// Groups that are set aside in a row before a delivery without events is tried. A hub that refuses
/// that as well refuses everything.
const SET_ASIDE_MAX: u32 = 3;
/// How long the connection has for its check after this process was stopped.
const CHECK_PAUSE: Duration = Duration::from_millis(600);

/// How a delivery task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and everything was delivered that can be delivered.
    Drained,
    /// The shard is no longer this worker's.
    Lost(NotClaimed),
}

/// Delivers one shard's batches.
#[derive(Debug)]
pub struct DeliveryTask {
    hub: Hub,
    claimant: Claimant,
    feed: Arc<SharedFeed>,
    acknowledged: Arc<Acknowledged>,
    settings: DeliverySettings,
    retry: Backoff,
    /// Groups that were set aside since the hub last took something.
    set_aside: u32,
    /// The hub refuses even a delivery without events: nothing is set aside until it takes one.
    refused_whole: bool,
    stale: u32,
    watch: Watch,
}

/// The result of one batch.
enum Settled {
    /// The hub has taken it, with its report.
    Taken,
    /// The hub has not taken it; the next batch replaces it.
    NotTaken,
    /// The shard is no longer this worker's.
    Lost(NotClaimed),
}

/// What follows an attempt.
enum Next {
    /// The hub has taken the batch.
    Taken,
    /// The batch is not sent again; the next one waits this long.
    Another(Duration),
    /// The worker claims again after this pause.
    Claim(Duration),
    /// The same batch is sent again after this pause.
    Again(Duration),
    /// A newer worker has the shard.
    Fenced,
}

impl DeliveryTask {
    /// The task of one shard.
    pub fn new(
        hub: Hub,
        claimant: Claimant,
        feed: Arc<SharedFeed>,
        acknowledged: Arc<Acknowledged>,
        settings: DeliverySettings,
    ) -> Self {
        Self {
            hub,
            claimant,
            feed,
            acknowledged,
            retry: Backoff::new(ms(settings.retry_min_ms), ms(settings.retry_max_ms)),
            watch: Watch::new(&settings),
            settings,
            set_aside: 0,
            refused_whole: false,
            stale: 0,
        }
    }

    /// Delivers until `last` is cancelled, and then until everything is delivered that can be; the
    /// caller bounds that time. Ends by itself when a newer worker has the shard.
    pub async fn run(mut self, last: CancellationToken) -> Ended {
        let beat = ms(self.settings.beat_ms);
        let mut beat_at = Instant::now();
        loop {
            self.wait_for_check().await;
            let now = launch::clock::now_ms();
            let asked = self.feed.asked();
            let drained = self.feed.read(|feed| feed.is_drained(now));
            if last.is_cancelled() && drained {
                return Ended::Drained;
            }
            let due = beat_at <= Instant::now() || asked.is_some() || last.is_cancelled();
            let probes = self.refused_whole || self.set_aside >= SET_ASIDE_MAX;
            let batch = self.feed.update_quietly(|feed| match probes {
                true => feed.beat(now),
                false => feed.next_batch(due, now),
            });
            self.feed.read(|feed| self.watch.observe_guilds(feed));
            let Some(batch) = batch else {
                if last.is_cancelled() {
                    return Ended::Drained;
                }
                tokio::select! {
                    () = self.feed.to_deliver() => {}
                    () = sleep_until(beat_at) => {}
                    () = last.cancelled() => {}
                    () = self.feed.fenced() => return Ended::Lost(NotClaimed::Fenced),
                }
                continue;
            };
            let feed = Arc::clone(&self.feed);
            let settled = tokio::select! {
                settled = self.deliver(&batch) => settled,
                () = feed.fenced() => return Ended::Lost(NotClaimed::Fenced),
            };
            beat_at = match settled {
                Settled::Taken => {
                    self.feed.confirm(asked);
                    self.send_owed_notices().await;
                    Instant::now() + beat
                }
                Settled::NotTaken => Instant::now(),
                Settled::Lost(why) => {
                    // A shard that waits in the identify queue must not identify any more.
                    self.feed.fence();
                    return Ended::Lost(why);
                }
            };
        }
    }

    /// Retries until the batch has a result. An empty batch, or one whose report is outdated, is not
    /// sent again: the next one has the same events and a newer report.
    async fn deliver(&mut self, batch: &Batch) -> Settled {
        let id = Hub::id();
        // Strings, numbers and lists: nothing in a delivery can fail to serialize.
        let body = body_of(batch).unwrap_or_default();
        loop {
            let started = Instant::now();
            let answer = self.attempt(&id, body.clone()).await;
            metrics::counter!("worker_deliveries_total", "answer" => answer.label()).increment(1);
            metrics::histogram!("worker_delivery_seconds").record(started.elapsed().as_secs_f64());
            let taken = matches!(answer, Answer::Taken(_));
            self.acknowledged
                .record_attempt(taken, launch::clock::now_ms());
            match self.on_answer(&id, batch, answer) {
                Next::Taken => return Settled::Taken,
                Next::Fenced => return Settled::Lost(NotClaimed::Fenced),
                Next::Another(pause) => {
                    sleep(pause).await;
                    return Settled::NotTaken;
                }
                Next::Claim(pause) => {
                    sleep(pause).await;
                    return self.claim_again().await;
                }
                Next::Again(pause) => {
                    sleep(pause).await;
                    self.wait_for_check().await;
                    let now = launch::clock::now_ms();
                    let current = self.feed.read(|feed| feed.is_current(batch, now));
                    if batch.events.is_empty() || !current || self.feed.asked().is_some() {
                        return Settled::NotTaken;
                    }
                }
            }
        }
    }

    /// A process that was stopped for a while must not report the state that it had before.
    async fn wait_for_check(&self) {
        if self.feed.is_stale() {
            sleep(CHECK_PAUSE).await;
        }
    }

    async fn attempt(&mut self, id: &str, body: Bytes) -> Answer {
        let posted = self.hub.post(Endpoint::Events, id, body, ANSWER_BYTES_MAX);
        match posted.await {
            Ok(reply) => {
                self.watch.observe_clock(reply.clock_s);
                answer::judge(reply.status, &reply.body, reply.retry_after)
            }
            Err(why) => Answer::Retry(why.label(), None),
        }
    }

    fn on_answer(&mut self, id: &str, batch: &Batch, answer: Answer) -> Next {
        let now = launch::clock::now_ms();
        if !matches!(answer, Answer::Stale) {
            self.stale = 0;
        }
        match answer {
            Answer::Taken(receipt) => {
                self.on_taken(id, batch, &receipt);
                Next::Taken
            }
            Answer::Conflict(conflict) => self.on_conflict(id, conflict),
            Answer::Stale => {
                self.stale += 1;
                if self.stale == 1 {
                    return Next::Again(Duration::ZERO);
                }
                self.retry_later(id, batch, "stale_timestamp", None)
            }
            Answer::Rejected(failure) => {
                let rejected = self.feed.update(|feed| feed.reject(failure, now));
                Next::Another(self.on_rejected(id, failure, &rejected))
            }
            Answer::Retry(why, after) => self.retry_later(id, batch, why, after),
        }
    }

    fn on_taken(&mut self, id: &str, batch: &Batch, receipt: &Receipt) {
        let now = launch::clock::now_ms();
        if self.retry.failures() > 0 {
            tracing::info!(
                delivery = id,
                failures = self.retry.failures(),
                "the hub takes deliveries again"
            );
        }
        self.retry.reset();
        (self.set_aside, self.refused_whole) = (0, false);
        metrics::counter!("worker_events_delivered_total").increment(receipt.accepted);
        metrics::counter!("worker_events_duplicate_total").increment(receipt.duplicates);
        launch::mutation::pass("acknowledged");
        let (acknowledged, read) = self.feed.update(|feed| {
            feed.delivered(batch, receipt, now);
            feed.acknowledged_of_read()
        });
        self.acknowledged.record_checkpoint(acknowledged, read);
        metrics::counter!("worker_events_refused_total").increment(receipt.refused.len() as u64);
        // Refusals of a guild that is not served have their own log line, once a guild.
        let unread = receipt.refused.iter();
        let unread = unread.filter(|event| event.code != Code::Forbidden).count();
        if unread > 0 {
            tracing::warn!(delivery = id, refused = unread, "the hub refused events");
        }
        self.watch.observe_wanted(receipt.wanted.len());
    }

    fn on_conflict(&mut self, id: &str, conflict: Conflict) -> Next {
        match conflict {
            Conflict::Fenced => {
                tracing::warn!(delivery = id, "a newer worker has this shard");
                Next::Fenced
            }
            Conflict::Unclaimed => {
                tracing::warn!(
                    delivery = id,
                    "the hub's store is older than this worker's claim; claiming again"
                );
                metrics::counter!("worker_store_changes_total", "how" => "unclaimed").increment(1);
                Next::Claim(self.retry.after_failure(&mut rand::rng()))
            }
            Conflict::Gap { reached, taken } => {
                tracing::warn!(
                    delivery = id,
                    session = reached.session,
                    sequence = reached.sequence,
                    "the hub lacks events that it had; every guild owes a snapshot"
                );
                metrics::counter!("worker_store_changes_total", "how" => "gap").increment(1);
                let now = launch::clock::now_ms();
                self.feed.update(|feed| feed.rewind(reached, taken, now));
                // Two hubs behind one address would answer so forever.
                Next::Another(self.retry.after_failure(&mut rand::rng()))
            }
        }
    }

    async fn claim_again(&self) -> Settled {
        let (shard, _) = self.feed.read(Feed::claimed);
        let guilds = self.feed.read(|feed| feed.guild_ids().collect());
        let claimed = match self.claimant.claim(shard, guilds).await {
            Ok(claimed) => claimed,
            Err(why) => return Settled::Lost(why),
        };
        let now = launch::clock::now_ms();
        self.feed.update(|feed| feed.claim(claimed, now));
        Settled::NotTaken
    }

    /// Sends the identify notices that the hub did not get in time.
    async fn send_owed_notices(&self) {
        let (shard, generation) = self.feed.read(Feed::claimed);
        while let Some(id) = self.feed.take_owed_notice() {
            let noted = self.hub.note_identify(&id, shard, generation, None).await;
            if matches!(noted, Noted::Unanswered | Noted::Unclaimed) {
                self.feed.owe_notice(id);
                return;
            }
        }
    }

    /// Returns how long to wait before the next delivery.
    fn on_rejected(&mut self, id: &str, failure: FailureReason, rejected: &Rejected) -> Duration {
        match rejected {
            Rejected::Halved => {
                metrics::counter!("worker_deliveries_halved_total").increment(1);
                tracing::warn!(
                    delivery = id,
                    ?failure,
                    "the hub refuses a delivery; looking for the event that it refuses"
                );
                Duration::ZERO
            }
            Rejected::SetAside(group) => {
                self.set_aside += 1;
                metrics::counter!("worker_groups_set_aside_total").increment(1);
                tracing::error!(
                    delivery = id,
                    ?failure,
                    guild = %group.guild(),
                    first = group.events().first().map_or("", |event| event.id.as_str()),
                    events = group.events().len(),
                    "ALARM: the hub refuses these events for good; they are dropped and their guild owes a snapshot"
                );
                Duration::ZERO
            }
            Rejected::Empty => {
                if !std::mem::replace(&mut self.refused_whole, true) {
                    tracing::error!(
                        delivery = id,
                        ?failure,
                        "ALARM: the hub refuses even a delivery without events. It and this worker have different versions, or something between them refuses. Events are kept, and the worker retries"
                    );
                }
                self.retry.after_failure(&mut rand::rng())
            }
        }
    }

    fn retry_later(&mut self, id: &str, batch: &Batch, why: &str, after: Option<Duration>) -> Next {
        let asked_max = ms(self.settings.retry_after_max_ms);
        let pause = self.retry.after_refusal(&mut rand::rng(), after, asked_max);
        let failures = self.retry.failures();
        // Logged at the first failure and at every power of two.
        if failures.is_power_of_two() {
            tracing::warn!(
                delivery = id,
                events = batch.events.len(),
                failures,
                why,
                wait_ms = pause.as_millis(),
                "the hub does not take deliveries; trying again"
            );
        }
        Next::Again(pause)
    }
}

fn body_of(batch: &Batch) -> serde_json::Result<Bytes> {
    let delivery = Delivery {
        r#type: DELIVERY_TYPE,
        report: batch.report.clone(),
        events: &batch.events,
    };
    serde_json::to_vec(&delivery).map(Bytes::from)
}
