//! The end of a scenario, and its judgement.

use std::collections::BTreeMap;
use std::time::Duration;

use world::SECRET;

use super::super::positions::Positions;
use super::Running;
use crate::checker::{Record, Terms, Verdict, check};
use crate::sessions;
use crate::subscriber::{Answer, Subscriber};

/// The least number of changes in Discord per second, over the whole scenario.
const EVENTS_PER_S: f64 = 50.0;

impl Running {
    /// The end: the traffic pauses, every viewer receives everything, and the checker judges. The
    /// report has its findings, and the time until the last viewer had everything.
    pub(in crate::scenarios) async fn end(&mut self, most: Duration) -> Verdict {
        self.hold().await;
        let moved = self.moving_since.elapsed();
        let took = self.quiet("at the end", most).await;
        self.judge_time(took, most);
        let gaps = sessions::gaps(&self.discord.sessions().await);
        self.identifies = gaps.len();
        let transitions = self.discord.transitions().await;
        self.judge_traffic(transitions.len(), moved);
        let terms = Terms {
            gaps,
            faults: self.faults.clone(),
            ordered: true,
        };
        let mut verdict = Verdict::default();
        for guild in &self.guilds {
            let truth = self.discord.truth(guild, &transitions);
            let records: Vec<Record> = self
                .viewers
                .iter()
                .filter(|viewer| viewer.guild() == guild)
                .map(Subscriber::record)
                .collect();
            verdict.add(check(&truth, &records, &terms), &format!("{guild}: "));
        }
        self.report.say(format!("{verdict}"));
        if !verdict.is_clean() {
            let count = verdict.violations();
            self.report.wrong(format!("the checker found {count}"));
            self.report.wrongs.extend(verdict.findings.iter().cloned());
        }
        verdict
    }

    /// Says how much happened; less than was asked for is a violation.
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    fn judge_traffic(&mut self, events: usize, moved: Duration) {
        let per_s = events as f64 / moved.as_secs_f64();
        let seconds = moved.as_secs();
        self.report.say(format!(
            "{events} events in {seconds} s: {per_s:.0} a second"
        ));
        if per_s < EVENTS_PER_S {
            self.report
                .wrong(format!("{per_s:.1} events a second, not {EVENTS_PER_S}"));
        }
    }

    /// That it took longer than this is a violation.
    pub(in crate::scenarios) fn judge_time(&mut self, took: Duration, most: Duration) {
        if took >= most {
            self.report
                .wrong(format!("right only after {took:.2?}, not within {most:?}"));
        }
    }

    /// Identifies besides the first, until the end.
    pub(in crate::scenarios) fn identifies(&self) -> usize {
        self.identifies
    }

    /// The snapshots since the first quiet point, of each viewer.
    pub(in crate::scenarios) fn snapshots(&self) -> Vec<Vec<String>> {
        let reasons = |viewer: &Subscriber| {
            let answers = viewer.answers().into_iter();
            answers
                .filter_map(|answer| match answer {
                    Answer::Snapshot(reason) => Some(reason),
                    Answer::Recovered | Answer::Afresh => None,
                })
                .collect()
        };
        self.viewers.iter().map(reasons).collect()
    }

    /// Says how many snapshots there were since the first quiet point; more than `most` for any
    /// viewer, fewer than `least`, or one without a reason of its own are a violation.
    pub(in crate::scenarios) fn judge_snapshots(&mut self, least: usize, most: usize) {
        let snapshots = self.snapshots();
        let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
        for reason in snapshots.iter().flatten() {
            *by_reason.entry(reason).or_default() += 1;
        }
        let fewest = snapshots.iter().map(Vec::len).min().unwrap_or(0);
        let mostly = snapshots.iter().map(Vec::len).max().unwrap_or(0);
        self.report.say(format!(
            "snapshots by reason {by_reason:?}, each of {} viewers had {fewest} to {mostly}",
            snapshots.len()
        ));
        for (viewer, reasons) in self.viewers.iter().zip(&snapshots) {
            let without = |reason: &String| matches!(&**reason, "" | "subscribed");
            if reasons.len() < least || reasons.len() > most || reasons.iter().any(without) {
                let count = reasons.len();
                let name = viewer.name();
                self.report
                    .wrong(format!("{name}: {count} snapshots: {reasons:?}"));
            }
        }
    }

    /// Says how many identifies there were; more than `most` are a violation.
    pub(in crate::scenarios) fn judge_identifies(&mut self, most: usize) {
        let identifies = self.identifies();
        self.report.say(format!("identifies {identifies}"));
        if identifies > most {
            self.report
                .wrong(format!("{identifies} identifies, not {most}"));
        }
    }

    /// Opens every position that was given out; one that stands for two things is a violation.
    pub(in crate::scenarios) fn judge_positions(&mut self) -> Positions {
        let mut positions = Positions::of(SECRET);
        for viewer in &self.viewers {
            positions.read(viewer);
        }
        let twice = positions.twice.len();
        self.report.say(format!(
            "positions {}, that stand for two things {twice}",
            positions.count()
        ));
        self.report
            .wrongs
            .extend(positions.twice.iter().take(5).cloned());
        positions
    }
}
