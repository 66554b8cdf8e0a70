//! Whether the hub takes what one shard delivers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How the delivery of one shard stands, for health and readiness.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// The last attempt was taken.
    taken: AtomicBool,
    /// When the hub last took one, in ms since the Unix epoch; 0: never.
    at_ms: AtomicU64,
}

impl Acknowledged {
    /// Whether the hub took the last delivery.
    pub fn is_current(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// When the hub last took one, in ms since the Unix epoch.
    pub fn at_ms(&self) -> Option<u64> {
        Some(self.at_ms.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }

    /// The hub has answered an attempt, or was silent.
    pub(super) fn note(&self, taken: bool, now_ms: u64) {
        self.taken.store(taken, Ordering::Relaxed);
        if taken {
            self.at_ms.store(now_ms, Ordering::Relaxed);
        }
    }
}
