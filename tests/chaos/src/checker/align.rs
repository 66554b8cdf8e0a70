//! Aligns the received steps of one subject with the due ones.
//!
//! Both are short sequences, so the cheapest explanation is found exactly, by dynamic programming:
//! a step received as it was due costs nothing; a *collapse* (some due steps within one gap, received as
//! their net difference) costs little; a lost step and an extra one cost much.

use std::ops::Range;

use world::reducer::{Step, Subject};
use world::roster::{Room, Roster, Seat};

use super::story::DueStep;

/// Received steps that may stand for a collapse at most: a leave, a join, and a change at either end.
const NET_STEPS_MAX: usize = 4;
/// A step that was lost, or came unbidden.
const WRONG: u32 = 1_000;
/// A collapse: any explanation without it is better, any wrong step is worse.
const COLLAPSE: u32 = 1;

/// Transitions that a subscriber may receive as their net difference only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// They come after this transition …
    pub after: u64,
    /// … up to and including this one.
    pub until: u64,
    /// A time at which the gap cannot have been closed yet, in Unix milliseconds: everything before
    /// it was received one by one. 0: not known.
    pub open_at_ms: u64,
}

impl Gap {
    /// Whether a transition may be received collapsed.
    pub fn holds(&self, seq: u64) -> bool {
        self.after < seq && seq <= self.until
    }
}

/// How the received steps explain the due ones.
#[derive(Debug, Default)]
pub(super) struct Alignment {
    /// Received as due: (received, due).
    pub(super) pairs: Vec<(usize, usize)>,
    /// Received as a net difference: (received, due).
    pub(super) collapsed: Vec<(Range<usize>, Range<usize>)>,
    /// Due, and never received.
    pub(super) lost: Vec<usize>,
    /// Received, and not due.
    pub(super) extra: Vec<usize>,
}

/// A subject's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Not there.
    Nothing,
    /// Somebody's seat.
    Seat(Seat),
    /// A room.
    Room(Room),
}

impl Held {
    /// The state after a step; `None` if the step does not fit this state.
    fn after(&self, step: &Step) -> Option<Self> {
        match (self, step) {
            (Self::Nothing, Step::Joined { seat, .. }) => Some(Self::Seat(seat.clone())),
            (Self::Nothing, Step::Created(room)) | (Self::Room(_), Step::Updated(room)) => {
                Some(Self::Room(room.clone()))
            }
            (Self::Room(_), Step::Deleted) => Some(Self::Nothing),
            (Self::Seat(seat), Step::Left { channel, .. }) if seat.channel == *channel => {
                Some(Self::Nothing)
            }
            (Self::Seat(seat), Step::Changed(now)) if seat.channel == now.channel => {
                Some(Self::Seat(now.clone()))
            }
            _ => None,
        }
    }

    /// A subject's state in a roster.
    pub(super) fn of(subject: &Subject, roster: &Roster) -> Self {
        match subject {
            Subject::Room(id) => roster
                .rooms
                .get(id)
                .map_or(Self::Nothing, |room| Self::Room(room.clone())),
            Subject::User(id) => roster
                .seats
                .get(id)
                .map_or(Self::Nothing, |seat| Self::Seat(seat.clone())),
        }
    }
}

/// One move through the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Move {
    Stop,
    Pair,
    Collapse { received: usize, due: usize },
    Lost,
    Extra,
}

/// The cheapest explanation of the received steps of one subject that began in this state. The first
/// `enough` due steps are due for certain; something else covers the rest, or has not come yet.
pub(super) fn align(
    began: &Held,
    due: &[&DueStep],
    received: &[&Step],
    gaps: &[Gap],
    enough: usize,
) -> Alignment {
    let plain = due.len().min(received.len());
    let same = (0..plain).all(|at| due[at].step == *received[at]);
    if same && received.len() <= due.len() && received.len() >= enough {
        return Alignment {
            pairs: (0..received.len()).map(|at| (at, at)).collect(),
            ..Alignment::default()
        };
    }
    let moves = Table::new(began, due, received, gaps, enough).fill();
    follow(&moves, due.len())
}

/// How many due steps must have been sent when the last received step was: the least number over all
/// explanations in which nothing is wrong; `None` if there is no such explanation.
pub(super) fn sent_at_least(
    began: &Held,
    due: &[&DueStep],
    received: &[&Step],
    gaps: &[Gap],
) -> Option<usize> {
    let table = Table::new(began, due, received, gaps, 0);
    let columns = due.len() + 1;
    let mut reached = vec![false; (received.len() + 1) * columns];
    reached[0] = true;
    for h in 0..=received.len() {
        for d in 0..columns {
            if !reached[h * columns + d] {
                continue;
            }
            if h < received.len() && d < due.len() && due[d].step == *received[h] {
                reached[(h + 1) * columns + d + 1] = true;
            }
            for (received, due) in table.collapses(h, d) {
                reached[(h + received) * columns + d + due] = true;
            }
        }
    }
    (0..columns).find(|d| reached[received.len() * columns + d])
}

