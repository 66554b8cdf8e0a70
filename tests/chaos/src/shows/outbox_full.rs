//! The hub is away for longer than the worker's outbox lasts; the worker may be killed while it owes.

use std::time::Duration;

use launch::clock::now_ms;
use tokio::time::Instant;

use super::Size;
use super::house::House;
use super::showing::{PATIENCE, Showing};
use crate::stage::Side;
use crate::waiting::within;

/// How soon after the hub's start everybody must be right.
const RIGHT_WITHIN: Duration = Duration::from_secs(30);
/// How much the worker's memory may grow once its outbox is full, in KiB.
const GROWTH_MAX_KIB: u64 = 4 * 1024;

/// Whether, and when, the worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Killed {
    /// It is not.
    Never,
    /// While the hub is still away.
    Early,
    /// Just after the hub came back, somewhere in the telling of what it owes.
    Late,
}

pub(super) async fn give(killed: Killed, size: Size, seed: u64) -> Showing {
    let events = size.of(40_u64, 200);
    let house = House {
        guilds: 3,
        worker: vec![("OUTBOX_EVENTS_MAX", events.to_string())],
        ..House::default()
    };
    let mut showing = Showing::begin(&house, 3, seed).await;
    showing.go_on(size.of(500, 5_000)).await;

    let began_ms = now_ms();
    let before = showing.open.resident_kib(Side::Worker);
    showing.open.kill(Side::Hub).await;
    let acts = showing.acts();
    if !within(PATIENCE, || showing.acts() >= acts + 2 * events).await {
        showing.report.wrong("nobody moves: the outbox is not full");
    }
    let full = showing.open.resident_kib(Side::Worker);
    showing.go_on(size.of(1_000, 60_000)).await;
    let later = showing.open.resident_kib(Side::Worker);
    let missed = showing.acts() - acts;
    if killed == Killed::Early {
        showing.kill_and_start(Side::Worker, 0).await;
        showing.go_on(500).await;
    }
    showing.open.start(Side::Hub);
    let started = Instant::now();
    if killed == Killed::Late {
        showing.go_on_for(50..1_500).await;
        showing.kill_and_start(Side::Worker, 0).await;
    }
    let took = showing.right_again(started).await;
    showing.lasted_since(began_ms);
    showing.go_on(500).await;
    let after = showing.open.resident_kib(Side::Worker);
    let peak = showing.open.peak_kib(Side::Worker);
    showing.end(RIGHT_WITHIN).await;
    showing.report.say(format!(
        "an outbox of {events} events missed {missed} acts in 3 guilds; worker's memory before {before} KiB, full {full} KiB, at the end of it {later} KiB, afterwards {after} KiB, at most {peak} KiB"
    ));
    showing.report.say(format!(
        "the last viewer right again {took:.2?} after the hub's start"
    ));
    if later > full + GROWTH_MAX_KIB || peak > full + GROWTH_MAX_KIB {
        showing.report.wrong("the worker's memory grew");
    }
    showing.judge_time(took, RIGHT_WITHIN);
    showing.judge_identifies(0);
    // A worker that was killed had its debts with it; Discord replays what the hub never
    // acknowledged, and whether the replay fits the outbox is up to how fast it is taken.
    showing.judge_snapshots(usize::from(killed == Killed::Never), 1);
    showing
}
