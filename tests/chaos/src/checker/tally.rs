//! The findings, counted.

use std::collections::BTreeMap;
use std::fmt;

/// Findings that are kept in words; the counts go on.
const FINDINGS_MAX: usize = 40;

/// The findings of one run, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Steps received exactly as they were due.
    pub delivered: u64,
    /// Steps that came as a net difference.
    pub collapsed: u64,
    /// Steps that never came.
    pub lost: u64,
    /// Steps that came again.
    pub doubled: u64,
    /// Steps that came at the wrong place.
    pub reordered: u64,
    /// Steps that were never true, and wrong beliefs at a quiet point.
    pub ghosts: u64,
    /// Frames or steps that name what the view does not show.
    pub leaks: u64,
    /// Frames whose number was not the next one.
    pub number_gaps: u64,
    /// Snapshots that show no moment of the truth.
    pub false_snapshots: u64,
    /// Snapshots by reason.
    pub snapshots: BTreeMap<String, u64>,
    /// For each transition, how long until the last connected subscriber had it, in ms.
    pub lags_ms: Vec<u64>,
    /// The first findings, in words.
    pub findings: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.violations() == 0
    }

    /// How much is wrong.
    pub fn violations(&self) -> u64 {
        self.lost
            + self.doubled
            + self.reordered
            + self.ghosts
            + self.leaks
            + self.number_gaps
            + self.false_snapshots
    }

    /// Writes a finding down, if there is room.
    pub fn say(&mut self, finding: impl FnOnce() -> String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding());
        }
    }

    /// Adds the counts of another; `in_words` says from where its findings are.
    pub fn add(&mut self, other: Self, in_words: &str) {
        self.delivered += other.delivered;
        self.collapsed += other.collapsed;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.ghosts += other.ghosts;
        self.leaks += other.leaks;
        self.number_gaps += other.number_gaps;
        self.false_snapshots += other.false_snapshots;
        for (reason, count) in other.snapshots {
            *self.snapshots.entry(reason).or_default() += count;
        }
        self.lags_ms.extend(other.lags_ms);
        for finding in other.findings {
            self.say(|| format!("{in_words}{finding}"));
        }
    }

    /// p50, p99 and the longest convergence in ms.
    pub fn convergence_ms(&self) -> (u64, u64, u64) {
        let mut lags = self.lags_ms.clone();
        lags.sort_unstable();
        (
            percentile(&lags, 50),
            percentile(&lags, 99),
            lags.last().copied().unwrap_or(0),
        )
    }

    /// The snapshots in words.
    pub fn snapshots_by_reason(&self) -> String {
        let words: Vec<String> = self
            .snapshots
            .iter()
            .map(|(reason, count)| format!("{reason} {count}"))
            .collect();
        words.join(", ")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = self.convergence_ms();
        write!(
            to,
            "lost {} doubled {} reordered {} ghosts {} leaks {} n-gaps {} false-snapshots {} · delivered {} collapsed {} · converged {p50}/{p99}/{max} ms",
            self.lost,
            self.doubled,
            self.reordered,
            self.ghosts,
            self.leaks,
            self.number_gaps,
            self.false_snapshots,
            self.delivered,
            self.collapsed,
        )
    }
}

/// A percentile of sorted values; 0 if there are none.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(0)
}
