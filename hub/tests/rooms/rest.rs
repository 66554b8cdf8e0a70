//! REST: `create-room`, `end-room`, `rooms`.

use futures_util::future::join_all;
use hub::discord::DiscordSettings;
use hub::view::RoomsShown;
use reqwest::Method;
use roomlog::rooms::LedgerBounds;
use serde_json::{Value, json};

use super::world::{CATEGORY, GUILD, HIDDEN_CATEGORY, LOUNGE, Plan, STAFF, STUDY, World, answer};

const CREATE: &str = "POST /guilds/*/channels";
const DELETE: &str = "DELETE /channels/*";

#[tokio::test]
async fn a_room_that_is_created_is_in_discord_and_shows_as_opening_until_the_worker_reports_it() {
    let world = World::new().await;
    let ada = world.member("ada\u{e9}").await;
    world.deliver_snapshot(&[]).await;
    let created = world
        .create(
            &ada,
            json!({"name": "  Kitchen ", "parentId": CATEGORY, "userLimit": 7}),
        )
        .await;
    let channel = created.body["channelId"].as_str().unwrap().to_owned();
    assert_eq!(created.status, 201);
    assert_eq!(
        created.body,
        json!({"channelId": channel, "name": "Kitchen", "guildId": GUILD, "parentId": CATEGORY, "userLimit": 7})
    );
    let there = world.channel(&channel).await;
    assert_eq!(
        (
            &there["name"],
            &there["parentId"],
            &there["userLimit"],
            &there["type"]
        ),
        (&json!("Kitchen"), &json!(CATEGORY), &json!(7), &json!(2))
    );
    let reason = &world.state().await["auditLog"][0]["reason"];
    assert_eq!(reason, "Roomwire: create-room by ada\u{e9}");

    let before = [(LOUNGE.to_owned(), false), (STUDY.to_owned(), false)];
    let mut with_it = before.to_vec();
    with_it.push((channel.clone(), true));
    assert_eq!(world.listed(&ada).await, with_it);
    let one = world.get(&ada, &format!("/api/rooms/{channel}")).await;
    assert_eq!(
        (one.status, &one.body["rooms"][0]["opening"]),
        (200, &json!(true))
    );
    world.deliver_created(&channel).await;
    with_it[2].1 = false;
    assert_eq!(world.listed(&ada).await, with_it);
}

#[tokio::test]
async fn the_hub_chooses_the_fields_that_a_request_leaves_out() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    let (one, other) = (
        world.create(&ada, json!({})).await,
        world.create(&ada, json!({"userLimit": 0})).await,
    );
    assert_eq!(
        (&one.body["userLimit"], &other.body["userLimit"]),
        (&json!(4), &json!(0))
    );
    assert_eq!(one.body["guildId"], GUILD);
    assert!(one.body["name"].as_str().unwrap().starts_with("Room "));
    assert_ne!(one.body["name"], other.body["name"]);
}

#[tokio::test]
async fn every_wrong_field_is_named_and_discord_is_not_asked() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    world.deliver_snapshot(&[]).await;
    let request = json!({"name": "\u{202e}", "parentId": LOUNGE, "userLimit": 100});
    let refused = world.create(&ada, request).await;
    assert_eq!(refused.code(), (400, "BAD_REQUEST"));
    assert_eq!(refused.fields(), ["name", "userLimit", "parentId"]);
    let refused = world.create(&ada, json!({"topic": "x"})).await;
    assert_eq!(
        (refused.code(), refused.fields()),
        ((400, "BAD_REQUEST"), vec!["topic"])
    );
    for (content_type, body) in [
        ("application/json", ""),
        ("application/json", "["),
        ("application/json", "[\"x\"]"),
        ("text/plain", "{}"),
    ] {
        let request = world.request(Method::POST, "/api/create-room", &ada);
        let refused = answer(request.header("content-type", content_type).body(body)).await;
        assert_eq!(
            refused.code(),
            (400, "BAD_REQUEST"),
            "{content_type} {body}"
        );
    }
    let request = world
        .request(Method::POST, "/api/create-room", &ada)
        .header("content-type", "application/json");
    let refused = answer(request.body(" ".repeat(16 * 1024 + 1))).await;
    assert_eq!(refused.code(), (413, "TOO_LARGE"));
    assert_eq!(world.asked(CREATE).await, 0);
}

