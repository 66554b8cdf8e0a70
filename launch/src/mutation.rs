//! Feature switches for tests of the tests: fail points, planted faults and disabled rules.
//!
//! The only file that reads the feature `faults`. Without the feature every function here is a
//! constant, every rule holds, and the program contains none of this.
//!
//! - `FAIL_POINT=name:n` ends the process, as by SIGKILL, at the n-th passage of a fail point.
//! - `PLANTED_FAULT=drop|double|reorder|leak` with `PLANTED_ONE_IN=n` spoils one in n of the events
//!   that the hub sends to views.
//! - `set` disables a [`Rule`] of the chain between worker and hub, on one thread.
//!
//! | fail point | program | what holds when the process passes it |
//! |---|---|---|
//! | `received` | worker | a dispatch is read, and is not in the feed |
//! | `queued` | worker | its events are in the outbox |
//! | `posted` | worker | the hub has answered a delivery, and the answer is not read |
//! | `acknowledged` | worker | the answer is read, and not recorded |
//! | `verified` | hub | the signature of a delivery is valid, and nothing is done |
//! | `stored` | hub | the events are durable, and not published |
//! | `published` | hub | the events are published, and not acknowledged |
//! | `create_begun` | hub | a pending create is stored, and Discord is not asked |
//! | `create_answered` | hub | Discord has created the channel, and the room is not stored |
//! | `create_stored` | hub | the room is stored, and the client is not answered |
//! | `end_begun` | hub | a room is to be ended, and Discord is not asked |
//! | `end_answered` | hub | Discord has deleted the channel, and the end is not stored |
//! | `end_stored` | hub | the end is stored, and the client is not answered |

/// A rule of the chain between worker and hub that a test can disable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Hub: an event that is not above its guild's watermark is a repeat.
    Watermark,
    /// Hub: only the newest worker of a shard may deliver.
    Generation,
    /// Hub: a delivery must not build on what is missing here.
    Chain,
    /// Hub: a session that a worker has lost is never resumed again.
    LostSessions,
    /// Worker: the checkpoint does not pass what the hub is still owed.
    CheckpointBehindDebts,
    /// Worker: a snapshot that is older than a debt does not pay the debt.
    DatedDebts,
    /// Worker: a snapshot queues at the tail.
    SnapshotsLast,
    /// Worker: a worker that was fenced begins again from its claim.
    Overtaken,
}

/// What `PLANTED_FAULT` does to an event that the hub sends to a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedFault {
    /// The event is not sent.
    Drop,
    /// The event is sent twice.
    Double,
    /// The event is sent after the next event of the same user.
    Reorder,
    /// The event is sent although the view does not show its room.
    Leak,
}

#[cfg(not(feature = "faults"))]
pub use absent::{disabled, pass, planted_fault};
#[cfg(feature = "faults")]
pub use present::{disabled, pass, planted_fault, set};

#[cfg(not(feature = "faults"))]
mod absent {
    use super::{PlantedFault, Rule};

    /// Passes a fail point.
    #[inline]
    pub const fn pass(_point: &str) {}

    /// The fault to plant, and into one event of how many.
    #[inline]
    pub const fn planted_fault() -> Option<(PlantedFault, u64)> {
        None
    }

    /// Whether a rule is disabled on this thread.
    #[inline]
    pub const fn disabled(_rule: Rule) -> bool {
        false
    }
}

#[cfg(feature = "faults")]
mod present {
    use std::cell::Cell;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{PlantedFault, Rule};

    // Static, as the environment of the process is: a test sets it once, before the start.
    static FAIL_POINT: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PLANTED: OnceLock<Option<(PlantedFault, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    thread_local! {
        static DISABLED: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "not a setting: the settings of the programs know nothing of faults"
    )]
    fn variable(name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    /// Passes a fail point.
    pub fn pass(point: &str) {
        let fail_point = FAIL_POINT.get_or_init(|| {
            let variable = variable("FAIL_POINT")?;
            let (name, nth) = variable.split_once(':')?;
            Some((name.to_owned(), nth.parse().ok()?))
        });
        if let Some((name, nth)) = fail_point
            && name == point
            && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *nth
        {
            // Nothing is flushed, closed or sent before the process ends.
            let _killed = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
    }

    /// The fault to plant, and into one event of how many.
    pub fn planted_fault() -> Option<(PlantedFault, u64)> {
        *PLANTED.get_or_init(|| {
            let fault = match variable("PLANTED_FAULT")?.as_str() {
                "drop" => PlantedFault::Drop,
                "double" => PlantedFault::Double,
                "reorder" => PlantedFault::Reorder,
                "leak" => PlantedFault::Leak,
                _ => return None,
            };
            Some((fault, variable("PLANTED_ONE_IN")?.parse().ok()?))
        })
    }

    impl Rule {
        /// The rule that `model --break` disables by this name.
        pub fn named(name: &str) -> Option<Self> {
            match name {
                "no-watermark" => Some(Self::Watermark),
                "no-generation" => Some(Self::Generation),
                "no-chain" => Some(Self::Chain),
                "lost-returns" => Some(Self::LostSessions),
                "ckpt-past-debt" => Some(Self::CheckpointBehindDebts),
                "undated-debt" => Some(Self::DatedDebts),
                "snapshot-overtakes" => Some(Self::SnapshotsLast),
                "overtaken-goes-on" => Some(Self::Overtaken),
                _ => None,
            }
        }
    }

    /// Whether a rule is disabled on this thread.
    pub fn disabled(rule: Rule) -> bool {
        DISABLED.get() == Some(rule)
    }

    /// Disables a rule on this thread.
    pub fn set(rule: Rule) {
        DISABLED.set(Some(rule));
    }
}
