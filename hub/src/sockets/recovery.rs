//! Where a client that reconnects continues: behind the position that it names, or with a snapshot
//! and its reason.
//!
//! Pure.

use std::borrow::Cow;

use proto::position::{UNFINISHED, ViewPosition};
use roomlog::Position;
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
    at: Position,
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
fn find(position: &ViewPosition, at: Position, tail: &Tail) -> Result<(), &'static str> {
    if position.epoch != at.epoch {
        return Err(STORE_CHANGED);
    }
    let first = tail.first().ok_or(TOO_OLD)?.position;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::ChannelId;
    use roomlog::{Change, Entry, GuildState};

    use super::super::limits::HistoryBounds;
    use super::*;

    const BOUNDS: HistoryBounds = HistoryBounds {
        frames_max: 6,
        bytes_max: 1_000,
    };

    fn at_offset(offset: u64) -> Position {
        Position {
            epoch: 7,
            offset,
            check: u32::try_from(offset * 3).unwrap(),
        }
    }

    fn position(offset: u64, step: u16) -> ViewPosition {
        let Position { epoch, check, .. } = at_offset(offset);
        ViewPosition {
            epoch,
            offset,
            check,
            step,
            view: 0,
        }
    }

    /// The log of the entries 11 to 20.
    fn tail() -> Tail {
        let state = GuildState::default();
        let mut tail = Tail::begin(at_offset(10), state.clone());
        for offset in 11..=20 {
            let entry = Entry {
                position: at_offset(offset),
                change: Change::Owned(ChannelId::new(1).unwrap()),
                ts: 0,
            };
            tail.push(Arc::new(entry), &state, 0);
        }
        tail
    }

    /// A history of one frame an entry.
    fn history(from: u64, to: u64) -> History {
        let mut history = History::begin(from);
        for offset in from + 1..=to {
            history.append(offset, vec!["{".into()], BOUNDS);
        }
        history
    }

    #[test]
    fn a_client_continues_where_the_log_and_the_history_reach_back() {
        let (kept, cut) = (history(15, 20), history(5, 20));
        assert!(cut.is_cut());
        let missed = |frames| {
            let batch = kept.since(&position(20 - frames, 0)).unwrap();
            assert_eq!(batch.len() as u64, frames);
            Decision::Continue(batch)
        };
        let other_check = ViewPosition {
            check: 0,
            ..position(16, 0)
        };
        let other_epoch = ViewPosition {
            epoch: 8,
            ..position(16, 0)
        };
        let replay = |to| Decision::Replay { to };
        let snapshot = Decision::Snapshot;
        for (position, at, history, decision) in [
            (position(16, 0), 20, Some(&kept), missed(4)),
            (position(20, 0), 20, Some(&kept), missed(0)),
            (position(12, 0), 20, Some(&kept), replay(15)),
            (position(12, 0), 20, None, replay(20)),
            (position(12, 2), 20, None, replay(20)),
            (position(12, 0), 20, Some(&cut), snapshot(TOO_OLD)),
            (position(9, 0), 20, None, snapshot(TOO_OLD)),
            (position(10, 1), 20, None, snapshot(TOO_OLD)),
            // The entry has one frame in this view.
            (position(16, 1), 20, Some(&kept), snapshot(STORE_CHANGED)),
            // REST has read the log before the fan-out.
            (position(20, 0), 19, None, snapshot(BEHIND)),
            (position(21, 0), 20, None, snapshot(STORE_CHANGED)),
            (other_check, 20, None, snapshot(STORE_CHANGED)),
            (other_epoch, 20, None, snapshot(STORE_CHANGED)),
        ] {
            let decided = decide(&position, at_offset(at), &tail(), history);
            assert_eq!(decided, decision, "{position:?} at {at}");
        }
    }

    #[test]
    fn a_snapshot_waits_only_for_an_unknown_change_of_the_store() {
        let start = |reason, epoch_reason, is_authoritative| {
            let decide = |_: &ViewPosition| Decision::Snapshot(reason);
            match Start::of(Ok(position(1, 0)), decide, epoch_reason, is_authoritative) {
                Start::Continue(..) => "continue".to_owned(),
                Start::Snapshot(reason) => reason.into_owned(),
                Start::SnapshotLater => "later".to_owned(),
            }
        };
        assert_eq!(start(STORE_CHANGED, None, false), "later");
        assert_eq!(start(STORE_CHANGED, None, true), "store_changed");
        let worker_started = Some("worker_started");
        assert_eq!(start(STORE_CHANGED, worker_started, true), "worker_started");
        assert_eq!(start(TOO_OLD, worker_started, false), "too_old");
    }
}
