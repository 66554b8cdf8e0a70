//! A short campaign: fixed seeds over the real processes, in which nothing may be wrong.

use std::path::Path;

use chaos::fault::named;
use chaos::run::{Spec, run};

async fn is_survived(seed: u64, faults: &[&str]) {
    let spec = Spec {
        seed,
        faults: faults.iter().filter_map(|name| named(name)).collect(),
        acts_per_s: 50,
        seconds: 0,
        client: None,
        planted: None,
        folder: Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("campaign-{seed}")),
    };
    let outcome = run(&spec).await;
    assert!(
        outcome.is_clean(),
        "seed {seed}, {faults:?}: {}\n{:#?}\n{:#?}\nlogs: {}",
        outcome.verdict,
        outcome.complaints,
        outcome.verdict.findings,
        spec.folder.display()
    );
    assert!(outcome.verdict.delivered > 0, "nothing happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_killed_and_the_gateway_asks_to_reconnect() {
    is_survived(11, &["worker-kill", "F20"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_answers_badly_and_the_worker_is_killed_in_a_delivery() {
    is_survived(12, &["F10", "F4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_forgets_everything_and_is_stopped_for_a_while() {
    is_survived(13, &["store-gone", "F11"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discord_never_resumes_a_session_and_the_hub_is_killed() {
    is_survived(14, &["F37", "hub-kill"]).await;
}
