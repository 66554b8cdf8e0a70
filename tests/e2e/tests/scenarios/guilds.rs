//! Which guilds are followed, and which are served: settings of two programs.

use reqwest::Method;
use serde_json::{Value, json};
use world::{ADA, GUILD, LOUNGE, Plan, World, eventually};

/// A guild that the bot is not in.
const OTHER: &str = "100000000000000099";

async fn not_served(world: &World) -> Value {
    let page = world.http.get(format!("{}/health", world.worker_url));
    let health: Value = page.send().await.unwrap().json().await.unwrap();
    health["shards"][0]["notServed"].clone()
}

async fn until_not_served(world: &World, guilds: &Value) {
    eventually("what is not served", || async {
        (not_served(world).await == *guilds).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_guild_that_only_the_worker_follows_is_logged_once_and_published_when_the_hub_serves_it()
{
    let mut world = World::of(Plan {
        worker: &[("GUILD_IDS", OTHER)],
        ..Plan::default()
    })
    .await;
    until_not_served(&world, &json!([OTHER])).await;
    let mut browser = world.browser("ada").await;
    for room in [Some(LOUNGE), None, Some(LOUNGE)] {
        world.voice(ADA, room).await;
    }
    for event in ["voice.joined", "voice.left", "voice.joined"] {
        browser.event(event).await;
    }
    let log = world.worker.log();
    let about = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    assert_eq!(about("does not serve this guild"), 1, "{log}");
    assert_eq!(about("the hub refused events"), 0, "{log}");

    // The hub is given it as well.
    world.hub.kill().await;
    world.hub = world.hub.again_with(&[("GUILD_IDS", OTHER)]);
    until_not_served(&world, &json!([])).await;
    world.worker_ready().await;
    assert!(!world.worker.log().contains("ALARM"));
}

#[tokio::test]
async fn a_worker_with_other_guilds_than_the_one_before_identifies_and_alarms_nobody() {
    let mut world = World::with(&[("GUILD_IDS", OTHER)]).await;
    world.worker.kill().await;
    world.worker = world.worker.again_with(&[("GUILD_IDS", OTHER)]);
    world.voice(ADA, Some(LOUNGE)).await;
    let mut browser = world.browser("ada").await;
    eventually("it identified", || async {
        (world.truth().await["counters"]["identify"] == 2).then_some(())
    })
    .await;
    world.worker_ready().await;
    world.voice(ADA, None).await;
    loop {
        let left = browser.event("voice.left").await;
        if left["guildId"] == GUILD {
            break;
        }
    }
    assert!(
        !world.worker.log().contains("ALARM"),
        "{}",
        world.worker.log()
    );
}

#[tokio::test]
async fn a_worker_whose_claim_is_answered_with_more_than_it_takes_identifies_and_its_guilds_are_followed()
 {
    let mut world = World::start().await;
    let mut browser = world.browser("ada").await;
    let crowd = 260;
    for user in 1..=crowd {
        let user = format!("2{user:017}");
        world.voice(&user, Some(LOUNGE)).await;
    }
    for _ in 0..crowd {
        browser.event("voice.joined").await;
    }
    world.worker.kill().await;
    world.voice(ADA, None).await;
    world.worker = world.worker.again_with(&[("CLAIM_BYTES_MAX", "65536")]);
    // The worker cannot know who left, so it sends a snapshot.
    let snapshot = browser.event("guild.snapshot").await;
    assert_eq!(snapshot["payload"]["reason"], "worker_started");
    world.worker_ready().await;
    assert!(world.worker.log().contains("larger than CLAIM_BYTES_MAX"));
    assert_eq!(world.truth().await["counters"]["identify"], 2);
    world.voice(ADA, Some(LOUNGE)).await;
    let joined = browser.event("voice.joined").await;
    assert_eq!(joined["payload"]["userId"], ADA);
    // The hub says so too.
    eventually("the guild is live", || async {
        let (_, list) = world
            .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
            .await;
        (list["gateway"]["state"] == "live").then_some(())
    })
    .await;
}
