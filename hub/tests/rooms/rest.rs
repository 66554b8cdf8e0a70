//! REST: `create-room`, `end-room`, `rooms`.

use ::world::{CATEGORY, GUILD, LOUNGE, Side, eventually};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    CREATE, DELETE, OWNED, asked, code, create, end, exists, fields, listed, room, script, text,
    until_asked, until_listed, without_request_id, world,
};

#[tokio::test]
async fn a_room_that_is_created_is_in_discord_and_shows_as_opening_until_the_worker_reports_it() {
    let mut world = world(&[OWNED]).await;
    world.kill(Side::Worker).await;
    let request = json!({"name": "  Kitchen ", "parentId": CATEGORY, "userLimit": 7});
    let (status, created) = create(&world, "ada\u{e9}", request).await;
    let channel = text(&created["channelId"]);
    let join_url = format!("https://discord.com/channels/{GUILD}/{channel}");
    assert_eq!(
        (status, created),
        (
            201,
            json!({"channelId": channel, "name": "Kitchen", "guildId": GUILD, "parentId": CATEGORY, "userLimit": 7, "joinUrl": join_url})
        )
    );
    let made = world.channels().await[&channel].take();
    let made = ["name", "parentId", "userLimit", "type"].map(|name| made[name].clone());
    assert_eq!(json!(made), json!(["Kitchen", CATEGORY, 7, 2]));
    let reason = text(&world.truth().await["auditLog"][0]["reason"]);
    let (marker, rest) = reason.split_once(": ").unwrap();
    assert_eq!(rest, "create-room by ada\u{e9}");
    assert!(
        marker.starts_with("Roomwire ") && marker.len() == 25,
        "{marker}"
    );

    assert_eq!(listed(&world).await, [(channel.clone(), true)]);
    let path = format!("/api/rooms/{channel}");
    let claims = json!({"sub": "ada"});
    let (status, one) = world.rest(Method::GET, &path, claims, None).await;
    assert_eq!(
        (
            status.as_u16(),
            &one["rooms"][0]["opening"],
            &one["rooms"][0]["joinUrl"]
        ),
        (200, &json!(true), &json!(join_url))
    );
    world.restart_worker().await;
    until_listed(&world, &[(&channel, false)]).await;
}

#[tokio::test]
async fn the_hub_chooses_the_fields_that_a_request_leaves_out() {
    // A channel that is no category, one of no guild, and a category.
    let shown = format!("{LOUNGE},9,{CATEGORY}");
    for (shown, category) in [(shown.as_str(), json!(CATEGORY)), ("everyone", Value::Null)] {
        let world = world(&[("ROOMS_SHOWN", shown)]).await;
        let (_, one) = create(&world, "ada", json!({})).await;
        let (_, other) = create(&world, "ada", json!({"userLimit": 0})).await;
        assert_eq!(
            (&one["userLimit"], &other["userLimit"]),
            (&json!(4), &json!(0))
        );
        assert_eq!(
            (&one["guildId"], &one["parentId"]),
            (&json!(GUILD), &category)
        );
        assert!(text(&one["name"]).starts_with("Room "));
        assert_ne!(one["name"], other["name"]);
    }
}

#[tokio::test]
async fn a_hidden_category_and_a_foreign_guild_are_refused_like_absent_ones() {
    let world = world(&[]).await;
    // The bot's member keeps its sight.
    let overwrites = json!([
        {"id": GUILD, "type": 0, "allow": "0", "deny": "1024"},
        {"id": "300000000000000001", "type": 1, "allow": "1049600", "deny": "0"},
    ]);
    world
        .change_channel(CATEGORY, json!({"overwrites": overwrites}))
        .await;
    let hidden = eventually("the category is hidden", || async {
        let hidden = create(&world, "ada", json!({"parentId": CATEGORY})).await;
        (hidden.0 != 201).then_some(hidden)
    })
    .await;
    let made = asked(&world, CREATE).await;
    let absent = create(&world, "ada", json!({"parentId": "999"})).await;
    assert_eq!(
        (code(&absent), fields(&absent)),
        ((400, "BAD_REQUEST"), vec!["parentId"])
    );
    assert_eq!(without_request_id(hidden), without_request_id(absent));
    let request = json!({"name": "\u{202e}", "parentId": LOUNGE, "userLimit": 100});
    let refused = create(&world, "ada", request).await;
    assert_eq!(
        fields(&refused),
        ["name", "userLimit", "parentId"],
        "all at once"
    );

    let token = json!({"sub": "ada", "guilds": ["5"]});
    let body = Some(json!({"guildId": "5"}));
    let (status, unserved) = world
        .rest(Method::POST, "/api/create-room", token, body)
        .await;
    let foreign = create(&world, "ada", json!({"guildId": "6"})).await;
    assert_eq!(code(&foreign), (403, "FORBIDDEN"));
    let unserved = without_request_id((status.as_u16(), unserved));
    assert_eq!(unserved, without_request_id(foreign));
    assert_eq!(asked(&world, CREATE).await, made, "Discord is not asked");
}

