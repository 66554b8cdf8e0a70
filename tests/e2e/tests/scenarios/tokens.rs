//! Who is let in.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use world::{Browser, Ended, Folder, GUILD, Plan, Process, SECRET, World, assert_has, eventually};

fn forged(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.{}",
        part(header),
        part(claims),
        URL_SAFE_NO_PAD.encode(signature)
    )
}

async fn refused_at_both_doors(world: &World, what: &str, token: &str) {
    let (status, problem) = world
        .rest_with(Method::GET, "/api/rooms", token, None)
        .await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::UNAUTHORIZED, &json!("UNAUTHORIZED")),
        "{what}"
    );
    let mut browser = world.browser_of(token).await;
    assert_eq!(browser.end().await, Ended::Closed(4401), "{what}");
    assert!(
        browser
            .received
            .iter()
            .all(|frame| !frame.contains("guild.snapshot"))
    );
}

#[tokio::test]
async fn a_forged_token_is_refused_at_both_doors_and_causes_no_request() {
    let world = World::start().await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", trap.local_addr().unwrap());
    let exp = launch::clock::now_ms() / 1000 + 600;
    let claims = json!({ "iss": world.tokens.url, "aud": "roomwire", "sub": "eve", "exp": exp });
    let keys: Value = world
        .http
        .get(format!("{}/.well-known/jwks.json", world.tokens.url))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let kid = keys["keys"][0]["kid"].clone();
    for header in [
        json!({ "alg": "none" }),
        json!({ "alg": "None", "kid": kid }),
        json!({ "alg": "HS256", "kid": kid }),
        json!({ "alg": "RS256", "kid": url }),
        json!({ "alg": "RS256", "jwk": keys["keys"][0], "kid": kid }),
        json!({ "alg": "RS256", "jku": url, "kid": "evil" }),
        json!({ "alg": "RS256", "x5u": url, "kid": "evil" }),
        json!({ "alg": "RS256", "kid": "../../etc/passwd" }),
    ] {
        refused_at_both_doors(
            &world,
            &header.to_string(),
            &forged(&header, &claims, &[1; 256]),
        )
        .await;
    }
    for (what, change) in [
        ("issuer", json!({ "iss": "http://evil.example" })),
        ("audience", json!({ "aud": "somebody-else" })),
        ("expired", json!({ "exp": exp - 3600 })),
        ("not yet valid", json!({ "nbf": exp + 3600 })),
        ("no subject", json!({ "sub": null })),
        ("no expiry", json!({ "exp": null })),
    ] {
        let token = world.token(json!({ "sub": "eve", "claims": change })).await;
        refused_at_both_doors(&world, what, &token).await;
    }
    for token in ["", "x", "a.b.c", "..", &"x".repeat(3_000)] {
        refused_at_both_doors(&world, token, token).await;
    }
    let knock = tokio::time::timeout(Duration::from_millis(100), trap.accept()).await;
    assert!(knock.is_err(), "a token's header made the hub ask somebody");
}

#[tokio::test]
async fn a_token_that_expires_ends_its_connection_unless_it_is_refreshed() {
    let world = World::with(&[("JWT_LEEWAY_S", "0")]).await;
    let short = world.token(json!({ "sub": "ada", "ttl": 3 })).await;
    let long = world.token(json!({ "sub": "ada", "ttl": 600 })).await;
    let mut left_alone = world.browser_of(&short).await;
    let mut refreshed = world.browser_of(&short).await;
    refreshed.event("guild.snapshot").await;
    refreshed
        .send(&json!({ "type": "refresh", "token": long, "id": 1 }))
        .await;
    let answer = refreshed.event("auth.refreshed").await;
    assert_eq!(answer["re"], 1);
    assert_eq!(left_alone.end().await, Ended::Closed(4401));
    refreshed.send(&json!({ "type": "ping" })).await;
    refreshed.event("pong").await;
}

