//! A browser that reconnects continues at its position, or gets a snapshot with the reason.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use world::{
    ADA, Browser, CATEGORY, Folder, GRACE, GUILD, LOUNGE, STAFF, STUDY, Signal, World, assert_has,
    eventually,
};

/// The last position that a browser was given.
fn last_pos(browser: &Browser) -> String {
    let frames = browser.received.iter().rev();
    frames
        .filter_map(|frame| serde_json::from_str::<Value>(frame).ok())
        .find_map(|frame| frame["pos"].as_str().map(str::to_owned))
        .unwrap()
}

/// A browser of Ada's that continues from a position.
async fn returns(world: &World, pos: &str, rooms: Option<&[&str]>) -> Browser {
    let token = world.token(json!({ "sub": "ada" })).await;
    let mut browser = Browser::open(&world.hub_url).await;
    let mut auth = json!({ "type": "auth", "token": token, "recover": { GUILD: pos } });
    if let Some(rooms) = rooms {
        auth["rooms"] = json!(rooms);
    }
    browser.send(&auth).await;
    assert_eq!(browser.frame().await["event"], "auth.ok");
    browser
}

/// The fields of an event that are the same for every browser.
fn gist(frame: &Value) -> Value {
    json!([
        frame["event"],
        frame["payload"],
        frame["ts"],
        frame["guildId"]
    ])
}

#[tokio::test]
async fn a_browser_that_was_cut_off_hears_exactly_what_it_missed() {
    let world = World::start().await;
    let mut stayed = world.browser("grace").await;
    let mut cut = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    cut.event("voice.joined").await;
    stayed.event("voice.joined").await;
    let pos = last_pos(&cut);
    drop(cut);

    world.voice(GRACE, Some(LOUNGE)).await;
    world.voice(ADA, Some(STUDY)).await;
    // This one is hidden: no browser receives it or can count it.
    world.voice(GRACE, Some(STAFF)).await;
    world
        .control(
            "channels",
            json!({ "guildId": GUILD, "name": "Chess", "type": 2, "parentId": CATEGORY }),
        )
        .await;
    let mut missed = Vec::new();
    while missed
        .last()
        .is_none_or(|frame: &Value| frame["event"] != "room.created")
    {
        let frame = stayed.frame().await;
        if frame["n"].is_u64() {
            missed.push(frame);
        }
    }
    assert_eq!(missed.len(), 5, "{missed:#?}");

    let mut back = returns(&world, &pos, None).await;
    let subscribed = back.frame().await;
    assert_has(
        &subscribed,
        &json!({ "event": "subscribed", "recovered": true }),
    );
    let gateway = back.frame().await;
    assert_has(
        &gateway,
        &json!({ "event": "gateway.state", "payload": { "state": "live" } }),
    );
    assert!(gateway.get("n").is_none() && gateway.get("pos").is_none());
    for (n, event) in (1..).zip(&missed) {
        let frame = back.frame().await;
        assert_eq!(gist(&frame), gist(event));
        assert_eq!(frame["n"], n);
    }
    world.voice(ADA, None).await;
    let live = back.frame().await;
    assert_has(&live, &json!({ "event": "voice.left", "n": 6 }));
    assert!(!back.received.concat().contains(STAFF));

    // From the position of `subscribed`, and again from the last position.
    for (pos, left) in [
        (subscribed["pos"].as_str().unwrap(), 6),
        (live["pos"].as_str().unwrap(), 0),
    ] {
        let mut again = returns(&world, pos, None).await;
        assert_eq!(again.event("subscribed").await["recovered"], true);
        again.event("gateway.state").await;
        again.send(&json!({ "type": "ping" })).await;
        let mut heard = 0;
        while again.frame().await["event"] != "pong" {
            heard += 1;
        }
        assert_eq!(heard, left);
    }
}

