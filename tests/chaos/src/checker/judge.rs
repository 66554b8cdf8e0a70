//! Judges one subscriber's record, segment by segment.

use std::collections::{BTreeMap, BTreeSet};

use world::reducer::{Step, Subject};
use world::roster::Roster;

use super::align::{Alignment, Gap, Held, align, sent_at_least};
use super::lag::Lags;
use super::segments::{Finish, ReceivedStep, Segment, Start, cut};
use super::story::{DueStep, Story};
use super::tally::Verdict;
use super::{Record, Terms};

/// Counts the violations in one record.
pub(super) fn judge(
    story: &Story,
    record: &Record,
    terms: &Terms,
    verdict: &mut Verdict,
    lags: &mut Lags,
) {
    let mut had: Vec<Option<u64>> = vec![None; story.moments.len()];
    for segment in cut(story, record, verdict) {
        let explained = match &segment.start {
            Start::Unknown => {
                if matches!(segment.finish, Finish::Quiet(_)) {
                    verdict.lost += 1;
                    verdict
                        .say(|| format!("{}: received nothing until a quiet point", record.name));
                }
                explain_unknown(&segment)
            }
            Start::Known(moment) => explain(story, &segment, *moment, terms),
            Start::Shown { roster, live } => {
                let shown = (roster, *live);
                explain_shown(story, &segment, shown, terms, verdict, record)
            }
        };
        explained.note(&segment, &mut had);
        explained.count(story, record, verdict);
    }
    lags.note(story, &had, record, terms);
}

/// The explanation of a segment's steps.
#[derive(Default)]
struct Explained<'a> {
    /// The moment at which the segment began, if it did.
    began: Option<usize>,
    /// Received as due, or as the end of a collapse: the moment, and when.
    had: Vec<(usize, u64)>,
    delivered: u64,
    collapsed: u64,
    lost: Vec<&'a DueStep>,
    extra: Vec<(&'a Subject, &'a Step)>,
    /// Steps that were received as due, by content: an extra one like these is a repeat.
    known: BTreeSet<(&'a Subject, &'a Step)>,
}

/// No snapshot came, so no step can follow.
fn explain_unknown(segment: &Segment) -> Explained<'_> {
    Explained {
        extra: segment
            .steps
            .iter()
            .map(|received| (&received.subject, &received.step))
            .collect(),
        ..Explained::default()
    }
}

/// Of the moments that a snapshot fits, the one that explains best what follows.
fn explain_shown<'a>(
    story: &'a Story,
    segment: &'a Segment,
    (roster, live): (&Roster, bool),
    terms: &Terms,
    verdict: &mut Verdict,
    record: &Record,
) -> Explained<'a> {
    // The moment at which it came, by the clock, is the likeliest; then those before it.
    let came = story
        .moments
        .partition_point(|moment| moment.at_ms <= segment.began_at_ms);
    let fits = |moment: &usize| story.moments[*moment].roster == *roster;
    let candidates = (0..came).rev().chain(came..story.moments.len());
    // A hub that has received nothing shows nothing, and says that the gateway is not live.
    let empty = !live && *roster == Roster::default() && segment.finish == Finish::Covered;
    let mut best = empty.then(|| explain_unknown(segment));
    for candidate in candidates.filter(fits) {
        let explained = explain(story, segment, candidate, terms);
        let wrong = explained.wrong();
        // If both explain it, a moment of the truth does it better than ignorance.
        if best.as_ref().is_none_or(|best| {
            wrong < best.wrong() || best.began.is_none() && wrong == best.wrong()
        }) {
            best = Some(explained);
        }
        if wrong == 0 {
            break;
        }
    }
    best.unwrap_or_else(|| {
        verdict.false_snapshots += 1;
        let nearest = came.saturating_sub(1);
        verdict.say(|| {
            let truth = &story.moments[nearest].roster;
            format!(
                "{}: a snapshot shows what was never true: {roster:?}; at the time: {truth:?}",
                record.name
            )
        });
        explain(story, segment, nearest, terms)
    })
}

/// One subject's part of a segment.
struct Line<'a> {
    began: Held,
    subject: &'a Subject,
    due: Vec<&'a DueStep>,
    received: Vec<&'a ReceivedStep>,
    alignment: Alignment,
}

fn explain<'a>(
    story: &'a Story,
    segment: &'a Segment,
    began: usize,
    terms: &Terms,
) -> Explained<'a> {
    let since = story.moments[began].seq;
    let until = match segment.finish {
        Finish::Quiet(seq) => seq,
        Finish::Covered => u64::MAX,
    };
    let mut lines: BTreeMap<&Subject, (Vec<&DueStep>, Vec<&ReceivedStep>)> = BTreeMap::new();
    for due in &story.steps {
        if since < due.seq && due.seq <= until {
            lines.entry(&due.subject).or_default().0.push(due);
        }
    }
    for received in &segment.steps {
        lines.entry(&received.subject).or_default().1.push(received);
    }
    let roster = &story.moments[began].roster;
    let mut lines: Vec<Line<'a>> = lines
        .into_iter()
        .map(|(subject, (due, received))| Line {
            began: Held::of(subject, roster),
            subject,
            due,
            received,
            alignment: Alignment::default(),
        })
        .collect();
    let gaps = narrow(&lines, terms);
    let certain = match segment.finish {
        Finish::Quiet(_) => u64::MAX,
        // Steps come in the guild's order: every step before the last one received was due.
        Finish::Covered if terms.ordered => sent_until(&lines, u64::MAX, &gaps),
        Finish::Covered => 0,
    };
    for line in &mut lines {
        line.align(&gaps, certain);
    }
    gather(story, began, &lines)
}

