//! Several guilds at once: people join, move, talk and leave; rooms are made and deleted.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use world::Simulator;

use super::{Script, ask};
use crate::checker::Id;

/// The number of people in each guild; no user is in two.
const PEOPLE: u64 = 8;
/// Rooms besides the usual ones at most, of each guild.
const MADE_MAX: usize = 3;

/// The script of several guilds.
pub struct Guilds {
    discord: Simulator,
    guilds: Vec<u64>,
    rng: StdRng,
    made: BTreeMap<u64, Vec<Id>>,
    named: u64,
}

impl Script for Guilds {
    async fn act(&mut self) {
        let guild = self.guilds[self.rng.random_range(0..self.guilds.len())];
        match self.rng.random_range(0..100) {
            0..=64 => {
                let room = self.room(guild);
                self.voice(guild, json!({"channelId": room})).await;
            }
            65..=79 => self.voice(guild, json!({"channelId": null})).await,
            80..=93 => {
                let on = self.rng.random_range(0..2) == 0;
                self.voice(guild, json!({"selfMute": on})).await;
            }
            94..=96 => self.make(guild).await,
            _ => self.delete(guild).await,
        }
    }
}

impl Guilds {
    /// A script of these guilds by this seed.
    pub fn new(discord: Simulator, guilds: &[Id], seed: u64) -> Self {
        Self {
            discord,
            guilds: guilds.iter().filter_map(|id| id.parse().ok()).collect(),
            rng: StdRng::seed_from_u64(seed),
            made: BTreeMap::new(),
            named: 0,
        }
    }

    /// A room of the guild. The ids of its two open rooms follow from the guild's id.
    fn room(&mut self, guild: u64) -> Id {
        let made = self.made.get(&guild).map_or(&[][..], Vec::as_slice);
        let at = self.rng.random_range(0..made.len() + 2);
        match at {
            0 | 1 => (guild + 10 + at as u64).to_string(),
            _ => made[at - 2].clone(),
        }
    }

    async fn voice(&mut self, guild: u64, mut change: Value) {
        let person = 210_000_000_000_000_000 + (guild >> 22) % 1_000 * 100;
        let person = person + self.rng.random_range(0..PEOPLE);
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
        ask(&self.discord, method, path, body).await
    }
}
