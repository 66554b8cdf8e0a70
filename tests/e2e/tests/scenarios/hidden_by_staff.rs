//! Staff hide a room of Roomwire's in Discord.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use world::{ADA, Browser, CATEGORY, GRACE, GUILD, World, eventually};

/// The bot, which keeps its sight: without it Discord refuses to let it end the room.
const BOT: &str = "300000000000000001";
/// Permissions View Channel, and Connect.
const VIEW: &str = "1024";
const VIEW_AND_CONNECT: &str = "1049600";
/// Names that no frame may have by chance.
const BEFORE: &str = "Name before it was hidden";
const AFTER: &str = "Name after it was hidden";

/// What staff leave the channel with who hide it.
fn hidden() -> Value {
    json!([
        { "id": GUILD, "type": 0, "allow": "0", "deny": VIEW },
        { "id": BOT, "type": 1, "allow": VIEW_AND_CONNECT, "deny": "0" },
    ])
}

async fn create(world: &World, sub: &str, body: Value) -> String {
    let claims = json!({ "sub": sub });
    let (status, made) = world
        .rest(Method::POST, "/api/create-room", claims, Some(body))
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    made["channelId"].as_str().unwrap().to_owned()
}

async fn get(world: &World, sub: &str, path: &str) -> (StatusCode, Value) {
    world
        .rest(Method::GET, path, json!({ "sub": sub }), None)
        .await
}

async fn end(world: &World, claims: Value, room: &str) -> (StatusCode, Value) {
    let path = format!("/api/end-room/{room}");
    world.rest(Method::DELETE, &path, claims, None).await
}

/// Waits until everything that happened so far has arrived: somebody comes into another room.
async fn arrived(world: &World, browser: &mut Browser, fence: &str) {
    world.voice(ADA, None).await;
    world.voice(ADA, Some(fence)).await;
    loop {
        let joined = browser.event("voice.joined").await;
        if joined["payload"]["channelId"] == fence {
            return;
        }
    }
}

fn last_pos(browser: &Browser) -> String {
    let frames = browser.received.iter().rev();
    frames
        .filter_map(|frame| serde_json::from_str::<Value>(frame).ok())
        .find_map(|frame| frame["pos"].as_str().map(str::to_owned))
        .unwrap()
}

