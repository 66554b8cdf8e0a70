//! A show under way: the house, people who move, and viewers; its end is in [`judging`].
//!
//! Whether everything is right *while people move* is asked by marks: a room of each guild bears a
//! number as its name. A guild's events come in the guild's order, so whoever was told of a mark was
//! told of all that was before it.

mod judging;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use e2e::{GUILD, LOUNGE, STUDY};
use launch::clock::now_ms;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Client as Http;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::Report;
use super::house::{House, Open};
use super::stir::Stir;
use super::viewer::Viewer;
use crate::checker::Id;
use crate::discord::Discord;
use crate::mover::Mover;
use crate::stage::Side;
use crate::subscriber::Door;
use crate::waiting::{LOOK, within};

/// How long nothing may come before it is quiet.
const STILL: Duration = Duration::from_millis(300);
/// How long the first quiet point may take.
const FIRST: Duration = Duration::from_secs(30);
/// How long anything may take to become right. What a show promises is shorter, and judged there.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Acts in Discord a second. Some change nothing; what is asked for are 50 changes.
const ACTS_PER_S: u32 = 60;
/// Connections of one subject at most (the hub's own bound is 50).
const OF_ONE_SUBJECT: usize = 40;

/// A show under way.
pub(super) struct Showing {
    /// What runs.
    pub(super) open: Open,
    /// Who watches.
    pub(super) viewers: Vec<Viewer>,
    /// All luck.
    pub(super) luck: StdRng,
    /// What came of it so far.
    pub(super) report: Report,
    /// What processes printed that are not the house's.
    pub(super) more_logs: Vec<String>,
    http: Http,
    moving_since: Instant,
    mover: Option<Mover>,
    stir: Option<Stir>,
    discord: Discord,
    identifies: usize,
    marks: BTreeMap<Id, Id>,
    marked: u64,
    faults: Vec<(u64, u64)>,
}

impl Showing {
    /// Opens the house, lets viewers in (`each` for every guild, and one who looks at some rooms
    /// only), waits until they know everything, and then lets people move.
    pub(super) async fn begin(house: &House, each: usize, seed: u64) -> Self {
        let open = house.open().await;
        let http = Http::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        let mut luck = StdRng::seed_from_u64(seed);
        // Whoever comes in at once may be shown the guild as it was before its mark was made.
        let discord = Discord::now(&open.world.sim_url).await;
        let mut marks = BTreeMap::new();
        for guild in &open.guilds {
            let body = json!({"guildId": guild, "name": "mark 0"});
            let made = open.world.control("channels", body).await;
            let id = made["channelId"].as_str().unwrap().to_owned();
            marks.insert(guild.clone(), id);
        }
        let mut showing = Self {
            viewers: Vec::new(),
            luck: StdRng::seed_from_u64(luck.random()),
            report: Report::default(),
            more_logs: Vec::new(),
            http,
            moving_since: Instant::now(),
            mover: None,
            stir: None,
            discord,
            identifies: 0,
            marks,
            marked: 0,
            faults: Vec::new(),
            open,
        };
        showing.let_in(each).await;
        showing.quiet("at the beginning", FIRST).await;
        let (sim_url, guilds) = (&showing.open.world.sim_url, &showing.open.guilds);
        let others = if guilds.len() > 1 { ACTS_PER_S / 2 } else { 0 };
        showing.mover = Some(Mover::start(sim_url, luck.random(), ACTS_PER_S - others).await);
        showing.moving_since = Instant::now();
        if others > 0 {
            let stir = Stir::start(&showing.http, sim_url, &guilds[1..], luck.random(), others);
            showing.stir = Some(stir);
        }
        showing
    }

    async fn let_in(&mut self, each: usize) {
        let mut token = String::new();
        let mut count = 0;
        for guild in self.open.guilds.clone() {
            let narrow = (guild == GUILD).then_some(true);
            let kinds = (0..each).map(|_| false).chain(narrow);
            for narrow in kinds {
                if count % OF_ONE_SUBJECT == 0 {
                    let sub = format!("viewer-{}", count / OF_ONE_SUBJECT);
                    let guilds = &self.open.guilds;
                    let wish = json!({"sub": sub, "guilds": guilds, "ttl": 86_400});
                    token = self.open.world.token(wish).await;
                }
                let door = Door {
                    hub_url: self.open.world.hub_url.clone(),
                    token: token.clone(),
                    guild: guild.clone(),
                };
                let only = narrow.then(|| {
                    let mark = self.marks[&guild].clone();
                    BTreeSet::from([LOUNGE.to_owned(), STUDY.to_owned(), mark])
                });
                let name = format!("viewer {count} of {guild}");
                let seed = self.luck.random();
                self.viewers.push(Viewer::start(name, door, only, seed));
                count += 1;
            }
        }
    }

