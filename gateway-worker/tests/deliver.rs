//! The delivery against a small hub whose answers are scripted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use gateway_worker::claim::{Claimant, NotClaimed};
use gateway_worker::config::Config;
use gateway_worker::deliver::{Acknowledged, DeliveryTask, Ended};
use gateway_worker::dispatch;
use gateway_worker::feed::{Feed, FeedSetting, SharedFeed};
use gateway_worker::hub::Hub;
use gateway_worker::outbox::Limits;
use gateway_worker::roster::RosterSetting;
use proto::signing::{Signed, SigningKeys};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const DEADLINE: Duration = Duration::from_secs(10);

/// How the hub answers once; when nothing is left it takes everything.
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

fn receipt() -> Value {
    json!({"accepted": 0, "duplicates": 0, "refused": []})
}

/// What a hub that knows nothing answers to a claim.
fn claimed(generation: u64) -> Value {
    json!({"generation": generation, "lastSession": 0, "identifies": 0, "guilds": []})
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
    /// Answers to claims; when nothing is left, each gets a higher generation.
    claims: Arc<Mutex<VecDeque<Reply>>>,
    /// The claims, as they came.
    claimed: Arc<Mutex<Vec<Value>>>,
    generation: Arc<Mutex<u64>>,
    /// Calls everything malformed, beats included.
    refuses: Arc<AtomicBool>,
}

