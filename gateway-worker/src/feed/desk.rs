//! The lock around a feed, and the bells that tell its users of each other's work.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Feed, Tally};

/// One shard's feed, shared by its connection, its questions and its delivery.
#[derive(Debug)]
pub struct Desk {
    feed: Mutex<Feed>,
    deliver: Notify,
    ask: Notify,
    connect: Notify,
}

impl Desk {
    /// A desk for this feed.
    pub fn new(feed: Feed) -> Self {
        Self {
            feed: Mutex::new(feed),
            deliver: Notify::new(),
            ask: Notify::new(),
            connect: Notify::new(),
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
    metrics::counter!("worker_outbox_full_total").increment(tally.full);
    metrics::counter!("worker_dispatches_foreign_total").increment(u64::from(tally.foreign));
    metrics::counter!("worker_dispatches_repeated_total").increment(u64::from(tally.repeated));
}
