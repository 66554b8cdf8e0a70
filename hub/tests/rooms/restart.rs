//! Rooms over a restart of the hub, and over a store that cannot be written.

use std::path::{Path, PathBuf};

use hub::access::Access;
use hub::auth::{Principal, Rights, Subject};
use hub::rooms::ledger::{Ledger, LedgerSettings};
use hub::rooms::{Rooms, RoomsSettings};
use hub::view::RoomsShown;
use proto::problem::Code;
use proto::rest::CreateRoom;
use proto::{ChannelId, GuildId};
use roomlog::address::StoreAddress;
use roomlog::{Log, LogSettings};
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::worker::Worker;
use crate::world::{GUILD, World};

/// One life of a hub over a store.
struct Life {
    log: Log,
    rooms: Rooms,
    _stop: DropGuard,
}

impl Life {
    fn begin(world: &World, file: &Path) -> Self {
        let settings = LogSettings {
            store: StoreAddress::File(file.to_owned()),
            ..LogSettings::default()
        };
        let access = Access::new(guild(), &[], RoomsShown::Owned);
        let (log, kept) = Log::open(access.guilds(), "test", &settings).unwrap();
        let rooms = Rooms::new(
            log.clone(),
            access,
            Ledger::restored(LedgerSettings::default(), &kept),
            world.discord.clone(),
            &RoomsSettings::default(),
        );
        let shutdown = CancellationToken::new();
        let (following, stop) = (rooms.clone(), shutdown.clone());
        tokio::spawn(async move { following.heed_log(stop).await });
        Self {
            log,
            rooms,
            _stop: shutdown.drop_guard(),
        }
    }

    async fn create(&self) -> ChannelId {
        let made = self.rooms.create(&ada(), &CreateRoom::default()).await;
        made.unwrap().channel_id
    }

    /// The rooms that are listed, each with whether it is opening.
    fn listed(&self) -> Vec<(ChannelId, bool)> {
        let listed = self.rooms.list(&ada(), guild(), None).unwrap();
        let rooms = listed.rooms.iter();
        rooms
            .map(|room| (room.room.channel_id, room.opening))
            .collect()
    }
}

/// A directory of one test, gone with it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("roomwire-rooms-{name}-{}", std::process::id()));
        let _absent = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("hub.db")
    }

    /// The store as a kill would leave it now.
    fn killed(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        for suffix in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            std::fs::copy(name(&self.file()), name(&path)).unwrap();
        }
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

fn guild() -> GuildId {
    GUILD.parse().unwrap()
}

fn ada() -> Principal {
    Principal {
        subject: Subject::new("ada").unwrap(),
        guilds: Some(vec![guild()]),
        rights: Rights::MEMBER,
        expires_at_ms: u64::MAX,
    }
}

fn room(channel: ChannelId) -> serde_json::Value {
    json!({"guildId": GUILD, "channelId": channel, "name": "x", "userLimit": 4, "audience": "restricted"})
}

fn whole(rooms: &[ChannelId]) -> serde_json::Value {
    let rooms: Vec<_> = rooms.iter().map(|channel| room(*channel)).collect();
    json!({"guildId": GUILD, "rooms": rooms, "voices": [], "reason": "worker_started"})
}

#[tokio::test]
async fn rooms_are_known_after_a_kill_and_can_be_ended() {
    let (world, directory) = (World::new().await, Directory::new("known"));
    let life = Life::begin(&world, &directory.file());
    let worker = Worker::claim(&life.log, &[guild()]).await;
    worker.deliver("guild.snapshot", whole(&[])).await.unwrap();
    let (echoed, opening, ended) = (
        life.create().await,
        life.create().await,
        life.create().await,
    );
    worker.deliver("room.created", room(echoed)).await.unwrap();
    life.rooms.end(&ada(), ended).await.unwrap();
    let before = life.listed();
    assert_eq!(before, [(echoed, false), (opening, true)]);

    let again = Life::begin(&world, &directory.killed("again.db"));
    assert_eq!(again.listed(), before);
    again.rooms.end(&ada(), ended).await.unwrap();
    for channel in [echoed, opening] {
        again.rooms.end(&ada(), channel).await.unwrap();
        assert!(world.channel(&channel.to_string()).await.is_null());
    }
    // A room is listed until its deletion is reported. One that was never reported is not listed.
    assert_eq!(again.listed(), [(echoed, false)]);
}

