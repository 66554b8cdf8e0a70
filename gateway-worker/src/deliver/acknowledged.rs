//! Whether the hub takes the deliveries of one shard.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::chain::Reached;

/// The deliveries of one shard, for health and readiness.
#[derive(Debug)]
pub struct Acknowledged {
    /// The last attempt was taken.
    taken: AtomicBool,
    /// When the hub last took one, in ms since the Unix epoch; 0: never.
    at_ms: AtomicU64,
    checkpoint: Mutex<Checkpoint>,
}

/// The checkpoint, and when it last moved or covered everything.
#[derive(Debug)]
struct Checkpoint {
    at: Reached,
    current: Instant,
}

impl Default for Acknowledged {
    fn default() -> Self {
        Self {
            taken: AtomicBool::default(),
            at_ms: AtomicU64::default(),
            checkpoint: Mutex::new(Checkpoint {
                at: Reached::default(),
                current: Instant::now(),
            }),
        }
    }
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

    /// An attempt was taken, or not.
    pub(super) fn record_attempt(&self, taken: bool, now_ms: u64) {
        self.taken.store(taken, Ordering::Relaxed);
        if taken {
            self.at_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Time since the checkpoint last moved, or last covered everything that was read. Grows while the
    /// hub takes nothing, and while a debt or an open question holds the checkpoint back.
    pub fn checkpoint_age(&self) -> Duration {
        self.lock().current.elapsed()
    }

    /// The hub took a delivery: it has everything up to `acknowledged`, of what was `read`.
    pub(super) fn record_checkpoint(&self, acknowledged: Reached, read: Reached) {
        let mut checkpoint = self.lock();
        if checkpoint.at != acknowledged || acknowledged == read {
            *checkpoint = Checkpoint {
                at: acknowledged,
                current: Instant::now(),
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Checkpoint> {
        self.checkpoint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_ages_while_it_neither_moves_nor_covers_what_was_read() {
        let at = |sequence| Reached {
            session: 1,
            sequence,
        };
        let acknowledged = Acknowledged::default();
        let current = || acknowledged.lock().current;
        acknowledged.record_checkpoint(at(5), at(9));
        let moved = current();
        acknowledged.record_checkpoint(at(5), at(9));
        acknowledged.record_checkpoint(at(5), at(20));
        assert_eq!(current(), moved, "behind, and it did not move");
        acknowledged.record_checkpoint(at(6), at(20));
        assert!(current() > moved, "it moves");
        let moved = current();
        acknowledged.record_checkpoint(at(6), at(6));
        assert!(current() > moved, "nothing is behind it");
    }
}
