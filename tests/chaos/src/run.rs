//! One run: a fresh environment, traffic, subscribers that come and go, faults; then quiet, then the
//! checker.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::FutureExt as _;
use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use world::{GUILD, Side, within};

use crate::access::HubAccess;
use crate::audience::Audience;
use crate::checker::{Record, Terms, Verdict, check};
use crate::discord::Discord;
use crate::environment::{Environment, Needs};
use crate::fault::Fault;
use crate::late::Late;
use crate::sessions::{self, Facts, Note};
use crate::traffic::{FirstGuild, Traffic};

/// How long the world may take to be right before anything happens.
const FIRST_S: u64 = 20;
/// How long a run may take beside the seconds that were asked for. A longer one waits in vain.
const RUN_MAX: Duration = Duration::from_mins(10);
/// How long the traffic may take to end its present act.
const ACT_MAX: Duration = Duration::from_secs(20);

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// All randomness comes from it.
    pub seed: u64,
    /// The faults, in order.
    pub faults: Vec<Fault>,
    /// Acts in Discord, a second.
    pub acts_per_s: u32,
    /// Seconds before each fault, besides a moment.
    pub seconds: u64,
    /// A client program under test.
    pub client: Option<String>,
    /// A fault planted into the hub, and into one of how many events.
    pub planted: Option<(String, u32)>,
    /// The folder of its files. Removed after a clean run.
    pub folder: PathBuf,
}

/// The result of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What the checker found.
    pub verdict: Verdict,
    /// Identifies, besides the first.
    pub identifies: u64,
    /// Snapshots to subscribers that could have recovered.
    pub uncalled_snapshots: u64,
    /// Other promises that were not kept.
    pub complaints: Vec<String>,
    /// Acts in Discord.
    pub acts: u64,
    /// How long it took, in ms.
    pub took_ms: u64,
}

impl Outcome {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.complaints.is_empty()
    }
}

/// Does one run. Logs and findings stay in the folder if anything is wrong.
pub async fn run(spec: &Spec) -> Outcome {
    let began = Instant::now();
    let mut rng = StdRng::seed_from_u64(spec.seed);
    let mut needs = Needs::default();
    for fault in &spec.faults {
        let more = fault.needs();
        needs.clock |= more.clock;
        needs.resume_address |= more.resume_address;
    }
    if let Some((planted, one_in)) = &spec.planted {
        needs
            .hub
            .push(("PLANTED_FAULT".to_owned(), planted.clone()));
        needs
            .hub
            .push(("PLANTED_ONE_IN".to_owned(), one_in.to_string()));
    }
    let set = AssertUnwindSafe(Environment::start(&spec.folder, &needs, spec.seed)).catch_unwind();
    let Ok(mut environment) = set.await else {
        return Outcome {
            complaints: vec!["the world did not start".to_owned()],
            ..Outcome::default()
        };
    };
    let asked = Duration::from_secs(spec.seconds * spec.faults.len() as u64);
    let mut outcome = in_time(RUN_MAX + asked, play(spec, &mut environment, &mut rng)).await;
    outcome.complaints.append(&mut environment.complaints);
    outcome.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if outcome.is_clean() {
        let _removed = std::fs::remove_dir_all(&spec.folder);
    } else {
        environment.world.keep_logs(&spec.folder);
        let findings = [outcome.complaints.clone(), outcome.verdict.findings.clone()].concat();
        std::fs::write(spec.folder.join("findings.txt"), findings.join("\n")).unwrap();
    }
    outcome
}

/// The result; a complaint if the run panicked or did not end in time.
async fn in_time(most: Duration, played: impl Future<Output = Outcome>) -> Outcome {
    let complaint = match timeout(most, AssertUnwindSafe(played).catch_unwind()).await {
        Ok(Ok(outcome)) => return outcome,
        Ok(Err(panic)) => format!("the run broke: {}", reason_of(&*panic)),
        Err(_late) => format!("the run did not end within {most:?}"),
    };
    Outcome {
        complaints: vec![complaint],
        ..Outcome::default()
    }
}

/// The words of a panic.
pub(crate) fn reason_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

