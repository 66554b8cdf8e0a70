//! The hub is killed and started again under many viewers.

use std::time::Duration;

use launch::clock::now_ms;
use rand::RngExt as _;

use super::Size;
use super::house::House;
use super::showing::{Showing, in_words};
use super::viewer::Answer;
use crate::stage::Side;

/// How soon after its start everybody must be right: the hub within 5 s, and then the viewers, who
/// come back with jitter.
const RIGHT_WITHIN: Duration = Duration::from_secs(20);

pub(super) async fn give(size: Size, seed: u64) -> Showing {
    let viewers = size.of(60, 200);
    let mut showing = Showing::begin(&House::default(), viewers, 50, seed).await;
    let kills = size.of(2, 5);
    let mut times = Vec::new();
    for _ in 0..kills {
        showing.go_on_for(500..1_500).await;
        let began_ms = now_ms();
        let away_ms = showing.luck.random_range(0..1_000);
        let started = showing.kill_and_start(Side::Hub, away_ms).await;
        times.push(showing.right_again(started).await);
        showing.lasted_since(began_ms);
    }
    showing.go_on(500).await;
    let acts = showing.acts();
    showing.end(RIGHT_WITHIN).await;
    showing.report.say(format!(
        "{kills} kills under 50 acts/s ({acts} acts) and {} viewers; the last viewer right again after each start: {}",
        showing.viewers.len(),
        in_words(&times)
    ));
    for took in times.iter().filter(|took| **took >= RIGHT_WITHIN) {
        showing.report.wrong(format!("right only after {took:.2?}"));
    }
    judge_recoveries(&mut showing, kills);
    showing.judge_identifies(0);
    showing.judge_snapshots(0, 0);
    showing
}

/// Every viewer came back after every kill, and was recovered each time.
fn judge_recoveries(showing: &mut Showing, kills: usize) {
    let mut recovered = 0;
    let mut wrong = Vec::new();
    for viewer in &showing.viewers {
        let answers = viewer.answers();
        let of_it = answers.iter().filter(|one| **one == Answer::Recovered);
        let count = of_it.count();
        recovered += count;
        // A kill may fall between a viewer's return and the next: then it comes back twice.
        if count < kills || answers.contains(&Answer::Afresh) {
            wrong.push(format!("{} was answered {answers:?}", viewer.name()));
        }
    }
    showing.report.say(format!("recovered {recovered} times"));
    showing.report.wrongs.extend(wrong);
}
