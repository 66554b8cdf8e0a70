//! A view that somebody watches: who, what they are told, and what is kept for those who come or
//! return.
//!
//! Pure but for the outboxes that it pushes to.

use std::collections::HashMap;

use bytes::Bytes;
use imbl::Vector;
use proto::gateway::{GatewayPayload, GatewayState};

use super::fanout::ConnectionId;
use super::frames::{Frame, Run};
use super::history::History;
use super::outbox::Outbox;
use super::pen::Pen;
use crate::view::View;
use roomlog::{GuildState, Place};

/// How old the gateway's age may be in a snapshot that is shared, in ms.
const SNAPSHOT_SHARED_MS: u64 = 250;
/// How many snapshots of one view and place are kept to be shared: they differ in their reasons.
const SNAPSHOTS_SHARED_MAX: usize = 8;

/// A view that somebody watches, or whose past is kept.
pub(super) struct Watched {
    pub(super) pen: Pen,
    pub(super) watchers: HashMap<ConnectionId, Watcher>,
    /// What it was told lately, up to where the fan-out is.
    pub(super) history: Option<Kept>,
    /// Snapshots that others may ask for in the same moment.
    snapshots: Vec<Shot>,
}

/// A connection that watches.
pub(super) struct Watcher {
    pub(super) outbox: Outbox,
    /// The number of its next numbered frame.
    pub(super) n: u64,
    /// It is told nothing before its snapshot, which is still to come.
    pub(super) awaits: bool,
}

/// A history, and when it was last used.
pub(super) struct Kept {
    pub(super) history: History,
    pub(super) used_ms: u64,
}

/// A snapshot, encoded.
struct Shot {
    place: Place,
    reason: String,
    gateway: (GatewayState, Option<String>),
    made_ms: u64,
    parts: Vector<Bytes>,
}

/// What a snapshot shows.
pub(super) struct Scene<'a> {
    pub(super) place: Place,
    pub(super) state: &'a GuildState,
    pub(super) gateway: &'a GatewayPayload,
    pub(super) part_bytes: usize,
    pub(super) now_ms: u64,
}

impl Watched {
    /// Nobody watches yet.
    pub(super) fn new(pen: Pen) -> Self {
        Self {
            pen,
            watchers: HashMap::new(),
            history: None,
            snapshots: Vec::new(),
        }
    }

    /// Whether it is worth its place.
    pub(super) fn is_of_use(&self) -> bool {
        !self.watchers.is_empty() || self.history.is_some()
    }

    /// Drops what was not used lately.
    pub(super) fn sweep(&mut self, history_idle_ms: u64, now_ms: u64) {
        let used_since = now_ms.saturating_sub(history_idle_ms);
        self.history.take_if(|kept| kept.used_ms < used_since);
        self.snapshots.retain(|shot| shot.is_young(now_ms));
    }

    /// Tells everybody who watches the next frame.
    pub(super) fn tell(&mut self, body: &Bytes) {
        let mut told = 0;
        for watcher in self.watchers.values_mut().filter(|one| !one.awaits) {
            watcher
                .outbox
                .push(Frame::numbered(body.clone(), watcher.n));
            watcher.n += 1;
            told += 1;
        }
        metrics::counter!("hub_fanout_frames_total").increment(told);
    }

    /// Tells everybody who watches how fresh the guild is.
    pub(super) fn tell_freshness(&self, body: &Bytes) {
        for watcher in self.watchers.values().filter(|one| !one.awaits) {
            watcher.outbox.push(Frame::whole(body.clone()));
        }
    }

    /// Tells everybody who watches the whole guild.
    pub(super) fn tell_anew(&mut self, parts: &Vector<Bytes>) {
        for watcher in self.watchers.values_mut() {
            watcher.tell_anew(parts);
        }
        metrics::counter!("hub_fanout_frames_total").increment(self.watchers.len() as u64);
    }

    /// Tells those who await it the whole guild.
    pub(super) fn tell_awaiting(&mut self, parts: &Vector<Bytes>) {
        for watcher in self.watchers.values_mut().filter(|one| one.awaits) {
            watcher.tell_anew(parts);
        }
    }

    /// Whether somebody awaits a snapshot.
    pub(super) fn is_awaited(&self) -> bool {
        self.watchers.values().any(|one| one.awaits)
    }

    /// The guild in this view, as bytes that are shared by all who ask for the same in one moment.
    pub(super) fn snapshot(
        &mut self,
        view: &View,
        scene: &Scene<'_>,
        reason: &str,
    ) -> Vector<Bytes> {
        let Scene {
            place,
            gateway,
            now_ms,
            ..
        } = *scene;
        self.snapshots
            .retain(|shot| shot.place == place && shot.is_young(now_ms));
        let same = |shot: &&Shot| {
            shot.reason == reason
                && (shot.gateway.0, &shot.gateway.1) == (gateway.state, &gateway.reason)
        };
        if let Some(shot) = self.snapshots.iter().find(same) {
            return shot.parts.clone();
        }
        metrics::counter!("hub_fanout_snapshots_total").increment(1);
        let rooms = view.rooms(scene.state);
        let parts = self
            .pen
            .snapshot(place, rooms, reason, gateway, scene.part_bytes);
        self.snapshots.truncate(SNAPSHOTS_SHARED_MAX - 1);
        self.snapshots.push(Shot {
            place,
            reason: reason.to_owned(),
            gateway: (gateway.state, gateway.reason.clone()),
            made_ms: now_ms,
            parts: parts.clone(),
        });
        parts
    }
}

impl Watcher {
    fn tell_anew(&mut self, parts: &Vector<Bytes>) {
        self.outbox.push_run(Run::snapshot(parts.clone()));
        (self.n, self.awaits) = (1, false);
    }
}

impl Kept {
    /// Used now.
    pub(super) fn new(history: History, used_ms: u64) -> Self {
        metrics::gauge!("hub_recovery_histories").increment(1.0);
        Self { history, used_ms }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        metrics::gauge!("hub_recovery_histories").decrement(1.0);
    }
}

impl Shot {
    fn is_young(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.made_ms) < SNAPSHOT_SHARED_MS
    }
}
