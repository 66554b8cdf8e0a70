//! The worker is killed and started again, again and again, within its session's life.

use std::time::Duration;

use launch::clock::now_ms;
use rand::RngExt as _;

use super::Size;
use super::house::House;
use super::showing::{Showing, in_words};
use crate::stage::Side;

/// How soon after a start everything must be right (a promise).
const RIGHT_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn give(size: Size, seed: u64) -> Showing {
    let mut showing = Showing::begin(&House::default(), 4, 50, seed).await;
    let kills = size.of(4, 20);
    let mut times = Vec::new();
    for _ in 0..kills {
        showing.go_on_for(300..1_200).await;
        let began_ms = now_ms();
        let away_ms = showing.luck.random_range(0..800);
        let started = showing.kill_and_start(Side::Worker, away_ms).await;
        times.push(showing.right_again(started).await);
        showing.lasted_since(began_ms);
    }
    showing.go_on(500).await;
    let acts = showing.acts();
    showing.end(RIGHT_WITHIN).await;
    showing.report.say(format!(
        "{kills} kills under 50 acts/s ({acts} acts); right again after each start: {}",
        in_words(&times)
    ));
    for took in times.iter().filter(|took| **took >= RIGHT_WITHIN) {
        showing.report.wrong(format!("right only after {took:.2?}"));
    }
    showing.judge_identifies(0);
    showing.judge_snapshots(0, 0);
    showing
}
