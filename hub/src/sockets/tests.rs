//! The door as a whole, over loopback: what a connection hears while the hub is busy for it.

use dev_issuer::keys::Ring;
use dev_issuer::token::TokenRequest;
use futures_util::{SinkExt, StreamExt};
use proto::GuildId;
use proto::event::{Event, Everyone, Fact, Room, Roster};
use proto::position::PositionKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};

use super::fanout::FanoutLimits;
use super::registry::RegistryLimits;
use axum::routing::get;

use super::*;
use crate::auth::AuthSettings;
use crate::error::ErrorLog;
use crate::freshness::Freshness;
use crate::positions::Positions;
use crate::view::RoomsShown;
use crate::view::tests::{guild, public};
use roomlog::{Log, LogSettings};

const DEADLINE: Duration = Duration::from_secs(10);
const ISSUER: &str = "http://issuer.example";

/// A door with a log behind it that nobody tells anything.
struct World {
    address: String,
    ring: Ring,
    token: String,
    sockets: Sockets,
    fanout: Fanout,
    draining: CancellationToken,
}

impl World {
    async fn new() -> Self {
        Self::with(FanoutLimits::default(), limits(), &[]).await
    }

    /// The rosters' guilds are served besides the primary one.
    async fn with(fanout: FanoutLimits, limits: SocketLimits, rosters: &[Roster]) -> Self {
        let ring = Ring::generate(0).unwrap();
        let keys = ring.key_set();
        let issuer = Router::new().route("/keys", get(async move || axum::Json(keys)));
        let issuer = format!("http://{}/keys", serve(issuer).await);
        let token = token(&ring, json!({"sub": "ada"}));
        let settings = AuthSettings::new(ISSUER, dev_issuer::AUDIENCE, issuer.parse().unwrap());
        let others: Vec<GuildId> = rosters.iter().map(|roster| roster.guild_id).collect();
        let guilds = [&[guild()], &others[..]].concat();
        let log = Log::in_memory(&guilds, &LogSettings::default()).unwrap();
        for roster in rosters {
            let event = Event {
                id: roster.guild_id.to_string(),
                at: None,
                fact: Fact::Snapshot(roster.clone()),
                ts: 1,
            };
            log.append(vec![event]).await.unwrap();
        }
        let clock = Monotonic::start();
        let (fanout, _followed) = Fanout::new(
            &log,
            &guilds,
            Freshness::new(&guilds, 6_000, clock),
            Positions::new(PositionKey::derive(b"test")),
            fanout,
            clock,
        );
        let draining = CancellationToken::new();
        let sockets = Sockets::new(
            Verifier::new(settings),
            Access::new(guild(), &others, RoomsShown::Everyone),
            fanout.clone(),
            Registry::new(RegistryLimits {
                connections_max: 100,
                unauthenticated_max: 100,
                unauthenticated_per_address_max: 64,
                connections_per_subject_max: 100,
            }),
            ErrorLog::new(0),
            Vec::new(),
            limits,
            draining.clone(),
        );
        Self {
            address: serve(sockets.router()).await,
            ring,
            token,
            sockets,
            fanout,
            draining,
        }
    }

    async fn open(&self) -> Client {
        let (socket, _) = connect_async(format!("ws://{}/api/ws", self.address))
            .await
            .unwrap();
        Client(socket)
    }

    /// A connection that says who it is, and where to continue.
    async fn enter(&self, recover: Option<&str>) -> Client {
        let mut client = self.open().await;
        let mut hello = json!({"type": "auth", "token": self.token});
        if let Some(pos) = recover {
            hello["recover"] = json!({guild().to_string(): pos});
        }
        client.say(&hello).await;
        assert_eq!(client.hear().await["event"], "auth.ok");
        client
    }

    /// A position from which only a replay can continue.
    async fn position(&self) -> String {
        let mut client = self.enter(None).await;
        assert_eq!(client.hear().await["event"], "subscribed");
        let snapshot = client.hear().await;
        assert_eq!(snapshot["event"], "guild.snapshot");
        snapshot["pos"].as_str().unwrap().to_owned()
    }
}

fn token(ring: &Ring, request: Value) -> String {
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    let now_ms = launch::clock::now_ms();
    request.issue(ISSUER, ring, now_ms).unwrap()
}

/// The beginning of a masked text frame that announces so many bytes.
fn header(payload: u16) -> Vec<u8> {
    let mut header = vec![0x81, 0x80 | 126];
    header.extend(payload.to_be_bytes());
    header.extend([0; 4]);
    header
}

