//! The newest entries of one guild's log, and the states between them, as far as they are kept.
//!
//! Pure: the time is given. Persistent like [`GuildState`]: a clone costs nothing, so that readers of
//! the past do not block the writer.

use std::sync::Arc;

use imbl::Vector;

use crate::entry::{Entry, Position};
use crate::state::GuildState;

/// So many entries share one kept state: what has to be replayed at most to know a past state.
pub(crate) const STRIDE: u64 = 64;

/// The kept past of one guild, within one epoch.
#[derive(Debug, Clone)]
pub struct Tail {
    /// Known states, each with when it was kept, oldest first; the first stands before all entries.
    states: Vector<(Known, u64)>,
    /// All entries since the first state, oldest first.
    entries: Vector<Arc<Entry>>,
    /// When the newest entry was kept.
    newest_ms: u64,
}

/// A state, where it holds.
#[derive(Debug, Clone)]
pub struct Known {
    /// Where.
    pub position: Position,
    /// The guild there.
    pub state: GuildState,
}

/// A past state, and everything since.
#[derive(Debug)]
pub struct Replay {
    /// The guild as it was.
    pub state: GuildState,
    /// What came after, oldest first.
    pub entries: Vector<Arc<Entry>>,
}

impl Tail {
    /// A tail that begins here: nothing older can be continued from.
    pub fn begin(position: Position, state: GuildState) -> Self {
        let known = Known { position, state };
        Self {
            states: Vector::unit((known, 0)),
            entries: Vector::new(),
            newest_ms: 0,
        }
    }

    /// Adds an entry that is kept from now on; `after` is the state with it.
    pub fn push(&mut self, entry: Arc<Entry>, after: &GuildState, now_ms: u64) {
        let position = entry.position;
        if position.offset.is_multiple_of(STRIDE) {
            let state = after.clone();
            self.states.push_back((Known { position, state }, now_ms));
        }
        self.entries.push_back(entry);
        self.newest_ms = now_ms;
    }

    /// Forgets, in whole strides, what is more than so many entries or older than this. For its age
    /// alone, nothing of the newest stride is forgotten.
    pub(crate) fn trim(&mut self, entries_max: usize, age_max_ms: u64, now_ms: u64) {
        while let Some((next, kept_ms)) = self.states.get(1)
            && let Some((first, _)) = self.states.front()
        {
            let stride = next.position.offset - first.position.offset;
            let stride = usize::try_from(stride).unwrap_or(usize::MAX);
            let left = self.entries.len().saturating_sub(stride);
            // A clock that jumps ahead makes every entry old. A stride stays for clients that reconnect.
            let is_old = now_ms.saturating_sub(*kept_ms) > age_max_ms && left as u64 >= STRIDE;
            if !is_old && left < entries_max {
                return;
            }
            self.entries = self.entries.skip(stride);
            self.states.pop_front();
        }
    }

    /// Whether there are entries, and all of them are older than this.
    pub(crate) fn is_expired(&self, age_max_ms: u64, now_ms: u64) -> bool {
        !self.is_empty() && now_ms.saturating_sub(self.newest_ms) > age_max_ms
    }

    /// How many entries are kept.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is kept.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The kept entries, oldest first.
    pub fn entries(&self) -> &Vector<Arc<Entry>> {
        &self.entries
    }

    /// The oldest state that can be continued from.
    pub fn first(&self) -> Option<&Known> {
        self.states.front().map(|(known, _)| known)
    }

    /// What came after a place; `None` if it is not kept, or if another history stands there.
    pub fn since(&self, position: Position) -> Option<Replay> {
        let first = self.first()?;
        if position.epoch != first.position.epoch || position.offset < first.position.offset {
            return None;
        }
        let index = |offset: u64| usize::try_from(offset - first.position.offset).ok();
        let skipped = index(position.offset).filter(|skipped| *skipped <= self.entries.len())?;
        let found = match skipped.checked_sub(1) {
            None => first.position,
            Some(last) => self.entries.get(last)?.position,
        };
        if found != position {
            return None;
        }
        let mut states = self.states.iter().rev().map(|(known, _)| known);
        let near = states.find(|known| known.position.offset <= position.offset)?;
        let mut state = near.state.clone();
        let replayed = index(near.position.offset)?;
        for entry in self.entries.iter().take(skipped).skip(replayed) {
            state.apply(&entry.change);
        }
        Some(Replay {
            state,
            entries: self.entries.skip(skipped),
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::event::{Audience, Fact};
    use proto::{ChannelId, GuildId};

    use super::*;
    use crate::state::Change;
    use crate::state::unknown_room;

    fn at(offset: u64) -> Position {
        Position {
            epoch: 7,
            offset,
            check: u32::try_from(offset * 3).unwrap(),
        }
    }

    fn entry(offset: u64) -> Arc<Entry> {
        let room = unknown_room(
            GuildId::new(1).unwrap(),
            ChannelId::new(offset).unwrap(),
            Audience::Everyone,
        );
        Arc::new(Entry {
            position: at(offset),
            change: Change::Fact(Fact::RoomCreated(room)),
            ts: 0,
        })
    }

    fn tail(entries: u64) -> Tail {
        let mut state = GuildState::default();
        let mut tail = Tail::begin(at(0), state.clone());
        for offset in 1..=entries {
            let entry = entry(offset);
            state.apply(&entry.change);
            tail.push(entry, &state, offset);
        }
        tail
    }

    #[test]
    fn every_kept_place_gives_its_state_and_what_came_after() {
        let mut tail = tail(300);
        for keep in [1_000, 300, 200, 130, 1] {
            tail.trim(keep, u64::MAX, 0);
            let first = tail.first().unwrap().position.offset;
            assert!(
                tail.len() >= keep.min(300) && tail.len() < keep + 128,
                "{keep}"
            );
            for offset in 0..=300 {
                let past = tail.since(at(offset));
                assert_eq!(past.is_some(), offset >= first, "{offset} of {first}");
                if let Some(past) = past {
                    assert_eq!(past.state.rooms.len() as u64, offset);
                    assert_eq!(past.entries.len() as u64, 300 - offset);
                    assert!(
                        past.entries
                            .front()
                            .is_none_or(|next| next.position.offset == offset + 1)
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_too_old_is_forgotten_in_whole_strides() {
        let mut tail = tail(300);
        for (now_ms, first, is_expired) in [
            (164, 0, false),
            (165, 64, false),
            (356, 192, false),
            // The newest stride stays.
            (401, 192, true),
        ] {
            tail.trim(usize::MAX, 100, now_ms);
            assert_eq!(tail.first().unwrap().position.offset, first, "{now_ms}");
            assert_eq!(tail.is_expired(100, now_ms), is_expired, "{now_ms}");
        }
    }

    #[test]
    fn another_event_epoch_or_future_is_not_continued_from() {
        let tail = tail(100);
        for (epoch, offset, check) in [(7, 50, 151), (6, 50, 150), (7, 101, 303), (7, 0, 1)] {
            let position = Position {
                epoch,
                offset,
                check,
            };
            assert!(tail.since(position).is_none());
        }
    }
}
