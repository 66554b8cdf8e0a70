//! A running scenario: the programs, traffic, and viewers. Its end is in [`judging`].
//!
//! Whether everything is right *during traffic* is asked by marks: a room of each guild has a number
//! as its name. A guild's events come in the guild's order, so a viewer that received a mark has
//! received everything before it.

mod judging;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;
use tokio::time::{Instant, sleep};
use world::{GUILD, LOOK, LOUNGE, STUDY, Side, World, within};

use super::Report;
use super::fixture::Fixture;
use crate::access::HubAccess;
use crate::checker::Id;
use crate::discord::Discord;
use crate::subscriber::{Pace, Subscriber, Temper};
use crate::traffic::{FirstGuild, Guilds, Traffic};

/// How long nothing may come before it is quiet.
const STILL: Duration = Duration::from_millis(300);
/// How long the first quiet point may take.
const FIRST: Duration = Duration::from_secs(30);
/// How long anything may take to become right. What a scenario promises is shorter, and judged there.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Acts in Discord a second. Some change nothing; 50 changes are required.
const ACTS_PER_S: u32 = 80;
/// Connections of one subject at most (the hub's own bound is 50).
const OF_ONE_SUBJECT: usize = 40;

/// A running scenario.
pub(super) struct Running {
    /// The programs.
    pub(super) world: World,
    /// All guilds, the primary one first.
    pub(super) guilds: Vec<Id>,
    /// The viewers.
    pub(super) viewers: Vec<Subscriber>,
    /// The source of all randomness.
    pub(super) rng: StdRng,
    /// The result so far.
    pub(super) report: Report,
    /// The output of processes beside the world's.
    pub(super) more_logs: Vec<String>,
    moving_since: Instant,
    traffic: Vec<Traffic>,
    discord: Discord,
    identifies: usize,
    marks: BTreeMap<Id, Id>,
    marked: u64,
    faults: Vec<(u64, u64)>,
}

impl Running {
    /// Starts the fixture and the viewers (`each` for every guild, and one that chooses some rooms
    /// only), waits until they have everything, and then starts the traffic.
    pub(super) async fn begin(fixture: &Fixture, each: usize, seed: u64) -> Self {
        let (world, guilds) = fixture.start().await;
        let mut rng = StdRng::seed_from_u64(seed);
        // A viewer that connects at once may receive the guild as it was before its mark existed.
        let discord = Discord::now(&world.discord).await;
        let mut marks = BTreeMap::new();
        for guild in &guilds {
            let body = json!({"guildId": guild, "name": "mark 0"});
            marks.insert(guild.clone(), world.discord.create_channel(body).await);
        }
        let mut running = Self {
            world,
            guilds,
            viewers: Vec::new(),
            rng: StdRng::seed_from_u64(rng.random()),
            report: Report::default(),
            more_logs: Vec::new(),
            moving_since: Instant::now(),
            traffic: Vec::new(),
            discord,
            identifies: 0,
            marks,
            marked: 0,
            faults: Vec::new(),
        };
        running.let_in(each).await;
        running.quiet("at the beginning", FIRST).await;
        let (simulator, guilds) = (running.world.discord.clone(), &running.guilds[1..]);
        let others = if guilds.is_empty() { 0 } else { ACTS_PER_S / 2 };
        let first = FirstGuild::new(simulator.clone(), rng.random()).await;
        running.traffic = vec![Traffic::start(first, ACTS_PER_S - others)];
        running.moving_since = Instant::now();
        if others > 0 {
            let script = Guilds::new(simulator, guilds, rng.random());
            running.traffic.push(Traffic::start(script, others));
        }
        running
    }

    async fn let_in(&mut self, each: usize) {
        let mut token = String::new();
        let mut count = 0;
        for guild in self.guilds.clone() {
            let narrow = (guild == GUILD).then_some(true);
            let kinds = (0..each).map(|_| false).chain(narrow);
            for narrow in kinds {
                if count % OF_ONE_SUBJECT == 0 {
                    let sub = format!("viewer-{}", count / OF_ONE_SUBJECT);
                    let guilds = &self.guilds;
                    let request = json!({"sub": sub, "guilds": guilds, "ttl": 86_400});
                    token = self.world.token(request).await;
                }
                let access = HubAccess {
                    hub_url: self.world.hub_url.clone(),
                    token: token.clone(),
                    guild: guild.clone(),
                };
                let only = narrow.then(|| {
                    let mark = self.marks[&guild].clone();
                    BTreeSet::from([LOUNGE.to_owned(), STUDY.to_owned(), mark])
                });
                let temper = Temper {
                    name: format!("viewer {count} of {guild}"),
                    only,
                    pace: Pace::Sdk,
                    ..Temper::default()
                };
                let seed = self.rng.random();
                self.viewers.push(Subscriber::start(access, temper, seed));
                count += 1;
            }
        }
    }

