//! The identify queue: every shard waits here for its turn.
//!
//! Three count what was spent: Discord's ledger, the hub's, which outlives every worker, and this
//! process; the highest counts. The hub notes each identify before it is sent, and gives the shards of
//! one bucket their turns, since other processes may have some of them. One that can not be reached is
//! told later, and keeps nobody from identifying. That somebody identified before this
//! process, any of them may know: the hub by its ledger or by what it remembers of a worker, Discord
//! by its own ledger; when, none of them ([`buckets`](super::buckets)).

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
use crate::feed::{Desk, Feed};
use crate::hub::{Hub, Noted};
use crate::retry::Backoff;

const DAY: Duration = Duration::from_secs(86_400);
/// How long a day's budget counts as spent because the hub's ledger says so, until it is asked again.
const LEDGER_AGAIN: Duration = Duration::from_secs(600);

/// The longest wait for a turn that is believed.
const TURN_MAX: Duration = Duration::from_secs(3_600);

/// How long a shard whose claim the hub has lost waits to be claimed anew, before it goes on without
/// the hub.
const CLAIM_PATIENCE: Duration = Duration::from_secs(10);

/// How the gate behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateSetting {
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
pub(crate) struct Gate(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rest: Rest,
    hub: Hub,
    setting: GateSetting,
    /// One for each bucket: whose turn it is holds it until it identifies.
    turns: Vec<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    buckets: Buckets,
    /// This process's identifies of the last 24 h; at most as many as the budget allows.
    spent: VecDeque<Instant>,
    /// Who waits, until when. It outlives the connection: one that is cut while it waits must not
    /// have to wait from the beginning.
    waiting: BTreeMap<u32, Waiting>,
    /// Which shards have identified before.
    identified: BTreeSet<u32>,
    /// The shards that are served.
    desks: BTreeMap<u32, Arc<Desk>>,
    /// Identifies of the day, as the hub counted them when it last did.
    hub_counted: u32,
}

#[derive(Debug)]
struct Waiting {
    /// Of the hub's notice: it counts this identify once, however often its connection is cut.
    notice: String,
    due: Option<Instant>,
    exhausted: bool,
}

/// Whether a shard waits at the gate, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    /// For its turn.
    Turn,
    /// For the budget of another day.
    Budget,
}

impl Gate {
    pub(crate) fn new(rest: Rest, hub: Hub, setting: GateSetting) -> Self {
        Self(Arc::new(Shared {
            rest,
            hub,
            setting,
            turns: (0..setting.max_concurrency.max(1))
                .map(|_| tokio::sync::Mutex::new(()))
                .collect(),
            state: Mutex::new(State {
                buckets: Buckets::new(setting.max_concurrency, setting.every),
                spent: VecDeque::new(),
                waiting: BTreeMap::new(),
                identified: BTreeSet::new(),
                desks: BTreeMap::new(),
                hub_counted: 0,
            }),
        }))
    }

    /// From now on this shard is served.
    pub(crate) fn serve(&self, shard: u32, desk: Arc<Desk>) {
        let resumes = desk.look(|feed| feed.resume().is_some());
        self.0.state(|state| {
            if resumes {
                // If that fails, its session was lost like any other.
                state.identified.insert(shard);
            }
            state.desks.insert(shard, desk);
        });
    }

    /// A shard was claimed just now. The hub has counted so many identifies of the day, and this
    /// is the last gateway session that it knows of (0: none).
    pub(crate) fn know(&self, shard: u32, counted: u32, last_session: u64) {
        self.0.state(|state| {
            state.hub_counted = state.hub_counted.max(counted);
            state.buckets.claimed(shard, Instant::now());
            if counted > 0 || last_session > 0 {
                state.buckets.succeed();
            }
        });
    }

    /// Whether this shard waits here.
    pub(crate) fn wait(&self, shard: u32) -> Wait {
        match self
            .0
            .state(|state| state.waiting.get(&shard).map(|one| one.exhausted))
        {
            None => Wait::No,
            Some(true) => Wait::Budget,
            Some(false) => Wait::Turn,
        }
    }
}

impl Queue for Gate {
    fn enqueue(&self, shard: u32) -> oneshot::Receiver<()> {
        let (mut turn, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.0);
        // One task for each waiting shard: it ends with its connection.
        tokio::spawn(async move {
            tokio::select! {
                () = turn.closed() => {}
                () = shared.pass(shard) => {
                    // Whoever left in this very moment identifies with the next connection.
                    let _left = turn.send(());
                }
            }
        });
        receiver
    }
}