#[tokio::test]
async fn events_just_before_a_kill_are_processed_after_the_restart() {
    let (world, directory) = (World::new().await, Directory::new("processed"));
    let file = directory.file();
    let life = Life::begin(&world, &file);
    let worker = Worker::claim(&life.log, &[guild()]).await;
    worker.deliver("guild.snapshot", whole(&[])).await.unwrap();
    let (gone, there, late) = (
        life.create().await,
        life.create().await,
        life.create().await,
    );
    for channel in [gone, there] {
        worker.deliver("room.created", room(channel)).await.unwrap();
    }
    life.log.close().await;
    drop(life);
    // The log is open without the rooms, as if the hub had died at once.
    let settings = LogSettings {
        store: StoreAddress::File(file.clone()),
        ..LogSettings::default()
    };
    let (log, _) = Log::open(&[guild()], "test", &settings).unwrap();
    let worker = Worker::claim(&log, &[guild()]).await;
    let deleted = json!({"guildId": GUILD, "channelId": gone});
    worker.deliver("room.deleted", deleted).await.unwrap();
    log.close().await;
    drop(log);

    let life = Life::begin(&world, &file);
    let left = [(there, false), (late, true)];
    world
        .until("the deleted room is missing", async || {
            life.listed() == left
        })
        .await;
    let owned = |log: &Log| {
        log.read(guild(), |state, _| {
            state.owned.iter().copied().collect::<Vec<_>>()
        })
    };
    world
        .until("it is not ours", async || {
            owned(&life.log) == Some(vec![there, late])
        })
        .await;
    life.log.close().await;
    drop(life);
    // A snapshot without a room that was created earlier makes that room missing.
    let (log, _) = Log::open(&[guild()], "test", &settings).unwrap();
    let worker = Worker::claim(&log, &[guild()]).await;
    worker
        .deliver("guild.snapshot", whole(&[there]))
        .await
        .unwrap();
    log.close().await;
    drop(log);
    let life = Life::begin(&world, &file);
    world
        .until("it is missing", async || life.listed() == [(there, false)])
        .await;
    // It comes after all.
    let worker = Worker::claim(&life.log, &[guild()]).await;
    worker.deliver("room.created", room(late)).await.unwrap();
    let both = [(there, false), (late, false)];
    world
        .until("the room is listed", async || life.listed() == both)
        .await;
}

#[tokio::test]
async fn a_room_that_cannot_be_stored_is_not_made_or_is_deleted_again() {
    let (world, directory) = (World::new().await, Directory::new("unstored"));
    let life = Life::begin(&world, &directory.file());
    let worker = Worker::claim(&life.log, &[guild()]).await;
    worker.deliver("guild.snapshot", whole(&[])).await.unwrap();
    let other = rusqlite::Connection::open(directory.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let wish = CreateRoom::default();
    let channels = world.state().await["guilds"][GUILD]["channels"].clone();
    let made = life.rooms.create(&ada(), &wish).await;
    assert_eq!(made.map_err(|refusal| refusal.code), Err(Code::Unavailable));
    let route = "POST /guilds/*/channels";
    assert_eq!(world.asked(route).await, 1);
    assert_eq!(
        world.state().await["guilds"][GUILD]["channels"],
        channels,
        "deleted again"
    );
    assert_eq!(life.listed(), []);
    // Now that it is known that nothing can be stored, Discord is not asked.
    let made = life.rooms.create(&ada(), &wish).await;
    assert_eq!(made.map_err(|refusal| refusal.code), Err(Code::Unavailable));
    assert_eq!(world.asked(route).await, 1);
    other.execute_batch("ROLLBACK").unwrap();
    let another = room(ChannelId::new(77).unwrap());
    worker.deliver("room.created", another).await.unwrap();
    let made = life.create().await;
    assert_eq!(life.listed(), [(made, true)]);
}
