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

/// Far beyond any test: a shard that waits so long visibly waits.
const EVERY: Duration = Duration::from_secs(3_600);
const DEADLINE: Duration = Duration::from_secs(10);
/// Nothing listens there.
const NOWHERE: &str = "127.0.0.1:1";

/// A queue, a Discord whose ledger says that so many identifies were spent, and no hub at all.
async fn queue(spent: u32, every: Duration, max_concurrency: u32) -> IdentifyQueue {
    queue_of(spent, every, max_concurrency, true).await
}

async fn queue_of(spent: u32, every: Duration, max_concurrency: u32, alone: bool) -> IdentifyQueue {
    queue_at(NOWHERE, spent, every, max_concurrency, alone).await
}

async fn queue_at(
    hub: &str,
    spent: u32,
    every: Duration,
    max_concurrency: u32,
    alone: bool,
) -> IdentifyQueue {
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
    let config: Config = launch::settings::example(&[
        ("HUB_ENDPOINT", &format!("http://{hub}/api/internal/events")),
        ("DISCORD_API_URL", &format!("http://{address}")),
    ])
    .unwrap();
    let setting = IdentifyQueueSetting {
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
    IdentifyQueue::new(
        Rest::new(&config.discord),
        Hub::new(&config).unwrap(),
        setting,
    )
}

/// Lets a shard through at once, or the test fails.
async fn passes(queue: &IdentifyQueue, shard: u32) {
    let turn = timeout(DEADLINE, queue.enqueue(shard)).await;
    turn.expect("it waits").unwrap();
}

#[tokio::test]
async fn the_first_worker_identifies_at_once() {
    let queue = queue(0, EVERY, 1).await;
    queue.observe_claim(0, 0, 0);
    passes(&queue, 0).await;
}

#[tokio::test]
async fn a_worker_with_a_predecessor_waits_for_its_bucket_first() {
    let every = Duration::from_millis(700);
    for (spent, counted, last_session) in [(0, 1, 0), (0, 0, 7), (1, 0, 0)] {
        let queue = queue(spent, every, 1).await;
        let claimed = Instant::now();
        queue.observe_claim(0, counted, last_session);
        passes(&queue, 0).await;
        let waited = claimed.elapsed();
        assert!(
            waited >= every,
            "{spent} {counted} {last_session}: {waited:?}"
        );
    }
}

#[tokio::test]
async fn an_identify_of_this_process_delays_only_its_own_bucket() {
    let queue = queue(1, EVERY, 2).await;
    queue.observe_claim(0, 0, 0);
    // Discord counts one. It was that of shard 0, in the other bucket.
    queue.0.state(|state| state.spent.push_back(Instant::now()));
    queue.observe_claim(1, 0, 0);
    passes(&queue, 1).await;
}

#[tokio::test]
async fn processes_of_one_bucket_spread_their_identifies_without_a_hub() {
    for alone in [true, false] {
        let queue = queue_of(0, EVERY, 1, alone).await;
        let waits = || {
            (0..20)
                .map(|_| queue.0.spread(0))
                .collect::<BTreeSet<Duration>>()
        };
        assert_eq!(waits(), BTreeSet::from([Duration::ZERO]), "the first time");
        queue.0.state(|state| state.identified.insert(0));
        let waits = waits();
        assert_eq!(waits.len() > 1, !alone);
        assert!(waits.iter().all(|wait| *wait < EVERY));
    }
}

/// A shard that is claimed, and of which nothing is read yet.
fn feed() -> Arc<SharedFeed> {
    Arc::new(SharedFeed::new(Feed::new(FeedSetting {
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
/// returns their ids.
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
async fn an_identify_whose_wait_is_cut_repeatedly_is_counted_once() {
    let far = (200, json!({"identifies": 1, "afterMs": 3_600_000}));
    let turn = (200, json!({"identifies": 1, "afterMs": 0}));
    let (address, mut ids) = hub(&[far.clone(), far, turn]).await;
    let queue = queue_at(&address, 0, Duration::ZERO, 1, false).await;
    queue.serve(0, feed());
    queue.observe_claim(0, 0, 0);
    let mut sent = Vec::new();
    for _cut in 0..2 {
        let turn = queue.enqueue(0);
        sent.push(next(&mut ids).await);
        assert_eq!(queue.wait(0), Wait::Slot);
        drop(turn);
    }
    passes(&queue, 0).await;
    sent.push(next(&mut ids).await);
    assert!(sent.iter().all(|id| *id == sent[0]), "{sent:?}");
    // The next one is another.
    passes(&queue, 0).await;
    assert_ne!(next(&mut ids).await, sent[0]);
}

#[tokio::test]
async fn a_notice_that_the_hub_did_not_get_is_owed_once_with_the_same_id() {
    let turn = (200, json!({"identifies": 1, "afterMs": 3_600_000}));
    let silent = (503, json!({}));
    let (address, mut ids) = hub(&[silent.clone(), silent, turn]).await;
    let queue = queue_at(&address, 0, EVERY, 1, false).await;
    let feed = feed();
    queue.serve(0, Arc::clone(&feed));
    queue.observe_claim(0, 0, 0);
    // It had a session, so it waits apart from the other processes.
    queue.0.state(|state| state.identified.insert(0));
    let mut sent = Vec::new();
    for _cut in 0..3 {
        let turn = queue.enqueue(0);
        sent.push(next(&mut ids).await);
        let owed = async {
            loop {
                if let Some(id) = feed.take_owed_notice() {
                    return feed.owe_notice(id);
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, owed).await.expect("nothing is owed");
        drop(turn);
    }
    assert!(sent.iter().all(|id| *id == sent[0]), "{sent:?}");
    feed.owe_notice(sent[0].clone());
    assert_eq!(feed.take_owed_notice().as_ref(), Some(&sent[0]));
    assert_eq!(feed.take_owed_notice(), None);
}

#[tokio::test]
async fn a_shard_whose_claim_the_hub_lost_claims_and_asks_again() {
    let unclaimed = (409, json!({"conflict": {"kind": "unclaimed"}}));
    let turn = (200, json!({"identifies": 1, "afterMs": 0}));
    let (address, mut ids) = hub(&[unclaimed, turn]).await;
    let queue = queue_at(&address, 0, Duration::ZERO, 1, true).await;
    let feed = feed();
    queue.serve(0, Arc::clone(&feed));
    queue.observe_claim(0, 0, 0);
    let mut turn = queue.enqueue(0);
    let id = next(&mut ids).await;
    // It wakes the delivery task, which claims; then the delivery is taken.
    let asked = async {
        while feed.asked().is_none() {
            feed.to_deliver().await;
        }
    };
    timeout(DEADLINE, asked).await.expect("nobody asks");
    assert!(turn.try_recv().is_err() && ids.try_recv().is_err());
    feed.confirm(feed.asked());
    assert_eq!(next(&mut ids).await, id);
    timeout(DEADLINE, turn).await.expect("it waits").unwrap();
    assert_eq!(feed.take_owed_notice(), None);
}
