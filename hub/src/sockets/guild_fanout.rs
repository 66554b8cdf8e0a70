//! The fan-out of one guild: what its subscribers get, at one position of its log.
//!
//! Every method runs under the guild's lock, see [`super::fanout`]. It publishes an entry, starts a
//! subscription or publishes the freshness at the current position, so nothing falls between these
//! steps. Nothing here waits.

use launch::clock::Monotonic;
use proto::GuildId;
use proto::event::Fact;
use proto::gateway::{GatewayPayload, GatewayState};
use proto::position::{UNFINISHED, ViewPosition};
use roomlog::tail::Tail;
use roomlog::{Change, Entry, GuildState, Position};

use super::frame_encoder::FrameEncoder;
use super::frames::{Frame, FrameBatch};
use super::history::History;
use super::limits::FanoutLimits;
use super::outbox::Outbox;
use super::recovery::{self, Decision, Requested, STORE_CHANGED, Start};
use super::registry::ConnectionId;
use super::replay::{entry_position, replay};
use super::subscriptions::Subscriptions;
use super::view_group::{SnapshotInput, Subscriber};
use crate::freshness::Freshness;
use crate::positions::Positions;
use crate::view::View;

/// A guild's fan-out at its current position.
pub(super) struct GuildFanout {
    guild: GuildId,
    pub(super) position: Position,
    /// The guild at `position`.
    state: GuildState,
    /// Whether the worker has confirmed the state since this hub's start, or was silent for too
    /// long. Until then the store may be older than what a client has seen. Such a client waits for
    /// the snapshot that the worker is about to send.
    is_authoritative: bool,
    /// Why the current epoch began, if this hub has seen it: the reason of its snapshot.
    epoch_reason: Option<String>,
    pub(super) subscriptions: Subscriptions,
    /// The freshness as last published, and when.
    published: GatewayPayload,
    published_ms: u64,
    /// The freshness has changed to this. It is published at the position: the entries that changed
    /// it come first. A newer freshness may belong to later entries, and is due by itself.
    freshness_due: Option<(Position, GatewayPayload)>,
    freshness: Freshness,
    limits: FanoutLimits,
    clock: Monotonic,
    frames: metrics::Counter,
}

impl GuildFanout {
    /// A fan-out without subscribers at this position.
    pub(super) fn new(
        guild: GuildId,
        (position, state): (Position, GuildState),
        freshness: Freshness,
        positions: Positions,
        limits: FanoutLimits,
        clock: Monotonic,
    ) -> Self {
        Self {
            guild,
            position,
            state,
            is_authoritative: false,
            epoch_reason: None,
            subscriptions: Subscriptions::new(positions, limits.clone()),
            published: freshness.of(guild),
            published_ms: clock.elapsed_ms(),
            freshness_due: None,
            freshness,
            limits,
            clock,
            frames: metrics::counter!("hub_fanout_frames_total"),
        }
    }

    /// Publishes the next entry of the log, with the state before and after it.
    pub(super) fn publish(&mut self, entry: &Entry, before: &GuildState, after: &GuildState) {
        self.position = entry.position;
        self.state.clone_from(after);
        if let Change::Fact(Fact::Snapshot(roster)) = &entry.change {
            self.epoch_reason = Some(roster.reason.clone());
            self.is_authoritative = true;
            self.send_snapshots(&roster.reason);
        } else {
            self.send_entry(entry, before, after);
        }
        self.publish_freshness_if_due();
        self.subscriptions.sweep(self.clock.elapsed_ms());
    }

    fn send_entry(&mut self, entry: &Entry, before: &GuildState, after: &GuildState) {
        let mut sent = 0;
        for (view, group) in self.subscriptions.groups() {
            let events = view.project(before, after, &entry.change);
            let events = crate::faults::planted(view, &entry.change, events);
            let frames = group.encoder.entry(events, entry);
            for frame in &frames {
                sent += group.send(frame);
            }
            if let Some(kept) = &mut group.history {
                let offset = entry.position.offset;
                kept.history.append(offset, frames, self.limits.recovery);
            }
        }
        self.frames.increment(sent);
    }

