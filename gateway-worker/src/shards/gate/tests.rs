use std::ffi::OsString;

use axum::Router;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::config::Config;

/// Far beyond any test: whoever waits for it is known to wait.
const EVERY: Duration = Duration::from_secs(3_600);
const DEADLINE: Duration = Duration::from_secs(10);

/// A gate, a Discord whose ledger says that so many identifies were spent, and no hub at all.
async fn gate(spent: u32, every: Duration, max_concurrency: u32) -> Gate {
    gate_of(spent, every, max_concurrency, true).await
}

async fn gate_of(spent: u32, every: Duration, max_concurrency: u32, alone: bool) -> Gate {
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
            // Nobody listens there.
            "HUB_ENDPOINT" => "http://127.0.0.1:1/api/internal/events".to_owned(),
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
