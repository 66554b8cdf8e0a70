//! The delivery against a small hub that answers as it is told.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use gateway_worker::config::Config;
use gateway_worker::deliver::{Acknowledged, Courier, Hub};
use gateway_worker::dispatch;
use gateway_worker::feed::{Desk, Feed, FeedSetting};
use gateway_worker::outbox::Limits;
use gateway_worker::roster::RosterSetting;
use proto::signing::{Signed, SigningKeys};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const DEADLINE: Duration = Duration::from_secs(10);

/// How the hub answers once; when nothing is left it takes everything into the store `a`.
#[derive(Clone)]
struct Reply {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: Value,
}

fn reply(status: u16, body: Value) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body,
    }
}

fn receipt(store: &str) -> Value {
    json!({"accepted": 0, "duplicates": 0, "refused": [], "store": store})
}

/// One attempt, as it came.
#[derive(Clone)]
struct Attempt {
    id: String,
    body: Value,
}

impl Attempt {
    fn events(&self) -> Vec<String> {
        let events = self.body["events"].as_array().into_iter().flatten();
        events
            .map(|event| {
                let reason = event["payload"]["reason"].as_str().unwrap_or("");
                format!("{} {reason}", event["event"].as_str().unwrap_or(""))
                    .trim()
                    .to_owned()
            })
            .collect()
    }
}

#[derive(Clone)]
struct Script {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    attempts: tokio::sync::mpsc::Sender<Attempt>,
}

