//! The recent frames of one view, as bytes: a client that recovers gets the missed ones from here.
//!
//! Pure. One history serves all connections of its view. It is replayed from the log's tail in
//! chunks, as far back as a client needs (see [`super::replay`]), and grows with each live event.

use std::collections::VecDeque;

use bytes::Bytes;
use imbl::Vector;
use proto::position::ViewPosition;

use super::frames::{FrameBatch, queued_bytes};
use super::limits::HistoryBounds;

/// The frames of one view between two offsets of one epoch, without a gap.
#[derive(Debug, Clone)]
pub(super) struct History {
    from: u64,
    to: u64,
    /// The frames before `from` were dropped: with them, the history would exceed its bounds.
    is_cut: bool,
    /// Identifies each of `bodies`.
    index: VecDeque<Indexed>,
    bodies: Vector<Bytes>,
    /// Where the first of `bodies` begins, counted as in [`Indexed::end`].
    base: usize,
}

/// The `nth` frame of the entry at `offset`.
#[derive(Debug, Clone, Copy)]
struct Indexed {
    offset: u64,
    nth: u32,
    /// Where the frame ends, in bytes as an outbox counts them: so the size of a part is a difference.
    end: usize,
}

impl History {
    /// An empty history behind this offset.
    pub(super) fn begin(at: u64) -> Self {
        Self {
            from: at,
            to: at,
            is_cut: false,
            index: VecDeque::new(),
            bodies: Vector::new(),
            base: 0,
        }
    }

    /// The offset that this history begins behind.
    pub(super) fn from(&self) -> u64 {
        self.from
    }

    /// The offset of the last entry.
    pub(super) fn to(&self) -> u64 {
        self.to
    }

    /// Whether a client before the beginning has missed too much.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether all frames behind a position are here.
    pub(super) fn covers(&self, position: &ViewPosition) -> bool {
        // A position within an entry needs the rest of that entry.
        let begun = u64::from(position.step > 0);
        position
            .offset
            .checked_sub(begun)
            .is_some_and(|seen| seen >= self.from)
    }

    /// All frames behind a position that is covered; `None` if the view has no such position. The
    /// cost does not depend on their number.
    pub(super) fn since(&self, position: &ViewPosition) -> Option<FrameBatch> {
        let seen = |frame: &Indexed| {
            frame.offset < position.offset
                || frame.offset == position.offset
                    && (position.step == 0 || frame.nth < u32::from(position.step))
        };
        let skipped = self.index.partition_point(seen);
        let next = self.index.get(skipped);
        if position.step > 0 && next.is_none_or(|next| next.offset != position.offset) {
            return None;
        }
        let begin = match skipped.checked_sub(1) {
            None => self.base,
            Some(last) => self.index.get(last)?.end,
        };
        let bytes = self.end() - begin;
        Some(FrameBatch::missed(self.bodies.skip(skipped), bytes))
    }

    /// Adds the next entry: its frames in this view, if any.
    pub(super) fn append(&mut self, offset: u64, frames: Vec<Bytes>, bounds: HistoryBounds) {
        self.to = offset;
        for (nth, body) in (0..).zip(frames) {
            let end = self.end() + queued_bytes(&body);
            self.index.push_back(Indexed { offset, nth, end });
            self.bodies.push_back(body);
        }
        self.trim(bounds);
    }

    /// This history and the one that continues it. Frames that both have are taken once.
    #[must_use]
    pub(super) fn join(mut self, newer: Self, bounds: HistoryBounds) -> Self {
        if newer.is_cut || newer.from > self.to {
            return newer;
        }
        while self
            .index
            .back()
            .is_some_and(|last| last.offset > newer.from)
        {
            self.index.pop_back();
            self.bodies.pop_back();
        }
        self.to = newer.to;
        let (base, moved) = (newer.base, self.end());
        let moved = |frame: Indexed| Indexed {
            end: frame.end - base + moved,
            ..frame
        };
        self.index.extend(newer.index.into_iter().map(moved));
        self.bodies.append(newer.bodies);
        self.trim(bounds);
        self
    }

