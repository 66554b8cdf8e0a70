//! What a view was told lately, as its bytes: whoever returns gets from it what they missed.
//!
//! Pure. One history serves all connections of its view; it is made from the log's [`Tail`] as far
//! back as somebody asks for, in pieces, and goes on with what the view is told live.

use std::collections::VecDeque;

use bytes::Bytes;
use imbl::Vector;
use proto::event::Fact;
use proto::position::ViewPosition;

use super::frames::{Run, bytes_of};
use super::pen::Pen;
use crate::view::{Before, View};
use roomlog::tail::Tail;
use roomlog::{Change, Place};

/// So many entries are replayed at once. A tail keeps a state as often: nothing is replayed twice.
const PIECE_ENTRIES: u64 = 64;

/// What is missed at most by whoever continues; who missed more gets a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct HistoryBounds {
    /// In frames.
    pub frames_max: usize,
    /// In bytes.
    pub bytes_max: usize,
}

/// The frames of one view between two places of one epoch, without a gap.
#[derive(Debug, Clone)]
pub struct History {
    from: u64,
    to: u64,
    /// What was before `from` is dropped: with it, it would be more than anybody may miss.
    cut: bool,
    /// Which frame each of `bodies` is.
    marks: VecDeque<Mark>,
    bodies: Vector<Bytes>,
    /// Where the first of `bodies` begins, counting as the marks do.
    base: usize,
}

/// The `index`th frame of an entry.
#[derive(Debug, Clone, Copy)]
struct Mark {
    offset: u64,
    index: u32,
    /// Where it ends, in bytes as an outbox counts them, so that a part is measured without being
    /// looked at.
    end: usize,
}

impl History {
    /// Nothing yet, from here on.
    pub fn begin(at: u64) -> Self {
        Self {
            from: at,
            to: at,
            cut: false,
            marks: VecDeque::new(),
            bodies: Vector::new(),
            base: 0,
        }
    }

    /// After which entry this begins.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// With which entry this ends.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// Whether whoever stands before the beginning missed too much.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// Whether everything after a position is here.
    pub fn covers(&self, position: &ViewPosition) -> bool {
        // Within an entry, the rest of that same entry is asked for.
        let begun = u64::from(position.step > 0);
        position
            .offset
            .checked_sub(begun)
            .is_some_and(|seen| seen >= self.from)
    }

    /// Everything after a position that is covered; `None` if nothing stands there in this view.
    /// Costs the same however much it is.
    pub fn since(&self, position: &ViewPosition) -> Option<Run> {
        let seen = |mark: &Mark| {
            mark.offset < position.offset
                || mark.offset == position.offset
                    && (position.step == 0 || mark.index < u32::from(position.step))
        };
        let skipped = self.marks.partition_point(seen);
        let next = self.marks.get(skipped);
        if position.step > 0 && next.is_none_or(|next| next.offset != position.offset) {
            return None;
        }
        let begin = match skipped.checked_sub(1) {
            None => self.base,
            Some(last) => self.marks.get(last)?.end,
        };
        let bytes = self.end() - begin;
        Some(Run::missed(self.bodies.skip(skipped), bytes))
    }

    /// Goes on with an entry, whatever it is in this view.
    pub fn append(&mut self, offset: u64, frames: Vec<Bytes>, bounds: HistoryBounds) {
        self.to = offset;
        for (index, body) in (0..).zip(frames) {
            let end = self.end() + bytes_of(&body);
            self.marks.push_back(Mark { offset, index, end });
            self.bodies.push_back(body);
        }
        self.trim(bounds);
    }

    /// This, then what follows it. What both have is taken once.
    #[must_use]
    pub fn join(mut self, newer: Self, bounds: HistoryBounds) -> Self {
        if newer.cut || newer.from > self.to {
            return newer;
        }
        while self
            .marks
            .back()
            .is_some_and(|last| last.offset > newer.from)
        {
            self.marks.pop_back();
            self.bodies.pop_back();
        }
        self.to = newer.to;
        let (base, moved) = (newer.base, self.end());
        self.marks.extend(newer.marks.into_iter().map(|mark| Mark {
            end: mark.end - base + moved,
            ..mark
        }));
        self.bodies.append(newer.bodies);
        self.trim(bounds);
        self
    }

    /// Where the last frame ends.
    fn end(&self) -> usize {
        self.marks.back().map_or(self.base, |mark| mark.end)
    }

    fn trim(&mut self, bounds: HistoryBounds) {
        while (self.bodies.len() > bounds.frames_max || self.end() - self.base > bounds.bytes_max)
            && let Some(Mark { offset, .. }) = self.marks.front().copied()
        {
            // An entry goes as a whole.
            while self.marks.front().is_some_and(|mark| mark.offset == offset) {
                self.base = self.marks.pop_front().map_or(self.base, |mark| mark.end);
                self.bodies.pop_front();
            }
            (self.from, self.cut) = (offset, true);
        }
    }
}

/// The place of a kept entry, or of the state before all of them.
pub fn place_at(tail: &Tail, offset: u64) -> Option<Place> {
    let first = tail.first()?.place;
    match offset.checked_sub(first.offset)?.checked_sub(1) {
        None => Some(first),
        Some(index) => {
            let entry = tail.entries().get(usize::try_from(index).ok()?)?;
            Some(entry.place)
        }
    }
}

/// Where the piece before an entry begins; `None` if nothing before it is kept.
pub fn piece_before(tail: &Tail, offset: u64) -> Option<Place> {
    let first = tail.first()?.place.offset;
    let last = offset.checked_sub(1)?;
    if last < first {
        return None;
    }
    place_at(tail, (last - last % PIECE_ENTRIES).max(first))
}

/// What a view was told from one place to another, as far as a tail knows it: the same frames that
/// it was told live.
pub fn replay(
    tail: &Tail,
    from: Place,
    to: u64,
    view: &View,
    pen: &Pen,
    bounds: HistoryBounds,
) -> Option<History> {
    let past = tail.since(from)?;
    let mut state = past.state;
    let mut told = History::begin(from.offset);
    for entry in &past.entries {
        if entry.place.offset > to {
            break;
        }
        // A snapshot begins an epoch; nobody continues over it.
        if matches!(entry.change, Change::Told(Fact::Snapshot(_))) {
            return None;
        }
        let before = Before::of(&state, &entry.change);
        state.apply(&entry.change);
        let events = view.project(&before, &state, &entry.change);
        told.append(entry.place.offset, pen.entry(events, entry), bounds);
    }
    (told.to == to).then_some(told)
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

    /// The history of entries `from + 1` to `to`, of which each has so many frames.
    fn history(frames: &[u32], from: usize, to: usize, bounds: HistoryBounds) -> History {
        let mut history = History::begin(from as u64);
        for offset in from + 1..=to {
            let frames = (0..frames[offset]).map(|index| Bytes::from(format!("{offset}:{index}")));
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
        fn pieces_make_the_whole_and_every_position_in_it_finds_the_rest(
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
                    prop_assert_eq!(rest, Run::new(history(&frames, offset, d, LOOSE).bodies, 1, 1));
                }
            }
        }

        #[test]
        fn a_bound_drops_whole_entries_and_says_so(frames in vec(0..4_u32, 2..40), frames_max in 1..30_usize) {
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
