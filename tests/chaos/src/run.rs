//! One run: a fresh world, people moving, subscribers coming and going, faults; then quiet, then
//! the checker.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use e2e::mirror::seen_by_everyone;
use e2e::{GUILD, LOUNGE};
use futures_util::FutureExt as _;
use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Client as Http;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::checker::{Frame, Gap, Record, Scene, Terms, Truth, Verdict, What, check};
use crate::client::Client;
use crate::fault::Fault;
use crate::mover::Mover;
use crate::stage::{Needs, Stage};
use crate::subscriber::{Door, Subscriber, Temper};

/// How often the truth is asked for.
const ASK: Duration = Duration::from_millis(30);
/// How long nothing may come before it is quiet.
const STILL: Duration = Duration::from_millis(250);
/// How long the world may take to be right before anything happens.
const FIRST_S: u64 = 20;

/// What a run is to be.
#[derive(Debug, Clone)]
pub struct Spec {
    /// All luck comes from it.
    pub seed: u64,
    /// What happens, in order.
    pub faults: Vec<Fault>,
    /// Acts in Discord, a second.
    pub acts_per_s: u32,
    /// Seconds before each fault, besides a moment.
    pub seconds: u64,
    /// A client program under test.
    pub client: Option<String>,
    /// A fault planted into the hub, and into one of how many events.
    pub planted: Option<(String, u32)>,
    /// Where its files go. Removed after a clean run.
    pub folder: PathBuf,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What the checker found.
    pub verdict: Verdict,
    /// Identifies, besides the first.
    pub identifies: u64,
    /// Snapshots that came to those who could have recovered.
    pub uncalled_snapshots: u64,
    /// What else was promised and did not happen.
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
    let mut luck = StdRng::seed_from_u64(spec.seed);
    let mut needs = Needs::default();
    for fault in &spec.faults {
        let more = fault.needs(&mut luck);
        needs.hub.extend(more.hub);
        needs.worker.extend(more.worker);
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
    let set = AssertUnwindSafe(Stage::set(&spec.folder, &needs, spec.seed)).catch_unwind();
    let Ok(mut stage) = set.await else {
        return Outcome {
            complaints: vec!["the world did not start".to_owned()],
            ..Outcome::default()
        };
    };
    let played = AssertUnwindSafe(play(spec, &mut stage, &mut luck)).catch_unwind();
    let mut outcome = played.await.unwrap_or_else(|panic| Outcome {
        complaints: vec![format!("the run broke: {}", reason_of(&*panic))],
        ..Outcome::default()
    });
    outcome.complaints.append(&mut stage.complaints);
    outcome.took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    if outcome.is_clean() {
        // What is left behind harms nobody.
        let _removed = std::fs::remove_dir_all(&spec.folder);
    } else {
        stage.keep_logs();
        let findings = [outcome.complaints.clone(), outcome.verdict.findings.clone()].concat();
        std::fs::write(spec.folder.join("findings.txt"), findings.join("\n")).unwrap();
    }
    outcome
}

fn reason_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

async fn play(spec: &Spec, stage: &mut Stage, luck: &mut StdRng) -> Outcome {
    let mut outcome = Outcome::default();
    let http = Http::builder()
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let sim_url = stage.world.sim_url.clone();
    let began = ask(&http, &sim_url, "state").await;
    let watch = Watch::start(http.clone(), sim_url.clone(), &began);
    let wish = json!({"sub": "chaos", "guilds": [GUILD], "ttl": 86_400});
    let door = Door {
        hub_url: stage.world.hub_url.clone(),
        token: stage.world.token(wish).await,
        guild: GUILD.to_owned(),
    };
    let mut audience = Audience::start(spec, &door, luck);
    if audience.quiet(&http, &sim_url, FIRST_S).await.is_err() {
        outcome
            .complaints
            .push("nothing was right before anything happened".to_owned());
    }
    let mover = Mover::start(&sim_url, luck.random(), spec.acts_per_s).await;
    audience.calm(false);
    sleep(Duration::from_millis(luck.random_range(400..900))).await;
    for fault in &spec.faults {
        sleep(Duration::from_secs(spec.seconds)).await;
        fault.happen(stage, luck).await;
        sleep(Duration::from_millis(luck.random_range(300..900))).await;
    }
    stop(&mover).await;
    let healed_ms = now_ms();
    stage.heal().await;
    stage.lasted_since(healed_ms);
    audience.calm(true);
    let within_s = spec.faults.iter().map(|fault| fault.right_within_s).max();
    let within_s = within_s.unwrap_or(5);
    if let Err(wrong) = audience.quiet(&http, &sim_url, within_s).await {
        outcome.complaints.push(format!(
            "not right within {within_s} s: {}",
            wrong.join(", ")
        ));
    }
    outcome.acts = mover.acts();
    let transitions = transitions(&http, &sim_url, &began).await;
    let truth = Truth::new(GUILD, &began, &transitions);
    let identifies = watch.stop();
    outcome.identifies = identifies.len() as u64;
    let records: Vec<_> = audience.all.iter().map(Subscriber::record).collect();
    let prices = || spec.faults.iter().map(|fault| fault.price);
    let terms = Terms {
        gaps: identifies,
        faults: stage.faults.clone(),
        ordered: !prices().any(|price| price.disorder),
    };
    outcome.verdict = check(&truth, &records, &terms);
    if !outcome.verdict.is_clean() {
        let lines = records.iter().map(|record| format!("{record:#?}\n"));
        std::fs::write(spec.folder.join("records.txt"), lines.collect::<String>()).unwrap();
        let lines = transitions.iter().map(|one| format!("{one}\n"));
        let text = format!("{terms:?}\n{}", lines.collect::<String>());
        std::fs::write(spec.folder.join("transitions.txt"), text).unwrap();
    }
    // A second fault may take away what the first one's identify gave, or both memories at once.
    let either = |fault: &Fault| fault.loses_store() || fault.price.identifies > 0;
    let both_memories = spec.faults.len() > 1 && spec.faults.iter().any(either);
    let most: u64 = prices().map(|price| price.identifies).sum::<u64>() + u64::from(both_memories);
    if outcome.identifies > most {
        outcome
            .complaints
            .push(format!("{} identifies, {most} needed", outcome.identifies));
    }
    outcome.uncalled_snapshots = records.iter().map(uncalled).sum();
    if outcome.uncalled_snapshots > 0 && !prices().any(|price| price.snapshots) {
        outcome.complaints.push(format!(
            "{} snapshots that nothing called for ({})",
            outcome.uncalled_snapshots,
            outcome.verdict.snapshots_by_reason()
        ));
    }
    outcome
}

/// Snapshots since the first quiet point that nothing of the subscriber's own called for.
fn uncalled(record: &Record) -> u64 {
    let since = record
        .heard
        .iter()
        .skip_while(|heard| !matches!(heard.what, What::Quiet { .. }));
    let mut owed = false;
    let mut count = 0;
    for heard in since {
        match &heard.what {
            What::Opened { owed: due, .. } => owed = *due,
            What::Frame(text) => match Frame::read(text) {
                Frame::Snapshot { part: 1, .. } if !std::mem::take(&mut owed) => count += 1,
                _ => {}
            },
            What::Ended(_) | What::Quiet { .. } => {}
        }
    }
    count
}

/// Pauses the mover and waits until its present act is done.
async fn stop(mover: &Mover) {
    mover.pause(true);
    let mut acts = u64::MAX;
    while acts != mover.acts() {
        acts = mover.acts();
        sleep(Duration::from_millis(100)).await;
    }
}

async fn ask(http: &Http, sim_url: &str, what: &str) -> Value {
    let answer = http.get(format!("{sim_url}/_sim/{what}")).send().await;
    answer.unwrap().json().await.unwrap()
}

/// Everything that happened since this state.
async fn transitions(http: &Http, sim_url: &str, began: &Value) -> Vec<Value> {
    let mut since = began["seq"].as_u64().unwrap();
    let mut all = Vec::new();
    loop {
        let page = ask(http, sim_url, &format!("transitions?since={since}")).await;
        assert_eq!(page["complete"], true, "the simulator forgot transitions");
        let list = page["transitions"].as_array().unwrap();
        let Some(last) = list.last() else {
            return all;
        };
        since = last["seq"].as_u64().unwrap();
        all.extend(list.iter().cloned());
    }
}

/// Those who watch.
struct Audience {
    all: Vec<Subscriber>,
    client: Option<Client>,
}

impl Audience {
    fn start(spec: &Spec, door: &Door, luck: &mut StdRng) -> Self {
        let temper = |name: &str, restless: bool| Temper {
            name: name.to_owned(),
            restless,
            ..Temper::default()
        };
        let narrow = Temper {
            only: Some(BTreeSet::from([LOUNGE.to_owned()])),
            ..temper("narrow", true)
        };
        let forgetful = Temper {
            forgetful: true,
            ..temper("forgetful", true)
        };
        let tempers = [
            temper("steady", false),
            temper("restless", true),
            temper("roaming", true),
            narrow,
            forgetful,
        ];
        let all = tempers
            .into_iter()
            .map(|temper| Subscriber::start(door.clone(), temper, luck.random()))
            .collect();
        let client = spec
            .client
            .as_ref()
            .map(|command| Client::start(command, door));
        let audience = Self { all, client };
        audience.calm(true);
        audience
    }

