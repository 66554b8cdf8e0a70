//! Slash commands, through the simulator's signed delivery.

use serde_json::{Value, json};
use world::{GUILD, World, assert_has, eventually};

async fn said(world: &World, interaction: Value) -> String {
    let answer = world.control("interactions", interaction).await;
    assert_eq!(answer["status"], 200, "{answer}");
    assert!(answer["ms"].as_f64().unwrap() < 3_000.0, "{answer}");
    assert_eq!(answer["body"]["type"], 4, "{answer}");
    answer["body"]["data"].to_string()
}

#[tokio::test]
async fn a_bad_signature_is_401_and_a_ping_is_answered() {
    let world = World::start().await;
    for signature in ["bad", "missing"] {
        let create = json!({ "name": "create", "type": 1 });
        let data = json!({ "id": "1", "name": "room", "type": 1, "options": [create] });
        let interaction = json!({ "type": 2, "guild_id": GUILD, "data": data });
        let signed = json!({ "interaction": interaction, "signature": signature });
        let answer = world.control("interactions", signed).await;
        assert_eq!(answer["status"], 401, "{signature}");
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
