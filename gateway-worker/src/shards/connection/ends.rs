//! Connections that end: the state of the shard then, and the pause before the next connection.

use std::time::Duration;

use proto::gateway::GatewayState;
use twilight_gateway::ShardState;
use twilight_gateway::error::{ReceiveMessageError, ReceiveMessageErrorType};

use super::wire::label;
use super::{Connection, Refused, Resume};

/// After close code 4008, "rate limited": a longer pause than usual.
const RATE_LIMITED_PAUSE: Duration = Duration::from_secs(2);
/// Failures in a row after which the gateway counts as unreachable, or as refusing if it sends HELLO.
const UNREACHABLE_AFTER: u32 = 3;

impl Connection {
    /// A connection has ended, and the next is due after this pause. Returns the actual pause.
    pub(super) fn on_end(&mut self, pause: Duration) -> Duration {
        self.resuming = None;
        if self.is_refused() {
            return self.lose_session();
        }
        pause
    }

    /// The connection was closed. Returns the pause before the next.
    pub(super) fn on_close(&mut self, code: u16) -> Result<Duration, Refused> {
        metrics::counter!("worker_gateway_closes_total", "code" => label(code)).increment(1);
        if self.shard.state() == ShardState::FatallyClosed {
            return Err(Refused::of(code));
        }
        if matches!(code, 4007 | 4009) {
            // Discord's table: after these a new session begins, so a RESUME is useless.
            self.renew(Resume::No);
        }
        self.count_unreached();
        let (state, reason) = self.expected_state("connection_closed");
        self.set_state(state, reason);
        let mut pause = self.reconnect.after_failure(&mut rand::rng());
        if code == 4008 {
            pause += RATE_LIMITED_PAUSE;
        }
        tracing::info!(
            shard = self.id.number(),
            code,
            ?state,
            wait_ms = pause.as_millis(),
            "gateway connection closed"
        );
        Ok(pause)
    }

    /// The connection ended without a Close. Returns the pause before the next.
    pub(super) fn on_cut(&mut self) -> Duration {
        metrics::counter!("worker_gateway_closes_total", "code" => "none").increment(1);
        // Twilight is connecting already; it must not before the hub was asked.
        self.renew(Resume::Yes);
        self.count_unreached();
        let (state, reason) = self.expected_state("connection_cut");
        self.set_state(state, reason);
        let pause = self.reconnect.after_failure(&mut rand::rng());
        tracing::info!(
            shard = self.id.number(),
            ?state,
            wait_ms = pause.as_millis(),
            "gateway connection cut"
        );
        pause
    }

    /// The connection failed otherwise. Its error is not logged: it may contain what was received.
    pub(super) fn on_error(&mut self, error: &ReceiveMessageError) -> Duration {
        match error.kind() {
            ReceiveMessageErrorType::Reconnect => {
                // A new shard has no wait of its own (up to 255 s), and connects to the main URL if
                // that of the session does not answer.
                self.renew(Resume::Yes);
                self.count_unreached();
                let pause = self.reconnect.after_failure(&mut rand::rng());
                let (state, reason) = self.expected_state("connecting");
                self.set_state(state, reason);
                metrics::counter!("worker_gateway_connect_failures_total").increment(1);
                tracing::warn!(
                    shard = self.id.number(),
                    failures = self.reconnect.failures(),
                    wait_ms = pause.as_millis(),
                    "cannot connect to the gateway"
                );
                pause
            }
            ReceiveMessageErrorType::Deserializing { .. } => {
                self.on_unreadable();
                Duration::ZERO
            }
            // Twilight closes a connection that it cannot decompress, and resumes.
            _ => Duration::ZERO,
        }
    }

    /// Counts an ended connection, if it never received HELLO.
    pub(super) fn count_unreached(&mut self) {
        if !std::mem::take(&mut self.greeted) {
            self.unreached = self.unreached.saturating_add(1);
        }
    }

    /// The state and reason of a shard that is not connected.
    pub(super) fn expected_state(&self, reason: &'static str) -> (GatewayState, &'static str) {
        if self.unreached >= UNREACHABLE_AFTER {
            (GatewayState::Down, "gateway_unreachable")
        } else if self.shard.session().is_some() {
            (GatewayState::Resuming, reason)
        } else if self.reconnect.failures() >= UNREACHABLE_AFTER {
            (GatewayState::Down, "gateway_refusing")
        } else {
            (GatewayState::Rebuilding, reason)
        }
    }
}
