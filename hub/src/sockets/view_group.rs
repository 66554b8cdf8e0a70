//! The connections that share one view: what they are sent, and what is kept for later ones.
//!
//! Pure but for the outboxes that it pushes to.

use std::collections::HashMap;

use bytes::Bytes;
use imbl::Vector;
use proto::gateway::{GatewayPayload, GatewayState};
use roomlog::{GuildState, Position};

use super::frame_encoder::FrameEncoder;
use super::frames::{Frame, FrameBatch};
use super::history::History;
use super::outbox::Outbox;
use super::registry::ConnectionId;
use crate::view::View;

/// How old the gateway's age may be in a snapshot that is shared, in ms.
const SNAPSHOT_SHARED_MS: u64 = 250;
/// The snapshots of one view and position that are kept to be shared: they differ in their reasons.
const SNAPSHOTS_SHARED_MAX: usize = 8;

/// A view that has subscribers, or whose history is kept.
pub(super) struct ViewGroup {
    pub(super) encoder: FrameEncoder,
    pub(super) subscribers: HashMap<ConnectionId, Subscriber>,
    /// The recent frames, up to where the fan-out stands.
    pub(super) history: Option<KeptHistory>,
    /// Snapshots that others may need in the same moment.
    snapshots: Vec<CachedSnapshot>,
}

/// A subscribed connection.
pub(super) struct Subscriber {
    pub(super) outbox: Outbox,
    /// The number of its next numbered frame.
    pub(super) n: u64,
    /// The subscriber gets nothing before its snapshot, which waits for an authoritative state.
    pub(super) pending_snapshot: bool,
}

/// A history, and when it was last used.
pub(super) struct KeptHistory {
    pub(super) history: History,
    pub(super) used_ms: u64,
}

/// A snapshot, encoded.
struct CachedSnapshot {
    position: Position,
    reason: String,
    gateway: (GatewayState, Option<String>),
    encoded_ms: u64,
    parts: Vector<Bytes>,
}

/// What a snapshot shows.
pub(super) struct SnapshotInput {
    pub(super) position: Position,
    pub(super) state: GuildState,
    pub(super) gateway: GatewayPayload,
    pub(super) part_bytes: usize,
    pub(super) now_ms: u64,
}

impl ViewGroup {
    /// A group without subscribers.
    pub(super) fn new(encoder: FrameEncoder) -> Self {
        Self {
            encoder,
            subscribers: HashMap::new(),
            history: None,
            snapshots: Vec::new(),
        }
    }

    /// Whether the group has subscribers or a history.
    pub(super) fn is_used(&self) -> bool {
        !self.subscribers.is_empty() || self.history.is_some()
    }

    /// Drops the history and the snapshots that were not used lately.
    pub(super) fn sweep(&mut self, history_idle_ms: u64, now_ms: u64) {
        let used_since = now_ms.saturating_sub(history_idle_ms);
        self.history.take_if(|kept| kept.used_ms < used_since);
        self.snapshots.retain(|snapshot| snapshot.is_fresh(now_ms));
    }

    /// Sends the next numbered frame, and returns the number of receivers.
    pub(super) fn send(&mut self, body: &Bytes) -> u64 {
        let mut sent = 0;
        for subscriber in self.subscribers.values_mut().filter(|one| one.is_started()) {
            let frame = Frame::numbered(body.clone(), subscriber.n);
            subscriber.outbox.push(frame);
            subscriber.n += 1;
            sent += 1;
        }
        sent
    }

    /// Sends a frame without a number.
    pub(super) fn send_unnumbered(&self, body: &Bytes) {
        for subscriber in self.subscribers.values().filter(|one| one.is_started()) {
            subscriber.outbox.push(Frame::complete(body.clone()));
        }
    }

    /// Sends a snapshot to every subscriber, and returns their number.
    pub(super) fn send_snapshot(&mut self, parts: &Vector<Bytes>) -> u64 {
        for subscriber in self.subscribers.values_mut() {
            subscriber.send_snapshot(parts);
        }
        self.subscribers.len() as u64
    }

    /// Sends a snapshot to the subscribers that wait for one.
    pub(super) fn send_pending_snapshots(&mut self, parts: &Vector<Bytes>) {
        for subscriber in self.subscribers.values_mut() {
            if subscriber.pending_snapshot {
                subscriber.send_snapshot(parts);
            }
        }
    }

    /// Whether a subscriber waits for a snapshot.
    pub(super) fn has_pending_snapshots(&self) -> bool {
        self.subscribers.values().any(|one| one.pending_snapshot)
    }

    /// The guild in this view, encoded. Subscribers that need the same in one moment share the bytes.
    pub(super) fn snapshot(
        &mut self,
        view: &View,
        input: &SnapshotInput,
        reason: &str,
    ) -> Vector<Bytes> {
        let (position, gateway, now_ms) = (input.position, &input.gateway, input.now_ms);
        self.snapshots
            .retain(|snapshot| snapshot.position == position && snapshot.is_fresh(now_ms));
        let same = |snapshot: &&CachedSnapshot| {
            snapshot.reason == reason
                && (snapshot.gateway.0, &snapshot.gateway.1) == (gateway.state, &gateway.reason)
        };
        if let Some(snapshot) = self.snapshots.iter().find(same) {
            return snapshot.parts.clone();
        }
        metrics::counter!("hub_fanout_snapshots_total").increment(1);
        let rooms = view.rooms(&input.state);
        let encoder = &self.encoder;
        let parts = encoder.snapshot(position, rooms, reason, gateway, input.part_bytes);
        self.snapshots.truncate(SNAPSHOTS_SHARED_MAX - 1);
        self.snapshots.push(CachedSnapshot {
            position,
            reason: reason.to_owned(),
            gateway: (gateway.state, gateway.reason.clone()),
            encoded_ms: now_ms,
            parts: parts.clone(),
        });
        parts
    }
}

impl Subscriber {
    fn is_started(&self) -> bool {
        !self.pending_snapshot
    }

    fn send_snapshot(&mut self, parts: &Vector<Bytes>) {
        self.outbox.push_batch(FrameBatch::snapshot(parts.clone()));
        (self.n, self.pending_snapshot) = (1, false);
    }
}

impl KeptHistory {
    /// A history that was used now.
    pub(super) fn new(history: History, used_ms: u64) -> Self {
        metrics::gauge!("hub_recovery_histories").increment(1.0);
        Self { history, used_ms }
    }
}

impl Drop for KeptHistory {
    fn drop(&mut self) {
        metrics::gauge!("hub_recovery_histories").decrement(1.0);
    }
}

impl CachedSnapshot {
    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.encoded_ms) < SNAPSHOT_SHARED_MS
    }
}
