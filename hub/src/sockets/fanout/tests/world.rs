//! The world of the fan-out's tests: a log with a worker, and browsers that keep what they receive.

use std::collections::BTreeSet;

use proto::ChannelId;
use proto::chain::{CLAIM_TYPE, Claim, Link, Mark, Reached};
use proto::event::{Event, Fact, Roster};
use proto::frame::ViewEvent;
use proto::gateway::GatewayState;
use proto::position::PositionKey;
use serde_json::{Value, json};

use super::super::*;
use crate::view::RoomsShown;
use crate::view::tests::{Browser, ROOMS, channel, guild, here, public};
use roomlog::LogSettings;
use roomlog::ledger::{
    AskedChannel, Begun, CreateOutcome, CreateTicket, CreatedChannel, NewCreate, Owner,
};

/// A log and the fan-out that follows it, step by step.
pub(super) struct World {
    pub(super) log: Log,
    pub(super) fanout: Fanout,
    pub(super) following: Following,
    pub(super) link: Link,
    pub(super) events: u64,
    pub(super) connections: ConnectionId,
}

impl World {
    pub(super) async fn new(limits: FanoutLimits) -> Self {
        let settings = LogSettings {
            follow_entries_max: 10_000,
            ..LogSettings::default()
        };
        let log = Log::in_memory(&[guild()], &settings).unwrap();
        let claim = Claim {
            r#type: CLAIM_TYPE.to_owned(),
            shard: (0, 1),
            worker: "worker".to_owned(),
            guilds: vec![guild()],
            memory: true,
        };
        let claimed = log.claim("claim".to_owned(), claim).await.unwrap();
        let (fanout, following) = follow(&log, limits);
        Self {
            log,
            fanout,
            following,
            link: Link {
                shard: (0, 1),
                generation: claimed.generation,
                from: Reached::default(),
                taken: 0,
                to: Reached::default(),
                session: None,
                fingerprint: String::new(),
                resumes: 0,
                lost: 0,
                absent: BTreeMap::new(),
            },
            events: 0,
            connections: 0,
        }
    }

    pub(super) fn slot(&self) -> &GuildSlot {
        self.fanout.0.guilds.get(&guild()).unwrap()
    }

    /// The hub restarts: only its log is the same. The worker has confirmed the state.
    pub(super) fn restart(&mut self) {
        self.restart_unconfirmed();
        self.slot().lock().set_authoritative();
    }

    /// The hub restarts, and the worker has not confirmed the state yet.
    pub(super) fn restart_unconfirmed(&mut self) {
        (self.fanout, self.following) = follow(&self.log, self.fanout.0.limits.clone());
    }

    /// The worker reports on its gateway connection.
    pub(super) fn report(&self, state: GatewayState) {
        let report = proto::delivery::GatewayReport {
            state,
            reason: None,
            guilds: BTreeMap::new(),
        };
        let complete = |_| crate::freshness::Coverage::Complete;
        { &self.fanout.0.freshness }.report((0, 1), &report, complete);
        self.fanout.publish_freshness(guild(), self.slot());
    }

    /// The log gets a change, and the fan-out has not published it.
    pub(super) async fn happen(&mut self, step: Result<Fact, Change>) {
        match step {
            Ok(fact) => self.deliver([fact]).await,
            Err(Change::Fact(_)) => panic!("a fact comes as an event"),
            Err(Change::Owned(channel)) => self.create(channel, false).await,
            Err(Change::OwnedUnderDeny(channel)) => self.create(channel, true).await,
            Err(Change::Disowned(channel)) => self.log.end_room(channel).await.unwrap(),
        }
    }

    /// Roomwire creates a room.
    async fn create(&mut self, channel_id: ChannelId, denies_everyone: bool) {
        self.events += 1;
        let ticket = CreateTicket(self.events);
        let create = NewCreate {
            guild_id: guild(),
            owner: Owner::new(&self.events.to_string()),
            asked: AskedChannel {
                name: "x".to_owned(),
                parent_id: None,
                user_limit: 0,
            },
            request: None,
        };
        let begun = self.log.begin_create(ticket, create).await;
        assert_eq!(begun, Ok(Ok(Begun::Now)));
        let outcome = CreateOutcome::Created(CreatedChannel {
            channel_id,
            name: "x".to_owned(),
            parent_id: None,
            user_limit: 0,
            denies_everyone,
        });
        assert_eq!(self.log.finish_create(ticket, outcome).await, Ok(Ok(())));
    }

    /// The log gets a delivery, and the fan-out has not published it.
    pub(super) async fn deliver(&mut self, facts: impl IntoIterator<Item = Fact>) {
        let event = |fact| {
            self.events += 1;
            let at = Mark {
                reached: Reached {
                    session: 1,
                    sequence: self.events,
                },
                n: 0,
            };
            Event {
                id: self.events.to_string(),
                at: Some(at),
                fact,
                ts: 1_730_000_000_000 + self.events,
            }
        };
        let events: Vec<Event> = facts.into_iter().map(event).collect();
        let sent = events.len() as u64;
        let taken = self.log.deliver(self.link.clone(), events).await.unwrap();
        assert_eq!(taken.accepted, sent);
    }

    /// The fan-out publishes all entries.
    pub(super) fn publish_all(&mut self) {
        while let Ok(applied) = self.following.entries.try_recv() {
            self.fanout.publish(self.slot(), &applied);
        }
    }

    pub(super) async fn publish(&mut self, facts: impl IntoIterator<Item = Fact>) {
        for fact in facts {
            self.happen(Ok(fact)).await;
        }
        self.publish_all();
    }

