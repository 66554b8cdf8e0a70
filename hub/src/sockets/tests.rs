//! The door as a whole, over loopback: what a connection hears while the hub is busy for it.

use dev_issuer::keys::Ring;
use dev_issuer::token::TokenRequest;
use futures_util::{SinkExt, StreamExt};
use proto::position::PositionKey;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::fanout::FanoutLimits;
use super::registry::RegistryLimits;
use super::*;
use crate::auth::AuthSettings;
use crate::freshness::Freshness;
use crate::log::{Log, LogSettings};
use crate::view::RoomsShown;
use crate::view::tests::guild;

const DEADLINE: Duration = Duration::from_secs(10);
const ISSUER: &str = "http://issuer.example";

/// A door with a log behind it that nobody tells anything.
struct World {
    address: String,
    token: String,
    fanout: Fanout,
    draining: CancellationToken,
}

impl World {
    async fn new() -> Self {
        Self::with(FanoutLimits::default()).await
    }

    async fn with(fanout: FanoutLimits) -> Self {
        let ring = Ring::generate(0).unwrap();
        let keys = ring.key_set();
        let issuer = Router::new().route("/keys", get(async move || axum::Json(keys)));
        let issuer = format!("http://{}/keys", serve(issuer).await);
        let request: TokenRequest = serde_json::from_value(json!({"sub": "ada"})).unwrap();
        let token = request
            .issue(ISSUER, &ring, launch::clock::now_ms())
            .unwrap();
        let settings = AuthSettings::new(ISSUER, dev_issuer::AUDIENCE, issuer.parse().unwrap());
        let log = Log::in_memory(&[guild()], &LogSettings::default()).unwrap();
        let (fanout, _followed) = Fanout::new(
            &log,
            &[guild()],
            Freshness::new(&[guild()], 6_000, 0),
            PositionKey::derive(b"test"),
            fanout,
        );
        let draining = CancellationToken::new();
        let sockets = Sockets::new(
            Verifier::new(settings),
            Access::new(guild(), &[], RoomsShown::Everyone),
            fanout.clone(),
            Registry::new(RegistryLimits {
                connections_max: 100,
                unauthenticated_max: 100,
                connections_per_subject_max: 100,
            }),
            Vec::new(),
            limits(),
            draining.clone(),
        );
        Self {
            address: serve(sockets.router()).await,
            token,
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
    }
}

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    async fn say(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
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
    let world = World::with(FanoutLimits {
        views_per_guild_max: 1,
        ..FanoutLimits::default()
    })
    .await;
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
