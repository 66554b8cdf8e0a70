//! The identify queue: every shard waits here for its slot.
//!
//! Three counts exist of the day's identifies: Discord's, the hub's, which outlives every worker, and
//! this process's. The highest one holds. The hub counts each identify before it is sent, and gives
//! slots to the shards of one bucket, since other processes may run some of them. An unreachable hub
//! gets the notice later, and blocks no identify. The hub's count, its memory of a worker, or Discord's
//! count may show that a worker identified before this process; none shows when
//! ([`buckets`](super::buckets)).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::chain::Bucket;
use rand::RngExt as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use twilight_gateway::queue::Queue;

use super::buckets::Buckets;
use super::budget::{Budget, Ledger, Verdict};
use super::rest::{Failure, Rest};
use crate::feed::{Feed, SharedFeed};
use crate::hub::{Hub, Noted};
use crate::retry::Backoff;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a day's budget counts as spent because the hub's ledger says so, until it is asked again.
const LEDGER_AGAIN: Duration = Duration::from_secs(600);

/// The longest wait for a slot that is accepted.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(3_600);

/// How long a shard whose claim the hub has lost waits for the next claim, before it goes on without
/// the hub.
const CLAIM_WAIT_MAX: Duration = Duration::from_secs(10);

/// How the queue is configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IdentifyQueueSetting {
    pub(crate) budget: Budget,
    /// Between two identifies of one bucket.
    pub(crate) every: Duration,
    /// Before a shard that had a session identifies again, at most.
    pub(crate) again: Duration,
    /// This process has all shards of the bot.
    pub(crate) alone: bool,
    /// Buckets; shard `n` is in bucket `n % max_concurrency`.
    pub(crate) max_concurrency: u32,
}

/// The queue that the shards share. A clone is a reference.
#[derive(Debug, Clone)]
pub(crate) struct IdentifyQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rest: Rest,
    hub: Hub,
    setting: IdentifyQueueSetting,
    /// One for each bucket: the shard at its head holds it until it identifies.
    bucket_locks: Vec<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    buckets: Buckets,
    /// This process's identifies of the last 24 h; at most as many as the budget allows.
    spent: VecDeque<Instant>,
    /// The shards that wait. An entry outlives its connection: a shard whose connection is cut does
    /// not wait from the beginning again.
    waiting: BTreeMap<u32, Waiting>,
    /// Which shards have identified before.
    identified: BTreeSet<u32>,
    /// The shards that are served.
    feeds: BTreeMap<u32, Arc<SharedFeed>>,
    /// Identifies of the day, as the hub counted them when it last did.
    hub_counted: u32,
}

#[derive(Debug)]
struct Waiting {
    /// The id of the notice. The hub counts this identify once, however often its connection is cut.
    notice: String,
    due: Option<Instant>,
    exhausted: bool,
}

/// Whether a shard waits in the queue, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    /// For its slot.
    Slot,
    /// For the budget of another day.
    Budget,
}

impl IdentifyQueue {
    pub(crate) fn new(rest: Rest, hub: Hub, setting: IdentifyQueueSetting) -> Self {
        Self(Arc::new(Shared {
            rest,
            hub,
            setting,
            bucket_locks: (0..setting.max_concurrency.max(1))
                .map(|_| tokio::sync::Mutex::new(()))
                .collect(),
            state: Mutex::new(State {
                buckets: Buckets::new(setting.max_concurrency, setting.every),
                spent: VecDeque::new(),
                waiting: BTreeMap::new(),
                identified: BTreeSet::new(),
                feeds: BTreeMap::new(),
                hub_counted: 0,
            }),
        }))
    }

    /// Registers the feed of a shard.
    pub(crate) fn serve(&self, shard: u32, feed: Arc<SharedFeed>) {
        let resumes = feed.read(|feed| feed.resume().is_some());
        self.0.state(|state| {
            if resumes {
                // An identify means then that its session was lost.
                state.identified.insert(shard);
            }
            state.feeds.insert(shard, feed);
        });
    }

    /// A shard was claimed just now. The hub has counted so many identifies of the day, and knows
    /// gateway sessions up to this number (0: none).
    pub(crate) fn observe_claim(&self, shard: u32, counted: u32, last_session: u64) {
        self.0.state(|state| {
            state.hub_counted = state.hub_counted.max(counted);
            state.buckets.claimed(shard, Instant::now());
            if counted > 0 || last_session > 0 {
                state.buckets.observe_predecessor();
            }
        });
    }

