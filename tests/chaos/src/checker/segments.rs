//! Cuts a subscriber's record into segments: from a complete snapshot or a quiet point to the next.

use world::reducer::{Effect, Frame, Oddity, Reducer, Step, Subject};
use world::roster::Roster;

use super::story::Story;
use super::tally::Verdict;
use super::{Record, What};

/// How a segment begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// No snapshot came yet.
    Unknown,
    /// With this snapshot.
    Shown {
        /// What it shows.
        roster: Roster,
        /// Whether it said that the gateway is live. A hub that is not may know nothing yet.
        live: bool,
    },
    /// With this moment of the story.
    Known(usize),
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// A snapshot covers what follows, or the record ends.
    Covered,
    /// At a quiet point: everything up to this transition was due.
    Quiet(u64),
}

/// A step as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReceivedStep {
    pub(super) at_ms: u64,
    pub(super) subject: Subject,
    pub(super) step: Step,
}

/// A stretch of one subscription that nothing interrupts for its reader.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) began_at_ms: u64,
    pub(super) start: Start,
    pub(super) steps: Vec<ReceivedStep>,
    pub(super) finish: Finish,
}

/// Cuts a record, and counts what frames show by themselves: snapshots, leaks, numbers, torn moves,
/// and whether the reducer equals the truth at quiet points.
pub(super) fn cut(story: &Story, record: &Record, verdict: &mut Verdict) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut reducer = Reducer::default();
    let mut open = Segment {
        began_at_ms: 0,
        start: Start::Unknown,
        steps: Vec::new(),
        finish: Finish::Covered,
    };
    for received in &record.received {
        match &received.what {
            What::Opened { recovering, .. } => {
                if !recovering {
                    // It forgot everything, on purpose.
                    reducer = Reducer::default();
                    segments.push(renew(&mut open, received.at_ms, Start::Unknown));
                }
                reducer.opened();
            }
            What::Ended(_) => {}
            What::Quiet { seq } => {
                let moment = story.moment_at(*seq);
                believe(story, moment, &reducer, record, verdict);
                open.finish = Finish::Quiet(*seq);
                segments.push(renew(&mut open, received.at_ms, Start::Known(moment)));
            }
            What::Frame(text) => {
                if let Some(id) = story
                    .forbidden
                    .iter()
                    .find(|id| text.contains(&format!("\"{id}\"")))
                {
                    verdict.leaks += 1;
                    verdict.say(|| format!("{}: leak of {id}: {text}", record.name));
                }
                let (effect, oddities) = reducer.apply(&Frame::read(text));
                for oddity in oddities {
                    match oddity {
                        Oddity::Gap { .. } => verdict.number_gaps += 1,
                        Oddity::UnknownRoom(_) | Oddity::TornMove(_) => verdict.reordered += 1,
                    }
                    verdict.say(|| format!("{}: {oddity:?} at {text}", record.name));
                }
                match effect {
                    Effect::Nothing => {}
                    Effect::Step(subject, step) => open.steps.push(ReceivedStep {
                        at_ms: received.at_ms,
                        subject,
                        step,
                    }),
                    Effect::Replaced { reason, live } => {
                        *verdict.snapshots.entry(reason).or_default() += 1;
                        let roster = reducer.roster.clone();
                        let start = Start::Shown { roster, live };
                        segments.push(renew(&mut open, received.at_ms, start));
                    }
                }
            }
        }
    }
    segments.push(open);
    segments
}

/// Ends the open segment and begins the next one.
fn renew(open: &mut Segment, at_ms: u64, start: Start) -> Segment {
    let next = Segment {
        began_at_ms: at_ms,
        start,
        steps: Vec::new(),
        finish: Finish::Covered,
    };
    std::mem::replace(open, next)
}

/// Holds what a subscriber believes against the truth of a quiet point.
fn believe(
    story: &Story,
    moment: usize,
    reducer: &Reducer,
    record: &Record,
    verdict: &mut Verdict,
) {
    let truth = &story.moments[moment].roster;
    let believed = &reducer.roster;
    let mut wrong = Vec::new();
    for (user, seat) in &believed.seats {
        if truth.seats.get(user) != Some(seat) {
            wrong.push(format!(
                "{user} believed in {seat:?}, is {:?}",
                truth.seats.get(user)
            ));
        }
    }
    for (id, room) in &believed.rooms {
        if truth.rooms.get(id) != Some(room) {
            wrong.push(format!(
                "room {id} believed {room:?}, is {:?}",
                truth.rooms.get(id)
            ));
        }
    }
    verdict.ghosts += wrong.len() as u64;
    for finding in wrong {
        verdict.say(|| format!("{}: at a quiet point {finding}", record.name));
    }
}
