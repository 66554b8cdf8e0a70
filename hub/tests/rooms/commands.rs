//! Discord's signed requests, delivered by the simulator as Discord delivers them.

use ::world::{ADA, GUILD, World, eventually};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{CREATE, OWNED, asked, exists, listed, script, text, world};

const EDIT: &str = "PATCH /webhooks/*/*/messages/@original";

/// `/room <name> <options>` of a member without rights.
fn command(user: &str, name: &str, options: &Value) -> Value {
    json!({
        "type": 2, "guild_id": GUILD,
        "member": {"user": {"id": user}, "permissions": "0"},
        "data": {"id": "1", "name": "room", "type": 1, "options": [
            {"name": name, "type": 1, "options": options}
        ]},
    })
}

async fn interact(world: &World, interaction: &Value) -> Value {
    let interaction = json!({ "interaction": interaction });
    world.control("interactions", interaction).await
}

/// The text of an answer that only the user sees and that notifies nobody.
fn said(delivered: &Value) -> &str {
    assert_eq!(delivered["status"], 200, "{delivered}");
    assert_eq!(delivered["contentType"], "application/json");
    let (body, data) = (&delivered["body"], &delivered["body"]["data"]);
    assert_eq!((&body["type"], &data["flags"]), (&json!(4), &json!(64)));
    assert_eq!(data["allowed_mentions"], json!({"parse": []}));
    data["content"].as_str().unwrap()
}

#[tokio::test]
async fn a_member_opens_lists_and_closes_a_room_from_inside_discord() {
    let world = world(&[OWNED]).await;
    let options = json!([{"name": "name", "type": 3, "value": "*@everyone*"}, {"name": "limit", "type": 4, "value": 0}]);
    let delivered = interact(&world, &command(ADA, "create", &options)).await;
    let (channel, _) = listed(&world).await.remove(0);
    let opened = format!("**\\*\\@everyone\\*** is open: <#{channel}>");
    assert_eq!(said(&delivered), opened);
    let made = world.channels().await[&channel].take();
    assert_eq!(
        (&made["name"], &made["userLimit"]),
        (&json!("*@everyone*"), &json!(0))
    );
    let reason = text(&world.truth().await["auditLog"][0]["reason"]);
    assert!(reason.ends_with(&format!(": create-room by discord:{ADA}")));

    let delivered = interact(&world, &command("5", "list", &json!([]))).await;
    let line = format!("**\\*\\@everyone\\*** <#{channel}> · 0");
    assert!(said(&delivered).starts_with(&line), "{delivered}");

    let room = json!([{"name": "room", "type": 7, "value": channel}]);
    let delivered = interact(&world, &command("5", "end", &room)).await;
    assert_eq!(said(&delivered), "That is not a room that you opened here.");
    assert!(exists(&world, &channel).await);
    let delivered = interact(&world, &command(ADA, "end", &room)).await;
    assert_eq!(said(&delivered), "The room is closed.");
    assert!(!exists(&world, &channel).await);
}

#[tokio::test]
async fn a_repeated_interaction_gets_the_same_answer_and_has_one_effect_also_after_a_kill() {
    let mut world = world(&[]).await;
    let mut interaction = command(ADA, "create", &json!([]));
    interaction["id"] = json!("777");
    script(&world, CREATE, json!({"delayMs": 100})).await;
    let delivered = join_all((0..4).map(|_| interact(&world, &interaction))).await;
    let later = interact(&world, &interaction).await;
    for repeat in delivered.iter().chain([&later]) {
        assert_eq!(said(repeat), said(&later));
    }
    world.restart_hub().await;
    let repeat = interact(&world, &interaction).await;
    assert_eq!(said(&repeat), "Roomwire has answered this already.");
    assert_eq!(asked(&world, CREATE).await, 1);
}

#[tokio::test]
async fn when_discord_is_slow_the_answer_comes_later() {
    let world = world(&[("INTERACTION_ANSWER_MS", "50")]).await;
    script(&world, CREATE, json!({"delayMs": 400})).await;
    script(&world, EDIT, json!({"status": 500})).await;
    let options = json!([{"name": "name", "type": 3, "value": "late"}]);
    let delivered = interact(&world, &command(ADA, "create", &options)).await;
    let deferred = json!({"type": 5, "data": {"flags": 64}});
    assert_eq!(delivered["body"], deferred, "{delivered}");
    eventually("the first answer was replaced", || async {
        let original = world.truth().await["interactions"][0]["original"].take();
        let text = original.as_str().unwrap_or_default();
        text.starts_with("**late** is open").then_some(())
    })
    .await;
    assert_eq!(asked(&world, CREATE).await, 1);
}

#[tokio::test]
async fn an_unknown_interaction_is_answered_politely() {
    let world = world(&[]).await;
    let changed = |name: &str, value: Value| {
        let mut changed = command(ADA, "list", &json!([]));
        changed[name] = value;
        changed
    };
    for (interaction, word) in [
        (changed("guild_id", json!("5")), "does not serve"),
        (changed("data", json!({"name": "other"})), "does not know"),
        (command(ADA, "dance", &json!([])), "does not know"),
        (changed("type", json!(3)), "does not know"),
        (changed("type", json!(5)), "does not know"),
        (changed("member", Value::Null), "belong to servers"),
    ] {
        let delivered = interact(&world, &interaction).await;
        assert!(
            said(&delivered).contains(word),
            "{interaction}: {delivered}"
        );
    }
    let delivered = interact(&world, &changed("type", json!(4))).await;
    let nothing = json!({"type": 8, "data": {"choices": []}});
    assert_eq!(delivered["body"], nothing, "{delivered}");
}

#[tokio::test]
async fn a_signature_counts_only_near_its_time_and_without_a_key_no_endpoint_exists() {
    let mut world = world(&[]).await;
    let ping = json!({"type": 1});
    let now_s = launch::clock::now_ms() / 1000;
    for timestamp in [now_s - 310, now_s + 310] {
        let stale = json!({"interaction": ping, "timestamp": timestamp});
        let delivered = world.control("interactions", stale).await;
        assert_eq!(delivered["status"], 401);
        assert_eq!(delivered["body"]["code"], "BAD_SIGNATURE");
    }
    let url = format!("{}/interactions", world.hub_url);
    let large = world.http.post(url).body("x".repeat(64 * 1024 + 1));
    assert_eq!(large.send().await.unwrap().status(), 413);
    world.restart(::world::Side::Hub, &[("DISCORD_PUBLIC_KEY", "")]);
    world.hub_ready().await;
    let delivered = interact(&world, &ping).await;
    assert_eq!(delivered["status"], 404);
    assert_eq!(delivered["body"]["code"], "NOT_FOUND");
}
