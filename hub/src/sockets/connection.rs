//! One connection: read, write and answer at once, then close.
//!
//! Operations that wait (verify a token, subscribe to a guild) run one at a time. The connection
//! reads meanwhile: it answers pings, notices its end, and defers the frames behind the operation.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use launch::clock::Monotonic;
use proto::GuildId;
use proto::close::CloseCode;
use proto::frame::{
    Ack, AckFrame, Correlation, ErrorFrame, FRAME_VERSION, Notice, NoticeFrame, ServerFrame,
};
use proto::problem::Code;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::fanout::Fanout;
use super::frames::Frame;
use super::limits::SocketLimits;
use super::outbox::Outbox;
use super::registry::{ConnectionId, Registration};
use super::session::{Action, Session, Subscribe, error_frame};
use super::wire::{Reader, Received, Wire, Writer};
use crate::access::Access;
use crate::auth::{AuthError, Principal, Verifier};
use crate::error::{ApiError, ErrorLog};

/// What every connection uses.
pub(super) struct Context {
    pub(super) verifier: Verifier,
    pub(super) access: Access,
    pub(super) fanout: Fanout,
    pub(super) errors: ErrorLog,
    pub(super) limits: SocketLimits,
    /// Cancelled when the hub drains.
    pub(super) draining: CancellationToken,
    pub(super) clock: Monotonic,
}

/// Serves a connection that was just opened until its end.
pub(super) async fn serve(context: &Context, registration: Registration, wire: Wire) {
    let id = registration.id;
    let outbox = Outbox::new(context.limits.outbox_bytes_max);
    let Wire {
        mut reader,
        mut writer,
    } = wire;
    let (pings, mut pings_due) = mpsc::channel(1);
    let connection = Connection {
        session: Session::new(
            format!("{id:x}"),
            context.access.clone(),
            context.limits.session.clone(),
            context.clock.elapsed_ms(),
        ),
        context,
        registration,
        outbox: outbox.clone(),
        pings,
        queue: VecDeque::new(),
        pending_op: None,
    };
    // With its reading half, the connection drops its registration and its pending operation.
    let code = tokio::select! {
        code = connection.read(&mut reader) => code,
        () = write(&outbox, &mut pings_due, &mut writer) => None,
    };
    for guild in context.access.guilds() {
        context.fanout.unsubscribe(id, *guild);
    }
    let closing = async {
        match code {
            Some(code) => {
                metrics::counter!("hub_sockets_closed_total", "code" => code.code().to_string())
                    .increment(1);
                close(writer, reader, &outbox, code).await;
            }
            // The peer's Close is answered with the same (RFC 6455, section 5.5.1).
            None => drop(writer.flush().await),
        }
    };
    let close_timeout = Duration::from_millis(context.limits.close_timeout_ms);
    let _late = timeout(close_timeout, closing).await;
}

