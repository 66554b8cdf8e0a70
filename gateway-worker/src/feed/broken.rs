//! Rules of the chain that a test takes out, to see that it would notice. Only with the feature
//! `faults`; without it every rule holds, and nothing of this is left in the program.

/// A rule of the worker's half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The checkpoint does not pass what the hub is still owed.
    CheckpointBehindDebts,
    /// A snapshot that is older than a debt does not pay it.
    DatedDebts,
    /// A snapshot queues at the tail.
    SnapshotsLast,
    /// Whom another worker has overtaken begins anew.
    Overtaken,
}

/// Whether this rule does not hold, on this thread.
#[cfg(not(feature = "faults"))]
pub(crate) const fn broken(_rule: Rule) -> bool {
    false
}

#[cfg(feature = "faults")]
pub(crate) use planted::broken;
#[cfg(feature = "faults")]
pub use planted::set;

#[cfg(feature = "faults")]
mod planted {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static BROKEN: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    impl Rule {
        /// The rule whose absence has this name.
        pub fn named(name: &str) -> Option<Self> {
            match name {
                "ckpt-past-debt" => Some(Self::CheckpointBehindDebts),
                "undated-debt" => Some(Self::DatedDebts),
                "snapshot-overtakes" => Some(Self::SnapshotsLast),
                "overtaken-goes-on" => Some(Self::Overtaken),
                _ => None,
            }
        }
    }

    /// Whether this rule does not hold, on this thread.
    pub(crate) fn broken(rule: Rule) -> bool {
        BROKEN.get() == Some(rule)
    }

    /// From now on, this rule does not hold on this thread.
    pub fn set(rule: Rule) {
        BROKEN.set(Some(rule));
    }
}
