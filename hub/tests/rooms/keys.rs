//! One request, one room: keys of requests, and creates whose outcome is not known.

use std::collections::BTreeSet;

use ::world::{GUILD, World, eventually};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Answer, CREATE, DELETE, OWNED, asked, code, create, end, exists, fields, listed, room, script,
    text, until_asked, until_listed, world,
};

/// The role of the simulated bot, and its permission to read the audit log.
const BOT_ROLE: &str = "100000000000000021";
const VIEW_AUDIT_LOG: u64 = 1 << 7;
/// A create that Discord has not made after so long, it never makes.
const IMPATIENT: [(&str, &str); 2] = [
    ("DISCORD_TIMEOUT_MS", "1000"),
    ("DISCORD_SETTLE_MS", "2000"),
];

fn impatient<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [settings, &IMPATIENT].concat()
}

/// A create with a key.
async fn keyed(world: &World, sub: &str, key: &str, room: Value) -> Answer {
    let token = world.token(json!({ "sub": sub })).await;
    let url = format!("{}/api/create-room", world.hub_url);
    let request = world.http.request(Method::POST, url).bearer_auth(token);
    let request = request.header("Idempotency-Key", key).json(&room);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Repeats a create as a client does, and returns the channel.
async fn until_created(world: &World, sub: &str, key: &str, room: &Value) -> String {
    eventually("the room is created", || async {
        let answer = keyed(world, sub, key, room.clone()).await;
        match code(&answer) {
            (201, _) => Some(text(&answer.1["channelId"])),
            (409, "IN_PROGRESS") | (503, _) => {
                assert!(answer.1["retryAfterMs"].is_number(), "{answer:?}");
                None
            }
            _ => {
                assert_eq!(answer.0, 201, "{answer:?}");
                None
            }
        }
    })
    .await
}

async fn channels(world: &World) -> BTreeSet<String> {
    let channels = world.channels().await;
    channels.as_object().unwrap().keys().cloned().collect()
}

/// The channel that is not among these, once there is one.
async fn new_channel(world: &World, before: &BTreeSet<String>) -> String {
    eventually("Discord has created a channel", || async {
        let now = channels(world).await;
        now.difference(before).next().cloned()
    })
    .await
}

/// Takes the permission to read the audit log from the bot.
async fn hide_audit_log(world: &World) {
    let truth = world.truth().await;
    let role = &truth["guilds"][GUILD]["roles"][BOT_ROLE];
    let permissions: u64 = text(&role["permissions"]).parse().unwrap();
    let permissions = (permissions & !VIEW_AUDIT_LOG).to_string();
    let body = json!({"guildId": GUILD, "roleId": BOT_ROLE, "permissions": permissions});
    world.control("roles", body).await;
}

#[tokio::test]
async fn fifty_requests_with_one_key_make_one_room_and_get_one_answer() {
    let mut world = world(&[OWNED, ("CREATE_ROOMS_PER_MINUTE", "1")]).await;
    let before = channels(&world).await;
    script(&world, CREATE, json!({"delayMs": 200})).await;
    let body = json!({"name": "Kitchen"});
    let at_once = (0..50).map(|_| keyed(&world, "ada", "k1", body.clone()));
    let answers = join_all(at_once).await;
    let first = until_created(&world, "ada", "k1", &body).await;
    for answer in &answers {
        match code(answer) {
            (201, _) => assert_eq!(text(&answer.1["channelId"]), first),
            (status, code) => assert_eq!((status, code), (409, "IN_PROGRESS")),
        }
    }
    assert_eq!(answers.iter().filter(|answer| answer.0 == 201).count(), 1);
    assert_eq!(
        (asked(&world, CREATE).await, channels(&world).await.len()),
        (1, before.len() + 1)
    );
    for other in [
        json!({"name": "Attic"}),
        json!({"name": "Kitchen", "guildId": GUILD}),
    ] {
        let other_body = keyed(&world, "ada", "k1", other).await;
        assert_eq!(code(&other_body), (422, "UNPROCESSABLE"));
    }
    let other_key = keyed(&world, "ada", "k2", body.clone()).await;
    assert_eq!(
        code(&other_key),
        (429, "RATE_LIMITED"),
        "repeats cost nothing"
    );
    let other_person = until_created(&world, "bob", "k1", &body).await;
    assert_ne!(other_person, first, "a key is its principal's");

    assert_eq!(end(&world, json!({"sub": "ada"}), &first).await.0, 200);
    world.restart_hub().await;
    let again = keyed(&world, "ada", "k1", body.clone()).await;
    assert_eq!((again.0, text(&again.1["channelId"])), (201, first));
    assert_eq!(asked(&world, CREATE).await, 2);
    for key in ["", "a b", &"k".repeat(256)] {
        let wrong = keyed(&world, "ada", key, json!({})).await;
        assert_eq!(
            (code(&wrong), fields(&wrong)),
            ((400, "BAD_REQUEST"), vec!["Idempotency-Key"])
        );
    }
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_gives_its_room_to_the_request_that_comes_again() {
    let world = world(&impatient(&[OWNED])).await;
    let before = channels(&world).await;
    let body = json!({"name": "Kitchen"});
    script(&world, CREATE, json!({"drop": "after"})).await;
    let lost = keyed(&world, "ada", "k1", body.clone()).await;
    assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    let created = until_created(&world, "ada", "k1", &body).await;
    assert_eq!(created, new_channel(&world, &before).await);
    until_listed(&world, &[(&created, false)]).await;
    assert_eq!(
        (asked(&world, CREATE).await, asked(&world, DELETE).await),
        (1, 0)
    );
    assert_eq!(end(&world, json!({"sub": "ada"}), &created).await.0, 200);

    // Discord never made this one: its key is free after a while.
    script(&world, CREATE, json!({"drop": "before"})).await;
    let lost = keyed(&world, "ada", "k2", body.clone()).await;
    assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    let created = until_created(&world, "ada", "k2", &body).await;
    assert!(exists(&world, &created).await);
    assert_eq!(channels(&world).await.len(), before.len() + 1);
}

#[tokio::test]
async fn a_refused_create_frees_its_key_at_once() {
    let world = world(&[OWNED]).await;
    script(&world, CREATE, json!({"status": 403, "code": 50013})).await;
    let refused = keyed(&world, "ada", "k1", json!({"name": "Kitchen"})).await;
    assert_eq!(code(&refused), (502, "DISCORD_FORBIDDEN"));
    let created = keyed(&world, "ada", "k1", json!({"name": "Attic"})).await;
    assert_eq!(created.0, 201);
}

#[tokio::test]
async fn the_channel_of_a_lost_answer_is_deleted_if_no_request_can_come_again() {
    let world = world(&impatient(&[OWNED, ("LEDGER_ROOMS_MAX", "1")])).await;
    let before = channels(&world).await;
    script(&world, CREATE, json!({"drop": "after"})).await;
    let lost = create(&world, "ada", json!({})).await;
    assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    eventually("it keeps no place", || async {
        (create(&world, "ada", json!({})).await.0 == 201).then_some(())
    })
    .await;
    assert_eq!(channels(&world).await.len(), before.len() + 1);
    assert_eq!(
        (asked(&world, DELETE).await, listed(&world).await.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_create_that_a_kill_cut_off_keeps_its_key_and_one_without_is_deleted() {
    let mut world = world(&impatient(&[OWNED])).await;
    let body = json!({"name": "Kitchen"});
    for key in [Some("k1"), None] {
        let (before, creates) = (channels(&world).await, asked(&world, CREATE).await);
        script(&world, CREATE, json!({"delayMs": 500})).await;
        let request = async {
            match key {
                Some(key) => keyed(&world, "ada", key, body.clone()).await,
                None => create(&world, "ada", body.clone()).await,
            }
        };
        tokio::select! {
            created = request => panic!("too soon: {created:?}"),
            () = eventually("Discord is asked", || async {
                (asked(&world, CREATE).await > creates).then_some(())
            }) => {}
        }
        world.restart_hub().await;
        let made = new_channel(&world, &before).await;
        match key {
            Some(key) => {
                assert_eq!(until_created(&world, "ada", key, &body).await, made);
                until_listed(&world, &[(&made, false)]).await;
            }
            None => {
                eventually("its channel is deleted", || async {
                    (!exists(&world, &made).await).then_some(())
                })
                .await;
                let refused = end(&world, json!({"sub": "ada"}), &made).await;
                assert_eq!(code(&refused), (404, "NOT_FOUND"));
            }
        }
    }
}

#[tokio::test]
async fn without_the_audit_log_the_only_channel_that_fits_becomes_a_room_and_none_is_deleted() {
    let world = world(&impatient(&[OWNED])).await;
    hide_audit_log(&world).await;
    let before = channels(&world).await;
    let body = json!({"name": "Kitchen"});
    script(&world, CREATE, json!({"drop": "after"})).await;
    let lost = create(&world, "ada", body.clone()).await;
    assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    let made = new_channel(&world, &before).await;
    until_listed(&world, &[(&made, false)]).await;
    assert_eq!(end(&world, json!({"sub": "ada"}), &made).await.0, 200);

    // Somebody makes a channel of the same name at the same time.
    let deleted = asked(&world, DELETE).await;
    let kitchen = json!({"guildId": GUILD, "name": "Attic", "type": 2, "userLimit": 4});
    world.control("channels", kitchen).await;
    script(&world, CREATE, json!({"drop": "after"})).await;
    let lost = keyed(&world, "ada", "k1", json!({"name": "Attic"})).await;
    assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    eventually("the create is given up", || async {
        let pending = world.hub_metric("hub_creates_pending").await;
        (pending == 0.0).then_some(())
    })
    .await;
    assert_eq!(
        channels(&world).await.len(),
        before.len() + 2,
        "none is touched"
    );
    assert_eq!(
        (asked(&world, DELETE).await, listed(&world).await),
        (deleted, vec![])
    );
    room(&world, "ada").await;
}

#[tokio::test]
async fn while_discord_is_away_an_unknown_outcome_waits() {
    let world = world(&impatient(&[OWNED])).await;
    let body = json!({"name": "Kitchen"});
    script(&world, CREATE, json!({"drop": "after"})).await;
    script(
        &world,
        "GET /guilds/*/audit-logs",
        json!({"status": 500, "times": 2}),
    )
    .await;
    let lost = keyed(&world, "ada", "k1", body.clone()).await;
    assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    until_asked(&world, "GET /guilds/*/audit-logs").await;
    let waits = keyed(&world, "ada", "k1", body.clone()).await;
    assert_eq!(code(&waits), (409, "IN_PROGRESS"));
    let created = until_created(&world, "ada", "k1", &body).await;
    assert!(exists(&world, &created).await);
    assert_eq!(asked(&world, CREATE).await, 1);
}

#[tokio::test]
async fn two_creates_that_ask_for_the_same_take_no_channel_from_each_other() {
    let world = world(&impatient(&[OWNED])).await;
    hide_audit_log(&world).await;
    let before = channels(&world).await;
    let body = json!({"name": "Kitchen"});
    // Discord makes the channel of one of them.
    for (sub, drop) in [("ada", "after"), ("bob", "before")] {
        script(&world, CREATE, json!({"drop": drop})).await;
        let lost = keyed(&world, sub, "k1", body.clone()).await;
        assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    }
    eventually("both are given up", || async {
        let pending = world.hub_metric("hub_creates_pending").await;
        (pending == 0.0).then_some(())
    })
    .await;
    assert_eq!(listed(&world).await, []);
    assert_eq!(asked(&world, DELETE).await, 0);
    assert_eq!(channels(&world).await.len(), before.len() + 1);
}

#[tokio::test]
async fn a_guild_that_the_bot_has_left_does_not_keep_a_create_pending() {
    let world = world(&impatient(&[OWNED, ("LEDGER_ROOMS_MAX", "1")])).await;
    script(&world, CREATE, json!({"drop": "after"})).await;
    for (route, code) in [("audit-logs", 50001), ("channels", 50001)] {
        let fault = json!({"status": 403, "code": code, "times": 1_000});
        script(&world, &format!("GET /guilds/*/{route}"), fault).await;
    }
    let lost = keyed(&world, "ada", "k1", json!({})).await;
    assert_eq!(code(&lost), (503, "DISCORD_UNAVAILABLE"));
    eventually("it is given up", || async {
        let pending = world.hub_metric("hub_creates_pending").await;
        (pending == 0.0).then_some(())
    })
    .await;
    let refusals = asked(&world, "GET /guilds/*/audit-logs").await;
    assert_eq!(refusals, 1, "a refusal is not asked for again");
    room(&world, "ada").await;
}
