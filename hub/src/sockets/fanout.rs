//! From one guild's log to its subscribers: an event is encoded once for each view in which it is
//! visible, and every connection of that view shares the bytes.
//!
//! A guild's fan-out ([`GuildFanout`]) stands at one position of the log. Subscribing and publishing
//! take the same lock, so a snapshot (or the missed events) and the live events after it have no gap
//! and no overlap. Under that lock a connection costs references to shared bytes, and a few words of
//! its own encoding.
//!
//! Three more rules of order, by the fields of [`GuildSlot`]:
//!
//! - The log publishes a delivery (both halves of a move, a whole diff) in one step. The fan-out
//!   holds `delivery_lock` until it has published all of it: no subscription starts in the middle.
//! - Subscribing connections queue at `subscribe_lock`. So a live event waits for one of them at most.
//! - The history of a view is replayed outside the guild's lock, once for all that need it, by one
//!   connection at a time. A replay yields to a live event that waits (`live_waits`), so a
//!   reconnect storm cannot starve live delivery.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use launch::clock::Monotonic;
use proto::GuildId;
use proto::position::ViewPosition;
use roomlog::tail::Tail;
use roomlog::{Applied, Change, Following, Log};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::frame_encoder::FrameEncoder;
use super::frames::Frame;
use super::guild_fanout::GuildFanout;
use super::history::History;
use super::limits::FanoutLimits;
use super::outbox::Outbox;
use super::recovery::{self, Decision, Requested};
use super::registry::ConnectionId;
use super::replay::{chunk_start, replay};
use crate::freshness::Freshness;
use crate::positions::Positions;
use crate::view::View;

/// The guild is at its bound of different views.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyViews {
    /// The connection subscribes to another view of the guild, which continues.
    pub has_another: bool,
}

/// The fan-out of all guilds. A clone is a reference.
#[derive(Clone)]
pub struct Fanout(Arc<Shared>);

struct Shared {
    log: Log,
    guilds: BTreeMap<GuildId, GuildSlot>,
    freshness: Freshness,
    positions: Positions,
    limits: FanoutLimits,
    /// Held over a replay, and until its history was used: another replay might evict it.
    replay_permit: Semaphore,
    /// How old events are when their frames are pushed, in seconds.
    event_seconds: metrics::Histogram,
}

/// A guild's fan-out behind its locks, in the order in which they are taken.
struct GuildSlot {
    /// Held by the one connection that subscribes next, from before its replay.
    subscribe_lock: tokio::sync::Mutex<()>,
    /// Held while a connection subscribes, and while a whole delivery is published.
    delivery_lock: tokio::sync::Mutex<()>,
    fanout: Mutex<GuildFanout>,
    /// Set while a live event waits for `fanout`.
    live_waits: AtomicBool,
}

impl Fanout {
    /// A fan-out that follows these guilds' logs from where they stand. [`Fanout::run`] publishes
    /// the entries.
    pub fn new(
        log: &Log,
        guilds: &[GuildId],
        freshness: Freshness,
        positions: Positions,
        limits: FanoutLimits,
        clock: Monotonic,
    ) -> (Self, Vec<(GuildId, Following)>) {
        let mut followings = Vec::new();
        let mut slots = BTreeMap::new();
        for guild in guilds {
            if let Some(following) = log.follow(*guild) {
                let fanout = GuildFanout::new(
                    *guild,
                    (following.position, following.state.clone()),
                    freshness.clone(),
                    positions.clone(),
                    limits.clone(),
                    clock,
                );
                slots.insert(*guild, GuildSlot::new(fanout));
                followings.push((*guild, following));
            }
        }
        let shared = Shared {
            log: log.clone(),
            guilds: slots,
            freshness,
            positions,
            limits,
            replay_permit: Semaphore::new(1),
            event_seconds: metrics::histogram!("hub_event_seconds"),
        };
        (Self(Arc::new(shared)), followings)
    }