fn answered(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut response = (status, reply.body.to_string()).into_response();
    for (name, value) in reply.headers {
        response
            .headers_mut()
            .insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

async fn claim(State(script): State<Script>, body: Bytes) -> Response {
    script
        .claimed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(serde_json::from_slice(&body).unwrap_or_default());
    let next = script
        .claims
        .lock()
        .ok()
        .and_then(|mut claims| claims.pop_front());
    let reply = next.unwrap_or_else(|| {
        let mut generation = script
            .generation
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *generation += 1;
        reply(200, claimed(*generation))
    });
    answered(reply)
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
    if script.refuses.load(Ordering::SeqCst) {
        script.attempts.send(attempt).await.ok();
        return StatusCode::BAD_REQUEST.into_response();
    }
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
    answered(next.unwrap_or_else(|| reply(200, receipt())))
}

struct World {
    feed: Arc<SharedFeed>,
    attempts: tokio::sync::mpsc::Receiver<Attempt>,
    sequence: u64,
    last: CancellationToken,
    delivery: tokio::task::JoinHandle<Ended>,
    acknowledged: Arc<Acknowledged>,
    refuses: Arc<AtomicBool>,
}

impl World {
    /// A worker that has one guild live, and a hub with these answers to come.
    async fn new(replies: Vec<Reply>) -> anyhow::Result<Self> {
        Self::of(&["1"], replies).await
    }

    /// A worker that has these guilds live, and a hub with these answers to come.
    async fn of(guilds: &[&str], replies: Vec<Reply>) -> anyhow::Result<Self> {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (sender, attempts) = tokio::sync::mpsc::channel(100);
        let script = Script {
            replies: Arc::new(Mutex::new(replies.into())),
            attempts: sender,
            claims: Arc::default(),
            claimed: Arc::default(),
            generation: Arc::new(Mutex::new(10)),
            refuses: Arc::default(),
        };
        let refuses = Arc::clone(&script.refuses);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/events", post(take))
            .route("/claim", post(claim))
            .with_state(script);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let config = config(&format!("http://{address}/events"))?;
        let feed = Arc::new(SharedFeed::new(feed(guilds)?));
        let acknowledged = Arc::new(Acknowledged::default());
        let last = CancellationToken::new();
        let mut world = Self {
            feed: Arc::clone(&feed),
            attempts,
            sequence: 0,
            last: last.clone(),
            delivery: tokio::spawn(async { Ended::Drained }),
            acknowledged: Arc::clone(&acknowledged),
            refuses,
        };
        let hub = Hub::new(&config)?;
        let claimant = Claimant::new(hub.clone(), &config.delivery);
        let claimed = timeout(DEADLINE, claimant.claim((0, 1), vec!["1".parse()?])).await??;
        world
            .feed
            .update(|feed| feed.claim(claimed, launch::clock::now_ms()));
        let listed: Vec<Value> = guilds.iter().map(|id| json!({"id": id})).collect();
        world.hear("READY", &json!({"guilds": listed}));
        for id in guilds {
            world.hear(
                "GUILD_CREATE",
                &json!({"id": id, "roles": [{"id": id, "permissions": "1024"}], "voice_states": [],
                    "channels": [{"id": "2", "type": 2, "name": "Lounge", "permission_overwrites": []}]}),
            );
        }
        let delivery = DeliveryTask::new(hub, claimant, feed, acknowledged, config.delivery);
        world.delivery = tokio::spawn(delivery.run(last));
        Ok(world)
    }

    fn hear(&mut self, name: &str, data: &Value) {
        self.hear_at(launch::clock::now_ms(), name, data);
    }

    fn hear_at(&mut self, now: u64, name: &str, data: &Value) {
        self.sequence += 1;
        let read = dispatch::read(name, &data.to_string());
        let sequence = self.sequence;
        self.feed
            .update(|feed| feed.receive("s", sequence, read, now));
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
    launch::settings::example(&[
        ("HUB_SECRET", SECRET),
        ("HUB_ENDPOINT", endpoint),
        ("RETRY_MAX_MS", "150"),
        ("HUB_TIMEOUT_MS", "2000"),
    ])
    .map_err(|refusal| anyhow::anyhow!("{refusal:?}"))
}

fn feed(guilds: &[&str]) -> anyhow::Result<Feed> {
    Ok(Feed::new(FeedSetting {
        shard: (0, 1),
        guilds: guilds
            .iter()
            .map(|id| id.parse())
            .collect::<Result<_, _>>()?,
        roster: RosterSetting {
            cdn: "https://cdn".into(),
            tombstones_max: 10,
        },
        outbox: Limits {
            events_max: 1_000,
            bytes_max: 1_000_000,
            batch_events_max: 100,
            batch_bytes_max: 100_000,
            group_events_max: 100,
            delivery_bytes_max: 500_000,
        },
        gaps_max: 10,
        behind_max_ms: 4_000,
        fingerprint: "f".to_owned(),
    }))
}

#[tokio::test]
async fn a_delivery_that_is_not_accepted_comes_again_under_its_id_until_it_is() -> anyhow::Result<()>
{
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
    assert_eq!(next.body["generation"], 11);
    assert_eq!(next.body["from"], json!([11, 2]));
    assert_eq!(next.body["to"], json!([11, 3]));
    Ok(())
}

#[tokio::test]
async fn a_delivery_that_was_refused_comes_again_with_the_state_as_it_is_now() -> anyhow::Result<()>
{
    let mut replies = vec![reply(503, Value::Null); 6];
    replies[0] = reply(200, receipt());
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
        let mut world = World::new(vec![reply(200, receipt()), reply(status, Value::Null)]).await?;
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
async fn a_hub_that_refuses_everything_costs_no_more_than_a_few_events() -> anyhow::Result<()> {
    let guilds = ["1", "2", "3", "4", "5", "6", "7", "8"];
    let mut world = World::of(&guilds, Vec::new()).await?;
    let mut reported = 0;
    while reported < guilds.len() {
        reported += world.attempt().await?.events().len();
    }
    world.refuses.store(true, Ordering::SeqCst);
    for guild in guilds {
        let mut state = state_of(5);
        state["guild_id"] = json!(guild);
        world.hear("VOICE_STATE_UPDATE", &state);
    }
    // It comes to rest: only whether the hub is in its right mind again is tried.
    let mut beats = 0;
    while beats < 12 {
        beats = match world.attempt().await?.events().is_empty() {
            true => beats + 1,
            false => 0,
        };
    }
    assert!(!world.acknowledged.is_current());
    world.refuses.store(false, Ordering::SeqCst);
    let mut seen = Vec::new();
    while seen.len() < guilds.len() {
        seen.extend(world.attempt().await?.events());
        // What was still under way.
        seen.retain(|event| !event.is_empty());
    }
    let whole = seen.iter().filter(|event| *event == "voice.joined").count();
    assert!(whole >= 5, "{seen:?}");
    assert_eq!(
        seen.iter()
            .filter(|event| *event == "guild.snapshot delivery_rejected")
            .count(),
        guilds.len() - whole
    );
    Ok(())
}

fn conflict(body: &Value) -> Reply {
    reply(409, json!({"code": "CONFLICT", "conflict": body}))
}

#[tokio::test]
async fn the_guilty_event_is_found_by_halves_and_the_others_arrive() -> anyhow::Result<()> {
    for status in [400, 413] {
        // Four people join while the hub is away: so many groups of one delivery. The second is
        // guilty.
        let refused = || reply(status, Value::Null);
        let mut world = World::new(vec![
            reply(200, receipt()),
            reply(503, Value::Null),
            refused(),
            refused(),
            reply(200, receipt()),
            refused(),
        ])
        .await?;
        world.attempt().await?;
        for user in 5..9 {
            world.join(user);
        }
        let mut sizes = Vec::new();
        let snapshot = loop {
            let attempt = world.attempt().await?;
            if attempt.events()[0].starts_with("guild.snapshot") {
                break attempt;
            }
            sizes.push(attempt.events().len());
        };
        // How many had joined when the first attempt was made is luck.
        let first = sizes[0];
        assert!((1..=4).contains(&first), "{sizes:?}");
        assert_eq!(sizes.last(), Some(&1), "{sizes:?}");
        assert_eq!(snapshot.events(), ["guild.snapshot delivery_rejected"]);
        let voices = &snapshot.body["events"][0]["payload"]["voices"];
        assert_eq!(
            voices.as_array().map(Vec::len),
            Some(4),
            "nobody is missing"
        );
    }
    Ok(())
}

/// More than [`claimant`] takes.
fn huge() -> Reply {
    reply(200, json!({"padding": "x".repeat(70_000)}))
}

/// Who claims at a hub that answers so, and what it says there.
async fn claimant(answers: Vec<Reply>) -> anyhow::Result<(Claimant, Arc<Mutex<Vec<Value>>>)> {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (sender, _attempts) = tokio::sync::mpsc::channel(1);
    let script = Script {
        replies: Arc::default(),
        attempts: sender,
        claims: Arc::new(Mutex::new(answers.into())),
        claimed: Arc::default(),
        generation: Arc::new(Mutex::new(10)),
        refuses: Arc::default(),
    };
    let bodies = Arc::clone(&script.claimed);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new()
        .route("/claim", post(claim))
        .with_state(script);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut config = config(&format!("http://{address}/events"))?;
    config.delivery.claim_bytes_max = 65_536;
    let claimant = Claimant::new(Hub::new(&config)?, &config.delivery);
    Ok((claimant, bodies))
}

#[tokio::test]
async fn a_claim_is_made_until_it_is_answered_and_never_in_a_hurry() -> anyhow::Result<()> {
    let busy = Reply {
        headers: vec![("retry-after", "1")],
        ..reply(429, Value::Null)
    };
    let claims = [
        reply(503, Value::Null),
        reply(200, json!("no claim")),
        busy,
        huge(),
    ];
    let (claimant, bodies) = claimant(claims.to_vec()).await?;
    let asked = tokio::time::Instant::now();
    let claimed = timeout(DEADLINE, claimant.claim((0, 1), vec!["1".parse()?])).await??;
    assert_eq!(claimed.generation, 11);
    assert!(asked.elapsed() >= Duration::from_millis(900));
    // What is too large for this worker it does not ask for; who it follows it says all the same.
    let bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
    let memory: Vec<bool> = bodies.iter().map(|body| body["memory"] != false).collect();
    assert_eq!(memory, [true, true, true, true, false]);
    assert!(bodies.iter().all(|body| body["guilds"] == json!(["1"])));
    Ok(())
}

#[tokio::test]
async fn a_hub_that_cannot_leave_its_memory_out_is_not_asked_forever() -> anyhow::Result<()> {
    let (claimant, bodies) = claimant(vec![huge(); 1_000]).await?;
    let claiming = claimant.claim((0, 1), vec!["1".parse()?]);
    let Err(why) = timeout(DEADLINE, claiming).await? else {
        anyhow::bail!("nothing was claimed");
    };
    assert_eq!(why, NotClaimed::TooLarge(65_536));
    assert!(why.to_string().contains("CLAIM_BYTES_MAX"), "{why}");
    let bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
    assert!((3..20).contains(&bodies.len()), "{}", bodies.len());
    Ok(())
}

#[tokio::test]
async fn a_hub_that_lacks_what_it_had_gets_a_snapshot_from_there() -> anyhow::Result<()> {
    let mut world = World::new(vec![
        reply(200, receipt()),
        conflict(&json!({"kind": "gap", "reached": [11, 1], "taken": 0})),
    ])
    .await?;
    world.attempt().await?;
    world.join(5);
    world.attempt().await?;
    let snapshot = world.attempt().await?;
    assert_eq!(snapshot.events(), ["guild.snapshot store_changed"]);
    assert_eq!(snapshot.body["from"], json!([11, 1]));
    assert_eq!(
        snapshot.body["events"][0]["payload"]["voices"][0]["userId"],
        "5"
    );
    Ok(())
}

#[tokio::test]
async fn a_hub_that_forgot_the_claim_is_claimed_again_and_gets_a_snapshot() -> anyhow::Result<()> {
    let forgotten = conflict(&json!({"kind": "unclaimed"}));
    let mut world = World::new(vec![reply(200, receipt()), forgotten]).await?;
    world.attempt().await?;
    world.join(5);
    world.attempt().await?;
    let snapshot = world.attempt().await?;
    assert_eq!(snapshot.events(), ["guild.snapshot store_changed"]);
    assert_eq!(
        (&snapshot.body["generation"], &snapshot.body["from"]),
        (&json!(12), &json!([0, 0]))
    );
    Ok(())
}

#[tokio::test]
async fn a_delivery_task_whose_shard_a_newer_worker_has_ends() -> anyhow::Result<()> {
    let fenced = conflict(&json!({"kind": "fenced"}));
    let mut world = World::new(vec![reply(200, receipt()), fenced]).await?;
    world.attempt().await?;
    world.join(5);
    let ended = timeout(DEADLINE, &mut world.delivery).await??;
    assert_eq!(ended, Ended::Lost(NotClaimed::Fenced));
    Ok(())
}

#[tokio::test]
async fn a_delivery_task_that_is_asked_to_end_delivers_what_is_left_first() -> anyhow::Result<()> {
    let mut world = World::new(vec![reply(503, Value::Null), reply(503, Value::Null)]).await?;
    world.attempt().await?;
    world.join(5);
    world.last.cancel();
    for _ in 0..2 {
        world.attempt().await?;
    }
    assert_eq!(world.attempt().await?.events(), ["voice.joined"]);
    let ended = timeout(DEADLINE, &mut world.delivery).await??;
    assert_eq!(ended, Ended::Drained);
    assert!(world.acknowledged.is_current() && world.acknowledged.at_ms().is_some());
    Ok(())
}