#[tokio::test]
async fn a_position_that_cannot_be_continued_is_answered_with_a_snapshot_and_its_reason() {
    let world = World::with(&[("RECOVERY_FRAMES_MAX", "2")]).await;
    let browser = world.browser("ada").await;
    let pos = last_pos(&browser);
    let mut other = pos.clone();
    other.replace_range(..1, if pos.starts_with('A') { "B" } else { "A" });
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(ADA, Some(STUDY)).await;
    eventually("the hub knows", || async {
        let (_, list) = world
            .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
            .await;
        let rooms = list["rooms"].as_array()?.clone();
        let study = rooms.into_iter().find(|room| room["channelId"] == STUDY)?;
        (study["members"][0]["userId"] == ADA).then_some(())
    })
    .await;
    for (pos, rooms, reason) in [
        (pos.as_str(), None, "too_old"),
        (&pos, Some(&[STUDY][..]), "view_changed"),
        ("", None, "bad_position"),
        ("garbage", None, "bad_position"),
        (&pos[1..], None, "bad_position"),
        (&format!("{pos}{pos}"), None, "bad_position"),
    ] {
        let mut browser = returns(&world, pos, rooms).await;
        assert_eq!(browser.frame().await["recovered"], false, "{reason}");
        let snapshot = browser.frame().await;
        assert_eq!(snapshot["payload"]["reason"], reason);
        assert_eq!(snapshot["n"], 0);
        browser.send(&json!({ "type": "ping" })).await;
        assert_eq!(
            browser.frame().await["event"],
            "pong",
            "the connection goes on"
        );
    }
    // One that somebody tampered with is never an error either.
    let mut tampered = returns(&world, &other, None).await;
    assert_eq!(tampered.frame().await["recovered"], false);
    assert_eq!(tampered.frame().await["event"], "guild.snapshot");
    let recoveries = world.hub_metric("hub_recoveries_total").await;
    assert!(recoveries >= 7.0, "{recoveries}");
}

#[tokio::test]
async fn a_choice_of_rooms_and_a_rest_answer_can_be_continued_as_well() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let choose = |recover: Option<&str>| json!({ "type": "subscribe", "guildId": GUILD, "rooms": [STUDY, LOUNGE], "recover": recover, "id": 1 });
    browser.send(&choose(None)).await;
    browser.event("subscribed").await;
    let snapshot = browser.event("guild.snapshot").await;
    assert_eq!(snapshot["payload"]["reason"], "subscribed");
    let (_, list) = world
        .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
        .await;
    world.voice(ADA, Some(STUDY)).await;
    browser.event("voice.joined").await;

    browser.send(&choose(snapshot["pos"].as_str())).await;
    let subscribed = browser.event("subscribed").await;
    assert_has(&subscribed, &json!({ "re": 1, "recovered": true }));
    let joined = browser.event("voice.joined").await;
    assert_has(&joined, &json!({ "n": 1, "payload": { "userId": ADA } }));

    let mut whole = returns(&world, list["pos"].as_str().unwrap(), None).await;
    assert_eq!(whole.frame().await["recovered"], true);
    assert_eq!(whole.event("voice.joined").await["n"], 1);
}

#[tokio::test]
async fn a_large_guild_comes_in_parts_and_a_browser_that_reads_gets_all_of_it() {
    let world = World::with(&[("OUTBOX_BYTES_MAX", "20000"), ("SUBSCRIPTIONS_MAX", "2")]).await;
    for index in 0..40 {
        world
            .control(
                "channels",
                json!({ "guildId": GUILD, "name": format!("Table {index}"), "type": 2 }),
            )
            .await;
    }
    let users: Vec<String> = (0..400_u64)
        .map(|index| (300_000_000_000_000_000 + index).to_string())
        .collect();
    for user in &users {
        world.voice(user, Some(LOUNGE)).await;
    }
    let rooms = eventually("the hub knows them all", || async {
        let (status, list) = world
            .rest(Method::GET, "/api/rooms", json!({ "sub": "ada" }), None)
            .await;
        assert_eq!(status, StatusCode::OK);
        let rooms = list["rooms"].as_array()?.clone();
        let seated: usize = rooms
            .iter()
            .filter_map(|room| Some(room["members"].as_array()?.len()))
            .sum();
        (seated == users.len() && rooms.len() == 42).then_some(rooms)
    })
    .await;

    let mut browser = Browser::open(&world.hub_url).await;
    let token = world.token(json!({ "sub": "ada" })).await;
    browser
        .send(&json!({ "type": "auth", "token": token }))
        .await;
    let begun = browser.event("subscribed").await;
    let mut received: Vec<Value> = Vec::new();
    let mut positions = Vec::new();
    loop {
        let part = browser.frame().await;
        assert_has(&part, &json!({ "event": "guild.snapshot", "n": 0 }));
        assert!(browser.received.last().unwrap().len() <= 64 * 1024);
        positions.push(part["pos"].as_str().unwrap().to_owned());
        assert_eq!(part["payload"]["part"], positions.len());
        assert_eq!(part["payload"]["gateway"]["state"], "live");
        for room in part["payload"]["rooms"].as_array().unwrap() {
            match received
                .iter_mut()
                .find(|known| known["channelId"] == room["channelId"])
            {
                None => received.push(room.clone()),
                Some(known) => {
                    let members = room["members"].as_array().unwrap().clone();
                    known["members"].as_array_mut().unwrap().extend(members);
                }
            }
        }
        if part["payload"]["part"] == part["payload"]["of"] {
            break;
        }
    }
    assert!(positions.len() > 1, "{positions:?}");
    assert_eq!(received, rooms);
    world.voice(ADA, Some(STUDY)).await;
    assert_eq!(browser.event("voice.joined").await["n"], 1);

    // A position from before the last part cannot be continued: its holder has not received all.
    let last = positions.pop().unwrap();
    positions.push(begun["pos"].as_str().unwrap().to_owned());
    for pos in positions {
        let mut again = returns(&world, &pos, None).await;
        assert_eq!(again.frame().await["recovered"], false);
        assert_eq!(again.frame().await["payload"]["reason"], "subscribed");
    }
    let mut again = returns(&world, &last, None).await;
    assert_eq!(again.frame().await["recovered"], true);
    assert_eq!(again.event("voice.joined").await["n"], 1);
}

