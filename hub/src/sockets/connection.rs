//! One connection's life: greet, listen and write at once, say goodbye.
//!
//! What takes its time (a token to verify, a guild to subscribe) is an *errand*, one at a time.
//! The connection listens meanwhile: it answers pings, notices its end, and holds back what has
//! to come behind the errand.

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use proto::GuildId;
use proto::close::CloseCode;
use proto::frame::{
    Ack, AckFrame, Correlation, ErrorFrame, FRAME_VERSION, Notice, NoticeFrame, ServerFrame,
};
use proto::problem::Code;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Shared;
use super::fanout::ConnectionId;
use super::frames::Frame;
use super::outbox::Outbox;
use super::registry::Place;
use super::session::{Action, Session, Subscribe, error_frame};
use super::wire::{Reader, Received, Wire, Writer};
use crate::auth::{AuthError, Principal, Reason};
use crate::error::ApiError;

/// Lives a connection that was just opened until its end.
pub(super) async fn live(shared: &Shared, place: Place, wire: Wire) {
    let id = place.id;
    let outbox = Outbox::new(shared.limits.outbox_bytes_max);
    let Wire {
        mut reader,
        mut writer,
    } = wire;
    let (pings, mut ping_wanted) = mpsc::channel(1);
    let conversation = Conversation {
        session: Session::new(
            format!("{id:x}"),
            shared.access.clone(),
            shared.limits.session.clone(),
            shared.now_ms(),
        ),
        shared,
        place,
        outbox: outbox.clone(),
        pings,
        todo: VecDeque::new(),
        errand: None,
    };
    let writing = async {
        loop {
            tokio::select! {
                frames = outbox.take() => {
                    writer.queue(frames.iter().map(Frame::text));
                    if writer.write().await.is_err() {
                        return;
                    }
                }
                Some(()) = ping_wanted.recv() => {
                    if writer.ping().await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    // The conversation ends here, with its place and its errand: nothing more is queued.
    let code = tokio::select! {
        code = conversation.listen(&mut reader) => code,
        () = writing => None,
    };
    for guild in shared.access.guilds() {
        shared.fanout.unsubscribe(id, *guild);
    }
    // The goodbye may take its time.
    let farewell = async {
        match code {
            Some(code) => {
                metrics::counter!("hub_sockets_closed_total", "code" => code.code().to_string())
                    .increment(1);
                say_goodbye(writer, reader, &outbox, code).await;
            }
            // The peer's Close is answered with the same (RFC 6455, section 5.5.1).
            None => drop(writer.flush().await),
        }
    };
    let goodbye = Duration::from_millis(shared.limits.close_timeout_ms);
    let _late = timeout(goodbye, farewell).await;
}

async fn say_goodbye(mut writer: Writer, mut reader: Reader, outbox: &Outbox, code: CloseCode) {
    writer.queue(outbox.take_now().iter().map(Frame::text));
    if writer.write().await.is_err() || writer.close(code).await.is_err() {
        return;
    }
    loop {
        match reader.receive(usize::MAX).await {
            // The peer's own Close ends the connection in order.
            Received::Closed => return,
            // The library reads no further after an error, but the peer may still send.
            Received::Gone | Received::Wrong(_) => break,
            Received::Text(_) | Received::Control { .. } => {}
        }
    }
    Wire { reader, writer }.discard().await;
}

/// The listening half of a connection: what the session says, done.
struct Conversation<'a> {
    session: Session,
    shared: &'a Shared,
    place: Place,
    outbox: Outbox,
    pings: mpsc::Sender<()>,
    /// What the session said and is still to be done.
    todo: VecDeque<Action>,
    errand: Option<Errand<'a>>,
}

/// Something that takes its time.
type Errand<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;

/// How an errand ended.
enum Done {
    Verified(Result<Principal, AuthError>),
    Subscribed(Result<(), Refused>),
}

/// A guild has too many views for one more subscription.
struct Refused {
    guild: GuildId,
    re: Option<Correlation>,
    watches_another: bool,
}

impl Refused {
    fn say(&self, outbox: &Outbox, ts: u64) {
        let refusal = ApiError::new(
            Code::Unavailable,
            "too many different choices of this guild's rooms",
        );
        let error = error_frame(&refusal.retry_after_ms(10_000), self.re.clone(), ts);
        let error = ServerFrame::Error(error);
        if self.re.is_some() || self.watches_another {
            outbox.push(text(&error));
            return;
        }
        // Nothing in the error says which guild of an `auth` it is; a page looks for that in the
        // very next frame.
        let guild_id = self.guild;
        let named = ServerFrame::Ack(AckFrame {
            v: FRAME_VERSION,
            ack: Ack::Unsubscribed { guild_id },
            re: None,
            ts,
        });
        outbox.push_together([text(&error), text(&named)]);
    }
}

impl<'a> Conversation<'a> {
    /// Listens until the connection ends: with this code, or because the peer is gone.
    async fn listen(mut self, reader: &mut Reader) -> Option<CloseCode> {
        let (shared, outbox) = (self.shared, self.outbox.clone());
        let mut was_deaf = false;
        loop {
            let (is_deaf, waits_for_room) = (self.session.is_deaf(), self.waits_for_room());
            if std::mem::replace(&mut was_deaf, is_deaf) && !is_deaf {
                reader.listen_again();
                self.session.listen_again(shared.now_ms());
            }
            let bytes_max = self.session.message_bytes_max();
            let due_ms = self.session.due_ms().saturating_sub(shared.now_ms());
            let code = tokio::select! {
                // What has come already is heard before the clock is asked whether it is late.
                biased;
                received = reader.receive(bytes_max), if !is_deaf => match received {
                    Received::Text(text) => self.hear(&text),
                    Received::Control { pong } => {
                        let actions = self.session.control(pong, shared.now_ms(), launch::clock::now_ms());
                        self.act(actions)
                    }
                    Received::Closed | Received::Gone => return None,
                    Received::Wrong(CloseCode::TooBig) => {
                        let actions = self.session.too_big(launch::clock::now_ms());
                        self.act(actions)
                    }
                    Received::Wrong(code) => Some(code),
                },
                done = self.errand_done() => self.finish(done),
                () = outbox.room(), if waits_for_room => self.go_on(),
                () = tokio::time::sleep(Duration::from_millis(due_ms)) => {
                    let actions = self.session.tick(shared.now_ms(), launch::clock::now_ms());
                    self.act(actions)
                }
                code = outbox.closed() => Some(code),
                () = shared.draining.cancelled() => {
                    self.send(&ServerFrame::Notice(NoticeFrame {
                        v: FRAME_VERSION,
                        notice: Notice::Draining { reconnect_after_ms: spread(shared.limits.reconnect_spread_ms) },
                        ts: launch::clock::now_ms(),
                    }));
                    Some(CloseCode::GoingAway)
                }
            };
            if code.is_some() {
                return code;
            }
        }
    }

    fn hear(&mut self, text: &str) -> Option<CloseCode> {
        let (now_ms, ts) = (self.shared.now_ms(), launch::clock::now_ms());
        let is_busy = self.is_busy();
        let actions = self.session.text(text, is_busy, now_ms, ts);
        self.act(actions)
    }

    /// Whether something that was asked for is still to be done.
    fn is_busy(&self) -> bool {
        self.errand.is_some() || !self.todo.is_empty()
    }

    /// One subscription after the other: whoever reads gets all, however many there are.
    fn waits_for_room(&self) -> bool {
        self.errand.is_none() && !self.todo.is_empty()
    }

    async fn errand_done(&mut self) -> Done {
        match &mut self.errand {
            Some(errand) => errand.await,
            None => pending().await,
        }
    }

    fn finish(&mut self, done: Done) -> Option<CloseCode> {
        self.errand = None;
        let ts = launch::clock::now_ms();
        match done {
            Done::Verified(result) => {
                if let Err(AuthError::Unauthorized(reason)) = &result {
                    self.log_refusal(reason);
                }
                let expires_in_ms = result.as_ref().map_or(0, |principal| {
                    i64::try_from(principal.expires_at_ms)
                        .unwrap_or(i64::MAX)
                        .saturating_sub_unsigned(ts)
                });
                let now_ms = self.shared.now_ms();
                let actions = self.session.verified(result, expires_in_ms, now_ms, ts);
                self.todo.extend(actions);
            }
            Done::Subscribed(Ok(())) => {}
            Done::Subscribed(Err(refused)) => self.refuse(&refused, ts),
        }
        self.go_on()
    }

    /// The client gets nothing of the reason. The log names it with the connection.
    fn log_refusal(&self, reason: &Reason) {
        if let Some(unlogged) = self.shared.refusals.admit() {
            let connection_id = format!("{:x}", self.place.id);
            let code = Code::Unauthorized.name();
            tracing::info!(connection_id, code, %reason, unlogged, "refused");
        }
    }

    fn refuse(&mut self, refused: &Refused, ts: u64) {
        refused.say(&self.outbox, ts);
        if !refused.watches_another {
            self.session.forget(refused.guild);
        }
    }

    /// Does what the session says; the code if the connection is to end. What it says while
    /// something waits are answers, and the end: they overtake it.
    fn act(&mut self, actions: Vec<Action>) -> Option<CloseCode> {
        if self.is_busy() {
            return actions.into_iter().find_map(|action| self.perform(action));
        }
        self.todo.extend(actions);
        self.go_on()
    }

    /// Does what is to be done, until something has to be waited for.
    fn go_on(&mut self) -> Option<CloseCode> {
        while self.errand.is_none() {
            let Some(action) = self.todo.pop_front() else {
                let held_back = self.session.next(launch::clock::now_ms())?;
                self.todo.extend(held_back);
                continue;
            };
            if matches!(action, Action::Subscribe(_)) && !self.outbox.has_room() {
                self.todo.push_front(action);
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
                let verifier = &self.shared.verifier;
                let errand = async move { Done::Verified(verifier.verify(&token).await) };
                self.errand = Some(Box::pin(errand));
            }
            Action::Authenticated(principal) => {
                if !self.place.name(&principal.subject) {
                    let refusal =
                        ApiError::new(Code::RateLimited, "too many connections of this subject")
                            .retry_after_ms(10_000);
                    let error = ErrorFrame {
                        connection_id: Some(format!("{:x}", self.place.id)),
                        ..error_frame(&refusal, None, launch::clock::now_ms())
                    };
                    self.send(&ServerFrame::Error(error));
                    return Some(CloseCode::TooMany);
                }
            }
            Action::Subscribe(wish) => {
                let errand = subscribe(self.shared, self.place.id, self.outbox.clone(), wish);
                self.errand = Some(Box::pin(errand));
            }
            Action::Unsubscribe(guild) => {
                self.shared.fanout.unsubscribe(self.place.id, guild);
            }
            // One that is still to be sent is as good.
            Action::Ping => drop(self.pings.try_send(())),
            Action::Close(code) => return Some(code),
        }
        None
    }

    fn send(&self, frame: &ServerFrame) {
        self.outbox.push(text(frame));
    }
}

async fn subscribe(shared: &Shared, id: ConnectionId, outbox: Outbox, wish: Subscribe) -> Done {
    let Subscribe { view, recover, re } = wish;
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
    let fanout = &shared.fanout;
    let subscribed = fanout.subscribe(id, &view, recover.as_deref(), &outbox, opening);
    Done::Subscribed(subscribed.await.map_err(|too_many| Refused {
        guild: view.guild(),
        watches_another: too_many.watches_another,
        re,
    }))
}

fn text(frame: &ServerFrame) -> Frame {
    // Strings, numbers and lists: nothing in a frame can fail to be written.
    Frame::whole(serde_json::to_vec(frame).unwrap_or_default())
}

fn spread(over_ms: u64) -> u64 {
    rand::RngExt::random_range(&mut rand::rng(), 0..=over_ms)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Instant;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn is(frame: &Frame, words: &str) -> bool {
        String::from_utf8_lossy(&frame.text()).contains(words)
    }

    #[test]
    fn a_refused_guild_of_an_auth_is_named_in_the_next_frame_whatever_else_is_told_meanwhile() {
        let outbox = Outbox::new(1_000_000);
        let refused = Refused {
            guild: GuildId::new(7).unwrap(),
            re: None,
            watches_another: false,
        };
        let done = AtomicBool::new(false);
        let (mut live, mut named) = (0, Vec::new());
        let until = Instant::now() + DEADLINE;
        thread::scope(|scope| {
            // The fan-out of another guild.
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if outbox.has_room() {
                        outbox.push(Frame::whole("live"));
                    }
                }
            });
            while live.min(named.len()) < 1_000 && Instant::now() < until {
                refused.say(&outbox, 1);
                let frames = outbox.take_now();
                live += frames.iter().filter(|frame| is(frame, "live")).count();
                let error = frames.iter().position(|frame| is(frame, "UNAVAILABLE"));
                let next = error.and_then(|at| frames.get(at + 1));
                named.push(next.is_some_and(|frame| is(frame, "unsubscribed")));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(live >= 1_000, "nothing was told meanwhile");
        assert!(named.iter().all(|named| *named));
    }
}