    /// Acts in Discord so far.
    pub(super) fn acts(&self) -> u64 {
        self.traffic.iter().map(Traffic::acts).sum()
    }

    /// Lets the traffic go on for so long, in ms.
    pub(super) async fn go_on(&self, ms: u64) {
        sleep(Duration::from_millis(ms)).await;
    }

    /// Lets the traffic go on for a random time, in ms.
    pub(super) async fn go_on_for(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.rng.random_range(ms);
        self.go_on(ms).await;
    }

    /// A fault lasted from `began_ms` until now.
    pub(super) fn lasted_since(&mut self, began_ms: u64) {
        self.faults.push((began_ms, now_ms()));
    }

    /// Sets the next mark in every guild.
    async fn mark(&mut self) -> u64 {
        self.marked += 1;
        let body = json!({"name": format!("mark {}", self.marked)});
        for room in self.marks.values() {
            self.world.discord.change_channel(room, body.clone()).await;
        }
        self.marked
    }

    /// The viewers that have not received this mark yet.
    fn behind(&self, mark: u64) -> impl Iterator<Item = &Subscriber> {
        self.viewers
            .iter()
            .filter(move |viewer| viewer.mark() < mark)
    }

    async fn all_have(&self, mark: u64, most: Duration) -> bool {
        within(most, || self.behind(mark).next().is_none()).await
    }

    /// Waits twice until every viewer has the newest mark, during traffic. Returns the time since
    /// `since`. A viewer without the mark in time is a violation.
    pub(super) async fn right_again(&mut self, since: Instant) -> Duration {
        for _ in 0..2 {
            let mark = self.mark().await;
            if !self.all_have(mark, PATIENCE).await {
                self.say_behind(mark, "during traffic");
            }
        }
        since.elapsed()
    }

    fn say_behind(&mut self, mark: u64, when: &str) {
        let behind: Vec<&str> = self.behind(mark).map(Subscriber::name).collect();
        let line = format!(
            "{when}: without mark {mark}: {} of {}, {}",
            behind.len(),
            self.viewers.len(),
            behind[..behind.len().min(5)].join(", ")
        );
        self.report.wrong(line);
    }

    /// Pauses the traffic; traffic that goes on after a while is a violation.
    pub(super) async fn hold(&mut self) {
        for traffic in &self.traffic {
            traffic.pause(true);
        }
        if !within(PATIENCE, || self.traffic.iter().all(Traffic::rests)).await {
            self.report.wrong("people still move");
        }
    }

    /// Waits until every viewer has everything and nothing comes any more, and notes the quiet
    /// point. The traffic must be paused. The time until the last viewer had everything.
    pub(super) async fn quiet(&mut self, when: &str, most: Duration) -> Duration {
        let began = Instant::now();
        let mark = self.mark().await;
        if !self.all_have(mark, most).await {
            self.say_behind(mark, when);
        }
        let took = began.elapsed();
        let received =
            |viewers: &[Subscriber]| viewers.iter().map(Subscriber::received).sum::<usize>();
        let (mut since, mut before) = (Instant::now(), received(&self.viewers));
        while since.elapsed() < STILL {
            sleep(LOOK).await;
            let now = received(&self.viewers);
            if now != before {
                (since, before) = (Instant::now(), now);
            }
            if began.elapsed() > most + PATIENCE {
                self.report
                    .wrong(format!("{when}: it does not become quiet"));
                break;
            }
        }
        let seq = self.world.truth().await["seq"].as_u64().unwrap_or(0);
        for viewer in &self.viewers {
            viewer.mark_quiet(seq);
        }
        took
    }

    /// Kills this side, waits so many ms, and starts it again; when that was.
    pub(super) async fn kill_and_start(&mut self, side: Side, away_ms: u64) -> Instant {
        self.world.kill(side).await;
        self.go_on(away_ms).await;
        self.world.restart(side, &[]);
        Instant::now()
    }

    /// Leaves logs and records in a folder.
    pub(super) fn keep(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        self.world.keep_logs(folder);
        let wrongs = self.report.wrongs.join("\n");
        std::fs::write(folder.join("findings.txt"), wrongs).unwrap();
        for (at, log) in self.more_logs.iter().enumerate() {
            std::fs::write(folder.join(format!("more-{at}.log")), log).unwrap();
        }
        let named = |viewer: &&Subscriber| {
            let mut wrongs = self.report.wrongs.iter();
            wrongs.any(|wrong| wrong.contains(viewer.name()))
        };
        for viewer in self.viewers.iter().filter(named).take(10) {
            let lines = viewer.record().received.into_iter();
            let text: String = lines.map(|one| format!("{one:?}\n")).collect();
            let file = folder.join(format!("{}.txt", viewer.name().replace(' ', "-")));
            std::fs::write(file, text).unwrap();
        }
    }
}

/// The middle and the longest of some times, in words.
pub(super) fn in_words(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    format!("p50 {middle:.2?}, longest {longest:.2?}")
}