/// Writes the outbox's frames and the pings until the connection breaks.
async fn write(outbox: &Outbox, pings_due: &mut mpsc::Receiver<()>, writer: &mut Writer) {
    loop {
        tokio::select! {
            frames = outbox.take() => {
                writer.queue(frames.iter().map(Frame::text));
                if writer.write().await.is_err() {
                    return;
                }
            }
            Some(()) = pings_due.recv() => {
                if writer.ping().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Writes the waiting frames and the Close frame, then waits for the peer's.
async fn close(mut writer: Writer, mut reader: Reader, outbox: &Outbox, code: CloseCode) {
    writer.queue(outbox.take_now().iter().map(Frame::text));
    if writer.write().await.is_err() || writer.close(code).await.is_err() {
        return;
    }
    loop {
        match reader.receive(usize::MAX).await {
            // The peer's own Close completes the closing handshake.
            Received::Closed => return,
            // The library reads no further after an error, but the peer may still send.
            Received::Gone | Received::Invalid(_) => break,
            Received::Text(_) | Received::Control { .. } => {}
        }
    }
    Wire { reader, writer }.discard().await;
}

/// The reading half of a connection: it does what the session asks for.
struct Connection<'a> {
    session: Session,
    context: &'a Context,
    registration: Registration,
    outbox: Outbox,
    pings: mpsc::Sender<()>,
    /// The session's actions that are not done yet.
    queue: VecDeque<Action>,
    pending_op: Option<PendingOp<'a>>,
}

/// The operation that the connection waits for.
type PendingOp<'a> = Pin<Box<dyn Future<Output = OpResult> + Send + 'a>>;

/// The result of an operation.
enum OpResult {
    Verified(Result<Principal, AuthError>),
    Subscribed(Result<(), SubscribeError>),
}

/// A guild has too many views for one more subscription.
struct SubscribeError {
    guild: GuildId,
    re: Option<Correlation>,
    has_another: bool,
}

impl SubscribeError {
    fn send(&self, outbox: &Outbox, ts: u64) {
        let detail = "too many different choices of this guild's rooms";
        let error = ApiError::new(Code::Unavailable, detail).retry_after_ms(10_000);
        let error = ServerFrame::Error(error_frame(&error, self.re.clone(), ts));
        if self.re.is_some() || self.has_another {
            outbox.push(text(&error));
            return;
        }
        // The error does not name the guild of an `auth`: clients expect that in the very next frame.
        let guild_id = self.guild;
        let unsubscribed = ServerFrame::Ack(AckFrame {
            v: FRAME_VERSION,
            ack: Ack::Unsubscribed { guild_id },
            re: None,
            ts,
        });
        outbox.push_together([text(&error), text(&unsubscribed)]);
    }
}

impl<'a> Connection<'a> {
    /// Reads until the connection ends: with this code, or because the peer is gone.
    async fn read(mut self, reader: &mut Reader) -> Option<CloseCode> {
        let (context, outbox) = (self.context, self.outbox.clone());
        let mut was_paused = false;
        loop {
            let (is_paused, waits_for_room) = (self.session.read_paused(), self.waits_for_room());
            if std::mem::replace(&mut was_paused, is_paused) && !is_paused {
                reader.resume();
                self.session.resume_reading(context.clock.elapsed_ms());
            }
            let bytes_max = self.session.message_bytes_max();
            let now_ms = context.clock.elapsed_ms();
            let due_ms = self.session.due_ms().saturating_sub(now_ms);
            let code = tokio::select! {
                // A message that is here already is not late: read it before the clock is asked.
                biased;
                received = reader.receive(bytes_max), if !is_paused => match received {
                    Received::Closed | Received::Gone => return None,
                    received => self.on_received(received),
                },
                result = self.op_done() => self.on_op_done(result),
                () = outbox.room(), if waits_for_room => self.drain_queue(),
                () = tokio::time::sleep(Duration::from_millis(due_ms)) => {
                    let now_ms = context.clock.elapsed_ms();
                    let actions = self.session.tick(now_ms, launch::clock::now_ms());
                    self.act(actions)
                }
                code = outbox.closed() => Some(code),
                () = context.draining.cancelled() => Some(self.drain()),
            };
            if code.is_some() {
                return code;
            }
        }
    }

    fn on_received(&mut self, received: Received) -> Option<CloseCode> {
        let (now_ms, ts) = (self.context.clock.elapsed_ms(), launch::clock::now_ms());
        let actions = match received {
            Received::Text(text) => {
                let is_busy = self.is_busy();
                self.session.text(&text, is_busy, now_ms, ts)
            }
            Received::Control { pong } => self.session.control(pong, now_ms, ts),
            Received::Invalid(CloseCode::TooBig) => self.session.too_big(ts),
            Received::Invalid(code) => return Some(code),
            Received::Closed | Received::Gone => return None,
        };
        self.act(actions)
    }

    /// Asks the client to reconnect, at a random time.
    fn drain(&self) -> CloseCode {
        let spread_ms = self.context.limits.reconnect_spread_ms;
        let reconnect_after_ms = rand::RngExt::random_range(&mut rand::rng(), 0..=spread_ms);
        self.send(&ServerFrame::Notice(NoticeFrame {
            v: FRAME_VERSION,
            notice: Notice::Draining { reconnect_after_ms },
            ts: launch::clock::now_ms(),
        }));
        CloseCode::GoingAway
    }

    /// Whether an earlier request is not done.
    fn is_busy(&self) -> bool {
        self.pending_op.is_some() || !self.queue.is_empty()
    }

    /// Subscriptions start one after the other, so a client that reads gets all of them.
    fn waits_for_room(&self) -> bool {
        self.pending_op.is_none() && !self.queue.is_empty()
    }

    async fn op_done(&mut self) -> OpResult {
        match &mut self.pending_op {
            Some(op) => op.await,
            None => pending().await,
        }
    }

    fn on_op_done(&mut self, result: OpResult) -> Option<CloseCode> {
        self.pending_op = None;
        let ts = launch::clock::now_ms();
        match result {
            OpResult::Verified(result) => {
                if let Err(AuthError::Unauthorized(reason)) = &result {
                    self.log_unauthorized(reason);
                }
                let expires_in_ms = result.as_ref().map_or(0, |principal| {
                    i64::try_from(principal.expires_at_ms)
                        .unwrap_or(i64::MAX)
                        .saturating_sub_unsigned(ts)
                });
                let now_ms = self.context.clock.elapsed_ms();
                let actions = self.session.verified(result, expires_in_ms, now_ms, ts);
                self.queue.extend(actions);
            }
            OpResult::Subscribed(Ok(())) => {}
            OpResult::Subscribed(Err(error)) => {
                error.send(&self.outbox, ts);
                if !error.has_another {
                    self.session.forget(error.guild);
                }
            }
        }
        self.drain_queue()
    }

    /// The client does not get the reason. The log has it, with the connection's name.
    fn log_unauthorized(&self, reason: &str) {
        if let Some(unlogged) = self.context.errors.admit() {
            let connection_id = format!("{:x}", self.registration.id);
            let code = Code::Unauthorized.name();
            tracing::info!(connection_id, code, %reason, unlogged, "refused");
        }
    }

    /// Does the session's actions, and returns the code if the connection ends. While the
    /// connection is busy, these are answers and the end, which overtake the queue.
    fn act(&mut self, actions: Vec<Action>) -> Option<CloseCode> {
        if self.is_busy() {
            return actions.into_iter().find_map(|action| self.perform(action));
        }
        self.queue.extend(actions);
        self.drain_queue()
    }

    /// Does the queued actions, and then the deferred frames, until an operation must be waited for.
    fn drain_queue(&mut self) -> Option<CloseCode> {
        while self.pending_op.is_none() {
            let Some(action) = self.queue.pop_front() else {
                let deferred = self.session.next(launch::clock::now_ms())?;
                self.queue.extend(deferred);
                continue;
            };
            if matches!(action, Action::Subscribe(_)) && !self.outbox.has_room() {
                self.queue.push_front(action);
                return None;
            }
            if let Some(code) = self.perform(action) {
                return Some(code);
            }
        }
        None
    }

    fn perform(&mut self, action: Action) -> Option<CloseCode> {
        match action {
            Action::Send(frame) => self.send(&frame),
            Action::Verify(token) => {
                let verifier = &self.context.verifier;
                let op = async move { OpResult::Verified(verifier.verify(&token).await) };
                self.pending_op = Some(Box::pin(op));
            }
            Action::Authenticated(principal) => {
                if !self.registration.authenticate(&principal.subject) {
                    self.send_too_many_connections();
                    return Some(CloseCode::TooMany);
                }
            }
            Action::Subscribe(request) => {
                let (id, outbox) = (self.registration.id, self.outbox.clone());
                let op = subscribe(&self.context.fanout, id, outbox, request);
                self.pending_op = Some(Box::pin(op));
            }
            Action::Unsubscribe(guild) => {
                self.context.fanout.unsubscribe(self.registration.id, guild);
            }
            // If the channel is full, an earlier ping is still to be sent.
            Action::Ping => drop(self.pings.try_send(())),
            Action::Close(code) => return Some(code),
        }
        None
    }

    fn send_too_many_connections(&self) {
        let detail = "too many connections of this subject";
        let error = ApiError::new(Code::RateLimited, detail).retry_after_ms(10_000);
        let error = ErrorFrame {
            connection_id: Some(format!("{:x}", self.registration.id)),
            ..error_frame(&error, None, launch::clock::now_ms())
        };
        self.send(&ServerFrame::Error(error));
    }

    fn send(&self, frame: &ServerFrame) {
        self.outbox.push(text(frame));
    }
}

async fn subscribe(
    fanout: &Fanout,
    id: ConnectionId,
    outbox: Outbox,
    request: Subscribe,
) -> OpResult {
    let Subscribe { view, recover, re } = request;
    let opening = |recovered, pos| {
        text(&ServerFrame::Ack(AckFrame {
            v: FRAME_VERSION,
            ack: Ack::Subscribed {
                guild_id: view.guild(),
                recovered,
                pos,
            },
            re: re.clone(),
            ts: launch::clock::now_ms(),
        }))
    };
    let subscribed = fanout.subscribe(id, &view, recover.as_deref(), &outbox, opening);
    OpResult::Subscribed(subscribed.await.map_err(|too_many| SubscribeError {
        guild: view.guild(),
        has_another: too_many.has_another,
        re,
    }))
}

fn text(frame: &ServerFrame) -> Frame {
    // Strings, numbers and lists always serialize.
    Frame::complete(serde_json::to_vec(frame).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn contains(frame: &Frame, words: &str) -> bool {
        String::from_utf8_lossy(&frame.text()).contains(words)
    }

    #[test]
    fn a_refused_guild_of_an_auth_is_named_in_the_next_frame_also_between_live_events() {
        let outbox = Outbox::new(1_000_000);
        let error = SubscribeError {
            guild: GuildId::new(7).unwrap(),
            re: None,
            has_another: false,
        };
        let done = AtomicBool::new(false);
        let (mut live, mut named) = (0, Vec::new());
        let until = Instant::now() + DEADLINE;
        thread::scope(|scope| {
            // The fan-out of another guild.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if outbox.has_room() {
                        outbox.push(Frame::complete("live"));
                    }
                }
            });
            while live.min(named.len()) < 1_000 && Instant::now() < until {
                error.send(&outbox, 1);
                let frames = outbox.take_now();
                live += frames
                    .iter()
                    .filter(|frame| contains(frame, "live"))
                    .count();
                let at = frames
                    .iter()
                    .position(|frame| contains(frame, "UNAVAILABLE"));
                let next = at.and_then(|at| frames.get(at + 1));
                named.push(next.is_some_and(|frame| contains(frame, "unsubscribed")));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(live >= 1_000, "no live events meanwhile");
        assert!(named.iter().all(|named| *named));
    }
}
