//! How much of a guild's past is kept in memory: the bounds of its [`Tail`].
//!
//! Pure: the time is given.

use std::collections::VecDeque;
use std::sync::Arc;

use super::tail::{Known, STRIDE, Tail};
use super::{Entry, GuildState};

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct PastBounds {
    /// Entries; in whole strides.
    pub(super) entries_max: usize,
    /// How old they may be, in ms.
    pub(super) age_max_ms: u64,
}

/// A guild's tail, and how old it is.
pub(super) struct Past {
    tail: Tail,
    /// When the entries at the ends of strides were kept, oldest first.
    times: VecDeque<(u64, u64)>,
    /// When the newest entry was kept.
    newest_ms: u64,
}

impl Past {
    /// A past that begins here.
    pub(super) fn begin(known: Known) -> Self {
        Self::restored(Tail::begin(known), VecDeque::new(), 0)
    }

    /// A past as it was kept; `newest_ms` is when its newest entry was.
    pub(super) fn restored(tail: Tail, times: VecDeque<(u64, u64)>, newest_ms: u64) -> Self {
        Self {
            tail,
            times,
            newest_ms,
        }
    }

    /// What is kept.
    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Adds an entry, and forgets what is too much.
    pub(super) fn push(
        &mut self,
        entry: Arc<Entry>,
        after: &GuildState,
        bounds: PastBounds,
        now_ms: u64,
    ) {
        let offset = entry.place.offset;
        self.tail.push(entry, after);
        self.newest_ms = now_ms;
        if !offset.is_multiple_of(STRIDE) {
            return;
        }
        self.times.push_back((offset, now_ms));
        let mut old = 0;
        while let Some((oldest, at)) = self.times.front()
            && now_ms.saturating_sub(*at) > bounds.age_max_ms
        {
            old = *oldest;
            self.times.pop_front();
        }
        let young = usize::try_from(offset - old).unwrap_or(usize::MAX);
        let keep = if old == 0 {
            bounds.entries_max
        } else {
            young.min(bounds.entries_max)
        };
        self.tail.trim(keep);
        // Times of strides that are gone tell nothing.
        if let Some(first) = self.tail.first() {
            let gone = self
                .times
                .partition_point(|(offset, _)| *offset <= first.place.offset);
            self.times.drain(..gone);
        }
    }

    /// Whether there are entries, and all of them are too old.
    pub(super) fn is_aged(&self, bounds: PastBounds, now_ms: u64) -> bool {
        !self.tail.is_empty() && now_ms.saturating_sub(self.newest_ms) > bounds.age_max_ms
    }
}