    /// Publishes one guild's entries, and the changes of its freshness, until `shutdown`.
    pub async fn run(self, guild: GuildId, mut following: Following, shutdown: CancellationToken) {
        let (Some(slot), Some(mut freshness_changes)) =
            (self.0.guilds.get(&guild), self.0.freshness.changes(guild))
        else {
            return;
        };
        // The freshness may have changed before this task began.
        freshness_changes.mark_changed();
        let silence_max = Duration::from_millis(self.0.freshness.silence_max_ms());
        let mut silence = std::pin::pin!(tokio::time::sleep(silence_max));
        let mut is_silence_pending = true;
        loop {
            let received = tokio::select! {
                received = following.entries.recv() => received,
                Ok(()) = freshness_changes.changed() => {
                    self.publish_freshness(guild, slot);
                    continue;
                }
                () = &mut silence, if is_silence_pending => {
                    is_silence_pending = false;
                    slot.lock().set_authoritative();
                    continue;
                }
                () = shutdown.cancelled() => return,
            };
            let published = match received {
                Ok(first) => {
                    self.publish_delivery(guild, slot, &first, &mut following)
                        .await
                }
                Err(error) => Err(error),
            };
            match published {
                Ok(()) => {}
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(%guild, missed, "the fan-out fell behind the log, its subscribers get a snapshot");
                    metrics::counter!("hub_fanout_lagged_total").increment(1);
                    let Some(newer) = self.0.log.follow(guild) else {
                        return;
                    };
                    slot.lock().restart(newer.position, newer.state.clone());
                    following = newer;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Publishes every entry that the log has by now, beginning with `first`. The log publishes a
    /// delivery in one step, so the last entry ends one.
    async fn publish_delivery(
        &self,
        guild: GuildId,
        slot: &GuildSlot,
        first: &Applied,
        following: &mut Following,
    ) -> Result<(), RecvError> {
        let _delivery = slot.delivery_lock.lock().await;
        let newest = self.0.log.read(guild, |_, position| position);
        let mut at = first.entry.position;
        self.publish(slot, first);
        while newest.is_some_and(|newest| at < newest) {
            // Connections write meanwhile.
            tokio::task::consume_budget().await;
            let applied = match following.entries.try_recv() {
                Ok(applied) => applied,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Closed) => return Err(RecvError::Closed),
                Err(TryRecvError::Lagged(missed)) => return Err(RecvError::Lagged(missed)),
            };
            at = applied.entry.position;
            self.publish(slot, &applied);
        }
        Ok(())
    }

    fn publish(&self, slot: &GuildSlot, applied: &Applied) {
        let Applied {
            entry,
            before,
            after,
        } = applied;
        slot.lock_first().publish(entry, before, after);
        if matches!(entry.change, Change::Fact(_)) {
            // The two clocks may be of two hosts: an event from the future has no age.
            let age_ms = launch::clock::now_ms().saturating_sub(entry.ts);
            self.0.event_seconds.record(Duration::from_millis(age_ms));
        }
    }

    /// Publishes the freshness behind the entries that the log has already.
    fn publish_freshness(&self, guild: GuildId, slot: &GuildSlot) {
        // First the freshness, then the position: the entries that changed it are before that.
        let freshness = self.0.freshness.of(guild);
        if let Some(at) = self.0.log.read(guild, |_, position| position) {
            slot.lock().freshness_changed(at, freshness);
        }
    }

    /// Subscribes a connection to a view: pushes the frame that `opening` makes of the position
    /// (and of whether missed events follow), then the missed events or the snapshot. `recover` is
    /// where to continue, as the client wrote it. The snapshot comes later if the state is not
    /// authoritative yet.
    ///
    /// # Errors
    /// The guild is at its bound of different views: each event costs each of them. The
    /// connection's earlier subscription to the guild continues.
    pub async fn subscribe(
        &self,
        connection: ConnectionId,
        view: &View,
        recover: Option<&str>,
        outbox: &Outbox,
        opening: impl FnOnce(bool, String) -> Frame,
    ) -> Result<(), TooManyViews> {
        let requested = recovery::requested(recover, view.fingerprint(), &self.0.positions);
        let Some(slot) = self.0.guilds.get(&view.guild()) else {
            return Ok(());
        };
        let _next = slot.subscribe_lock.lock().await;
        // Replay after taking `subscribe_lock`: an earlier replay may already be evicted.
        let _replay = self.replay_if_needed(slot, view, &requested).await;
        let _delivery = slot.delivery_lock.lock().await;
        let mut fanout = slot.lock();
        if !fanout.subscriptions.make_room(view) {
            metrics::counter!("hub_fanout_views_full_total").increment(1);
            let has_another = fanout.subscriptions.contains(connection);
            return Err(TooManyViews { has_another });
        }
        if let Some(tail) = self.tail(view) {
            fanout.subscribe(connection, view, (requested, &tail), outbox, opening);
        }
        Ok(())
    }

    /// Ends the subscription of a connection to a guild.
    pub fn unsubscribe(&self, connection: ConnectionId, guild: GuildId) {
        if let Some(slot) = self.0.guilds.get(&guild) {
            slot.lock().subscriptions.remove(connection);
        }
    }

    /// Replays the events of a view since a position, unless its history has them. The permit keeps
    /// others from evicting that history until the subscription has started.
    async fn replay_if_needed(
        &self,
        slot: &GuildSlot,
        view: &View,
        requested: &Requested,
    ) -> Option<SemaphorePermit<'_>> {
        let position = requested.as_ref().ok()?;
        slot.yield_to_live_events().await;
        self.missing(slot, view, position)?;
        let permit = self.0.replay_permit.acquire().await.ok()?;
        // Another connection may have replayed the same meanwhile.
        if let Some((tail, to)) = self.missing(slot, view, position) {
            self.replay(slot, view, position, (tail, to)).await;
        }
        Some(permit)
    }

    /// The log and the offset up to which it must be replayed; `None` if a replay is not needed, or
    /// would not help.
    fn missing(
        &self,
        slot: &GuildSlot,
        view: &View,
        position: &ViewPosition,
    ) -> Option<(Tail, u64)> {
        let mut fanout = slot.lock();
        let tail = self.tail(view)?;
        match fanout.decide(view, position, &tail) {
            Decision::Replay { to } => Some((tail, to)),
            Decision::Continue(_) | Decision::Snapshot(_) => None,
        }
    }

    async fn replay(
        &self,
        slot: &GuildSlot,
        view: &View,
        position: &ViewPosition,
        (tail, to): (Tail, u64),
    ) {
        let bounds = self.0.limits.recovery;
        let encoder = FrameEncoder::new(&self.0.positions, view);
        let mut history = History::begin(to);
        while !history.covers(position) && !history.is_cut() {
            let chunk = chunk_start(&tail, history.from())
                .and_then(|from| replay(&tail, from, history.from(), view, &encoder, bounds));
            let Some(chunk) = chunk else {
                return;
            };
            history = chunk.join(history, bounds);
            // Live events are published meanwhile.
            tokio::task::yield_now().await;
        }
        let mut fanout = slot.lock();
        if let Some(tail) = self.tail(view) {
            fanout.keep_replayed(view, position.epoch, history, &encoder, &tail);
        }
    }

    fn tail(&self, view: &View) -> Option<Tail> {
        Some(self.0.log.follow(view.guild())?.tail)
    }

    /// Keeps every replay waiting until the permit is dropped.
    #[cfg(test)]
    pub(super) async fn pause_replays(&self) -> SemaphorePermit<'_> {
        self.0.replay_permit.acquire().await.unwrap()
    }
}

impl GuildSlot {
    fn new(fanout: GuildFanout) -> Self {
        Self {
            subscribe_lock: tokio::sync::Mutex::new(()),
            delivery_lock: tokio::sync::Mutex::new(()),
            fanout: Mutex::new(fanout),
            live_waits: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, GuildFanout> {
        self.fanout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`GuildSlot::lock`], for a live event: replays yield to it.
    fn lock_first(&self) -> MutexGuard<'_, GuildFanout> {
        self.live_waits.store(true, Ordering::Relaxed);
        let fanout = self.lock();
        self.live_waits.store(false, Ordering::Relaxed);
        fanout
    }

    async fn yield_to_live_events(&self) {
        while self.live_waits.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests;
