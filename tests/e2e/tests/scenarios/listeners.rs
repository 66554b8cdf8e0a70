//! The three listeners against clients that wait, that are refused while they send, and that stay.

use std::io;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use world::{DEADLINE, Plan, World};

/// What a client of HTTP/2 begins with (RFC 9113, section 3.4).
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
/// The preface and the SETTINGS frame that follows it.
const GREETING: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn connect(url: &str, bytes: &str) -> TcpStream {
    let address = url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// The bytes until the other side closes its half; an error if it resets the connection.
async fn read_to_end(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer));
    // No answer at the deadline: the connection is still open.
    read.await.unwrap()?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn prefixes(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len()).map(|end| &text[..end])
}

#[tokio::test]
async fn a_client_that_sends_part_of_a_request_and_waits_is_closed_by_all_three_listeners() {
    let deadline = [("HEADER_TIMEOUT_MS", "500")];
    let world = World::of(Plan {
        hub: &deadline,
        worker: &deadline,
        ..Plan::default()
    })
    .await;
    let mut beginnings: Vec<_> = prefixes(PREFACE).chain(prefixes(REQUEST)).collect();
    beginnings.extend([
        PREFACE,
        GREETING,
        "\r\n",
        "\r\n\r\n\r\n",
        "\0",
        "GET / HTTP/2.0\r\n",
    ]);
    for url in [&world.hub_url, &world.internal_url, &world.worker_url] {
        let waiting = beginnings.iter().map(|beginning| async move {
            let mut stream = connect(url, beginning).await;
            let answer = read_to_end(&mut stream).await;
            // A refusal may come first. It is never the answer to a request.
            let refused = |answer: &String| answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            assert!(
                answer.as_ref().map_or(true, refused),
                "{beginning:?} {answer:?}"
            );
        });
        join_all(waiting).await;
    }
}

#[tokio::test]
async fn clients_that_wait_keep_others_out_for_no_longer_than_the_deadline() {
    let world = World::with(&[("HEADER_TIMEOUT_MS", "500"), ("TCP_CONNECTIONS_MAX", "12")]).await;
    for beginning in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        PREFACE,
        GREETING,
        "GET / HTTP/1.1\r\nHo",
    ] {
        for url in [&world.hub_url, &world.internal_url] {
            let waiting = join_all((0..12).map(|_| connect(url, beginning))).await;
            let health = world.http.get(format!("{url}/health"));
            let answer = timeout(Duration::from_secs(5), health.send()).await;
            let answer = answer.unwrap_or_else(|_| panic!("{url} after {beginning:?}"));
            assert_eq!(answer.unwrap().status(), 200, "{url} after {beginning:?}");
            drop(waiting);
        }
    }
}

#[tokio::test]
async fn a_client_that_speaks_http_2_is_refused() {
    let world = World::start().await;
    for url in [&world.hub_url, &world.internal_url, &world.worker_url] {
        let mut stream = connect(url, GREETING).await;
        let answer = read_to_end(&mut stream).await.unwrap_or_default();
        let is_http_1 = answer.is_empty() || answer.starts_with("HTTP/1.1 400 ");
        assert!(is_http_1, "{url}: {answer:?}");
        // Before TLS nothing is negotiated: an offer to upgrade to HTTP/2 is passed over.
        let offer = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        let mut stream = connect(url, offer).await;
        let answer = read_to_end(&mut stream).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{url}: {answer:?}");
    }
}

