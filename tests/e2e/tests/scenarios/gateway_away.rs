//! The gateway, or the address for resuming, cannot be reached.

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use world::{ADA, GUILD, LOUNGE, Plan, World, eventually, free_addresses};

/// Forwards connections to the gateway. Dropping it does not end it.
struct Forwarder(JoinHandle<()>);

impl Forwarder {
    async fn open(at: &str, to: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let to = to.to_owned();
        Self(tokio::spawn(async move {
            let mut pairs = tokio::task::JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let to = to.clone();
                pairs.spawn(async move {
                    let mut onward = TcpStream::connect(&to).await.unwrap();
                    // Either end ends it.
                    let _ended = tokio::io::copy_bidirectional(&mut from, &mut onward).await;
                });
            }
        }))
    }

    /// Ends every connection; on return nothing listens.
    async fn close(self) {
        self.0.abort();
        let _aborted = self.0.await;
    }
}

async fn says(world: &World, words: &str) {
    eventually(words, || async {
        world.worker.log().contains(words).then_some(())
    })
    .await;
}

async fn shard(world: &World) -> Value {
    let page = world.http.get(format!("{}/health", world.worker_url));
    let health: Value = page.send().await.unwrap().json().await.unwrap();
    health["shards"][0].clone()
}

#[tokio::test]
async fn a_worker_whose_session_is_to_be_resumed_where_nobody_listens_resumes_it_elsewhere() {
    let [internal, sim, nobody] = free_addresses();
    let gateway = format!("ws://{sim}");
    let mut world = World::of(Plan {
        sim: &[("SIM_PUBLIC_HOST", &nobody)],
        worker: &[("DISCORD_GATEWAY_URL", &gateway)],
        addresses: Some([&internal, &sim]),
        ..Plan::default()
    })
    .await;
    let mut browser = world.browser("ada").await;
    world.worker.kill().await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.worker = world.worker.again();
    assert_eq!(browser.event("voice.joined").await["n"], 1);
    says(&world, "connect to the gateway").await;
    world.resumed_once().await;
}

#[tokio::test]
async fn a_worker_that_starts_while_the_gateway_is_away_says_so_and_goes_on_when_it_is_back() {
    let [internal, sim, way] = free_addresses();
    let gateway = format!("ws://{way}");
    let mut world = World::of(Plan {
        sim: &[("SIM_PUBLIC_HOST", &way)],
        worker: &[("DISCORD_GATEWAY_URL", &format!("ws://{sim}"))],
        addresses: Some([&internal, &sim]),
        ..Plan::default()
    })
    .await;
    let mut browser = world.browser("ada").await;
    world.worker.kill().await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.worker = world.worker.again_with(&[
        ("DISCORD_GATEWAY_URL", &gateway),
        ("RECONNECT_MAX_MS", "1000"),
    ]);
    loop {
        let state = browser.event("gateway.state").await;
        if state["payload"]["reason"] == "gateway_unreachable" {
            assert_eq!(state["payload"]["state"], "down");
            break;
        }
    }
    let _way = Forwarder::open(&way, &sim).await;
    assert_eq!(browser.event("voice.joined").await["n"], 1);
    world.worker_ready().await;
    world.resumed_once().await;
}

#[tokio::test]
async fn a_due_identify_is_made_up_for_after_the_gateway_was_away() {
    let [internal, sim, at] = free_addresses();
    let gateway = format!("ws://{at}");
    let way = Forwarder::open(&at, &sim).await;
    let mut world = World::of(Plan {
        sim: &[("SIM_PUBLIC_HOST", &at)],
        worker: &[
            ("DISCORD_GATEWAY_URL", &gateway),
            ("QUESTION_ATTEMPTS_MAX", "1"),
            ("REBUILD_MIN_MS", "1000"),
            ("RECONNECT_MAX_MS", "1000"),
            ("IDENTIFY_AGAIN_MS", "100"),
        ],
        addresses: Some([&internal, &sim]),
        ..Plan::default()
    })
    .await;
    let fault = json!({"match": "GET /guilds/*/voice-states/*", "status": 500, "times": 1});
    world.control("rest", fault).await;
    let unreadable = json!({"action": "dispatch", "event": "VOICE_STATE_UPDATE",
        "data": {"guild_id": GUILD, "user_id": ADA, "channel_id": 5}});
    world.control("gateway", unreadable).await;
    says(&world, "the guild is read").await;
    way.close().await;
    says(&world, "connect to the gateway").await;
    // The connection that was due to close is closed already, and the next one fails as well.
    eventually("it fails again", || async {
        let log = world.worker.log();
        let (_, since) = log.split_once("identifying a")?;
        since.contains("connect to the gateway").then_some(())
    })
    .await;
    let _way = Forwarder::open(&at, &sim).await;
    world.worker_ready().await;
    eventually("no gap is left", || async {
        (shard(&world).await["gaps"] == 0).then_some(())
    })
    .await;
    assert_eq!(world.truth().await["counters"]["identify"], 2);
}
