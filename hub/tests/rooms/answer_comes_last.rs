//! Events about a room that arrive before Discord answers the request that created it: the
//! gateway and REST are independent, and neither waits for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::routing::post;
use axum::{Json, Router};
use hub::access::Access;
use hub::auth::{Principal, Rights, Subject};
use hub::discord::{Discord, DiscordSettings};
use hub::rooms::Rooms;
use hub::view::RoomsShown;
use launch::Secret;
use proto::frame::SnapshotRoom;
use proto::rest::CreateRoom;
use proto::{ChannelId, GuildId};
use roomlog::rooms::LedgerBounds;
use roomlog::{Log, LogSettings};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::worker::Worker;

const MADE: u64 = 900;

/// Rooms in a ledger of one place, and a Discord that makes the channel `MADE`, then the next, and
/// answers late.
struct Late {
    rooms: Rooms,
    log: Log,
    worker: Worker,
    asked: Arc<Semaphore>,
    may_answer: Arc<Semaphore>,
}

impl Late {
    async fn new() -> Self {
        Self::answering(json!([])).await
    }

    /// A Discord whose answer has these overwrites.
    async fn answering(overwrites: Value) -> Self {
        let (asked, may_answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let signals = (Arc::clone(&asked), Arc::clone(&may_answer));
        let next = Arc::new(AtomicU64::new(MADE));
        let make = post(move || {
            let (asked, may_answer) = signals.clone();
            let overwrites = overwrites.clone();
            let id = next.fetch_add(1, Ordering::Relaxed).to_string();
            async move {
                asked.add_permits(1);
                may_answer.acquire().await.unwrap().forget();
                Json(json!({"id": id, "name": "x", "permission_overwrites": overwrites}))
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/api/v10/guilds/{guild}/channels", make);
        tokio::spawn(async move { axum::serve(listener, router).await });

        let access = Access::new(guild(), &[], RoomsShown::Owned);
        let settings = LogSettings {
            ledger: LedgerBounds {
                rooms_max: 1,
                past_max: 10,
                ..LedgerBounds::default()
            },
            ..LogSettings::default()
        };
        let log = Log::in_memory(access.guilds(), &settings).unwrap();
        let worker = Worker::claim(&log, access.guilds()).await;
        let discord = DiscordSettings::new(url.parse().unwrap(), Secret::new("x"));
        let rooms = Rooms::new(log.clone(), access, Discord::new(discord).unwrap());
        Self {
            rooms,
            log,
            worker,
            asked,
            may_answer,
        }
    }

    async fn deliver(&self, event: &str, payload: Value) {
        self.worker.deliver(event, payload).await.unwrap();
    }

    async fn deliver_created(&self, channel: u64) {
        self.deliver("room.created", room(channel)).await;
    }

    async fn deliver_deleted(&self, channel: u64) {
        self.deliver(
            "room.deleted",
            json!({"guildId": "1", "channelId": channel.to_string()}),
        )
        .await;
    }

    async fn deliver_snapshot(&self, rooms: &[u64]) {
        let rooms: Vec<_> = rooms.iter().map(|channel| room(*channel)).collect();
        self.deliver(
            "guild.snapshot",
            json!({"guildId": "1", "rooms": rooms, "voices": [], "reason": "worker_started"}),
        )
        .await;
    }

    /// Whether the room is published as Roomwire's own.
    fn is_owned(&self) -> bool {
        let made = ChannelId::new(MADE).unwrap();
        self.log
            .read(guild(), |state, _| state.owned.contains(&made))
            .unwrap()
    }

    /// Creates a room, runs `events` before Discord answers, and lists our rooms afterwards: whether
    /// each is opening, and whether another one may be created.
    async fn made_after(&self, events: impl AsyncFnOnce(&Self)) -> (Vec<bool>, bool) {
        let request = CreateRoom::default();
        let actor = ada();
        let create = self.rooms.create(&actor, &request);
        let answer = async {
            self.asked.acquire().await.unwrap().forget();
            events(self).await;
            self.may_answer.add_permits(2);
        };
        let (made, ()) = tokio::join!(create, answer);
        assert_eq!(made.unwrap().channel_id.get(), MADE);
        let listed = self.rooms.list(&actor, guild(), None).unwrap();
        let opening = listed.rooms.iter().map(|room| room.opening).collect();
        (opening, self.rooms.create(&actor, &request).await.is_ok())
    }
}

fn guild() -> GuildId {
    GuildId::new(1).unwrap()
}

fn room(channel: u64) -> Value {
    json!({"guildId": "1", "channelId": channel.to_string(), "name": "x", "userLimit": 4})
}

fn ada() -> Principal {
    Principal {
        subject: Subject::new("ada").unwrap(),
        guilds: None,
        rights: Rights::MEMBER,
        expires_at_ms: u64::MAX,
    }
}

#[tokio::test]
async fn a_room_that_was_deleted_before_discord_answered_is_not_listed_and_keeps_no_place() {
    let late = Late::new().await;
    let events = async |late: &Late| {
        late.deliver_created(MADE).await;
        late.deliver_deleted(MADE).await;
    };
    assert_eq!(late.made_after(events).await, (vec![], true));
    assert!(!late.is_owned());
}

#[tokio::test]
async fn a_room_that_came_and_went_between_two_snapshots_is_not_listed_and_keeps_no_place() {
    let late = Late::new().await;
    late.deliver_snapshot(&[]).await;
    let events = async |late: &Late| late.deliver_snapshot(&[]).await;
    assert_eq!(late.made_after(events).await, (vec![], true));
    // A snapshot that was older than the room is no reason to hide a room that appears later.
    late.deliver_created(MADE).await;
    let listed = late.rooms.list(&ada(), guild(), None).unwrap();
    let shown = |room: &&SnapshotRoom| room.room.channel_id.get() == MADE && !room.opening;
    assert_eq!(listed.rooms.iter().filter(shown).count(), 1);
}

#[tokio::test]
async fn a_room_whose_creation_was_reported_before_discord_answered_is_not_opening() {
    let late = Late::new().await;
    let created = async |late: &Late| late.deliver_created(MADE).await;
    assert_eq!(late.made_after(created).await, (vec![false], false));
    let late = Late::new().await;
    let whole = async |late: &Late| late.deliver_snapshot(&[MADE]).await;
    assert_eq!(late.made_after(whole).await, (vec![false], false));
}

#[tokio::test]
async fn a_room_is_opening_although_another_was_deleted_before_discord_answered() {
    let late = Late::new().await;
    assert_eq!(late.made_after(async |_| {}).await, (vec![true], false));
}

#[tokio::test]
async fn a_deny_that_was_added_before_discord_answered_hides_the_room_and_an_inherited_one_does_not()
 {
    let deny = || json!([{"id": "1", "type": 0, "allow": "0", "deny": "1024"}]);
    let nothing = || json!([]);
    // Discord's answer, the events before it, and whether the room is listed afterwards.
    for (answered, reported, listed) in [
        (nothing(), &["none", "deny"][..], false),
        (nothing(), &["deny"], false),
        (deny(), &["deny"], true),
        (deny(), &["deny", "none"], true),
        (deny(), &["deny", "none", "deny"], false),
    ] {
        let late = Late::answering(answered.clone()).await;
        let events = async |late: &Late| {
            for overwrite in reported {
                late.deliver("room.updated", overwritten(overwrite)).await;
            }
        };
        let (opening, _) = late.made_after(events).await;
        let expected = if listed { vec![false] } else { vec![] };
        assert_eq!(opening, expected, "{answered} {reported:?}");
    }
}

#[tokio::test]
async fn a_room_whose_inherited_deny_was_removed_is_hidden_by_the_next_one_also_after_it_was_missing()
 {
    for removed_before_the_answer in [true, false] {
        let deny = json!([{"id": "1", "type": 0, "allow": "0", "deny": "1024"}]);
        let late = Late::answering(deny).await;
        let events = async |late: &Late| {
            late.deliver("room.updated", overwritten("deny")).await;
            if removed_before_the_answer {
                late.deliver("room.updated", overwritten("none")).await;
            }
        };
        let (opening, _) = late.made_after(events).await;
        assert_eq!(opening, [false]);
        late.deliver("room.updated", overwritten("none")).await;
        late.deliver_deleted(MADE).await;
        assert!(!late.is_owned());
        late.deliver("room.created", overwritten("deny")).await;
        assert!(late.is_owned());
        let listed = late.rooms.list(&ada(), guild(), None).unwrap();
        assert!(listed.rooms.is_empty(), "{removed_before_the_answer}");
    }
}

/// The room with this overwrite of @everyone, in a guild whose role lets them see it.
fn overwritten(overwrite: &str) -> Value {
    let mut room = room(MADE);
    room["overwrite"] = json!(overwrite);
    room["audience"] = json!(if overwrite == "deny" {
        "restricted"
    } else {
        "everyone"
    });
    room
}
