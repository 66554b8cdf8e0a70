//! Signed deliveries to the hub: one at a time for each shard, in order, until they are taken.
//!
//! A delivery keeps its id and its body over all attempts; every attempt is signed afresh. While
//! the hub does not answer, everything waits in the outbox; and when meanwhile the state is another
//! than the delivery says, its events go into a new one, so that the hub never hears an old state.
//!
//! What does not fit ([`Conflict`]) has its own answers: a newer worker has the shard, and this one
//! ends; the hub forgot the claim, and it is made anew; the hub lacks what the delivery builds on,
//! and every guild is told anew.

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
use crate::feed::{Desk, Feed, Parcel};
use crate::hub::{ANSWER_BYTES_MAX, Door, Hub, Noted};
use crate::outbox::{Rejected, Trouble};
use crate::retry::Backoff;

pub use acknowledged::Acknowledged;
use answer::Answer;
use watch::Watch;

/// Groups that are set aside in a row before a delivery without events is tried: a hub that refuses
/// that as well refuses everything.
const SET_ASIDE_MAX: u32 = 3;
/// How long a connection has to be looked after again when this process was stopped.
const ATTEND: Duration = Duration::from_millis(600);

/// How a courier ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and everything was told that can be told.
    Drained,
    /// The shard is no longer this worker's.
    Lost(NotClaimed),
}

/// Delivers what one shard has to tell.
#[derive(Debug)]
pub struct Courier {
    hub: Hub,
    claimant: Claimant,
    desk: Arc<Desk>,
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

/// How a parcel ended.
enum Settled {
    /// The hub has taken it, and knows the state.
    Told,
    /// It has not, and hears of the state with the next.
    Untold,
    /// It never will.
    Lost(NotClaimed),
}

/// What an attempt leads to.
enum Next {
    /// The hub has taken the parcel.
    Taken,
    /// The parcel is no longer to be sent; the next waits this long.
    Another(Duration),
    /// The claim is to be made anew, after this.
    Claim(Duration),
    /// The same parcel again, after this.
    Again(Duration),
    /// A newer worker has the shard.
    Fenced,
}

impl Courier {
    /// A courier for one shard.
    pub fn new(
        hub: Hub,
        claimant: Claimant,
        desk: Arc<Desk>,
        acknowledged: Arc<Acknowledged>,
        settings: DeliverySettings,
    ) -> Self {
        Self {
            hub,
            claimant,
            desk,
            acknowledged,
            retry: Backoff::new(ms(settings.retry_min_ms), ms(settings.retry_max_ms)),
            watch: Watch::new(&settings),
            settings,
            set_aside: 0,
            refused_whole: false,
            stale: 0,
        }
    }

    /// Delivers until `last` is cancelled and then until everything was told that can be told; how
    /// long that may take is the caller's affair. Ends by itself when a newer worker has the shard.
    pub async fn run(mut self, last: CancellationToken) -> Ended {
        let beat = ms(self.settings.beat_ms);
        let mut beat_at = Instant::now();
        loop {
            self.attend().await;
            let now = launch::clock::now_ms();
            let asked = self.desk.asked();
            let drained = self.desk.look(|feed| feed.is_drained(now));
            if last.is_cancelled() && drained {
                return Ended::Drained;
            }
            let due = beat_at <= Instant::now() || asked.is_some() || last.is_cancelled();
            let probes = self.refused_whole || self.set_aside >= SET_ASIDE_MAX;
            let parcel = self.desk.take(|feed| match probes {
                true => feed.beat(now),
                false => feed.parcel(due, now),
            });
            self.desk.look(|feed| self.watch.see_guilds(feed));
            let Some(parcel) = parcel else {
                if last.is_cancelled() {
                    return Ended::Drained;
                }
                tokio::select! {
                    () = self.desk.to_deliver() => {}
                    () = sleep_until(beat_at) => {}
                    () = last.cancelled() => {}
                    () = self.desk.fenced() => return Ended::Lost(NotClaimed::Fenced),
                }
                continue;
            };
            let desk = Arc::clone(&self.desk);
            let settled = tokio::select! {
                settled = self.deliver(&parcel) => settled,
                () = desk.fenced() => return Ended::Lost(NotClaimed::Fenced),
            };
            beat_at = match settled {
                Settled::Told => {
                    self.desk.confirm(asked);
                    self.note_identifies().await;
                    Instant::now() + beat
                }
                Settled::Untold => Instant::now(),
                Settled::Lost(why) => {
                    // Whoever waits at the gate does not identify any more.
                    self.desk.fence();
                    return Ended::Lost(why);
                }
            };
        }
    }

