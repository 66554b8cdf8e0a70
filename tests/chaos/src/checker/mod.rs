//! The checker: compares what subscribers received with the truth.
//!
//! In: the simulator's numbered transitions ([`History`]), and every frame of every subscriber with the
//! boundaries of its connections ([`Record`]). Out: a [`Verdict`]. Pure. A running subscriber uses the
//! same [`Reducer`], so that the checker judges what the subscriber believed.
//!
//! # What is decided, and how exactly
//! The truth becomes a [`Story`]: per view, the steps that it should receive. A subscriber's record is
//! cut into *segments*, at complete snapshots and at quiet points. Within a segment, each subject (a
//! user, a room) is aligned with its part of the story:
//!
//! - **No identify, no outage at Discord meanwhile**: exactly once, in order, with the same content.
//!   Decided exactly: a missing step is *lost*, a repeated one *doubled*, a step at another place
//!   *reordered*, one that was never true a *ghost*. Where equal steps repeat (mute, unmute, mute), the
//!   number of those missing is exact; which of them is missing is not.
//! - **After an identify** Discord sends the guild's state, not what led there: the steps between the
//!   last one received and the new GUILD_CREATE may come as their net difference. Such a [`Gap`] ends
//!   at the transition by which the identify had been counted. It begins after the last step that this
//!   subscriber received before the identify, because the difference starts from the roster in the
//!   hub's log. Every state on the way must have been true meanwhile. Not decidable: whether a step
//!   whose effect was undone within the gap was lost or collapsed. The same holds for an outage of the
//!   guild at Discord. A worker that identifies during an outage gets the guild only when the outage
//!   ends, so its gap lasts until then.
//! - **Before a snapshot**: a snapshot covers what comes after the last step received. A step that is
//!   missing *before* that last step is lost all the same, since a guild's steps come in the guild's
//!   order. Only where the worker asks Discord's REST for what it could not read ([`Terms::ordered`]
//!   is false) does the snapshot cover it.
//! - **A snapshot** must show the view at some moment of the truth (an older copy of a store may show
//!   an older moment, for a while), or nothing while the gateway is not live; anything else is
//!   *false*. If it fits several moments, the one counts that explains best what follows.
//! - **At a quiet point** the reducer's state equals the truth; what is believed and not true is a
//!   ghost.
//! - **Leaks** do not depend on positions: no frame may hold the id of a room that the view never
//!   showed, or of a user who only ever sat in such rooms; and no step may name a user in a room in
//!   which they only sat while it was hidden.
//! - **Numbers**: `n` has no gap; a user joins only a known room; the two halves of a move are
//!   neighbours (else: reordered).
//!
//! Order between different users is not promised, and not judged.

mod align;
mod judge;
mod lag;
mod segments;
mod story;
mod tally;

use std::collections::BTreeSet;

pub use align::Gap;
pub use story::{DueStep, History, Moment, Story};
pub use tally::{Verdict, percentile};
pub use world::reducer::{Effect, Frame, Oddity, Reducer, Step, Subject};
pub use world::roster::{Id, Room, Roster, Seat};

/// Everything that one subscriber received.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Its name, for findings.
    pub name: String,
    /// The rooms that it asked for; none: all.
    pub only: Option<BTreeSet<Id>>,
    /// What happened to it, in order.
    pub received: Vec<Received>,
}

/// Something that happened to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// What.
    pub what: What,
}

/// What happened to a subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A connection was opened; `recovering`: with the position and the state of before.
    Opened {
        /// It had a position to recover from.
        recovering: bool,
        /// A snapshot is due to it: it has no position, or one from before a snapshot was complete.
        owed: bool,
    },
    /// A text frame, as it came.
    Frame(String),
    /// The connection ended, with this close code or without one.
    Ended(Option<u16>),
    /// The runner saw it agree with the truth, or gave up waiting for it, after this transition.
    Quiet {
        /// The last transition of the truth.
        seq: u64,
    },
}

/// The terms of a judgement.
#[derive(Debug, Clone)]
pub struct Terms {
    /// What may come collapsed.
    pub gaps: Vec<Gap>,
    /// When faults lasted, in Unix milliseconds: convergence is counted from their end.
    pub faults: Vec<(u64, u64)>,
    /// Steps reach the log in the guild's order: the worker never had to ask REST.
    pub ordered: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            gaps: Vec::new(),
            faults: Vec::new(),
            ordered: true,
        }
    }
}

/// Judges the records of subscribers.
pub fn check(truth: &History, records: &[Record], terms: &Terms) -> Verdict {
    let mut terms = terms.clone();
    let outages = truth.outages();
    for gap in &mut terms.gaps {
        let of_it = |(after, until): &&(u64, u64)| (*after..*until).contains(&gap.until);
        if let Some((_, until)) = outages.iter().find(of_it) {
            gap.until = *until;
        }
    }
    terms
        .gaps
        .extend(outages.into_iter().map(|(after, until)| Gap {
            after,
            until,
            open_at_ms: 0,
        }));
    let mut verdict = Verdict::default();
    let mut lags = lag::Lags::default();
    let mut stories: Vec<(Option<BTreeSet<Id>>, Story)> = Vec::new();
    for record in records {
        let known = stories.iter().position(|(only, _)| *only == record.only);
        let at = known.unwrap_or_else(|| {
            let story = truth.story(record.only.as_ref());
            stories.push((record.only.clone(), story));
            stories.len() - 1
        });
        judge::judge(&stories[at].1, record, &terms, &mut verdict, &mut lags);
    }
    verdict.lags_ms = lags.worst();
    verdict
}

#[cfg(test)]
mod tests;
