//! The worker's door, tried by an independent implementation of Standard Webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Response;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use world::{GUILD, LOUNGE, SECRET, World, assert_has};

fn now_s() -> i64 {
    i64::try_from(launch::clock::now_ms() / 1000).unwrap()
}

fn signed(id: &str, at_s: i64, body: &str) -> String {
    Webhook::new(SECRET)
        .unwrap()
        .sign(id, at_s, body.as_bytes())
        .unwrap()
}

async fn post(world: &World, id: &str, at: &str, signature: &str, body: String) -> (u16, Value) {
    let request = world
        .http
        .post(format!("{}/api/internal/events", world.internal_url))
        .header("webhook-id", id)
        .header("webhook-timestamp", at)
        .header("webhook-signature", signature);
    answer(request.body(body).send().await.unwrap()).await
}

async fn answer(response: Response) -> (u16, Value) {
    (
        response.status().as_u16(),
        response.json().await.unwrap_or(Value::Null),
    )
}

fn joined(event_id: &str, user: &str) -> String {
    json!({ "type": "events", "events": [{
        "id": event_id, "event": "voice.joined", "ts": 1_730_000_000_000_u64,
        "payload": { "guildId": GUILD, "channelId": LOUNGE, "userId": user },
    }] })
    .to_string()
}

#[tokio::test]
async fn a_signed_event_reaches_a_browser_once_and_its_repeat_does_not() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let body = joined("by-hand-1", "42");
    let at = now_s();
    let signature = signed("msg_1", at, &body);
    let (status, receipt) = post(&world, "msg_1", &at.to_string(), &signature, body.clone()).await;
    assert_eq!(status, 200, "{receipt}");
    assert_has(
        &receipt,
        &json!({ "accepted": 1, "duplicates": 0, "refused": [] }),
    );
    assert!(receipt.get("duplicate").is_none());
    let event = browser.event("voice.joined").await;
    assert_has(
        &event,
        &json!({ "payload": { "userId": "42" }, "ts": 1_730_000_000_000_u64 }),
    );

    // The same request, and the same event in another request.
    for id in ["msg_1", "msg_2"] {
        let signature = signed(id, at, &body);
        let (status, receipt) = post(&world, id, &at.to_string(), &signature, body.clone()).await;
        assert_eq!(
            (status, &receipt["accepted"], &receipt["duplicate"]),
            (200, &json!(0), &json!(true))
        );
    }
    // The browser's next frame is the next new event: a repeat is not published again.
    let next = joined("by-hand-2", "43");
    let signature = signed("msg_3", at, &next);
    post(&world, "msg_3", &at.to_string(), &signature, next).await;
    let next = browser.event("voice.joined").await;
    assert_has(&next, &json!({ "payload": { "userId": "43" }, "n": 2 }));
}

#[tokio::test]
async fn a_wrong_byte_anywhere_is_401_and_changes_nothing() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let (id, body, at) = ("msg_1", joined("by-hand-1", "42"), now_s());
    let at_text = at.to_string();
    let signature = signed(id, at, &body);
    let wrong = |text: &str, index: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[index] = if bytes[index] == b'1' { b'2' } else { b'1' };
        String::from_utf8(bytes).unwrap()
    };
    let mut tried = 0;
    for index in (0..body.len()).step_by(7) {
        let (status, problem) = post(&world, id, &at_text, &signature, wrong(&body, index)).await;
        assert_eq!(
            (status, &problem["code"]),
            (401, &json!("BAD_SIGNATURE")),
            "body byte {index}"
        );
        tried += 1;
    }
    for index in 0..signature.len() {
        let (status, problem) = post(
            &world,
            id,
            &at_text,
            &wrong(&signature, index),
            body.clone(),
        )
        .await;
        assert_eq!(
            (status, &problem["code"]),
            (401, &json!("BAD_SIGNATURE")),
            "signature byte {index}"
        );
        tried += 1;
    }
    for (id, at) in [
        ("msg_2", at_text.as_str()),
        ("msg_1", "1"),
        ("msg_1", "+1"),
        ("msg_1", " 1"),
        ("msg_1", "1e9"),
        ("", &at_text),
    ] {
        let (status, problem) = post(&world, id, at, &signature, body.clone()).await;
        assert_eq!(
            (status, &problem["code"]),
            (401, &json!("BAD_SIGNATURE")),
            "{id:?} {at:?}"
        );
    }
    // An old secret, and no headers at all.
    let other = Webhook::new(&format!("whsec_{}", STANDARD.encode([7; 32])))
        .unwrap()
        .sign(id, at, body.as_bytes())
        .unwrap();
    assert_eq!(
        post(&world, id, &at_text, &other, body.clone()).await.0,
        401
    );
    let bare = world
        .http
        .post(format!("{}/api/internal/events", world.internal_url))
        .body(body.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(bare.status(), 401);
    assert!(tried > 60);
    // A refused delivery leaves no trace: the same id is accepted now, and its event is the first.
    let (_, receipt) = post(&world, id, &at_text, &signature, body).await;
    assert_eq!(receipt["accepted"], 1);
    let next = browser.event("voice.joined").await;
    assert_has(&next, &json!({ "payload": { "userId": "42" }, "n": 1 }));
}

