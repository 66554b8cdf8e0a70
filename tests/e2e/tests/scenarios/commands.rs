//! Slash commands, through the simulator's signed delivery.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use world::{ADA, GRACE, GUILD, World, assert_has, eventually};

/// `/room <subcommand>` as Discord would send it.
fn room(user: &str, permissions: &str, subcommand: &str, options: &Value) -> Value {
    json!({ "interaction": {
        "type": 2,
        "guild_id": GUILD,
        "channel_id": world::LOUNGE,
        "member": { "user": { "id": user, "username": "somebody" }, "permissions": permissions, "roles": [] },
        "data": { "id": "900000000000000001", "name": "room", "type": 1,
                  "options": [{ "name": subcommand, "type": 1, "options": options }] },
    }, "signature": "good" })
}

async fn said(world: &World, interaction: Value) -> String {
    let answer = world.control("interactions", interaction).await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert!(answer["ms"].as_f64().unwrap() < 3_000.0, "{answer}");
    assert_eq!(answer["body"]["type"], 4, "{answer}");
    answer["body"]["data"].to_string()
}

#[tokio::test]
async fn a_slash_command_rest_and_the_page_make_the_same_room() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let options = json!([{ "name": "name", "type": 3, "value": "Chess" }, { "name": "limit", "type": 4, "value": 3 }]);
    said(&world, room(ADA, "0", "create", &options)).await;
    let by_command = browser.event("room.created").await["payload"].clone();

    let body = json!({ "name": "Chess", "userLimit": 3 });
    let (status, _) = world
        .rest(
            Method::POST,
            "/api/create-room",
            json!({ "sub": "ada" }),
            Some(body),
        )
        .await;
    assert_eq!(status, StatusCode::CREATED);
    let by_rest = browser.event("room.created").await["payload"].clone();
    let without_id = |mut payload: Value| {
        payload.as_object_mut().unwrap().remove("channelId");
        payload
    };
    assert_eq!(without_id(by_command.clone()), without_id(by_rest));

    let id = by_command["channelId"].as_str().unwrap();
    assert!(
        said(&world, room(ADA, "0", "list", &json!([])))
            .await
            .contains("Chess")
    );
    let end = json!([{ "name": "room", "type": 7, "value": id }]);
    said(&world, room(GRACE, "0", "end", &end)).await;
    assert!(world.channels().await.get(id).is_some(), "not Grace's room");
    said(&world, room(ADA, "0", "end", &end)).await;
    assert_eq!(
        browser.event("room.deleted").await["payload"]["channelId"],
        id
    );
    assert!(world.channels().await.get(id).is_none());
}

#[tokio::test]
async fn a_bad_signature_is_401_and_a_ping_is_answered() {
    let world = World::start().await;
    for signature in ["bad", "missing"] {
        let mut interaction = room(ADA, "8", "create", &json!([]));
        interaction["signature"] = json!(signature);
        assert_eq!(
            world.control("interactions", interaction).await["status"],
            401,
            "{signature}"
        );
    }
    let ping = world
        .control(
            "interactions",
            json!({ "interaction": { "type": 1 }, "signature": "good" }),
        )
        .await;
    assert_has(&ping, &json!({ "status": 200, "body": { "type": 1 } }));
    // The signature is checked before any parse: a body that is not JSON is refused for it alone.
    let url = format!("{}/interactions", world.hub_url);
    for (body, signature) in [
        ("not json", "00".repeat(64)),
        ("{", "zz".repeat(64)),
        ("", String::new()),
    ] {
        let request = world
            .http
            .post(&url)
            .header("X-Signature-Ed25519", &signature)
            .header("X-Signature-Timestamp", "1");
        assert_eq!(
            request.body(body).send().await.unwrap().status(),
            401,
            "{body:?}"
        );
    }
    assert_eq!(
        world
            .http
            .post(&url)
            .body("{}")
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
}

#[tokio::test]
async fn commands_are_registered_once_and_again_only_when_they_changed() {
    let mut world = World::start().await;
    let written = |truth: &Value| {
        let counts = truth["counters"]["rest"].as_object().unwrap();
        let of = |method: &str| -> u64 {
            counts
                .iter()
                .filter(|(route, _)| route.starts_with(method) && route.contains("commands"))
                .filter_map(|(_, n)| n.as_u64())
                .sum()
        };
        (of("GET"), of("POST") + of("PUT") + of("PATCH"))
    };
    let first = eventually("the command is registered", || async {
        let counted = written(&world.truth().await);
        (counted.1 > 0).then_some(counted)
    })
    .await;
    assert_eq!(first.1, 1);
    world.restart_hub().await;
    let second = eventually("the new hub has looked", || async {
        let counted = written(&world.truth().await);
        (counted.0 > first.0).then_some(counted)
    })
    .await;
    world.worker_ready().await;
    assert_eq!(second.1, 1, "nothing changed, nothing was written");
}

/// The code block of this language in the simulator's README.
fn block(language: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../discord-sim/README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let (_, from) = text.split_once(&format!("```{language}\n")).unwrap();
    from.split_once("```").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_interaction_in_the_readme_of_the_simulator_is_answered() {
    let world = World::start().await;
    let (_, interaction) = block("sh")
        .split_once("-d '")
        .map(|(head, tail)| (head.to_owned(), tail.trim_end().to_owned()))
        .unwrap();
    let interaction = serde_json::from_str(interaction.trim_end_matches('\'')).unwrap();
    assert!(said(&world, interaction).await.contains("content"));
    let answer = tokio::process::Command::new("node")
        .args(["--input-type=module", "--eval", &block("js")])
        .env("HUB_URL", &world.hub_url)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let heard = text.strip_prefix("200 ").and_then(|body| {
        let body: Value = serde_json::from_str(body).ok()?;
        body["type"].as_u64()
    });
    let failed = String::from_utf8_lossy(&answer.stderr);
    assert_eq!(heard, Some(4), "{text}{failed}");
}
