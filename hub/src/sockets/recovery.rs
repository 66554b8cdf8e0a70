//! Where a client that reconnects continues: behind the position that it names, or with a snapshot
//! and its reason.
//!
//! Pure.

use std::borrow::Cow;

use proto::position::{UNFINISHED, ViewPosition};
use roomlog::Place;
use roomlog::tail::Tail;

use super::frames::FrameBatch;
use super::history::History;
use super::replay::entry_position;
use crate::positions::Positions;

/// The client named no position, or one of a snapshot that it did not receive completely.
const SUBSCRIBED: &str = "subscribed";
/// This hub did not seal the text.
const BAD_POSITION: &str = "bad_position";
/// The position is of another choice of rooms, or of a time when other rooms were shown.
const VIEW_CHANGED: &str = "view_changed";
/// The position is of another history than this store's.
pub(super) const STORE_CHANGED: &str = "store_changed";
/// The log no longer has the entries behind the position, or the client has missed too many.
const TOO_OLD: &str = "too_old";
/// The fan-out itself restarted from a snapshot meanwhile.
const BEHIND: &str = "behind";

/// The position that a client wants to continue from, or why it needs a snapshot.
pub(super) type Requested = Result<ViewPosition, &'static str>;

/// Reads what a client named as its position in the view of this fingerprint.
pub(super) fn requested(recover: Option<&str>, view: u32, positions: &Positions) -> Requested {
    let text = recover.ok_or(SUBSCRIBED)?;
    let position = positions.open(text).ok_or(BAD_POSITION)?;
    if position.view != view {
        return Err(VIEW_CHANGED);
    }
    if position.step == UNFINISHED {
        return Err(SUBSCRIBED);
    }
    Ok(position)
}

/// How a client continues from a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// With these missed frames.
    Continue(FrameBatch),
    /// The log has what the client missed, and the history ends at this offset: replay the entries
    /// from the position up to there.
    Replay {
        /// Where the replay ends.
        to: u64,
    },
    /// With a snapshot, for this reason.
    Snapshot(&'static str),
}

/// Decides how a client continues from `position` in a view with this history, while the fan-out
/// stands at `at`.
pub(super) fn decide(
    position: &ViewPosition,
    at: Place,
    tail: &Tail,
    history: Option<&History>,
) -> Decision {
    if let Err(reason) = find(position, at, tail) {
        return Decision::Snapshot(reason);
    }
    match history {
        Some(history) if history.covers(position) => history
            .since(position)
            .map_or(Decision::Snapshot(STORE_CHANGED), Decision::Continue),
        Some(history) if history.is_cut() => Decision::Snapshot(TOO_OLD),
        Some(history) => Decision::Replay { to: history.from() },
        None => Decision::Replay { to: at.offset },
    }
}

/// Finds the entry of a position in the log.
fn find(position: &ViewPosition, at: Place, tail: &Tail) -> Result<(), &'static str> {
    if position.epoch != at.epoch {
        return Err(STORE_CHANGED);
    }
    let first = tail.first().ok_or(TOO_OLD)?.place;
    if first.epoch != position.epoch {
        // The log has a new epoch already. The fan-out is about to publish its snapshot.
        return Err(STORE_CHANGED);
    }
    // A position within an entry needs that entry.
    if position.offset < first.offset || position.step > 0 && position.offset == first.offset {
        return Err(TOO_OLD);
    }
    match entry_position(tail, position.offset) {
        // REST reads the log itself, which may be ahead of the fan-out.
        Some(entry) if entry.check == position.check && entry > at => Err(BEHIND),
        Some(entry) if entry.check == position.check => Ok(()),
        _ => Err(STORE_CHANGED),
    }
}

/// How a subscription begins.
pub(super) enum Start {
    /// Behind this position, with the missed frames.
    Continue(ViewPosition, FrameBatch),
    /// With a snapshot, for this reason.
    Snapshot(Cow<'static, str>),
    /// With a snapshot, as soon as the state is authoritative.
    SnapshotLater,
}

impl Start {
    /// The start that follows from a decision. The current epoch began for `epoch_reason`, if this
    /// hub knows it.
    pub(super) fn of(
        requested: Requested,
        decide: impl FnOnce(&ViewPosition) -> Decision,
        epoch_reason: Option<&str>,
        is_authoritative: bool,
    ) -> Self {
        let reason = match requested {
            Err(reason) => reason,
            Ok(position) => match decide(&position) {
                Decision::Continue(missed) => {
                    count("recovered");
                    return Self::Continue(position, missed);
                }
                // The entries were replayed before, and the fan-out has restarted since.
                Decision::Replay { .. } => BEHIND,
                Decision::Snapshot(reason) => reason,
            },
        };
        if reason != SUBSCRIBED {
            count(reason);
        }
        match (reason, epoch_reason) {
            // The store was lost or replaced, and the worker is about to send a snapshot.
            (STORE_CHANGED, None) if !is_authoritative => Self::SnapshotLater,
            // The reason of the epoch says more.
            (STORE_CHANGED, Some(reason)) => Self::Snapshot(reason.to_owned().into()),
            (reason, _) => Self::Snapshot(reason.into()),
        }
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("hub_recoveries_total", "outcome" => outcome).increment(1);
}
