//! Where a returning browser continues: from the position that it names, or anew, and why.
//!
//! The past of a view is replayed outside the guild's lock, once for all who return to it, by one
//! connection at a time, and only for who is next to subscribe; under the lock it is only looked up,
//! and what was told meanwhile is added.

use std::borrow::Cow;

use proto::position::{UNFINISHED, ViewPosition};
use tokio::sync::SemaphorePermit;

use super::fanout::{Fanout, GuildFanout};
use super::frames::Run;
use super::history::{History, piece_before, place_at, replay};
use super::pen::Pen;
use crate::view::View;
use roomlog::Place;
use roomlog::tail::Tail;

/// How a subscription begins.
pub(super) enum Beginning {
    /// Behind this position, with what was missed.
    Continue(ViewPosition, Run),
    /// With a snapshot, for this reason.
    Anew(Cow<'static, str>),
    /// With a snapshot, as soon as the fan-out has settled.
    Awaited,
}

/// What a client asks for: a position of its view, or a snapshot for this reason.
pub(super) type Wanted = Result<ViewPosition, &'static str>;

/// No position was given, or one that was given before a snapshot had come whole.
const SUBSCRIBED: &str = "subscribed";
/// What was given is no position of this hub's.
const BAD_POSITION: &str = "bad_position";
/// The position is of another choice of rooms, or of a time when other rooms were shown.
const VIEW_CHANGED: &str = "view_changed";
/// The position is of another history than this store's.
pub(super) const STORE_CHANGED: &str = "store_changed";
/// What came after the position is not kept any more, or is too much.
const TOO_OLD: &str = "too_old";
/// The fan-out itself began anew meanwhile.
const BEHIND: &str = "behind";

/// What has to be replayed for a position: the log up to there.
struct Missing {
    tail: Tail,
    to: u64,
}

impl Fanout {
    /// Reads where a client wants to continue in a view.
    pub(super) fn read_position(&self, recover: Option<&str>, view: &View) -> Wanted {
        let text = recover.ok_or(SUBSCRIBED)?;
        let position = self.0.positions.open(text).ok_or(BAD_POSITION)?;
        if position.view != view.fingerprint() {
            return Err(VIEW_CHANGED);
        }
        if position.step == UNFINISHED {
            return Err(SUBSCRIBED);
        }
        Ok(position)
    }

    /// Replays what a view was told since a position, unless that is known. What is returned holds
    /// off other replays, and with them the loss of this one, until the connection has begun.
    pub(super) async fn replay_if_wanted(
        &self,
        view: &View,
        wanted: &Wanted,
    ) -> Option<SemaphorePermit<'_>> {
        let position = wanted.as_ref().ok()?;
        self.let_live_events_go_first(view.guild()).await;
        self.missing(view, position)?;
        let turn = self.0.replaying.acquire().await.ok()?;
        // Whoever had the turn before may have been here for the same.
        if let Some(missing) = self.missing(view, position) {
            self.replay(view, position, missing).await;
        }
        Some(turn)
    }

    /// Decides how a subscription begins.
    pub(super) fn choose(
        &self,
        fanout: &mut GuildFanout,
        view: &View,
        wanted: Wanted,
        now_ms: u64,
    ) -> Beginning {
        let begun = fanout.begun.clone();
        let place = fanout.place;
        let chosen = wanted.and_then(|position| {
            let tail = self.tail(view).ok_or(STORE_CHANGED)?;
            judge(&position, place, &tail)?;
            let history = fanout.audience.history(view, now_ms).ok_or(BEHIND)?;
            if !history.covers(&position) {
                return Err(if history.is_cut() { TOO_OLD } else { BEHIND });
            }
            let missed = history.since(&position).ok_or(STORE_CHANGED)?;
            Ok((position, missed))
        });
        let outcome = chosen
            .as_ref()
            .map_or_else(|reason| *reason, |_| "recovered");
        if outcome != SUBSCRIBED {
            metrics::counter!("hub_recoveries_total", "outcome" => outcome).increment(1);
        }
        match (chosen, begun) {
            (Ok((position, missed)), _) => Beginning::Continue(position, missed),
            // The store was lost or replaced, and the worker is about to tell the guild anew.
            (Err(STORE_CHANGED), None) if !fanout.settled => Beginning::Awaited,
            // Why the history is another, if that is known, says more.
            (Err(STORE_CHANGED), Some(reason)) => Beginning::Anew(reason.into()),
            (Err(reason), _) => Beginning::Anew(reason.into()),
        }
    }

    /// What has to be replayed before a position can be continued from; `None` if nothing has to,
    /// or if nothing would help.
    fn missing(&self, view: &View, position: &ViewPosition) -> Option<Missing> {
        let now_ms = self.0.clock.elapsed_ms();
        let mut fanout = self.lock(view.guild())?;
        let tail = self.tail(view)?;
        judge(position, fanout.place, &tail).ok()?;
        let to = match fanout.audience.history(view, now_ms) {
            Some(history) if history.is_cut() || history.covers(position) => return None,
            Some(history) => history.from(),
            None => fanout.place.offset,
        };
        Some(Missing { tail, to })
    }

    async fn replay(&self, view: &View, position: &ViewPosition, missing: Missing) {
        let bounds = self.0.limits.recovery;
        let pen = Pen::new(&self.0.positions, view);
        let mut past = History::begin(missing.to);
        while !past.covers(position) && !past.is_cut() {
            let piece = piece_before(&missing.tail, past.from())
                .and_then(|from| replay(&missing.tail, from, past.from(), view, &pen, bounds));
            let Some(piece) = piece else {
                return;
            };
            past = piece.join(past, bounds);
            // Live events have their turn.
            tokio::task::yield_now().await;
        }
        let now_ms = self.0.clock.elapsed_ms();
        let Some(mut fanout) = self.lock(view.guild()) else {
            return;
        };
        if fanout.place.epoch != position.epoch {
            return;
        }
        let known = match fanout.audience.history(view, now_ms) {
            Some(history) => history.clone(),
            None => History::begin(fanout.place.offset),
        };
        // What the view was told while this was replayed; next to nothing.
        if past.to() < known.from() {
            let between = self.tail(view).and_then(|tail| {
                let from = place_at(&tail, past.to())?;
                replay(&tail, from, known.from(), view, &pen, bounds)
            });
            let Some(between) = between else {
                return;
            };
            past = past.join(between, bounds);
        }
        let (limits, positions) = (&self.0.limits, &self.0.positions);
        let past = past.join(known, bounds);
        fanout.audience.keep(view, past, limits, positions, now_ms);
    }

    fn tail(&self, view: &View) -> Option<Tail> {
        Some(self.0.log.follow(view.guild())?.tail)
    }
}

/// Whether the log can continue from a position, given where the fan-out is.
fn judge(position: &ViewPosition, at: Place, tail: &Tail) -> Result<(), &'static str> {
    if position.epoch != at.epoch {
        return Err(STORE_CHANGED);
    }
    let first = tail.first().ok_or(TOO_OLD)?.place;
    if first.epoch != position.epoch {
        // The log has begun anew already; the fan-out is about to say so.
        return Err(STORE_CHANGED);
    }
    // Within an entry, that entry has to be kept.
    if position.offset < first.offset || position.step > 0 && position.offset == first.offset {
        return Err(TOO_OLD);
    }
    match place_at(tail, position.offset) {
        // REST reads the log itself, which may be a moment ahead.
        Some(place) if place.check == position.check && place > at => Err(BEHIND),
        Some(place) if place.check == position.check => Ok(()),
        _ => Err(STORE_CHANGED),
    }
}