    /// Continues at another position, with a snapshot for every subscriber: the fan-out was too
    /// slow, and the log has dropped entries that it had not published.
    pub(super) fn restart(&mut self, position: Position, state: GuildState) {
        if self.position.epoch != position.epoch {
            // The snapshot that began the epoch was among them.
            self.epoch_reason = None;
        }
        (self.position, self.state) = (position, state);
        self.send_snapshots("behind");
        self.publish_freshness_if_due();
    }

    fn send_snapshots(&mut self, reason: &str) {
        let input = self.snapshot_input();
        let mut sent = 0;
        for (view, group) in self.subscriptions.groups() {
            // No client continues over a snapshot.
            group.history = None;
            if !group.subscribers.is_empty() {
                let parts = group.snapshot(view, &input, reason);
                sent += group.send_snapshot(&parts);
            }
        }
        self.frames.increment(sent);
        self.subscriptions.sweep(self.clock.elapsed_ms());
    }

    /// The freshness has changed to this, while the log stood at this position or before it.
    pub(super) fn freshness_changed(&mut self, at: Position, freshness: GatewayPayload) {
        self.freshness_due = Some((at, freshness));
        self.publish_freshness_if_due();
    }

    /// Freshness is no event of the guild's log: its frames have no number.
    fn publish_freshness_if_due(&mut self) {
        let position = self.position;
        let Some((_, mut payload)) = self.freshness_due.take_if(|(at, _)| *at <= position) else {
            return;
        };
        let now = self.freshness.of(self.guild);
        if (now.state, &now.reason) == (payload.state, &payload.reason) {
            payload.age_ms = now.age_ms;
        }
        if (payload.state, &payload.reason) == (self.published.state, &self.published.reason) {
            return;
        }
        self.published = payload.clone();
        self.published_ms = self.clock.elapsed_ms();
        let state = payload.state;
        let body = FrameEncoder::gateway(self.guild, payload);
        for (_, group) in self.subscriptions.groups() {
            group.send_unnumbered(&body);
        }
        // A worker that is about to send a snapshot reports that the guild is not live yet.
        if matches!(state, GatewayState::Live | GatewayState::Down) {
            self.set_authoritative();
        }
    }

    /// The state counts from now on: subscribers that wait for it get their snapshot.
    pub(super) fn set_authoritative(&mut self) {
        if std::mem::replace(&mut self.is_authoritative, true) {
            return;
        }
        let input = self.snapshot_input();
        for (view, group) in self.subscriptions.groups() {
            if group.has_pending_snapshots() {
                let parts = group.snapshot(view, &input, STORE_CHANGED);
                group.send_pending_snapshots(&parts);
            }
        }
    }

    /// What a snapshot at the current position shows. The clone of the state shares its parts.
    fn snapshot_input(&self) -> SnapshotInput {
        SnapshotInput {
            position: self.position,
            state: self.state.clone(),
            gateway: self.gateway(),
            part_bytes: self.limits.snapshot_part_bytes,
            now_ms: self.clock.elapsed_ms(),
        }
    }

    /// The freshness at the current position: as last published, with its age.
    fn gateway(&self) -> GatewayPayload {
        let now = self.freshness.of(self.guild);
        if now.state == self.published.state {
            return now;
        }
        let since_ms = self.clock.elapsed_ms().saturating_sub(self.published_ms);
        GatewayPayload {
            age_ms: self.published.age_ms + since_ms,
            ..self.published.clone()
        }
    }

    /// How a client continues from a position of a view.
    pub(super) fn decide(&mut self, view: &View, position: &ViewPosition, tail: &Tail) -> Decision {
        let now_ms = self.clock.elapsed_ms();
        let history = self.subscriptions.history(view, now_ms);
        recovery::decide(position, self.position, tail, history)
    }