#[tokio::test]
async fn discord_judges_the_category_of_a_guild_that_no_worker_reported() {
    let mut world = world(&[("STORE_URL", "memory:")]).await;
    world.kill(Side::Worker).await;
    world.restart_hub().await;
    let (status, created) = create(&world, "ada", json!({"parentId": CATEGORY})).await;
    assert_eq!((status, &created["parentId"]), (201, &json!(CATEGORY)));
    let refused = create(&world, "ada", json!({"parentId": "999"})).await;
    assert_eq!(
        (code(&refused), fields(&refused)),
        ((400, "BAD_REQUEST"), vec!["parentId"])
    );
    assert_eq!(asked(&world, CREATE).await, 2);
}

#[tokio::test]
async fn a_create_that_discord_refuses_is_not_repeated_and_leaves_no_trace() {
    // A ledger of one place shows whether a refusal keeps it.
    let world = world(&[
        ("LEDGER_ROOMS_MAX", "1"),
        ("DISCORD_TIMEOUT_MS", "1000"),
        ("DISCORD_SETTLE_MS", "2000"),
    ])
    .await;
    for (count, (fault, expected)) in [
        (json!({"status": 403}), (502, "DISCORD_FORBIDDEN")),
        (json!({"drop": "after"}), (503, "DISCORD_UNAVAILABLE")),
        (json!({"delayMs": 5000}), (503, "DISCORD_UNAVAILABLE")),
        (
            json!({"status": 429, "retryAfter": 2.5}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        script(&world, CREATE, fault.clone()).await;
        let refused = create(&world, "ada", json!({})).await;
        assert_eq!(code(&refused), expected, "{fault}");
        assert_eq!(asked(&world, CREATE).await, count as u64 + 1, "{fault}");
        eventually("the outcome is known", || async {
            let pending = world.hub_metric("hub_creates_pending").await;
            (pending == 0.0).then_some(())
        })
        .await;
    }
    // Before Discord's time is over it is not asked again, and the answer names the rest of the wait.
    let refused = create(&world, "ada", json!({})).await;
    assert_eq!(code(&refused), (503, "DISCORD_UNAVAILABLE"));
    assert!((1..=2_500).contains(&refused.1["retryAfterMs"].as_u64().unwrap()));
    assert_eq!(asked(&world, CREATE).await, 4);
    eventually("Discord is asked again when its time has come", || async {
        (create(&world, "ada", json!({})).await.0 == 201).then_some(())
    })
    .await;
    let refused = create(&world, "ada", json!({})).await;
    assert_eq!(
        code(&refused),
        (503, "UNAVAILABLE"),
        "the one place of the ledger is taken"
    );
    assert_eq!(asked(&world, CREATE).await, 5);
}

#[tokio::test]
async fn too_many_rooms_of_one_subject_are_refused_before_discord_is_asked() {
    let world = world(&[("CREATE_ROOMS_PER_MINUTE", "2")]).await;
    for _ in 0..2 {
        room(&world, "ada").await;
    }
    let refused = create(&world, "ada", json!({})).await;
    assert_eq!(code(&refused), (429, "RATE_LIMITED"));
    let retry_after_ms = refused.1["retryAfterMs"].as_u64().unwrap();
    assert!((1..=30_000).contains(&retry_after_ms), "{retry_after_ms}");
    assert_eq!(asked(&world, CREATE).await, 2);
    room(&world, "bob").await;
}

#[tokio::test]
async fn only_its_creator_or_a_manager_ends_a_room_and_nobody_else_learns_of_it() {
    let world = world(&[OWNED]).await;
    let (ada, bob) = (json!({"sub": "ada"}), json!({"sub": "bob"}));
    let manager = json!({"sub": "mod", "scope": "rooms:manage"});
    let (first, second) = (room(&world, "ada").await, room(&world, "ada").await);
    let absent = without_request_id(end(&world, bob.clone(), "999").await);
    assert_eq!(code(&absent), (404, "NOT_FOUND"));
    let elsewhere = json!({"sub": "ada", "guilds": []});
    for (claims, channel) in [
        (&bob, first.as_str()),
        (&ada, LOUNGE),
        (&manager, LOUNGE),
        (&elsewhere, &first),
    ] {
        let refused = without_request_id(end(&world, claims.clone(), channel).await);
        assert_eq!(refused, absent, "{claims} {channel}");
    }
    assert_eq!(asked(&world, DELETE).await, 0);
    for (claims, channel) in [(ada, &first), (manager, &second)] {
        for _ in 0..2 {
            let ended = end(&world, claims.clone(), channel).await;
            assert_eq!(ended, (200, json!({"ok": true})));
        }
        assert!(!exists(&world, channel).await);
    }
    assert_eq!(
        asked(&world, DELETE).await,
        2,
        "what has ended is not deleted twice"
    );
    assert_eq!(without_request_id(end(&world, bob, &first).await), absent);
    until_listed(&world, &[]).await;
}

#[tokio::test]
async fn many_ends_at_once_are_one_for_discord() {
    let world = world(&[]).await;
    let channel = room(&world, "ada").await;
    script(&world, DELETE, json!({"delayMs": 200})).await;
    let ends = (0..10).map(|_| end(&world, json!({"sub": "ada"}), &channel));
    let ends = join_all(ends).await;
    assert!(ends.iter().all(|(status, _)| *status == 200), "{ends:?}");
    assert_eq!(asked(&world, DELETE).await, 1);
}

#[tokio::test]
async fn an_end_that_discord_refuses_can_be_tried_again() {
    let world = world(&[]).await;
    let channel = room(&world, "ada").await;
    let ada = || json!({"sub": "ada"});
    for (fault, expected) in [
        (json!({"status": 403}), (502, "DISCORD_FORBIDDEN")),
        // None of these proves that the room is gone.
        (json!({"status": 404}), (503, "DISCORD_UNAVAILABLE")),
        (
            json!({"status": 200, "body": "<html>sign in</html>"}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
        (
            json!({"status": 200, "contentType": "application/json", "body": "{}"}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
        (
            json!({"status": 204, "body": ""}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
        (json!({"drop": "before"}), (503, "DISCORD_UNAVAILABLE")),
    ] {
        script(&world, DELETE, fault.clone()).await;
        assert_eq!(
            code(&end(&world, ada(), &channel).await),
            expected,
            "{fault}"
        );
        assert!(exists(&world, &channel).await);
    }
    script(&world, DELETE, json!({"drop": "after"})).await;
    eventually("the room ends, whose first answer was lost", || async {
        (end(&world, ada(), &channel).await.0 == 200).then_some(())
    })
    .await;
    assert!(!exists(&world, &channel).await);
}

#[tokio::test]
async fn a_room_that_somebody_deleted_in_discord_is_ended_with_success() {
    let mut world = world(&[OWNED]).await;
    let reported = room(&world, "ada").await;
    until_listed(&world, &[(&reported, false)]).await;
    world.discord.delete_channel(&reported).await;
    until_listed(&world, &[]).await;
    world.kill(Side::Worker).await;
    let unreported = room(&world, "ada").await;
    world.discord.delete_channel(&unreported).await;
    // Only Discord says for good that a channel is gone.
    for (times, channel) in [
        (1, &reported),
        (2, &unreported),
        (2, &reported),
        (2, &unreported),
    ] {
        assert_eq!(end(&world, json!({"sub": "ada"}), channel).await.0, 200);
        assert_eq!(asked(&world, DELETE).await, times);
    }
}

#[tokio::test]
async fn a_room_is_created_to_the_end_although_its_caller_left() {
    let world = world(&[OWNED]).await;
    script(&world, CREATE, json!({"delayMs": 300})).await;
    tokio::select! {
        created = create(&world, "ada", json!({})) => panic!("too soon: {created:?}"),
        () = until_asked(&world, CREATE) => {}
    }
    let channel = eventually("the room is listed", || async {
        listed(&world).await.pop()
    })
    .await;
    assert_eq!(end(&world, json!({"sub": "ada"}), &channel.0).await.0, 200);
}
