//! One shard's connection, from its first HELLO to its resumable end.
//!
//! One subject, although there is much to it: twilight connects, resumes and identifies by itself, and
//! whatever Discord, the hub or the feed say meanwhile changes what it may do next. So everything that
//! tells twilight something stands here, and what only looks or counts stands beside it: what is heard
//! (`wire`), when a guild is worth an identify (`rebuilds`).

mod rebuilds;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use proto::gateway::GatewayState;
use serde_json::value::RawValue;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use twilight_gateway::error::{ReceiveMessageError, ReceiveMessageErrorType};
use twilight_gateway::{
    CloseFrame, Config as ShardConfig, ConfigBuilder, Message, Session, Shard, ShardId, ShardState,
};

use super::Refused;
use super::gate::{Gate, Wait};
use crate::config::{GatewaySettings, ms};
use crate::dispatch;
use crate::feed::{Desk, Feed, count};
use crate::retry::Backoff;
use rebuilds::Rebuilds;
use wire::{
    DISPATCH, HEARTBEAT, HELLO, Heard, INVALID_SESSION, Payload, RECONNECT, is_disconnected, label,
    listen,
};

/// The reason of a shard whose process was stopped, until its connection is heard again.
const STOPPED: &str = "worker_was_stopped";
/// How often the connection is looked after.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long Discord has to answer our Close when the worker stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// After close code 4008, "rate limited": longer than usual.
const RATE_LIMITED_PAUSE: Duration = Duration::from_secs(2);
/// How long a gateway that is asked for a sign of life has to give one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Failures in a row after which the gateway counts as unreachable, or as refusing if it greets.
const UNREACHABLE_AFTER: u32 = 3;
/// One shard's connection.
pub(crate) struct Connection {
    id: ShardId,
    shard: Shard<Gate>,
    config: ShardConfig<Gate>,
    gate: Gate,
    desk: Arc<Desk>,
    settings: GatewaySettings,
    /// How long the hub may take to confirm that this worker still has the shard.
    fence_check: Duration,
    /// Before the next attempt to connect.
    reconnect: Backoff,
    /// Before the next identify because of something illegible.
    rebuilds: Rebuilds,
    /// Twilight was asked to close, and has not let go of the session yet.
    closing: bool,
    /// When the gateway was last heard, or had good reason to be silent.
    heard: Instant,
    /// When it was asked for a sign of life that it has not given yet.
    sounded: Option<Instant>,
    /// A RESUME waits for RESUMED, since it was sent.
    resuming: Option<Instant>,
    /// This connection has received HELLO.
    greeted: bool,
    /// Connections in a row that ended before HELLO.
    unreached: u32,
}

impl Connection {
    pub(crate) fn new(
        (number, total): (u32, u32),
        config: ShardConfig<Gate>,
        gate: Gate,
        desk: Arc<Desk>,
        settings: GatewaySettings,
        fence_check: Duration,
    ) -> Self {
        let id = ShardId::new_checked(number, total).unwrap_or(ShardId::ONE);
        if desk.look(Feed::resumes) >= settings.resume_attempts_max {
            // As often as a worker tries: the ones before have done so.
            lose(&desk, number);
        }
        let mut first = ConfigBuilder::from(config.clone());
        if let Some((session, sequence)) = desk.look(|feed| {
            feed.resume()
                .map(|(session, sequence)| (session.clone(), sequence))
        }) {
            tracing::info!(
                shard = number,
                sequence,
                "going on with the gateway session of the worker before"
            );
            first = first.session(Session::new(sequence, session.id));
            if let Some(url) = session.resume_url {
                first = first.resume_url(url);
            }
        }
        Self {
            id,
            shard: Shard::with_config(id, first.build()),
            config,
            fence_check,
            gate,
            desk,
            reconnect: Backoff::new(Duration::from_millis(500), ms(settings.reconnect_max_ms)),
            rebuilds: Rebuilds::new(
                ms(settings.rebuild_min_ms),
                ms(settings.rebuild_max_ms),
                Instant::now(),
            ),
            closing: false,
            heard: Instant::now(),
            sounded: None,
            resuming: None,
            greeted: false,
            unreached: 0,
            settings,
        }
    }