#[tokio::test]
async fn no_token_and_no_secret_is_in_a_log_at_any_level() {
    let loud = [("LOG_LEVEL", "trace")];
    let noisier = [("RUST_LOG", "trace,tungstenite=trace,tokio_websockets=trace")];
    let world = World::of(Plan {
        hub: &noisier,
        worker: &loud,
        ..Plan::default()
    })
    .await;
    let token = world.token(json!({ "sub": "ada" })).await;
    let mut browser = world.browser_of(&token).await;
    browser.event("guild.snapshot").await;
    browser
        .send(&json!({ "type": "refresh", "token": token }))
        .await;
    browser.event("auth.refreshed").await;
    world
        .rest_with(Method::GET, "/api/rooms", &token, None)
        .await;
    for path in ["rooms", "ws"] {
        let url = format!("{}/api/{path}?token={token}", world.hub_url);
        assert_eq!(world.http.get(url).send().await.unwrap().status(), 400);
    }
    for log in [world.hub.log(), world.worker.log()] {
        assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
        for secret in [token.as_str(), SECRET, "sim-token"] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None);
        }
    }
}

#[tokio::test]
async fn rights_are_those_of_the_scope_and_guilds_those_of_the_token() {
    let world = World::start().await;
    for (token_request, method, path, expected) in [
        (
            json!({ "sub": "a", "scope": "rooms:read" }),
            Method::POST,
            "/api/create-room",
            403,
        ),
        (
            json!({ "sub": "a", "scope": "rooms:create" }),
            Method::GET,
            "/api/rooms",
            403,
        ),
        (
            json!({ "sub": "a", "guilds": ["5"] }),
            Method::GET,
            "/api/rooms",
            403,
        ),
        (
            json!({ "sub": "a", "guilds": [GUILD] }),
            Method::GET,
            "/api/rooms",
            200,
        ),
        (
            json!({ "sub": "a", "scope": "openid" }),
            Method::GET,
            "/api/rooms",
            200,
        ),
    ] {
        let body = (method == Method::POST).then(|| json!({ "name": "x" }));
        let (status, answer) = world.rest(method, path, token_request.clone(), body).await;
        assert_eq!(status.as_u16(), expected, "{token_request} {answer}");
    }
    let token = world.token(json!({ "sub": "a" })).await;
    for guild in ["5", "999999999999999999"] {
        let mut browser = Browser::open(&world.hub_url).await;
        browser
            .send(&json!({ "type": "auth", "token": token, "guilds": [guild] }))
            .await;
        assert_eq!(browser.end().await, Ended::Closed(4403));
    }
    let mut browser = world.browser("ada").await;
    browser
        .send(&json!({ "type": "subscribe", "guildId": "5", "id": "s" }))
        .await;
    let refused = browser.frame().await;
    assert_has(
        &refused,
        &json!({ "type": "error", "error": { "code": "FORBIDDEN" }, "re": "s" }),
    );
}

/// A token of Ada's of exactly this size, or up to two bytes less: base64 has steps.
async fn token_of_size(world: &World, bytes: usize) -> String {
    let mut padding = bytes.saturating_sub(600) * 3 / 4;
    loop {
        let claims = json!({ "padding": "x".repeat(padding) });
        let token = world.token(json!({ "sub": "ada", "claims": claims })).await;
        match bytes.checked_sub(token.len()) {
            Some(0..=2) => return token,
            Some(less) => padding += (less * 3 / 4).max(1),
            None => padding -= 1,
        }
    }
}

