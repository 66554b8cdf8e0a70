//! Where a dispatch stands in its gateway session, and the event ids that follow from it.

use std::collections::BTreeSet;

use proto::event::{Event, Fact};

/// How many sequence numbers are remembered, to tell a repeat from what comes late.
const REMEMBERED: usize = 1_024;

/// How a dispatch stands to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The newest so far.
    Next,
    /// It was read before, or is too old to tell.
    Repeat,
    /// It was not read before, but something newer was.
    Late,
}

/// The dispatches of a gateway session, and the events made of the newest one.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequences {
    session: String,
    newest: u64,
    seen: BTreeSet<u64>,
    /// Events made so far at `newest`.
    events: u32,
}

impl Sequences {
    /// Notes a dispatch.
    pub(super) fn arrive(&mut self, session: &str, sequence: u64) -> Arrival {
        if self.session != session {
            *self = Self {
                session: session.to_owned(),
                ..Self::default()
            };
        }
        let oldest = self.seen.first().copied().unwrap_or(0);
        let full = self.seen.len() >= REMEMBERED;
        if (full && sequence < oldest) || !self.seen.insert(sequence) {
            return Arrival::Repeat;
        }
        if full {
            self.seen.pop_first();
        }
        if sequence < self.newest {
            return Arrival::Late;
        }
        self.newest = sequence;
        self.events = 0;
        Arrival::Next
    }

    /// Whether there was a dispatch at all, so that an event has an id.
    pub(super) fn began(&self) -> bool {
        !self.session.is_empty()
    }

    /// An event with the next id. What is not made by a dispatch itself (an answer of Discord's
    /// REST, a snapshot) is counted on after the newest one, so that ids only ever rise.
    pub(super) fn event(&mut self, fact: Fact, now_ms: u64) -> Event {
        let id = format!("{}:{}:{}", self.session, self.newest, self.events);
        self.events = self.events.saturating_add(1);
        Event {
            id,
            fact,
            ts: now_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_and_late_ones_are_told_apart() {
        let mut sequences = Sequences::default();
        for (session, sequence, arrival) in [
            ("a", 1, Arrival::Next),
            ("a", 1, Arrival::Repeat),
            ("a", 3, Arrival::Next),
            ("a", 2, Arrival::Late),
            ("a", 2, Arrival::Repeat),
            ("a", 4, Arrival::Next),
            ("b", 1, Arrival::Next),
        ] {
            assert_eq!(
                sequences.arrive(session, sequence),
                arrival,
                "{session}:{sequence}"
            );
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sequences = Sequences::default();
        for sequence in 1..=5_000 {
            assert_eq!(sequences.arrive("a", sequence), Arrival::Next);
        }
        assert_eq!(sequences.seen.len(), REMEMBERED);
        assert_eq!(sequences.arrive("a", 1), Arrival::Repeat);
        assert_eq!(sequences.arrive("a", 4_999), Arrival::Repeat);
    }
}
