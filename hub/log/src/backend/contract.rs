//! What every backend promises, as one suite over all of them. A third backend joins [`backends`].

use std::fs;
use std::path::PathBuf;

use proto::GuildId;
use proto::event::Event;
use serde_json::json;

use crate::address::StoreAddress;
use crate::command::Command;
use crate::log::{Log, Unavailable};
use crate::log_state::LogState;
use crate::settings::LogSettings;

/// A backend under test.
struct Backend {
    settings: LogSettings,
    /// Whether it gives back what it stored.
    is_durable: bool,
    directory: PathBuf,
}

/// Every backend, with nothing stored.
fn backends(test: &str) -> Vec<Backend> {
    let directory = std::env::temp_dir().join(format!("roomlog-{test}-{}", std::process::id()));
    let _absent = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let file = StoreAddress::File(directory.join("hub.db"));
    let backend = |(store, is_durable)| Backend {
        settings: LogSettings {
            store,
            ..LogSettings::default()
        },
        is_durable,
        directory: directory.clone(),
    };
    [(StoreAddress::Memory, false), (file, true)]
        .map(backend)
        .into()
}

impl Backend {
    fn open(&self) -> Log {
        Log::open(&[guild()], "contract", &self.settings).unwrap()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

fn guild() -> GuildId {
    GuildId::new(1).unwrap()
}

fn joined(id: &str, channel: u64) -> Event {
    let fact = json!({"event": "voice.joined", "payload": {"guildId": "1",
        "channelId": channel.to_string(), "userId": "5",
        "member": {"displayName": "Zoë", "avatarUrl": "https://cdn/x"}}});
    Event {
        id: id.to_owned(),
        fact: serde_json::from_value(fact).unwrap(),
        ts: 1,
        at: None,
    }
}

fn stored(log: &Log) -> LogState {
    let mut state = log.0.published.state.lock().unwrap().clone();
    state.forget_unstored();
    state
}

#[tokio::test]
async fn an_appended_entry_is_read_and_followed_once_and_in_its_order() {
    for backend in backends("append") {
        let log = backend.open();
        let mut following = log.follow(guild()).unwrap();
        let events = vec![joined("a", 11), joined("b", 12)];
        assert_eq!(log.append(events).await.unwrap().accepted, 2);
        let (mut state, mut offset) = (following.state.clone(), following.position.offset);
        while let Ok(applied) = following.entries.try_recv() {
            offset += 1;
            assert_eq!(applied.entry.position.offset, offset);
            assert_eq!(applied.before, state);
            state.apply(&applied.entry.change);
            assert_eq!(applied.after, state);
        }
        let read = log.read(guild(), |state, position| (state.clone(), position.offset));
        assert_eq!(read, Some((state, offset)));
        log.close().await;
    }
}

#[tokio::test]
async fn a_repeated_event_and_a_command_that_panics_add_nothing() {
    for backend in backends("nothing") {
        let log = backend.open();
        log.append(vec![joined("a", 11)]).await.unwrap();
        let before = stored(&log);
        let repeated = log.append(vec![joined("a", 12)]).await.unwrap();
        assert_eq!((repeated.accepted, repeated.duplicates), (0, 1));
        assert_eq!(log.execute(Command::Panic).await, Err(Unavailable));
        assert_eq!(stored(&log), before);
        log.append(vec![joined("b", 12)]).await.unwrap();
        log.close().await;
    }
}

#[tokio::test]
async fn a_closed_log_takes_nothing_and_a_durable_one_gives_all_of_it_back() {
    for backend in backends("again") {
        let log = backend.open();
        log.append(vec![joined("a", 11), joined("b", 12)])
            .await
            .unwrap();
        let before = stored(&log);
        let tail = log.follow(guild()).unwrap().tail.len();
        log.close().await;
        assert_eq!(log.append(vec![joined("c", 11)]).await, Err(Unavailable));
        let again = backend.open();
        assert_eq!(stored(&again) == before, backend.is_durable);
        let kept = again.follow(guild()).unwrap().tail.len();
        assert_eq!(kept, if backend.is_durable { tail } else { 0 });
        again.close().await;
    }
}
