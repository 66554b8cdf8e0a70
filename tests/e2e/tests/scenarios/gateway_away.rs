//! What a gateway costs that can not be reached, or not where the session is to be resumed.

use e2e::{ADA, GUILD, LOUNGE, Plan, World, eventually, free_addresses};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A way to the gateway, for as long as it lives.
struct Way(JoinHandle<()>);

impl Way {
    async fn open(at: &str, to: &str) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let to = to.to_owned();
        Self(tokio::spawn(async move {
            let mut pairs = tokio::task::JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                let to = to.clone();
                pairs.spawn(async move {
                    let mut onward = TcpStream::connect(&to).await.unwrap();
                    // Whoever goes away first ends it.
                    let _ended = tokio::io::copy_bidirectional(&mut from, &mut onward).await;
                });
            }
        }))
    }

    /// Nobody gets through any more, and nobody listens when it returns.
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
    says(&world, "can not connect to the gateway").await;
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
        let told = browser.event("gateway.state").await;
        if told["payload"]["reason"] == "gateway_unreachable" {
            assert_eq!(told["payload"]["state"], "down");
            break;
        }
    }
    let _way = Way::open(&way, &sim).await;
    assert_eq!(browser.event("voice.joined").await["n"], 1);
    world.worker_ready().await;
    world.resumed_once().await;
}

#[tokio::test]
async fn what_only_identifying_can_tell_is_told_although_the_gateway_was_away_when_it_was_due() {
    let [internal, sim, at] = free_addresses();
    let gateway = format!("ws://{at}");
    let way = Way::open(&at, &sim).await;
    let world = World::of(Plan {
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
    let illegible = json!({"action": "dispatch", "event": "VOICE_STATE_UPDATE",
        "data": {"guild_id": GUILD, "user_id": ADA, "channel_id": 5}});
    world.control("gateway", illegible).await;
    says(&world, "the guild is read anew").await;
    way.close().await;
    says(&world, "can not connect to the gateway").await;
    // The connection that was to be closed is none, and the next fails as well.
    eventually("it fails again", || async {
        let log = world.worker.log();
        let (_, since) = log.split_once("identifying anew")?;
        since.contains("can not connect").then_some(())
    })
    .await;
    let _way = Way::open(&at, &sim).await;
    world.worker_ready().await;
    eventually("nothing is illegible", || async {
        (shard(&world).await["gaps"] == 0).then_some(())
    })
    .await;
    assert_eq!(world.truth().await["counters"]["identify"], 2);
}
