//! The issuer as others meet it: over HTTP.
#![expect(
    clippy::unwrap_used,
    reason = "the steps that tests share may fail like tests"
)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dev_issuer::Settings;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

struct World {
    at: String,
    client: Client,
    _stop: DropGuard,
}

async fn issuer(settings: Settings) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone().drop_guard();
    tokio::spawn(dev_issuer::run(listener, settings, shutdown));
    let client = Client::builder().no_proxy().build().unwrap();
    World {
        at,
        client,
        _stop: stop,
    }
}

impl World {
    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.at);
        let answer = self.client.post(url).json(body).send().await.unwrap();
        let status = answer.status();
        (status, answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.at);
        let answer = self.client.get(url).send().await.unwrap();
        answer.json().await.unwrap()
    }

    async fn token(&self, body: &Value) -> (Value, Value) {
        let (status, answer) = self.post("/token", body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        opened(answer["token"].as_str().unwrap())
    }
}

/// Header and claims of a token, unverified.
fn opened(token: &str) -> (Value, Value) {
    let mut parts = token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
    let header = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    let claims = serde_json::from_slice(&parts.next().unwrap()).unwrap();
    assert_eq!(parts.count(), 1);
    (header, claims)
}

#[tokio::test]
async fn a_token_of_each_algorithm_verifies_against_the_published_set() {
    let world = issuer(Settings::default()).await;
    let set: jsonwebtoken::jwk::JwkSet =
        serde_json::from_value(world.get("/.well-known/jwks.json").await).unwrap();
    for alg in ["RS256", "ES256", "EdDSA"] {
        let (_, answer) = world
            .post("/token", &json!({"sub": "ada", "alg": alg}))
            .await;
        let token = answer["token"].as_str().unwrap();
        let header = jsonwebtoken::decode_header(token).unwrap();
        let key = set.find(&header.kid.unwrap()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(alg.parse().unwrap());
        validation.set_audience(&[dev_issuer::AUDIENCE]);
        validation.set_issuer(&[&world.at]);
        let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
            .unwrap()
            .claims;
        assert_eq!(claims["sub"], "ada", "{alg}");
        assert_eq!(
            claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
            3600
        );
        assert!(claims.get("guilds").is_none() && claims.get("scope").is_none());
    }
}

#[tokio::test]
async fn a_request_shapes_claims_and_header() {
    let world = issuer(Settings::default()).await;
    let (header, claims) = world
        .token(&json!({
            "sub": "ada", "guilds": ["1", "2"], "scope": "rooms:read", "ttl": -5,
            "claims": {"iss": "http://elsewhere", "aud": null, "nbf": 7},
            "header": {"kid": null, "jku": "http://127.0.0.1:1/"},
        }))
        .await;
    assert_eq!(
        header,
        json!({"alg": "RS256", "typ": "JWT", "jku": "http://127.0.0.1:1/"})
    );
    assert_eq!(claims["guilds"], json!(["1", "2"]));
    assert_eq!(claims["scope"], "rooms:read");
    assert_eq!(claims["iss"], "http://elsewhere");
    assert_eq!(claims["nbf"], 7);
    assert!(claims.get("aud").is_none());
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        -5
    );
}

