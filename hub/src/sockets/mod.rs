//! The browsers' door: one WebSocket each, from the handshake to the goodbye.

pub mod fanout;
mod framing;
pub mod history;
pub mod outbox;
pub mod pen;
mod recovery;
pub mod registry;
pub mod session;
mod watched;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use proto::close::CloseCode;
use proto::frame::{Ack, AckFrame, FRAME_VERSION, Notice, NoticeFrame, ServerFrame};
use proto::problem::Code;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::fanout::Fanout;
use self::outbox::{Frame, Outbox};
use self::registry::{Place, Registry};
use self::session::{Action, Session, SessionLimits, Subscribe, error_frame};
use self::wire::{Handshake, Received, Wire, Writer};
use crate::access::Access;
use crate::auth::Verifier;
use crate::refusal::Refusal;

/// The bounds of the door.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// The bounds of one connection's conversation.
    pub session: SessionLimits,
    /// The largest message, in bytes.
    pub message_bytes_max: usize,
    /// How long a message may take from its first byte to its last, in ms.
    pub message_timeout_ms: u64,
    /// What may wait for one connection, in bytes.
    pub outbox_bytes_max: usize,
    /// How long the goodbye may take, in ms.
    pub close_timeout_ms: u64,
    /// On draining, clients are told to come back spread over this time, in ms.
    pub reconnect_spread_ms: u64,
}

/// The door. A clone is a reference.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    verifier: Verifier,
    access: Access,
    fanout: Fanout,
    registry: Registry,
    origins: Vec<String>,
    limits: SocketLimits,
    draining: CancellationToken,
    connections: TaskTracker,
    started: Instant,
}

impl Sockets {
    /// A door for browsers of these origins. When `draining` is cancelled, every connection is
    /// told when to come back, and closed.
    pub fn new(
        verifier: Verifier,
        access: Access,
        fanout: Fanout,
        registry: Registry,
        origins: Vec<String>,
        limits: SocketLimits,
        draining: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            verifier,
            access,
            fanout,
            registry,
            origins,
            limits,
            draining,
            connections: TaskTracker::new(),
            started: Instant::now(),
        }))
    }

    /// `GET /api/ws`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/api/ws", get(open))
            .with_state(self.clone())
    }

    /// Waits until every connection has ended; call it after `draining` was cancelled.
    pub async fn drained(&self) {
        self.0.connections.close();
        self.0.connections.wait().await;
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

async fn open(State(sockets): State<Sockets>, mut request: Request) -> Result<Response, Refusal> {
    let shared = &sockets.0;
    // Browsers name their page in `Origin`, and pages can not forge it. Whoever omits it is no
    // browser, and has no ambient credentials to abuse either: a token is asked of everybody.
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let known = |origin: &str| shared.origins.iter().any(|known| known == origin);
    match (origins.next(), origins.next()) {
        (None, _) => {}
        (Some(origin), None) if origin.to_str().is_ok_and(known) => {}
        _ => return Err(Refusal::new(Code::Forbidden, "not an allowed origin")),
    }
    // Addresses end up in logs and histories.
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(Refusal::new(
            Code::BadRequest,
            "nothing goes into the address; a token goes into the first frame",
        ));
    }
    let handshake = Handshake::read(&mut request)?;
    if shared.draining.is_cancelled() {
        return Err(Refusal::new(Code::Unavailable, "draining").retry_after_ms(1_000));
    }
    let Some(place) = shared.registry.admit() else {
        metrics::counter!("hub_sockets_refused_total", "why" => "full").increment(1);
        return Err(Refusal::new(Code::Unavailable, "too many connections").retry_after_ms(5_000));
    };
    let message_timeout = Duration::from_millis(shared.limits.message_timeout_ms);
    let (response, opened) = handshake.accept(shared.limits.message_bytes_max, message_timeout);
    let connection = sockets.clone();
    shared.connections.spawn(async move {
        if let Some(wire) = opened.await {
            live(connection, place, wire).await;
        }
    });
    Ok(response.into_response())
}