#[tokio::test]
async fn clients_that_wait_do_not_delay_the_end() {
    // Requests that are being answered would have half of it.
    let mut world = World::with(&[("DRAIN_TIMEOUT_MS", "40000")]).await;
    let mut waiting = Vec::new();
    let urls = [
        world.hub_url.clone(),
        world.internal_url.clone(),
        world.worker_url.clone(),
    ];
    for url in &urls {
        for beginning in [
            "",
            "P",
            "PRI * HTTP/2.0\r\n",
            PREFACE,
            GREETING,
            "GET / HTTP/1.1\r\nHo",
        ] {
            waiting.push(connect(url, beginning).await);
        }
        let mut idle = connect(url, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut answer = [0; 12];
        idle.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        waiting.push(idle);
        let refused = "POST /no HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhalf";
        let mut refused = connect(url, refused).await;
        assert!(
            read_to_end(&mut refused)
                .await
                .unwrap()
                .starts_with("HTTP/1.1 404")
        );
        waiting.push(refused);
    }
    let began = Instant::now();
    assert!(world.worker.terminate().await.success());
    assert!(world.hub.terminate().await.success());
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(waiting);
}

/// A client that sends all of its request before it reads, and fails if it cannot.
async fn send_then_read(url: &str, head: &str, body: &[u8]) -> io::Result<String> {
    let mut stream = connect(url, head).await;
    stream.write_all(body).await?;
    read_to_end(&mut stream).await
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_its_body_receives_the_refusal() {
    let world = World::start().await;
    let expired = world
        .token(serde_json::json!({ "sub": "ada", "ttl": -600 }))
        .await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let json = "Content-Type: application/json\r\n";
    let good = world.token(serde_json::json!({ "sub": "ada" })).await;
    let (hub, internal, worker) = (&world.hub_url, &world.internal_url, &world.worker_url);
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nOrigin: https://elsewhere.example\r\n".to_owned();
    let cases = [
        (hub, "POST /api/create-room", String::new(), 401),
        (hub, "POST /api/create-room", bearer(&expired) + json, 401),
        (hub, "POST /api/create-room", bearer(&good) + json, 413),
        (hub, "POST /api/create-room", bearer(&good), 400),
        (hub, "POST /api/nothing", String::new(), 404),
        (hub, "POST /nothing", bearer(&good), 404),
        (hub, "PUT /api/create-room", bearer(&good), 405),
        (hub, "DELETE /api/end-room/1", String::new(), 401),
        (hub, "GET /api/rooms", String::new(), 401),
        (hub, "POST /health", String::new(), 405),
        (hub, "POST /console.json", String::new(), 405),
        (hub, "POST /", String::new(), 404),
        (hub, "GET /console.json", String::new(), 200),
        (hub, "POST /interactions", String::new(), 413),
        (hub, "GET /api/ws", handshake, 403),
        (internal, "POST /api/internal/nothing", String::new(), 404),
        (internal, "PUT /api/internal/events", String::new(), 405),
        (internal, "POST /healthz", String::new(), 405),
        (worker, "POST /nothing", String::new(), 404),
        (worker, "POST /healthz", String::new(), 405),
    ];
    for length in [17_000, 300_000, 2 * 1024 * 1024] {
        let body = vec![b'x'; length];
        let chunked = [
            format!("{length:x}\r\n").as_bytes(),
            &body,
            b"\r\n0\r\n\r\n",
        ]
        .concat();
        for (url, line, headers, status) in &cases {
            // The signature is verified over the whole body, which has to fit first.
            let (line, length_of) = (*line, length as u64);
            let status = match line {
                "POST /interactions" if length_of <= 65_536 => 401,
                _ => *status,
            };
            for (framing, body) in [
                (format!("Content-Length: {length}\r\n"), &body),
                ("Transfer-Encoding: chunked\r\n".to_owned(), &chunked),
            ] {
                let head = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}{framing}\r\n");
                let answer = send_then_read(url, &head, body).await;
                let answer =
                    answer.unwrap_or_else(|error| panic!("{line} {length} {framing}{error}"));
                let expected = format!("HTTP/1.1 {status} ");
                assert!(
                    answer.starts_with(&expected),
                    "{line} {length} {framing}{answer}"
                );
            }
        }
        for url in [hub, internal, worker] {
            for (head, status) in [
                ("nonsense\r\n\r\n".to_owned(), 400),
                ("POST / HTTP/3.0\r\nHost: x\r\n\r\n".to_owned(), 400),
                (
                    "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(),
                    400,
                ),
                (
                    format!("POST / HTTP/1.1\r\nLong: {}\r\n\r\n", "x".repeat(100_000)),
                    431,
                ),
            ] {
                let answer = send_then_read(url, &head, &body).await;
                let answer =
                    answer.unwrap_or_else(|error| panic!("{url} {status} {length} {error}"));
                let expected = format!("HTTP/1.1 {status} ");
                assert!(
                    answer.starts_with(&expected),
                    "{url} {status} {length} {answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_behind_a_command_learns_which_room_it_made() {
    let world = World::start().await;
    let token = world.token(serde_json::json!({ "sub": "ada" })).await;
    let body = r#"{"name":"Chess"}"#;
    let head = format!(
        "POST /api/create-room HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = connect(&world.hub_url, &head).await;
    stream.shutdown().await.unwrap();
    let answer = read_to_end(&mut stream).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer:?}");
    assert!(answer.contains("Chess"), "{answer:?}");
}

#[tokio::test]
async fn a_browser_that_is_closed_while_it_sends_a_large_message_receives_the_close_code() {
    const LENGTH: u32 = 4 * 1024 * 1024;
    let world = World::start().await;
    let head = "GET /api/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let header = [
        &[0x81, 0xff, 0, 0, 0, 0][..],
        &LENGTH.to_be_bytes(),
        &[0; 4],
    ]
    .concat();
    let mut stream = connect(&world.hub_url, head).await;
    stream.write_all(&header).await.unwrap();
    stream
        .write_all(&vec![b'x'; LENGTH as usize])
        .await
        .unwrap();
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    read.unwrap().unwrap();
    let too_big = [0x03, 0xf1];
    assert!(answer.windows(2).any(|code| code == too_big), "{answer:?}");
}
