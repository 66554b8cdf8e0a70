//! Discord's signed requests, delivered by the simulator as Discord delivers them.

use futures_util::future::join_all;
use hub::discord_http::InteractionSettings;
use reqwest::Method;
use serde_json::{Value, json};

use super::world::{ADA, GUILD, LOUNGE, Plan, STAFF, World, answer};

const CREATE: &str = "POST /guilds/*/channels";
const DELETE: &str = "DELETE /channels/*";
const EDIT: &str = "PATCH /webhooks/*/*/messages/@original";

/// `/room <name> <options>` of a member with these permissions.
fn room(user: &str, permissions: &str, name: &str, options: Value) -> Value {
    let mut sub = json!({"name": name, "type": 1});
    sub["options"] = options;
    json!({
        "type": 2, "guild_id": GUILD,
        "member": {"user": {"id": user}, "permissions": permissions},
        "data": {"id": "1", "name": "room", "type": 1, "options": [sub]},
    })
}

/// The text of an answer that only the asker sees and that notifies nobody.
fn said(delivered: &Value) -> &str {
    assert_eq!(delivered["status"], 200, "{delivered}");
    assert_eq!(delivered["contentType"], "application/json");
    let (body, data) = (&delivered["body"], &delivered["body"]["data"]);
    assert_eq!(
        (&body["type"], &data["flags"]),
        (&json!(4), &json!(64)),
        "{delivered}"
    );
    assert_eq!(data["allowed_mentions"], json!({"parse": []}));
    data["content"].as_str().unwrap()
}

async fn only_room(world: &World) -> String {
    let ada = world.member("reader").await;
    let listed = world.listed(&ada).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    listed[0].0.clone()
}

#[tokio::test]
async fn a_ping_is_answered() {
    let world = World::new().await;
    let delivered = world.interact(json!({"type": 1})).await;
    assert_eq!(
        (&delivered["status"], &delivered["body"]),
        (&json!(200), &json!({"type": 1}))
    );
    assert_eq!(delivered["contentType"], "application/json");
}

#[tokio::test]
async fn a_member_opens_lists_and_closes_a_room_from_inside_discord() {
    let world = World::new().await;
    let options = json!([{"name": "name", "type": 3, "value": "*@everyone*"}, {"name": "limit", "type": 4, "value": 0}]);
    let delivered = world.interact(room(ADA, "0", "create", options)).await;
    let channel = only_room(&world).await;
    assert_eq!(
        said(&delivered),
        format!("**\\*\\@everyone\\*** is open: <#{channel}>")
    );
    let there = world.channel(&channel).await;
    assert_eq!(
        (&there["name"], &there["userLimit"]),
        (&json!("*@everyone*"), &json!(0))
    );
    assert_eq!(
        world.state().await["auditLog"][0]["reason"],
        format!("Roomwire: create-room by discord:{ADA}")
    );

    let delivered = world.interact(room("5", "0", "list", json!([]))).await;
    assert_eq!(
        said(&delivered),
        format!("**\\*\\@everyone\\*** <#{channel}> · 0 · opening\n")
    );

    let end = |user: &str, permissions: &str| {
        room(
            user,
            permissions,
            "end",
            json!([{"name": "room", "type": 7, "value": channel}]),
        )
    };
    let delivered = world.interact(end("5", "4")).await;
    assert_eq!(said(&delivered), "That is not a room that you opened here.");
    assert!(world.channel(&channel).await.is_object());
    let delivered = world.interact(end(ADA, "0")).await;
    assert_eq!(said(&delivered), "The room is closed.");
    assert_eq!(world.channel(&channel).await, Value::Null);
}

#[tokio::test]
async fn the_signed_permissions_make_a_manager() {
    let world = World::new().await;
    for permissions in ["16", "8"] {
        world.interact(room(ADA, "0", "create", json!([]))).await;
        let channel = only_room(&world).await;
        let end = json!([{"name": "room", "type": 7, "value": channel}]);
        let delivered = world.interact(room("5", permissions, "end", end)).await;
        assert_eq!(said(&delivered), "The room is closed.", "{permissions}");
    }
    for channel in [LOUNGE, STAFF] {
        let end = json!([{"name": "room", "type": 7, "value": channel}]);
        let delivered = world.interact(room("5", "8", "end", end)).await;
        assert_eq!(said(&delivered), "That is not a room that you opened here.");
    }
    assert_eq!(world.asked(DELETE).await, 2);
}

#[tokio::test]
async fn both_doors_lead_to_the_same_rooms() {
    let world = World::new().await;
    world
        .interact(room(
            ADA,
            "0",
            "create",
            json!([{"name": "name", "type": 3, "value": "a"}]),
        ))
        .await;
    let channel = only_room(&world).await;
    let page = world.token(&format!("discord:{ADA}"), json!({})).await;
    assert_eq!(world.end(&page, &channel).await.status, 200);
    let refused = world
        .interact(room(
            ADA,
            "0",
            "create",
            json!([{"name": "name", "type": 3, "value": "\u{202e}"}]),
        ))
        .await;
    assert!(
        said(&refused).contains("`name`: no control characters"),
        "{refused}"
    );
    world.script(CREATE, json!({"status": 403})).await;
    let refused = world.interact(room(ADA, "0", "create", json!([]))).await;
    assert!(said(&refused).contains("Manage Channels"), "{refused}");
}

