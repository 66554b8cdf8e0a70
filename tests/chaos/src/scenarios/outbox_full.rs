//! The hub is away for longer than the worker's outbox lasts; the worker may be killed while it owes.

use std::time::Duration;

use launch::clock::now_ms;
use tokio::time::Instant;

use super::Size;
use super::fixture::{Fixture, peak_kib, resident_kib};
use super::running::{PATIENCE, Running};
use world::{Side, within};

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
    /// Just after the hub's restart, while the worker delivers what it owes.
    Late,
}

pub(super) async fn run(killed: Killed, size: Size, seed: u64) -> Running {
    let events = size.of(40_u64, 200);
    let fixture = Fixture {
        guilds: 3,
        worker: vec![("OUTBOX_EVENTS_MAX", events.to_string())],
        ..Fixture::default()
    };
    let mut running = Running::begin(&fixture, 3, seed).await;
    running.go_on(size.of(500, 5_000)).await;

    let began_ms = now_ms();
    let before = resident_kib(&mut running.world, Side::Worker);
    running.world.kill(Side::Hub).await;
    let acts = running.acts();
    if !within(PATIENCE, || running.acts() >= acts + 2 * events).await {
        running.report.wrong("nobody moves: the outbox is not full");
    }
    let full = resident_kib(&mut running.world, Side::Worker);
    running.go_on(size.of(1_000, 60_000)).await;
    let later = resident_kib(&mut running.world, Side::Worker);
    let missed = running.acts() - acts;
    if killed == Killed::Early {
        running.kill_and_start(Side::Worker, 0).await;
        running.go_on(500).await;
    }
    running.world.restart(Side::Hub, &[]);
    let started = Instant::now();
    if killed == Killed::Late {
        running.go_on_for(50..1_500).await;
        running.kill_and_start(Side::Worker, 0).await;
    }
    let took = running.right_again(started).await;
    running.lasted_since(began_ms);
    running.go_on(500).await;
    let after = resident_kib(&mut running.world, Side::Worker);
    let peak = peak_kib(&mut running.world, Side::Worker);
    running.end(RIGHT_WITHIN).await;
    running.report.say(format!(
        "an outbox of {events} events missed {missed} acts in 3 guilds; worker's memory before {before} KiB, full {full} KiB, at the end of it {later} KiB, afterwards {after} KiB, at most {peak} KiB"
    ));
    running.report.say(format!(
        "the last viewer right again {took:.2?} after the hub's start"
    ));
    if later > full + GROWTH_MAX_KIB || peak > full + GROWTH_MAX_KIB {
        running.report.wrong("the worker's memory grew");
    }
    running.judge_time(took, RIGHT_WITHIN);
    running.judge_identifies(0);
    // A killed worker loses its debts. Discord replays what the hub never acknowledged, and whether
    // the replay fits into the outbox depends on the hub's speed. So each worker that reaches the hub
    // owes each guild one snapshot at most.
    let (least, most) = match killed {
        Killed::Never => (1, 1),
        Killed::Early => (0, 1),
        Killed::Late => (0, 2),
    };
    running.judge_snapshots(least, most);
    running
}
