//! Bad input gets the documented answer, and everybody else goes on.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use world::{ADA, Browser, Ended, GUILD, LOUNGE, STUDY, Socket, World, assert_has, eventually};

#[tokio::test]
async fn every_kind_of_garbage_on_a_socket_ends_with_its_code() {
    let world = World::with(&[("AUTH_TIMEOUT_MS", "400"), ("MESSAGE_TIMEOUT_MS", "400")]).await;
    for (message, code) in [
        (Message::text("hello"), 4400),
        (Message::text("{}"), 4400),
        (Message::text("[".repeat(3_000)), 4400),
        (Message::text(r#"{"type":"subscribe","guildId":"1"}"#), 4401),
        (
            Message::text(format!(
                r#"{{"type":"auth","token":"{}"}}"#,
                "x".repeat(13_000)
            )),
            1009,
        ),
        (Message::text("x".repeat(20_000)), 1009),
        (Message::binary(vec![1, 2, 3]), 1003),
    ] {
        let mut browser = Browser::open(&world.hub_url).await;
        let what = format!("{:?}", &message.to_string().get(..20));
        browser.send_message(message).await;
        assert_eq!(browser.end().await, Ended::Closed(code), "{what}");
    }
    let mut silent = Browser::open(&world.hub_url).await;
    assert_eq!(silent.end().await, Ended::Closed(4408));
    assert!(silent.received[0].contains("UNAUTHORIZED"));

    let mut browser = world.browser("ada").await;
    browser.send(&json!({ "type": "dance", "id": "d" })).await;
    let answer = browser.frame().await;
    assert_has(
        &answer,
        &json!({ "error": { "code": "BAD_REQUEST" }, "re": "d" }),
    );
    browser.send(&json!({ "type": "ping" })).await;
    browser.event("pong").await;
}

/// A WebSocket by hand: what no library would send.
async fn raw(world: &World, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(world.hub_url.trim_start_matches("http://"))
        .await
        .unwrap();
    let hello = "GET /api/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(hello.as_bytes()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _late =
        tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn frames_that_no_library_sends_end_with_their_code_too() {
    let world = World::with(&[("MESSAGE_TIMEOUT_MS", "500"), ("AUTH_TIMEOUT_MS", "5000")]).await;
    let mask = [0_u8; 4];
    let with = |head: &[u8], body: &[u8]| [head, &mask, body].concat();
    for (what, bytes, code) in [
        (
            "a frame of a tebibyte",
            with(&[0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0], &[]),
            1009_u16,
        ),
        (
            "a Close, answered by the same",
            with(&[0x88, 0x82], &[0x03, 0xe8]),
            1000,
        ),
        (
            "text that is not UTF-8",
            with(&[0x81, 0x82], &[0xc3, 0x28]),
            1007,
        ),
        ("a reserved bit", with(&[0xc1, 0x81], b"x"), 1002),
        ("an unmasked frame", vec![0x81, 0x01, b'x'], 1002),
        ("a continuation of nothing", with(&[0x80, 0x81], b"x"), 1002),
        (
            "half a message, then silence",
            with(&[0x81, 0x8a], b"half"),
            1008,
        ),
        ("a fragment, then silence", with(&[0x01, 0x81], b"x"), 1008),
        (
            "a whole message with the beginning of another, then silence",
            [
                with(&[0x81, 0x8f], br#"{"type":"ping"}"#),
                with(&[0x81, 0x8a], b"half"),
            ]
            .concat(),
            1008,
        ),
        (
            "endless empty fragments",
            [
                with(&[0x01, 0x80], &[]),
                with(&[0x00, 0x80], &[]).repeat(2_000),
            ]
            .concat(),
            1008,
        ),
    ] {
        let answer = raw(&world, &bytes).await;
        let close = answer
            .windows(4)
            .rev()
            .find(|window| window[0] == 0x88 && u16::from_be_bytes([window[2], window[3]]) == code);
        assert!(
            close.is_some(),
            "{what}: no {code} in {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
}

#[tokio::test]
async fn bad_requests_name_their_fields_and_change_nothing() {
    let world = World::start().await;
    let before = world.channels().await;
    let ada = json!({ "sub": "ada" });
    for (body, field) in [
        (json!({ "name": "" }), "name"),
        (json!({ "name": "x".repeat(101) }), "name"),
        (json!({ "name": "x", "userLimit": 100 }), "userLimit"),
        (json!({ "name": "x", "parentId": LOUNGE }), "parentId"),
        (json!({ "name": "x", "parentId": "123456789" }), "parentId"),
    ] {
        let (status, problem) = world
            .rest(
                Method::POST,
                "/api/create-room",
                ada.clone(),
                Some(body.clone()),
            )
            .await;
        assert_eq!(
            (status, &problem["code"]),
            (StatusCode::BAD_REQUEST, &json!("BAD_REQUEST")),
            "{body} {problem}"
        );
        assert_eq!(problem["errors"][0]["field"], field, "{body} {problem}");
    }
    for id in [
        "0",
        "-1",
        "01",
        "x",
        "18446744073709551616",
        "9223372036854775808",
        "%2e%2e%2fx",
    ] {
        let (status, _) = world
            .rest(
                Method::DELETE,
                &format!("/api/end-room/{id}"),
                ada.clone(),
                None,
            )
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{id}");
    }
    let token = world.token(ada).await;
    let post = |body: String, kind: &str| {
        world
            .http
            .post(format!("{}/api/create-room", world.hub_url))
            .bearer_auth(&token)
            .header("content-type", kind)
            .body(body)
            .send()
    };
    assert_eq!(
        post("{".to_owned(), "application/json")
            .await
            .unwrap()
            .status(),
        400
    );
    assert_eq!(
        post("x".repeat(100_000), "application/json")
            .await
            .unwrap()
            .status(),
        413
    );
    for path in ["/api/nothing", "/nothing"] {
        let answer = world
            .http
            .get(format!("{}{path}", world.hub_url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 404);
        assert_eq!(
            answer.headers()["content-type"],
            "application/problem+json",
            "{path}"
        );
    }
    assert_eq!(world.channels().await, before);
}

#[tokio::test]
async fn a_reader_that_does_not_move_is_closed_and_the_others_go_on() {
    // The usual bound: a browser that reads stays far below it, also on a busy machine.
    let world = World::start().await;
    let mut healthy = world.browser("ada").await;
    let mut stuck = slow_reader(&world, "stuck").await;
    let snapshot = stuck.event("guild.snapshot").await;
    assert_eq!(snapshot["n"], 0);
    for user in 1..=100 {
        world
            .voice(
                &(300_000_000_000_000_000_u64 + user).to_string(),
                Some(LOUNGE),
            )
            .await;
    }
    // From here on `stuck` is never read, while the hub sends more: a room is hidden, and shown
    // again with its members. Each time, the healthy browser has received the frames first.
    let (note_hidden, seen_hidden) = tokio::sync::watch::channel(0);
    let hiding = async {
        let mut hidden = 0;
        let until = Instant::now() + world::DEADLINE * 4;
        while world.hub_metric("hub_sockets_outbox_full_total").await < 1.0 {
            assert!(
                Instant::now() < until,
                "never closed; hidden {hidden} times"
            );
            let deny = json!([{ "id": GUILD, "type": 0, "allow": "0", "deny": "1024" }]);
            for overwrites in [deny, json!([])] {
                world
                    .change_channel(LOUNGE, json!({ "overwrites": overwrites }))
                    .await;
            }
            hidden += 1;
            seen_hidden
                .clone()
                .wait_for(|seen| *seen >= hidden)
                .await
                .unwrap();
        }
        world.voice(ADA, Some(STUDY)).await;
        hidden
    };
    let reading = async {
        let (mut last, mut hidden) = (0, 0);
        loop {
            let frame = healthy.frame().await;
            if let Some(n) = frame["n"].as_u64() {
                assert_eq!(n, last + 1, "no hole, and no snapshot instead");
                last = n;
            }
            hidden += u64::from(frame["event"] == "room.deleted");
            note_hidden.send_replace(hidden);
            if frame["payload"]["channelId"] == STUDY {
                return hidden;
            }
        }
    };
    let (hidden, seen) = tokio::join!(hiding, reading);
    assert_eq!(seen, hidden, "the healthy one misses nothing");
    eventually("the stuck one is gone", || async {
        (world.hub_metric("hub_sockets_connections").await < 2.0).then_some(())
    })
    .await;
    assert_eq!(
        world.hub_metric("hub_sockets_outbox_full_total").await,
        1.0,
        "nobody else was closed"
    );
    healthy.send(&json!({ "type": "ping" })).await;
    healthy.event("pong").await;
    drop(stuck);
}

/// A connection with a small receive buffer, so that the hub soon notices that nobody reads.
async fn slow_reader(world: &World, sub: &str) -> Browser {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32_768).unwrap();
    let address = world.hub_url.trim_start_matches("http://");
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let socket = Socket::over(stream, address, &[]).await.unwrap();
    let mut slow = Browser::from(socket);
    let token = world.token(json!({ "sub": sub })).await;
    slow.send(&json!({ "type": "auth", "token": token })).await;
    slow
}

#[tokio::test]
async fn a_slow_reader_misses_nothing_before_its_close_frame() {
    const EVENTS: u64 = 1_500;
    let mut world =
        World::with(&[("CLOSE_TIMEOUT_MS", "15000"), ("DRAIN_TIMEOUT_MS", "20000")]).await;
    let mut slow = slow_reader(&world, "slow").await;
    slow.event("guild.snapshot").await;
    // Enough that the kernel's buffers are full and the hub is in the middle of a write.
    let mut watcher = world.browser("ada").await;
    let muting = async {
        for step in 0..EVENTS {
            let mute = step % 2 == 0;
            let change =
                json!({ "guildId": GUILD, "userId": ADA, "channelId": LOUNGE, "selfMute": mute });
            world.control("voice", change).await;
        }
    };
    let watching = async { while watcher.frame().await["n"] != EVENTS {} };
    // Every frame that the watcher received was sent to the slow one too.
    tokio::join!(muting, watching);
    let read_all = async {
        let mut last = 0;
        while let Ok(text) = slow.socket.receive().await {
            let frame: Value = serde_json::from_str(&text).unwrap();
            if let Some(n) = frame["n"].as_u64() {
                assert_eq!(n, last + 1, "no hole before the Close frame");
                last = n;
            }
        }
        last
    };
    let (status, read) = tokio::join!(world.hub.terminate(), read_all);
    assert_eq!(status.code(), Some(0));
    assert_eq!(read, EVENTS);
}

#[tokio::test]
async fn a_reader_gets_every_guild_with_a_small_outbox_and_a_guild_without_a_worker_is_not_live() {
    let guilds: Vec<String> = (1..=60).map(|id: u64| id.to_string()).collect();
    let world = World::with(&[
        ("GUILD_IDS", &guilds.join(",")),
        ("OUTBOX_BYTES_MAX", "2000"),
    ])
    .await;
    let mut wanted = vec![GUILD.to_owned()];
    wanted.extend(guilds);
    let token = world.token(json!({ "sub": "ada", "guilds": wanted })).await;
    let mut browser = world.browser_of(&token).await;
    for _ in &wanted {
        let snapshot = browser.event("guild.snapshot").await;
        let state = if snapshot["guildId"] == GUILD {
            "live"
        } else {
            "down"
        };
        assert_eq!(snapshot["payload"]["gateway"]["state"], state, "{snapshot}");
    }
}

#[tokio::test]
async fn different_views_of_a_guild_are_bounded_and_equal_ones_are_one() {
    let world = World::with(&[("VIEWS_PER_GUILD_MAX", "2")]).await;
    let mut browsers = [
        world.browser("ada").await,
        world.browser("grace").await,
        world.browser("linus").await,
    ];
    // Ada keeps the whole; Grace and Linus want to choose.
    for (browser, room, expected) in [
        (1, "1", "subscribed"),
        (2, "2", "UNAVAILABLE"),
        (2, "1", "subscribed"),
    ] {
        let browser = &mut browsers[browser];
        browser
            .send(&json!({ "type": "subscribe", "guildId": GUILD, "rooms": [room], "id": 1 }))
            .await;
        let answer = browser.frame().await;
        assert_eq!(answer["re"], 1);
        assert!(answer.to_string().contains(expected), "{answer}");
        browser.settle(Duration::from_millis(50)).await;
    }
}