#[tokio::test]
async fn a_stale_and_a_future_timestamp_are_named_only_if_the_signature_matches() {
    let world = World::start().await;
    let body = joined("by-hand-1", "42");
    for offset in [-3600, -120, 120, 3600] {
        let at = now_s() + offset;
        let signature = signed("msg_1", at, &body);
        let (status, problem) =
            post(&world, "msg_1", &at.to_string(), &signature, body.clone()).await;
        assert_eq!(
            (status, &problem["code"]),
            (401, &json!("STALE_TIMESTAMP")),
            "{offset}"
        );
        let (status, problem) =
            post(&world, "msg_9", &at.to_string(), &signature, body.clone()).await;
        assert_eq!(
            (status, &problem["code"]),
            (401, &json!("BAD_SIGNATURE")),
            "{offset}"
        );
    }
    let at = now_s() - 30;
    let signature = signed("msg_1", at, &body);
    assert_eq!(
        post(&world, "msg_1", &at.to_string(), &signature, body)
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn one_bad_event_does_not_fail_its_delivery() {
    let world = World::start().await;
    let mut browser = world.browser("ada").await;
    let event = |id: &str, name: &str, guild: &str| json!({ "id": id, "event": name, "payload": { "guildId": guild, "channelId": LOUNGE, "userId": "42" }, "ts": 1 });
    let long_id = "x".repeat(200);
    let body = json!({ "events": [
        event("good", "voice.joined", GUILD),
        event("odd", "voice.exploded", GUILD),
        event("elsewhere", "voice.joined", "5"),
        event("no-guild", "voice.joined", "zero"),
        event(&long_id, "voice.joined", GUILD),
        7,
    ] })
    .to_string();
    let at = now_s();
    let signature = signed("m", at, &body);
    let (status, receipt) = post(&world, "m", &at.to_string(), &signature, body).await;
    assert_eq!(
        (status, &receipt["accepted"]),
        (200, &json!(1)),
        "{receipt}"
    );
    let refused: Vec<_> = receipt["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["id"].as_str().unwrap(), one["code"].as_str().unwrap()))
        .collect();
    for expected in [
        ("odd", "BAD_REQUEST"),
        ("elsewhere", "FORBIDDEN"),
        ("no-guild", "BAD_REQUEST"),
        ("", "BAD_REQUEST"),
    ] {
        assert!(refused.contains(&expected), "{expected:?} in {refused:?}");
    }
    assert_eq!(refused.len(), 5);
    browser.event("voice.joined").await;

    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 400),
        (r#"["events",null,null,null,[]]"#, 400),
        (r#"{"events":{}}"#, 400),
        (r#"{"type":"other","events":[]}"#, 400),
        (&format!("{{\"events\":[{}]}}", "1,".repeat(4_500_000)), 413),
    ] {
        let at = now_s();
        let signature = signed("m", at, body);
        let (got, problem) = post(&world, "m", &at.to_string(), &signature, body.to_owned()).await;
        assert_eq!(got, status, "{} {problem}", &body[..body.len().min(40)]);
        assert!(problem["code"].is_string(), "{problem}");
    }
}
