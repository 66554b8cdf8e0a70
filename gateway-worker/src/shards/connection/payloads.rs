//! The payloads that a connection receives: dispatches, HELLO, and requests for a new connection.

use std::time::Duration;

use proto::gateway::GatewayState;
use serde_json::value::RawValue;
use tokio::time::Instant;
use twilight_gateway::ShardState;

use super::wire::{DISPATCH, HELLO, INVALID_SESSION, Payload, RECONNECT};
use super::{Connection, STOPPED};
use crate::dispatch;
use crate::feed::Feed;

impl Connection {
    /// Takes a payload. Returns the pause before a new connection, if it leads to one.
    pub(super) fn on_text(&mut self, text: &str) -> Option<Duration> {
        self.last_received = Instant::now();
        self.probed_at = None;
        if self.shard.state() == ShardState::Active {
            self.feed.update_quietly(|feed| feed.end_doubt(STOPPED));
        }
        let Ok(payload) = serde_json::from_str::<Payload<'_>>(text) else {
            self.on_unreadable();
            return None;
        };
        let data = payload.d.map_or("null", RawValue::get);
        match payload.op {
            DISPATCH => {
                self.on_dispatch(payload.t.as_deref().unwrap_or(""), payload.s, data);
                return None;
            }
            HELLO => return self.on_hello(),
            RECONNECT => self.set_state(GatewayState::Resuming, "reconnect_asked"),
            INVALID_SESSION if data == "true" => {
                self.set_state(GatewayState::Resuming, "session_invalid");
            }
            INVALID_SESSION => self.set_state(GatewayState::Rebuilding, "session_invalid"),
            _ => return None,
        }
        self.resuming = None;
        if self.is_refused() {
            return Some(self.lose_session());
        }
        // At once the first time. A gateway that asks again and again gets longer pauses.
        let again = self.reconnect.failures() > 0;
        let pause = self.reconnect.after_failure(&mut rand::rng());
        again.then_some(pause)
    }

    /// The connection's HELLO: twilight answers it with RESUME or IDENTIFY at its next poll. Returns the
    /// pause before a new connection, if there will be one.
    fn on_hello(&mut self) -> Option<Duration> {
        (self.greeted, self.unreached) = (true, 0);
        if self.shard.state() == ShardState::Resuming {
            if self.is_refused() {
                // Twilight has connected by itself after a cut: no RESUME beyond the bound.
                return Some(self.lose_session());
            }
            metrics::counter!("worker_resumes_total").increment(1);
            self.resuming = Some(Instant::now());
            self.feed.update(Feed::resume_sent);
        }
        None
    }

    fn on_dispatch(&mut self, name: &str, sequence: Option<u64>, data: &str) {
        let label = dispatch::label(name);
        metrics::counter!("worker_dispatches_total", "name" => label).increment(1);
        let (Some(session), Some(sequence)) = (self.shard.session(), sequence) else {
            self.on_unreadable();
            return;
        };
        let read = dispatch::read(name, data);
        let now = launch::clock::now_ms();
        launch::mutation::pass("received");
        let tally = self
            .feed
            .update(|feed| feed.receive(session.id(), sequence, read, now));
        launch::mutation::pass("queued");
        tally.record();
        let shard = self.id.number();
        if tally.unreadable {
            metrics::counter!("worker_illegible_total", "name" => label).increment(1);
            tracing::warn!(
                shard,
                sequence,
                dispatch = label,
                "unreadable dispatch; asking Discord's REST instead of guessing"
            );
        }
        if tally.full > 0 {
            tracing::warn!(
                shard,
                sequence,
                "the outbox is full; a guild owes a snapshot instead of its events"
            );
        }
        match label {
            "READY" => {
                self.resuming = None;
                self.closing = false;
                self.reconnect.reset();
                tracing::info!(shard, "gateway session begun");
            }
            "RESUMED" => {
                self.resuming = None;
                self.feed.update(Feed::resume_answered);
                self.reconnect.reset();
                tracing::info!(shard, sequence, "gateway session resumed");
            }
            _ => {}
        }
    }

    /// A payload that cannot be read at all: it may have changed anything.
    pub(super) fn on_unreadable(&self) {
        metrics::counter!("worker_payloads_unreadable_total").increment(1);
        tracing::warn!(
            shard = self.id.number(),
            "a gateway payload cannot be read; the shard's guilds are read again by identifying"
        );
        let now = launch::clock::now_ms();
        self.feed.update(|feed| feed.on_unreadable(now)).record();
    }
}