async fn play(spec: &Spec, environment: &mut Environment, rng: &mut StdRng) -> Outcome {
    let mut outcome = Outcome::default();
    let simulator = environment.world.discord.clone();
    let discord = Discord::now(&simulator).await;
    let late = Late::start();
    let request = json!({"sub": "chaos", "guilds": [GUILD], "ttl": 86_400});
    let access = HubAccess {
        hub_url: environment.world.hub_url.clone(),
        token: environment.world.token(request).await,
        guild: GUILD.to_owned(),
    };
    let mut audience = Audience::start(spec.client.as_deref(), &access, rng);
    if audience.quiet(&discord, FIRST_S).await.is_err() {
        outcome
            .complaints
            .push("nothing was right before anything happened".to_owned());
    }
    let mut script = FirstGuild::new(simulator, rng.random()).await;
    if spec.faults.iter().any(Fault::keeps_role) {
        script.keep_role();
    }
    let traffic = Traffic::start(script, spec.acts_per_s);
    audience.calm(false);
    sleep(Duration::from_millis(rng.random_range(400..900))).await;
    let mut facts = Facts::default();
    for fault in &spec.faults {
        sleep(Duration::from_secs(spec.seconds)).await;
        let began_ms = now_ms();
        fault.happen(environment, audience.witness(), rng).await;
        fault.explain((began_ms, now_ms()), &mut facts);
        sleep(Duration::from_millis(rng.random_range(300..900))).await;
    }
    if !stop(&traffic).await {
        environment.complain(format!("people still move after {ACT_MAX:?}"));
    }
    let healed_ms = now_ms();
    environment.heal().await;
    environment.lasted_since(healed_ms);
    audience.calm(true);
    let within_s = spec.faults.iter().map(|fault| fault.right_within_s).max();
    let within_s = within_s.unwrap_or(5);
    if let Err(wrong) = audience.quiet(&discord, within_s).await {
        outcome.complaints.push(format!(
            "not right within {within_s} s: {}",
            wrong.join(", ")
        ));
    }
    outcome.acts = traffic.acts();
    facts.worker_starts.clone_from(&environment.worker_starts);
    facts.held_up.extend(late.spans());
    let sessions = discord.sessions().await;
    let observed = Observed {
        transitions: discord.transitions().await,
        records: audience.records(),
        uncalled: audience.uncalled_snapshots(),
    };
    judge(
        spec,
        environment,
        &discord,
        &observed,
        &sessions,
        &mut outcome,
    );
    outcome
        .complaints
        .extend(sessions::complaints(&sessions, &facts));
    if !outcome.is_clean() || !environment.complaints.is_empty() {
        observed.keep(&spec.folder, &sessions, &facts);
    }
    outcome
}

/// What happened, and what subscribers received.
struct Observed {
    transitions: Vec<Value>,
    records: Vec<Record>,
    /// The number of snapshots that each subscriber did not need itself, by its name.
    uncalled: Vec<(String, u64)>,
}

impl Observed {
    fn keep(&self, folder: &Path, sessions: &[Note], facts: &Facts) {
        let records = self.records.iter().map(|record| format!("{record:#?}\n"));
        std::fs::write(folder.join("records.txt"), records.collect::<String>()).unwrap();
        let lines = self.transitions.iter().map(|one| format!("{one}\n"));
        let text = format!("{sessions:#?}\n{facts:#?}\n{}", lines.collect::<String>());
        std::fs::write(folder.join("transitions.txt"), text).unwrap();
    }
}

fn judge(
    spec: &Spec,
    environment: &Environment,
    discord: &Discord,
    observed: &Observed,
    sessions: &[Note],
    outcome: &mut Outcome,
) {
    let prices = || spec.faults.iter().map(|fault| fault.price);
    let terms = Terms {
        gaps: sessions::gaps(sessions),
        faults: environment.faults.clone(),
        ordered: !prices().any(|price| price.disorder),
    };
    outcome.identifies = terms.gaps.len() as u64;
    let truth = discord.truth(GUILD, &observed.transitions);
    outcome.verdict = check(&truth, &observed.records, &terms);
    let most = prices().fold(0_u64, |most, price| most.saturating_add(price.snapshots));
    for (name, count) in &observed.uncalled {
        outcome.uncalled_snapshots += count;
        if *count > most {
            outcome.complaints.push(format!(
                "{name}: {count} snapshots that it did not need itself, {most} explained ({})",
                outcome.verdict.snapshots_by_reason()
            ));
        }
    }
    for side in [Side::Hub, Side::Worker] {
        if let Some(line) = environment
            .world
            .log(side)
            .lines()
            .find(|line| line.contains("panicked at"))
        {
            outcome.complaints.push(format!("{side:?}: {line}"));
        }
    }
}

/// Pauses the traffic and waits until its present act is done; false if that takes too long.
async fn stop(traffic: &Traffic) -> bool {
    traffic.pause(true);
    within(ACT_MAX, || traffic.rests()).await
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn a_run_that_does_not_end_is_broken_off_with_a_complaint() {
        let outcome = in_time(Duration::from_millis(1), pending()).await;
        assert_eq!(
            outcome.complaints,
            ["the run did not end within 1ms".to_owned()]
        );
    }
}
