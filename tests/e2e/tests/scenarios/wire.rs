//! From Discord to the browser, and back.

use reqwest::{Method, StatusCode};
use serde_json::json;
use world::{ADA, GUILD, LOUNGE, STUDY, World, assert_has, eventually};

#[tokio::test]
async fn a_browser_that_nobody_refreshes_shows_the_acts_of_a_member_in_discord() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;

    world.voice(ADA, Some(LOUNGE)).await;
    let joined = browser.event("voice.joined").await;
    assert_eq!(joined["payload"]["channelId"], LOUNGE);
    assert_eq!(joined["payload"]["userId"], ADA);
    assert!(joined["payload"]["member"]["displayName"].is_string());
    assert_eq!(joined["n"], 1);

    world
        .control(
            "voice",
            json!({ "guildId": GUILD, "userId": ADA, "selfMute": true }),
        )
        .await;
    let muted = browser.event("voice.state_changed").await;
    assert_eq!(muted["payload"]["selfMute"], true);
    assert_eq!(muted["n"], 2);

    world.voice(ADA, Some(STUDY)).await;
    let left = browser.frame().await;
    let joined = browser.frame().await;
    assert_has(
        &left,
        &json!({ "event": "voice.left", "payload": { "movedTo": STUDY } }),
    );
    assert_has(
        &joined,
        &json!({ "event": "voice.joined", "payload": { "movedFrom": LOUNGE } }),
    );
    assert_eq!((&left["n"], &joined["n"]), (&json!(3), &json!(4)));

    world.voice(ADA, None).await;
    let left = browser.event("voice.left").await;
    assert_eq!(left["payload"]["channelId"], STUDY);
    assert!(left["payload"].get("movedTo").is_none());
}

#[tokio::test]
async fn a_browser_that_comes_later_gets_the_whole_in_its_snapshot() {
    let world = World::start().await;
    let mut first = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    first.event("voice.joined").await;

    let token = world.token(json!({ "sub": "grace" })).await;
    let mut second = world::Browser::open(&world.hub_url).await;
    second
        .send(&json!({ "type": "auth", "token": token, "id": "hello" }))
        .await;
    let welcome = second.frame().await;
    assert_has(
        &welcome,
        &json!({ "event": "auth.ok", "re": "hello", "sub": "grace" }),
    );
    let subscribed = second.frame().await;
    assert_has(
        &subscribed,
        &json!({ "event": "subscribed", "recovered": false }),
    );
    let snapshot = second.frame().await;
    assert_has(&snapshot, &json!({ "event": "guild.snapshot", "n": 0 }));
    assert_eq!(snapshot["payload"]["reason"], "subscribed");
    assert_eq!(snapshot["payload"]["gateway"]["state"], "live");
    let rooms = snapshot["payload"]["rooms"].as_array().unwrap();
    let lounge = rooms
        .iter()
        .find(|room| room["channelId"] == LOUNGE)
        .unwrap();
    assert_eq!(lounge["members"][0]["userId"], ADA);

    let (status, list) = world
        .rest(Method::GET, "/api/rooms", json!({ "sub": "grace" }), None)
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(list["rooms"], snapshot["payload"]["rooms"]);
}

#[tokio::test]
async fn a_subscription_can_be_narrowed_to_some_rooms() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    browser
        .send(&json!({ "type": "subscribe", "guildId": GUILD, "rooms": [STUDY], "id": 1 }))
        .await;
    let subscribed = browser.event("subscribed").await;
    assert_eq!(subscribed["re"], 1);
    let snapshot = browser.event("guild.snapshot").await;
    assert_eq!(snapshot["payload"]["rooms"].as_array().unwrap().len(), 1);
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(ADA, Some(STUDY)).await;
    let joined = browser.frame().await;
    assert_has(
        &joined,
        &json!({ "event": "voice.joined", "payload": { "channelId": STUDY } }),
    );
    assert!(
        joined["payload"].get("movedFrom").is_none(),
        "a room outside the view is not named"
    );
    assert_eq!(joined["n"], 1);
}

#[tokio::test]
async fn a_room_that_is_created_exists_in_discord_and_is_seen_and_ended() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let claims = json!({ "sub": "ada" });
    let body = json!({ "name": "Chess", "userLimit": 2 });
    let (status, created) = world
        .rest(Method::POST, "/api/create-room", claims.clone(), Some(body))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let id = created["channelId"].as_str().unwrap().to_owned();
    let channel = world.channels().await[&id].clone();
    assert_has(&channel, &json!({ "name": "Chess", "userLimit": 2 }));

    let seen = browser.event("room.created").await;
    assert_has(
        &seen,
        &json!({ "payload": { "channelId": id, "name": "Chess" } }),
    );

    let path = format!("/api/end-room/{id}");
    let (status, _) = world
        .rest(Method::DELETE, &path, json!({ "sub": "grace" }), None)
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND, "somebody else's room");
    let (status, ended) = world
        .rest(Method::DELETE, &path, claims.clone(), None)
        .await;
    assert_eq!((status, &ended), (StatusCode::OK, &json!({ "ok": true })));
    assert_eq!(
        browser.event("room.deleted").await["payload"]["channelId"],
        json!(id)
    );
    assert!(world.channels().await.get(&id).is_none());

    let (status, _) = world
        .rest(
            Method::DELETE,
            &format!("/api/end-room/{LOUNGE}"),
            json!({ "sub": "ada", "scope": "rooms:manage rooms:end" }),
            None,
        )
        .await;
    assert_eq!(
        status,
        StatusCode::NOT_FOUND,
        "not a room that Roomwire made"
    );
    assert!(world.channels().await.get(LOUNGE).is_some());
}

#[tokio::test]
async fn a_refusal_by_discord_is_a_clear_problem() {
    let world = World::start().await;
    let route = "POST /guilds/*/channels";
    for (fault, status, code) in [
        (
            json!({ "match": route, "status": 403, "times": 1 }),
            502,
            "DISCORD_FORBIDDEN",
        ),
        (
            json!({ "match": route, "status": 500, "times": 1 }),
            503,
            "DISCORD_UNAVAILABLE",
        ),
        (
            json!({ "match": route, "status": 429, "times": 1, "retryAfter": 0.2 }),
            503,
            "DISCORD_UNAVAILABLE",
        ),
    ] {
        world.control("rest", fault.clone()).await;
        let (got, problem) = world
            .rest(
                Method::POST,
                "/api/create-room",
                json!({ "sub": "ada" }),
                Some(json!({ "name": "x" })),
            )
            .await;
        assert_eq!(
            (got.as_u16(), &problem["code"]),
            (status, &json!(code)),
            "{fault} {problem}"
        );
        assert_eq!(
            problem["type"],
            format!("urn:roomwire:{}", code.to_lowercase())
        );
        assert!(
            problem["requestId"]
                .as_str()
                .is_some_and(|id| !id.is_empty())
        );
        if status == 503 && fault["status"] == 429 {
            assert!(
                problem["retryAfterMs"].as_u64().is_some_and(|ms| ms > 0),
                "{problem}"
            );
        }
    }
    let created = eventually("Discord lets us again", || async {
        let (status, room) = world
            .rest(
                Method::POST,
                "/api/create-room",
                json!({ "sub": "ada" }),
                Some(json!({ "name": "x" })),
            )
            .await;
        (status == StatusCode::CREATED).then_some(room)
    })
    .await;
    assert_eq!(created["name"], "x");
}