    fn calm(&self, calm: bool) {
        for subscriber in &self.all {
            subscriber.calm(calm);
        }
    }

    /// Waits until everybody believes the truth and nothing moves, and notes it in every record.
    /// At the deadline it is noted all the same, and the error names who is wrong.
    async fn quiet(&mut self, http: &Http, sim_url: &str, most_s: u64) -> Result<(), Vec<String>> {
        let until = Instant::now() + Duration::from_secs(most_s);
        let mut still: Option<(Instant, usize, u64)> = None;
        loop {
            let state = ask(http, sim_url, "state").await;
            let seq = state["seq"].as_u64().unwrap_or(0);
            let wrong = self.wrong(&state);
            let heard = self.all.iter().map(Subscriber::heard).sum();
            if wrong.is_empty() {
                match still {
                    Some((since, before, at)) if before == heard && at == seq => {
                        if since.elapsed() > STILL {
                            self.mark(seq);
                            return Ok(());
                        }
                    }
                    _ => still = Some((Instant::now(), heard, seq)),
                }
            } else {
                still = None;
                if Instant::now() > until {
                    self.mark(seq);
                    return Err(wrong);
                }
            }
            sleep(ASK).await;
        }
    }

    fn mark(&self, seq: u64) {
        for subscriber in &self.all {
            subscriber.mark_quiet(seq);
        }
    }