    /// Whether this shard waits, and for what.
    pub(crate) fn wait(&self, shard: u32) -> Wait {
        match self
            .0
            .state(|state| state.waiting.get(&shard).map(|one| one.exhausted))
        {
            None => Wait::No,
            Some(true) => Wait::Budget,
            Some(false) => Wait::Slot,
        }
    }
}

impl Queue for IdentifyQueue {
    fn enqueue(&self, shard: u32) -> oneshot::Receiver<()> {
        let (mut slot, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.0);
        // One task for each waiting shard: it ends with its connection.
        tokio::spawn(async move {
            tokio::select! {
                () = slot.closed() => {}
                () = shared.wait_for_slot(shard) => {
                    // If the connection ended at this moment, its successor enqueues again.
                    let _left = slot.send(());
                }
            }
        });
        receiver
    }
}

impl Shared {
    async fn wait_for_slot(&self, shard: u32) {
        self.state(|state| {
            state.waiting.entry(shard).or_insert_with(|| Waiting {
                notice: Hub::id(),
                due: None,
                exhausted: false,
            });
        });
        let bucket = self.state(|state| state.buckets.of(shard));
        let _first = self.bucket_locks[bucket].lock().await;
        loop {
            self.wait_for_budget(shard).await;
            self.wait_for_bucket(shard).await;
            if let Some(wait) = self.notify_hub(shard).await {
                sleep(wait.min(SLOT_WAIT_MAX)).await;
                break;
            }
        }
        let now = Instant::now();
        self.state(|state| {
            state.buckets.identified(shard, now);
            state.spent.push_back(now);
            state.waiting.remove(&shard);
            state.identified.insert(shard);
        });
        metrics::counter!("worker_identifies_total").increment(1);
        tracing::info!(shard, "identifying");
    }

    /// Sends the identify notice. Returns how long the shard waits before it identifies; none if the
    /// hub's count has reached the bound. Does not return if a newer worker has the shard, which ends
    /// this one.
    async fn notify_hub(&self, shard: u32) -> Option<Duration> {
        let known = self.state(|state| {
            let feed = state.feeds.get(&shard)?;
            Some((Arc::clone(feed), state.waiting.get(&shard)?.notice.clone()))
        });
        let Some((feed, id)) = known else {
            return Some(Duration::ZERO);
        };
        let bucket = Bucket {
            number: shard % self.setting.max_concurrency.max(1),
            every_ms: u64::try_from(self.setting.every.as_millis()).unwrap_or(u64::MAX),
        };
        let ask = async || {
            let (claimed, generation) = feed.read(Feed::claimed);
            let noted = self
                .hub
                .note_identify(&id, claimed, generation, Some(bucket));
            noted.await
        };
        let mut noted = ask().await;
        // The next delivery gets the same answer, and its task claims again.
        if noted == Noted::Unclaimed && feed.ask_hub(CLAIM_WAIT_MAX).await {
            noted = ask().await;
        }
        match noted {
            Noted::Counted {
                identifies,
                slot_in,
            } => {
                // The hub's count includes this one.
                let before = identifies.saturating_sub(1);
                self.state(|state| state.hub_counted = before);
                let within = before < self.setting.budget.per_day_max;
                if !within {
                    self.set_waiting(shard, None, true);
                }
                within.then(|| slot_in.unwrap_or_else(|| self.spread(shard)))
            }
            Noted::Fenced => {
                feed.fence();
                std::future::pending().await
            }
            Noted::Unclaimed | Noted::Unanswered => {
                metrics::counter!("worker_identify_notices_late_total").increment(1);
                feed.owe_notice(id);
                Some(self.spread(shard))
            }
        }
    }

    async fn wait_for_bucket(&self, shard: u32) {
        let free_at = || self.state(|state| state.buckets.free_at(shard));
        // Another shard of the bucket may be claimed meanwhile.
        while let Some(at) = free_at().filter(|at| *at > Instant::now()) {
            sleep_until(at).await;
        }
    }

