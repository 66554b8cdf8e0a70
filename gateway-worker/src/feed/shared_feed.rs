//! The lock around a feed, and the notifications with which its users wake each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Feed;

/// A connection that was not checked for so long was stopped with the whole process.
const STOPPED_AFTER: Duration = Duration::from_secs(3);

/// How many identify notices the hub may be owed: as many as Discord grants a bot in a day. Beyond
/// that the oldest is dropped.
const NOTICES_MAX: usize = 1_000;

/// One shard's feed, shared by its connection, its questions and its delivery task.
#[derive(Debug)]
pub struct SharedFeed {
    feed: Mutex<Feed>,
    deliver: Notify,
    ask: Notify,
    connect: Notify,
    /// How many times [`SharedFeed::ask_hub`] was called, and up to which call the hub has confirmed.
    questions: AtomicU64,
    confirmed: watch::Sender<u64>,
    fenced: CancellationToken,
    /// Ids of identify notices that the hub has not received yet, oldest first.
    notices: Mutex<VecDeque<String>>,
    /// When the connection was last checked.
    checked_at: Mutex<Instant>,
}

/// Which calls of [`SharedFeed::ask_hub`] a delivery answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked(u64);

impl SharedFeed {
    /// Shares this feed.
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
            checked_at: Mutex::new(Instant::now()),
        }
    }

    /// Changes the feed, never across an await, and wakes those that may have work now.
    pub fn update<T>(&self, work: impl FnOnce(&mut Feed) -> T) -> T {
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

    /// Reads the feed. Wakes nobody.
    pub fn read<T>(&self, read: impl FnOnce(&Feed) -> T) -> T {
        read(&self.lock())
    }

    /// Changes the feed in a way that gives nobody work. Wakes nobody.
    pub fn update_quietly<T>(&self, update: impl FnOnce(&mut Feed) -> T) -> T {
        update(&mut self.lock())
    }

    /// Until there may be something to deliver.
    pub async fn to_deliver(&self) {
        self.deliver.notified().await;
    }

    /// Until there may be something to ask.
    pub async fn to_ask(&self) {
        self.ask.notified().await;
    }

    /// Until the connection may have to identify.
    pub async fn to_identify(&self) {
        self.connect.notified().await;
    }

    /// Waits until the hub has taken a delivery that is sent from now on, which no fenced worker
    /// gets. Returns whether it did within the timeout: an unreachable hub blocks nothing.
    pub(crate) async fn ask_hub(&self, wait_max: Duration) -> bool {
        let asked = self.questions.fetch_add(1, Ordering::SeqCst) + 1;
        let mut confirmed = self.confirmed.subscribe();
        self.deliver.notify_one();
        timeout(wait_max, confirmed.wait_for(|upto| *upto >= asked))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// The open calls of [`SharedFeed::ask_hub`], which the next delivery answers.
    pub(crate) fn asked(&self) -> Option<Asked> {
        let asked = self.questions.load(Ordering::SeqCst);
        (asked > *self.confirmed.borrow()).then_some(Asked(asked))
    }

    /// The hub has taken a delivery that was sent after these calls.
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

    /// The connection is checked now. Returns whether the last check is too old: this process was
    /// stopped, and the connection may be dead.
    pub(crate) fn record_check(&self) -> bool {
        let mut checked_at = self
            .checked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *checked_at, Instant::now());
        before.elapsed() > STOPPED_AFTER
    }

    /// As if the last check was so long ago.
    #[cfg(test)]
    pub(crate) fn age_last_check(&self, since: Duration) {
        let mut checked_at = self
            .checked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *checked_at = Instant::now().checked_sub(since).unwrap_or(*checked_at);
    }

    /// Whether the state may be from before this process was stopped.
    pub(crate) fn is_stale(&self) -> bool {
        let checked_at = *self
            .checked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        checked_at.elapsed() > STOPPED_AFTER && self.read(Feed::is_live)
    }

    /// The hub did not receive the identify notice with this id: it is sent later, once.
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

    /// Takes the oldest owed notice.
    pub(crate) fn take_owed_notice(&self) -> Option<String> {
        self.notices().pop_front()
    }

    fn notices(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Feed> {
        // A panic ends the worker; until then the others may still read.
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
