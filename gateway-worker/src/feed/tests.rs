mod gaps;
mod refusals;
mod taking_over;

use std::collections::BTreeSet;

use proto::chain::{Checkpoint, Claimed, KnownGuild, Mark};
use proto::delivery::{Receipt, RefusedEvent};
use proto::event::Event;
use proto::problem::Code;
use serde_json::json;

use super::*;
use crate::dispatch;

const LIMITS: Limits = Limits {
    events_max: 1_000,
    bytes_max: 1_000_000,
    batch_events_max: 100,
    batch_bytes_max: 100_000,
    group_events_max: 1_000,
    delivery_bytes_max: 500_000,
};

const BEHIND_MAX_MS: u64 = 4_000;

fn guild(id: u64) -> GuildId {
    GuildId::new(id).unwrap()
}

struct Shard {
    feed: Feed,
    session: u32,
    sequence: u64,
}

impl Shard {
    fn new(guilds: &[u64], limits: Limits) -> Self {
        let setting = FeedSetting {
            shard: (0, 1),
            guilds: guilds.iter().map(|id| guild(*id)).collect(),
            roster: RosterSetting {
                cdn: "https://cdn".into(),
                tombstones_max: 10,
            },
            outbox: limits,
            gaps_max: 3,
            behind_max_ms: BEHIND_MAX_MS,
            fingerprint: "f".to_owned(),
        };
        let mut feed = Feed::new(setting);
        feed.claim(memory(10), 1);
        Self {
            feed,
            session: 0,
            sequence: 0,
        }
    }

    /// With these guilds live, and their snapshots taken by the hub.
    fn live(guilds: &[u64]) -> Self {
        let mut shard = Self::new(guilds, LIMITS);
        shard.identify(guilds);
        for id in guilds {
            shard.guild_create(*id);
        }
        shard.deliver(&[]);
        assert_eq!(shard.state(guilds[0]), None);
        shard
    }

    fn receive(&mut self, name: &str, data: &serde_json::Value) -> Tally {
        self.sequence += 1;
        let read = dispatch::read(name, &data.to_string());
        let session = format!("s{}", self.session);
        self.feed.receive(&session, self.sequence, read, 1)
    }

    fn identify(&mut self, listed: &[u64]) {
        self.session += 1;
        self.sequence = 0;
        let guilds: Vec<_> = listed
            .iter()
            .map(|id| json!({"id": id.to_string()}))
            .collect();
        self.receive("READY", &json!({"guilds": guilds}));
    }

    fn guild_create(&mut self, id: u64) {
        let id = id.to_string();
        let state = json!({
            "id": id, "roles": [{"id": id, "permissions": "1024"}], "voice_states": [],
            "channels": [{"id": format!("1{id}"), "type": 2, "name": "Lounge", "permission_overwrites": []}],
        });
        self.receive("GUILD_CREATE", &state);
    }

    fn join(&mut self, of: u64, user: u64) -> Tally {
        let state = json!({
            "guild_id": of.to_string(), "channel_id": format!("1{of}"), "user_id": user.to_string(),
            "deaf": false, "mute": false, "self_deaf": false, "self_mute": false,
            "self_video": false, "suppress": false,
        });
        self.receive("VOICE_STATE_UPDATE", &state)
    }

    /// What goes to the hub, which refuses events of these guilds.
    fn deliver(&mut self, refused: &[u64]) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(batch) = self.feed.next_batch(false, 1) {
            sent.extend(batch.events.iter().map(name));
            let refused = batch
                .events
                .iter()
                .filter(|event| refused.contains(&event.fact.guild_id().get()))
                .map(|event| RefusedEvent {
                    id: event.id.clone(),
                    code: Code::Forbidden,
                })
                .collect();
            let receipt = Receipt { refused, ..taken() };
            self.feed.delivered(&batch, &receipt, 1);
        }
        sent
    }

    fn state(&self, of: u64) -> Option<(GatewayState, String)> {
        let report = self.feed.health(1).gateway;
        let own = report.guilds.get(&guild(of))?;
        Some((own.state, own.reason.clone().unwrap()))
    }
}

fn catching_up() -> Option<(GatewayState, String)> {
    Some((GatewayState::Rebuilding, "catching_up".to_owned()))
}

fn taken() -> Receipt {
    Receipt {
        accepted: 0,
        duplicates: 0,
        refused: Vec::new(),
        duplicate: false,
        wanted: Vec::new(),
    }
}

/// What a hub that knows nothing answers to a claim.
fn memory(generation: u64) -> Claimed {
    Claimed {
        generation,
        checkpoint: None,
        last_session: 0,
        identifies: 0,
        guilds: Vec::new(),
        unserved: Vec::new(),
    }
}

fn name(event: &Event) -> String {
    let of = event.fact.guild_id();
    match &event.fact {
        Fact::Snapshot(state) => format!("{of} {} {}", state.reason, state.voices.len()),
        Fact::VoiceJoined(_) => format!("{of} joined"),
        Fact::VoiceLeft(_) => format!("{of} left"),
        Fact::RoomDeleted(_) => format!("{of} deleted"),
        other => format!("{of} {other:?}"),
    }
}