#[tokio::test]
async fn a_hidden_category_is_refused_like_one_that_does_not_exist() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    world.deliver_snapshot(&[]).await;
    let hidden = world
        .create(&ada, json!({"parentId": HIDDEN_CATEGORY}))
        .await
        .without_request_id();
    let absent = world
        .create(&ada, json!({"parentId": "999"}))
        .await
        .without_request_id();
    assert_eq!(hidden, absent);
    assert_eq!(
        (absent.code(), absent.fields()),
        ((400, "BAD_REQUEST"), vec!["parentId"])
    );
    assert_eq!(world.asked(CREATE).await, 0);
}

#[tokio::test]
async fn discord_judges_the_category_of_a_guild_that_no_worker_reported() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    let created = world.create(&ada, json!({"parentId": CATEGORY})).await;
    assert_eq!(
        (created.status, &created.body["parentId"]),
        (201, &json!(CATEGORY))
    );
    let refused = world.create(&ada, json!({"parentId": "999"})).await;
    assert_eq!(
        (refused.code(), refused.fields()),
        ((400, "BAD_REQUEST"), vec!["parentId"]),
        "{refused:?}"
    );
    assert_eq!(world.asked(CREATE).await, 2);
}

#[tokio::test]
async fn a_listed_hidden_category_may_be_named() {
    let shown = format!("{HIDDEN_CATEGORY},{CATEGORY}").parse().unwrap();
    let world = World::with(Plan {
        shown,
        ..Plan::default()
    })
    .await;
    let ada = world.member("ada").await;
    world.deliver_snapshot(&[]).await;
    let refused = world
        .create(&ada, json!({"parentId": HIDDEN_CATEGORY}))
        .await;
    // Only in our log does it exist: it is Discord that refuses.
    assert_eq!(world.asked(CREATE).await, 1, "{refused:?}");
    let created = world.room(&ada, json!({"parentId": CATEGORY})).await;
    assert!(world.listed(&ada).await.contains(&(created, true)));
}

#[tokio::test]
async fn where_rooms_are_listed_one_for_which_nobody_names_a_category_is_made_in_the_first_of_them()
{
    // A channel that is no category, one of no guild, and two categories.
    let shown = format!("{HIDDEN_CATEGORY},{LOUNGE},{CATEGORY},9").parse();
    let world = World::with(Plan {
        shown: shown.unwrap(),
        ..Plan::default()
    })
    .await;
    let ada = world.member("ada").await;
    let early = world.create(&ada, json!({})).await;
    assert_eq!(
        (early.status, &early.body["parentId"]),
        (201, &Value::Null),
        "no category is known yet"
    );
    world.deliver_snapshot(&[]).await;
    let created = world.create(&ada, json!({})).await;
    assert_eq!(
        (created.status, &created.body["parentId"]),
        (201, &json!(CATEGORY))
    );
    let channel = created.body["channelId"].as_str().unwrap().to_owned();
    assert_eq!(world.channel(&channel).await["parentId"], CATEGORY);
    assert!(world.listed(&ada).await.contains(&(channel, true)));
}

