//! Scenarios: named courses of events over the real programs with their default settings. Each prints
//! its figures and what it found wrong. `chaos --scenario all` runs all of them.

mod fixture;
mod kills;
mod outbox_full;
mod positions;
mod running;
mod session_expired;
mod stores;
mod two_workers;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use world::Side;

use crate::run::reason_of;

/// How long a scenario is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// What `make test` has time for.
    Short,
    /// All of it. A scenario without an end of its own lasts for so many minutes.
    Full {
        /// How long the two workers run.
        minutes: u64,
    },
}

impl Size {
    /// One of two, by size.
    fn of<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full { .. } => full,
        }
    }
}

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its course, and the facts that must be true afterwards.
    pub about: &'static str,
    act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kills(Side),
    Store(stores::Loss),
    SessionExpired,
    OutboxFull(outbox_full::Killed),
    TwoWorkers,
}

const fn scenario(name: &'static str, act: Act, about: &'static str) -> Scenario {
    Scenario { name, about, act }
}

/// Every scenario.
#[rustfmt::skip]
pub const SCENARIOS: [Scenario; 9] = [
    scenario("worker-kills", Act::Kills(Side::Worker), "worker killed and started again and again: 0 identifies, nothing lost or doubled, no snapshot, right within 5 s"),
    scenario("hub-kills", Act::Kills(Side::Hub), "hub killed and started under many viewers: each recovers, without a snapshot, exactly what it missed"),
    scenario("store-copy", Act::Store(stores::Loss::Copy), "the store replaced by an older copy: one snapshot each, a new epoch, no position stands for two things"),
    scenario("store-empty", Act::Store(stores::Loss::All), "the store replaced by none: one snapshot each, a new epoch, no position stands for two things"),
    scenario("session-expired", Act::SessionExpired, "worker away while its session expires, people leave and a guild is removed: right within 30 s, no ghost, the leaves published"),
    scenario("outbox-full", Act::OutboxFull(outbox_full::Killed::Never), "hub away for longer than the outbox lasts: memory flat, one snapshot each, right"),
    scenario("outbox-full-killed", Act::OutboxFull(outbox_full::Killed::Early), "the same, and the worker killed while it owes and the hub is away"),
    scenario("outbox-full-killed-late", Act::OutboxFull(outbox_full::Killed::Late), "the same, and the worker killed while it delivers what it owes"),
    scenario("two-workers", Act::TwoWorkers, "two workers of one shard, one of them stopped and continued: nothing lost or doubled, the older ends with 75, no ping-pong"),
];

/// The scenario of this name.
pub fn named(name: &str) -> Option<Scenario> {
    SCENARIOS.into_iter().find(|scenario| scenario.name == name)
}

/// The result of a scenario.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The measured figures.
    pub figures: Vec<String>,
    /// The violations.
    pub wrongs: Vec<String>,
}

impl Report {
    fn say(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    fn wrong(&mut self, line: impl Into<String>) {
        self.wrongs.push(line.into());
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.wrongs.is_empty()
    }
}

impl Scenario {
    /// Runs the scenario. If something is wrong, its logs and records are kept in a folder of its name.
    pub async fn run(&self, size: Size, seed: u64, folder: &Path) -> Report {
        let began = Instant::now();
        let folder = folder.join(format!("scenario-{}", self.name));
        let result = AssertUnwindSafe(self.act.run(size, seed, &folder)).catch_unwind();
        let mut report = result.await.unwrap_or_else(|panic| Report {
            wrongs: vec![format!("it broke: {}", reason_of(&*panic))],
            ..Report::default()
        });
        report.say(format!("took {:.0?}", began.elapsed()));
        report
    }
}

impl Act {
    async fn run(self, size: Size, seed: u64, folder: &PathBuf) -> Report {
        let running = match self {
            Self::Kills(side) => Box::pin(kills::run(side, size, seed)).await,
            Self::Store(loss) => Box::pin(stores::run(loss, size, seed)).await,
            Self::SessionExpired => Box::pin(session_expired::run(size, seed)).await,
            Self::OutboxFull(killed) => Box::pin(outbox_full::run(killed, size, seed)).await,
            Self::TwoWorkers => Box::pin(two_workers::run(size, seed)).await,
        };
        // An earlier scenario may have left one.
        let _removed = std::fs::remove_dir_all(folder);
        if !running.report.is_clean() {
            running.keep(folder);
        }
        running.report
    }
}

/// The report in lines, for people.
pub fn in_words(scenario: &Scenario, report: &Report, seed: u64) -> String {
    let verdict = if report.is_clean() { "ok  " } else { "FAIL" };
    let mut lines = vec![format!("{verdict} {} (seed {seed})", scenario.name)];
    lines.extend(report.figures.iter().map(|line| format!("     {line}")));
    for wrong in report.wrongs.iter().take(12) {
        let short: String = wrong.chars().take(400).collect();
        lines.push(format!("   ! {short}"));
    }
    lines.join("\n")
}