#[tokio::test]
async fn a_room_of_ours_that_staff_hide_leaves_every_page_at_once_and_can_still_be_ended() {
    for shown in ["everyone", "owned", CATEGORY] {
        let world = World::with(&[("ROOMS_SHOWN", shown)]).await;
        let mut stranger = world.browser("stranger").await;
        let mut cut = world.browser("cut").await;
        let body = json!({ "name": BEFORE, "parentId": CATEGORY });
        let [ours, theirs] = [
            create(&world, "owner", body.clone()).await,
            create(&world, "owner", body).await,
        ];
        let fence = create(
            &world,
            "owner",
            json!({ "name": "Fence", "parentId": CATEGORY }),
        )
        .await;
        for _ in 0..3 {
            stranger.event("room.created").await;
            cut.event("room.created").await;
        }
        world.voice(ADA, Some(&ours)).await;
        stranger.event("voice.joined").await;
        cut.event("voice.joined").await;
        let pos = last_pos(&cut);
        drop(cut);

        for room in [&ours, &theirs] {
            let change = json!({ "overwrites": hidden() });
            world.change_channel(room, change).await;
            let gone = stranger.event("room.deleted").await;
            assert_eq!(gone["payload"]["channelId"], **room, "{shown}");
            assert_eq!(gone["payload"]["name"], BEFORE, "{shown}");
        }
        let heard = stranger.received.len();
        for room in [&ours, &theirs] {
            world.change_channel(room, json!({ "name": AFTER })).await;
        }
        world.voice(GRACE, Some(&ours)).await;
        arrived(&world, &mut stranger, &fence).await;

        // The frames since then: to a browser that stayed, to a new one, and to one that returns.
        let mut late = world.browser("late").await;
        let token = world.token(json!({ "sub": "cut" })).await;
        let mut back = Browser::open(&world.hub_url).await;
        let auth = json!({ "type": "auth", "token": token, "recover": { GUILD: pos } });
        back.send(&auth).await;
        loop {
            let joined = back.event("voice.joined").await;
            if joined["payload"]["channelId"] == fence {
                break;
            }
        }
        late.settle(Duration::from_millis(100)).await;
        back.settle(Duration::from_millis(100)).await;
        assert!(
            back.received
                .iter()
                .any(|frame| frame.contains("\"recovered\":true"))
        );
        for room in [&ours, &theirs] {
            let deleted =
                |frame: &&String| frame.contains("room.deleted") && frame.contains(&**room);
            assert_eq!(back.received.iter().filter(deleted).count(), 1, "{shown}");
        }
        let since = stranger.received[heard..].join("\n") + &late.received.join("\n");
        for secret in [AFTER, GRACE, &ours, &theirs] {
            assert!(!since.contains(secret), "{shown}: {secret} is in {since}");
        }
        for secret in [AFTER, GRACE] {
            let heard = back.received.join("\n");
            assert!(!heard.contains(secret), "{shown}: {secret} is in {heard}");
        }
        for sub in ["stranger", "owner"] {
            let (_, list) = get(&world, sub, "/api/rooms").await;
            assert!(list.to_string().contains(&fence));
            for secret in [AFTER, BEFORE, GRACE, &ours, &theirs] {
                assert!(!list.to_string().contains(secret), "{shown}: {list}");
            }
            let (absent, nothing) = get(&world, sub, "/api/rooms/123456789").await;
            let (status, refused) = get(&world, sub, &format!("/api/rooms/{ours}")).await;
            assert_eq!(
                (absent, status),
                (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
            );
            assert_eq!(nothing["detail"], refused["detail"]);
        }
        assert!(!world.outputs().await.contains(AFTER));

        // Its owner and a manager can end it as before, and nobody else can.
        let (status, _) = end(&world, json!({ "sub": "stranger" }), &ours).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        let manager = json!({ "sub": "mo", "scope": "rooms:read rooms:manage" });
        for (claims, room) in [(json!({ "sub": "owner" }), &ours), (manager, &theirs)] {
            let (status, answer) = end(&world, claims, room).await;
            assert_eq!(status, StatusCode::OK, "{shown}: {answer}");
            assert!(world.channels().await.get(room).is_none());
        }
        arrived(&world, &mut stranger, &fence).await;
        let since = stranger.received[heard..].join("\n");
        assert!(
            !since.contains(&ours) && !since.contains(&theirs),
            "{since}"
        );
    }
}

#[tokio::test]
async fn a_room_of_ours_comes_back_when_staff_remove_the_deny_and_stays_hidden_over_restarts() {
    let mut world = World::start().await;
    let mut stranger = world.browser("stranger").await;
    let ours = create(&world, "owner", json!({ "name": BEFORE })).await;
    stranger.event("room.created").await;
    world
        .change_channel(&ours, json!({ "overwrites": hidden() }))
        .await;
    stranger.event("room.deleted").await;
    world.voice(GRACE, Some(&ours)).await;

    world.restart_hub().await;
    world.restart_worker().await;
    let list = async |world: &World| get(world, "stranger", "/api/rooms").await.1;
    eventually("the guild is live again", async || {
        (list(&world).await["gateway"]["state"] == "live").then_some(())
    })
    .await;
    assert!(!list(&world).await.to_string().contains(&ours));

    let mut stranger = world.browser("stranger").await;
    world
        .change_channel(&ours, json!({ "name": AFTER, "overwrites": [] }))
        .await;
    let back = stranger.event("room.created").await;
    assert_eq!(back["payload"]["name"], AFTER);
    let joined = stranger.event("voice.joined").await;
    assert_eq!(joined["payload"]["userId"], GRACE);
}

#[tokio::test]
async fn a_deny_that_a_room_of_ours_has_from_its_category_does_not_hide_it() {
    let world = World::with(&[("ROOMS_SHOWN", CATEGORY)]).await;
    // The category is hidden, and the list shows it all the same.
    world
        .change_channel(CATEGORY, json!({ "overwrites": hidden() }))
        .await;
    let mut stranger = world.browser("stranger").await;
    let ours = create(&world, "owner", json!({ "name": BEFORE })).await;
    let overwrites = world.channels().await[&ours]["overwrites"].to_string();
    assert!(overwrites.contains(GUILD), "inherited: {overwrites}");
    let made = stranger.event("room.created").await;
    assert_eq!(made["payload"]["channelId"], *ours);
    // A deny of another permission does not hide it.
    let deaf = json!([
        { "id": GUILD, "type": 0, "allow": "0", "deny": "3146752" },
        { "id": BOT, "type": 1, "allow": VIEW_AND_CONNECT, "deny": "0" },
    ]);
    let change = json!({ "name": AFTER, "overwrites": deaf });
    world.change_channel(&ours, change).await;
    let renamed = stranger.event("room.updated").await;
    assert_eq!(renamed["payload"]["name"], AFTER);
    // Staff take the deny away and add it again: now it is one that was added.
    world
        .change_channel(&ours, json!({ "overwrites": [] }))
        .await;
    world
        .change_channel(&ours, json!({ "overwrites": hidden() }))
        .await;
    let gone = stranger.event("room.deleted").await;
    assert_eq!(gone["payload"]["channelId"], *ours);
}

#[tokio::test]
async fn rooms_of_ours_are_shown_in_a_guild_whose_everyone_role_may_view_nothing() {
    let world = World::start().await;
    let blind = json!({ "guildId": GUILD, "roleId": GUILD, "permissions": "0" });
    world.control("roles", blind).await;
    let mut stranger = world.browser("stranger").await;
    let ours = create(&world, "owner", json!({ "name": BEFORE })).await;
    let made = stranger.event("room.created").await;
    assert_eq!(made["payload"]["channelId"], *ours);
    world
        .change_channel(&ours, json!({ "overwrites": hidden() }))
        .await;
    let gone = stranger.event("room.deleted").await;
    assert_eq!(gone["payload"]["channelId"], *ours);
}

#[tokio::test]
async fn a_room_of_ours_that_staff_hide_from_the_bot_too_is_hidden_and_its_end_names_what_is_missing()
 {
    let world = World::start().await;
    let mut stranger = world.browser("stranger").await;
    let ours = create(&world, "owner", json!({ "name": BEFORE })).await;
    stranger.event("room.created").await;
    let bare = json!([{ "id": GUILD, "type": 0, "allow": "0", "deny": VIEW }]);
    world
        .change_channel(&ours, json!({ "name": AFTER, "overwrites": bare }))
        .await;
    let gone = stranger.event("room.deleted").await;
    assert_eq!(gone["payload"]["channelId"], *ours);
    let (status, refused) = end(&world, json!({ "sub": "owner" }), &ours).await;
    assert_eq!(
        (status, &refused["code"]),
        (StatusCode::BAD_GATEWAY, &json!("DISCORD_FORBIDDEN"))
    );
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("View Channel"), "{detail}");
    // The bot is let in again, and the deny stays.
    world
        .change_channel(&ours, json!({ "overwrites": hidden() }))
        .await;
    let (status, answer) = end(&world, json!({ "sub": "owner" }), &ours).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(!stranger.received.join("\n").contains(AFTER));
}