async fn take(State(script): State<Script>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let signed = Signed {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    let keys = SigningKeys::parse(SECRET).ok();
    let now_s = launch::clock::now_ms() / 1_000;
    if keys.is_none_or(|keys| keys.verify(signed, &body, now_s).is_err()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let attempt = Attempt {
        id: header("webhook-id").unwrap_or("").to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    // Beats say nothing here.
    let is_beat = attempt.events().is_empty();
    let next = if is_beat {
        None
    } else {
        script.attempts.send(attempt).await.ok();
        script
            .replies
            .lock()
            .ok()
            .and_then(|mut replies| replies.pop_front())
    };
    let reply = next.unwrap_or_else(|| reply(200, receipt("a")));
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut response = (status, reply.body.to_string()).into_response();
    for (name, value) in reply.headers {
        response
            .headers_mut()
            .insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

struct World {
    desk: Arc<Desk>,
    attempts: tokio::sync::mpsc::Receiver<Attempt>,
    sequence: u64,
    last: CancellationToken,
    courier: tokio::task::JoinHandle<()>,
    acknowledged: Arc<Acknowledged>,
}

impl World {
    /// A worker that has one guild live, and a hub with these answers to come.
    async fn new(replies: Vec<Reply>) -> anyhow::Result<Self> {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (sender, attempts) = tokio::sync::mpsc::channel(100);
        let script = Script {
            replies: Arc::new(Mutex::new(replies.into())),
            attempts: sender,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/events", post(take))
            .with_state(script);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = config(&format!("http://{address}/events"))?;
        let desk = Arc::new(Desk::new(feed()?));
        let acknowledged = Arc::new(Acknowledged::default());
        let last = CancellationToken::new();
        let mut world = Self {
            desk: Arc::clone(&desk),
            attempts,
            sequence: 0,
            last: last.clone(),
            courier: tokio::spawn(async {}),
            acknowledged: Arc::clone(&acknowledged),
        };
        world.hear("READY", &json!({"guilds": [{"id": "1"}]}));
        world.hear(
            "GUILD_CREATE",
            &json!({"id": "1", "roles": [{"id": "1", "permissions": "1024"}], "voice_states": [],
                "channels": [{"id": "2", "type": 2, "name": "Lounge", "permission_overwrites": []}]}),
        );
        let courier = Courier::new(Hub::new(&config)?, desk, acknowledged, config.delivery);
        world.courier = tokio::spawn(courier.run(last));
        Ok(world)
    }

    fn hear(&mut self, name: &str, data: &Value) {
        self.hear_at(launch::clock::now_ms(), name, data);
    }

    fn hear_at(&mut self, now: u64, name: &str, data: &Value) {
        self.sequence += 1;
        let read = dispatch::read(name, &data.to_string());
        let sequence = self.sequence;
        self.desk.with(|feed| feed.read("s", sequence, read, now));
    }

    fn join(&mut self, user: u64) {
        self.hear("VOICE_STATE_UPDATE", &state_of(user));
    }

    async fn attempt(&mut self) -> anyhow::Result<Attempt> {
        let attempt = timeout(DEADLINE, self.attempts.recv()).await?;
        attempt.ok_or_else(|| anyhow::anyhow!("the hub is gone"))
    }
}

fn state_of(user: u64) -> Value {
    json!({"guild_id": "1", "channel_id": "2", "user_id": user.to_string(), "deaf": false,
        "mute": false, "self_deaf": false, "self_mute": false, "self_video": false, "suppress": false})
}

fn config(endpoint: &str) -> anyhow::Result<Config> {
    launch::settings::parse_from(["worker".into()], |name| {
        let value = match name {
            "HUB_SECRET" => SECRET,
            "PRIMARY_GUILD_ID" => "1",
            "DISCORD_BOT_TOKEN" => "t",
            "HUB_ENDPOINT" => endpoint,
            "RETRY_MAX_MS" => "150",
            "HUB_TIMEOUT_MS" => "2000",
            _ => return None,
        };
        Some(OsString::from(value))
    })
    .map_err(|refusal| anyhow::anyhow!("{refusal:?}"))
}

fn feed() -> anyhow::Result<Feed> {
    Ok(Feed::new(FeedSetting {
        shard: (0, 1),
        guilds: vec!["1".parse()?],
        roster: RosterSetting {
            cdn: "https://cdn".into(),
            tombstones_max: 10,
        },
        outbox: Limits {
            events_max: 1_000,
            bytes_max: 1_000_000,
            batch_events_max: 100,
            batch_bytes_max: 100_000,
        },
        gaps_max: 10,
        behind_max_ms: 4_000,
    }))
}

#[tokio::test]
async fn what_is_not_taken_comes_again_under_its_id_until_it_is() -> anyhow::Result<()> {
    let refusals = [
        reply(500, json!({})),
        reply(503, Value::Null),
        reply(401, json!({"code": "BAD_SIGNATURE"})),
        reply(401, json!({"code": "STALE_TIMESTAMP"})),
        reply(403, Value::Null),
        reply(404, Value::Null),
        reply(409, json!({"code": "CONFLICT"})),
        reply(200, json!("not a receipt")),
        Reply {
            headers: vec![("retry-after", "0")],
            ..reply(429, Value::Null)
        },
    ];
    let count = refusals.len();
    let mut world = World::new(refusals.to_vec()).await?;
    let first = world.attempt().await?;
    // What happens meanwhile waits behind it.
    world.join(5);
    for _ in 0..count {
        let again = world.attempt().await?;
        assert_eq!((&again.id, &again.body), (&first.id, &first.body));
    }
    let next = world.attempt().await?;
    assert_ne!(next.id, first.id);
    assert_eq!(first.events(), ["guild.snapshot worker_started"]);
    assert_eq!(next.events(), ["voice.joined"]);
    assert_eq!(next.body["store"], "a");
    Ok(())
}

#[tokio::test]
async fn a_delivery_that_was_refused_comes_again_with_the_state_as_it_is_now() -> anyhow::Result<()>
{
    let mut replies = vec![reply(503, Value::Null); 6];
    replies[0] = reply(200, receipt("a"));
    let mut world = World::new(replies).await?;
    world.attempt().await?;
    world.join(5);
    let first = world.attempt().await?;
    assert_eq!(first.body["gateway"], json!({"state": "live"}));
    // Read long ago, and still behind what the hub does not take.
    world.hear_at(1, "VOICE_STATE_UPDATE", &state_of(6));
    let mut again = first.clone();
    let last = loop {
        let attempt = world.attempt().await?;
        if attempt.body["events"] != first.body["events"] {
            break attempt;
        }
        again = attempt;
    };
    let late = json!({"state": "rebuilding", "reason": "catching_up"});
    assert_eq!(again.body["gateway"], late);
    assert_ne!(again.id, first.id);
    assert_eq!(last.events(), ["voice.joined"]);
    assert_eq!(last.body["gateway"], json!({"state": "live"}));
    Ok(())
}

#[tokio::test]
async fn retry_after_is_honoured() -> anyhow::Result<()> {
    let busy = Reply {
        headers: vec![("retry-after", "1")],
        ..reply(429, Value::Null)
    };
    let mut world = World::new(vec![busy]).await?;
    world.attempt().await?;
    let refused = tokio::time::Instant::now();
    world.attempt().await?;
    assert!(refused.elapsed() >= Duration::from_millis(900));
    Ok(())
}

#[tokio::test]
async fn a_malformed_delivery_is_dropped_and_its_guild_owes_a_snapshot() -> anyhow::Result<()> {
    for status in [400, 413] {
        let mut world =
            World::new(vec![reply(200, receipt("a")), reply(status, Value::Null)]).await?;
        world.attempt().await?;
        world.join(5);
        let dropped = world.attempt().await?;
        let snapshot = world.attempt().await?;
        assert_ne!(dropped.id, snapshot.id);
        assert_eq!(snapshot.events(), ["guild.snapshot delivery_rejected"]);
    }
    Ok(())
}

#[tokio::test]
async fn another_store_gets_a_snapshot_and_its_name_back() -> anyhow::Result<()> {
    let conflict = reply(409, json!({"code": "CONFLICT", "store": "b"}));
    let mut world = World::new(vec![
        reply(200, receipt("a")),
        conflict,
        reply(200, receipt("b")),
    ])
    .await?;
    world.attempt().await?;
    world.join(5);
    world.attempt().await?;
    let snapshot = world.attempt().await?;
    assert_eq!(snapshot.events(), ["guild.snapshot store_changed"]);
    assert_eq!(snapshot.body["store"], "b");
    assert_eq!(
        snapshot.body["events"][0]["payload"]["voices"][0]["userId"],
        "5"
    );
    Ok(())
}

#[tokio::test]
async fn a_courier_that_is_asked_to_end_delivers_what_is_left_first() -> anyhow::Result<()> {
    let mut world = World::new(vec![reply(503, Value::Null), reply(503, Value::Null)]).await?;
    world.attempt().await?;
    world.join(5);
    world.last.cancel();
    for _ in 0..2 {
        world.attempt().await?;
    }
    assert_eq!(world.attempt().await?.events(), ["voice.joined"]);
    timeout(DEADLINE, &mut world.courier).await??;
    assert!(world.acknowledged.is_current() && world.acknowledged.at_ms().is_some());
    Ok(())
}
