//! The worker's endpoints over HTTP: what is accepted, and how the rest is refused.
#![expect(
    clippy::unwrap_used,
    reason = "the steps that tests share may fail like tests"
)]

use std::sync::atomic::{AtomicU64, Ordering};

use axum::middleware::from_fn_with_state;
use hub::error::ErrorLog;
use hub::freshness::Freshness;
use hub::http::write_problems;
use hub::ingest::{Ingest, Reports};
use launch::clock::Monotonic;
use proto::GuildId;
use proto::signing::SigningKeys;
use reqwest::Client;
use roomlog::{Log, LogSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

struct WorkerEndpoint {
    url: String,
    client: Client,
    keys: SigningKeys,
    log: Log,
    freshness: Freshness,
}

impl WorkerEndpoint {
    async fn open() -> Self {
        let guilds: Vec<GuildId> = ["1", "2"].map(|id| id.parse().unwrap()).to_vec();
        let log = Log::in_memory(&guilds, &LogSettings::default()).unwrap();
        let clock = Monotonic::start();
        let freshness = Freshness::new(&guilds, 6_000, clock);
        let keys = SigningKeys::parse(SECRET).unwrap();
        let ingest = Ingest {
            keys: keys.clone(),
            log: log.clone(),
            freshness: freshness.clone(),
            body_bytes_max: 100_000,
            events_max: 100,
            guilds_max: 3,
            reports: Reports::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api/internal", listener.local_addr().unwrap());
        let router = ingest
            .router()
            .layer(from_fn_with_state(ErrorLog::new(0), write_problems));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            url,
            client: Client::builder().no_proxy().build().unwrap(),
            keys,
            log,
            freshness,
        }
    }

    async fn post(&self, endpoint: &str, body: &Value) -> (u16, Value) {
        let body = serde_json::to_vec(body).unwrap();
        let at = launch::clock::now_ms() / 1000;
        static IDS: AtomicU64 = AtomicU64::new(0);
        let id = format!("id-{}", IDS.fetch_add(1, Ordering::Relaxed));
        let answer = self
            .client
            .post(format!("{}/{endpoint}", self.url))
            .header("webhook-id", &id)
            .header("webhook-timestamp", at)
            .header("webhook-signature", self.keys.sign(&id, at, &body))
            .body(body)
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Claims the shard for guild 1, and gives the generation.
    async fn claim(&self, worker: &str) -> u64 {
        let (status, claimed) = self.post("claim", &claim(worker)).await;
        assert_eq!(status, 200, "{claimed}");
        claimed["generation"].as_u64().unwrap()
    }
}

fn claim(worker: &str) -> Value {
    json!({"type": "claim", "shard": [0, 1], "worker": worker, "guilds": ["1"]})
}

fn delivery(generation: u64) -> Value {
    json!({"type": "events", "shard": [0, 1], "generation": generation, "from": [0, 0], "taken": 0, "to": [1, 5],
        "session": {"number": 1, "id": "s"}, "fingerprint": "f", "gateway": {"state": "live"},
        "events": []})
}

/// The value with something at a pointer; null takes it away.
fn with(mut value: Value, field: &str, new: Value) -> Value {
    if new.is_null() {
        value.as_object_mut().unwrap().remove(field);
    } else {
        value[field] = new;
    }
    value
}

#[tokio::test]
async fn a_body_of_another_form_is_refused_and_names_the_field() {
    let endpoint = WorkerEndpoint::open().await;
    let generation = endpoint.claim("a").await;
    let long = "x".repeat(513);
    let absent = json!({"1": "outage", "2": "outage", "3": "outage", "4": "outage"});
    let delivery = delivery(generation);
    // The endpoint, the named field, and what is another than in a good body.
    for (at, named, field, value) in [
        ("events", "to", "from", json!([1, 6])),
        ("events", "session", "session", json!(null)),
        (
            "events",
            "session",
            "session",
            json!({"number": 2, "id": "s"}),
        ),
        (
            "events",
            "session",
            "session",
            json!({"number": 1, "id": long}),
        ),
        (
            "events",
            "session",
            "session",
            json!({"number": 1, "id": "s", "resumeUrl": long}),
        ),
        ("events", "session", "fingerprint", json!(long)),
        ("events", "absent", "absent", absent),
        ("events", "shard", "shard", json!([1, 1])),
        ("events", "shard", "gateway", json!(null)),
        ("events", "shard", "generation", json!(null)),
        ("claim", "worker", "worker", json!("")),
        ("claim", "worker", "worker", json!(long)),
        ("claim", "guilds", "guilds", json!(["1", "2", "3", "4"])),
        ("claim", "shard", "shard", json!([1, 1])),
    ] {
        let good = if at == "claim" {
            claim("a")
        } else {
            delivery.clone()
        };
        let body = with(good, field, value);
        let (status, problem) = endpoint.post(at, &body).await;
        let found = &problem["errors"][0]["field"];
        assert_eq!((status, found), (400, &json!(named)), "{body}: {problem}");
    }
    assert_eq!(
        endpoint.post("events", &claim("a")).await.0,
        400,
        "a body is bound to its endpoint"
    );
    assert_eq!(endpoint.post("events", &delivery).await.0, 200);
    let held = with(
        with(delivery, "from", json!([1, 5])),
        "session",
        json!(null),
    );
    assert_eq!(
        endpoint.post("events", &held).await.0,
        200,
        "a checkpoint that stays names no session"
    );
}

#[tokio::test]
async fn events_of_a_guild_are_refused_together_when_one_of_them_cannot_be_read() {
    let endpoint = WorkerEndpoint::open().await;
    let claim = with(claim("a"), "guilds", json!(["1", "2"]));
    let (_, claimed) = endpoint.post("claim", &claim).await;
    let generation = claimed["generation"].as_u64().unwrap();
    let room = |id: &str, guild: &Value, at: Value| {
        let payload = json!({"guildId": guild, "channelId": "5", "name": "x"});
        with(
            json!({"id": id, "event": "room.created", "payload": payload, "ts": 1}),
            "at",
            at,
        )
    };
    let (one, two) = (json!("1"), json!("2"));
    let readable = || {
        vec![
            room("a", &one, json!([1, 2, 0])),
            room("b", &two, json!([1, 2, 0])),
            room("c", &two, json!([1, 2, 0])),
        ]
    };
    // Without its mark, of a kind that no hub knows, and without a guild.
    let unmarked = room("x", &one, json!(null));
    let unknown = with(
        room("x", &one, json!([1, 2, 1])),
        "event",
        json!("room.flew"),
    );
    let nameless = room("x", &json!(7), json!([1, 2, 1]));
    for (unreadable, refused, known) in [
        (nameless, ["x", "a", "b", "c"].as_slice(), (0, 0)),
        (unknown, &["x", "a"], (1, 1)),
        (unmarked, &["x", "a"], (0, 2)),
    ] {
        for place in 0..=3 {
            let mut events = readable();
            events.insert(place, unreadable.clone());
            let body = with(delivery(generation), "events", json!(events));
            let (status, receipt) = endpoint.post("events", &body).await;
            assert_eq!(status, 200, "{receipt}");
            let named: Vec<_> = receipt["refused"].as_array().unwrap().iter().collect();
            let expected = refused
                .iter()
                .map(|id| json!({"id": id, "code": "BAD_REQUEST"}));
            assert_eq!(
                named,
                expected.collect::<Vec<_>>().iter().collect::<Vec<_>>()
            );
            let counts = (&receipt["accepted"], &receipt["duplicates"]);
            let known = if place == 0 {
                known
            } else {
                (0, known.0 + known.1)
            };
            assert_eq!(counts, (&json!(known.0), &json!(known.1)));
        }
    }
    let state = |guild: &Value| {
        let guild = guild.as_str().unwrap().parse().unwrap();
        endpoint.log.read(guild, |state, _| state.rooms.len())
    };
    assert_eq!((state(&one), state(&two)), (Some(0), Some(1)));
    // The checkpoint does not pass what could not be read.
    let next = with(delivery(generation), "from", json!([1, 5]));
    let (_, problem) = endpoint.post("events", &next).await;
    let conflict = &problem["conflict"];
    assert_eq!(
        (&conflict["kind"], &conflict["reached"]),
        (&json!("gap"), &json!([0, 0]))
    );
}

#[tokio::test]
async fn numbers_that_only_rise_are_not_raised_beyond_their_bound() {
    let endpoint = WorkerEndpoint::open().await;
    let generation = endpoint.claim("a").await;
    let reached = |session: u64, sequence: u64| {
        let link = with(delivery(generation), "to", json!([session, sequence]));
        with(link, "session", json!({"number": session, "id": "s"}))
    };
    let event = |session: u64, sequence: u64| {
        let payload = json!({"guildId": "1", "channelId": "5", "name": "x"});
        let at = [session, sequence, 0];
        with(
            delivery(generation),
            "events",
            json!([{"id": "e", "event": "room.created", "payload": payload, "ts": 1, "at": at}]),
        )
    };
    let far = i64::MAX.unsigned_abs();
    let decades = launch::clock::now_ms() + (1_u64 << 41);
    let sessions = [decades, far - 1, far, far + 1, u64::MAX].map(|session| (session, 5));
    let sequences = [1 << 53, far, u64::MAX].map(|sequence| (1, sequence));
    for (session, sequence) in sessions.into_iter().chain(sequences) {
        for (named, body) in [
            ("to", reached(session, sequence)),
            ("at", event(session, sequence)),
        ] {
            let (status, problem) = endpoint.post("events", &body).await;
            let field = &problem["errors"][0]["field"];
            assert_eq!((status, field), (400, &json!(named)), "{problem}");
        }
    }
    // Nothing was raised; and neither a clock that jumps by years nor who goes on from there is
    // refused.
    let mut session = 1;
    for _ in 0..3 {
        for body in [event(session, 2), reached(session, 5)] {
            let (status, receipt) = endpoint.post("events", &body).await;
            assert_eq!(
                (status, &receipt["duplicates"]),
                (200, &json!(0)),
                "{receipt}"
            );
        }
        let years = 20 * 365 * 24 * 60 * 60 * 1000;
        session = endpoint.log.newest_number() + years;
    }
}

#[tokio::test]
async fn conflicts_say_what_to_do() {
    let endpoint = WorkerEndpoint::open().await;
    let older = endpoint.claim("a").await;
    let generation = endpoint.claim("b").await;
    for (body, kind) in [
        (delivery(older), json!({"kind": "fenced"})),
        (delivery(generation + 1), json!({"kind": "unclaimed"})),
        (
            with(delivery(generation), "from", json!([1, 4])),
            json!({"kind": "gap", "reached": [0, 0], "taken": 0}),
        ),
        (
            with(delivery(generation), "taken", json!(1)),
            json!({"kind": "gap", "reached": [0, 0], "taken": 0}),
        ),
    ] {
        let (status, problem) = endpoint.post("events", &body).await;
        assert_eq!(
            (status, &problem["code"], &problem["conflict"]),
            (409, &json!("CONFLICT"), &kind)
        );
    }
    let notice = json!({"type": "identify", "shard": [0, 1], "generation": older});
    assert_eq!(endpoint.post("identify", &notice).await.0, 409);
    let notice = with(notice, "generation", json!(generation));
    assert_eq!(endpoint.post("identify", &notice).await.1["identifies"], 1);
}

#[tokio::test]
async fn shards_of_one_bucket_are_given_turns_and_a_claim_names_what_is_not_served() {
    let endpoint = WorkerEndpoint::open().await;
    let mut notices = Vec::new();
    for shard in 0..2 {
        let claim = with(claim("a"), "shard", json!([shard, 2]));
        let (_, claimed) = endpoint
            .post("claim", &with(claim, "guilds", json!(["1", "7"])))
            .await;
        assert_eq!(claimed["unserved"], json!(["7"]));
        let bucket = json!({"number": 0, "everyMs": 60_000});
        notices.push(json!({"type": "identify", "shard": [shard, 2],
            "generation": claimed["generation"], "bucket": bucket}));
    }
    // Who is fenced takes nobody's turn, and who asks for none gets none.
    let fenced = with(notices[0].clone(), "generation", json!(1));
    assert_eq!(endpoint.post("identify", &fenced).await.0, 409);
    let late = with(notices[0].clone(), "bucket", Value::Null);
    assert!(
        endpoint
            .post("identify", &late)
            .await
            .1
            .get("afterMs")
            .is_none()
    );
    assert_eq!(endpoint.post("identify", &notices[0]).await.1["afterMs"], 0);
    let after_ms = endpoint.post("identify", &notices[1]).await.1["afterMs"].as_u64();
    assert!(after_ms.is_some_and(|after_ms| (30_000..=60_000).contains(&after_ms)));
}

#[tokio::test]
async fn a_guild_that_the_claim_does_not_name_is_not_followed() {
    let endpoint = WorkerEndpoint::open().await;
    let generation = endpoint.claim("a").await;
    let roster = json!({"guildId": "1", "rooms": [], "voices": [], "reason": "worker_started"});
    let event =
        json!({"id": "a", "event": "guild.snapshot", "payload": roster, "ts": 1, "at": [1, 2, 0]});
    let body = with(delivery(generation), "events", json!([event]));
    assert_eq!(endpoint.post("events", &body).await.0, 200);
    let reason = |id: &str| endpoint.freshness.of(id.parse().unwrap()).reason;
    assert_eq!(reason("1"), None);
    assert_eq!(reason("2").as_deref(), Some("not_followed"));
}

#[tokio::test]
async fn workers_that_fight_wait_and_those_that_are_restarted_do_not() {
    let endpoint = WorkerEndpoint::open().await;
    for n in 0..20 {
        endpoint.claim(&format!("restarted {n}")).await;
    }
    let mut generation = endpoint.claim("a").await;
    for n in 0..4 {
        let next = endpoint.claim(&format!("b{n}")).await;
        for _ in 0..3 {
            assert_eq!(endpoint.post("events", &delivery(generation)).await.0, 409);
        }
        generation = next;
    }
    let (status, problem) = endpoint.post("claim", &claim("c")).await;
    assert_eq!(
        (status, &problem["code"]),
        (429, &json!("RATE_LIMITED")),
        "{problem}"
    );
    assert!(
        problem["retryAfterMs"]
            .as_u64()
            .is_some_and(|ms| (1..=60_000).contains(&ms))
    );
    assert_eq!(endpoint.log.holder(0).unwrap().worker, "b3");
    endpoint.claim("b3").await;
}

#[tokio::test]
async fn after_a_lost_store_the_shards_claim_again_one_after_the_other() {
    let claim_of = |shard: u32, guild: &str| {
        let shard = json!([shard, 2]);
        json!({"type": "claim", "shard": shard, "worker": "process", "guilds": [guild]})
    };
    let deliver =
        |shard: u32, generation: u64| with(delivery(generation), "shard", json!([shard, 2]));
    let before = WorkerEndpoint::open().await;
    let mut generations = Vec::new();
    for (shard, guild) in [(0, "1"), (1, "2")] {
        let (_, claimed) = before.post("claim", &claim_of(shard, guild)).await;
        generations.push(claimed["generation"].as_u64().unwrap());
    }
    let endpoint = WorkerEndpoint::open().await;
    let (_, refused) = endpoint.post("events", &deliver(0, generations[0])).await;
    assert_eq!(refused["conflict"]["kind"], "unclaimed");
    assert_eq!(endpoint.post("claim", &claim_of(0, "1")).await.0, 200);
    // Another shard's claim is newer, and fences nobody but its own.
    let (_, refused) = endpoint.post("events", &deliver(1, generations[1])).await;
    assert_eq!(refused["conflict"]["kind"], "unclaimed");
    let (_, refused) = endpoint.post("events", &deliver(0, generations[0])).await;
    assert_eq!(refused["conflict"]["kind"], "fenced");
}
