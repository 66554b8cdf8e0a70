//! Interactions: signed, delivered, answered, and followed up.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::*;

type Got = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An application's endpoint that keeps what it gets, and answers with `answer`.
async fn endpoint(answer: Value) -> (String, Got) {
    let got = Got::default();
    let kept = Arc::clone(&got);
    let serve = move |headers: HeaderMap, body: Bytes| {
        kept.lock().unwrap().push((headers, body));
        let answer = answer.clone();
        async move { (StatusCode::OK, Json(answer)).into_response() }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/interactions", listener.local_addr().unwrap());
    tokio::spawn(async move {
        axum::serve(listener, Router::new().route("/interactions", post(serve))).await
    });
    (url, got)
}

fn is_signed(headers: &HeaderMap, body: &[u8], key: &str) -> bool {
    let header = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let (Some(signature), Some(timestamp)) = (
        header("x-signature-ed25519"),
        header("x-signature-timestamp"),
    ) else {
        return false;
    };
    let key: [u8; 32] = hex::decode(key).unwrap().try_into().unwrap();
    let signature = Signature::from_slice(&hex::decode(signature).unwrap()).unwrap();
    let message = [timestamp.as_bytes(), body].concat();
    VerifyingKey::from_bytes(&key)
        .unwrap()
        .verify_strict(&message, &signature)
        .is_ok()
}

fn slash() -> Value {
    json!({"type": 2, "guild_id": GUILD, "data": {"id": "1", "name": "room", "type": 1}})
}

#[tokio::test]
async fn a_delivery_is_signed_and_filled_in_and_its_answer_becomes_the_original_message() {
    let (url, got) = endpoint(json!({"type": 4, "data": {"content": "Opened."}})).await;
    let mut settings = settings();
    settings.sim_interactions_url = Some(url);
    let discord = Discord::start_with(settings).await;
    let answer = discord
        .post_control("interactions", json!({"interaction": slash()}))
        .await;
    assert_eq!(
        (&answer["status"], &answer["body"]["type"]),
        (&json!(200), &json!(4))
    );
    let key = discord.state().await["publicKey"]
        .as_str()
        .unwrap()
        .to_owned();
    let (headers, body) = got.lock().unwrap()[0].clone();
    assert!(is_signed(&headers, &body, &key));
    let sent: Value = serde_json::from_slice(&body).unwrap();
    for field in [
        "id",
        "token",
        "version",
        "application_id",
        "member",
        "channel",
        "app_permissions",
    ] {
        assert!(!sent[field].is_null(), "{field} is missing");
    }
    let token = answer["token"].as_str().unwrap();
    let base = format!("/webhooks/{BOT}/{token}");
    let (status, original) = discord
        .rest("GET", &format!("{base}/messages/@original"), None)
        .await;
    assert_eq!((status, &original["content"]), (200, &json!("Opened.")));
    let edit = json!({"content": "Closed."});
    let (_, edited) = discord
        .rest("PATCH", &format!("{base}/messages/@original"), Some(edit))
        .await;
    assert_eq!(edited["content"], "Closed.");
    let (status, _) = discord
        .rest("POST", &base, Some(json!({"content": "And more."})))
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        discord
            .rest("DELETE", &format!("{base}/messages/@original"), None)
            .await
            .0,
        204
    );
    assert_eq!(
        discord
            .rest("GET", &format!("{base}/messages/@original"), None)
            .await
            .1["code"],
        10008
    );
    let state = discord.state().await;
    assert_eq!(state["interactions"][0]["followUps"], json!(["And more."]));
}

#[tokio::test]
async fn bad_and_missing_signatures_are_delivered_as_such() {
    let (url, got) = endpoint(json!({"type": 1})).await;
    let mut settings = settings();
    settings.sim_interactions_url = Some(url);
    let discord = Discord::start_with(settings).await;
    for signature in ["bad", "missing"] {
        discord
            .post_control(
                "interactions",
                json!({"interaction": {"type": 1}, "signature": signature}),
            )
            .await;
    }
    let key = discord.state().await["publicKey"]
        .as_str()
        .unwrap()
        .to_owned();
    let got = got.lock().unwrap().clone();
    assert!(got[0].0.contains_key("x-signature-ed25519"));
    assert!(!is_signed(&got[0].0, &got[0].1, &key));
    assert!(!got[1].0.contains_key("x-signature-ed25519"));
}