    /// Where the last frame ends.
    fn end(&self) -> usize {
        self.index.back().map_or(self.base, |frame| frame.end)
    }

    fn trim(&mut self, bounds: HistoryBounds) {
        while (self.bodies.len() > bounds.frames_max || self.end() - self.base > bounds.bytes_max)
            && let Some(Indexed { offset, .. }) = self.index.front().copied()
        {
            // All frames of an entry, or none.
            while self.index.front().is_some_and(|next| next.offset == offset) {
                self.base = self.index.pop_front().map_or(self.base, |next| next.end);
                self.bodies.pop_front();
            }
            (self.from, self.is_cut) = (offset, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LOOSE: HistoryBounds = HistoryBounds {
        frames_max: 10_000,
        bytes_max: 1_000_000,
    };

    /// The history of entries `from + 1` to `to` with these numbers of frames.
    fn history(frames: &[u32], from: usize, to: usize, bounds: HistoryBounds) -> History {
        let mut history = History::begin(from as u64);
        for offset in from + 1..=to {
            let frames = (0..frames[offset]).map(|nth| Bytes::from(format!("{offset}:{nth}")));
            history.append(offset as u64, frames.collect(), bounds);
        }
        history
    }

    fn at(offset: usize, step: u32) -> ViewPosition {
        ViewPosition {
            epoch: 1,
            offset: offset as u64,
            check: 0,
            step: u16::try_from(step).unwrap(),
            view: 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn joined_chunks_are_the_whole_history_and_every_position_finds_the_rest(
            frames in vec(0..4_u32, 2..40), cuts in any::<[prop::sample::Index; 4]>(),
        ) {
            let end = frames.len() - 1;
            let mut cuts = cuts.map(|cut| cut.index(end + 1));
            cuts.sort_unstable();
            let [a, b, c, d] = cuts;
            let joined = history(&frames, a, c, LOOSE).join(history(&frames, b, d, LOOSE), LOOSE);
            let whole = history(&frames, a, d, LOOSE);
            prop_assert_eq!(&joined.bodies, &whole.bodies);
            prop_assert_eq!((joined.from(), joined.to(), joined.end()), (whole.from(), whole.to(), whole.end()));
            for offset in 0..=d {
                prop_assert_eq!(joined.covers(&at(offset, 0)), offset >= a);
                for step in 1..=frames[offset] + 1 {
                    let position = at(offset, step);
                    prop_assert_eq!(joined.covers(&position), offset > a);
                    if offset <= a {
                        continue;
                    }
                    let rest = joined.since(&position);
                    prop_assert_eq!(rest.is_some(), step < frames[offset]);
                    if let Some(rest) = rest {
                        let frames = rest.into_frames();
                        let next = format!("{offset}:{step}");
                        prop_assert!(frames[0].text().starts_with(next.as_bytes()));
                    }
                }
                if offset >= a {
                    let rest = joined.since(&at(offset, 0)).unwrap();
                    // The sizes as well.
                    prop_assert_eq!(rest, FrameBatch::new(history(&frames, offset, d, LOOSE).bodies, 1, 1));
                }
            }
        }

        #[test]
        fn a_bound_drops_whole_entries_and_marks_the_cut(frames in vec(0..4_u32, 2..40), frames_max in 1..30_usize) {
            let end = frames.len() - 1;
            let tight = HistoryBounds { frames_max, ..LOOSE };
            let kept = history(&frames, 0, end, tight);
            let missed = |from: usize| frames[from + 1..].iter().sum::<u32>() as usize;
            prop_assert_eq!(kept.is_cut(), missed(0) > frames_max);
            for offset in 0..=end {
                prop_assert_eq!(
                    kept.covers(&at(offset, 0)),
                    missed(offset) <= frames_max || offset as u64 >= kept.from(),
                );
            }
            prop_assert!(kept.bodies.len() <= frames_max);
        }
    }
}
