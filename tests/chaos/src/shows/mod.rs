//! Shows: named scenarios over the real processes, with their own default settings, each of which
//! prints its figures and says what it found wrong. `chaos --show all` gives all of them.

mod house;
mod kills;
mod outbox_full;
mod positions;
mod session_expired;
mod showing;
mod stir;
mod stores;
mod two_workers;
mod viewer;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use tokio::time::Instant;

use crate::stage::Side;

/// How much of a show is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// What `make test` has time for.
    Short,
    /// All of it; where a show lasts for some time, so many minutes.
    Full {
        /// How long the two workers go on.
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

/// A show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// How it is asked for.
    pub name: &'static str,
    /// What happens and what must come of it.
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

const fn show(name: &'static str, act: Act, about: &'static str) -> Show {
    Show { name, about, act }
}

/// Every show.
#[rustfmt::skip]
pub const SHOWS: [Show; 9] = [
    show("worker-kills", Act::Kills(Side::Worker), "worker killed and started again and again: 0 identifies, nothing lost or doubled, no snapshot, right within 5 s"),
    show("hub-kills", Act::Kills(Side::Hub), "hub killed and started under many viewers: each recovers, without a snapshot, exactly what it missed"),
    show("store-copy", Act::Store(stores::Loss::Copy), "the store replaced by an older copy: one snapshot each, a new epoch, no position stands for two things"),
    show("store-empty", Act::Store(stores::Loss::All), "the store replaced by none: likewise"),
    show("session-expired", Act::SessionExpired, "worker away while its session expires, people leave and a guild is removed: right within 30 s, no ghost, the leaves told"),
    show("outbox-full", Act::OutboxFull(outbox_full::Killed::Never), "hub away for longer than the outbox lasts: memory flat, one snapshot each, right"),
    show("outbox-full-killed", Act::OutboxFull(outbox_full::Killed::Early), "the same, and the worker killed while it owes and the hub is away"),
    show("outbox-full-killed-late", Act::OutboxFull(outbox_full::Killed::Late), "the same, and the worker killed while it tells what it owes"),
    show("two-workers", Act::TwoWorkers, "two workers of one shard, one of them stopped and continued: nothing lost or doubled, the older ends with 75, no ping-pong"),
];

/// The show of this name.
pub fn named(name: &str) -> Option<Show> {
    SHOWS.into_iter().find(|show| show.name == name)
}

/// What came of a show.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What was measured.
    pub figures: Vec<String>,
    /// What is wrong.
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

impl Show {
    /// Gives the show. Where something is wrong, logs and records lie in a folder of its name.
    pub async fn give(&self, size: Size, seed: u64, folder: &Path) -> Report {
        let began = Instant::now();
        let folder = folder.join(format!("show-{}", self.name));
        let given = AssertUnwindSafe(self.act.give(size, seed, &folder)).catch_unwind();
        let mut report = given.await.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Report {
                wrongs: vec![format!("it broke: {}", text.unwrap_or("no reason given"))],
                ..Report::default()
            }
        });
        report.say(format!("took {:.0?}", began.elapsed()));
        report
    }
}

impl Act {
    async fn give(self, size: Size, seed: u64, folder: &PathBuf) -> Report {
        let showing = match self {
            Self::Kills(side) => Box::pin(kills::give(side, size, seed)).await,
            Self::Store(loss) => Box::pin(stores::give(loss, size, seed)).await,
            Self::SessionExpired => Box::pin(session_expired::give(size, seed)).await,
            Self::OutboxFull(killed) => Box::pin(outbox_full::give(killed, size, seed)).await,
            Self::TwoWorkers => Box::pin(two_workers::give(size, seed)).await,
        };
        // What an earlier show left behind.
        let _removed = std::fs::remove_dir_all(folder);
        if !showing.report.is_clean() {
            showing.keep(folder);
        }
        showing.report
    }
}

/// The report in lines, for people.
pub fn in_words(show: &Show, report: &Report, seed: u64) -> String {
    let verdict = if report.is_clean() { "ok  " } else { "FAIL" };
    let mut lines = vec![format!("{verdict} {} (seed {seed})", show.name)];
    lines.extend(report.figures.iter().map(|line| format!("     {line}")));
    for wrong in report.wrongs.iter().take(12) {
        let short: String = wrong.chars().take(400).collect();
        lines.push(format!("   ! {short}"));
    }
    lines.join("\n")
}
