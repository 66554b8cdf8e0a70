use std::ffi::OsString;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use proto::signing::ID_HEADER;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::config::Config;
use crate::feed::FeedSetting;
use crate::outbox::Limits;
use crate::roster::RosterSetting;

/// Far beyond any test: whoever waits for it is known to wait.
const EVERY: Duration = Duration::from_secs(3_600);
const DEADLINE: Duration = Duration::from_secs(10);
/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// A gate, a Discord whose ledger says that so many identifies were spent, and no hub at all.
async fn gate(spent: u32, every: Duration, max_concurrency: u32) -> Gate {
    gate_of(spent, every, max_concurrency, true).await
}

async fn gate_of(spent: u32, every: Duration, max_concurrency: u32, alone: bool) -> Gate {
    gate_at(NOWHERE, spent, every, max_concurrency, alone).await
}

async fn gate_at(
    hub: &str,
    spent: u32,
    every: Duration,
    max_concurrency: u32,
    alone: bool,
) -> Gate {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let ledger = json!({
        "url": "wss://gateway.discord.gg", "shards": 1, "session_start_limit":
            {"total": 1_000, "remaining": 1_000 - spent, "reset_after": 0, "max_concurrency": 1},
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = get(move || std::future::ready(axum::Json(ledger.clone())));
    let router = Router::new().route("/api/v10/gateway/bot", answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config: Config = launch::settings::parse_from(["worker".into()], |name| {
        let value = match name {
            "HUB_SECRET" => "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".to_owned(),
            "PRIMARY_GUILD_ID" => "1".to_owned(),
            "DISCORD_BOT_TOKEN" => "t".to_owned(),
            "HUB_ENDPOINT" => format!("http://{hub}/api/internal/events"),
            "DISCORD_API_URL" => format!("http://{address}"),
            _ => return None,
        };
        Some(OsString::from(value))
    })
    .unwrap();
    let setting = GateSetting {
        budget: Budget {
            per_day_max: 500,
            free: 10,
            wait_max: Duration::from_secs(1),
        },
        every,
        again: Duration::ZERO,
        alone,
        max_concurrency,
    };
    Gate::new(
        Rest::new(&config.discord),
        Hub::new(&config).unwrap(),
        setting,
    )
}

/// Lets a shard through at once, or the test fails.
async fn passes(gate: &Gate, shard: u32) {
    let turn = timeout(DEADLINE, gate.enqueue(shard)).await;
    turn.expect("it waits").unwrap();
}

#[tokio::test]
async fn the_first_worker_there_ever_was_identifies_at_once() {
    let gate = gate(0, EVERY, 1).await;
    gate.know(0, 0, 0);
    passes(&gate, 0).await;
}

#[tokio::test]
async fn whoever_anything_says_came_after_another_worker_lets_its_identify_pass_first() {
    let every = Duration::from_millis(700);
    for (spent, counted, last_session) in [(0, 1, 0), (0, 0, 7), (1, 0, 0)] {
        let gate = gate(spent, every, 1).await;
        let claimed = Instant::now();
        gate.know(0, counted, last_session);
        passes(&gate, 0).await;
        let waited = claimed.elapsed();
        assert!(
            waited >= every,
            "{spent} {counted} {last_session}: {waited:?}"
        );
    }
}

#[tokio::test]
async fn what_a_worker_spent_itself_is_nobody_elses_and_only_its_bucket_waits() {
    let gate = gate(1, EVERY, 2).await;
    gate.know(0, 0, 0);
    // Discord counts one. It was that of shard 0, in the other bucket.
    gate.0.state(|state| state.spent.push_back(Instant::now()));
    gate.know(1, 0, 0);
    passes(&gate, 1).await;
}

#[tokio::test]
async fn processes_that_came_too_early_together_do_not_without_a_hub_come_together_again() {
    for alone in [true, false] {
        let gate = gate_of(0, EVERY, 1, alone).await;
        let waits = || {
            (0..20)
                .map(|_| gate.0.apart(0))
                .collect::<BTreeSet<Duration>>()
        };
        assert_eq!(waits(), BTreeSet::from([Duration::ZERO]), "the first time");
        gate.0.state(|state| state.identified.insert(0));
        let waits = waits();
        assert_eq!(waits.len() > 1, !alone);
        assert!(waits.iter().all(|wait| *wait < EVERY));
    }
}

/// A shard that is claimed, and of which nothing is read yet.
fn desk() -> Arc<Desk> {
    Arc::new(Desk::new(Feed::new(FeedSetting {
        shard: (0, 1),
        guilds: Vec::new(),
        roster: RosterSetting {
            cdn: "https://cdn".into(),
            tombstones_max: 10,
        },
        outbox: Limits {
            events_max: 1_000,
            bytes_max: 1_000_000,
            batch_events_max: 100,
            batch_bytes_max: 100_000,
            group_events_max: 100,
            delivery_bytes_max: 500_000,
        },
        gaps_max: 10,
        behind_max_ms: 4_000,
        fingerprint: "f".to_owned(),
    })))
}

/// A hub that answers the notices with these, one after the other, and from the last on with that. It
/// tells their ids.
async fn hub(answers: &[(u16, serde_json::Value)]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heard, ids) = mpsc::channel(10);
    let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
    let note = move |headers: HeaderMap| {
        let mut answers = answers.lock().unwrap();
        let answer = match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        };
        let id = headers[ID_HEADER].to_str().unwrap().to_owned();
        heard.try_send(id).unwrap();
        let (status, body) = answer;
        std::future::ready((StatusCode::from_u16(status).unwrap(), axum::Json(body)))
    };
    let router = Router::new().route("/api/internal/identify", post(note));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, ids)
}

