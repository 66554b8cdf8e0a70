//! People who come, move, talk and leave in several guilds at once, and rooms that are made and
//! deleted. (The [`crate::mover`] knows more acts, in the simulator's first guild.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::checker::Id;

/// People of each guild; nobody is in two.
const PEOPLE: u64 = 8;
/// Rooms besides the usual ones at most, of each guild.
const MADE_MAX: usize = 3;

/// What stirs. Dropping it stops it.
pub(super) struct Stir {
    pause: Arc<AtomicBool>,
    rests: Arc<AtomicBool>,
    acts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

struct Script {
    http: Client,
    sim_url: String,
    guilds: Vec<u64>,
    luck: StdRng,
    made: BTreeMap<u64, Vec<Id>>,
    named: u64,
}

impl Stir {
    /// Starts to stir these guilds, `per_s` acts a second in all of them together.
    pub(super) fn start(
        http: &Client,
        sim_url: &str,
        guilds: &[Id],
        seed: u64,
        per_s: u32,
    ) -> Self {
        let pause = Arc::new(AtomicBool::new(false));
        let rests = Arc::new(AtomicBool::new(false));
        let acts = Arc::new(AtomicU64::new(0));
        let mut script = Script {
            http: http.clone(),
            sim_url: sim_url.to_owned(),
            guilds: guilds.iter().filter_map(|id| id.parse().ok()).collect(),
            luck: StdRng::seed_from_u64(seed),
            made: BTreeMap::new(),
            named: 0,
        };
        let (paused, done) = (Arc::clone(&pause), Arc::clone(&acts));
        let resting = Arc::clone(&rests);
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / per_s.max(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if paused.load(Ordering::Acquire) {
                    resting.store(true, Ordering::Release);
                    continue;
                }
                script.act().await;
                done.fetch_add(1, Ordering::Release);
            }
        });
        Self {
            pause,
            rests,
            acts,
            task,
        }
    }

    /// Stops after the present act, or goes on.
    pub(super) fn pause(&self, pause: bool) {
        self.rests.store(false, Ordering::Release);
        self.pause.store(pause, Ordering::Release);
    }

    /// Whether it was paused, and its last act is done.
    pub(super) fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    /// How much it did.
    pub(super) fn acts(&self) -> u64 {
        self.acts.load(Ordering::Acquire)
    }
}

impl Drop for Stir {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Script {
    async fn act(&mut self) {
        let guild = self.guilds[self.luck.random_range(0..self.guilds.len())];
        match self.luck.random_range(0..100) {
            0..=64 => {
                let room = self.room(guild);
                self.voice(guild, json!({"channelId": room})).await;
            }
            65..=79 => self.voice(guild, json!({"channelId": null})).await,
            80..=93 => {
                let on = self.luck.random_range(0..2) == 0;
                self.voice(guild, json!({"selfMute": on})).await;
            }
            94..=96 => self.make(guild).await,
            _ => self.delete(guild).await,
        }
    }

    /// The simulator's two open rooms of each guild stand at these distances from its id.
    fn room(&mut self, guild: u64) -> Id {
        let made = self.made.get(&guild).map_or(&[][..], Vec::as_slice);
        let at = self.luck.random_range(0..made.len() + 2);
        match at {
            0 | 1 => (guild + 10 + at as u64).to_string(),
            _ => made[at - 2].clone(),
        }
    }

    async fn voice(&mut self, guild: u64, mut change: Value) {
        let person = 210_000_000_000_000_000 + (guild >> 22) % 1_000 * 100;
        let person = person + self.luck.random_range(0..PEOPLE);
        change["guildId"] = guild.to_string().into();
        change["userId"] = person.to_string().into();
        self.ask(Method::POST, "voice", &change).await;
    }

    async fn make(&mut self, guild: u64) {
        if self.made.entry(guild).or_default().len() >= MADE_MAX {
            return self.delete(guild).await;
        }
        self.named += 1;
        let body = json!({"guildId": guild.to_string(), "name": format!("room {}", self.named)});
        let answer = self.ask(Method::POST, "channels", &body).await;
        if let Some(id) = answer["channelId"].as_str() {
            self.made.entry(guild).or_default().push(id.to_owned());
        }
    }

    async fn delete(&mut self, guild: u64) {
        if let Some(gone) = self.made.entry(guild).or_default().pop() {
            let path = format!("channels/{gone}");
            self.ask(Method::DELETE, &path, &json!({})).await;
        }
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let url = format!("{}/_sim/{path}", self.sim_url);
        // A wish that changes nothing is refused, and that is fine.
        match self.http.request(method, url).json(body).send().await {
            Ok(answer) => answer.json().await.unwrap_or(Value::Null),
            Err(_) => Value::Null,
        }
    }
}