    pub(super) async fn open(&mut self, view: &View, recover: Option<&str>) -> Client {
        self.connections += 1;
        subscribe(&self.fanout, self.connections, view, recover).await
    }
}

pub(super) async fn subscribe(
    fanout: &Fanout,
    id: ConnectionId,
    view: &View,
    recover: Option<&str>,
) -> Client {
    let outbox = Outbox::new(10_000_000);
    let opening = |recovered, pos: String| {
        let subscribed = json!({"event": "subscribed", "recovered": recovered, "pos": pos});
        Frame::complete(subscribed.to_string())
    };
    let subscribed = fanout.subscribe(id, view, recover, &outbox, opening);
    subscribed.await.unwrap();
    Client { id, outbox }
}

pub(super) fn follow(log: &Log, limits: FanoutLimits) -> (Fanout, Following) {
    let clock = Monotonic::start();
    let freshness = Freshness::new(&[guild()], 6_000, clock);
    let (fanout, mut followed) = Fanout::new(
        log,
        &[guild()],
        freshness,
        Positions::new(PositionKey::derive(b"test")),
        limits,
        clock,
    );
    (fanout, followed.remove(0).1)
}

pub(super) struct Client {
    pub(super) id: ConnectionId,
    pub(super) outbox: Outbox,
}

impl Client {
    /// The frames since the last call.
    pub(super) fn receive(&self) -> Vec<Received> {
        let frames = self.outbox.take_now();
        frames
            .iter()
            .map(|frame| Received::new(&frame.text()))
            .collect()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Received {
    /// The frame without `pos` and `n`.
    pub(super) text: String,
    pub(super) json: Value,
}

impl Received {
    pub(super) fn new(text: &[u8]) -> Self {
        let text = std::str::from_utf8(text).unwrap();
        let json: Value = serde_json::from_str(text).unwrap();
        let mut bare = text.to_owned();
        if let Some(pos) = json["pos"].as_str() {
            bare = bare.replace(pos, "");
        }
        if let Some(n) = json["n"].as_u64() {
            bare = bare
                .strip_suffix(&format!(",\"n\":{n}}}"))
                .unwrap()
                .to_owned();
        }
        Self { text: bare, json }
    }

    pub(super) fn name(&self) -> &str {
        self.json["event"].as_str().unwrap()
    }

    pub(super) fn pos(&self) -> Option<&str> {
        self.json["pos"].as_str()
    }

    pub(super) fn n(&self) -> Option<u64> {
        self.json["n"].as_u64()
    }

    pub(super) fn reason(&self) -> &str {
        self.json["payload"]["reason"].as_str().unwrap_or_default()
    }
}

pub(super) fn last_pos(received: &[Received]) -> String {
    received
        .iter()
        .rev()
        .find_map(Received::pos)
        .unwrap()
        .to_owned()
}

pub(super) fn everyone(only: Option<&[u64]>) -> View {
    let only = only.map(|ids| {
        ids.iter()
            .map(|id| channel(*id))
            .collect::<BTreeSet<ChannelId>>()
    });
    View::new(guild(), Arc::new(RoomsShown::Everyone), only)
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(test);
}

pub(super) fn roster(reason: &str, rooms: &[u64]) -> Fact {
    Fact::Snapshot(Roster {
        guild_id: guild(),
        rooms: rooms.iter().map(|id| public(*id)).collect(),
        voices: Vec::new(),
        reason: reason.to_owned(),
        everyone: proto::event::Everyone::default(),
        tombstones: Vec::new(),
    })
}

/// A member joins the lounge and leaves it, again and again.
pub(super) fn visits(count: usize) -> impl Iterator<Item = Fact> {
    (0..count).map(|index| {
        let voice = here(ROOMS[0]);
        if index.is_multiple_of(2) {
            Fact::VoiceJoined(voice)
        } else {
            Fact::VoiceLeft(voice)
        }
    })
}

/// What a browser keeps of its connections, by the documented meaning of the frames alone.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) pos: Option<String>,
    pub(super) rooms: Browser,
    /// Every numbered frame.
    pub(super) kept: Vec<Received>,
}

impl Reader {
    /// Reads the frames of one connection, from its first on. The last ones may be missing.
    pub(super) fn read(&mut self, frames: Vec<Received>) {
        let mut next_n = None;
        for (index, frame) in frames.into_iter().enumerate() {
            if let Some(pos) = frame.pos() {
                self.pos = Some(pos.to_owned());
            }
            match (index, frame.name()) {
                (0, "subscribed") => {
                    next_n = (frame.json["recovered"] == true).then_some(1);
                }
                (0, other) => panic!("{other} comes first"),
                (1, name) => assert_eq!(
                    name,
                    if next_n.is_some() {
                        "gateway.state"
                    } else {
                        "guild.snapshot"
                    }
                ),
                _ => {}
            }
            let Some(n) = frame.n() else {
                continue;
            };
            let event = serde_json::from_value(serde_json::json!({
                "event": frame.json["event"], "payload": frame.json["payload"],
            }));
            match event.unwrap() {
                ViewEvent::Snapshot(snapshot) => {
                    assert_eq!(n, 0);
                    self.rooms = Browser::of(snapshot.rooms);
                }
                event => {
                    assert_eq!(Some(n), next_n);
                    self.rooms.apply(event);
                }
            }
            next_n = Some(n + 1);
            self.kept.push(frame);
        }
    }

    pub(super) fn texts(&self) -> Vec<&str> {
        self.kept.iter().map(|frame| frame.text.as_str()).collect()
    }

    pub(super) fn snapshots(&self) -> usize {
        let is_snapshot = |frame: &&Received| frame.name() == "guild.snapshot";
        self.kept.iter().filter(is_snapshot).count()
    }
}
