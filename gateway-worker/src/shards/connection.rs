//! One shard's connection, from its first HELLO to its resumable end.
//!
//! Twilight connects, resumes and identifies by itself; this module decides when it may. What the
//! connection receives is in `payloads`, how connections end in `ends`, the periodic check in
//! `checks`. `rebuilds` plans identifies for unreadable guilds, `wire` has the wire format.

mod checks;
mod ends;
mod payloads;
mod rebuilds;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use proto::gateway::GatewayState;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use twilight_gateway::{
    CloseFrame, Config as ShardConfig, ConfigBuilder, Message, Session, Shard, ShardId,
};

use super::Refused;
use super::identify_queue::IdentifyQueue;
use crate::config::{GatewaySettings, ms};
use crate::feed::{Feed, SharedFeed};
use crate::retry::Backoff;
use rebuilds::Rebuilds;
use wire::{HELLO, Payload, Received, is_disconnected, receive};

/// The reason of a shard whose process was stopped, until its connection receives something.
const STOPPED: &str = "worker_was_stopped";
/// How often the connection is checked.
const CHECK_EVERY: Duration = Duration::from_millis(500);
/// How long Discord has to answer our Close when the worker stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// One shard's connection.
pub(crate) struct Connection {
    id: ShardId,
    shard: Shard<IdentifyQueue>,
    config: ShardConfig<IdentifyQueue>,
    queue: IdentifyQueue,
    feed: Arc<SharedFeed>,
    settings: GatewaySettings,
    /// How long the hub may take to confirm that this worker still has the shard.
    fence_check: Duration,
    /// Before the next attempt to connect.
    reconnect: Backoff,
    /// Before the next identify because of something unreadable.
    rebuilds: Rebuilds,
    /// Twilight was asked to close, and still has the session.
    closing: bool,
    /// When something was last received, or the last moment when silence was expected.
    last_received: Instant,
    /// When a probe was sent that has no answer yet.
    probed_at: Option<Instant>,
    /// When a RESUME was sent that has no RESUMED yet.
    resuming: Option<Instant>,
    /// This connection has received HELLO.
    greeted: bool,
    /// Connections in a row that ended before HELLO.
    unreached: u32,
}

impl Connection {
    pub(crate) fn new(
        (number, total): (u32, u32),
        config: ShardConfig<IdentifyQueue>,
        queue: IdentifyQueue,
        feed: Arc<SharedFeed>,
        settings: GatewaySettings,
        fence_check: Duration,
    ) -> Self {
        let id = ShardId::new_checked(number, total).unwrap_or(ShardId::ONE);
        if feed.read(Feed::resumes) >= settings.resume_attempts_max {
            // The workers before have already tried so often.
            report_lost_session(&feed, number);
        }
        let mut first = ConfigBuilder::from(config.clone());
        if let Some((session, sequence)) = feed.read(|feed| {
            feed.resume()
                .map(|(session, sequence)| (session.clone(), sequence))
        }) {
            tracing::info!(
                shard = number,
                sequence,
                "resuming the gateway session of the worker before"
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
            queue,
            feed,
            reconnect: Backoff::new(Duration::from_millis(500), ms(settings.reconnect_max_ms)),
            rebuilds: Rebuilds::new(
                ms(settings.rebuild_min_ms),
                ms(settings.rebuild_max_ms),
                Instant::now(),
            ),
            closing: false,
            last_received: Instant::now(),
            probed_at: None,
            resuming: None,
            greeted: false,
            unreached: 0,
            settings,
        }
    }

    /// Keeps the shard connected until stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Refused> {
        let feed = Arc::clone(&self.feed);
        let mut look = interval(CHECK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let pause = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.close().await;
                    return Ok(());
                }
                _ = look.tick() => match self.check() {
                    Some(pause) => pause,
                    None => continue,
                },
                () = feed.to_identify() => {
                    self.plan_rebuild();
                    continue;
                }
                heard = receive(&mut self.shard) => match heard {
                    Received::Message(Some(Ok(Message::Text(text)))) => match self.on_text(&text) {
                        Some(pause) => pause,
                        None => continue,
                    },
                    Received::Message(Some(Ok(Message::Close(frame)))) => {
                        self.on_close(frame.map_or(0, |frame| frame.code))?
                    }
                    Received::Message(Some(Err(error))) => self.on_error(&error),
                    Received::Message(None) => return Err(Refused::of(0)),
                    // Our own Close. An IDENTIFY follows, and the identify queue asks the hub.
                    Received::Cut if self.closing && self.shard.session().is_none() => {
                        self.closing = false;
                        continue;
                    }
                    Received::Cut => self.on_cut(),
                },
            };
            let pause = self.on_end(pause);
            // A worker that resumed this session meanwhile has claimed the shard: the hub knows.
            let ready = async {
                tokio::join!(feed.ask_hub(self.fence_check), sleep(pause));
            };
            tokio::select! {
                () = ready => self.last_received = Instant::now(),
                () = stop.cancelled() => {}
            }
        }
    }

    /// Begins a new session. Returns the pause before: none, since the identify queue has its own pause
    /// and budget.
    fn lose_session(&mut self) -> Duration {
        report_lost_session(&self.feed, self.id.number());
        self.renew(Resume::No);
        self.reconnect.reset();
        Duration::ZERO
    }

    /// Whether Discord has answered none of RESUME_ATTEMPTS_MAX RESUMEs.
    fn is_refused(&self) -> bool {
        let resumes = self.feed.read(Feed::resumes);
        self.shard.session().is_some() && resumes >= self.settings.resume_attempts_max
    }

    fn set_state(&self, state: GatewayState, reason: &'static str) {
        self.feed.update(|feed| feed.set_gateway(state, reason));
    }

    /// A new connection, with or without the old session. A session that was to be closed is dropped.
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
        self.probed_at = None;
    }

    /// Closes so that the session can be resumed.
    async fn close(&mut self) {
        self.set_state(GatewayState::Resuming, "worker_stopping");
        if is_disconnected(&self.shard) {
            return;
        }
        self.shard.close(CloseFrame::RESUME);
        let goodbye = async {
            // What still comes is replayed after the next RESUME. A HELLO belongs to the connection
            // that twilight opens next: nothing may be sent there.
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

/// Discord does not resume the shard's session: it is given up, and the next delivery reports it.
fn report_lost_session(feed: &SharedFeed, shard: u32) {
    metrics::counter!("worker_sessions_lost_total").increment(1);
    tracing::warn!(
        shard,
        resumes = feed.read(Feed::resumes),
        "Discord does not resume the gateway session; identifying"
    );
    feed.update(Feed::lose_session);
}

/// Whether a new connection resumes the old session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resume {
    Yes,
    No,
}

#[cfg(test)]
mod tests;