    /// Keeps the shard connected until stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Refused> {
        let desk = Arc::clone(&self.desk);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.close().await;
                    return Ok(());
                }
                _ = look.tick() => match self.look_after() {
                    Some(pause) => pause,
                    None => continue,
                },
                () = desk.to_identify() => {
                    self.plan_rebuild();
                    continue;
                }
                heard = listen(&mut self.shard) => match heard {
                    Heard::Said(Some(Ok(Message::Text(text)))) => match self.hear(&text) {
                        Some(pause) => pause,
                        None => continue,
                    },
                    Heard::Said(Some(Ok(Message::Close(frame)))) => {
                        self.closed(frame.map_or(0, |frame| frame.code))?
                    }
                    Heard::Said(Some(Err(error))) => self.failed(&error),
                    Heard::Said(None) => return Err(Refused::of(0)),
                    // That is our own Close. What follows is an IDENTIFY, and the gate asks the hub.
                    Heard::Cut if self.closing && self.shard.session().is_none() => {
                        self.closing = false;
                        continue;
                    }
                    Heard::Cut => self.cut(),
                },
            };
            let pause = self.ended(pause);
            // Whoever resumed this session meanwhile has claimed the shard before: the hub tells.
            let ready = async {
                tokio::join!(desk.ask_hub(self.fence_check), sleep(pause));
            };
            tokio::select! {
                () = ready => self.heard = Instant::now(),
                () = stop.cancelled() => {}
            }
        }
    }

    /// Takes a payload. Returns how long to wait before what it leads to, a new connection.
    fn hear(&mut self, text: &str) -> Option<Duration> {
        self.heard = Instant::now();
        self.sounded = None;
        if self.shard.state() == ShardState::Active {
            self.desk.take(|feed| feed.settle_doubt(STOPPED));
        }
        let Ok(payload) = serde_json::from_str::<Payload<'_>>(text) else {
            self.lost();
            return None;
        };
        let data = payload.d.map_or("null", RawValue::get);
        match payload.op {
            DISPATCH => {
                self.dispatch(payload.t.as_deref().unwrap_or(""), payload.s, data);
                return None;
            }
            HELLO => return self.greet(),
            RECONNECT => self.tell(GatewayState::Resuming, "reconnect_asked"),
            INVALID_SESSION if data == "true" => {
                self.tell(GatewayState::Resuming, "session_invalid");
            }
            INVALID_SESSION => self.tell(GatewayState::Rebuilding, "session_invalid"),
            _ => return None,
        }
        self.resuming = None;
        if self.is_refused() {
            return Some(self.lose_session());
        }
        // At once the first time; a gateway that goes on asking is not followed in circles.
        let again = self.reconnect.failures() > 0;
        let pause = self.reconnect.after_failure(&mut rand::rng());
        again.then_some(pause)
    }

    /// The connection's HELLO: twilight answers it with RESUME or IDENTIFY when it is polled next.
    /// Returns how long to wait before a new connection, if there is to be one.
    fn greet(&mut self) -> Option<Duration> {
        (self.greeted, self.unreached) = (true, 0);
        if self.shard.state() == ShardState::Resuming {
            if self.is_refused() {
                // Twilight has connected by itself behind a connection that was cut: not once more.
                return Some(self.lose_session());
            }
            metrics::counter!("worker_resumes_total").increment(1);
            self.resuming = Some(Instant::now());
            self.desk.with(Feed::resume_sent);
        }
        None
    }

    /// A connection has ended, and the next is due after this pause. Returns the pause that holds.
    fn ended(&mut self, pause: Duration) -> Duration {
        self.resuming = None;
        if self.is_refused() {
            return self.lose_session();
        }
        pause
    }

    /// Whether Discord has answered none of as many RESUMEs as are tried.
    fn is_refused(&self) -> bool {
        let resumes = self.desk.look(Feed::resumes);
        self.shard.session().is_some() && resumes >= self.settings.resume_attempts_max
    }

    /// Begins a new session. Returns how long to wait before: not at all, since the identify queue
    /// has its own pause and budget.
    fn lose_session(&mut self) -> Duration {
        lose(&self.desk, self.id.number());
        self.renew(Resume::No);
        self.reconnect.reset();
        Duration::ZERO
    }

    fn dispatch(&mut self, name: &str, sequence: Option<u64>, data: &str) {
        let label = dispatch::label(name);
        metrics::counter!("worker_dispatches_total", "name" => label).increment(1);
        let (Some(session), Some(sequence)) = (self.shard.session(), sequence) else {
            self.lost();
            return;
        };
        let read = dispatch::read(name, data);
        let now = launch::clock::now_ms();
        launch::mutation::pass("received");
        let tally = self
            .desk
            .with(|feed| feed.read(session.id(), sequence, read, now));
        launch::mutation::pass("queued");
        count(tally);
        let shard = self.id.number();
        if tally.illegible {
            metrics::counter!("worker_illegible_total", "name" => label).increment(1);
            tracing::warn!(
                shard,
                sequence,
                dispatch = label,
                "illegible; asking Discord instead of guessing"
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
                self.desk.with(Feed::resume_answered);
                self.reconnect.reset();
                tracing::info!(shard, sequence, "gateway session resumed");
            }
            _ => {}
        }
    }

    /// A payload that can not be read at all: nobody knows what it said, or took away.
    fn lost(&self) {
        metrics::counter!("worker_payloads_unreadable_total").increment(1);
        tracing::warn!(
            shard = self.id.number(),
            "a gateway payload can not be read; the shard's guilds are read anew"
        );
        let now = launch::clock::now_ms();
        count(self.desk.with(|feed| feed.lose(now)));
    }

    /// The connection was closed. Returns how long to wait before the next.
    fn closed(&mut self, code: u16) -> Result<Duration, Refused> {
        metrics::counter!("worker_gateway_closes_total", "code" => label(code)).increment(1);
        if self.shard.state() == ShardState::FatallyClosed {
            return Err(Refused::of(code));
        }
        if matches!(code, 4007 | 4009) {
            // Discord's table: these begin a new session, so there is no point in a RESUME.
            self.renew(Resume::No);
        }
        self.count_unreached();
        let (state, reason) = self.outlook("connection_closed");
        self.tell(state, reason);
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

    /// The connection ended without a word. Returns how long to wait before the next.
    fn cut(&mut self) -> Duration {
        metrics::counter!("worker_gateway_closes_total", "code" => "none").increment(1);
        // Twilight is connecting already: not before the hub has been asked.
        self.renew(Resume::Yes);
        self.count_unreached();
        let (state, reason) = self.outlook("connection_cut");
        self.tell(state, reason);
        let pause = self.reconnect.after_failure(&mut rand::rng());
        tracing::info!(
            shard = self.id.number(),
            ?state,
            wait_ms = pause.as_millis(),
            "gateway connection cut"
        );
        pause
    }

    /// The connection failed otherwise. Its error is not logged: it may hold what was received.
    fn failed(&mut self, error: &ReceiveMessageError) -> Duration {
        match error.kind() {
            ReceiveMessageErrorType::Reconnect => {
                // A fresh shard has no wait of its own (up to 255 s), and it goes to the main
                // address if that of the session is dead.
                self.renew(Resume::Yes);
                self.count_unreached();
                let pause = self.reconnect.after_failure(&mut rand::rng());
                let (state, reason) = self.outlook("connecting");
                self.tell(state, reason);
                metrics::counter!("worker_gateway_connect_failures_total").increment(1);
                tracing::warn!(
                    shard = self.id.number(),
                    failures = self.reconnect.failures(),
                    wait_ms = pause.as_millis(),
                    "can not connect to the gateway"
                );
                pause
            }
            ReceiveMessageErrorType::Deserializing { .. } => {
                self.lost();
                Duration::ZERO
            }
            // Twilight closes a connection that it can not decompress, and resumes.
            _ => Duration::ZERO,
        }
    }

    /// A connection has ended: whether the gateway was reached at all is counted.
    fn count_unreached(&mut self) {
        if !std::mem::take(&mut self.greeted) {
            self.unreached = self.unreached.saturating_add(1);
        }
    }

    /// What is to be expected of a shard that is not connected.
    fn outlook(&self, reason: &'static str) -> (GatewayState, &'static str) {
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

    fn tell(&self, state: GatewayState, reason: &'static str) {
        self.desk.with(|feed| feed.set_gateway(state, reason));
    }

    /// What no message tells: a connection that was cut, or that is silent. Returns how long to
    /// wait before connecting anew.
    fn look_after(&mut self) -> Option<Duration> {
        let was_stopped = self.desk.look_after();
        if was_stopped && self.resuming.is_some() {
            // The answer may have come meanwhile.
            self.resuming = Some(Instant::now());
        }
        if was_stopped && self.desk.look(Feed::is_live) {
            tracing::warn!(
                shard = self.id.number(),
                "this process was stopped for a while; the gateway may have given it up"
            );
            self.tell(GatewayState::Resuming, STOPPED);
            self.sound();
        }
        if self.sounded.is_some_and(|at| at.elapsed() > SIGN_OF_LIFE) {
            return Some(self.give_up());
        }
        let unanswered = |at: Instant| at.elapsed() > ms(self.settings.resume_answer_ms);
        if self.resuming.is_some_and(unanswered) {
            return Some(self.give_up());
        }
        self.rebuild_if_due();
        // Whatever became of the one before: what can not be known otherwise is not forgotten.
        self.plan_rebuild();
        if self.shard.state() != ShardState::Active && self.desk.look(Feed::is_live) {
            let (state, reason) = self.outlook("connection_closed");
            self.tell(state, reason);
        }
        match self.gate.wait(self.id.number()) {
            Wait::No if self.shard.state() == ShardState::Active => self.heard = Instant::now(),
            Wait::No if self.heard.elapsed() > ms(self.settings.gateway_stall_ms) => {
                return Some(self.give_up());
            }
            Wait::No => {}
            Wait::Turn => self.heard = Instant::now(),
            Wait::Budget => {
                self.heard = Instant::now();
                self.tell(GatewayState::Down, "identify_budget");
            }
        }
        None
    }

    /// Asks the gateway for a sign of life: the next heartbeat may be most of a minute away.
    fn sound(&mut self) {
        let sequence = self.shard.session().map(Session::sequence);
        let heartbeat = serde_json::json!({"op": HEARTBEAT, "d": sequence});
        self.shard.send(heartbeat.to_string());
        self.sounded = Some(Instant::now());
    }

    /// A connection from which nothing is heard is made anew. Returns how long to wait before.
    fn give_up(&mut self) -> Duration {
        metrics::counter!("worker_gateway_stalls_total").increment(1);
        tracing::warn!(shard = self.id.number(), state = ?self.shard.state(), "the gateway is silent; connecting anew");
        self.renew(Resume::Yes);
        self.count_unreached();
        let pause = self.reconnect.after_failure(&mut rand::rng());
        let (state, reason) = self.outlook("gateway_silent");
        self.tell(state, reason);
        pause
    }

    fn rebuild_if_due(&mut self) {
        let now = Instant::now();
        if self.rebuilds.falls_due(now) && self.needs_identify() {
            tracing::warn!(
                shard = self.id.number(),
                "identifying anew, because a guild can not be known otherwise"
            );
            metrics::counter!("worker_rebuilds_total").increment(1);
            self.rebuilds.done(now);
            self.tell(GatewayState::Rebuilding, "illegible");
            if is_disconnected(&self.shard) {
                // There is nothing to close. Twilight would keep the close until it is connected,
                // and the connection may be a fresh one by then.
                self.renew(Resume::No);
            } else {
                self.closing = true;
                self.shard.close(CloseFrame::NORMAL);
            }
        }
    }

    /// Whether the shard has to identify although it has a session; without one it does anyway.
    fn needs_identify(&self) -> bool {
        let keeps = self.shard.session().is_some() && !self.closing;
        keeps && self.desk.look(Feed::wants_identify)
    }

    fn plan_rebuild(&mut self) {
        if !self.needs_identify() {
            return;
        }
        if self.desk.look(Feed::is_overtaken) {
            self.rebuilds.hasten(Instant::now());
        } else {
            self.rebuilds.plan(Instant::now());
        }
    }

    /// A fresh connection, with or without the old session: without, if that was to be closed.
    fn renew(&mut self, resume: Resume) {
        let mut config = ConfigBuilder::from(self.config.clone());
        let closing = std::mem::take(&mut self.closing);
        if let (Resume::Yes, false, Some(session)) = (resume, closing, self.shard.session()) {
            config = config.session(session.clone());
            if let Some(url) = self.shard.resume_url() {
                config = config.resume_url(url.to_owned());
            }
        }
        self.shard = Shard::with_config(self.id, config.build());
        self.sounded = None;
    }

    /// Leaves so that the session can be resumed.
    async fn close(&mut self) {
        self.tell(GatewayState::Resuming, "worker_stopping");
        if is_disconnected(&self.shard) {
            return;
        }
        self.shard.close(CloseFrame::RESUME);
        let goodbye = async {
            // What still comes is replayed to whoever resumes. A HELLO is of the connection that
            // twilight opens after the old one: there, nothing must be said any more.
            while let Some(Ok(Message::Text(text))) = self.shard.next().await {
                if serde_json::from_str::<Payload<'_>>(&text).is_ok_and(|new| new.op == HELLO) {
                    break;
                }
            }
        };
        if timeout(CLOSE_TIMEOUT, goodbye).await.is_err() {
            tracing::info!(shard = self.id.number(), "Discord did not answer the close");
        }
    }
}

/// Discord does not resume the shard's session: it is given up, and the hub hears of it.
fn lose(desk: &Desk, shard: u32) {
    metrics::counter!("worker_sessions_lost_total").increment(1);
    tracing::warn!(
        shard,
        resumes = desk.look(Feed::resumes),
        "Discord does not resume the gateway session; identifying"
    );
    desk.with(Feed::lose_session);
}

/// Whether a fresh connection goes on with the old session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resume {
    Yes,
    No,
}

#[cfg(test)]
mod tests;