#[tokio::test]
async fn where_rooms_are_not_listed_or_no_category_is_a_room_stands_in_none() {
    for shown in ["everyone", "owned", LOUNGE] {
        let world = World::with(Plan {
            shown: shown.parse().unwrap(),
            ..Plan::default()
        })
        .await;
        let ada = world.member("ada").await;
        world.deliver_snapshot(&[]).await;
        let created = world.create(&ada, json!({})).await;
        assert_eq!(
            (created.status, &created.body["parentId"]),
            (201, &Value::Null),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn only_a_good_token_with_the_right_for_the_guild_gets_in() {
    let world = World::new().await;
    let reader = world.token("ada", json!({"scope": "rooms:read"})).await;
    let elsewhere = world.token("ada", json!({"guilds": ["5"]})).await;
    let ada = world.member("ada").await;
    assert_eq!(
        world.create(&reader, json!({})).await.code(),
        (403, "FORBIDDEN")
    );
    assert_eq!(world.end(&reader, LOUNGE).await.code(), (403, "FORBIDDEN"));
    let creator = world.token("ada", json!({"scope": "rooms:create"})).await;
    assert_eq!(
        world.get(&creator, "/api/rooms").await.code(),
        (403, "FORBIDDEN")
    );
    assert_eq!(
        world.create(&elsewhere, json!({})).await.code(),
        (403, "FORBIDDEN")
    );
    let unserved = world
        .create(&elsewhere, json!({"guildId": "5"}))
        .await
        .without_request_id();
    let foreign = world
        .create(&ada, json!({"guildId": "6"}))
        .await
        .without_request_id();
    assert_eq!(
        unserved, foreign,
        "a guild that is not served looks like one that is not theirs"
    );
    assert_eq!(
        world.get(&ada, "/api/rooms?guildId=5").await.code(),
        (403, "FORBIDDEN")
    );
    for token in ["", "x", "a.b.c"] {
        assert_eq!(
            world.get(token, "/api/rooms").await.code(),
            (401, "UNAUTHORIZED"),
            "{token:?}"
        );
        assert_eq!(
            world.create(token, json!({})).await.code(),
            (401, "UNAUTHORIZED"),
            "{token:?}"
        );
    }
    let url = format!("{}/api/rooms", world.hub);
    assert_eq!(
        answer(world.client.get(&url)).await.code(),
        (401, "UNAUTHORIZED")
    );
    let twice = world.client.get(&url).bearer_auth(&ada).bearer_auth(&ada);
    assert_eq!(answer(twice).await.code(), (401, "UNAUTHORIZED"));
    for key in ["token", "access_token", "%74oken"] {
        let refused = world.get(&ada, &format!("/api/rooms?{key}=x")).await;
        assert_eq!(
            refused.code(),
            (400, "BAD_REQUEST"),
            "a token in the address"
        );
    }
    assert_eq!(world.asked(CREATE).await, 0);
}

#[tokio::test]
async fn each_answer_of_discord_is_a_clear_problem_and_leaves_no_trace() {
    // A ledger of one place shows whether a refusal keeps it.
    let ledger = LedgerBounds {
        rooms_max: 1,
        creates_per_minute: 1_000,
        ..LedgerBounds::default()
    };
    let discord = |settings: &mut DiscordSettings| settings.timeout_ms = 1_000;
    let world = World::with(Plan {
        ledger,
        discord,
        ..Plan::default()
    })
    .await;
    let ada = world.member("ada").await;
    for (fault, code, retry_after) in [
        (
            json!({"status": 401}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("60"),
        ),
        (json!({"status": 403}), (502, "DISCORD_FORBIDDEN"), None),
        (
            json!({"status": 403, "code": 50001}),
            (502, "DISCORD_FORBIDDEN"),
            None,
        ),
        (
            json!({"status": 404, "code": 10004}),
            (502, "DISCORD_FORBIDDEN"),
            None,
        ),
        (
            json!({"status": 404}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"status": 403, "code": 40333}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"status": 403, "body": "<html>a proxy's page</html>"}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"status": 200, "body": "<html>a proxy's page</html>"}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"status": 500}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"status": 503}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"drop": "before"}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"drop": "after"}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"delayMs": 5000}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("2"),
        ),
        (
            json!({"status": 429, "retryAfter": 2.5}),
            (503, "DISCORD_UNAVAILABLE"),
            Some("3"),
        ),
    ] {
        let asked = world.asked(CREATE).await;
        world.script(CREATE, fault.clone()).await;
        let refused = world.create(&ada, json!({"name": "x"})).await;
        assert_eq!(refused.code(), code, "{fault}: {refused:?}");
        assert_eq!(refused.retry_after.as_deref(), retry_after, "{fault}");
        assert_eq!(
            world.asked(CREATE).await,
            asked + 1,
            "{fault}: asked once, and not again"
        );
        if fault["status"] == 429 {
            assert_eq!(refused.body["retryAfterMs"], 2_500);
        }
    }
    // Before Discord's time is over it is not asked again, and the answer names the rest of the wait.
    let asked = world.asked(CREATE).await;
    let refused = world.create(&ada, json!({})).await;
    assert_eq!(refused.code(), (503, "DISCORD_UNAVAILABLE"));
    assert!((1..=2_500).contains(&refused.body["retryAfterMs"].as_u64().unwrap()));
    assert_eq!(world.asked(CREATE).await, asked);
    world
        .until("Discord is asked again when its time has come", || async {
            world.create(&ada, json!({})).await.status == 201
        })
        .await;
    assert_eq!(world.asked(CREATE).await, asked + 1);
    let refused = world.create(&ada, json!({})).await;
    assert_eq!(
        refused.code(),
        (503, "UNAVAILABLE"),
        "the one place of the ledger is taken"
    );
}