struct Table<'a> {
    /// The state before each due step, and after the last.
    states: Vec<Held>,
    due: &'a [&'a DueStep],
    received: &'a [&'a Step],
    gaps: &'a [Gap],
    enough: usize,
}

impl<'a> Table<'a> {
    fn new(
        began: &Held,
        due: &'a [&'a DueStep],
        received: &'a [&'a Step],
        gaps: &'a [Gap],
        enough: usize,
    ) -> Self {
        let mut states = vec![began.clone()];
        for due_step in due {
            let state = &states[states.len() - 1];
            states.push(state.after(&due_step.step).unwrap_or(Held::Nothing));
        }
        Self {
            states,
            due,
            received,
            gaps,
            enough,
        }
    }

    /// The best move from each (received, due), row by row from the end.
    fn fill(&self) -> Vec<Move> {
        let (rows, columns) = (self.received.len() + 1, self.due.len() + 1);
        let mut costs = vec![u32::MAX; rows * columns];
        let mut moves = vec![Move::Stop; rows * columns];
        for h in (0..rows).rev() {
            for d in (0..columns).rev() {
                let (cost, best) = self.best(h, d, &costs);
                costs[h * columns + d] = cost;
                moves[h * columns + d] = best;
            }
        }
        moves
    }

    /// Of equally cheap moves the first counts: a collapse comes as late as it can, so that what
    /// is taken to have been received one by one is as little as it can be.
    fn best(&self, h: usize, d: usize, costs: &[u32]) -> (u32, Move) {
        let columns = self.due.len() + 1;
        let (left_h, left_d) = (self.received.len() - h, self.due.len() - d);
        if left_h == 0 && d >= self.enough {
            return (0, Move::Stop);
        }
        let cost_at = |h: usize, d: usize, more: u32| costs[h * columns + d].saturating_add(more);
        let mut best = (u32::MAX, Move::Stop);
        let mut offer = |cost: u32, step: Move| {
            if cost < best.0 {
                best = (cost, step);
            }
        };
        if left_h > 0 && left_d > 0 && self.due[d].step == *self.received[h] {
            offer(cost_at(h + 1, d + 1, 0), Move::Pair);
        }
        if left_d > 0 {
            offer(cost_at(h, d + 1, WRONG), Move::Lost);
        }
        if left_h > 0 {
            offer(cost_at(h + 1, d, WRONG), Move::Extra);
        }
        for (received, due) in self.collapses(h, d) {
            offer(
                cost_at(h + received, d + due, COLLAPSE),
                Move::Collapse { received, due },
            );
        }
        best
    }

    /// How many (received, due) steps can be a collapse from here on.
    fn collapses(&self, h: usize, d: usize) -> impl Iterator<Item = (usize, usize)> {
        let within = |gap: &Gap| {
            self.due[d..]
                .iter()
                .take_while(|due| gap.holds(due.seq))
                .count()
        };
        let longest = self.gaps.iter().map(within).max().unwrap_or(0);
        (1..=longest).flat_map(move |due| {
            let fits = self.net(h, d, due).into_iter();
            fits.map(move |received| (received, due))
        })
    }

    /// With how many received steps from `h` on the net difference of `count` due steps from `d` on
    /// can have been sent. Every state on the way must have been true meanwhile.
    fn net(&self, h: usize, d: usize, count: usize) -> Vec<usize> {
        let meanwhile = &self.states[d..=d + count];
        let goal = &self.states[d + count];
        let mut state = self.states[d].clone();
        let mut fits = Vec::new();
        if state == *goal {
            fits.push(0);
        }
        for (index, step) in self.received[h..].iter().take(NET_STEPS_MAX).enumerate() {
            match state.after(step) {
                Some(next) if next == Held::Nothing || meanwhile.contains(&next) => state = next,
                _ => break,
            }
            if state == *goal {
                fits.push(index + 1);
            }
        }
        fits
    }
}

fn follow(moves: &[Move], due_len: usize) -> Alignment {
    let mut alignment = Alignment::default();
    let (mut h, mut d) = (0, 0);
    loop {
        match moves[h * (due_len + 1) + d] {
            Move::Stop => break,
            Move::Pair => {
                alignment.pairs.push((h, d));
                (h, d) = (h + 1, d + 1);
            }
            Move::Lost => {
                alignment.lost.push(d);
                d += 1;
            }
            Move::Extra => {
                alignment.extra.push(h);
                h += 1;
            }
            Move::Collapse { received, due } => {
                alignment.collapsed.push((h..h + received, d..d + due));
                (h, d) = (h + received, d + due);
            }
        }
    }
    alignment
}
