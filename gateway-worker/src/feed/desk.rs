//! The lock around a feed, and the bells that tell its users of each other's work.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Feed, Tally};

/// A connection that was not looked after for so long was stopped with the whole process.
const STOPPED_AFTER: Duration = Duration::from_secs(3);

/// How many identifies the hub is told of later: as many as Discord grants a bot in a day. Beyond that
/// the oldest is not told any more.
const NOTICES_MAX: usize = 1_000;

/// One shard's feed, shared by its connection, its questions and its delivery.
#[derive(Debug)]
pub struct Desk {
    feed: Mutex<Feed>,
    deliver: Notify,
    ask: Notify,
    connect: Notify,
    /// How often it was asked whether the hub still takes what this worker delivers, and up to
    /// which time the answer was yes.
    questions: AtomicU64,
    confirmed: watch::Sender<u64>,
    fenced: CancellationToken,
    /// Identifies that the hub was not told of yet: the ids of their notices, oldest first.
    notices: Mutex<VecDeque<String>>,
    /// When the connection was last looked after.
    looked: Mutex<Instant>,
}

/// A question whether the hub still takes what this worker delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked(u64);

impl Desk {
    /// A desk for this feed.
    pub fn new(feed: Feed) -> Self {
        Self {
            feed: Mutex::new(feed),
            deliver: Notify::new(),
            ask: Notify::new(),
            connect: Notify::new(),
            questions: AtomicU64::new(0),
            confirmed: watch::Sender::new(0),
            fenced: CancellationToken::new(),
            notices: Mutex::new(VecDeque::new()),
            looked: Mutex::new(Instant::now()),
        }
    }

    /// Works on the feed, never across a wait, and rings for the others.
    pub fn with<T>(&self, work: impl FnOnce(&mut Feed) -> T) -> T {
        let (result, asks, identify) = {
            let mut feed = self.lock();
            let result = work(&mut feed);
            (result, feed.question().is_some(), feed.wants_identify())
        };
        self.deliver.notify_one();
        if asks {
            self.ask.notify_one();
        }
        if identify {
            self.connect.notify_one();
        }
        result
    }

    /// Looks at the feed without ringing.
    pub fn look<T>(&self, look: impl FnOnce(&Feed) -> T) -> T {
        look(&self.lock())
    }

    /// Takes something out of the feed, for the one who was rung for.
    pub fn take<T>(&self, take: impl FnOnce(&mut Feed) -> T) -> T {
        take(&mut self.lock())
    }

    /// Until there may be something to deliver.
    pub async fn to_deliver(&self) {
        self.deliver.notified().await;
    }

    /// Until there may be something to ask.
    pub async fn to_ask(&self) {
        self.ask.notified().await;
    }

    /// Until the connection may have to identify anew.
    pub async fn to_identify(&self) {
        self.connect.notified().await;
    }

    /// Waits until the hub has taken something that is sent from now on, at most so long: a hub
    /// that can not be reached keeps nobody from anything. Whether it has.
    pub(crate) async fn ask_hub(&self, patience: Duration) -> bool {
        let asked = self.questions.fetch_add(1, Ordering::SeqCst) + 1;
        let mut confirmed = self.confirmed.subscribe();
        self.deliver.notify_one();
        timeout(patience, confirmed.wait_for(|upto| *upto >= asked))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// A question that the next delivery answers.
    pub(crate) fn asked(&self) -> Option<Asked> {
        let asked = self.questions.load(Ordering::SeqCst);
        (asked > *self.confirmed.borrow()).then_some(Asked(asked))
    }

    /// A delivery that was sent after the question has been taken.
    pub(crate) fn confirm(&self, asked: Option<Asked>) {
        if let Some(Asked(upto)) = asked {
            self.confirmed.send_replace(upto);
        }
    }

    /// A newer worker has the shard.
    pub(crate) fn fence(&self) {
        self.fenced.cancel();
    }

    /// Until a newer worker has the shard.
    pub(crate) async fn fenced(&self) {
        self.fenced.cancelled().await;
    }

    /// The connection is looked after now. Whether that was not so for too long: this process was
    /// stopped, and nobody knows what has become of the connection.
    pub(crate) fn look_after(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *looked, Instant::now());
        before.elapsed() > STOPPED_AFTER
    }

    /// As if nobody had looked after the connection for so long.
    #[cfg(test)]
    pub(crate) fn neglect(&self, since: Duration) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        *looked = Instant::now().checked_sub(since).unwrap_or(*looked);
    }

    /// Whether the state may be one from before this process was stopped.
    pub(crate) fn is_unattended(&self) -> bool {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.elapsed() > STOPPED_AFTER && self.look(Feed::is_live)
    }

    /// The hub could not be told of an identify: it is owed the notice with this id, once.
    pub(crate) fn owe_notice(&self, id: String) {
        let mut notices = self.notices();
        if notices.contains(&id) {
            return;
        }
        if notices.len() >= NOTICES_MAX {
            notices.pop_front();
        }
        notices.push_back(id);
    }

    /// Takes one of those over, if there is one.
    pub(crate) fn take_owed_notice(&self) -> Option<String> {
        self.notices().pop_front()
    }

    fn notices(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Feed> {
        // A panic ends the worker; until it has, the others may still look.
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts what a dispatch, or an answer, led to.
pub(crate) fn count(tally: Tally) {
    metrics::counter!("worker_events_total", "fate" => "queued").increment(tally.queued);
    metrics::counter!("worker_events_total", "fate" => "covered_by_snapshot")
        .increment(tally.covered);
    metrics::counter!("worker_events_total", "fate" => "known").increment(tally.known);
    metrics::counter!("worker_events_total", "fate" => "not_served").increment(tally.unserved);
    metrics::counter!("worker_outbox_full_total").increment(tally.full);
    metrics::counter!("worker_dispatches_foreign_total").increment(u64::from(tally.foreign));
    metrics::counter!("worker_dispatches_repeated_total").increment(u64::from(tally.repeated));
}
