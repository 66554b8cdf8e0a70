//! From one guild's log to the connections that watch it: an event is encoded once for each view
//! in which it is visible, and the same bytes go to every connection of that view.
//!
//! A guild's fan-out is one follower of its log, with its own copy of the state. Subscribing and
//! passing on an event take the same lock, so that a snapshot, or what a returning browser missed
//! (see [`super::recovery`]), and what follows it have no gap and no overlap. Under that lock a
//! connection costs references to bytes that its view shares, and no encoding of its own but for a
//! few words of greeting.
//!
//! What was stored together (the two halves of a move, a whole difference) is passed on in one
//! *turn*, in which nobody subscribes; the lock is free between its entries. Those who subscribe
//! queue for their turns among themselves: a live event waits for one of them at most, and each of
//! them for what was published by then.
//!
//! What is done under that lock stands here together, because its order is the promise: an event
//! is passed on, a snapshot taken, freshness told, each at a place of the log. Who watches, and
//! what is kept for them, is [`super::audience`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use launch::clock::Monotonic;
use proto::GuildId;
use proto::event::Fact;
use proto::gateway::{GatewayPayload, GatewayState};
use proto::position::UNFINISHED;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::audience::Audience;
use super::frames::{Frame, Run};
use super::history::HistoryBounds;
use super::outbox::Outbox;
use super::pen::Pen;
use super::recovery::{Beginning, STORE_CHANGED};
use super::watched::{Scene, Watcher};
use crate::freshness::Freshness;
use crate::positions::Positions;
use crate::view::{Before, View};
use roomlog::{Applied, Change, Entry, Following, GuildState, Log, Place};

/// Names one connection of this hub.
pub type ConnectionId = u64;

/// The bounds of the fan-out.
#[derive(Debug, Clone)]
pub struct FanoutLimits {
    /// Different views of one guild: each event costs each of them.
    pub views_per_guild_max: usize,
    /// What is missed at most by whoever continues by position.
    pub recovery: HistoryBounds,
    /// Views of one guild whose past is kept encoded; for one more, the longest unused is dropped.
    pub histories_per_guild_max: usize,
    /// How long it is kept without use, in ms.
    pub history_idle_ms: u64,
    /// A snapshot that is larger is sent in parts of this size, in bytes.
    pub snapshot_part_bytes: usize,
}

impl FanoutLimits {
    /// Different views of one guild.
    pub const VIEWS_PER_GUILD_MAX: usize = 1_000;
    /// Frames that are missed at most.
    pub const RECOVERY_FRAMES_MAX: usize = 2_000;
    /// Bytes that are missed at most.
    pub const RECOVERY_BYTES_MAX: usize = 512 * 1024;
    /// Views of one guild whose past is kept encoded.
    pub const HISTORIES_PER_GUILD_MAX: usize = 16;
    /// How long it is kept without use, in ms.
    pub const HISTORY_IDLE_MS: u64 = 60_000;
    /// The size of a snapshot's parts, in bytes.
    pub const SNAPSHOT_PART_BYTES: usize = 64 * 1024;
}

impl Default for FanoutLimits {
    fn default() -> Self {
        Self {
            views_per_guild_max: Self::VIEWS_PER_GUILD_MAX,
            recovery: HistoryBounds {
                frames_max: Self::RECOVERY_FRAMES_MAX,
                bytes_max: Self::RECOVERY_BYTES_MAX,
            },
            histories_per_guild_max: Self::HISTORIES_PER_GUILD_MAX,
            history_idle_ms: Self::HISTORY_IDLE_MS,
            snapshot_part_bytes: Self::SNAPSHOT_PART_BYTES,
        }
    }
}

/// A guild has as many different views as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyViews {
    /// The connection watches another view of it, which goes on.
    pub watches_another: bool,
}

/// The fan-out of all guilds. A clone is a reference.
#[derive(Clone)]
pub struct Fanout(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) log: Log,
    guilds: BTreeMap<GuildId, Door>,
    freshness: Freshness,
    pub(super) positions: Positions,
    pub(super) limits: FanoutLimits,
    /// Who may replay the past: one at a time, so that live events have their turn, and so that
    /// whoever asks for the same finds it done.
    pub(super) replaying: Semaphore,
    pub(super) clock: Monotonic,
    /// How old events are when their frames are handed out, in seconds.
    event_seconds: metrics::Histogram,
}

/// The way to a guild's fan-out.
struct Door {
    fanout: Mutex<GuildFanout>,
    /// A live event waits for the lock: whoever wants to replay lets it go first, however many
    /// they are.
    live_waits: AtomicBool,
    /// Held by whoever subscribes, and over what is passed on together. Taken before the lock.
    turn: tokio::sync::Mutex<()>,
    /// Of those who want to subscribe, who is next. Taken before a replay and before the turn.
    next: tokio::sync::Mutex<()>,
}