#[tokio::test]
async fn a_token_of_4_to_8_kib_is_accepted_over_rest_and_on_the_websocket_alike() {
    let world = World::start().await;
    for bytes in [4_096, 6_144, 8_192] {
        let token = token_of_size(&world, bytes).await;
        let (status, _) = world
            .rest_with(Method::GET, "/api/rooms", &token, None)
            .await;
        assert_eq!(status, StatusCode::OK, "{bytes} bytes");
        let mut browser = world.browser_of(&token).await;
        browser.event("guild.snapshot").await;
        // What the first message holds beside the largest token: positions and ids.
        let recover = json!({ GUILD: "p".repeat(3_900) });
        let mut full = Browser::open(&world.hub_url).await;
        full.send(&json!({ "type": "auth", "token": token, "recover": recover }))
            .await;
        full.event("guild.snapshot").await;
        browser
            .send(&json!({ "type": "refresh", "token": token }))
            .await;
        browser.event("auth.refreshed").await;
    }
    let above = token_of_size(&world, 8_200).await;
    refused_at_both_doors(&world, "more than JWT_BYTES_MAX", &above).await;
    let mut browser = Browser::open(&world.hub_url).await;
    let token = "x".repeat(12_288);
    browser
        .send(&json!({ "type": "auth", "token": token }))
        .await;
    assert_eq!(browser.end().await, Ended::Closed(1009));
    assert!(
        browser.received[0].contains("12288 bytes"),
        "{:?}",
        browser.received
    );
}

#[tokio::test]
async fn a_page_without_a_guild_stays_connected_and_subscribes_when_its_token_brings_one() {
    let world = World::start().await;
    for guilds in [json!([]), json!(["5"])] {
        let without = world.token(json!({ "sub": "ada", "guilds": guilds })).await;
        let with = world
            .token(json!({ "sub": "ada", "guilds": [GUILD] }))
            .await;
        let mut browser = world.browser_of(&without).await;
        let welcome = browser.frame().await;
        assert_has(&welcome, &json!({ "event": "auth.ok", "guilds": [] }));
        assert!(welcome.get("guildId").is_none(), "{welcome}");
        browser
            .send(&json!({ "type": "refresh", "token": with }))
            .await;
        let refreshed = browser.frame().await;
        assert_has(
            &refreshed,
            &json!({ "event": "auth.refreshed", "guilds": [GUILD] }),
        );
        browser
            .send(&json!({ "type": "subscribe", "guildId": GUILD }))
            .await;
        browser.event("guild.snapshot").await;
    }
    let unread = world
        .token(json!({ "sub": "ada", "guilds": [], "scope": "rooms:create" }))
        .await;
    let mut browser = world.browser_of(&unread).await;
    assert_eq!(browser.end().await, Ended::Closed(4403));
}

/// A development issuer beside the world's, at an address of its own.
async fn another_issuer() -> (Process, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let process = Process::start("dev-issuer", &[("ISSUER_LISTEN", &address)]);
    let url = format!("http://{address}");
    let keys = format!("{url}/.well-known/jwks.json");
    eventually("the issuer answers", || async {
        reqwest::get(&keys).await.is_ok().then_some(())
    })
    .await;
    (process, url)
}

