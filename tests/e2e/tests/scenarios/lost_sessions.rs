//! Gateway sessions that Discord never resumes, although it greets: F37.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;
use world::reducer::Mirror;
use world::{ADA, Browser, GRACE, LOUNGE, Plan, STUDY, World};

/// The promised time from the loss of the connection to `live` (F37).
const PROMISED: Duration = Duration::from_secs(60);
/// How often a worker tries.
const ATTEMPTS: u64 = 3;

/// The ways to answer a RESUME other than by RESUMED.
fn ways() -> Vec<Value> {
    let mut ways = vec![
        json!({"answer": "drop"}),
        json!({"answer": "nothing"}),
        json!({"answer": "silence", "seconds": 30}),
        json!({"answer": "invalidate"}),
        json!({"answer": "reconnect"}),
        json!({"answer": "drop", "replay": true}),
        json!({"answer": "nothing", "replay": true}),
        json!({"answer": "close", "code": 4000, "replay": true}),
    ];
    ways.extend(
        [1000, 1001, 1011, 4000, 4003, 4006].map(|code| json!({"answer": "close", "code": code})),
    );
    ways
}

struct Counted {
    identify: u64,
    /// RESUMEs that were not granted.
    resume: u64,
}

async fn counted(world: &World) -> Counted {
    let counters = world.truth().await["counters"].clone();
    let count = |name: &str| counters[name].as_u64().unwrap();
    Counted {
        identify: count("identify"),
        resume: count("resume") - count("resumed"),
    }
}

async fn until_resumes(world: &World, count: u64) {
    let until = Instant::now() + PROMISED;
    while counted(world).await.resume < count {
        assert!(Instant::now() < until, "{}", world.worker.log());
        sleep(Duration::from_millis(10)).await;
    }
}

/// The gateway states that a browser received, with their reasons.
fn states(heard: &[String]) -> Vec<(String, String)> {
    let frames = heard.iter();
    let frames = frames.map(|text| serde_json::from_str::<Value>(text).unwrap());
    let states = frames.filter(|frame| frame["event"] == "gateway.state");
    states
        .map(|frame| {
            let text = |name: &str| frame["payload"][name].as_str().unwrap_or("").to_owned();
            (text("state"), text("reason"))
        })
        .collect()
}

/// Discord answers RESUMEs in this way, and the connection is lost; in the middle the worker is
/// killed, if it is to be. The world must be live in time, by one identify.
async fn comes_back(world: &mut World, browser: &mut Browser, way: &Value, restart: bool) {
    let mut fault = way.clone();
    fault["action"] = json!("resumes");
    let before = counted(world).await;
    let heard = browser.received.len();
    world.control("gateway", fault).await;
    let began = Instant::now();
    world.control("gateway", json!({"action": "drop"})).await;
    // The lost connection misses this event. GUILD_CREATE carries it.
    world.voice(ADA, Some(STUDY)).await;
    if restart {
        until_resumes(world, before.resume + 1).await;
        world.worker.kill().await;
        world.worker = world.worker.again();
    }
    let mut rooms = [STUDY, LOUNGE].into_iter().cycle();
    loop {
        browser.settle(Duration::from_millis(50)).await;
        if way["replay"] == true {
            // Each RESUME has something to replay.
            world.voice(GRACE, rooms.next()).await;
        }
        let now = counted(world).await;
        let last = states(&browser.received[heard..]).pop();
        if now.identify > before.identify && last.is_some_and(|(state, _)| state == "live") {
            break;
        }
        assert!(began.elapsed() < PROMISED, "{way}: {}", world.worker.log());
    }
    world.voice(ADA, Some(LOUNGE)).await;
    let mut mirror = Mirror::default();
    mirror.converge(world, browser).await;
    let now = counted(world).await;
    assert_eq!(now.identify, before.identify + 1, "{way}");
    let resumes = now.resume - before.resume;
    // A worker that is killed may not have reported its own.
    let most = ATTEMPTS + u64::from(restart);
    let log = world.worker.log();
    assert!(
        (ATTEMPTS..=most).contains(&resumes),
        "{way}: {resumes}: {log}"
    );
    let states = states(&browser.received[heard..]);
    let says = |word: &str| states.iter().any(|(_, reason)| reason == word);
    assert!(says("session_lost"), "{way}: {states:?}");
    assert!(!says("gateway_unreachable"), "{way}: {states:?}");
}

async fn every_way(settings: &[(&str, &str)], restart: bool) {
    let mut world = World::of(Plan {
        sim: &[("SIM_IDENTIFY_EVERY_MS", "0")],
        worker: settings,
        ..Plan::default()
    })
    .await;
    let mut browser = world.browser("ada").await;
    world.voice(ADA, Some(LOUNGE)).await;
    world.voice(GRACE, Some(LOUNGE)).await;
    for way in ways() {
        comes_back(&mut world, &mut browser, &way, restart).await;
    }
}

const FAST: [(&str, &str); 4] = [
    ("RESUME_ANSWER_MS", "700"),
    ("RECONNECT_MAX_MS", "200"),
    ("IDENTIFY_EVERY_MS", "10"),
    ("IDENTIFY_AGAIN_MS", "100"),
];

#[tokio::test]
async fn a_session_that_discord_never_resumes_is_given_up_after_three_resumes() {
    every_way(&FAST, false).await;
}

#[tokio::test]
async fn a_session_that_discord_never_resumes_is_given_up_although_the_worker_dies_meanwhile() {
    every_way(&FAST, true).await;
}

#[tokio::test]
#[ignore = "minutes, with the settings as they are delivered"]
async fn a_session_that_discord_never_resumes_is_given_up_within_a_minute() {
    every_way(&[], false).await;
}

#[tokio::test]
#[ignore = "minutes, with the settings as they are delivered"]
async fn a_session_is_given_up_within_a_minute_although_the_worker_dies_meanwhile() {
    every_way(&[], true).await;
}

#[tokio::test]
async fn a_worker_that_is_restarted_every_few_seconds_does_not_resume_a_lost_session_for_ever() {
    let mut world = World::of(Plan {
        // Longer than any of its workers lives.
        worker: &[
            ("RESUME_ANSWER_MS", "600000"),
            ("GATEWAY_STALL_MS", "600000"),
        ],
        ..Plan::default()
    })
    .await;
    let fault = json!({"action": "resumes", "answer": "nothing"});
    world.control("gateway", fault).await;
    for resumes in 1..=ATTEMPTS {
        // A worker that is asked to stop delivers its outbox first.
        world.worker.terminate().await;
        world.worker = world.worker.again();
        until_resumes(&world, resumes).await;
    }
    world.worker.terminate().await;
    world.worker = world.worker.again();
    world.worker_ready().await;
    let now = counted(&world).await;
    assert_eq!((now.identify, now.resume), (2, ATTEMPTS));
}
