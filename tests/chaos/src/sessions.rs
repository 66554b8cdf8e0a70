//! The gateway sessions, by the simulator's notes, and whether each identify was needed.
//!
//! Pure. An identify is explained by a fact, never by a number that is free:
//!
//! - Discord ended the session. If it did so because no heartbeat came, something must have kept the
//!   worker from beating: it was stopped, or the machine was late.
//! - The worker was killed before the hub had its session, so that the next one had an older one to
//!   resume, which Discord refused.
//! - The hub lost its store about the time at which a worker was started: neither side remembers the session,
//!   and that worker soon identifies.
//! - The connection of the new session was lost before READY came, by a fault that swallows bytes. A
//!   session that was resumed was READY.
//! - Discord greeted and did not resume the session, as the control side wished.
//! - The address for resuming is dead, which is answered by an identify.
//!
//! A session that its own client ended, and an IDENTIFY that Discord refused, are never in order.

use serde::Deserialize;

use crate::checker::Gap;

/// The time after an identify until the hub has the session, and after the hub's start until the
/// worker has delivered what it lost, in ms.
const STORED_WITHIN_MS: u64 = 5_000;
/// The time after its start until a worker without a remembered session identifies, in ms: the hub
/// may take 5 s to become ready, and the gateway must be reachable.
const IDENTIFIES_WITHIN_MS: u64 = 10_000;
/// The longest time between a missed heartbeat and the session's end, in ms.
const BEAT_WITHIN_MS: u64 = 2_500;

/// A note about a session.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Note {
    /// When, in Unix milliseconds.
    #[serde(rename = "ts")]
    pub at_ms: u64,
    /// Which; empty: none.
    pub session: String,
    /// `identified`, `identify.refused`, `resumed`, `resume.refused`, `resume.unanswered`,
    /// `detached`, `ended`.
    pub what: String,
    /// Why it ended.
    #[serde(default)]
    pub why: String,
    /// The last transition before it was identified.
    #[serde(default)]
    pub seq: u64,
}

/// From when until when something lasted, in Unix milliseconds.
pub type Span = (u64, u64);

/// What can explain an identify, besides what Discord says.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// When workers were started.
    pub worker_starts: Vec<u64>,
    /// When the hub's store was taken away, changed or replaced.
    pub store_losses: Vec<Span>,
    /// When something kept the worker from beating.
    pub held_up: Vec<Span>,
    /// When the gateway's connection swallowed the bytes.
    pub swallowed: Vec<Span>,
    /// When the address for resuming was dead.
    pub address_dead: Vec<Span>,
    /// When no RESUME was answered.
    pub never_resumed: Vec<Span>,
}

/// The session that was identified last.
struct Session<'a> {
    id: &'a str,
    born_ms: u64,
    detached_ms: Option<u64>,
    resumed: bool,
    ended: bool,
    /// Since then an older one was refused.
    older_refused: bool,
}

/// What each identify besides the first lets come as a difference.
pub fn gaps(notes: &[Note]) -> Vec<Gap> {
    let identified = notes.iter().filter(|note| note.what == "identified");
    identified
        .skip(1)
        .map(|note| Gap {
            after: 0,
            until: note.seq,
            open_at_ms: note.at_ms,
        })
        .collect()
}

/// The identifies and ends that are not in order, in words.
pub fn complaints(notes: &[Note], facts: &Facts) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut session: Option<Session<'_>> = None;
    for note in notes {
        let of_it = session.as_mut().filter(|known| known.id == note.session);
        match (&*note.what, of_it) {
            ("identified", _) => {
                if let Some(former) = &session
                    && !is_explained(former, note.at_ms, facts)
                {
                    complaints.push(format!(
                        "an identify at {} that nothing explains: session {} lived",
                        note.at_ms, former.id
                    ));
                }
                session = Some(Session {
                    id: &note.session,
                    born_ms: note.at_ms,
                    detached_ms: None,
                    resumed: false,
                    ended: false,
                    older_refused: false,
                });
            }
            ("identify.refused", _) => {
                complaints.push(format!("Discord refused an identify at {}", note.at_ms));
            }
            ("detached", Some(known)) => {
                known.detached_ms.get_or_insert(note.at_ms);
            }
            ("resumed", Some(known)) => known.resumed = true,
            ("ended", Some(known)) => {
                known.ended = true;
                let held_up = || touches(&facts.held_up, note.at_ms, BEAT_WITHIN_MS, 0);
                match &*note.why {
                    "client" => complaints.push("the worker ended its own session".to_owned()),
                    "heartbeat" if !held_up() => complaints.push(format!(
                        "no heartbeat until {}, though nothing held the worker up",
                        note.at_ms
                    )),
                    _ => {}
                }
            }
            ("resume.refused", None) => {
                if let Some(known) = &mut session {
                    known.older_refused = true;
                }
            }
            _ => {}
        }
    }
    complaints
}

fn is_explained(former: &Session<'_>, at_ms: u64, facts: &Facts) -> bool {
    let soon =
        |then_ms: u64| (former.born_ms..=former.born_ms + STORED_WITHIN_MS).contains(&then_ms);
    let started = facts.worker_starts.iter().filter(|start| **start <= at_ms);
    let killed_before_stored = former.older_refused && started.clone().any(|start| soon(*start));
    let forgotten_by_both = started.clone().any(|start| {
        *start > former.born_ms
            && at_ms <= *start + IDENTIFIES_WITHIN_MS
            && touches(
                &facts.store_losses,
                *start,
                STORED_WITHIN_MS,
                STORED_WITHIN_MS,
            )
    });
    let never_ready = former.detached_ms.is_some_and(|then_ms| {
        !former.resumed && soon(then_ms) && touches(&facts.swallowed, then_ms, 0, 0)
    });
    let no_address = touches(&facts.address_dead, at_ms, STORED_WITHIN_MS, 0);
    let never_resumed = touches(&facts.never_resumed, at_ms, 0, 0);
    former.ended
        || never_resumed
        || killed_before_stored
        || forgotten_by_both
        || never_ready
        || no_address
}

