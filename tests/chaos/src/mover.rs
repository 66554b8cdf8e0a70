//! Things that happen in Discord, by a seed: people join, talk, move and leave, channels are made,
//! renamed, hidden, shown and deleted, and @everyone loses and regains the sight of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e::{BOT_ROLE, GUILD, LOUNGE, STAFF, STUDY};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// People who go everywhere.
const PEOPLE: u64 = 10;
/// Rooms besides the usual ones at most.
const MADE_MAX: usize = 6;
/// `VIEW_CHANNEL`.
const VIEW: u64 = 1 << 10;
/// `CONNECT`.
const CONNECT: u64 = 1 << 20;

/// A running mover. Dropping it stops it.
pub struct Mover {
    pause: Arc<AtomicBool>,
    rests: Arc<AtomicBool>,
    acts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Mover {
    /// Starts to move people in the simulator at this address, `per_s` acts a second.
    pub async fn start(sim_url: &str, seed: u64, per_s: u32) -> Self {
        let pause = Arc::new(AtomicBool::new(false));
        let rests = Arc::new(AtomicBool::new(false));
        let acts = Arc::new(AtomicU64::new(0));
        let mut script = Script {
            http: Client::builder()
                .timeout(Duration::from_secs(10))
                .build()
                .unwrap(),
            sim_url: sim_url.to_owned(),
            luck: StdRng::seed_from_u64(seed),
            seats: BTreeMap::new(),
            made: Vec::new(),
            vault: String::new(),
            everyone: 0,
            blind: 0,
            named: 0,
        };
        script.prepare().await;
        let (paused, done) = (Arc::clone(&pause), Arc::clone(&acts));
        let resting = Arc::clone(&rests);
        let task = tokio::spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / per_s.max(1));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if paused.load(Ordering::Acquire) {
                    if script.blind > 0 {
                        script.see_again().await;
                    }
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
    pub fn pause(&self, pause: bool) {
        self.rests.store(false, Ordering::Release);
        self.pause.store(pause, Ordering::Release);
    }

    /// Whether it was paused, and its last act is done.
    pub fn rests(&self) -> bool {
        self.rests.load(Ordering::Acquire)
    }

    /// How much it did.
    pub fn acts(&self) -> u64 {
        self.acts.load(Ordering::Acquire)
    }
}

impl Drop for Mover {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Script {
    http: Client,
    sim_url: String,
    luck: StdRng,
    /// Where people sit, as far as they were told to.
    seats: BTreeMap<String, String>,
    /// Rooms that were made, hidden ones among them.
    made: Vec<String>,
    /// A hidden room that stays hidden.
    vault: String,
    /// What @everyone may.
    everyone: u64,
    /// For how many acts more @everyone sees nothing; 0: they see.
    blind: u32,
    named: u64,
}

impl Script {
    /// A second hidden room, and somebody in each who is never seen elsewhere.
    async fn prepare(&mut self) {
        let state: Value = self
            .http
            .get(format!("{}/_sim/state", self.sim_url))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        self.everyone = state["guilds"][GUILD]["roles"][GUILD]["permissions"]
            .as_str()
            .and_then(|bits| bits.parse().ok())
            .unwrap_or(VIEW);
        let vault = json!({"guildId": GUILD, "name": "vault", "overwrites": overwrites(Hidden::FromOthers)});
        let answer = self.ask(Method::POST, "channels", &vault).await;
        answer["channelId"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut self.vault);
        let (staff, vault) = (STAFF.to_owned(), self.vault.clone());
        self.seat("290000000000000001", Some(&staff)).await;
        self.seat("290000000000000002", Some(&vault)).await;
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let url = format!("{}/_sim/{path}", self.sim_url);
        // A wish that changes nothing is refused, and that is fine.
        match self.http.request(method, url).json(body).send().await {
            Ok(answer) => answer.json().await.unwrap_or(Value::Null),
            Err(_) => Value::Null,
        }
    }

    async fn act(&mut self) {
        if self.blind > 0 {
            self.blind -= 1;
            if self.blind == 0 {
                self.see_again().await;
            }
        }
        match self.luck.random_range(0..1_000) {
            0..=699 => self.move_somebody().await,
            700..=819 => self.mark_somebody().await,
            820..=859 => self.move_a_mole().await,
            860..=894 => self.make_room().await,
            895..=924 => self.delete_room().await,
            925..=964 => self.rename().await,
            965..=994 => self.hide_or_show().await,
            _ => self.blind_everyone().await,
        }
    }

    fn person(&mut self) -> String {
        (200_000_000_000_000_001 + self.luck.random_range(0..PEOPLE)).to_string()
    }

    fn room(&mut self) -> String {
        let count = self.made.len() + 3;
        match self.luck.random_range(0..count * 3) {
            // Rarely among the staff.
            0 => STAFF.to_owned(),
            at => match at % count {
                0 | 1 => LOUNGE.to_owned(),
                2 => STUDY.to_owned(),
                made => self.made[made - 3].clone(),
            },
        }
    }

    async fn seat(&mut self, user: &str, room: Option<&str>) {
        let body = json!({"guildId": GUILD, "userId": user, "channelId": room});
        self.ask(Method::POST, "voice", &body).await;
        match room {
            Some(room) => self.seats.insert(user.to_owned(), room.to_owned()),
            None => self.seats.remove(user),
        };
    }

    async fn move_somebody(&mut self) {
        let user = self.person();
        let leaves = self.seats.contains_key(&user) && self.luck.random_range(0..4) == 0;
        let room = self.room();
        self.seat(&user, (!leaves).then_some(&room)).await;
    }

    async fn mark_somebody(&mut self) {
        let user = self.person();
        let mark = ["selfMute", "selfDeaf", "selfVideo", "selfStream", "mute"]
            [self.luck.random_range(0..5)];
        let on = self.luck.random_range(0..2) == 0;
        let body = json!({"guildId": GUILD, "userId": user, mark: on});
        self.ask(Method::POST, "voice", &body).await;
    }

    async fn move_a_mole(&mut self) {
        let mole = ["290000000000000001", "290000000000000002"][self.luck.random_range(0..2)];
        let room = [Some(STAFF.to_owned()), Some(self.vault.clone()), None]
            [self.luck.random_range(0..3)]
        .clone();
        self.seat(mole, room.as_deref()).await;
    }

    async fn make_room(&mut self) {
        if self.made.len() >= MADE_MAX {
            return self.delete_room().await;
        }
        self.named += 1;
        let hidden = self.hidden();
        let body = json!({
            "guildId": GUILD, "name": format!("room {}", self.named), "userLimit": self.named % 10,
            "overwrites": overwrites(hidden),
        });
        let answer = self.ask(Method::POST, "channels", &body).await;
        if let Some(id) = answer["channelId"].as_str() {
            self.made.push(id.to_owned());
        }
    }

    fn hidden(&mut self) -> Hidden {
        match self.luck.random_range(0..6) {
            0 => Hidden::FromOthers,
            1 => Hidden::FromAll,
            _ => Hidden::No,
        }
    }

    async fn delete_room(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let gone = self.made.remove(self.luck.random_range(0..self.made.len()));
        self.ask(Method::DELETE, &format!("channels/{gone}"), &json!({}))
            .await;
        self.seats.retain(|_, room| *room != gone);
    }

    async fn rename(&mut self) {
        let room = self.room();
        if room == STAFF {
            return;
        }
        self.named += 1;
        let body = json!({"name": format!("name {}", self.named), "userLimit": self.named % 7});
        self.ask(Method::PATCH, &format!("channels/{room}"), &body)
            .await;
    }

    async fn hide_or_show(&mut self) {
        let room = self.room();
        if room == STAFF {
            return;
        }
        let hidden = self.hidden();
        let body = json!({"overwrites": overwrites(hidden)});
        self.ask(Method::PATCH, &format!("channels/{room}"), &body)
            .await;
    }

    async fn blind_everyone(&mut self) {
        self.permit(self.everyone & !VIEW).await;
        self.blind = self.luck.random_range(1..20);
    }

    async fn see_again(&mut self) {
        self.blind = 0;
        self.permit(self.everyone).await;
    }

    async fn permit(&self, bits: u64) {
        let body = json!({"guildId": GUILD, "roleId": GUILD, "permissions": bits.to_string()});
        self.ask(Method::POST, "roles", &body).await;
    }
}

/// Whether a room is hidden, and from which viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hidden {
    No,
    /// From @everyone, but not from the bot.
    FromOthers,
    /// From the bot too, to which it comes obfuscated.
    FromAll,
}

fn overwrites(hidden: Hidden) -> Value {
    let deny = if hidden == Hidden::No { 0 } else { VIEW };
    let everyone = json!({"id": GUILD, "type": "role", "allow": "0", "deny": deny.to_string()});
    let allow = (VIEW | CONNECT).to_string();
    let bot = json!({"id": BOT_ROLE, "type": "role", "allow": allow, "deny": "0"});
    match hidden {
        Hidden::FromOthers => json!([everyone, bot]),
        Hidden::No | Hidden::FromAll => json!([everyone]),
    }
}
