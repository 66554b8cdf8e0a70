//! How many entries of a guild stay in memory: the bounds of its [`Tail`].
//!
//! Pure: the time is given.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::entry::Entry;
use crate::state::GuildState;
use crate::tail::{Known, STRIDE, Tail};

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RetentionBounds {
    /// Entries; in whole strides.
    pub(crate) entries_max: usize,
    /// How old they may be, in ms.
    pub(crate) age_max_ms: u64,
}

/// A guild's tail, and how old it is.
pub(crate) struct Retention {
    tail: Tail,
    /// When the entries at the ends of strides were kept, oldest first.
    times: VecDeque<(u64, u64)>,
    /// When the newest entry was kept.
    newest_ms: u64,
}

impl Retention {
    /// A tail that begins here.
    pub(crate) fn begin(known: Known) -> Self {
        Self::restored(Tail::begin(known), VecDeque::new(), 0)
    }

    /// A tail as it was stored. `newest_ms` is when its newest entry was.
    pub(crate) fn restored(tail: Tail, times: VecDeque<(u64, u64)>, newest_ms: u64) -> Self {
        Self {
            tail,
            times,
            newest_ms,
        }
    }

    /// What is kept.
    pub(crate) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Adds an entry, and forgets what is too much.
    pub(crate) fn push(
        &mut self,
        entry: Arc<Entry>,
        after: &GuildState,
        bounds: RetentionBounds,
        now_ms: u64,
    ) {
        let offset = entry.position.offset;
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
        // Times of strides that are gone say nothing.
        if let Some(first) = self.tail.first() {
            let gone = self
                .times
                .partition_point(|(offset, _)| *offset <= first.position.offset);
            self.times.drain(..gone);
        }
    }

    /// Whether there are entries, and all of them are too old.
    pub(crate) fn is_expired(&self, bounds: RetentionBounds, now_ms: u64) -> bool {
        !self.tail.is_empty() && now_ms.saturating_sub(self.newest_ms) > bounds.age_max_ms
    }
}
