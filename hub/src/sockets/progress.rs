//! The time limit of an incoming message, from its first byte to its last.
//!
//! The WebSocket library reports complete messages only. So [`MeteredStream`] shows every byte to a
//! [`Framing`], and the reader asks [`Progress`] whether a message takes too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::AsyncRead;
use tokio::sync::Notify;
use tokio_util::io::InspectReader;

use super::framing::Framing;

/// The progress of the current message: shared by the reader, which waits for it, and the stream,
/// which sees its bytes.
pub(super) struct Progress {
    framing: Mutex<Framing>,
    origin: Instant,
    /// When the incomplete message began: nanoseconds since `origin`, 0 if there is none.
    begun_at: AtomicU64,
    flood: Notify,
}

impl Progress {
    /// No message yet.
    pub(super) fn new() -> Self {
        Self {
            framing: Mutex::default(),
            origin: Instant::now(),
            begun_at: AtomicU64::new(0),
            flood: Notify::new(),
        }
    }

    fn observe(&self, bytes: &[u8]) {
        let mut framing = self.framing.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = framing.read(bytes);
        if framing.is_flood() {
            self.flood.notify_one();
        }
        if !framing.is_begun() {
            self.begun_at.store(0, Ordering::Relaxed);
        } else if ended || self.begun_at.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.begun_at.store(now.max(1), Ordering::Relaxed);
        }
    }

    /// Whether the headers of the current message announce more than so many bytes.
    pub(super) fn announces_more_than(&self, bytes: usize) -> bool {
        let framing = self.framing.lock().unwrap_or_else(PoisonError::into_inner);
        framing.announced() > bytes as u64
    }

    /// Returns when a message is incomplete for `timeout`, or has too many fragments. The time
    /// before `since` does not count.
    pub(super) async fn overdue(&self, timeout: Duration, since: Instant) {
        let since = since.saturating_duration_since(self.origin);
        loop {
            let wait = match self.begun_at.load(Ordering::Relaxed) {
                // No message has begun. One that begins meanwhile is noticed half a timeout late at most.
                0 => timeout / 2,
                at => {
                    let until = Duration::from_nanos(at).max(since) + timeout;
                    match until.checked_sub(self.origin.elapsed()) {
                        Some(left) => left,
                        None => return,
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
                () = self.flood.notified() => return,
            }
        }
    }
}

/// A stream that shows its incoming bytes to a [`Progress`].
pub(super) type MeteredStream<S> = InspectReader<S, Box<dyn FnMut(&[u8]) + Send>>;

/// Meters `inner`.
pub(super) fn metered<S: AsyncRead>(inner: S, progress: Arc<Progress>) -> MeteredStream<S> {
    InspectReader::new(inner, Box::new(move |bytes| progress.observe(bytes)))
}
