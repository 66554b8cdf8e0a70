//! Places in a shard's gateway stream, and of events among their guild's.

use serde::{Deserialize, Serialize};

/// How far a shard's gateway stream was read: which session, and which sequence of it. In JSON
/// `[session, sequence]`.
///
/// Discord's session ids have no order, so the worker numbers its sessions: a later session of the
/// shard has a higher number, whichever worker began it. `[0, 0]`: nothing was read.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Reached {
    /// The session's number.
    pub session: u64,
    /// Discord's sequence in it.
    pub sequence: u64,
}

impl From<(u64, u64)> for Reached {
    fn from((session, sequence): (u64, u64)) -> Self {
        Self { session, sequence }
    }
}

impl From<Reached> for (u64, u64) {
    fn from(reached: Reached) -> Self {
        (reached.session, reached.sequence)
    }
}

/// Where an event stands among its guild's: behind which dispatch, and as which event since. In
/// JSON `[session, sequence, n]`. Of one guild they only ever rise, over all workers and sessions.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(from = "(u64, u64, u32)", into = "(u64, u64, u32)")]
pub struct Mark {
    /// The dispatch.
    pub reached: Reached,
    /// Counts the guild's events since, from 0.
    pub n: u32,
}

impl From<(u64, u64, u32)> for Mark {
    fn from((session, sequence, n): (u64, u64, u32)) -> Self {
        Self {
            reached: Reached { session, sequence },
            n,
        }
    }
}

impl From<Mark> for (u64, u64, u32) {
    fn from(mark: Mark) -> Self {
        (mark.reached.session, mark.reached.sequence, mark.n)
    }
}
