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
use proto::frame::{Ack, Correlation};
use proto::problem::Code;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::answers;
use super::fanout::{Fanout, TooManyViews};
use super::frames::Frame;
use super::limits::SocketLimits;
use super::outbox::Outbox;
use super::registry::{ConnectionId, Registration};
use super::session::{Action, Session, Subscribe};
use super::wire::{Reader, Received, Wire, Writer};
use crate::access::Access;
use crate::auth::{AuthError, Principal, Verifier};
use crate::error::{ApiError, ErrorLog};

/// What every connection uses.
pub struct Context {
    /// Verifies tokens.
    pub verifier: Verifier,
    /// What a principal may see.
    pub access: Access,
    /// Where connections subscribe.
    pub fanout: Fanout,
    /// Refusals are logged here.
    pub errors: ErrorLog,
    /// The bounds of the endpoint.
    pub limits: SocketLimits,
    /// Cancelled when the hub drains: every connection gets a time to reconnect, and closes.
    pub draining: CancellationToken,
    /// The time of the connections' deadlines.
    pub clock: Monotonic,
}

/// Serves a connection that was just opened until its end.
pub(super) async fn serve(context: &Context, registration: Registration, wire: Wire) {
    let id = registration.id;
    let outbox = Outbox::new(context.limits.outbox_bytes_max);
    let Wire {
        mut reader,
        mut writer,
    } = wire;
    let ping_due = Notify::new();
    let connection = Connection {
        session: Session::new(
            registration.name(),
            context.access.clone(),
            context.limits.session.clone(),
            context.clock.elapsed_ms(),
        ),
        context,
        registration,
        outbox: outbox.clone(),
        ping_due: &ping_due,
        queue: VecDeque::new(),
        pending_op: None,
    };
    // With its reading half, the connection drops its registration and its pending operation.
    let code = tokio::select! {
        code = connection.read(&mut reader) => code,
        () = write(&outbox, &ping_due, &mut writer) => None,
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
async fn write(outbox: &Outbox, ping_due: &Notify, writer: &mut Writer) {
    loop {
        tokio::select! {
            frames = outbox.take() => {
                writer.queue(frames.iter().map(Frame::text));
                if writer.write().await.is_err() {
                    return;
                }
            }
            () = ping_due.notified() => {
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
    ping_due: &'a Notify,
    /// The session's actions that are not done yet.
    queue: VecDeque<Action>,
    pending_op: Option<PendingOp<'a>>,
}

/// The operation that the connection waits for.
type PendingOp<'a> = Pin<Box<dyn Future<Output = OpResult> + Send + 'a>>;

/// The result of an operation.
enum OpResult {
    Verified(Result<Principal, AuthError>),
    Subscribed,
    /// The guild has too many views for this subscription.
    TooManyViews {
        guild: GuildId,
        re: Option<Correlation>,
        has_another: bool,
    },
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
                    let actions = self.session.tick(context.clock.elapsed_ms());
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
        let now_ms = self.context.clock.elapsed_ms();
        let actions = match received {
            Received::Text(text) => {
                let is_busy = self.is_busy();
                self.session.text(&text, is_busy, now_ms)
            }
            Received::Control { pong } => self.session.control(pong, now_ms),
            Received::Invalid(CloseCode::TooBig) => self.session.too_big(),
            Received::Invalid(code) => return Some(code),
            Received::Closed | Received::Gone => return None,
        };
        self.act(actions)
    }

    /// Asks the client to reconnect, at a random time.
    fn drain(&self) -> CloseCode {
        let spread_ms = self.context.limits.reconnect_spread_ms;
        let reconnect_after_ms = rand::RngExt::random_range(&mut rand::rng(), 0..=spread_ms);
        self.outbox.push(answers::draining(reconnect_after_ms));
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
        match result {
            OpResult::Verified(result) => {
                if let Err(AuthError::Unauthorized(reason)) = &result {
                    self.log_unauthorized(reason);
                }
                let expires_in_ms = result.as_ref().map_or(0, |principal| {
                    i64::try_from(principal.expires_at_ms)
                        .unwrap_or(i64::MAX)
                        .saturating_sub_unsigned(launch::clock::now_ms())
                });
                let now_ms = self.context.clock.elapsed_ms();
                self.queue
                    .extend(self.session.verified(result, expires_in_ms, now_ms));
            }
            OpResult::Subscribed => {}
            OpResult::TooManyViews {
                guild,
                re,
                has_another,
            } => self.refuse_view(guild, re, has_another),
        }
        self.drain_queue()
    }

    /// The client does not get the reason. The log has it, with the connection's name.
    fn log_unauthorized(&self, reason: &str) {
        if let Some(unlogged) = self.context.errors.admit() {
            let connection_id = self.registration.name();
            let code = Code::Unauthorized.name();
            tracing::info!(connection_id, code, %reason, unlogged, "refused");
        }
    }

    fn refuse_view(&mut self, guild_id: GuildId, re: Option<Correlation>, has_another: bool) {
        // The error does not name the guild of an `auth`: clients expect that in the very next frame.
        let is_unnamed = re.is_none() && !has_another;
        let detail = "too many different choices of this guild's rooms";
        let error = ApiError::new(Code::Unavailable, detail).retry_after_ms(10_000);
        let unsubscribed = is_unnamed.then(|| answers::ack(Ack::Unsubscribed { guild_id }, None));
        let error = answers::error(&error, re, None);
        self.outbox
            .push_together([error].into_iter().chain(unsubscribed));
        if !has_another {
            self.session.forget(guild_id);
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
                self.queue.extend(self.session.next_deferred()?);
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
            Action::Ack(ack, re) => self.outbox.push(answers::ack(ack, re)),
            Action::Error(error, re) => self.outbox.push(answers::error(&error, re, None)),
            Action::Fail(error, re, code) => return Some(self.fail(&error, re, code)),
            Action::Verify(token) => {
                let verifier = &self.context.verifier;
                let op = async move { OpResult::Verified(verifier.verify(&token).await) };
                self.pending_op = Some(Box::pin(op));
            }
            Action::Authenticated(principal) => {
                if !self.registration.authenticate(&principal.subject) {
                    let detail = "too many connections of this subject";
                    let error = ApiError::new(Code::RateLimited, detail).retry_after_ms(10_000);
                    return Some(self.fail(&error, None, CloseCode::TooMany));
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
            Action::Ping => self.ping_due.notify_one(),
            Action::Close(code) => return Some(code),
        }
        None
    }

    /// Sends the error that ends the connection.
    fn fail(&self, error: &ApiError, re: Option<Correlation>, code: CloseCode) -> CloseCode {
        let name = Some(self.registration.name());
        self.outbox.push(answers::error(error, re, name));
        code
    }
}

async fn subscribe(
    fanout: &Fanout,
    id: ConnectionId,
    outbox: Outbox,
    request: Subscribe,
) -> OpResult {
    let Subscribe { view, recover, re } = request;
    let guild_id = view.guild();
    let opening = |recovered, pos| {
        let subscribed = Ack::Subscribed {
            guild_id,
            recovered,
            pos,
        };
        answers::ack(subscribed, re.clone())
    };
    let subscribed = fanout.subscribe(id, &view, recover.as_deref(), &outbox, opening);
    match subscribed.await {
        Ok(()) => OpResult::Subscribed,
        Err(TooManyViews { has_another }) => OpResult::TooManyViews {
            guild: guild_id,
            re,
            has_another,
        },
    }
}
