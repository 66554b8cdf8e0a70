//! Every show, as short as it can be and still show what it is for.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "figures are printed for whoever reads the output of a failed test"
)]

use std::path::Path;

use chaos::shows::{Size, in_words, named};

async fn is_given(name: &str) {
    let show = named(name).unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let seed = 1;
    let report = show.give(Size::Short, seed, folder).await;
    println!("{}", in_words(&show, &report, seed));
    assert!(report.is_clean(), "{}", report.wrongs.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_resumes_and_nobody_notices() {
    is_given("worker-kills").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_hub_costs_its_viewers_a_reconnect() {
    is_given("hub-kills").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_store_costs_one_snapshot() {
    is_given("store-copy").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_costs_one_snapshot() {
    is_given("store-empty").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_while_the_session_expired_is_no_ghost() {
    is_given("session-expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_costs_one_snapshot() {
    is_given("outbox-full").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_owes_leaves_no_gap() {
    is_given("outbox-full-killed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_while_it_pays_leaves_no_gap() {
    is_given("outbox-full-killed-late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_do_not_play_ping_pong() {
    is_given("two-workers").await;
}
