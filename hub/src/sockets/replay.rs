//! Replays a part of a guild's log into the frames that one view got from it.
//!
//! Pure.

use proto::event::Fact;
use roomlog::tail::Tail;
use roomlog::{Change, Position};

use super::frame_encoder::FrameEncoder;
use super::history::History;
use super::limits::HistoryBounds;
use crate::view::View;

/// The entries that are replayed at once. A tail keeps a state as often: nothing is replayed twice.
const CHUNK_ENTRIES: u64 = 64;

/// The position of a kept entry, or of the state before all of them.
pub(super) fn entry_position(tail: &Tail, offset: u64) -> Option<Position> {
    let first = tail.first()?.position;
    match offset.checked_sub(first.offset)?.checked_sub(1) {
        None => Some(first),
        Some(index) => {
            let entry = tail.entries().get(usize::try_from(index).ok()?)?;
            Some(entry.position)
        }
    }
}

/// Where the chunk before an entry begins; `None` if the tail does not reach back to it.
pub(super) fn chunk_start(tail: &Tail, offset: u64) -> Option<Position> {
    let first = tail.first()?.position.offset;
    let last = offset.checked_sub(1)?;
    if last < first {
        return None;
    }
    entry_position(tail, (last - last % CHUNK_ENTRIES).max(first))
}

/// The frames of a view from one position to an offset: the same ones that it got live; `None` if
/// the tail has not all of these entries.
pub(super) fn replay(
    tail: &Tail,
    from: Position,
    to: u64,
    view: &View,
    encoder: &FrameEncoder,
    bounds: HistoryBounds,
) -> Option<History> {
    let past = tail.since(from)?;
    let mut state = past.state;
    let mut history = History::begin(from.offset);
    for entry in &past.entries {
        if entry.position.offset > to {
            break;
        }
        // A snapshot begins an epoch: no client continues over it.
        if matches!(entry.change, Change::Fact(Fact::Snapshot(_))) {
            return None;
        }
        // A clone for each entry makes `apply` copy what the two share. Others wait for a replay.
        let before = View::compares(&entry.change).then(|| state.clone());
        state.apply(&entry.change);
        let events = view.project(before.as_ref().unwrap_or(&state), &state, &entry.change);
        history.append(entry.position.offset, encoder.entry(events, entry), bounds);
    }
    (history.to() == to).then_some(history)
}