async fn next(ids: &mut mpsc::Receiver<String>) -> String {
    let id = timeout(DEADLINE, ids.recv()).await;
    id.expect("no notice came").unwrap()
}

#[tokio::test]
async fn an_identify_whose_wait_is_cut_again_and_again_is_counted_once() {
    let far = (200, json!({"identifies": 1, "afterMs": 3_600_000}));
    let turn = (200, json!({"identifies": 1, "afterMs": 0}));
    let (address, mut ids) = hub(&[far.clone(), far, turn]).await;
    let gate = gate_at(&address, 0, Duration::ZERO, 1, false).await;
    gate.serve(0, desk());
    gate.know(0, 0, 0);
    let mut told = Vec::new();
    for _cut in 0..2 {
        let turn = gate.enqueue(0);
        told.push(next(&mut ids).await);
        assert_eq!(gate.wait(0), Wait::Turn);
        drop(turn);
    }
    passes(&gate, 0).await;
    told.push(next(&mut ids).await);
    assert!(told.iter().all(|id| *id == told[0]), "{told:?}");
    // The next one is another.
    passes(&gate, 0).await;
    assert_ne!(next(&mut ids).await, told[0]);
}

#[tokio::test]
async fn a_notice_that_the_hub_did_not_hear_is_owed_once_and_is_the_same_one() {
    let turn = (200, json!({"identifies": 1, "afterMs": 3_600_000}));
    let silent = (503, json!({}));
    let (address, mut ids) = hub(&[silent.clone(), silent, turn]).await;
    let gate = gate_at(&address, 0, EVERY, 1, false).await;
    let desk = desk();
    gate.serve(0, Arc::clone(&desk));
    gate.know(0, 0, 0);
    // It had a session, so it waits apart from the other processes.
    gate.0.state(|state| state.identified.insert(0));
    let mut told = Vec::new();
    for _cut in 0..3 {
        let turn = gate.enqueue(0);
        told.push(next(&mut ids).await);
        let owed = async {
            loop {
                if let Some(id) = desk.take_owed_notice() {
                    return desk.owe_notice(id);
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, owed).await.expect("nothing is owed");
        drop(turn);
    }
    assert!(told.iter().all(|id| *id == told[0]), "{told:?}");
    desk.owe_notice(told[0].clone());
    assert_eq!(desk.take_owed_notice().as_ref(), Some(&told[0]));
    assert_eq!(desk.take_owed_notice(), None);
}

#[tokio::test]
async fn whom_the_hub_does_not_know_any_more_is_claimed_anew_and_asks_again() {
    let unclaimed = (409, json!({"conflict": {"kind": "unclaimed"}}));
    let turn = (200, json!({"identifies": 1, "afterMs": 0}));
    let (address, mut ids) = hub(&[unclaimed, turn]).await;
    let gate = gate_at(&address, 0, Duration::ZERO, 1, true).await;
    let desk = desk();
    gate.serve(0, Arc::clone(&desk));
    gate.know(0, 0, 0);
    let mut turn = gate.enqueue(0);
    let id = next(&mut ids).await;
    // It rings for a delivery, which claims, and is taken then.
    let asked = async {
        while desk.asked().is_none() {
            desk.to_deliver().await;
        }
    };
    timeout(DEADLINE, asked).await.expect("nobody asks");
    assert!(turn.try_recv().is_err() && ids.try_recv().is_err());
    desk.confirm(desk.asked());
    assert_eq!(next(&mut ids).await, id);
    timeout(DEADLINE, turn).await.expect("it waits").unwrap();
    assert_eq!(desk.take_owed_notice(), None);
}
