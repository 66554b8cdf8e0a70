//! Every scenario, as short as it can be for its purpose.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "figures are printed for the reader of a failed test"
)]

use std::path::Path;

use chaos::scenarios::{Size, in_words, named};

async fn is_clean(name: &str) {
    let scenario = named(name).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let seed = 1;
    let report = scenario.run(Size::Short, seed, folder).await;
    println!("{}", in_words(&scenario, &report, seed));
    assert!(report.is_clean(), "{}", report.wrongs.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_resumes_and_nobody_notices() {
    is_clean("worker-kills").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_hub_costs_its_viewers_a_reconnect() {
    is_clean("hub-kills").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_store_costs_one_snapshot() {
    is_clean("store-copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_costs_one_snapshot() {
    is_clean("store-empty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_left_while_the_session_expired_is_no_ghost() {
    is_clean("session-expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_costs_one_snapshot() {
    is_clean("outbox-full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_owes_leaves_no_gap() {
    is_clean("outbox-full-killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_pays_leaves_no_gap() {
    is_clean("outbox-full-killed-late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_do_not_play_ping_pong() {
    is_clean("two-workers").await;
}