#[tokio::test]
async fn what_is_not_a_token_request_is_refused() {
    let world = issuer(Settings::default()).await;
    for body in [
        json!({}),
        json!({"sub": 7}),
        json!({"sub": "a", "alg": "HS256"}),
        json!({"sub": "a", "tll": 5}),
        json!([]),
    ] {
        let (status, answer) = world.post("/token", &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {answer}");
        assert_eq!(answer["status"], 400, "{body}");
        assert_eq!(answer["title"], "Bad Request", "{body}");
        assert_eq!(answer["code"], "BAD_REQUEST", "{body}");
    }
    let (status, answer) = world
        .post("/token", &json!({"sub": "a".repeat(256 * 1024)}))
        .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
    assert_eq!(answer["code"], "TOO_LARGE");
    // A page of any origin could send this without a preflight.
    let plain = world
        .client
        .post(format!("{}/token", world.at))
        .body(r#"{"sub":"ada"}"#)
        .send();
    assert_eq!(plain.await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_page_gets_a_token_as_text_with_one_get() {
    let world = issuer(Settings {
        origins: vec!["http://localhost:5173".to_owned()],
        ..Settings::default()
    })
    .await;
    let ask = |query: &str| {
        let url = format!("{}/token{query}", world.at);
        let request = world.client.get(url);
        request.header("origin", "http://localhost:5173").send()
    };
    let answer = ask("?sub=ada").await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let headers = answer.headers();
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(
        headers["access-control-allow-origin"],
        "http://localhost:5173"
    );
    let (header, claims) = opened(&answer.text().await.unwrap());
    assert_eq!(header["alg"], "RS256");
    assert_eq!(claims["sub"], "ada");
    assert!(claims.get("guilds").is_none() && claims.get("scope").is_none());

    let answer = ask("?sub=a%20b&guilds=1,2&scope=rooms:read+rooms:end&ttl=5").await;
    let (_, claims) = opened(&answer.unwrap().text().await.unwrap());
    assert_eq!(claims["sub"], "a b");
    assert_eq!(claims["guilds"], json!(["1", "2"]));
    assert_eq!(claims["scope"], "rooms:read rooms:end");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        5
    );
    let answer = ask("?sub=ada&guilds=").await;
    let (_, claims) = opened(&answer.unwrap().text().await.unwrap());
    assert_eq!(claims["guilds"], json!([]));

    for query in ["", "?guilds=1", "?sub=ada&ttl=x", "?sub=ada&tll=5"] {
        let answer = ask(query).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "BAD_REQUEST", "{query}");
    }
}

#[tokio::test]
async fn a_rotation_signs_with_new_keys_and_keeps_one_old_generation() {
    let world = issuer(Settings::default()).await;
    let kids = |set: &Value| -> Vec<String> {
        let keys = set["keys"].as_array().unwrap();
        keys.iter()
            .map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = kids(&world.get("/.well-known/jwks.json").await);
    let (status, rotation) = world.post("/rotate", &json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(rotation["removed"], json!([]));
    let second = kids(&world.get("/.well-known/jwks.json").await);
    assert_eq!(second[3..], first);
    let (header, _) = world.token(&json!({"sub": "ada", "alg": "EdDSA"})).await;
    assert_eq!(header["kid"], second[2].as_str());
    let (_, rotation) = world.post("/rotate", &json!({})).await;
    assert_eq!(rotation["removed"], json!(first));
    assert_eq!(
        world.get("/.well-known/jwks.json").await["keys"][3]["kid"],
        second[0].as_str()
    );
}

#[tokio::test]
async fn the_discovery_document_points_at_the_key_set() {
    let world = issuer(Settings::default()).await;
    let document = world.get("/.well-known/openid-configuration").await;
    assert_eq!(document["issuer"], world.at.as_str());
    assert_eq!(
        document["jwks_uri"],
        format!("{}/.well-known/jwks.json", world.at)
    );
}

#[tokio::test]
async fn only_pages_of_allowed_origins_may_read_the_answers() {
    let world = issuer(Settings {
        origins: vec!["http://127.0.0.1:5173".to_owned()],
        ..Settings::default()
    })
    .await;
    for (origin, allowed) in [
        ("http://127.0.0.1:3000", true),
        ("http://localhost:3000", true),
        ("http://127.0.0.1:5173", true),
        ("http://127.0.0.1:3001", false),
        ("http://localhost:3000.example.org", false),
        ("null", false),
    ] {
        let preflight = world
            .client
            .request(reqwest::Method::OPTIONS, format!("{}/token", world.at))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .send()
            .await
            .unwrap();
        let named = preflight.headers().get("access-control-allow-origin");
        assert_eq!(
            named.is_some_and(|value| value == origin),
            allowed,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn it_does_not_serve_other_machines() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = dev_issuer::run(listener, Settings::default(), CancellationToken::new()).await;
    assert!(refused.unwrap_err().to_string().contains("loopback"));
}