#[tokio::test]
async fn without_a_url_interactions_come_over_the_gateway_and_are_answered_once() {
    let discord = Discord::start().await;
    let mut bot = discord.ready().await;
    let answered = discord
        .post_control("interactions", json!({"interaction": slash()}))
        .await;
    assert_eq!(
        (&answered["status"], &answered["gatewaySessions"]),
        (&Value::Null, &json!(1))
    );
    let interaction = bot.until("INTERACTION_CREATE").await;
    let (id, token) = (
        interaction["id"].as_str().unwrap(),
        interaction["token"].as_str().unwrap(),
    );
    let path = format!("/interactions/{id}/{token}/callback");
    let (status, bad) = discord.rest("POST", &path, Some(json!({"type": 99}))).await;
    assert_eq!((status, &bad["code"]), (400, &json!(50035)));
    let (status, empty) = discord
        .rest("POST", &path, Some(json!({"type": 4, "data": {}})))
        .await;
    assert_eq!((status, &empty["code"]), (400, &json!(50006)));
    let deferred = discord
        .rest(
            "POST",
            &path,
            Some(json!({"type": 5, "data": {"flags": 64}})),
        )
        .await;
    assert_eq!(deferred.0, 204);
    let (status, again) = discord
        .rest(
            "POST",
            &path,
            Some(json!({"type": 4, "data": {"content": "x"}})),
        )
        .await;
    assert_eq!((status, &again["code"]), (400, &json!(40060)));
    let (_, loading) = discord
        .rest(
            "GET",
            &format!("/webhooks/{BOT}/{token}/messages/@original"),
            None,
        )
        .await;
    assert_eq!(loading["flags"], 128 | 64);
    let (status, unknown) = discord
        .rest(
            "POST",
            "/interactions/1/nobody/callback",
            Some(json!({"type": 5})),
        )
        .await;
    assert_eq!((status, &unknown["code"]), (404, &json!(10062)));
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_reported_and_not_waited_for() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let mut settings = settings();
    settings.sim_interactions_url = Some(format!("http://{free}/interactions"));
    settings.sim_webhook_events_url = Some(format!("http://{free}/webhook-events"));
    let discord = Discord::start_with(settings).await;
    let answer = discord
        .post_control("interactions", json!({"interaction": {"type": 1}}))
        .await;
    assert_eq!(
        (&answer["status"], &answer["error"]),
        (&Value::Null, &json!("not reachable"))
    );
    let answer = discord
        .post_control(
            "webhook-events",
            json!({"event": {"type": "APPLICATION_AUTHORIZED", "data": {}}}),
        )
        .await;
    assert_eq!(answer["status"], Value::Null);
}

#[tokio::test]
async fn webhook_events_are_wrapped_dated_and_signed() {
    let (url, got) = endpoint(Value::Null).await;
    let mut settings = settings();
    settings.sim_webhook_events_url = Some(url);
    let discord = Discord::start_with(settings).await;
    discord
        .post_control("webhook-events", json!({"event": {"type": 0}}))
        .await;
    discord
        .post_control(
            "webhook-events",
            json!({"event": {"type": "APPLICATION_AUTHORIZED", "data": {"user": {"id": ADA}}}}),
        )
        .await;
    let key = discord.state().await["publicKey"]
        .as_str()
        .unwrap()
        .to_owned();
    let got = got.lock().unwrap().clone();
    let bodies: Vec<Value> = got
        .iter()
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect();
    assert!(
        got.iter()
            .all(|(headers, body)| is_signed(headers, body, &key))
    );
    assert_eq!(
        bodies[0],
        json!({"version": 1, "application_id": BOT, "type": 0})
    );
    assert_eq!(
        (
            &bodies[1]["type"],
            &bodies[1]["event"]["data"]["user"]["id"]
        ),
        (&json!(1), &json!(ADA))
    );
    assert!(bodies[1]["event"]["timestamp"].is_string());
}
