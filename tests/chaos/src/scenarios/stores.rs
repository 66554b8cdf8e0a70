//! The hub's store is replaced, under traffic: by an older copy of itself, or by none.

use std::collections::BTreeMap;
use std::time::Duration;

use launch::clock::now_ms;
use tokio::time::Instant;

use super::Size;
use super::fixture::{Fixture, keep_store, store};
use super::running::Running;
use world::Side;

use crate::subscriber::{Answer, Subscriber, continued};

/// How soon after its start everybody must be right: the hub within 5 s, and then the viewers, who
/// come back with jitter.
const RIGHT_WITHIN: Duration = Duration::from_secs(20);

/// What replaces the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// An older copy takes its place.
    Copy,
    /// Nothing is left.
    All,
}

pub(super) async fn run(loss: Loss, size: Size, seed: u64) -> Running {
    let fixture = Fixture {
        guilds: 3,
        ..Fixture::default()
    };
    let mut running = Running::begin(&fixture, 3, seed).await;
    running.go_on(size.of(1_000, 5_000)).await;
    keep_store(&running.world).await;
    let before_the_copy = positions(&running);
    running.go_on(size.of(2_000, 60_000)).await;
    let before_the_loss = positions(&running);
    let epochs = running.judge_positions().epochs;

    let began_ms = now_ms();
    running.world.kill(Side::Hub).await;
    match loss {
        Loss::Copy => store(&running.world).restore(),
        Loss::All => store(&running.world).remove(),
    }
    running.go_on(300).await;
    running.world.restart(Side::Hub, &[]);
    let started = Instant::now();
    let took = running.right_again(started).await;
    running.lasted_since(began_ms);
    running.go_on(size.of(500, 5_000)).await;
    let acts = running.acts();
    running.end(RIGHT_WITHIN).await;
    running.report.say(format!(
        "{acts} acts in 3 guilds; the last viewer right again {took:.2?} after the start"
    ));
    running.judge_time(took, RIGHT_WITHIN);
    running.judge_identifies(0);
    // A viewer that reconnects before the worker has delivered waits for it, and gets one snapshot.
    running.judge_snapshots(1, 1);
    judge_one_snapshot(&mut running);
    let mut new = Vec::new();
    for (guild, known) in running.judge_positions().epochs {
        let newest = epochs[&guild].iter().max().copied().unwrap_or(0);
        let of_it = known.iter().filter(|epoch| **epoch > newest).count();
        if of_it == 0 {
            running.report.wrong(format!("{guild}: no new epoch"));
        }
        new.push(of_it);
    }
    running
        .report
        .say(format!("new epochs of each guild {new:?}"));
    let old = before_the_copy.into_iter().chain(before_the_loss);
    let mut refused = 0;
    for (at, pos) in old {
        let answers = continued(running.viewers[at].access(), &pos).await;
        match &answers[..] {
            [Answer::Afresh, Answer::Snapshot(reason)] if reason != "subscribed" => refused += 1,
            _ => {
                let name = running.viewers[at].name();
                let line = format!("{name}: an old position was answered {answers:?}");
                running.report.wrong(line);
            }
        }
    }
    running
        .report
        .say(format!("old positions answered by a snapshot: {refused}"));
    running
}

/// No viewer received more than one snapshot in the middle of a subscription.
fn judge_one_snapshot(running: &mut Running) {
    let mut wrong = Vec::new();
    let mut ways: BTreeMap<String, usize> = BTreeMap::new();
    for viewer in &running.viewers {
        let answers = viewer.answers();
        let pairs = answers.windows(2);
        let snapshot = |answer: &Answer| matches!(answer, Answer::Snapshot(_));
        let in_the_middle = pairs.filter(|pair| pair[0] != Answer::Afresh && snapshot(&pair[1]));
        if in_the_middle.count() > 1 {
            wrong.push(format!("{} was answered {answers:?}", viewer.name()));
        }
        *ways.entry(format!("{answers:?}")).or_default() += 1;
    }
    for (way, count) in ways {
        running.report.say(format!("{count} viewers: {way}"));
    }
    running.report.wrongs.extend(wrong);
}

/// The last position of each viewer that sees its whole guild, by its index among the viewers.
fn positions(running: &Running) -> Vec<(usize, String)> {
    let viewers = running.viewers.iter().enumerate();
    viewers
        .filter(|(_, viewer)| viewer.only().is_none())
        .filter_map(|(at, viewer)| Some((at, Subscriber::pos(viewer)?)))
        .collect()
}
