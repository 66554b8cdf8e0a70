//! The hub's store is replaced, under traffic: by an older copy of itself, or by none.

use std::collections::BTreeMap;
use std::time::Duration;

use launch::clock::now_ms;
use tokio::time::Instant;

use super::Size;
use super::house::House;
use super::showing::Showing;
use super::viewer::{Answer, Viewer, continued};
use crate::stage::Side;

/// How soon after its start everybody must be right: the hub within 5 s, and then the viewers, who
/// come back with jitter.
const RIGHT_WITHIN: Duration = Duration::from_secs(20);

/// What becomes of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// An older copy takes its place.
    Copy,
    /// Nothing is left.
    All,
}

pub(super) async fn give(loss: Loss, size: Size, seed: u64) -> Showing {
    let house = House {
        guilds: 3,
        ..House::default()
    };
    let mut showing = Showing::begin(&house, 3, seed).await;
    showing.go_on(size.of(1_000, 5_000)).await;
    showing.open.keep_store();
    let before_the_copy = positions(&showing);
    showing.go_on(size.of(2_000, 60_000)).await;
    let before_the_loss = positions(&showing);
    let epochs = showing.judge_positions().epochs;

    let began_ms = now_ms();
    showing.open.kill(Side::Hub).await;
    match loss {
        Loss::Copy => showing.open.store().restore(),
        Loss::All => showing.open.store().remove(),
    }
    showing.go_on(300).await;
    showing.open.start(Side::Hub);
    let started = Instant::now();
    let took = showing.right_again(started).await;
    showing.lasted_since(began_ms);
    showing.go_on(size.of(500, 5_000)).await;
    let acts = showing.acts();
    showing.end(RIGHT_WITHIN).await;
    showing.report.say(format!(
        "{acts} acts in 3 guilds; the last viewer right again {took:.2?} after the start"
    ));
    showing.judge_time(took, RIGHT_WITHIN);
    showing.judge_identifies(0);
    // Who comes back before the worker has spoken waits for it, and is shown the guild once.
    showing.judge_snapshots(1, 1);
    judge_told_once(&mut showing);
    let mut new = Vec::new();
    for (guild, known) in showing.judge_positions().epochs {
        let newest = epochs[&guild].iter().max().copied().unwrap_or(0);
        let of_it = known.iter().filter(|epoch| **epoch > newest).count();
        if of_it == 0 {
            showing.report.wrong(format!("{guild}: no new epoch"));
        }
        new.push(of_it);
    }
    showing
        .report
        .say(format!("new epochs of each guild {new:?}"));
    let old = before_the_copy.into_iter().chain(before_the_loss);
    let mut refused = 0;
    for (at, pos) in old {
        let answers = continued(showing.viewers[at].door(), &pos).await;
        match &answers[..] {
            [Answer::Afresh, Answer::Snapshot(reason)] if reason != "subscribed" => refused += 1,
            _ => {
                let name = showing.viewers[at].name();
                let line = format!("{name}: an old position was answered {answers:?}");
                showing.report.wrong(line);
            }
        }
    }
    showing
        .report
        .say(format!("old positions answered by a snapshot: {refused}"));
    showing
}

/// Nobody was told anew in the middle of a subscription more than once.
fn judge_told_once(showing: &mut Showing) {
    let mut wrong = Vec::new();
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for viewer in &showing.viewers {
        let answers = viewer.answers();
        let pairs = answers.windows(2);
        let snapshot = |answer: &Answer| matches!(answer, Answer::Snapshot(_));
        let in_the_middle = pairs.filter(|pair| pair[0] != Answer::Afresh && snapshot(&pair[1]));
        if in_the_middle.count() > 1 {
            wrong.push(format!("{} was told {answers:?}", viewer.name()));
        }
        *ways.entry(format!("{answers:?}")).or_default() += 1;
    }
    for (way, count) in ways {
        showing.report.say(format!("{count} viewers: {way}"));
    }
    showing.report.wrongs.extend(wrong);
}

/// The last position of everybody who sees all of their guild, by their place among the viewers.
fn positions(showing: &Showing) -> Vec<(usize, String)> {
    let viewers = showing.viewers.iter().enumerate();
    viewers
        .filter(|(_, viewer)| viewer.sees_all())
        .filter_map(|(at, viewer)| Some((at, Viewer::pos(viewer)?)))
        .collect()
}