#[test]
fn a_guild_begins_with_one_snapshot_and_goes_on_with_events() {
    let mut shard = Shard::new(&[1, 2], LIMITS);
    shard.identify(&[1, 2]);
    assert_eq!(
        shard.state(1),
        Some((GatewayState::Rebuilding, "guild_awaited".to_owned()))
    );
    shard.guild_create(1);
    assert_eq!(shard.state(1), catching_up());
    shard.join(1, 5);
    assert_eq!(shard.deliver(&[]), ["1 worker_started 0", "1 joined"]);
    assert_eq!(shard.state(1), None);
    assert!(shard.feed.next_batch(false, 1).is_none());
    let beat = shard.feed.next_batch(true, 1).unwrap();
    assert!(beat.events.is_empty());
    let link = beat.report.link;
    assert_eq!((link.from, link.to), ((10, 3).into(), (10, 3).into()));
    assert_eq!(link.session.unwrap().id, "s1");
}

#[test]
fn a_guild_that_is_not_followed_is_counted_and_dropped() {
    let mut shard = Shard::live(&[1]);
    assert!(shard.join(7, 5).foreign);
    assert!(shard.deliver(&[]).is_empty());
}

#[test]
fn a_guild_that_ready_no_longer_lists_is_emptied() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    shard.identify(&[2]);
    assert_eq!(shard.deliver(&[]), ["1 joined", "1 left", "1 deleted"]);
    assert_eq!(
        shard.state(1),
        Some((GatewayState::Down, "removed".to_owned()))
    );
    // An unknown guild is published as empty, because the hub may remember it.
    let mut shard = Shard::new(&[1], LIMITS);
    shard.identify(&[]);
    assert_eq!(shard.deliver(&[]), ["1 guild_removed 0"]);
}

#[test]
fn an_outage_empties_nothing() {
    let mut shard = Shard::live(&[1]);
    shard.join(1, 5);
    shard.receive("GUILD_DELETE", &json!({"id": "1", "unavailable": true}));
    assert_eq!(shard.deliver(&[]), ["1 joined"]);
    assert_eq!(
        shard.state(1),
        Some((GatewayState::Down, "outage".to_owned()))
    );
    shard.guild_create(1);
    assert_eq!(shard.deliver(&[]), ["1 left"]);
    assert_eq!(shard.state(1), None);
}

#[test]
fn a_backlog_is_reported_as_catching_up_until_the_delivery_that_empties_it() {
    let small = Limits {
        batch_events_max: 2,
        ..LIMITS
    };
    let mut shard = Shard::new(&[1], small);
    shard.identify(&[1]);
    shard.guild_create(1);
    shard.deliver(&[]);
    for user in 1..=6 {
        shard.join(1, user);
    }
    let state = |feed: &Feed, batch: &Batch, now| {
        assert!(feed.is_current(batch, now));
        let gateway = &batch.report.gateway;
        (gateway.state, gateway.reason.clone())
    };
    let live = (GatewayState::Live, None);
    let late = (GatewayState::Rebuilding, Some("catching_up".to_owned()));
    // A burst is not a backlog, but becomes one when it is not taken.
    let first = shard.feed.next_batch(false, 1 + BEHIND_MAX_MS).unwrap();
    assert_eq!(state(&shard.feed, &first, 1 + BEHIND_MAX_MS), live);
    let now = 2 + BEHIND_MAX_MS;
    assert!(!shard.feed.is_current(&first, now));
    let again = shard.feed.next_batch(false, now).unwrap();
    assert_eq!(again.events, first.events);
    assert_eq!(state(&shard.feed, &again, now), late);
    shard.feed.delivered(&again, &taken(), now);
    let second = shard.feed.next_batch(false, now).unwrap();
    assert_eq!(state(&shard.feed, &second, now), late);
    assert!(shard.feed.is_live());
    shard.feed.delivered(&second, &taken(), now);
    // Nothing is behind the last, so with it the hub knows all.
    let last = shard.feed.next_batch(false, now).unwrap();
    assert_eq!(
        (last.events.len(), state(&shard.feed, &last, now)),
        (2, live)
    );
    shard.feed.delivered(&last, &taken(), now);
    assert!(shard.feed.next_batch(false, now).is_none());
}

#[test]
fn a_guild_that_owes_a_snapshot_is_reported_as_catching_up() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    assert_eq!(shard.feed.next_batch(false, 1).unwrap().events.len(), 1);
    // Its payment is queued behind what is in flight.
    let mark = shard.feed.guilds[&guild(1)].mark();
    shard.feed.outbox.owe(guild(1), "test", mark);
    let flying = shard.feed.next_batch(false, 1).unwrap();
    let reported = &flying.report.gateway.guilds[&guild(1)];
    assert_eq!(
        (
            reported.state,
            reported.reason.as_deref(),
            flying.report.gateway.state
        ),
        (
            GatewayState::Rebuilding,
            Some("catching_up"),
            GatewayState::Live
        )
    );
    assert_eq!(flying.report.link.to, flying.report.link.from);
    assert_eq!(shard.state(2), None);
    shard.feed.delivered(&flying, &taken(), 1);
    // The delivery that brings it reports the guild as live.
    let paid = shard.feed.next_batch(false, 1).unwrap();
    assert_eq!(paid.events.len(), 1);
    assert!(paid.report.gateway.guilds.is_empty());
    assert_eq!(paid.report.link.to, shard.feed.stream.reached());
}