impl Line<'_> {
    /// Every step before the transition `certain` was due.
    fn align(&mut self, gaps: &[Gap], certain: u64) {
        let steps: Vec<&Step> = self
            .received
            .iter()
            .map(|received| &received.step)
            .collect();
        let enough = self.due.partition_point(|due| due.seq < certain);
        self.alignment = align(&self.began, &self.due, &steps, gaps, enough);
    }

    /// The last transition about this subject that must have been sent before a time.
    fn sent_before(&self, before_ms: u64, gaps: &[Gap]) -> Option<u64> {
        let received = self
            .received
            .iter()
            .filter(|received| received.at_ms < before_ms);
        let steps: Vec<&Step> = received.map(|received| &received.step).collect();
        let least = sent_at_least(&self.began, &self.due, &steps, gaps)?;
        Some(self.due.get(least.checked_sub(1)?)?.seq)
    }
}

/// The last transition that must have been sent before a time; what may come collapsed proves nothing.
fn sent_until(lines: &[Line<'_>], before_ms: u64, gaps: &[Gap]) -> u64 {
    lines
        .iter()
        .filter_map(|line| line.sent_before(before_ms, gaps))
        .filter(|seq| !gaps.iter().any(|gap| gap.holds(*seq)))
        .max()
        .unwrap_or(0)
}

/// The gaps as they can be at most for this subscriber: none begins before what it had received
/// before the gap can have been closed.
fn narrow(lines: &[Line<'_>], terms: &Terms) -> Vec<Gap> {
    if !terms.ordered {
        return terms.gaps.clone();
    }
    let known = |gap: &Gap| {
        lines
            .iter()
            .filter_map(|line| line.sent_before(gap.open_at_ms, &terms.gaps))
            .max()
            .unwrap_or(0)
    };
    let narrowed = terms.gaps.iter().map(|gap| Gap {
        // The transition that was received last may be half sent.
        after: gap.after.max(known(gap).saturating_sub(1)),
        ..gap.clone()
    });
    narrowed.collect()
}

fn gather<'a>(story: &Story, began: usize, lines: &[Line<'a>]) -> Explained<'a> {
    let mut explained = Explained {
        began: Some(began),
        ..Explained::default()
    };
    for line in lines {
        for (received, due) in &line.alignment.pairs {
            let moment = story.moment_at(line.due[*due].seq);
            explained.had.push((moment, line.received[*received].at_ms));
            explained.known.insert((line.subject, &line.due[*due].step));
        }
        explained.delivered += line.alignment.pairs.len() as u64;
        for (received, due) in &line.alignment.collapsed {
            explained.collapsed += due.len() as u64;
            if let Some(last) = received.clone().last() {
                let at_ms = line.received[last].at_ms;
                let moments = line.due[due.clone()].iter();
                explained
                    .had
                    .extend(moments.map(|due| (story.moment_at(due.seq), at_ms)));
            }
        }
        let lost = line.alignment.lost.iter().map(|due| line.due[*due]);
        explained.lost.extend(lost);
        let extra = line.alignment.extra.iter();
        explained
            .extra
            .extend(extra.map(|received| (line.subject, &line.received[*received].step)));
    }
    explained
}

impl Explained<'_> {
    fn wrong(&self) -> usize {
        self.lost.len() + self.extra.len()
    }

    /// When each moment was had: by its own steps, or by the snapshot that the segment began with.
    fn note(&self, segment: &Segment, had: &mut [Option<u64>]) {
        if let (Some(began), Start::Shown { .. }) = (self.began, &segment.start) {
            for moment in &mut had[..=began] {
                moment.get_or_insert(segment.began_at_ms);
            }
        }
        for (moment, at_ms) in &self.had {
            let known = had[*moment].get_or_insert(*at_ms);
            *known = (*known).max(*at_ms);
        }
    }

    fn count(self, story: &Story, record: &Record, verdict: &mut Verdict) {
        verdict.delivered += self.delivered;
        verdict.collapsed += self.collapsed;
        let mut lost = self.lost;
        for (subject, step) in self.extra {
            let elsewhere = lost
                .iter()
                .position(|due| due.subject == *subject && due.step == *step);
            let what = if let Some(at) = elsewhere {
                lost.remove(at);
                verdict.reordered += 1;
                "reordered"
            } else if self.known.contains(&(subject, step)) {
                verdict.doubled += 1;
                "doubled"
            } else if hides(story, subject, step) {
                verdict.leaks += 1;
                "leaked"
            } else {
                verdict.ghosts += 1;
                "never true"
            };
            verdict.say(|| format!("{}: {what}: {subject:?} {step:?}", record.name));
        }
        verdict.lost += lost.len() as u64;
        for due in lost {
            verdict.say(|| format!("{}: lost: {due:?}", record.name));
        }
    }
}

/// Whether a step names a user in a room in which they only sat while it was hidden.
fn hides(story: &Story, subject: &Subject, step: &Step) -> bool {
    let (Subject::User(user), Step::Joined { seat, .. } | Step::Changed(seat)) = (subject, step)
    else {
        return false;
    };
    story
        .hidden_seats
        .contains(&(user.clone(), seat.channel.clone()))
}
