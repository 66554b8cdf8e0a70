//! What a restart and a cut cost.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use world::reducer::Mirror;
use world::{ADA, Browser, Ended, GRACE, LOUNGE, STUDY, World, assert_has, eventually};

async fn who_is_in(world: &World, room: &str) -> Vec<String> {
    let (_, list) = world
        .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
        .await;
    let rooms = list["rooms"].as_array().cloned().unwrap_or_default();
    let members = |room: &Value| room["members"].as_array().cloned().unwrap_or_default();
    rooms
        .iter()
        .filter(|one| one["channelId"] == room)
        .flat_map(members)
        .map(|member| member["userId"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn a_cut_gateway_connection_is_resumed_and_nothing_is_missed() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    world.control("gateway", json!({ "action": "drop" })).await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(GRACE, Some(STUDY)).await;
    let first = browser.event("voice.joined").await;
    let second = browser.event("voice.joined").await;
    assert_eq!(
        (&first["payload"]["userId"], &second["payload"]["userId"]),
        (&json!(ADA), &json!(GRACE))
    );
    world.resumed_once().await;
    assert_eq!(browser.snapshots(), 1, "no second snapshot");
}

#[tokio::test]
async fn a_user_who_left_while_the_session_was_lost_is_no_ghost() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(GRACE, Some(LOUNGE)).await;
    browser.event("voice.joined").await;
    browser.event("voice.joined").await;
    world
        .control("gateway", json!({ "action": "forget" }))
        .await;
    world.control("gateway", json!({ "action": "drop" })).await;
    world.voice(ADA, None).await;
    world.voice(GRACE, Some(STUDY)).await;
    let mut mirror = Mirror::default();
    mirror.converge(&world, &mut browser).await;
    assert!(mirror.reducer.roster.seating()[STUDY].contains(GRACE));
    let left = |user: &str| {
        browser
            .received
            .iter()
            .filter(|frame| frame.contains("voice.left") && frame.contains(user))
            .count()
    };
    assert_eq!(
        (left(ADA), left(GRACE)),
        (1, 1),
        "the leaves are announced, once"
    );
    assert_eq!(world.truth().await["counters"]["identify"], 2);
}

#[tokio::test]
async fn a_hub_that_was_killed_recovers_everything_and_never_shows_half() {
    let mut world = World::start().await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(GRACE, Some(world::STAFF)).await;
    eventually("Ada is seen", || async {
        (who_is_in(&world, LOUNGE).await == [ADA]).then_some(())
    })
    .await;
    world.restart_hub().await;
    // Before the hub has the guild it shows nothing, least of all the staff, and is not live.
    let mut early = world.browser("early").await;
    world.voice(GRACE, Some(STUDY)).await;
    world.voice(GRACE, Some(world::STAFF)).await;
    eventually("Ada is seen again", || async {
        (who_is_in(&world, LOUNGE).await == [ADA]).then_some(())
    })
    .await;
    let mut browser = world.browser("ada").await;
    browser.settle(Duration::from_millis(100)).await;
    assert!(
        browser
            .received
            .iter()
            .all(|frame| !frame.contains(world::STAFF))
    );
    assert_eq!(
        world.truth().await["counters"]["identify"],
        1,
        "the worker went on"
    );
    early.settle(Duration::from_millis(100)).await;
    let mut empty = true;
    for heard in &early.received {
        assert!(!heard.contains(world::STAFF));
        if heard.contains("guild.snapshot") {
            empty = heard.contains("\"rooms\":[]");
        }
        assert!(
            !(empty && heard.contains("\"live\"")),
            "live, and empty: {heard}"
        );
    }
}

#[tokio::test]
async fn a_silent_worker_is_published_as_down_and_its_return_as_live() {
    let mut world = World::with(&[("WORKER_SILENCE_MAX_MS", "3000")]).await;
    let mut browser = world.browser("ada").await;
    world.worker.kill().await;
    let state = browser.event("gateway.state").await;
    assert_has(
        &state,
        &json!({ "payload": { "state": "down", "reason": "worker_silent" } }),
    );
    assert!(state.get("n").is_none() && state.get("pos").is_none());
    world.worker = world.worker.again();
    loop {
        if browser.event("gateway.state").await["payload"]["state"] == "live" {
            break;
        }
    }
}

#[tokio::test]
async fn a_hub_that_is_asked_to_stop_says_when_to_come_back() {
    let mut world = World::start().await;
    let mut browser = world.browser("ada").await;
    let mut stranger = Browser::open(&world.hub_url).await;
    let (status, ended, stranger_ended) =
        tokio::join!(world.hub.terminate(), browser.end(), stranger.end());
    assert_eq!(status.code(), Some(0));
    assert_eq!(
        (ended, stranger_ended),
        (Ended::Closed(1001), Ended::Closed(1001))
    );
    let notice: Value = serde_json::from_str(browser.received.last().unwrap()).unwrap();
    assert_has(&notice, &json!({ "type": "notice", "event": "draining" }));
    assert!(notice["reconnectAfterMs"].is_u64());
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_leaves_its_session_resumable() {
    let mut world = World::start().await;
    let status = world.worker.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", world.worker.log());
    let sessions = world.truth().await["sessions"].clone();
    let sessions = sessions.as_array().unwrap();
    assert_eq!(sessions.len(), 1, "Discord keeps the session: {sessions:?}");
    world.worker = world.worker.again();
    world.worker_ready().await;
    world.resumed_once().await;
}

#[tokio::test]
async fn a_worker_that_discord_refuses_for_good_says_so_and_stays_away() {
    let mut world = World::start().await;
    let mut browser = world.browser("ada").await;
    world
        .control("gateway", json!({ "action": "close", "code": 4004 }))
        .await;
    let status = world.worker.exit().await;
    assert_eq!(status.code(), Some(69), "{}", world.worker.log());
    let state = browser.event("gateway.state").await;
    assert_eq!(state["payload"]["state"], "down");
}

#[tokio::test]
async fn a_worker_that_starts_behind_a_proxy_with_pages_of_its_own_waits_for_discord() {
    let mut world = World::start().await;
    world.worker.kill().await;
    let page = "<html>sign in</html>";
    let answers = [
        (401, page),
        (401, "{}"),
        (401, r#"{"code":401,"message":"no such user"}"#),
        (401, ""),
        (403, page),
        (404, page),
        (407, page),
        (502, page),
        (200, page),
    ];
    for (status, body) in answers {
        let fault = json!({"match": "GET /gateway/bot", "status": status, "body": body});
        world.control("rest", fault).await;
    }
    world.worker = world.worker.again_with(&[("RECONNECT_MAX_MS", "100")]);
    world.worker_ready().await;
    world.resumed_once().await;
    // Discord's own word is another matter.
    world.worker.kill().await;
    world
        .control("rest", json!({"match": "GET /gateway/bot", "status": 401}))
        .await;
    world.worker = world.worker.again();
    let status = world.worker.exit().await;
    assert_eq!(status.code(), Some(69), "{}", world.worker.log());
}