/// Whether a span lies about this time: no longer ago than `before`, no longer to come than `after`.
fn touches(spans: &[Span], at_ms: u64, before: u64, after: u64) -> bool {
    spans
        .iter()
        .any(|(began, ended)| *began <= at_ms + after && at_ms <= ended.saturating_add(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(at_ms: u64, session: &str, what: &str, why: &str) -> Note {
        Note {
            at_ms,
            session: session.to_owned(),
            what: what.to_owned(),
            why: why.to_owned(),
            seq: at_ms / 10,
        }
    }

    fn are_in_order(notes: &[Note], facts: &Facts) -> bool {
        complaints(notes, facts).is_empty()
    }

    #[test]
    fn an_identify_needs_a_session_that_discord_ended_and_each_end_pays_for_one() {
        let mut notes = vec![
            note(1_000, "a", "identified", ""),
            note(9_000, "a", "ended", "wished"),
            note(10_000, "b", "identified", ""),
        ];
        assert!(are_in_order(&notes, &Facts::default()));
        assert_eq!(gaps(&notes).len(), 1);
        assert_eq!(
            (gaps(&notes)[0].until, gaps(&notes)[0].open_at_ms),
            (1_000, 10_000)
        );
        notes.push(note(30_000, "c", "identified", ""));
        assert!(!are_in_order(&notes, &Facts::default()));
        notes.remove(1);
        assert!(!are_in_order(&notes[..2], &Facts::default()));
    }

    #[test]
    fn a_session_that_its_client_ends_and_a_refused_identify_are_never_in_order() {
        for (what, why) in [("ended", "client"), ("identify.refused", "")] {
            let session = if what == "ended" { "a" } else { "" };
            let notes = [
                note(1_000, "a", "identified", ""),
                note(2_000, session, what, why),
            ];
            assert!(!are_in_order(&notes, &Facts::default()), "{what}");
        }
    }

    #[test]
    fn a_missing_heartbeat_needs_something_that_held_the_worker_up() {
        let notes = [
            note(1_000, "a", "identified", ""),
            note(9_000, "a", "ended", "heartbeat"),
            note(9_100, "b", "identified", ""),
        ];
        let held_up = |span| Facts {
            held_up: vec![span],
            ..Facts::default()
        };
        assert!(!are_in_order(&notes, &Facts::default()));
        assert!(!are_in_order(&notes, &held_up((1_000, 6_000))));
        assert!(are_in_order(&notes, &held_up((6_900, 9_700))));
    }

    #[test]
    fn a_worker_killed_right_after_its_identify_explains_another_if_the_older_session_is_refused() {
        let mut notes = vec![
            note(1_000, "a", "identified", ""),
            note(9_000, "a", "ended", "wished"),
            note(10_000, "b", "identified", ""),
            note(10_400, "b", "detached", ""),
            note(10_900, "a", "resume.refused", ""),
            note(11_000, "c", "identified", ""),
        ];
        let started = |at| Facts {
            worker_starts: vec![500, at],
            ..Facts::default()
        };
        assert!(are_in_order(&notes, &started(10_800)));
        assert!(!are_in_order(&notes, &started(500)));
        notes.remove(4);
        assert!(!are_in_order(&notes, &started(10_800)));
    }

    #[test]
    fn both_memories_lost_at_once_explain_an_identify_and_one_alone_does_not() {
        let notes = [
            note(1_000, "a", "identified", ""),
            note(21_000, "b", "identified", ""),
        ];
        let facts = |start, lost| Facts {
            worker_starts: vec![start],
            store_losses: vec![lost],
            ..Facts::default()
        };
        assert!(are_in_order(&notes, &facts(20_500, (19_000, 19_500))));
        assert!(!are_in_order(&notes, &facts(500, (19_000, 19_500))));
        assert!(!are_in_order(&notes, &facts(20_500, (2_000, 2_500))));
        // Long after that start, the worker had a session again.
        assert!(!are_in_order(&notes, &facts(9_000, (8_000, 8_500))));
    }

    #[test]
    fn a_ready_that_was_swallowed_and_a_dead_address_explain_an_identify() {
        let notes = [
            note(1_000, "a", "identified", ""),
            note(2_000, "a", "detached", ""),
            note(3_000, "b", "identified", ""),
        ];
        let swallowed = |span| Facts {
            swallowed: vec![span],
            ..Facts::default()
        };
        assert!(are_in_order(&notes, &swallowed((1_500, 2_500))));
        assert!(!are_in_order(&notes, &swallowed((2_500, 2_900))));
        let dead = Facts {
            address_dead: vec![(1_500, 2_800)],
            ..Facts::default()
        };
        assert!(are_in_order(&notes, &dead));
    }

    #[test]
    fn a_session_that_was_resumed_was_ready_whatever_was_swallowed() {
        let mut notes = vec![
            note(1_000, "a", "identified", ""),
            note(2_000, "a", "detached", ""),
            note(2_200, "a", "resumed", ""),
            note(2_400, "a", "detached", ""),
            note(9_000, "b", "identified", ""),
        ];
        let swallowed = Facts {
            swallowed: vec![(1_500, 2_500)],
            ..Facts::default()
        };
        assert!(!are_in_order(&notes, &swallowed));
        notes.remove(2);
        assert!(are_in_order(&notes, &swallowed));
    }
}