/// One connection's life: greet, listen and write at once, say goodbye.
async fn live(sockets: Sockets, place: Place, wire: Wire) {
    let shared = &sockets.0;
    let id = place.id;
    let outbox = Outbox::new(shared.limits.outbox_bytes_max);
    let Wire {
        mut reader,
        mut writer,
    } = wire;
    let (pings, mut ping_wanted) = tokio::sync::mpsc::channel(1);
    let mut conversation = Conversation {
        session: Session::new(
            format!("{id:x}"),
            shared.access.clone(),
            shared.limits.session.clone(),
            sockets.now_ms(),
        ),
        sockets: &sockets,
        place,
        outbox: outbox.clone(),
        pings,
        todo: VecDeque::new(),
    };
    let listening = async {
        loop {
            let due = Duration::from_millis(
                conversation
                    .session
                    .due_ms()
                    .saturating_sub(sockets.now_ms()),
            );
            let actions = tokio::select! {
                // Who has not been told yet what they asked for is not asked for more.
                received = reader.receive(), if !conversation.is_busy() => {
                    let (now_ms, ts) = (sockets.now_ms(), launch::clock::now_ms());
                    match received {
                        Received::Text(text) => conversation.session.text(&text, now_ms, ts),
                        Received::Control { pong } => conversation.session.control(pong, now_ms, ts),
                        Received::Closed | Received::Gone => return None,
                        Received::Wrong(code) => return Some(code),
                    }
                }
                () = outbox.room(), if conversation.is_busy() => Vec::new(),
                () = tokio::time::sleep(due) => conversation.session.tick(sockets.now_ms(), launch::clock::now_ms()),
                code = outbox.closed() => return Some(code),
                () = shared.draining.cancelled() => {
                    conversation.send(&ServerFrame::Notice(NoticeFrame {
                        v: FRAME_VERSION,
                        notice: Notice::Draining { reconnect_after_ms: spread(shared.limits.reconnect_spread_ms) },
                        ts: launch::clock::now_ms(),
                    }));
                    return Some(CloseCode::GoingAway);
                }
            };
            if let Some(code) = conversation.act(actions).await {
                return Some(code);
            }
        }
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
    let code = tokio::select! {
        code = listening => code,
        () = writing => None,
    };
    // The place is free and nothing more is queued before the goodbye, which may take its time.
    for guild in shared.access.guilds() {
        shared.fanout.unsubscribe(id, *guild);
    }
    drop(conversation);
    let goodbye = Duration::from_millis(shared.limits.close_timeout_ms);
    let farewell = async {
        match code {
            Some(code) => {
                metrics::counter!("hub_sockets_closed_total", "code" => code.code().to_string())
                    .increment(1);
                say_goodbye(&mut writer, &mut reader, &outbox, code).await;
            }
            // The peer's Close is answered with the same (RFC 6455, section 5.5.1).
            None => drop(writer.flush().await),
        }
    };
    let _late = timeout(goodbye, farewell).await;
}

async fn say_goodbye(
    writer: &mut Writer,
    reader: &mut wire::Reader,
    outbox: &Outbox,
    code: CloseCode,
) {
    writer.queue(outbox.take_now().iter().map(Frame::text));
    if writer.write().await.is_err() || writer.close(code).await.is_err() {
        return;
    }
    // The peer's own Close ends the connection in order; what it still sends is of no interest.
    while !matches!(
        reader.receive().await,
        Received::Closed | Received::Gone | Received::Wrong(_)
    ) {}
}

struct Conversation<'a> {
    session: Session,
    sockets: &'a Sockets,
    place: Place,
    outbox: Outbox,
    pings: tokio::sync::mpsc::Sender<()>,
    /// What the session said and is still to be done.
    todo: VecDeque<Action>,
}

impl Conversation<'_> {
    /// Whether something waits for room in the outbox.
    fn is_busy(&self) -> bool {
        !self.todo.is_empty()
    }

    /// Does what the session says, as far as the outbox has room for snapshots; the code if the
    /// connection is to end.
    async fn act(&mut self, actions: Vec<Action>) -> Option<CloseCode> {
        self.todo.extend(actions);
        while let Some(action) = self.todo.pop_front() {
            match action {
                // One subscription after the other: whoever reads gets all, however many there are.
                Action::Subscribe(_) if !self.outbox.has_room() => {
                    self.todo.push_front(action);
                    return None;
                }
                Action::Send(frame) => self.send(&frame),
                Action::Verify(token) => {
                    let result = self.sockets.0.verifier.verify(&token).await;
                    let ts = launch::clock::now_ms();
                    let expires_in_ms = result.as_ref().map_or(0, |principal| {
                        i64::try_from(principal.expires_at_ms)
                            .unwrap_or(i64::MAX)
                            .saturating_sub_unsigned(ts)
                    });
                    let now_ms = self.sockets.now_ms();
                    let actions = self.session.verified(result, expires_in_ms, now_ms, ts);
                    self.todo.extend(actions);
                }
                Action::Authenticated(principal) => {
                    if !self.place.name(&principal.subject) {
                        let refusal =
                            Refusal::new(Code::RateLimited, "too many connections of this subject")
                                .retry_after_ms(10_000);
                        self.send(&error_frame(&refusal, None, launch::clock::now_ms()));
                        return Some(CloseCode::TooMany);
                    }
                }
                Action::Subscribe(subscribe) => self.subscribe(subscribe).await,
                Action::Unsubscribe(guild) => {
                    self.sockets.0.fanout.unsubscribe(self.place.id, guild);
                }
                // One that is still to be sent is as good.
                Action::Ping => drop(self.pings.try_send(())),
                Action::Close(code) => return Some(code),
            }
        }
        None
    }

    async fn subscribe(&self, subscribe: Subscribe) {
        let Subscribe { view, recover, re } = subscribe;
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
        let fanout = &self.sockets.0.fanout;
        let subscribed = fanout
            .subscribe(
                self.place.id,
                &view,
                recover.as_deref(),
                &self.outbox,
                opening,
            )
            .await;
        if subscribed.is_err() {
            let refusal = Refusal::new(
                Code::Unavailable,
                "too many different choices of this guild's rooms",
            )
            .retry_after_ms(10_000);
            self.send(&error_frame(&refusal, re, launch::clock::now_ms()));
        }
    }

    fn send(&self, frame: &ServerFrame) {
        self.outbox.push(text(frame));
    }
}

fn text(frame: &ServerFrame) -> Frame {
    // Strings, numbers and lists: nothing in a frame can fail to be written.
    Frame::whole(serde_json::to_vec(frame).unwrap_or_default())
}

fn spread(over_ms: u64) -> u64 {
    rand::RngExt::random_range(&mut rand::rng(), 0..=over_ms)
}
