//! Many runs, and their results together.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::checker::Verdict;
use crate::fault::{FAULTS, Fault, named};
use crate::run::{Outcome, Spec, run};
use crate::settings::Settings;

/// Faults of one run at most, where the seed chooses them.
const FAULTS_AT_ONCE: usize = 3;

/// The results of all runs.
#[derive(Debug, Default)]
pub struct Summary {
    /// All verdicts together.
    pub verdict: Verdict,
    /// Runs.
    pub runs: u64,
    /// Runs in which something was wrong: the seed, and where their logs are.
    pub failed: Vec<(u64, String)>,
    /// Runs that broke before they could be judged.
    broken: u64,
    identifies: u64,
    uncalled: u64,
    complaints: u64,
    acts: u64,
    faults: BTreeMap<&'static str, (u64, u64)>,
}

/// The faults of a run: those that were asked for, or some by the seed. Faults that cannot be caused
/// here are left out.
pub fn chosen(asked: &[Fault], seed: u64) -> Vec<Fault> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let mut rng = StdRng::seed_from_u64(seed ^ 0x000f_a017);
    let count = rng.random_range(1..=FAULTS_AT_ONCE);
    let mut chosen: Vec<Fault> = Vec::new();
    while chosen.len() < count {
        let fault = FAULTS[rng.random_range(0..FAULTS.len())];
        let twice = chosen.iter().any(|other| other.name == fault.name);
        if !twice && fault.lacks().is_none() {
            chosen.push(fault);
        }
    }
    chosen
}

/// Reads the names of faults.
///
/// # Errors
/// A line that names an unknown fault, or one that cannot be caused here.
pub fn asked(names: &[String]) -> Result<Vec<Fault>, String> {
    names
        .iter()
        .map(|name| {
            let fault = named(name).ok_or_else(|| {
                format!("--fault is {name:?}, which is no fault. See --list for their names.")
            })?;
            fault.lacks().map_or(Ok(fault), |lacks| {
                Err(format!(
                    "--fault is {name}, which cannot be caused here: {lacks}."
                ))
            })
        })
        .collect()
}

/// Does all runs; `say` gets a line for each as it ends. When `stopped` is so, those that run are
/// broken off, with their processes and files, and it ends.
pub async fn campaign(
    settings: &Settings,
    asked: &[Fault],
    seed: u64,
    stopped: impl Future<Output = ()>,
    mut say: impl FnMut(&str),
) -> Summary {
    let mut stopped = std::pin::pin!(stopped);
    let until =
        (settings.minutes > 0).then(|| Instant::now() + Duration::from_secs(settings.minutes * 60));
    let mut summary = Summary::default();
    let mut running = JoinSet::new();
    let mut folders = BTreeMap::new();
    let mut next = 0;
    loop {
        let more = next < settings.runs && until.is_none_or(|until| Instant::now() < until);
        if more && running.len() < settings.jobs as usize {
            let seed = seed.wrapping_add(next);
            next += 1;
            let spec = Spec {
                seed,
                faults: chosen(asked, seed),
                acts_per_s: settings.acts_per_s,
                seconds: settings.seconds,
                client: settings.client.clone(),
                planted: settings
                    .plant
                    .clone()
                    .map(|planted| (planted, settings.one_in)),
                folder: std::env::current_dir()
                    .unwrap_or_default()
                    .join(&settings.folder)
                    .join(format!("seed-{seed}")),
            };
            folders.insert(seed, spec.folder.clone());
            running.spawn(async move {
                let outcome = run(&spec).await;
                (spec, outcome)
            });
            continue;
        }
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            () = &mut stopped => {
                say("stopped: the runs under way are broken off");
                running.shutdown().await;
                for folder in folders.values() {
                    // It may not have been made yet.
                    let _removed = std::fs::remove_dir_all(folder);
                }
                return summary;
            }
        };
        match ended {
            Some(Ok((spec, outcome))) => {
                folders.remove(&spec.seed);
                say(&line(&spec, &outcome));
                summary.add(&spec, outcome);
            }
            Some(Err(error)) => {
                say(&format!("a run broke: {error}"));
                summary.broken += 1;
            }
            None => return summary,
        }
    }
}

fn line(spec: &Spec, outcome: &Outcome) -> String {
    let faults: Vec<&str> = spec.faults.iter().map(|fault| fault.name).collect();
    let mut text = format!(
        "{} seed {} {:4.1} s {:<28} {} · identifies {} · acts {}",
        if outcome.is_clean() { "ok  " } else { "FAIL" },
        spec.seed,
        Duration::from_millis(outcome.took_ms).as_secs_f64(),
        faults.join("+"),
        outcome.verdict,
        outcome.identifies,
        outcome.acts,
    );
    if !outcome.is_clean() {
        for complaint in &outcome.complaints {
            let _written = write!(text, "\n     {complaint}");
        }
        for finding in outcome.verdict.findings.iter().take(4) {
            let short: String = finding.chars().take(240).collect();
            let _written = write!(text, "\n     {short}");
        }
        let _written = write!(text, "\n     logs: {}", spec.folder.display());
    }
    text
}

impl Summary {
    fn add(&mut self, spec: &Spec, outcome: Outcome) {
        self.runs += 1;
        let clean = outcome.is_clean();
        if !clean {
            self.failed
                .push((spec.seed, spec.folder.display().to_string()));
        }
        for fault in &spec.faults {
            let (runs, failed) = self.faults.entry(fault.name).or_default();
            *runs += 1;
            *failed += u64::from(!clean);
        }
        self.identifies += outcome.identifies;
        self.uncalled += outcome.uncalled_snapshots;
        self.complaints += outcome.complaints.len() as u64;
        self.acts += outcome.acts;
        self.verdict.add(outcome.verdict, "");
    }

    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && self.broken == 0
    }

    /// The table.
    pub fn table(&self) -> String {
        let verdict = &self.verdict;
        let (p50, p99, longest) = verdict.convergence_ms();
        let mut rows = vec![
            ("runs", self.runs.to_string()),
            ("runs with a violation", self.failed.len().to_string()),
            ("runs that broke", self.broken.to_string()),
            ("acts in Discord", self.acts.to_string()),
            ("steps delivered", verdict.delivered.to_string()),
            ("published as a difference", verdict.collapsed.to_string()),
            ("lost", verdict.lost.to_string()),
            ("doubled", verdict.doubled.to_string()),
            ("reordered", verdict.reordered.to_string()),
            ("ghosts", verdict.ghosts.to_string()),
            ("leaks", verdict.leaks.to_string()),
            ("gaps in n", verdict.number_gaps.to_string()),
            ("false snapshots", verdict.false_snapshots.to_string()),
            ("other broken promises", self.complaints.to_string()),
            ("identifies", self.identifies.to_string()),
            ("snapshots", verdict.snapshots_by_reason()),
            ("snapshots to who recovered", self.uncalled.to_string()),
            (
                "converged p50, p99, longest",
                format!("{p50} ms, {p99} ms, {longest} ms"),
            ),
        ];
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(name, (runs, failed))| match failed {
                0 => format!("{name} {runs}"),
                failed => format!("{name} {runs} ({failed} failed)"),
            })
            .collect();
        rows.push(("faults", faults.join(", ")));
        let mut text = String::new();
        for (name, value) in rows {
            let _written = writeln!(text, "{name:<28} {value}");
        }
        for (seed, folder) in &self.failed {
            let _written = writeln!(text, "repeat with --seed {seed} --runs 1; logs: {folder}");
        }
        text
    }
}
