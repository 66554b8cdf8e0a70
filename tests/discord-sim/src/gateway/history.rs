//! The history of sessions, for the control side: it shows why a bot identified.

use std::collections::VecDeque;

use serde_json::{Value, json};

/// Notes that are kept. Older ones are dropped, and `complete` says so.
const NOTES_MAX: usize = 10_000;

/// One step in a session's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// IDENTIFY made it, after this transition.
    Identified(u64),
    /// An IDENTIFY was refused, and made none.
    IdentifyRefused,
    /// RESUME attached it to another connection.
    Resumed,
    /// A RESUME of it was refused.
    ResumeRefused,
    /// A RESUME of it met a fault of the control side, and had no answer.
    ResumeUnanswered,
    /// Its connection ended, and it waits.
    Detached,
    /// It cannot be resumed any more.
    Ended(Why),
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The control side asked for it: a close, op 9, or expiry.
    Control,
    /// No heartbeat came.
    Heartbeat,
    /// It was not resumed in time, or what was missed is not kept any more.
    Forgotten,
    /// Its client closed with 1000 or 1001, or sent what ends a session.
    Client,
}

struct Note {
    at_ms: u64,
    session: String,
    fate: Fate,
}

/// The latest notes, numbered from 1.
#[derive(Default)]
pub(super) struct History {
    notes: VecDeque<Note>,
    forgotten: u64,
}

impl History {
    /// Adds a note about a session; an empty name: about none.
    pub(super) fn note(&mut self, session: &str, fate: Fate, at_ms: u64) {
        if self.notes.len() >= NOTES_MAX {
            self.notes.pop_front();
            self.forgotten += 1;
        }
        self.notes.push_back(Note {
            at_ms,
            session: session.to_owned(),
            fate,
        });
    }

    /// The notes after this number.
    pub(super) fn describe(&self, since: u64) -> Value {
        let first = self.forgotten + 1;
        let numbered = (first..).zip(&self.notes);
        let notes: Vec<Value> = numbered
            .filter(|(n, _)| *n > since)
            .map(|(n, note)| note.describe(n))
            .collect();
        json!({"complete": since.saturating_add(1) >= first, "notes": notes})
    }
}

impl Note {
    fn describe(&self, n: u64) -> Value {
        let mut object = json!({"n": n, "ts": self.at_ms, "session": self.session});
        object["what"] = match self.fate {
            Fate::Identified(seq) => {
                object["seq"] = seq.into();
                "identified"
            }
            Fate::IdentifyRefused => "identify.refused",
            Fate::Resumed => "resumed",
            Fate::ResumeRefused => "resume.refused",
            Fate::ResumeUnanswered => "resume.unanswered",
            Fate::Detached => "detached",
            Fate::Ended(why) => {
                object["why"] = match why {
                    Why::Control => "wished",
                    Why::Heartbeat => "heartbeat",
                    Why::Forgotten => "forgotten",
                    Why::Client => "client",
                }
                .into();
                "ended"
            }
        }
        .into();
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_numbered_and_dropped_ones_are_reported() {
        let mut history = History::default();
        for at_ms in 0..NOTES_MAX as u64 + 1 {
            history.note("s", Fate::Detached, at_ms);
        }
        assert_eq!(history.describe(0)["complete"], false);
        assert_eq!(history.describe(1)["complete"], true);
        let last = history.describe(NOTES_MAX as u64);
        assert_eq!(last["notes"][0]["n"], NOTES_MAX as u64 + 1);
        assert_eq!(last["notes"].as_array().map(Vec::len), Some(1));
    }
}