    /// Adds a connection to a view, and pushes its first frames: the one that `opening` makes of
    /// the position (and of whether missed events follow), then the missed events or the snapshot.
    pub(super) fn subscribe(
        &mut self,
        connection: ConnectionId,
        view: &View,
        (requested, tail): (Requested, &Tail),
        outbox: &Outbox,
        opening: impl FnOnce(bool, String) -> Frame,
    ) {
        self.subscriptions.sweep(self.clock.elapsed_ms());
        let (epoch_reason, is_authoritative) = (self.epoch_reason.clone(), self.is_authoritative);
        let decide = |position: &ViewPosition| self.decide(view, position, tail);
        let start = Start::of(requested, decide, epoch_reason.as_deref(), is_authoritative);
        let pending_snapshot = matches!(start, Start::SnapshotLater);
        let n = match start {
            Start::Continue(position, missed) => {
                self.push_missed(view, position, missed, outbox, opening)
            }
            Start::Snapshot(reason) => {
                self.push_opening(view, outbox, opening);
                let input = self.snapshot_input();
                let parts = self
                    .subscriptions
                    .group(view)
                    .snapshot(view, &input, &reason);
                outbox.push_batch(FrameBatch::snapshot(parts));
                1
            }
            Start::SnapshotLater => {
                self.push_opening(view, outbox, opening);
                1
            }
        };
        let subscriber = Subscriber {
            outbox: outbox.clone(),
            n,
            pending_snapshot,
        };
        self.subscriptions.add(connection, subscriber, view);
    }

    /// Pushes the start of a subscription that continues, and returns its next number.
    fn push_missed(
        &mut self,
        view: &View,
        position: ViewPosition,
        missed: FrameBatch,
        outbox: &Outbox,
        opening: impl FnOnce(bool, String) -> Frame,
    ) -> u64 {
        let at = Position {
            epoch: position.epoch,
            offset: position.offset,
            check: position.check,
        };
        let encoder = &self.subscriptions.group(view).encoder;
        outbox.push(opening(true, encoder.position(at, position.step)));
        // No other frame says how fresh the missed events are.
        let gateway = FrameEncoder::gateway(self.guild, self.gateway());
        outbox.push(Frame::complete(gateway));
        let frames = missed.len() as u64;
        metrics::counter!("hub_recovery_frames_total").increment(frames);
        outbox.push_batch(missed);
        1 + frames
    }

    /// Pushes the start of a subscription that gets a snapshot.
    fn push_opening(
        &mut self,
        view: &View,
        outbox: &Outbox,
        opening: impl FnOnce(bool, String) -> Frame,
    ) {
        let encoder = &self.subscriptions.group(view).encoder;
        // A client cannot continue from a position before its snapshot.
        let position = encoder.position(self.position, UNFINISHED);
        outbox.push(opening(false, position));
    }

    /// Keeps the history of a view that was replayed up to an earlier position of this epoch.
    pub(super) fn keep_replayed(
        &mut self,
        view: &View,
        epoch: u64,
        mut replayed: History,
        encoder: &FrameEncoder,
        tail: &Tail,
    ) {
        if self.position.epoch != epoch {
            return;
        }
        let (bounds, now_ms) = (self.limits.recovery, self.clock.elapsed_ms());
        let known = match self.subscriptions.history(view, now_ms) {
            Some(history) => history.clone(),
            None => History::begin(self.position.offset),
        };
        // The few entries that were published during the replay.
        if replayed.to() < known.from() {
            let between = entry_position(tail, replayed.to())
                .and_then(|from| replay(tail, from, known.from(), view, encoder, bounds));
            let Some(between) = between else {
                return;
            };
            replayed = replayed.join(between, bounds);
        }
        let history = replayed.join(known, bounds);
        self.subscriptions.keep_history(view, history, now_ms);
    }
}