/// A masked text frame.
fn frame(json: &Value) -> Vec<u8> {
    let text = json.to_string();
    let mut frame = header(text.len().try_into().unwrap());
    frame.extend(text.into_bytes());
    frame
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn limits() -> SocketLimits {
    SocketLimits {
        session: SessionLimits {
            auth_timeout_ms: 10_000,
            unauthenticated_frame_bytes_max: 4_096,
            frame_bytes_max: 16_384,
            frames_per_s_max: 20,
            frames_burst_max: 120,
            subscriptions_max: 100,
            ping_interval_ms: 20_000,
            pong_timeout_ms: 10_000,
            expiry_leeway_ms: 60_000,
            held_back_bytes_max: 16 * 1024,
        },
        message_bytes_max: 16 * 1024,
        message_timeout_ms: 10_000,
        outbox_bytes_max: 1_000_000,
        close_timeout_ms: 5_000,
        reconnect_spread_ms: 0,
        trusted_proxies: Vec::new(),
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Bytes that are not those of whole messages.
    async fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    async fn closed(&mut self) -> u16 {
        match self.message().await {
            Message::Close(Some(close)) => close.code.into(),
            other => panic!("{other:?}"),
        }
    }

    async fn message(&mut self) -> Message {
        let next = timeout(DEADLINE, self.0.next()).await;
        next.expect("in time").expect("an open connection").unwrap()
    }

    async fn hear(&mut self) -> Value {
        let message = self.message().await;
        let Message::Text(text) = message else {
            panic!("{message:?}");
        };
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn who_waits_for_their_replay_is_answered_meanwhile_and_in_order() {
    let world = World::new().await;
    let pos = world.position().await;
    // Somebody else's replay takes its time.
    let turn = world.fanout.0.replaying.acquire().await.unwrap();
    let mut client = world.enter(Some(&pos)).await;
    client
        .say(&json!({"type": "unsubscribe", "guildId": guild().to_string(), "id": "later"}))
        .await;
    client.say(&json!({"type": "ping", "id": 7})).await;
    let pong = client.hear().await;
    assert_eq!((&pong["event"], &pong["re"]), (&json!("pong"), &json!(7)));
    drop(turn);
    for expected in ["subscribed", "gateway.state", "unsubscribed"] {
        assert_eq!(client.hear().await["event"], expected);
    }
}

#[tokio::test]
async fn who_waits_for_their_replay_may_leave_and_is_told_of_the_end() {
    let world = World::new().await;
    let pos = world.position().await;
    let _turn = world.fanout.0.replaying.acquire().await.unwrap();
    let mut leaving = world.enter(Some(&pos)).await;
    leaving.0.send(Message::Close(None)).await.unwrap();
    assert!(matches!(leaving.message().await, Message::Close(_)));

    let mut staying = world.enter(Some(&pos)).await;
    world.draining.cancel();
    assert_eq!(staying.hear().await["event"], "draining");
    let Message::Close(Some(close)) = staying.message().await else {
        panic!("no goodbye");
    };
    assert_eq!(u16::from(close.code), 1001);
}

#[tokio::test]
async fn a_guild_of_an_auth_that_has_too_many_views_is_named_and_may_be_asked_for_again() {
    let fanout = FanoutLimits {
        views_per_guild_max: 1,
        ..FanoutLimits::default()
    };
    let world = World::with(fanout, limits(), &[]).await;
    let mut first = world.enter(None).await;
    assert_eq!(first.hear().await["event"], "subscribed");
    let guild_id = guild().to_string();
    let subscribe = json!({"type": "subscribe", "guildId": guild_id, "rooms": ["1"], "id": 1});

    let mut second = world.open().await;
    let hello = json!({"type": "auth", "token": world.token, "rooms": ["1"]});
    second.say(&hello).await;
    assert_eq!(second.hear().await["event"], "auth.ok");
    let error = second.hear().await;
    assert_eq!(error["error"]["code"], "UNAVAILABLE");
    assert!(error["error"]["retryAfterMs"].is_number() && error["re"].is_null());
    let named = second.hear().await;
    assert_eq!(
        (&named["event"], &named["guildId"]),
        (&json!("unsubscribed"), &json!(guild_id))
    );
    second.say(&subscribe).await;
    let error = second.hear().await;
    assert_eq!(
        (&error["error"]["code"], &error["re"]),
        (&json!("UNAVAILABLE"), &json!(1))
    );

    first.0.send(Message::Close(None)).await.unwrap();
    while !matches!(first.message().await, Message::Close(_)) {}
    second.say(&subscribe).await;
    assert_eq!(second.hear().await["event"], "subscribed");
}

#[tokio::test]
async fn whoever_waits_for_room_ends_with_the_token_whether_they_read_or_not() {
    // Far more than fits into all buffers on the way.
    let rosters: Vec<Roster> = (101..141)
        .map(|id| {
            let guild_id = GuildId::new(id).unwrap();
            let named = |id| Room {
                guild_id,
                name: "x".repeat(4_000),
                ..public(id)
            };
            Roster {
                guild_id,
                rooms: (1..=100).map(named).collect(),
                voices: Vec::new(),
                reason: "told".to_owned(),
                everyone: Everyone::View,
                tombstones: Vec::new(),
            }
        })
        .collect();
    let mut limits = limits();
    limits.session.expiry_leeway_ms = 0;
    limits.close_timeout_ms = 100;
    let world = World::with(FanoutLimits::default(), limits, &rosters).await;
    let guilds: Vec<String> = rosters.iter().map(|one| one.guild_id.to_string()).collect();
    let short = token(
        &world.ring,
        json!({"sub": "ada", "ttl": 2, "guilds": guilds}),
    );

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let stream = socket
        .connect(world.address.parse().unwrap())
        .await
        .unwrap();
    let stream = MaybeTlsStream::Plain(stream);
    let (socket, _) = client_async(format!("ws://{}/api/ws", world.address), stream)
        .await
        .unwrap();
    let mut client = Client(socket);
    client.say(&json!({"type": "auth", "token": short})).await;
    assert_eq!(client.hear().await["event"], "auth.ok");
    timeout(DEADLINE, world.sockets.drained())
        .await
        .expect("ends although nobody reads");
    let mut subscribed = 0;
    while let Ok(Some(Ok(Message::Text(text)))) = timeout(DEADLINE, client.0.next()).await {
        subscribed += usize::from(text.contains(r#""event":"subscribed""#));
    }
    assert!((1..guilds.len()).contains(&subscribed), "{subscribed}");
}

#[tokio::test]
async fn who_is_not_listened_to_is_not_late() {
    let mut limits = limits();
    limits.message_timeout_ms = 1_500;
    limits.session.held_back_bytes_max = 1_000;
    let world = World::with(FanoutLimits::default(), limits, &[]).await;
    let pos = world.position().await;
    let turn = world.fanout.0.replaying.acquire().await.unwrap();
    let mut client = world.enter(Some(&pos)).await;
    let unsubscribe = |id: usize| json!({"type": "unsubscribe", "guildId": "77", "id": id});
    // More than is read ahead, and the beginning of one more.
    let mut bytes: Vec<u8> = (0..40).flat_map(|id| frame(&unsubscribe(id))).collect();
    let last = frame(&unsubscribe(40));
    bytes.extend(&last[..20]);
    client.write(&bytes).await;
    // Somebody who is late tells that the time is over.
    let mut late = world.enter(None).await;
    late.write(&last[..20]).await;
    loop {
        match late.message().await {
            Message::Text(_) => {}
            Message::Close(Some(close)) => {
                assert_eq!(u16::from(close.code), 1008);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    drop(turn);
    for expected in ["subscribed", "gateway.state"] {
        assert_eq!(client.hear().await["event"], expected);
    }
    for id in 0..40 {
        assert_eq!(client.hear().await["re"], id);
    }
    client.write(&last[20..]).await;
    assert_eq!(client.hear().await["re"], 40);
}

#[tokio::test]
async fn what_is_too_large_for_a_stranger_is_refused_by_its_header() {
    let world = World::new().await;
    let mut client = world.open().await;
    client.write(&header(4_097)).await;
    let error = client.hear().await["error"].take();
    assert_eq!(error["code"], "TOO_LARGE");
    assert!(error["message"].as_str().unwrap().contains("4096 bytes"));
    assert_eq!(client.closed().await, 1009);
    // In fragments, too.
    let mut client = world.open().await;
    let mut first = header(4_000);
    first[0] = 0x01;
    first.extend([b' '; 4_000]);
    let mut second = header(97);
    second[0] = 0x80;
    client.write(&first).await;
    client.write(&second).await;
    assert_eq!(client.hear().await["error"]["code"], "TOO_LARGE");
    assert_eq!(client.closed().await, 1009);
    // Behind the `auth` of somebody who holds a token it is none of a stranger's.
    let mut client = world.open().await;
    let large = json!({"type": "ping", "id": 7, "why": "x".repeat(5_000)});
    let mut bytes = frame(&json!({"type": "auth", "token": world.token}));
    bytes.extend(frame(&large));
    client.write(&bytes).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(client.hear().await["event"].as_str().unwrap().to_owned());
    }
    heard.sort();
    assert_eq!(heard, ["auth.ok", "guild.snapshot", "pong", "subscribed"]);
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_reads_the_refusal_and_the_connection_is_not_reset() {
    let world = World::new().await;
    for bytes in [13_000, 60_000] {
        let mut client = world.open().await;
        let mut message = header(bytes);
        message.extend(vec![b' '; bytes.into()]);
        client.write(&message).await;
        let socket = client.0.get_mut();
        let mut heard = Vec::new();
        let read = timeout(DEADLINE, socket.read_to_end(&mut heard)).await;
        assert!(read.expect("in time").is_ok(), "reset after {heard:?}");
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.contains("TOO_LARGE"), "{heard}");
        assert!(heard.ends_with("message too big"), "{heard}");
    }
}