pub(super) struct GuildFanout {
    pub(super) place: Place,
    state: GuildState,
    /// Whether the worker has said since this hub's start what it thinks of the state, or was
    /// silent for too long. Until then the state may be that of a store that was lost or replaced,
    /// and whoever has seen more is not shown it: the worker is about to tell the guild anew.
    pub(super) settled: bool,
    /// Why the state began anew the last time that this hub saw it, in a snapshot's word.
    pub(super) begun: Option<String>,
    pub(super) audience: Audience,
    /// What viewers were last told of the guild's freshness, and when.
    told: GatewayPayload,
    told_ms: u64,
    /// The freshness is another, and is told once the fan-out has come to this place: what made
    /// it so comes first.
    fresher_at: Option<Place>,
}

impl Fanout {
    /// A fan-out that follows these logs from where they stand; [`Fanout::run`] passes on what comes.
    pub fn new(
        log: &Log,
        guilds: &[GuildId],
        freshness: Freshness,
        positions: Positions,
        limits: FanoutLimits,
        clock: Monotonic,
    ) -> (Self, Vec<(GuildId, Following)>) {
        let mut followed = Vec::new();
        let mut fanouts = BTreeMap::new();
        for guild in guilds {
            if let Some(following) = log.follow(*guild) {
                let fanout = GuildFanout {
                    place: following.place,
                    state: following.state.clone(),
                    settled: false,
                    begun: None,
                    audience: Audience::default(),
                    told: freshness.of(*guild),
                    told_ms: clock.elapsed_ms(),
                    fresher_at: None,
                };
                let door = Door {
                    fanout: Mutex::new(fanout),
                    live_waits: AtomicBool::new(false),
                    turn: tokio::sync::Mutex::new(()),
                    next: tokio::sync::Mutex::new(()),
                };
                fanouts.insert(*guild, door);
                followed.push((*guild, following));
            }
        }
        let shared = Shared {
            log: log.clone(),
            guilds: fanouts,
            freshness,
            positions,
            limits,
            replaying: Semaphore::new(1),
            clock,
            event_seconds: metrics::histogram!("hub_event_seconds"),
        };
        (Self(Arc::new(shared)), followed)
    }