/// Replaces the store's files in one folder by those of another folder, or by none.
fn replace_store(from: Option<&Path>, to: &Path) {
    for file in ["hub.db", "hub.db-wal", "hub.db-shm"] {
        let _none = std::fs::remove_file(to.join(file));
        if let Some(from) = from.filter(|from| from.join(file).exists()) {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_browser_that_returns_after_the_store_was_lost_gets_one_snapshot_when_the_worker_has_sent_it()
 {
    for copied in [false, true] {
        let mut world = World::with(&[("WORKER_SILENCE_MAX_MS", "18000")]).await;
        let mut browser = world.browser("ada").await;
        world.voice(ADA, Some(LOUNGE)).await;
        browser.event("voice.joined").await;
        world.hub.kill().await;
        let copy = Folder::new();
        replace_store(Some(world.folder.path()), copy.path());
        world.restart_hub().await;
        let mut browser = world.browser("ada").await;
        world.voice(GRACE, Some(STUDY)).await;
        while browser.event("voice.joined").await["payload"]["userId"] != GRACE {}
        let pos = last_pos(&browser);

        // A delivery whose acknowledgement the worker has not read would repair the older store.
        eventually("the worker owes nothing", || async {
            let page = world.http.get(format!("{}/health", world.worker_url));
            let health: Value = page.send().await.ok()?.json().await.ok()?;
            (health["shards"][0]["outboxEvents"] == 0).then_some(())
        })
        .await;
        world.worker.signal(Signal::STOP);
        world.hub.kill().await;
        replace_store(copied.then(|| copy.path()), world.folder.path());
        world.restart_hub().await;
        let mut back = returns(&world, &pos, None).await;
        assert_eq!(back.frame().await["recovered"], false);
        back.send(&json!({ "type": "ping" })).await;
        assert_eq!(back.frame().await["event"], "pong", "and nothing before");
        // A new browser gets a snapshot at once.
        let mut new = world.browser("new").await;
        world.worker.signal(Signal::CONT);
        let snapshot = back.frame().await;
        assert_eq!(snapshot["event"], "guild.snapshot", "{snapshot}");
        let seated: Vec<_> = { snapshot["payload"]["rooms"].as_array().unwrap().iter() }
            .flat_map(|room| room["members"].as_array().unwrap())
            .map(|member| member["userId"].as_str().unwrap())
            .collect();
        assert_eq!(seated, [ADA, GRACE], "copied: {copied}");
        world.voice(ADA, None).await;
        assert_eq!(back.event("voice.left").await["n"], 1);
        new.event("voice.left").await;
        assert_eq!(
            (back.snapshots(), new.snapshots()),
            (1, 2),
            "copied: {copied}"
        );
    }
}