#[tokio::test]
async fn a_full_category_is_said_to_be_full() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    let mut refused = None;
    for _ in 0..51 {
        let created = world.create(&ada, json!({"parentId": CATEGORY})).await;
        if created.status != 201 {
            refused = Some(created);
            break;
        }
    }
    assert_eq!(refused.unwrap().code(), (422, "UNPROCESSABLE"));
}

#[tokio::test]
async fn too_many_rooms_of_one_subject_are_refused_before_discord_is_asked() {
    let ledger = LedgerBounds {
        creates_per_minute: 2,
        ..LedgerBounds::default()
    };
    let world = World::with(Plan {
        ledger,
        ..Plan::default()
    })
    .await;
    let (ada, bob) = (world.member("ada").await, world.member("bob").await);
    for _ in 0..2 {
        world.room(&ada, json!({})).await;
    }
    let refused = world.create(&ada, json!({})).await;
    assert_eq!(refused.code(), (429, "RATE_LIMITED"));
    let retry_after_ms = refused.body["retryAfterMs"].as_u64().unwrap();
    assert!(
        (20_000..=30_000).contains(&retry_after_ms),
        "{retry_after_ms}"
    );
    assert_eq!(
        refused.retry_after,
        Some(retry_after_ms.div_ceil(1000).to_string())
    );
    assert_eq!(world.asked(CREATE).await, 2);
    world.room(&bob, json!({})).await;
}

