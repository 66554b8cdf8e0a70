//! A bot whose shards are processes of their own.

use world::{ADA, GUILD, LOUNGE, Plan, Process, World, eventually, free_addresses};

/// The shard that the guild is of.
const ITS_SHARD: &str = "2";
const OTHERS: [&str; 3] = ["0", "1", "3"];

#[tokio::test]
async fn processes_of_one_bucket_take_turns_and_each_identifies_once() {
    let every = ("IDENTIFY_EVERY_MS", "1300");
    let world = World::of(Plan {
        sim: &[("SIM_IDENTIFY_EVERY_MS", "1000")],
        worker: &[("SHARD_ID", ITS_SHARD), ("SHARD_COUNT", "4"), every],
        ..Plan::default()
    })
    .await;
    let endpoint = format!("{}/api/internal/events", world.internal_url);
    let addresses: [String; 3] = free_addresses();
    let workers: Vec<Process> = OTHERS
        .iter()
        .zip(&addresses)
        .map(|(shard, address)| {
            Process::start(
                "gateway-worker",
                &[
                    ("HUB_SECRET", world::SECRET),
                    ("PRIMARY_GUILD_ID", GUILD),
                    ("DISCORD_BOT_TOKEN", "sim-token"),
                    ("HUB_ENDPOINT", &endpoint),
                    ("WORKER_LISTEN", address),
                    ("DISCORD_API_URL", &world.discord.url),
                    ("SHARD_ID", shard),
                    ("SHARD_COUNT", "4"),
                    every,
                ],
            )
        })
        .collect();
    for address in &addresses {
        eventually("a shard is live", || async {
            let page = world.http.get(format!("http://{address}/readyz"));
            page.send().await.ok()?.status().is_success().then_some(())
        })
        .await;
    }
    let counters = &world.truth().await["counters"];
    assert_eq!(counters["identify"], 4, "{counters}");
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    browser.event("voice.joined").await;
    drop(workers);
}
