//! Rooms over a restart of the hub, and over a store that cannot be written.

use std::path::{Path, PathBuf};

use hub::access::Access;
use hub::auth::{Principal, Rights, Subject};
use hub::commands::Command;
use hub::rooms::Rooms;
use hub::view::RoomsShown;
use proto::problem::Code;
use proto::rest::CreateRoom;
use proto::{ChannelId, GuildId};
use roomlog::address::StoreAddress;
use roomlog::rooms::RoomStatus;
use roomlog::{GuildState, Log, LogSettings};
use serde_json::json;

use crate::worker::Worker;
use crate::world::{GUILD, World};

/// One life of a hub over a store.
struct Life {
    log: Log,
    rooms: Rooms,
}

impl Life {
    fn begin(world: &World, file: &Path) -> Self {
        let settings = LogSettings {
            store: StoreAddress::File(file.to_owned()),
            ..LogSettings::default()
        };
        let access = Access::new(guild(), &[], RoomsShown::Owned);
        let log = Log::open(access.guilds(), "test", &settings).unwrap();
        let rooms = Rooms::new(log.clone(), access, world.discord.clone());
        Self { log, rooms }
    }

    async fn create(&self) -> ChannelId {
        let made = self.rooms.create(&ada(), &CreateRoom::default()).await;
        made.unwrap().channel_id
    }

    /// The rooms that are published as Roomwire's own.
    fn owned(&self) -> Vec<ChannelId> {
        let owned = |state: &GuildState, _| state.owned.iter().copied().collect();
        self.log.read(guild(), owned).unwrap()
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
async fn what_is_reported_of_a_room_is_in_the_ledger_after_a_restart() {
    let (world, directory) = (World::new().await, Directory::new("reported"));
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
    let deleted = json!({"guildId": GUILD, "channelId": gone});
    worker.deliver("room.deleted", deleted).await.unwrap();
    let left = [(there, false), (late, true)];
    for again in ["once.db", "twice.db"] {
        let life = Life::begin(&world, &directory.killed(again));
        assert_eq!(life.listed(), left);
        assert_eq!(life.owned(), [there, late]);
    }
    // A snapshot lacks a room that was created before it: the room is missing.
    worker
        .deliver("guild.snapshot", whole(&[there]))
        .await
        .unwrap();
    life.log.close().await;
    drop(life);
    let life = Life::begin(&world, &file);
    assert_eq!(life.listed(), [(there, false)]);
    assert_eq!(life.owned(), [there]);
    // It is reported after all.
    let worker = Worker::claim(&life.log, &[guild()]).await;
    worker.deliver("room.created", room(late)).await.unwrap();
    assert_eq!(life.listed(), [(there, false), (late, false)]);
}

#[tokio::test]
async fn a_room_that_cannot_be_stored_is_not_created_or_is_deleted_again() {
    let (world, directory) = (World::new().await, Directory::new("unstored"));
    let life = Life::begin(&world, &directory.file());
    let worker = Worker::claim(&life.log, &[guild()]).await;
    worker.deliver("guild.snapshot", whole(&[])).await.unwrap();
    let other = rusqlite::Connection::open(directory.file()).unwrap();
    let request = CreateRoom::default();
    let create = async || {
        let created = life.rooms.create(&ada(), &request).await;
        created.map_err(|error| error.code)
    };
    let channels = async || world.state().await["guilds"][GUILD]["channels"].clone();
    let before = channels().await;
    let route = "POST /guilds/*/channels";
    // The pending create cannot be stored: Discord is not asked. Then it is known that nothing can be.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..2 {
        assert_eq!(create().await, Err(Code::Unavailable));
    }
    assert_eq!(world.asked(route).await, 0);
    other.execute_batch("ROLLBACK").unwrap();
    let another = room(ChannelId::new(77).unwrap());
    worker.deliver("room.created", another).await.unwrap();
    // The room cannot be stored when Discord answers: its channel is deleted again.
    world.script(route, json!({"delayMs": 500})).await;
    let block = async {
        world
            .until("Discord is asked", async || world.asked(route).await == 1)
            .await;
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
    };
    let (created, ()) = tokio::join!(create(), block);
    assert_eq!(created, Err(Code::Unavailable));
    assert_eq!(channels().await, before, "deleted again");
    assert_eq!(life.listed(), []);
    other.execute_batch("ROLLBACK").unwrap();
    let another = room(ChannelId::new(78).unwrap());
    worker.deliver("room.created", another).await.unwrap();
    let created = life.create().await;
    assert_eq!(life.listed(), [(created, true)]);
    world
        .until(
            "the create that failed is not pending any more",
            async || life.log.ledger().pending().count() == 0,
        )
        .await;
}

#[tokio::test]
async fn a_room_that_ended_while_nothing_can_be_stored_is_gone_and_discord_is_asked_once() {
    let (world, directory) = (World::new().await, Directory::new("ended"));
    let life = Life::begin(&world, &directory.file());
    let worker = Worker::claim(&life.log, &[guild()]).await;
    worker.deliver("guild.snapshot", whole(&[])).await.unwrap();
    let created = life.create().await;
    assert_eq!(life.listed(), [(created, true)]);
    let other = rusqlite::Connection::open(directory.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..3 {
        life.rooms.end(&ada(), created).await.unwrap();
        assert_eq!(life.listed(), []);
    }
    assert_eq!(world.asked("DELETE /channels/*").await, 1);
    other.execute_batch("ROLLBACK").unwrap();
    world
        .until("the end is stored", async || {
            let room = life.log.room(created).unwrap();
            room.status == RoomStatus::Ended
        })
        .await;
}

#[tokio::test]
async fn a_create_that_was_pending_at_a_kill_is_dropped_at_the_start() {
    let (world, directory) = (World::new().await, Directory::new("pending"));
    let life = Life::begin(&world, &directory.file());
    let route = "POST /guilds/*/channels";
    world.script(route, json!({"delayMs": 500})).await;
    let killed = async {
        world
            .until("Discord is asked", async || world.asked(route).await == 1)
            .await;
        assert_eq!(life.log.ledger().pending().count(), 1);
        directory.killed("again.db")
    };
    let (created, file) = tokio::join!(life.create(), killed);
    let again = Life::begin(&world, &file);
    assert_eq!(again.log.ledger().pending().count(), 0);
    assert_eq!(again.listed(), []);
    let ended = again.rooms.end(&ada(), created).await;
    assert_eq!(
        ended.map_err(|error| error.code),
        Err(Code::NotFound),
        "its channel is not Roomwire's own"
    );
}

#[tokio::test]
async fn an_interaction_that_is_repeated_after_a_kill_creates_no_second_room() {
    let (world, directory) = (World::new().await, Directory::new("repeated"));
    let life = Life::begin(&world, &directory.file());
    let (name, limit) = (Some("a".to_owned()), None);
    let command = Command::Create { name, limit };
    let run = async |life: &Life| {
        let command = command.clone();
        command.run(&life.rooms, &ada(), guild(), 7).await
    };
    assert!(run(&life).await.starts_with("**a** is open"));
    let again = Life::begin(&world, &directory.killed("again.db"));
    assert_eq!(run(&again).await, "Roomwire has answered this already.");
    assert_eq!(world.asked("POST /guilds/*/channels").await, 1);
    assert_eq!(again.listed().len(), 1);
}