#[tokio::test]
async fn only_its_creator_or_a_manager_ends_a_room_and_only_one_that_roomwire_made() {
    let world = World::new().await;
    world.deliver_snapshot(&[]).await;
    let (ada, bob) = (world.member("ada").await, world.member("bob").await);
    let manager = world.token("mod", json!({"scope": "rooms:manage"})).await;
    let elsewhere = world.token("ada", json!({"guilds": []})).await;
    let (first, second) = (
        world.room(&ada, json!({})).await,
        world.room(&ada, json!({})).await,
    );
    let absent = world.end(&bob, "999").await.without_request_id();
    assert_eq!(absent.code(), (404, "NOT_FOUND"));
    for (token, channel) in [
        (&bob, first.as_str()),
        (&ada, LOUNGE),
        (&manager, LOUNGE),
        (&manager, STAFF),
        (&elsewhere, &first),
    ] {
        assert_eq!(
            world.end(token, channel).await.without_request_id(),
            absent,
            "{channel}"
        );
    }
    for id in [
        "0",
        "-1",
        "01",
        "x",
        "9223372036854775808",
        "18446744073709551616",
        "%2f",
        "%ff",
    ] {
        let refused = world.end(&ada, id).await;
        assert_eq!(
            (refused.code(), refused.fields()),
            ((400, "BAD_REQUEST"), vec!["channelId"]),
            "{id}"
        );
    }
    assert_eq!(world.asked(DELETE).await, 0);
    for (token, channel) in [(&ada, &first), (&manager, &second)] {
        for _ in 0..2 {
            let ended = world.end(token, channel).await;
            assert_eq!((ended.status, ended.body), (200, json!({"ok": true})));
        }
        assert_eq!(world.channel(channel).await, Value::Null);
    }
    assert_eq!(
        world.asked(DELETE).await,
        2,
        "what has ended is not deleted twice"
    );
    assert_eq!(
        world.end(&bob, &first).await.without_request_id(),
        absent,
        "others do not learn of it"
    );
    assert_eq!(world.listed(&ada).await.len(), 2);
}

#[tokio::test]
async fn many_ends_at_once_are_one_for_discord() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    let channel = world.room(&ada, json!({})).await;
    world.script(DELETE, json!({"delayMs": 200})).await;
    let ends = join_all((0..10).map(|_| world.end(&ada, &channel))).await;
    assert!(ends.iter().all(|ended| ended.status == 200), "{ends:?}");
    assert_eq!(world.asked(DELETE).await, 1);
}

