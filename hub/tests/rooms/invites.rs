//! Invites to rooms.

use ::world::{CATEGORY, GUILD, LOUNGE, World};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, OWNED, asked, code, fields, room, script, text, without_request_id, world};

const INVITE: &str = "POST /channels/*/invites";

async fn invite(world: &World, claims: Value, channel: &str, body: Value) -> Answer {
    let path = format!("/api/rooms/{channel}/invites");
    let (status, body) = world.rest(Method::POST, &path, claims, Some(body)).await;
    (status.as_u16(), body)
}

fn ada() -> Value {
    json!({"sub": "ada"})
}

#[tokio::test]
async fn an_invite_leads_to_its_room_and_ends_when_it_was_asked_to() {
    let world = world(&[]).await;
    let (status, made) = invite(
        &world,
        ada(),
        LOUNGE,
        json!({"maxAgeSeconds": 600, "maxUses": 2}),
    )
    .await;
    assert_eq!(status, 201, "{made}");
    let code = text(&made["code"]);
    assert_eq!(text(&made["url"]), format!("https://discord.gg/{code}"));
    let now_ms = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let ends_in_ms = made["expiresAt"].as_u64().unwrap().saturating_sub(now_ms);
    assert!((540_000..=600_000).contains(&ends_in_ms), "{made}");
    let reason = world.truth().await["auditLog"][0]["reason"].clone();
    assert_eq!(reason, "Roomwire: invite by ada");
    let (status, made) = invite(&world, ada(), LOUNGE, json!({"maxAgeSeconds": 0})).await;
    assert_eq!(
        (status, &made["expiresAt"]),
        (201, &Value::Null),
        "it never ends"
    );
}

#[tokio::test]
async fn bad_fields_are_all_named_and_discord_is_not_asked() {
    let world = world(&[]).await;
    for (body, wrong) in [
        (
            json!({"maxAgeSeconds": 604_801, "maxUses": 101}),
            vec!["maxAgeSeconds", "maxUses"],
        ),
        (
            json!({"maxAgeSeconds": "1", "uses": 1}),
            vec!["maxAgeSeconds", "uses"],
        ),
    ] {
        let refused = invite(&world, ada(), LOUNGE, body).await;
        assert_eq!(
            (code(&refused), fields(&refused)),
            ((400, "BAD_REQUEST"), wrong)
        );
    }
    assert_eq!(asked(&world, INVITE).await, 0);
}

#[tokio::test]
async fn a_room_out_of_view_is_answered_like_one_that_never_was() {
    let world = world(&[OWNED]).await;
    let own = room(&world, "ada").await;
    // A room that nobody may see here, a category, and nothing.
    let absent = invite(&world, ada(), "999", json!({})).await;
    assert_eq!(code(&absent), (404, "NOT_FOUND"));
    let absent = without_request_id(absent);
    for channel in [LOUNGE, CATEGORY] {
        let refused = invite(&world, ada(), channel, json!({})).await;
        assert_eq!(without_request_id(refused), absent, "{channel}");
    }
    let other_guild = json!({"sub": "ada", "guilds": ["5"]});
    let refused = invite(&world, other_guild, &own, json!({})).await;
    assert_eq!(without_request_id(refused), absent);
    let reader = json!({"sub": "bob", "scope": "rooms:read"});
    assert_eq!(
        code(&invite(&world, reader, &own, json!({})).await),
        (403, "FORBIDDEN")
    );
    let ender = |sub: &str| json!({"sub": sub, "scope": "rooms:end"});
    let refused = invite(&world, ender("bob"), &own, json!({})).await;
    assert_eq!(without_request_id(refused), absent, "not theirs");
    for claims in [
        ender("ada"),
        json!({"sub": "bob"}),
        json!({"sub": "eve", "scope": "rooms:manage"}),
    ] {
        assert_eq!(
            invite(&world, claims.clone(), &own, json!({})).await.0,
            201,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn what_discord_refuses_is_said() {
    let world = world(&[]).await;
    for (fault, expected) in [
        (
            json!({"status": 403, "code": 50013}),
            (502, "DISCORD_FORBIDDEN"),
        ),
        (
            json!({"status": 400, "code": 30016}),
            (422, "UNPROCESSABLE"),
        ),
        (json!({"status": 404, "code": 10003}), (404, "NOT_FOUND")),
        (json!({"status": 500}), (503, "DISCORD_UNAVAILABLE")),
    ] {
        script(&world, INVITE, fault.clone()).await;
        let refused = invite(&world, ada(), LOUNGE, json!({})).await;
        assert_eq!(code(&refused), expected, "{fault}");
        assert!(
            refused.1["detail"]
                .as_str()
                .is_some_and(|detail| !detail.contains(GUILD))
        );
    }
}