    /// Tries until the parcel is settled. An empty one, or one whose state is no longer so, is not
    /// worth a second attempt: the next has the same events and is newer.
    async fn deliver(&mut self, parcel: &Parcel) -> Settled {
        let id = Hub::id();
        // Strings, numbers and lists: nothing in a delivery can fail to be written.
        let body = body_of(parcel).unwrap_or_default();
        loop {
            let started = Instant::now();
            let answer = self.attempt(&id, body.clone()).await;
            metrics::counter!("worker_deliveries_total", "answer" => answer.label()).increment(1);
            metrics::histogram!("worker_delivery_seconds").record(started.elapsed().as_secs_f64());
            let taken = matches!(answer, Answer::Taken(_));
            self.acknowledged.note(taken, launch::clock::now_ms());
            match self.settle(&id, parcel, answer) {
                Next::Taken => return Settled::Told,
                Next::Fenced => return Settled::Lost(NotClaimed::Fenced),
                Next::Another(pause) => {
                    sleep(pause).await;
                    return Settled::Untold;
                }
                Next::Claim(pause) => {
                    sleep(pause).await;
                    return self.claim_anew().await;
                }
                Next::Again(pause) => {
                    sleep(pause).await;
                    self.attend().await;
                    let now = launch::clock::now_ms();
                    let current = self.desk.look(|feed| feed.is_current(parcel, now));
                    if parcel.events.is_empty() || !current || self.desk.asked().is_some() {
                        return Settled::Untold;
                    }
                }
            }
        }
    }

    /// A process that was stopped for a while says nothing of a state that it had before.
    async fn attend(&self) {
        if self.desk.is_unattended() {
            sleep(ATTEND).await;
        }
    }

    async fn attempt(&mut self, id: &str, body: Bytes) -> Answer {
        let posted = self.hub.post(Door::Events, id, body, ANSWER_BYTES_MAX);
        match posted.await {
            Ok(reply) => {
                self.watch.see_clock(reply.clock_s);
                answer::judge(reply.status, &reply.body, reply.retry_after)
            }
            Err(silence) => Answer::Retry(silence.label(), None),
        }
    }

    fn settle(&mut self, id: &str, parcel: &Parcel, answer: Answer) -> Next {
        let now = launch::clock::now_ms();
        if !matches!(answer, Answer::Stale) {
            self.stale = 0;
        }
        match answer {
            Answer::Taken(receipt) => {
                self.taken(id, parcel, &receipt);
                Next::Taken
            }
            Answer::Conflict(conflict) => self.conflict(id, conflict),
            Answer::Stale => {
                self.stale += 1;
                if self.stale == 1 {
                    return Next::Again(Duration::ZERO);
                }
                self.again(id, parcel, "stale_timestamp", None)
            }
            Answer::Rejected(trouble) => {
                let rejected = self.desk.with(|feed| feed.reject(trouble, now));
                Next::Another(self.rejected(id, trouble, &rejected))
            }
            Answer::Retry(why, after) => self.again(id, parcel, why, after),
        }
    }

    fn taken(&mut self, id: &str, parcel: &Parcel, receipt: &Receipt) {
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
        let (acknowledged, read) = self.desk.with(|feed| {
            feed.delivered(parcel, receipt, now);
            feed.acknowledged_of_read()
        });
        self.acknowledged.note_checkpoint(acknowledged, read);
        metrics::counter!("worker_events_refused_total").increment(receipt.refused.len() as u64);
        // Those of a guild that is not served are complained of by guild.
        let unread = receipt.refused.iter();
        let unread = unread.filter(|event| event.code != Code::Forbidden).count();
        if unread > 0 {
            tracing::warn!(delivery = id, refused = unread, "the hub refused events");
        }
        self.watch.see_wanted(receipt.wanted.len());
    }

