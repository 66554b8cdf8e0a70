//! What a browser makes of its frames, and what it should: by the documented meaning of each
//! frame alone, without a line of the hub's or the SDK's.

use std::collections::{BTreeMap, BTreeSet};

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Browser, DEADLINE, GUILD, World};

/// Rooms by channel id, and who is in each.
pub type Seating = BTreeMap<String, BTreeSet<String>>;

/// The rooms of one guild, as told frame by frame.
#[derive(Debug, Default)]
pub struct Mirror {
    /// Who sits where.
    pub seating: Seating,
    next_n: Option<u64>,
    heard: usize,
}

impl Mirror {
    /// Takes in what a browser heard since the last call.
    pub fn catch_up(&mut self, browser: &Browser) {
        for heard in &browser.heard[self.heard..] {
            self.hear(&serde_json::from_str(heard).expect("frames are JSON"));
        }
        self.heard = browser.heard.len();
    }

    /// Listens until the browser has exactly what everyone may view in the world's guild.
    pub async fn converge(&mut self, world: &World, browser: &mut Browser) {
        let until = Instant::now() + DEADLINE;
        loop {
            browser.settle(Duration::from_millis(30)).await;
            self.catch_up(browser);
            let truth = seen_by_everyone(GUILD, &world.truth().await["guilds"][GUILD]);
            if self.seating == truth {
                return;
            }
            assert!(
                Instant::now() < until,
                "not in time: told {:#?}, true {truth:#?}",
                self.seating
            );
        }
    }

    /// Takes in a frame.
    ///
    /// # Panics
    /// If a numbered frame is missing or doubled, or an event names what was never told of.
    pub fn hear(&mut self, frame: &Value) {
        if let Some(n) = frame["n"].as_u64() {
            let snapshot = frame["event"] == "guild.snapshot";
            assert_eq!(
                n,
                if snapshot {
                    0
                } else {
                    self.next_n.expect("a snapshot comes first")
                },
                "{frame}"
            );
            self.next_n = Some(n + 1);
        }
        let payload = &frame["payload"];
        let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
        let (channel, user) = (text("channelId"), text("userId"));
        match frame["event"].as_str().unwrap_or_default() {
            "guild.snapshot" => {
                let rooms = payload["rooms"].as_array().expect("a list of rooms");
                self.seating = rooms.iter().map(seats).collect();
            }
            "room.created" | "room.updated" => {
                self.seating.entry(channel).or_default();
            }
            "room.deleted" => {
                self.seating
                    .remove(&channel)
                    .expect("a room that was told of");
            }
            "voice.joined" | "voice.state_changed" => {
                for members in self.seating.values_mut() {
                    members.remove(&user);
                }
                self.seating
                    .get_mut(&channel)
                    .expect("a room that was told of")
                    .insert(user);
            }
            "voice.left" => {
                self.seating
                    .get_mut(&channel)
                    .expect("a room that was told of")
                    .remove(&user);
            }
            _ => {}
        }
    }
}

fn seats(room: &Value) -> (String, BTreeSet<String>) {
    let id = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let members = room["members"].as_array().into_iter().flatten();
    (
        id(&room["channelId"]),
        members.map(|member| id(&member["userId"])).collect(),
    )
}

/// Who sits where in the rooms that @everyone may view, by the simulator's truth of one guild and
/// Discord's rules ("Permissions", its documentation).
pub fn seen_by_everyone(guild_id: &str, guild: &Value) -> Seating {
    const VIEW_CHANNEL: u64 = 1 << 10;
    const ADMINISTRATOR: u64 = 1 << 3;
    let bits = |value: &Value| {
        value
            .as_str()
            .and_then(|bits| bits.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let base = bits(&guild["roles"][guild_id]["permissions"]);
    let channels = guild["channels"].as_object().into_iter().flatten();
    channels
        .filter(|(_, channel)| channel["type"] == 2 || channel["type"] == 13)
        .filter(|(_, channel)| {
            let mut allowed = base;
            for overwrite in channel["overwrites"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|one| one["id"] == guild_id)
            {
                allowed = allowed & !bits(&overwrite["deny"]) | bits(&overwrite["allow"]);
            }
            base & ADMINISTRATOR != 0 || allowed & VIEW_CHANNEL != 0
        })
        .map(|(id, channel)| {
            let members = channel["members"].as_object().into_iter().flatten();
            (id.clone(), members.map(|(user, _)| user.clone()).collect())
        })
        .collect()
}
