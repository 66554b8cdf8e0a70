//! The endpoint over loopback: what a connection receives while the hub is busy for it.

use axum::routing::get;
use dev_issuer::keys::Ring;
use dev_issuer::token::TokenRequest;
use launch::clock::Monotonic;
use proto::GuildId;
use proto::event::{Event, Everyone, Fact, Room, Roster};
use proto::position::PositionKey;
use roomlog::{Log, LogSettings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use world::{Ended, Socket};

use super::fanout::Fanout;
use super::limits::{FanoutLimits, RegistryLimits, SessionLimits, SocketLimits};
use super::*;
use crate::access::Access;
use crate::auth::{AuthSettings, Verifier};
use crate::error::ErrorLog;
use crate::freshness::Freshness;
use crate::positions::Positions;
use crate::view::RoomsShown;
use crate::view::tests::{guild, public};

const DEADLINE: Duration = Duration::from_secs(10);
const ISSUER: &str = "http://issuer.example";

/// The endpoint in front of a log that gets no events.
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

    /// The rosters' guilds are served in addition to the primary one.
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
        let context = Context {
            verifier: Verifier::new(settings),
            access: Access::new(guild(), &others, RoomsShown::Everyone),
            fanout: fanout.clone(),
            errors: ErrorLog::new(0),
            limits,
            draining: draining.clone(),
            clock,
        };
        let registry = Registry::new(RegistryLimits {
            connections_max: 100,
            unauthenticated_max: 100,
            unauthenticated_per_address_max: 64,
            connections_per_subject_max: 100,
        });
        let sockets = Sockets::new(context, registry, Vec::new());
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
        Client(Socket::connect(&self.address).await.unwrap())
    }

    /// A connection that authenticates, and continues from a position.
    async fn authenticate(&self, recover: Option<&str>) -> Client {
        let mut client = self.open().await;
        let mut auth = json!({"type": "auth", "token": self.token});
        if let Some(pos) = recover {
            auth["recover"] = json!({guild().to_string(): pos});
        }
        client.send(&auth).await;
        assert_eq!(client.receive().await["event"], "auth.ok");
        client
    }

    /// A position from which only a replay can continue.
    async fn position(&self) -> String {
        let mut client = self.authenticate(None).await;
        assert_eq!(client.receive().await["event"], "subscribed");
        let snapshot = client.receive().await;
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

struct Client(Socket);

impl Client {
    async fn send(&mut self, frame: &Value) {
        self.0.send(frame.to_string()).await.unwrap();
    }

    /// Any bytes, also a part of a message.
    async fn write(&mut self, bytes: &[u8]) {
        self.0.stream().write_all(bytes).await.unwrap();
    }

    /// The close code; no frame comes before it.
    async fn closed(&mut self) -> u16 {
        match self.next().await {
            Err(Ended::Closed(code)) => code,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a Close frame and waits for the answer; frames may come before it.
    async fn close(&mut self) {
        self.0.close().await;
        while self.next().await.is_ok() {}
    }

    async fn next(&mut self) -> Result<Value, Ended> {
        let next = timeout(DEADLINE, self.0.receive()).await;
        let text = next.expect("in time")?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    async fn receive(&mut self) -> Value {
        self.next().await.expect("an open connection")
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_replay_gets_its_pong_and_then_its_answers_in_order() {
    let world = World::new().await;
    let pos = world.position().await;
    let paused = world.fanout.pause_replays().await;
    let mut client = world.authenticate(Some(&pos)).await;
    client
        .send(&json!({"type": "unsubscribe", "guildId": guild().to_string(), "id": "later"}))
        .await;
    client.send(&json!({"type": "ping", "id": 7})).await;
    let pong = client.receive().await;
    assert_eq!((&pong["event"], &pong["re"]), (&json!("pong"), &json!(7)));
    drop(paused);
    for expected in ["subscribed", "gateway.state", "unsubscribed"] {
        assert_eq!(client.receive().await["event"], expected);
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_replay_may_close_and_is_asked_to_reconnect_on_a_drain() {
    let world = World::new().await;
    let pos = world.position().await;
    let _paused = world.fanout.pause_replays().await;
    let mut leaving = world.authenticate(Some(&pos)).await;
    leaving.0.close().await;
    leaving.closed().await;

    let mut staying = world.authenticate(Some(&pos)).await;
    world.draining.cancel();
    assert_eq!(staying.receive().await["event"], "draining");
    assert_eq!(staying.closed().await, 1001);
}

#[tokio::test]
async fn a_guild_of_an_auth_that_has_too_many_views_is_named_and_may_be_subscribed_later() {
    let fanout = FanoutLimits {
        views_per_guild_max: 1,
        ..FanoutLimits::default()
    };
    let world = World::with(fanout, limits(), &[]).await;
    let mut first = world.authenticate(None).await;
    assert_eq!(first.receive().await["event"], "subscribed");
    let guild_id = guild().to_string();
    let subscribe = json!({"type": "subscribe", "guildId": guild_id, "rooms": ["1"], "id": 1});

    let mut second = world.open().await;
    let auth = json!({"type": "auth", "token": world.token, "rooms": ["1"]});
    second.send(&auth).await;
    assert_eq!(second.receive().await["event"], "auth.ok");
    let error = second.receive().await;
    assert_eq!(error["error"]["code"], "UNAVAILABLE");
    assert!(error["error"]["retryAfterMs"].is_number() && error["re"].is_null());
    assert!(error["connectionId"].is_null(), "it does not end");
    let named = second.receive().await;
    assert_eq!(
        (&named["event"], &named["guildId"]),
        (&json!("unsubscribed"), &json!(guild_id))
    );
    second.send(&subscribe).await;
    let error = second.receive().await;
    assert_eq!(
        (&error["error"]["code"], &error["re"]),
        (&json!("UNAVAILABLE"), &json!(1))
    );

    first.close().await;
    second.send(&subscribe).await;
    assert_eq!(second.receive().await["event"], "subscribed");
}

#[tokio::test]
async fn a_client_that_waits_for_room_ends_with_its_token_even_if_it_does_not_read() {
    // Far more than all buffers on the way can hold.
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
                reason: "worker_started".to_owned(),
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
    let socket = Socket::over(stream, &world.address, &[]).await.unwrap();
    let mut client = Client(socket);
    client.send(&json!({"type": "auth", "token": short})).await;
    assert_eq!(client.receive().await["event"], "auth.ok");
    timeout(DEADLINE, world.sockets.drained())
        .await
        .expect("ends although the client does not read");
    let mut subscribed = 0;
    while let Ok(Ok(text)) = timeout(DEADLINE, client.0.receive()).await {
        subscribed += usize::from(text.contains(r#""event":"subscribed""#));
    }
    assert!((1..guilds.len()).contains(&subscribed), "{subscribed}");
}

#[tokio::test]
async fn a_message_is_not_late_while_reading_is_paused() {
    let mut limits = limits();
    limits.message_timeout_ms = 1_500;
    limits.session.held_back_bytes_max = 1_000;
    let world = World::with(FanoutLimits::default(), limits, &[]).await;
    let pos = world.position().await;
    let paused = world.fanout.pause_replays().await;
    let mut client = world.authenticate(Some(&pos)).await;
    let unsubscribe = |id: usize| json!({"type": "unsubscribe", "guildId": "77", "id": id});
    // More than the deferred frames can hold, and the beginning of one more.
    let mut bytes: Vec<u8> = (0..40).flat_map(|id| frame(&unsubscribe(id))).collect();
    let last = frame(&unsubscribe(40));
    bytes.extend(&last[..20]);
    client.write(&bytes).await;
    // When another client is late, the time is over.
    let mut late = world.authenticate(None).await;
    late.write(&last[..20]).await;
    let ended = loop {
        if let Err(ended) = late.next().await {
            break ended;
        }
    };
    assert_eq!(ended, Ended::Closed(1008));
    drop(paused);
    for expected in ["subscribed", "gateway.state"] {
        assert_eq!(client.receive().await["event"], expected);
    }
    for id in 0..40 {
        assert_eq!(client.receive().await["re"], id);
    }
    client.write(&last[20..]).await;
    assert_eq!(client.receive().await["re"], 40);
}

#[tokio::test]
async fn a_message_that_is_too_large_before_authentication_is_refused_by_its_header() {
    let world = World::new().await;
    let mut client = world.open().await;
    client.write(&header(4_097)).await;
    let last = client.receive().await;
    assert_eq!(last["error"]["code"], "TOO_LARGE");
    let message = last["error"]["message"].as_str().unwrap();
    assert!(message.contains("4096 bytes"), "{last}");
    assert!(last["connectionId"].is_string(), "as the log names it");
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
    assert_eq!(client.receive().await["error"]["code"], "TOO_LARGE");
    assert_eq!(client.closed().await, 1009);
    // Behind an `auth` with a valid token the larger limit holds.
    let mut client = world.open().await;
    let large = json!({"type": "ping", "id": 7, "why": "x".repeat(5_000)});
    let mut bytes = frame(&json!({"type": "auth", "token": world.token}));
    bytes.extend(frame(&large));
    client.write(&bytes).await;
    let mut received = Vec::new();
    for _ in 0..4 {
        received.push(client.receive().await["event"].as_str().unwrap().to_owned());
    }
    received.sort();
    assert_eq!(
        received,
        ["auth.ok", "guild.snapshot", "pong", "subscribed"]
    );
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_reads_the_error_and_the_connection_is_not_reset() {
    let world = World::new().await;
    for bytes in [13_000, 60_000] {
        let mut client = world.open().await;
        let mut message = header(bytes);
        message.extend(vec![b' '; bytes.into()]);
        client.write(&message).await;
        let socket = client.0.stream();
        let mut received = Vec::new();
        let read = timeout(DEADLINE, socket.read_to_end(&mut received)).await;
        assert!(read.expect("in time").is_ok(), "reset after {received:?}");
        let received = String::from_utf8_lossy(&received);
        assert!(received.contains("TOO_LARGE"), "{received}");
        assert!(received.ends_with("message too big"), "{received}");
    }
}
