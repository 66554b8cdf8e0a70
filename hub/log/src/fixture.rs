//! What the tests of the log have in common.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use proto::event::{Event, Fact};
use proto::{ChannelId, GuildId};
use serde_json::{Value, json};

use crate::address::StoreAddress;
use crate::ledger::{AskedChannel, KeyedRequest, NewCreate, Owner, RequestKey};
use crate::log_state::LogState;
use crate::{Log, LogSettings};

/// A directory of one test, gone with it.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        static PLACES: AtomicU64 = AtomicU64::new(0);
        let number = PLACES.fetch_add(1, Relaxed);
        let name = format!("roomwire-{name}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _absent = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("hub.db")
    }

    pub(crate) fn settings(&self) -> LogSettings {
        LogSettings {
            store: StoreAddress::File(self.file()),
            ..LogSettings::default()
        }
    }

    /// What a power switch or a kill leaves: the files as they are now.
    pub(crate) fn copy(&self, to: &Self) {
        for suffix in ["", "-wal"] {
            let name = format!("hub.db{suffix}");
            let _gone = fs::remove_file(to.0.join(&name));
            if self.0.join(&name).exists() {
                fs::copy(self.0.join(&name), to.0.join(&name)).unwrap();
            }
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn guild(id: u64) -> GuildId {
    GuildId::new(id).unwrap()
}

pub(crate) fn guilds() -> Vec<GuildId> {
    vec![guild(1), guild(2)]
}

pub(crate) fn channel_id(id: u64) -> ChannelId {
    ChannelId::new(id).unwrap()
}

/// What a log has stored.
pub(crate) fn state(log: &Log) -> LogState {
    let mut state = log.0.published.state.lock().unwrap().clone();
    state.forget_unstored();
    state
}

pub(crate) fn fact(json: Value) -> Fact {
    serde_json::from_value(json).unwrap()
}

pub(crate) fn joined(guild: u64, channel: u64, user: u64) -> Fact {
    fact(
        json!({"event": "voice.joined", "payload": {"guildId": guild.to_string(),
        "channelId": channel.to_string(), "userId": user.to_string(),
        "member": {"displayName": "Zoë", "avatarUrl": "https://cdn/x"}}}),
    )
}

pub(crate) fn snapshot(guild: u64, rooms: &[u64]) -> Fact {
    let rooms: Vec<_> = rooms
        .iter()
        .map(|id| json!({"guildId": guild.to_string(), "channelId": id.to_string(), "name": "r"}))
        .collect();
    fact(
        json!({"event": "guild.snapshot", "payload": {"guildId": guild.to_string(),
        "rooms": rooms, "voices": [], "reason": "worker_started"}}),
    )
}

/// An event by hand.
pub(crate) fn by_hand(id: &str, fact: Fact) -> Event {
    Event {
        id: id.to_owned(),
        fact,
        ts: 1,
        at: None,
    }
}

/// A create by an owner; with a key, for a request of this body.
pub(crate) fn create(in_guild: u64, owner: &str, request: Option<(&str, u8)>) -> NewCreate {
    let owner = Owner::new(owner);
    let request = request.map(|(key, body)| KeyedRequest {
        key: RequestKey::new(owner.clone(), key).unwrap(),
        body: [body; 32],
    });
    NewCreate {
        guild_id: guild(in_guild),
        owner,
        asked: AskedChannel {
            name: "r".to_owned(),
            parent_id: None,
            user_limit: 0,
        },
        request,
    }
}