    async fn wait_for_budget(&self, shard: u32) {
        loop {
            let due = self.state(|state| state.waiting.get(&shard).and_then(|waiting| waiting.due));
            if let Some(due) = due {
                sleep_until(due).await;
                return;
            }
            let Some(ledger) = self.ledger(shard).await else {
                return;
            };
            self.apply_budget(shard, ledger).await;
        }
    }

    /// Discord's count of identifies; none if it refuses the token. The gateway closes with 4004 then,
    /// which ends the worker.
    async fn ledger(&self, shard: u32) -> Option<Ledger> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            match self.rest.gateway_bot().await {
                Ok(answer) => return Some(answer.session_start_limit),
                Err(Failure::Unauthorized) => return None,
                Err(why) => {
                    tracing::warn!(shard, %why, "Discord's API does not answer for the identify budget; not identifying without it");
                    let wait = backoff.after_failure(&mut rand::rng());
                    sleep(wait).await;
                }
            }
        }
    }

    /// Sets when the shard is due, or waits for the next window if the budget is spent.
    async fn apply_budget(&self, shard: u32, ledger: Ledger) {
        let hub_counted = self.state(|state| state.hub_counted);
        let spent = self.own_identifies();
        if self.setting.budget.used(ledger, 0) > spent {
            self.state(|state| state.buckets.observe_predecessor());
        }
        let own = spent.max(hub_counted);
        let used = self.setting.budget.used(ledger, own);
        metrics::gauge!("worker_identify_budget_used").set(f64::from(used));
        metrics::gauge!("worker_identify_budget_remaining").set(f64::from(ledger.remaining));
        match self.setting.budget.judge(ledger, own) {
            Verdict::After(wait) => {
                let wait = wait.max(self.pause(shard));
                if wait > Duration::from_secs(5) {
                    tracing::warn!(
                        shard,
                        used,
                        wait_s = wait.as_secs(),
                        "many identifies today; waiting before the next"
                    );
                }
                self.set_waiting(shard, Some(Instant::now() + wait), false);
            }
            Verdict::Exhausted(wait) => {
                self.alarm(shard, used, ledger, wait);
                self.set_waiting(shard, None, true);
                if hub_counted >= self.setting.budget.per_day_max {
                    sleep(wait.max(LEDGER_AGAIN)).await;
                    self.state(|state| state.hub_counted = 0);
                } else {
                    sleep(wait).await;
                }
            }
        }
    }

    fn alarm(&self, shard: u32, used: u32, ledger: Ledger, wait: Duration) {
        metrics::counter!("worker_identify_budget_exhausted_total").increment(1);
        tracing::error!(
            shard,
            used,
            remaining = ledger.remaining,
            bound = self.setting.budget.per_day_max,
            wait_s = wait.as_secs(),
            "ALARM: the identify budget of the day is spent; waiting for the next window, because Discord resets the token of a bot that exceeds it"
        );
    }

    /// A shard that identified before comes back because its session was lost: Discord asks for
    /// a random pause of 1 to 5 s then (documentation, "Resuming").
    fn pause(&self, shard: u32) -> Duration {
        if self.state(|state| state.identified.contains(&shard)) {
            self.setting
                .again
                .mul_f64(rand::rng().random_range(0.2..=1.0))
        } else {
            Duration::ZERO
        }
    }

    /// A random wait of processes that share a bucket, if no hub gives them slots: without it, those
    /// that identified too early together would do so again.
    fn spread(&self, shard: u32) -> Duration {
        if self.setting.alone || !self.state(|state| state.identified.contains(&shard)) {
            return Duration::ZERO;
        }
        self.setting
            .every
            .mul_f64(rand::rng().random_range(0.0..1.0))
    }

    fn own_identifies(&self) -> u32 {
        let now = Instant::now();
        self.state(|state| {
            while state
                .spent
                .front()
                .is_some_and(|at| now.duration_since(*at) > DAY)
            {
                state.spent.pop_front();
            }
            u32::try_from(state.spent.len()).unwrap_or(u32::MAX)
        })
    }

    fn set_waiting(&self, shard: u32, due: Option<Instant>, exhausted: bool) {
        self.state(|state| {
            if let Some(waiting) = state.waiting.get_mut(&shard) {
                (waiting.due, waiting.exhausted) = (due, exhausted);
            }
        });
    }

    fn state<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
