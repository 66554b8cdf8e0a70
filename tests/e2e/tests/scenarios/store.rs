//! The hub's store is deleted while the hub runs.

use serde_json::json;
use world::{ADA, Browser, GRACE, GUILD, LOUNGE, STUDY, World, assert_has, eventually};

#[tokio::test]
async fn a_store_that_is_deleted_under_a_running_hub_costs_nobody_anything() {
    let mut world = World::start().await;
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    let pos = browser.event("voice.joined").await["pos"].clone();
    for file in ["hub.db", "hub.db-wal", "hub.db-shm", "hub.db.lock"] {
        std::fs::remove_file(world.folder.path().join(file)).unwrap();
    }
    eventually("the store is written again", async || {
        (world.hub_metric("hub_store_written_anew_total").await > 0.0).then_some(())
    })
    .await;
    world.voice(GRACE, Some(STUDY)).await;
    browser.event("voice.joined").await;
    assert!(world.outputs().await.contains("ALARM"));
    world.restart_hub().await;

    let token = world.token(json!({ "sub": "ada" })).await;
    let mut returned = Browser::open(&world.hub_url).await;
    let auth = json!({ "type": "auth", "token": token, "recover": { GUILD: pos } });
    returned.send(&auth).await;
    assert_eq!(returned.frame().await["event"], "auth.ok");
    assert_eq!(returned.frame().await["recovered"], true);
    let missed = returned.event("voice.joined").await;
    assert_has(&missed, &json!({ "n": 1, "payload": { "userId": GRACE } }));
    assert!(world.folder.path().join("hub.db").exists());
}
