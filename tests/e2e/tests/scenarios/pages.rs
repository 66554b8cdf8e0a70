//! What a page of another origin can read, and who may open a WebSocket.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::{DEADLINE, World};

/// A page, and a page of an app shell.
const ALLOWED: [&str; 2] = [
    "https://rooms.example.org",
    "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
];
const FOREIGN: [&str; 4] = [
    "https://rooms.example.org.evil.example",
    "chrome-extension://other",
    "Chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    "null",
];

/// The head of the answer, in lower case.
async fn head_of(world: &World, line: &str, headers: &str, body: &str) -> String {
    let address = world.hub_url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut some = [0; 1024];
        let read = timeout(DEADLINE, stream.read(&mut some)).await.unwrap();
        let read = read.unwrap();
        assert_ne!(read, 0, "{line}: {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&some[..read]));
    }
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    head.to_lowercase()
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_can_read_every_answer_and_another_page_none() {
    let world = World::with(&[
        ("WEB_ORIGIN", &ALLOWED.join(" ")),
        ("REQUEST_TIMEOUT_MS", "500"),
        ("UNAUTHENTICATED_MAX", "1"),
    ])
    .await;
    let token = world.token(serde_json::json!({ "sub": "ada" })).await;
    let post = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    let large = format!("{post}Content-Length: 100000\r\n");
    let slow = format!("{post}Content-Length: 10\r\n");
    let body = "x".repeat(100_000);
    let preflight = "Access-Control-Request-Method: POST\r\n";
    for (line, headers, body, status) in [
        ("GET /health", "", "", 200),
        ("POST /health", "", "", 405),
        ("GET /console.json", "", "", 200),
        ("GET /nothing", "", "", 404),
        ("POST /nothing", "", "", 404),
        // Of the internal listener.
        ("POST /api/internal/events", "", "", 404),
        ("GET /api/nothing", "", "", 404),
        ("GET /api/rooms", "", "", 401),
        ("GET /api/rooms?token=x", "", "", 400),
        ("GET /api/rooms?access_token=x", "", "", 400),
        ("GET /api/rooms?%74oken=x", "", "", 400),
        ("PUT /api/create-room", "", "", 405),
        ("POST /api/create-room", large.as_str(), body.as_str(), 413),
        ("POST /api/create-room", slow.as_str(), "", 408),
        ("POST /interactions", "", "", 401),
        ("GET /api/ws", "", "", 400),
        ("GET /api/ws?token=x", "", "", 400),
        ("POST /api/ws", "", "", 405),
        ("HEAD /api/ws", "", "", 405),
        ("OPTIONS /health", preflight, "", 200),
        ("OPTIONS /nothing", preflight, "", 200),
        ("OPTIONS /api/ws", preflight, "", 200),
        ("OPTIONS /api/create-room", preflight, "", 200),
        ("OPTIONS /interactions", preflight, "", 200),
        ("OPTIONS /", preflight, "", 200),
    ] {
        for origin in ALLOWED.into_iter().chain(FOREIGN) {
            let headers = format!("{headers}Origin: {origin}\r\n");
            let head = head_of(&world, line, &headers, body).await;
            let is_allowed = ALLOWED.contains(&origin);
            // A foreign page's WebSocket is refused before anything else is looked at.
            let status = if is_allowed || !line.starts_with("GET /api/ws") {
                status
            } else {
                403
            };
            let what = format!("{line} from {origin}: {head}");
            assert!(head.starts_with(&format!("http/1.1 {status} ")), "{what}");
            let is_problem = head.contains("content-type: application/problem+json");
            assert_eq!(is_problem, status >= 400, "{what}");
            let varies = head.lines().filter(|line| line.starts_with("vary:"));
            assert!(varies.clone().any(|line| line.contains("origin")), "{what}");
            let names = format!("access-control-allow-origin: {origin}");
            assert_eq!(head.contains(&names), is_allowed, "{what}");
            assert_eq!(head.contains("access-control-"), is_allowed, "{what}");
            assert!(!head.contains("access-control-allow-credentials"), "{what}");
        }
    }
}

#[tokio::test]
async fn a_handshake_that_is_refused_says_what_is_accepted() {
    let world = World::start().await;
    let handshake = |version: &str| {
        format!(
            "Connection: keep-alive, Upgrade\r\nUpgrade: h2c, WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: {version}\r\n"
        )
    };
    let accepted = head_of(&world, "GET /api/ws", &handshake("13"), "").await;
    assert!(accepted.starts_with("http/1.1 101 "), "{accepted}");
    assert!(
        accepted.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
        "{accepted}"
    );
    for version in ["8", "14"] {
        let refused = head_of(&world, "GET /api/ws", &handshake(version), "").await;
        assert!(refused.starts_with("http/1.1 426 "), "{refused}");
        for header in [
            "sec-websocket-version: 13",
            "upgrade: websocket",
            "connection: upgrade",
        ] {
            assert!(refused.contains(header), "{refused}");
        }
    }
    for method in ["POST", "HEAD", "PUT", "DELETE"] {
        let line = format!("{method} /api/ws");
        let refused = head_of(&world, &line, &handshake("13"), "").await;
        assert!(refused.starts_with("http/1.1 405 "), "{line}: {refused}");
        assert!(refused.contains("allow: get\r\n"), "{line}: {refused}");
    }
    let twice = handshake("13") + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let refused = head_of(&world, "GET /api/ws", &twice, "").await;
    assert!(refused.starts_with("http/1.1 400 "), "{refused}");
}