#[tokio::test]
async fn a_request_with_a_wrong_signature_is_401_and_has_no_effect() {
    let world = World::new().await;
    let interaction = room(ADA, "0", "create", json!([]));
    let now_s = launch::clock::now_ms() / 1000;
    for request in [
        json!({"interaction": interaction, "signature": "bad"}),
        json!({"interaction": interaction, "signature": "missing"}),
        json!({"interaction": interaction, "timestamp": now_s - 310}),
        json!({"interaction": interaction, "timestamp": now_s + 310}),
        json!({"interaction": {"type": 1}, "signature": "bad"}),
    ] {
        let delivered = world.control("interactions", request.clone()).await;
        assert_eq!(
            (&delivered["status"], &delivered["body"]["code"]),
            (&json!(401), &json!("BAD_SIGNATURE")),
            "{request}"
        );
    }
    // Not even JSON: the signature comes first.
    let unsigned = answer(world.request(Method::POST, "/interactions", "x").body("{")).await;
    assert_eq!(unsigned.code(), (401, "BAD_SIGNATURE"));
    let large = answer(
        world
            .request(Method::POST, "/interactions", "x")
            .body("x".repeat(64 * 1024 + 1)),
    )
    .await;
    assert_eq!(large.code(), (413, "TOO_LARGE"));
    assert_eq!(world.asked(CREATE).await, 0);
}

#[tokio::test]
async fn a_repeated_interaction_gets_the_same_answer_and_has_one_effect() {
    let world = World::new().await;
    let mut interaction = room(ADA, "0", "create", json!([]));
    interaction["id"] = json!("777");
    world.script(CREATE, json!({"delayMs": 100})).await;
    let delivered = join_all((0..4).map(|_| world.interact(interaction.clone()))).await;
    let later = world.interact(interaction).await;
    for repeat in delivered.iter().chain([&later]) {
        assert_eq!(repeat["body"], delivered[0]["body"]);
        said(repeat);
    }
    assert_eq!(world.asked(CREATE).await, 1);
}

#[tokio::test]
async fn when_discord_is_slow_the_answer_comes_later() {
    let interactions = InteractionSettings {
        answer_within_ms: 50,
        ..InteractionSettings::default()
    };
    let world = World::with(Plan {
        interactions,
        ..Plan::default()
    })
    .await;
    world.script(CREATE, json!({"delayMs": 400})).await;
    world.script(EDIT, json!({"status": 500})).await;
    let delivered = world
        .interact(room(
            ADA,
            "0",
            "create",
            json!([{"name": "name", "type": 3, "value": "late"}]),
        ))
        .await;
    assert_eq!(
        delivered["body"],
        json!({"type": 5, "data": {"flags": 64}}),
        "{delivered}"
    );
    world
        .until("the first answer was replaced", || async {
            let original = world.state().await["interactions"][0]["original"].take();
            original
                .as_str()
                .is_some_and(|text| text.starts_with("**late** is open"))
        })
        .await;
    assert_eq!(world.asked(CREATE).await, 1);
}

#[tokio::test]
async fn an_unknown_interaction_is_answered_politely() {
    let world = World::new().await;
    let elsewhere = json!({"type": 2, "guild_id": "5", "member": {"user": {"id": ADA}, "permissions": "8"}, "data": {"name": "room", "options": [{"name": "list", "type": 1}]}});
    let alone = json!({"type": 2, "user": {"id": ADA}, "data": {"name": "room", "options": [{"name": "list", "type": 1}]}});
    let mut other = room(ADA, "8", "list", json!([]));
    other["data"]["name"] = json!("other");
    for (interaction, word) in [
        (elsewhere, "does not serve"),
        (other, "does not know"),
        (room(ADA, "8", "dance", json!([])), "does not know"),
        (room(ADA, "8", "end", json!([])), "does not know"),
        (
            json!({"type": 3, "guild_id": GUILD, "member": {"user": {"id": ADA}, "permissions": "8"}, "data": {"custom_id": "x"}}),
            "does not know",
        ),
        (
            json!({"type": 5, "guild_id": GUILD, "data": {"custom_id": "x"}}),
            "does not know",
        ),
        (alone, "belong to servers"),
    ] {
        let delivered = world.interact(interaction.clone()).await;
        assert!(
            said(&delivered).contains(word),
            "{interaction}: {delivered}"
        );
    }
    let delivered = world
        .interact(json!({"type": 4, "guild_id": GUILD, "data": {"name": "room"}}))
        .await;
    assert_eq!(
        delivered["body"],
        json!({"type": 8, "data": {"choices": []}}),
        "{delivered}"
    );
}

#[tokio::test]
async fn without_a_key_there_is_no_door() {
    let world = World::with(Plan {
        with_key: false,
        ..Plan::default()
    })
    .await;
    let delivered = world.interact(json!({"type": 1})).await;
    assert_eq!(
        (&delivered["status"], &delivered["body"]["code"]),
        (&json!(404), &json!("NOT_FOUND"))
    );
}
