//! How late this machine is: if this program waits for a processor, the other processes wait as well.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use launch::clock::now_ms;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::sessions::Span;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);
/// From when on that counts as late.
const LATE: Duration = Duration::from_millis(150);

/// Watches how late it is woken. Dropping it ends it.
pub struct Late {
    spans: Arc<Mutex<Vec<Span>>>,
    task: JoinHandle<()>,
}

impl Late {
    /// Starts to watch.
    pub fn start() -> Self {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let found = Arc::clone(&spans);
        let task = tokio::spawn(async move {
            loop {
                let (slept, slept_ms) = (Instant::now(), now_ms());
                sleep(LOOK).await;
                if slept.elapsed() > LOOK + LATE {
                    let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                    found.push((slept_ms, now_ms()));
                }
            }
        });
        Self { spans, task }
    }

    /// When it was late, so far.
    pub fn spans(&self) -> Vec<Span> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.clone()
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.task.abort();
    }
}