    /// Passes on one guild's events until `shutdown`.
    pub async fn run(
        self,
        guild: GuildId,
        mut following: Following,
        log: Log,
        shutdown: CancellationToken,
    ) {
        let silence_max = Duration::from_millis(self.0.freshness.silence_max_ms());
        let mut silence = std::pin::pin!(tokio::time::sleep(silence_max));
        let mut listening = true;
        let Some(mut fresher) = self.0.freshness.changes(guild) else {
            return;
        };
        // What changed before this task began.
        fresher.mark_changed();
        loop {
            let received = tokio::select! {
                received = following.entries.recv() => received,
                Ok(()) = fresher.changed() => {
                    self.tell_freshness(guild);
                    continue;
                }
                () = &mut silence, if listening => {
                    listening = false;
                    if let Some(mut fanout) = self.lock(guild) {
                        self.settle(guild, &mut fanout);
                    }
                    continue;
                }
                () = shutdown.cancelled() => return,
            };
            let passed = match received {
                Ok(first) => {
                    self.pass_on_together(guild, &first, &mut following.entries)
                        .await
                }
                Err(error) => Err(error),
            };
            match passed {
                Ok(()) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(%guild, missed, "fan-out fell behind the log; its viewers get a snapshot");
                    metrics::counter!("hub_fanout_lagged_total").increment(1);
                    let Some(anew) = log.follow(guild) else {
                        return;
                    };
                    self.begin_anew(guild, &anew);
                    following = anew;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Adds a connection to a view: pushes what `opening` makes of the position (and of whether what
    /// was missed follows), then what was missed, or the snapshot. `recover` is where to continue, as
    /// the client wrote it. The snapshot is withheld for a moment where it would soon be another.
    ///
    /// # Errors
    /// When the guild has as many different views as it may: each event costs each of them.
    /// What the connection watched there before goes on.
    pub async fn subscribe(
        &self,
        connection: ConnectionId,
        view: &View,
        recover: Option<&str>,
        outbox: &Outbox,
        opening: impl FnOnce(bool, String) -> Frame,
    ) -> Result<(), TooManyViews> {
        let wanted = self.read_position(recover, view);
        let Some(door) = self.0.guilds.get(&view.guild()) else {
            return Ok(());
        };
        let _next = door.next.lock().await;
        // Only now: what was replayed before, others' replays might have displaced by now.
        let _replay = self.replay_if_wanted(view, &wanted).await;
        let _turn = door.turn.lock().await;
        let mut fanout = door.lock();
        let audience = &mut fanout.audience;
        if !audience.make_way(view, &self.0.limits) {
            metrics::counter!("hub_fanout_views_full_total").increment(1);
            let watches_another = audience.watches(connection);
            return Err(TooManyViews { watches_another });
        }
        let now_ms = self.0.clock.elapsed_ms();
        audience.sweep(&self.0.limits, now_ms);
        let beginning = self.choose(&mut fanout, view, wanted, now_ms);
        let positions = &self.0.positions;
        let awaits = matches!(beginning, Beginning::Awaited);
        let n = match beginning {
            Beginning::Continue(position, missed) => {
                let place = Place {
                    epoch: position.epoch,
                    offset: position.offset,
                    check: position.check,
                };
                let pen = &fanout.audience.view(view, positions).pen;
                outbox.push(opening(true, pen.position(place, position.step)));
                // Nothing says otherwise how fresh all that is, old and new.
                let gateway = self.told(view.guild(), &fanout);
                outbox.push(Frame::whole(Pen::gateway(view.guild(), gateway)));
                let n = 1 + missed.len() as u64;
                metrics::counter!("hub_recovery_frames_total").increment(missed.len() as u64);
                outbox.push_run(missed);
                n
            }
            Beginning::Anew(reason) => {
                let gateway = self.told(view.guild(), &fanout);
                let (place, state) = (fanout.place, fanout.state.clone());
                let watched = fanout.audience.view(view, positions);
                // Before its snapshot a viewer has seen nothing to continue from.
                outbox.push(opening(false, watched.pen.position(place, UNFINISHED)));
                let scene = self.scene(place, &state, &gateway, now_ms);
                let parts = watched.snapshot(view, &scene, &reason);
                outbox.push_run(Run::snapshot(parts));
                1
            }
            Beginning::Awaited => {
                let place = fanout.place;
                let pen = &fanout.audience.view(view, positions).pen;
                outbox.push(opening(false, pen.position(place, UNFINISHED)));
                1
            }
        };
        let outbox = outbox.clone();
        let watcher = Watcher { outbox, n, awaits };
        fanout.audience.enter(connection, watcher, view, positions);
        Ok(())
    }

    /// Takes a connection from a guild, whatever it watched there.
    pub fn unsubscribe(&self, connection: ConnectionId, guild: GuildId) {
        if let Some(mut fanout) = self.lock(guild) {
            fanout.audience.leave(connection);
        }
    }

    /// Tells viewers of a guild whose freshness changed, after what the log holds already. Not
    /// numbered: it is no event of the guild's log.
    fn tell_freshness(&self, guild: GuildId) {
        if let Some(mut fanout) = self.lock(guild) {
            fanout.fresher_at = self.0.log.read(guild, |_, place| place);
            self.tell_freshness_if_due(guild, &mut fanout);
        }
    }

    fn tell_freshness_if_due(&self, guild: GuildId, fanout: &mut GuildFanout) {
        if fanout.fresher_at.is_none_or(|at| fanout.place < at) {
            return;
        }
        fanout.fresher_at = None;
        let payload = self.0.freshness.of(guild);
        if (payload.state, &payload.reason) == (fanout.told.state, &fanout.told.reason) {
            return;
        }
        (fanout.told, fanout.told_ms) = (payload.clone(), self.0.clock.elapsed_ms());
        let state = payload.state;
        let body = Pen::gateway(guild, payload);
        for (_, watched) in fanout.audience.views() {
            watched.tell_freshness(&body);
        }
        // A worker that is about to tell the guild says that it is not live yet.
        if matches!(state, GatewayState::Live | GatewayState::Down) {
            self.settle(guild, fanout);
        }
    }

    /// The state is what there is to show: whoever awaits it gets it.
    fn settle(&self, guild: GuildId, fanout: &mut GuildFanout) {
        if std::mem::replace(&mut fanout.settled, true) {
            return;
        }
        let (now_ms, gateway) = (self.0.clock.elapsed_ms(), self.told(guild, fanout));
        let scene = self.scene(fanout.place, &fanout.state, &gateway, now_ms);
        for (view, watched) in fanout.audience.views() {
            if watched.is_awaited() {
                let parts = watched.snapshot(view, &scene, STORE_CHANGED);
                watched.tell_awaiting(&parts);
            }
        }
    }

    /// How fresh what the fan-out has come to is: what viewers were told, with its age.
    fn told(&self, guild: GuildId, fanout: &GuildFanout) -> GatewayPayload {
        let now = self.0.freshness.of(guild);
        if now.state == fanout.told.state {
            return now;
        }
        let since_ms = self.0.clock.elapsed_ms().saturating_sub(fanout.told_ms);
        GatewayPayload {
            age_ms: fanout.told.age_ms + since_ms,
            ..fanout.told.clone()
        }
    }

    /// Passes on everything that is published by now, from its first entry on, in one turn. The log
    /// publishes what was stored together in one step, so that it ends with a delivery.
    async fn pass_on_together(
        &self,
        guild: GuildId,
        first: &Applied,
        entries: &mut broadcast::Receiver<Arc<Applied>>,
    ) -> Result<(), RecvError> {
        let Some(door) = self.0.guilds.get(&guild) else {
            return Ok(());
        };
        let _turn = door.turn.lock().await;
        let published = self.0.log.read(guild, |_, place| place);
        let mut at = first.entry.place;
        self.pass_on(guild, &first.entry);
        while published.is_some_and(|published| at < published) {
            // Connections have their turns, to write what they were told.
            tokio::task::consume_budget().await;
            let applied = match entries.try_recv() {
                Ok(applied) => applied,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvError::Lagged(missed)),
            };
            at = applied.entry.place;
            self.pass_on(guild, &applied.entry);
        }
        Ok(())
    }

    fn pass_on(&self, guild: GuildId, entry: &Entry) {
        let Some(door) = self.0.guilds.get(&guild) else {
            return;
        };
        door.live_waits.store(true, Ordering::Relaxed);
        let mut fanout = door.lock();
        door.live_waits.store(false, Ordering::Relaxed);
        let before = Before::of(&fanout.state, &entry.change);
        fanout.state.apply(&entry.change);
        fanout.place = entry.place;
        if let Change::Told(Fact::Snapshot(roster)) = &entry.change {
            fanout.begun = Some(roster.reason.clone());
            fanout.settled = true;
            self.snapshot_all(guild, &mut fanout, &roster.reason);
        } else {
            self.pass_on_in_views(&mut fanout, &before, entry);
        }
        if matches!(entry.change, Change::Told(_)) {
            let age = age_of(entry.ts, launch::clock::now_ms());
            self.0.event_seconds.record(age);
        }
        self.tell_freshness_if_due(guild, &mut fanout);
        fanout
            .audience
            .sweep(&self.0.limits, self.0.clock.elapsed_ms());
    }

    fn pass_on_in_views(&self, fanout: &mut GuildFanout, before: &Before, entry: &Entry) {
        for (view, watched) in fanout.audience.views() {
            let events = view.project(before, &fanout.state, &entry.change);
            let events = crate::faults::planted(view, &entry.change, events);
            let frames = watched.pen.entry(events, entry);
            for frame in &frames {
                watched.tell(frame);
            }
            if let Some(kept) = &mut watched.history {
                kept.history
                    .append(entry.place.offset, frames, self.0.limits.recovery);
            }
        }
    }

    fn begin_anew(&self, guild: GuildId, following: &Following) {
        if let Some(mut fanout) = self.lock(guild) {
            // What made another epoch begin was missed.
            if fanout.place.epoch != following.place.epoch {
                fanout.begun = None;
            }
            fanout.place = following.place;
            fanout.state.clone_from(&following.state);
            self.snapshot_all(guild, &mut fanout, "behind");
            self.tell_freshness_if_due(guild, &mut fanout);
        }
    }

    fn snapshot_all(&self, guild: GuildId, fanout: &mut GuildFanout, reason: &str) {
        let (now_ms, gateway) = (self.0.clock.elapsed_ms(), self.told(guild, fanout));
        let scene = self.scene(fanout.place, &fanout.state, &gateway, now_ms);
        for (view, watched) in fanout.audience.views() {
            // What was before can not be continued over this.
            watched.history = None;
            if !watched.watchers.is_empty() {
                let parts = watched.snapshot(view, &scene, reason);
                watched.tell_anew(&parts);
            }
        }
        fanout.audience.sweep(&self.0.limits, now_ms);
    }

    fn scene<'a>(
        &self,
        place: Place,
        state: &'a GuildState,
        gateway: &'a GatewayPayload,
        now_ms: u64,
    ) -> Scene<'a> {
        Scene {
            place,
            state,
            gateway,
            part_bytes: self.0.limits.snapshot_part_bytes,
            now_ms,
        }
    }

    pub(super) fn lock(&self, guild: GuildId) -> Option<MutexGuard<'_, GuildFanout>> {
        Some(self.0.guilds.get(&guild)?.lock())
    }

    pub(super) async fn let_live_events_go_first(&self, guild: GuildId) {
        let waits = |door: &Door| door.live_waits.load(Ordering::Relaxed);
        while self.0.guilds.get(&guild).is_some_and(waits) {
            tokio::task::yield_now().await;
        }
    }
}

/// How old an event of `ts` is at `now_ms`, both in ms since the Unix epoch. The two clocks may be of
/// two hosts: an event of the future has no age.
const fn age_of(ts: u64, now_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(ts))
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, GuildFanout> {
        self.fanout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