#[tokio::test]
async fn an_end_that_discord_refuses_can_be_tried_again() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    let channel = world.room(&ada, json!({})).await;
    for (fault, code) in [
        (json!({"status": 403}), (502, "DISCORD_FORBIDDEN")),
        (
            json!({"status": 403, "code": 50001}),
            (502, "DISCORD_FORBIDDEN"),
        ),
        (json!({"status": 401}), (503, "DISCORD_UNAVAILABLE")),
        (json!({"status": 500}), (503, "DISCORD_UNAVAILABLE")),
        // None of these proves that the room is gone.
        (json!({"status": 404}), (503, "DISCORD_UNAVAILABLE")),
        (
            json!({"status": 404, "body": "<html>no such page</html>"}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
        (
            json!({"status": 404, "contentType": "application/json", "body": "{\"code\":404,\"message\":\"no route\"}"}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
        (
            json!({"status": 403, "body": "<html>blocked</html>"}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
        (
            json!({"status": 200, "body": "<html>sign in to this network</html>"}),
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
        (
            json!({"status": 429, "retryAfter": 0.05}),
            (503, "DISCORD_UNAVAILABLE"),
        ),
    ] {
        world.script(DELETE, fault.clone()).await;
        assert_eq!(world.end(&ada, &channel).await.code(), code, "{fault}");
        assert!(world.channel(&channel).await.is_object());
    }
    world.script(DELETE, json!({"drop": "after"})).await;
    world
        .until("the room ends, whose first answer was lost", || async {
            world.end(&ada, &channel).await.status == 200
        })
        .await;
    assert_eq!(world.channel(&channel).await, Value::Null);
}

#[tokio::test]
async fn a_room_that_somebody_deleted_in_discord_is_ended_with_success() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    world.deliver_snapshot(&[]).await;
    let (reported, unreported) = (
        world.room(&ada, json!({})).await,
        world.room(&ada, json!({})).await,
    );
    for channel in [&reported, &unreported] {
        world.simulator.delete_channel(channel).await;
    }
    world.deliver_created(&reported).await;
    world
        .deliver(
            "room.deleted",
            json!({"guildId": GUILD, "channelId": reported}),
        )
        .await;
    world
        .until(
            "the list drops the room whose deletion was reported",
            || async {
                world
                    .listed(&ada)
                    .await
                    .iter()
                    .all(|(channel, _)| *channel != reported)
            },
        )
        .await;
    // Only Discord says for good that a channel is gone.
    for (asked, channel) in [
        (1, &reported),
        (2, &unreported),
        (2, &reported),
        (2, &unreported),
    ] {
        assert_eq!(world.end(&ada, channel).await.status, 200);
        assert_eq!(world.asked(DELETE).await, asked);
    }
}

#[tokio::test]
async fn a_snapshot_without_a_room_removes_it_from_the_list_and_a_later_event_restores_it() {
    let world = World::with(Plan {
        shown: RoomsShown::Owned,
        ..Plan::default()
    })
    .await;
    let ada = world.member("ada").await;
    let channel = world.room(&ada, json!({})).await;
    assert_eq!(world.listed(&ada).await, [(channel.clone(), true)]);
    world.deliver_snapshot(&[]).await;
    world
        .until("it is not listed", || async {
            world.listed(&ada).await.is_empty()
        })
        .await;
    world.deliver_created(&channel).await;
    world
        .until("it is listed", || async {
            world.listed(&ada).await == [(channel.clone(), false)]
        })
        .await;
    assert_eq!(world.end(&ada, &channel).await.status, 200);
    assert_eq!(
        world.listed(&ada).await.len(),
        1,
        "until the worker reports the deletion"
    );
    world.deliver_snapshot(&[]).await;
    world
        .until("it is not owned any more", || async {
            let owned = |state: &roomlog::GuildState, _| state.owned.len();
            world.log.read(GUILD.parse().unwrap(), owned) == Some(0)
        })
        .await;
}

#[tokio::test]
async fn a_room_is_created_to_the_end_although_its_caller_left() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    world.script(CREATE, json!({"delayMs": 200})).await;
    let created = world.create(&ada, json!({"name": "x"}));
    tokio::select! {
        created = created => panic!("too soon: {created:?}"),
        () = world.until("Discord is asked", || async { world.asked(CREATE).await == 1 }) => {}
    }
    world
        .until("the room is listed", || async {
            world.listed(&ada).await.len() == 1
        })
        .await;
    let (channel, _) = world.listed(&ada).await.remove(0);
    assert_eq!(world.end(&ada, &channel).await.status, 200);
    world.rooms.settled().await;
}

#[tokio::test]
async fn a_hidden_room_is_in_no_answer() {
    let world = World::new().await;
    let ada = world.member("ada").await;
    world.deliver_snapshot(&[]).await;
    world
        .deliver(
            "voice.joined",
            json!({"guildId": GUILD, "channelId": STAFF, "userId": "7"}),
        )
        .await;
    let list = world.get(&ada, "/api/rooms").await;
    let text = list.body.to_string();
    assert!(
        text.contains(LOUNGE) && !text.contains(STAFF) && !text.contains("\"7\""),
        "{text}"
    );
    let hidden = world
        .get(&ada, &format!("/api/rooms/{STAFF}"))
        .await
        .without_request_id();
    let absent = world.get(&ada, "/api/rooms/999").await.without_request_id();
    assert_eq!(hidden, absent);
    assert_eq!(absent.code(), (404, "NOT_FOUND"));
    let one = world.get(&ada, &format!("/api/rooms/{LOUNGE}")).await;
    assert_eq!(
        (one.status, one.body["rooms"].as_array().unwrap().len()),
        (200, 1)
    );
    assert_eq!(list.body["gateway"]["state"], "down");
    assert!(list.body["pos"].is_string());
    for query in ["guildId=0", "guildId=x", "guildId=1&guildId=1", "a=1&a=1"] {
        let refused = world.get(&ada, &format!("/api/rooms?{query}")).await;
        assert_eq!(refused.code(), (400, "BAD_REQUEST"), "{query}");
    }
}
