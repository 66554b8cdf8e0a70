//! The periodic check of a connection: stalls, unanswered RESUMEs, and planned rebuilds.

use std::time::Duration;

use proto::gateway::GatewayState;
use tokio::time::Instant;
use twilight_gateway::{CloseFrame, Session, ShardState};

use super::super::identify_queue::Wait;
use super::wire::{HEARTBEAT, is_disconnected};
use super::{Connection, Resume, STOPPED};
use crate::config::ms;
use crate::feed::Feed;

/// How long the gateway has to answer a probe.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl Connection {
    /// Finds what no message reports: a connection that is silent. Returns the pause before a new
    /// connection, if one is needed.
    pub(super) fn check(&mut self) -> Option<Duration> {
        let was_stopped = self.feed.record_check();
        if was_stopped && self.resuming.is_some() {
            // RESUMED may be in the socket's buffer.
            self.resuming = Some(Instant::now());
        }
        if was_stopped && self.feed.read(Feed::is_live) {
            tracing::warn!(
                shard = self.id.number(),
                "this process was stopped for a while; the gateway may have ended its session"
            );
            self.set_state(GatewayState::Resuming, STOPPED);
            self.probe();
        }
        if self
            .probed_at
            .is_some_and(|at| at.elapsed() > PROBE_TIMEOUT)
        {
            return Some(self.give_up());
        }
        let unanswered = |at: Instant| at.elapsed() > ms(self.settings.resume_answer_ms);
        if self.resuming.is_some_and(unanswered) {
            return Some(self.give_up());
        }
        self.rebuild_if_due();
        // Planned again however the last rebuild ended: an unreadable guild is not forgotten.
        self.plan_rebuild();
        if self.shard.state() != ShardState::Active && self.feed.read(Feed::is_live) {
            let (state, reason) = self.expected_state("connection_closed");
            self.set_state(state, reason);
        }
        match self.queue.wait(self.id.number()) {
            Wait::No if self.shard.state() == ShardState::Active => {
                self.last_received = Instant::now();
            }
            Wait::No if self.last_received.elapsed() > ms(self.settings.gateway_stall_ms) => {
                return Some(self.give_up());
            }
            Wait::No => {}
            Wait::Slot => self.last_received = Instant::now(),
            Wait::Budget => {
                self.last_received = Instant::now();
                self.set_state(GatewayState::Down, "identify_budget");
            }
        }
        None
    }

    /// Sends a heartbeat now, since the next regular one may be most of a minute away.
    fn probe(&mut self) {
        let sequence = self.shard.session().map(Session::sequence);
        let heartbeat = serde_json::json!({"op": HEARTBEAT, "d": sequence});
        self.shard.send(heartbeat.to_string());
        self.probed_at = Some(Instant::now());
    }

    /// Replaces a silent connection. Returns the pause before the new one.
    fn give_up(&mut self) -> Duration {
        metrics::counter!("worker_gateway_stalls_total").increment(1);
        tracing::warn!(shard = self.id.number(), state = ?self.shard.state(), "the gateway is silent; connecting again");
        self.renew(Resume::Yes);
        self.count_unreached();
        let pause = self.reconnect.after_failure(&mut rand::rng());
        let (state, reason) = self.expected_state("gateway_silent");
        self.set_state(state, reason);
        pause
    }

    fn rebuild_if_due(&mut self) {
        let now = Instant::now();
        if self.rebuilds.falls_due(now) && self.needs_identify() {
            tracing::warn!(
                shard = self.id.number(),
                "identifying again, because a guild can be read in no other way"
            );
            metrics::counter!("worker_rebuilds_total").increment(1);
            self.rebuilds.done(now);
            self.set_state(GatewayState::Rebuilding, "illegible");
            if is_disconnected(&self.shard) {
                // Nothing is connected. Twilight would keep the Close and send it on the next
                // connection.
                self.renew(Resume::No);
            } else {
                self.closing = true;
                self.shard.close(CloseFrame::NORMAL);
            }
        }
    }

    pub(super) fn plan_rebuild(&mut self) {
        if !self.needs_identify() {
            return;
        }
        if self.feed.read(Feed::is_overtaken) {
            self.rebuilds.hasten(Instant::now());
        } else {
            self.rebuilds.plan(Instant::now());
        }
    }

    /// Whether the shard has to identify although it has a session. Without one it identifies anyway.
    fn needs_identify(&self) -> bool {
        let keeps = self.shard.session().is_some() && !self.closing;
        keeps && self.feed.read(Feed::wants_identify)
    }
}
