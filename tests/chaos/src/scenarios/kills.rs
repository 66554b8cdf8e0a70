//! The worker is killed and started again several times within its session's life; or the hub is,
//! under many viewers.

use std::time::Duration;

use launch::clock::now_ms;
use rand::RngExt as _;

use super::Size;
use super::fixture::Fixture;
use super::running::{Running, in_words};
use world::Side;

use crate::subscriber::Answer;

pub(super) async fn run(side: Side, size: Size, seed: u64) -> Running {
    let (each, kills, right_within) = match side {
        // A promise.
        Side::Worker => (4, size.of(4, 20), Duration::from_secs(5)),
        // The hub within 5 s, and then the viewers, who come back with jitter.
        Side::Hub => (size.of(60, 200), size.of(2, 5), Duration::from_secs(20)),
    };
    let mut running = Running::begin(&Fixture::default(), each, seed).await;
    let mut times = Vec::new();
    for _ in 0..kills {
        running.go_on_for(300..1_500).await;
        let began_ms = now_ms();
        let away_ms = running.rng.random_range(0..1_000);
        let started = running.kill_and_start(side, away_ms).await;
        times.push(running.right_again(started).await);
        running.lasted_since(began_ms);
    }
    running.go_on(500).await;
    running.end(right_within).await;
    running.report.say(format!(
        "{kills} kills before {} viewers; the last viewer right again after each start: {}",
        running.viewers.len(),
        in_words(&times)
    ));
    for took in times {
        running.judge_time(took, right_within);
    }
    if side == Side::Hub {
        judge_recoveries(&mut running, kills);
    }
    running.judge_identifies(0);
    running.judge_snapshots(0, 0);
    running
}

/// Every viewer came back after every kill, and was recovered each time.
fn judge_recoveries(running: &mut Running, kills: usize) {
    let mut recovered = 0;
    let mut wrong = Vec::new();
    for viewer in &running.viewers {
        let answers = viewer.answers();
        let of_it = answers.iter().filter(|one| **one == Answer::Recovered);
        let count = of_it.count();
        recovered += count;
        // A kill may fall between a viewer's return and the next: then it comes back twice.
        if count < kills || answers.contains(&Answer::Afresh) {
            wrong.push(format!("{} was answered {answers:?}", viewer.name()));
        }
    }
    running.report.say(format!("recovered {recovered} times"));
    running.report.wrongs.extend(wrong);
}
