//! The simulator's first guild: people join, talk, move and leave; channels are made, renamed, hidden,
//! shown and deleted; @everyone loses and regains the permission to view them.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};
use world::{BOT_ROLE, GUILD, LOUNGE, STAFF, STUDY, Simulator};

use super::{Script, ask};

/// Users who are only ever in hidden rooms.
const MOLES: [&str; 2] = ["290000000000000001", "290000000000000002"];
/// People who go everywhere.
const PEOPLE: u64 = 10;
/// Rooms besides the usual ones at most.
const MADE_MAX: usize = 6;
/// `VIEW_CHANNEL`.
const VIEW: u64 = 1 << 10;
/// `CONNECT`.
const CONNECT: u64 = 1 << 20;

/// The script of the simulator's first guild.
pub struct FirstGuild {
    discord: Simulator,
    rng: StdRng,
    /// Where people sit, by the requests so far.
    seats: BTreeMap<String, String>,
    /// Rooms that were made, hidden ones among them.
    made: Vec<String>,
    /// A hidden room that stays hidden.
    vault: String,
    /// The permissions of @everyone.
    everyone: u64,
    /// For how many more acts @everyone sees nothing; 0: they see.
    blind: u32,
    /// Whether the role of @everyone stays as it is.
    role_kept: bool,
    named: u64,
}

impl Script for FirstGuild {
    async fn act(&mut self) {
        if self.blind > 0 {
            self.blind -= 1;
            if self.blind == 0 {
                self.see_again().await;
            }
        }
        match self.rng.random_range(0..1_000) {
            0..=699 => self.move_somebody().await,
            700..=819 => self.mark_somebody().await,
            820..=859 => self.move_a_mole().await,
            860..=894 => self.make_room().await,
            895..=924 => self.delete_room().await,
            925..=964 => self.rename().await,
            965..=994 => self.hide_or_show().await,
            _ if self.role_kept => self.move_somebody().await,
            _ => self.blind_everyone().await,
        }
    }

    async fn settle(&mut self) {
        if self.blind > 0 {
            self.see_again().await;
        }
    }
}

impl FirstGuild {
    /// A script by this seed, after its preparation: a second hidden room, and in each hidden room
    /// a user who is never seen elsewhere.
    pub async fn new(discord: Simulator, seed: u64) -> Self {
        let state = discord.state().await;
        let everyone = state["guilds"][GUILD]["roles"][GUILD]["permissions"]
            .as_str()
            .and_then(|bits| bits.parse().ok())
            .unwrap_or(VIEW);
        let hidden = overwrites(Hidden::FromOthers);
        let body = json!({"guildId": GUILD, "name": "vault", "overwrites": hidden});
        let vault = discord.create_channel(body).await;
        let mut script = Self {
            discord,
            rng: StdRng::seed_from_u64(seed),
            seats: BTreeMap::new(),
            made: Vec::new(),
            vault: vault.clone(),
            everyone,
            blind: 0,
            role_kept: false,
            named: 0,
        };
        script.seat(MOLES[0], Some(STAFF)).await;
        script.seat(MOLES[1], Some(&vault)).await;
        script
    }

    /// Leaves the role of @everyone as it is from now on.
    pub fn keep_role(&mut self) {
        self.role_kept = true;
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        ask(&self.discord, method, path, body).await
    }

    fn person(&mut self) -> String {
        (200_000_000_000_000_001 + self.rng.random_range(0..PEOPLE)).to_string()
    }

    fn room(&mut self) -> String {
        let count = self.made.len() + 3;
        match self.rng.random_range(0..count * 3) {
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
        let leaves = self.seats.contains_key(&user) && self.rng.random_range(0..4) == 0;
        let room = self.room();
        self.seat(&user, (!leaves).then_some(&room)).await;
    }

    async fn mark_somebody(&mut self) {
        let user = self.person();
        let mark = ["selfMute", "selfDeaf", "selfVideo", "selfStream", "mute"]
            [self.rng.random_range(0..5)];
        let on = self.rng.random_range(0..2) == 0;
        let body = json!({"guildId": GUILD, "userId": user, mark: on});
        self.ask(Method::POST, "voice", &body).await;
    }

    async fn move_a_mole(&mut self) {
        let mole = MOLES[self.rng.random_range(0..2)];
        let room = [Some(STAFF.to_owned()), Some(self.vault.clone()), None]
            [self.rng.random_range(0..3)]
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
        match self.rng.random_range(0..6) {
            0 => Hidden::FromOthers,
            1 => Hidden::FromAll,
            _ => Hidden::No,
        }
    }

    async fn delete_room(&mut self) {
        if self.made.is_empty() {
            return;
        }
        let gone = self.made.remove(self.rng.random_range(0..self.made.len()));
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
        self.blind = self.rng.random_range(1..20);
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