    /// Acts in Discord so far.
    pub(super) fn acts(&self) -> u64 {
        self.mover.as_ref().map_or(0, Mover::acts) + self.stir.as_ref().map_or(0, Stir::acts)
    }

    /// Lets people move for so long, in ms.
    pub(super) async fn go_on(&self, ms: u64) {
        sleep(Duration::from_millis(ms)).await;
    }

    /// A wait of so many ms, by luck.
    pub(super) async fn go_on_for(&mut self, ms: std::ops::Range<u64>) {
        let ms = self.luck.random_range(ms);
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
            let url = format!("{}/_sim/channels/{room}", self.open.world.sim_url);
            let answer = self.http.patch(url).json(&body).send().await.unwrap();
            assert!(answer.status().is_success(), "no mark");
        }
        self.marked
    }

    /// Who was not told of this mark yet.
    fn behind(&self, mark: u64) -> impl Iterator<Item = &Viewer> {
        self.viewers
            .iter()
            .filter(move |viewer| viewer.mark() < mark)
    }

    async fn all_know(&self, mark: u64, most: Duration) -> bool {
        within(most, || self.behind(mark).next().is_none()).await
    }

    /// Waits until everybody is told of what happens now, twice, while people move. How long ago
    /// `since` was then; whoever is not told in time is a violation.
    pub(super) async fn right_again(&mut self, since: Instant) -> Duration {
        for _ in 0..2 {
            let mark = self.mark().await;
            if !self.all_know(mark, PATIENCE).await {
                self.say_behind(mark, "while people moved");
            }
        }
        since.elapsed()
    }

    fn say_behind(&mut self, mark: u64, when: &str) {
        let behind: Vec<&str> = self.behind(mark).map(Viewer::name).collect();
        let line = format!(
            "{when}: not told of mark {mark}: {} of {}, {}",
            behind.len(),
            self.viewers.len(),
            behind[..behind.len().min(5)].join(", ")
        );
        self.report.wrong(line);
    }

    /// Lets nobody move any more; whoever still does after a while is a violation.
    pub(super) async fn hold(&mut self) {
        if let Some(mover) = &self.mover {
            mover.pause(true);
        }
        if let Some(stir) = &self.stir {
            stir.pause(true);
        }
        let rest = || {
            self.mover.as_ref().is_none_or(Mover::rests)
                && self.stir.as_ref().is_none_or(Stir::rests)
        };
        if !within(PATIENCE, rest).await {
            self.report.wrong("people still move");
        }
    }

    /// Waits until everybody was told everything and nothing comes any more, and notes the quiet
    /// point; nobody may move. How long that took.
    pub(super) async fn quiet(&mut self, when: &str, most: Duration) -> Duration {
        let began = Instant::now();
        let mark = self.mark().await;
        if !self.all_know(mark, most).await {
            self.say_behind(mark, when);
        }
        let told = began.elapsed();
        let heard = |viewers: &[Viewer]| viewers.iter().map(Viewer::heard).sum::<usize>();
        let (mut since, mut before) = (Instant::now(), heard(&self.viewers));
        while since.elapsed() < STILL {
            sleep(LOOK).await;
            let now = heard(&self.viewers);
            if now != before {
                (since, before) = (Instant::now(), now);
            }
            if began.elapsed() > most + PATIENCE {
                self.report
                    .wrong(format!("{when}: it does not become quiet"));
                break;
            }
        }
        let seq = self.open.truth().await["seq"].as_u64().unwrap_or(0);
        for viewer in &self.viewers {
            viewer.mark_quiet(seq);
        }
        told
    }

    /// Kills this side, waits so many ms, and starts it again; when that was.
    pub(super) async fn kill_and_start(&mut self, side: Side, away_ms: u64) -> Instant {
        self.open.kill(side).await;
        self.go_on(away_ms).await;
        self.open.start(side);
        Instant::now()
    }

    /// Leaves logs and records in a folder.
    pub(super) fn keep(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        self.open.keep_logs(folder);
        let wrongs = self.report.wrongs.join("\n");
        std::fs::write(folder.join("findings.txt"), wrongs).unwrap();
        for (at, log) in self.more_logs.iter().enumerate() {
            std::fs::write(folder.join(format!("more-{at}.log")), log).unwrap();
        }
        let named = |viewer: &&Viewer| {
            let mut wrongs = self.report.wrongs.iter();
            wrongs.any(|wrong| wrong.contains(viewer.name()))
        };
        for viewer in self.viewers.iter().filter(named).take(10) {
            let lines = viewer.record().heard.into_iter();
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
