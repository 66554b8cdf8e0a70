//! The staff channel exists for nobody.

use std::time::Duration;

use e2e::{ADA, GRACE, GUILD, LOUNGE, STAFF, World, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// A user who is never anywhere but with the staff.
const BOSS: &str = "299999999999999999";

#[tokio::test]
async fn nothing_of_the_staff_channel_is_in_any_frame_answer_log_line_or_metric() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let channels = world.channels().await;
    let staff_name = channels[STAFF]["name"].as_str().unwrap().to_owned();

    world.voice(BOSS, Some(STAFF)).await;
    world
        .control(
            "voice",
            json!({ "guildId": GUILD, "userId": BOSS, "selfMute": true }),
        )
        .await;
    world.voice(ADA, Some(STAFF)).await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(ADA, Some(STAFF)).await;
    world.voice(GRACE, Some(LOUNGE)).await;
    eventually("Grace came, Ada left", || async {
        let (_, list) = world
            .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
            .await;
        let text = list.to_string();
        (text.contains(GRACE) && !text.contains(ADA)).then_some(())
    })
    .await;
    let mut late = world.browser("grace").await;
    late.settle(Duration::from_millis(200)).await;
    browser.settle(Duration::from_millis(200)).await;

    let manage = json!({ "sub": "mo", "scope": "rooms:read rooms:manage" });
    let (absent, nothing) = world
        .rest(Method::GET, "/api/rooms/123456789", manage.clone(), None)
        .await;
    let (hidden, staff) = world
        .rest(
            Method::GET,
            &format!("/api/rooms/{STAFF}"),
            manage.clone(),
            None,
        )
        .await;
    assert_eq!(
        (absent, hidden),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    assert_eq!(
        (&nothing["detail"], &nothing["code"]),
        (&staff["detail"], &staff["code"]),
        "a hidden room is as good as none"
    );
    let (status, _) = world
        .rest(
            Method::DELETE,
            &format!("/api/end-room/{STAFF}"),
            manage,
            None,
        )
        .await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let (_, list) = world
        .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
        .await;
    let mut everything = world.outputs().await;
    everything.push_str(&list.to_string());
    for heard in [&browser.heard, &late.heard] {
        assert!(heard.iter().any(|frame| frame.contains(LOUNGE)));
        everything.push_str(&heard.join("\n"));
    }
    for secret in [STAFF, BOSS, staff_name.as_str()] {
        assert!(
            !everything.contains(secret),
            "{secret} is in {}",
            around(&everything, secret)
        );
    }
}

#[tokio::test]
async fn a_room_that_is_hidden_or_shown_by_an_overwrite_goes_and_comes() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    browser.event("voice.joined").await;

    let deny = json!([{ "id": GUILD, "type": 0, "allow": "0", "deny": "1024" }]);
    world
        .change_channel(LOUNGE, json!({ "overwrites": deny }))
        .await;
    let gone = browser.event("room.deleted").await;
    assert_eq!(gone["payload"]["channelId"], LOUNGE);
    world.voice(GRACE, Some(LOUNGE)).await;
    world
        .change_channel(LOUNGE, json!({ "overwrites": [] }))
        .await;
    let back = browser.event("room.created").await;
    assert_eq!(back["payload"]["channelId"], LOUNGE);
    let mut users = [browser.frame().await, browser.frame().await].map(|frame| {
        assert_eq!(frame["event"], "voice.joined");
        frame["payload"]["userId"].as_str().unwrap().to_owned()
    });
    users.sort();
    assert_eq!(users, [ADA, GRACE]);
    let unseen = browser
        .heard
        .iter()
        .position(|frame| frame.contains("room.deleted"))
        .unwrap();
    let seen = browser
        .heard
        .iter()
        .position(|frame| frame.contains("room.created"))
        .unwrap();
    assert!(
        browser.heard[unseen + 1..seen]
            .iter()
            .all(|frame| !frame.contains(GRACE))
    );
}

#[tokio::test]
async fn only_the_rooms_of_the_setting_are_shown() {
    let world = World::with(&[("ROOMS_SHOWN", "owned")]).await;
    let mut browser = world.browser("ada").await;
    assert!(browser.heard.last().unwrap().contains("\"rooms\":[]"));
    world.voice(ADA, Some(LOUNGE)).await;
    let (status, created) = world
        .rest(
            Method::POST,
            "/api/create-room",
            json!({ "sub": "ada" }),
            Some(json!({ "name": "Ours" })),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let seen = browser.event("room.created").await;
    assert_eq!(seen["payload"]["channelId"], created["channelId"]);
    assert!(browser.heard.iter().all(|frame| !frame.contains(LOUNGE)));
}

fn around<'a>(text: &'a str, what: &str) -> &'a str {
    let at = text.find(what).unwrap_or(0);
    let from = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let to = text[at..].find('\n').map_or(text.len(), |end| at + end);
    &text[from..to]
}