    fn conflict(&mut self, id: &str, conflict: Conflict) -> Next {
        match conflict {
            Conflict::Fenced => {
                tracing::warn!(delivery = id, "a newer worker has this shard");
                Next::Fenced
            }
            Conflict::Unclaimed => {
                tracing::warn!(
                    delivery = id,
                    "the hub's store is older than this worker's claim; claiming anew"
                );
                metrics::counter!("worker_store_changes_total", "how" => "unclaimed").increment(1);
                Next::Claim(self.retry.after_failure(&mut rand::rng()))
            }
            Conflict::Gap { reached, taken } => {
                tracing::warn!(
                    delivery = id,
                    session = reached.session,
                    sequence = reached.sequence,
                    "the hub lacks what it had; every guild owes a snapshot"
                );
                metrics::counter!("worker_store_changes_total", "how" => "gap").increment(1);
                let now = launch::clock::now_ms();
                self.desk.with(|feed| feed.rewind(reached, taken, now));
                // Two hubs behind one address would answer so for ever.
                Next::Another(self.retry.after_failure(&mut rand::rng()))
            }
        }
    }

    async fn claim_anew(&self) -> Settled {
        let (shard, _) = self.desk.look(Feed::claimed);
        let guilds = self.desk.look(|feed| feed.followed().collect());
        let claimed = match self.claimant.claim(shard, guilds).await {
            Ok(claimed) => claimed,
            Err(why) => return Settled::Lost(why),
        };
        let now = launch::clock::now_ms();
        self.desk.with(|feed| feed.claim(claimed, now));
        Settled::Untold
    }

    /// What the hub was not told when it happened.
    async fn note_identifies(&self) {
        let (shard, generation) = self.desk.look(Feed::claimed);
        while let Some(id) = self.desk.take_owed_notice() {
            let noted = self.hub.note_identify(&id, shard, generation, None).await;
            if matches!(noted, Noted::Unheard | Noted::Unclaimed) {
                self.desk.owe_notice(id);
                return;
            }
        }
    }

    /// Returns how long to wait before the next delivery.
    fn rejected(&mut self, id: &str, trouble: Trouble, rejected: &Rejected) -> Duration {
        match rejected {
            Rejected::Halved => {
                metrics::counter!("worker_deliveries_halved_total").increment(1);
                tracing::warn!(
                    delivery = id,
                    ?trouble,
                    "the hub refuses a delivery; looking for the guilty event"
                );
                Duration::ZERO
            }
            Rejected::SetAside(group) => {
                self.set_aside += 1;
                metrics::counter!("worker_groups_set_aside_total").increment(1);
                tracing::error!(
                    delivery = id,
                    ?trouble,
                    guild = %group.guild(),
                    first = group.events().first().map_or("", |event| event.id.as_str()),
                    events = group.events().len(),
                    "ALARM: the hub refuses these events for good; they are set aside and their guild owes a snapshot"
                );
                Duration::ZERO
            }
            Rejected::Empty => {
                if !std::mem::replace(&mut self.refused_whole, true) {
                    tracing::error!(
                        delivery = id,
                        ?trouble,
                        "ALARM: the hub refuses even a delivery without events: it and this worker are not of one version, or something between them refuses; keeping what waits, and trying until one is taken"
                    );
                }
                self.retry.after_failure(&mut rand::rng())
            }
        }
    }

    fn again(&mut self, id: &str, parcel: &Parcel, why: &str, after: Option<Duration>) -> Next {
        let jittered = self.retry.after_failure(&mut rand::rng());
        let pause = after.map_or(jittered, |after| {
            jittered.max(after.min(ms(self.settings.retry_after_max_ms)))
        });
        let failures = self.retry.failures();
        // The first says that it began, every power of two that it goes on.
        if failures.is_power_of_two() {
            tracing::warn!(
                delivery = id,
                events = parcel.events.len(),
                failures,
                why,
                wait_ms = pause.as_millis(),
                "the hub does not take deliveries; trying again"
            );
        }
        Next::Again(pause)
    }
}

fn body_of(parcel: &Parcel) -> serde_json::Result<Bytes> {
    let delivery = Delivery {
        r#type: DELIVERY_TYPE,
        report: parcel.report.clone(),
        events: &parcel.events,
    };
    serde_json::to_vec(&delivery).map(Bytes::from)
}