#[tokio::test]
async fn two_issuers_of_a_file_share_neither_keys_nor_subjects() {
    let (_first, first) = another_issuer().await;
    let (_second, second) = another_issuer().await;
    let folder = Folder::new();
    let path = folder.path().join("issuers.json");
    let entry = |url: &str| json!({ "issuer": url, "audience": ["roomwire", "more"], "jwksUrl": format!("{url}/.well-known/jwks.json") });
    let mut prefixed = entry(&second);
    prefixed["subjectPrefix"] = json!("second:");
    prefixed["guildsClaim"] = json!("app_metadata.guilds");
    std::fs::write(&path, json!([entry(&first), prefixed]).to_string()).unwrap();
    let world = World::with(&[
        ("JWT_ISSUERS_FILE", path.to_str().unwrap()),
        ("JWT_ISSUER", ""),
        ("JWT_AUDIENCE", ""),
        ("JWT_PUBLIC_JWK_URL", ""),
    ])
    .await;
    let token = async |url: &str, token_request: Value| -> String {
        let answer = world
            .http
            .post(format!("{url}/token"))
            .json(&token_request)
            .send();
        let answer: Value = answer.await.unwrap().json().await.unwrap();
        answer["token"].as_str().unwrap().to_owned()
    };
    for (url, claims, acts_as) in [
        (&first, json!({}), "ada"),
        (
            &second,
            json!({ "aud": ["x", "more"], "app_metadata": { "guilds": [GUILD] } }),
            "second:ada",
        ),
    ] {
        let token = token(url, json!({ "sub": "ada", "claims": claims })).await;
        let (status, _) = world
            .rest_with(Method::GET, "/api/rooms", &token, None)
            .await;
        assert_eq!(status, StatusCode::OK);
        let mut browser = world.browser_of(&token).await;
        let welcome = browser.frame().await;
        assert_has(&welcome, &json!({ "event": "auth.ok", "sub": acts_as }));
    }
    for (what, url, token_request) in [
        (
            "the name of the other issuer",
            &first,
            json!({ "sub": "ada", "claims": { "iss": second } }),
        ),
        (
            "the name of the first issuer",
            &second,
            json!({ "sub": "ada", "claims": { "iss": first } }),
        ),
        (
            "a subject of the other issuer",
            &first,
            json!({ "sub": "second:ada" }),
        ),
        ("a Discord user", &first, json!({ "sub": "discord:1" })),
        ("a service", &second, json!({ "sub": "service:x" })),
        (
            "an unknown issuer",
            &world.tokens.url,
            json!({ "sub": "ada" }),
        ),
    ] {
        refused_at_both_doors(&world, what, &token(url, token_request).await).await;
    }
}

#[tokio::test]
async fn the_log_says_by_request_id_which_claim_is_wrong_and_the_answer_does_not() {
    let world = World::start().await;
    let mut answers = std::collections::BTreeSet::new();
    for (claims, parts) in [
        (
            json!({ "guilds": [100_000_000_000_000_001_u64] }),
            ["guilds", "a number"],
        ),
        (json!({ "guilds": "1" }), ["guilds", "a string"]),
        (json!({ "sub": 4_711_000 }), ["sub", "a number"]),
        (json!({ "aud": "secret-audience" }), ["aud", "a string"]),
        (json!({ "exp": null }), ["exp", "missing"]),
    ] {
        let token_request = json!({ "sub": "ada", "claims": claims });
        let token = world.token(token_request).await;
        let answer = world
            .http
            .get(format!("{}/api/rooms", world.hub_url))
            .bearer_auth(&token)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let mut problem: Value = answer.json().await.unwrap();
        let id = problem["requestId"].take().as_str().unwrap().to_owned();
        answers.insert(problem.to_string());
        let line = eventually("the refusal is logged", || async {
            let log = world.hub.log();
            log.lines()
                .find(|line| line.contains(&id))
                .map(str::to_owned)
        })
        .await;
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        for content in ["100000000000000001", "4711", "secret-audience", &token] {
            assert!(!line.contains(content), "{line}");
        }
        let mut browser = world.browser_of(&token).await;
        assert_eq!(browser.end().await, Ended::Closed(4401));
        assert!(!browser.received.concat().contains(parts[0]));
        eventually("the refused connection is logged", || async {
            let log = world.hub.log();
            let mut lines = log.lines().filter(|line| line.contains("connection_id"));
            lines
                .any(|line| parts.iter().all(|part| line.contains(part)))
                .then_some(())
        })
        .await;
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    // A flood has few lines.
    let before = world.hub.log().matches("unlogged").count();
    for _ in 0..200 {
        world.rest_with(Method::GET, "/api/rooms", "x", None).await;
    }
    let lines = world.hub.log().matches("unlogged").count() - before;
    let unlogged = world.hub_metric("hub_refusals_unlogged_total").await;
    assert!(lines < 200 && unlogged > 0.0, "{lines} lines, {unlogged}");
}