    /// Who does not believe the truth.
    fn wrong(&mut self, state: &Value) -> Vec<String> {
        let truth = Truth::new(GUILD, state, &[]);
        let scene = |subscriber: &Subscriber| -> Scene {
            let mut story = truth.story(subscriber.only());
            story.moments.swap_remove(0).scene
        };
        let mut wrong: Vec<String> = self
            .all
            .iter()
            .filter(|subscriber| !subscriber.agrees(&scene(subscriber)))
            .map(|subscriber| subscriber.name().to_owned())
            .collect();
        if let Some(client) = &mut self.client
            && !client.agrees(&seen_by_everyone(GUILD, &state["guilds"][GUILD]))
        {
            wrong.push(format!("the client ({})", client.last()));
        }
        wrong
    }
}

/// Watches the simulator count identifies: each ends what may come collapsed.
struct Watch {
    gaps: Arc<Mutex<Vec<Gap>>>,
    task: JoinHandle<()>,
}

impl Watch {
    fn start(http: Http, sim_url: String, began: &Value) -> Self {
        let gaps = Arc::new(Mutex::new(Vec::new()));
        let found = Arc::clone(&gaps);
        let count = |state: &Value| state["counters"]["identify"].as_u64().unwrap_or(0);
        let mut known = count(began);
        let task = tokio::spawn(async move {
            let mut open_at_ms = now_ms();
            loop {
                let asked_ms = now_ms();
                let state = ask(&http, &sim_url, "state").await;
                let counted = count(&state);
                for _ in known..counted {
                    found
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Gap {
                            after: 0,
                            until: state["seq"].as_u64().unwrap_or(u64::MAX),
                            open_at_ms,
                        });
                }
                known = counted;
                open_at_ms = asked_ms;
                sleep(ASK).await;
            }
        });
        Self { gaps, task }
    }

    fn stop(self) -> Vec<Gap> {
        self.task.abort();
        std::mem::take(&mut *self.gaps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