impl Shared {
    async fn pass(&self, shard: u32) {
        self.state(|state| {
            state.waiting.entry(shard).or_insert_with(|| Waiting {
                notice: Hub::id(),
                due: None,
                exhausted: false,
            });
        });
        let bucket = self.state(|state| state.buckets.of(shard));
        let _turn = self.turns[bucket].lock().await;
        loop {
            self.wait_for_budget(shard).await;
            self.wait_for_bucket(shard).await;
            if let Some(turn) = self.note_at_hub(shard).await {
                sleep(turn.min(TURN_MAX)).await;
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

    /// Tells the hub. How long it is until the shard may identify; none: not if the hub has counted
    /// too many by now, and not if a newer worker has the shard, which ends this one.
    async fn note_at_hub(&self, shard: u32) -> Option<Duration> {
        let known = self.state(|state| {
            let desk = state.desks.get(&shard)?;
            Some((Arc::clone(desk), state.waiting.get(&shard)?.notice.clone()))
        });
        let Some((desk, id)) = known else {
            return Some(Duration::ZERO);
        };
        let bucket = Bucket {
            number: shard % self.setting.max_concurrency.max(1),
            every_ms: u64::try_from(self.setting.every.as_millis()).unwrap_or(u64::MAX),
        };
        let ask = async || {
            let (claimed, generation) = desk.look(Feed::claimed);
            let noted = self
                .hub
                .note_identify(&id, claimed, generation, Some(bucket));
            noted.await
        };
        let mut noted = ask().await;
        // The next delivery finds it out as well, and claims anew.
        if noted == Noted::Unclaimed && desk.ask_hub(CLAIM_PATIENCE).await {
            noted = ask().await;
        }
        match noted {
            Noted::Counted { identifies, turn } => {
                // It counts this one already.
                let before = identifies.saturating_sub(1);
                self.state(|state| state.hub_counted = before);
                let within = before < self.setting.budget.per_day_max;
                if !within {
                    self.note(shard, None, true);
                }
                within.then(|| turn.unwrap_or_else(|| self.apart(shard)))
            }
            Noted::Fenced => {
                desk.fence();
                std::future::pending().await
            }
            Noted::Unclaimed | Noted::Unheard => {
                metrics::counter!("worker_identify_notices_late_total").increment(1);
                desk.owe_notice(id);
                Some(self.apart(shard))
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
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            let due = self.state(|state| state.waiting.get(&shard).and_then(|waiting| waiting.due));
            if let Some(due) = due {
                sleep_until(due).await;
                return;
            }
            let ledger = match self.rest.gateway_bot().await {
                Ok(answer) => answer.session_start_limit,
                Err(Failure::Unauthorized) => {
                    // The gateway will say so itself (4004), which ends the worker.
                    return;
                }
                Err(why) => {
                    tracing::warn!(shard, %why, "no word on the identify budget; not identifying without it");
                    let wait = backoff.after_failure(&mut rand::rng());
                    sleep(wait).await;
                    continue;
                }
            };
            let hub_counted = self.state(|state| state.hub_counted);
            let spent = self.own();
            if self.setting.budget.used(ledger, 0) > spent {
                self.state(|state| state.buckets.succeed());
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
                    self.note(shard, Some(Instant::now() + wait), false);
                }
                Verdict::Exhausted(wait) => {
                    self.alarm(shard, used, ledger, wait);
                    self.note(shard, None, true);
                    if hub_counted >= self.setting.budget.per_day_max {
                        sleep(wait.max(LEDGER_AGAIN)).await;
                        self.state(|state| state.hub_counted = 0);
                    } else {
                        sleep(wait).await;
                    }
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
            "ALARM: the identify budget of the day is spent; waiting for the next window, because Discord resets the token of a bot that goes on"
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

    /// Without a hub that gives turns, the processes of one bucket that came too early together would
    /// do so again.
    fn apart(&self, shard: u32) -> Duration {
        if self.setting.alone || !self.state(|state| state.identified.contains(&shard)) {
            return Duration::ZERO;
        }
        self.setting
            .every
            .mul_f64(rand::rng().random_range(0.0..1.0))
    }

    fn own(&self) -> u32 {
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

    fn note(&self, shard: u32, due: Option<Instant>, exhausted: bool) {
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
