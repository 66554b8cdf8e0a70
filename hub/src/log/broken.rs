//! Rules of the chain that a test takes out, to see that it would notice. Only with the feature
//! `faults`; without it every rule holds, and nothing of this is left in the program.

/// A rule of the hub's half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// What is not above a guild's newest event is a repeat.
    Watermark,
    /// Only the newest worker of a shard may deliver.
    Generation,
    /// A delivery must not build on what is missing here.
    Chain,
    /// A session that a worker has lost is never resumed again.
    LostSessions,
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
                "no-watermark" => Some(Self::Watermark),
                "no-generation" => Some(Self::Generation),
                "no-chain" => Some(Self::Chain),
                "lost-returns" => Some(Self::LostSessions),
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
