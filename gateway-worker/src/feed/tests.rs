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

    /// With these guilds live and told to the hub.
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

    fn hear(&mut self, name: &str, data: &serde_json::Value) -> Tally {
        self.sequence += 1;
        let read = dispatch::read(name, &data.to_string());
        let session = format!("s{}", self.session);
        self.feed.read(&session, self.sequence, read, 1)
    }

    fn identify(&mut self, listed: &[u64]) {
        self.session += 1;
        self.sequence = 0;
        let guilds: Vec<_> = listed
            .iter()
            .map(|id| json!({"id": id.to_string()}))
            .collect();
        self.hear("READY", &json!({"guilds": guilds}));
    }

    fn guild_create(&mut self, id: u64) {
        let id = id.to_string();
        let state = json!({
            "id": id, "roles": [{"id": id, "permissions": "1024"}], "voice_states": [],
            "channels": [{"id": format!("1{id}"), "type": 2, "name": "Lounge", "permission_overwrites": []}],
        });
        self.hear("GUILD_CREATE", &state);
    }

    fn join(&mut self, of: u64, user: u64) -> Tally {
        let state = json!({
            "guild_id": of.to_string(), "channel_id": format!("1{of}"), "user_id": user.to_string(),
            "deaf": false, "mute": false, "self_deaf": false, "self_mute": false,
            "self_video": false, "suppress": false,
        });
        self.hear("VOICE_STATE_UPDATE", &state)
    }

    /// What goes to the hub; it refuses events of these guilds.
    fn deliver(&mut self, refused: &[u64]) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(parcel) = self.feed.parcel(false, 1) {
            told.extend(parcel.events.iter().map(name));
            let refused = parcel
                .events
                .iter()
                .filter(|event| refused.contains(&event.fact.guild_id().get()))
                .map(|event| RefusedEvent {
                    id: event.id.clone(),
                    code: Code::Forbidden,
                })
                .collect();
            let receipt = Receipt { refused, ..taken() };
            self.feed.delivered(&parcel, &receipt, 1);
        }
        told
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
    assert!(shard.feed.parcel(false, 1).is_none());
    let beat = shard.feed.parcel(true, 1).unwrap();
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
    // And one that was never there is told as empty, because the hub may remember it.
    let mut shard = Shard::new(&[1], LIMITS);
    shard.identify(&[]);
    assert_eq!(shard.deliver(&[]), ["1 guild_removed 0"]);
}

#[test]
fn an_outage_empties_nothing() {
    let mut shard = Shard::live(&[1]);
    shard.join(1, 5);
    shard.hear("GUILD_DELETE", &json!({"id": "1", "unavailable": true}));
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
fn a_hub_that_lacks_something_is_told_every_guild_anew() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    // What was in flight is in the snapshot, and what follows it follows it.
    assert_eq!(shard.feed.parcel(false, 1).unwrap().events.len(), 1);
    shard.feed.rewind((10, 2).into(), 0, 1);
    shard.join(1, 6);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let link = &parcel.report.link;
    assert_eq!((link.from, link.to), ((10, 2).into(), (10, 5).into()));
    assert_eq!(
        shard.deliver(&[]),
        ["1 store_changed 1", "2 store_changed 0", "1 joined"]
    );
    // One that has forgotten the claim: the session gets a number above those that it knows.
    let mut newer = memory(20);
    newer.last_session = 15;
    shard.join(1, 7);
    shard.feed.claim(newer, 1);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let link = &parcel.report.link;
    assert_eq!((link.generation, link.from), (20, Reached::default()));
    assert_eq!(link.to.session, 20);
    assert_eq!(
        shard.deliver(&[]),
        ["1 store_changed 3", "2 store_changed 0"]
    );
}

#[test]
fn a_hub_that_wants_a_guild_is_told_it_once() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let receipt = Receipt {
        wanted: vec![guild(2), guild(7)],
        ..taken()
    };
    shard.feed.delivered(&parcel, &receipt, 1);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    // It still wants it, since it was asked before it was told.
    shard.feed.delivered(&parcel, &taken(), 1);
    let told: Vec<_> = parcel.events.iter().map(name).collect();
    assert_eq!(told, ["2 not_told 0"]);
    assert!(shard.feed.parcel(false, 1).is_none());
}

#[test]
fn a_guild_that_the_hub_refuses_owes_one_snapshot_and_no_more() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    shard.join(2, 5);
    shard.join(1, 6);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    assert_eq!(parcel.events.len(), 3);
    let illegible = RefusedEvent {
        id: parcel.events[0].id.clone(),
        code: Code::BadRequest,
    };
    let refused = vec![illegible];
    shard
        .feed
        .delivered(&parcel, &Receipt { refused, ..taken() }, 1);
    assert_eq!(shard.deliver(&[]), ["1 refused 2"]);
    shard.join(1, 7);
    assert_eq!(shard.deliver(&[]), ["1 joined"]);
    assert!(shard.feed.not_served().is_empty());
}

#[test]
fn nothing_is_told_of_a_guild_that_the_hub_does_not_serve_until_it_does() {
    let mut shard = Shard::live(&[1, 2]);
    for user in 5..8 {
        shard.join(1, user);
        shard.join(2, user);
    }
    let first = shard.feed.parcel(false, 1).unwrap();
    // What waits behind it is not sent either.
    shard.join(1, 8);
    shard.deliver(&[1]);
    let read = shard.feed.health(1);
    assert_eq!(first.events.len(), 6);
    assert_eq!(read.not_served, BTreeSet::from([guild(1)]));
    assert_eq!((read.outbox_events, read.debts), (0, 0));
    assert_eq!(shard.join(1, 9).unserved, 1);
    shard.guild_create(1);
    shard.join(2, 9);
    assert_eq!(shard.deliver(&[]), ["2 joined"]);
    // It keeps nobody's checkpoint.
    let health = shard.feed.health(1);
    assert_eq!(health.acknowledged_to, health.read);

    // The hub serves it from now on, and asks for it.
    shard.join(2, 10);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let wanted = vec![guild(1)];
    shard
        .feed
        .delivered(&parcel, &Receipt { wanted, ..taken() }, 1);
    shard.join(1, 10);
    assert_eq!(shard.deliver(&[]), ["1 not_told 0", "1 joined"]);
    assert!(shard.feed.not_served().is_empty());

    // So may a hub whose store was changed, or that has forgotten the claim.
    for claims in [false, true] {
        shard.join(1, 11 + u64::from(claims));
        shard.deliver(&[1]);
        assert_eq!(shard.feed.not_served().len(), 1);
        if claims {
            shard.feed.claim(memory(30), 1);
        } else {
            shard.feed.rewind((10, 1).into(), 0, 1);
        }
        let told = shard.deliver(&[]);
        assert!(
            told.iter()
                .any(|event| event.starts_with("1 store_changed")),
            "{told:?}"
        );
        assert!(shard.feed.not_served().is_empty());
    }
}

#[test]
fn what_is_illegible_is_asked_for_and_too_much_of_it_is_read_anew() {
    let mut shard = Shard::live(&[1]);
    let garbled = |user: u32| json!({"guild_id": "1", "user_id": user.to_string()});
    assert!(shard.hear("VOICE_STATE_UPDATE", &garbled(5)).illegible);
    assert_eq!(
        shard.state(1),
        Some((GatewayState::Rebuilding, "illegible".to_owned()))
    );
    let question = shard.feed.question().unwrap();
    assert_eq!(question.subject, Subject::Voice(UserId::new(5).unwrap()));
    // A newer word on the same user makes the answer unwanted.
    shard.join(1, 5);
    assert!(shard.feed.question().is_none() && shard.state(1).is_none());
    shard.feed.answer(question, Finding::Voice(None), 1);
    assert_eq!(shard.deliver(&[]), ["1 joined"]);
    assert!(!shard.feed.wants_identify());
    for user in 10..14 {
        shard.hear("VOICE_STATE_UPDATE", &garbled(user));
    }
    assert!(shard.feed.wants_identify() && shard.feed.question().is_none());
    shard.identify(&[1]);
    shard.guild_create(1);
    assert!(!shard.feed.wants_identify());
    assert_eq!(shard.state(1), None);
}

#[test]
fn a_voice_state_without_its_guild_is_asked_for_in_every_guild() {
    let mut shard = Shard::live(&[1, 2]);
    let state = json!({"user_id": "5", "channel_id": "11"});
    shard.hear("VOICE_STATE_UPDATE", &state);
    assert_eq!(shard.feed.health(1).gaps, 2);
}

#[test]
fn a_room_that_only_a_voice_state_tells_of_is_known_as_hidden() {
    let mut shard = Shard::live(&[1]);
    let state = json!({
        "guild_id": "1", "channel_id": "77", "user_id": "5", "deaf": false, "mute": false,
        "self_deaf": false, "self_mute": false, "self_video": false, "suppress": false,
    });
    shard.hear("VOICE_STATE_UPDATE", &state);
    let found = dispatch::read_voice_state(state.to_string().as_bytes()).unwrap();
    let hidden = ChannelFinding::Hidden(ChannelId::new(77).unwrap());
    // The user, then the room, then the user again.
    let mut asked = Vec::new();
    while let Some(question) = shard.feed.question() {
        asked.push(question.subject);
        let finding = match question.subject {
            Subject::Channel(_) => Finding::Channel(hidden.clone()),
            _ => Finding::Voice(Some(found.clone())),
        };
        shard.feed.answer(question, finding, 1);
    }
    assert_eq!(asked.len(), 3, "{asked:?}");
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let [room, joined] = &parcel.events[..] else {
        panic!("{parcel:?}")
    };
    assert!(matches!(&room.fact, Fact::RoomCreated(room)
        if room.audience == proto::event::Audience::Obfuscated && room.name.is_empty()));
    assert!(matches!(&joined.fact, Fact::VoiceJoined(_)));
}

#[test]
fn a_guild_too_large_for_any_delivery_is_told_as_that_and_nobody_waits_for_it() {
    let small = Limits {
        delivery_bytes_max: 65_536 + 4_000,
        ..LIMITS
    };
    let mut shard = Shard::new(&[1, 2], small);
    shard.identify(&[1, 2]);
    shard.guild_create(1);
    shard.guild_create(2);
    for user in 1..=40 {
        shard.join(1, user);
    }
    assert_eq!(shard.deliver(&[]).len(), 42, "one by one they fit");
    shard.feed.rewind((10, 1).into(), 0, 1);
    shard.join(2, 1);
    assert_eq!(shard.deliver(&[]), ["2 store_changed 0", "2 joined"]);
    let too_large = Some((GatewayState::Down, "too_large".to_owned()));
    assert_eq!((shard.state(1), shard.state(2)), (too_large, None));
    let beat = shard.feed.parcel(true, 1).unwrap();
    assert_eq!(beat.report.link.to, (10, 1).into(), "it is still owed");
    // Once it is small enough it is told.
    for user in 1..=30 {
        let mut gone = json!({"guild_id": "1", "channel_id": null, "user_id": user.to_string()});
        gone["deaf"] = json!(false);
        shard.hear("VOICE_STATE_UPDATE", &gone);
    }
    assert!(shard.feed.parcel(false, 1_000).is_none());
    let parcel = shard.feed.parcel(false, 1_001).unwrap();
    assert_eq!(
        parcel.events.iter().map(name).collect::<Vec<_>>(),
        ["1 store_changed 10"]
    );
    assert_eq!(parcel.report.link.to, shard.feed.stream.reached());
}

#[test]
fn what_was_lost_altogether_has_every_guild_read_anew() {
    let mut shard = Shard::live(&[1, 2]);
    shard.feed.lose();
    assert!(shard.feed.wants_identify());
    assert!(shard.state(1).is_some() && shard.state(2).is_some());
}

#[test]
fn answers_that_contradict_each_other_end_with_the_guild_read_anew() {
    let mut shard = Shard::live(&[1]);
    let state = json!({
        "guild_id": "1", "channel_id": "77", "user_id": "5", "deaf": false, "mute": false,
        "self_deaf": false, "self_mute": false, "self_video": false, "suppress": false,
    });
    shard.hear("VOICE_STATE_UPDATE", &state);
    let found = dispatch::read_voice_state(state.to_string().as_bytes()).unwrap();
    let mut asked = 0;
    while let Some(question) = shard.feed.question() {
        asked += 1;
        assert!(asked < 100);
        let finding = match question.subject {
            Subject::Channel(id) => Finding::Channel(ChannelFinding::Gone(id)),
            _ => Finding::Voice(Some(found.clone())),
        };
        shard.feed.answer(question, finding, 1);
        if shard.feed.wants_identify() {
            break;
        }
    }
    assert!(shard.feed.wants_identify());
}

#[test]
fn a_backlog_is_told_as_catching_up_until_the_delivery_that_empties_it() {
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
    let state = |feed: &Feed, parcel: &Parcel, now| {
        assert!(feed.is_current(parcel, now));
        let gateway = &parcel.report.gateway;
        (gateway.state, gateway.reason.clone())
    };
    let live = (GatewayState::Live, None);
    let late = (GatewayState::Rebuilding, Some("catching_up".to_owned()));
    // A burst is no backlog, but it becomes one when it is not taken.
    let first = shard.feed.parcel(false, 1 + BEHIND_MAX_MS).unwrap();
    assert_eq!(state(&shard.feed, &first, 1 + BEHIND_MAX_MS), live);
    let now = 2 + BEHIND_MAX_MS;
    assert!(!shard.feed.is_current(&first, now));
    let again = shard.feed.parcel(false, now).unwrap();
    assert_eq!(again.events, first.events);
    assert_eq!(state(&shard.feed, &again, now), late);
    shard.feed.delivered(&again, &taken(), now);
    let second = shard.feed.parcel(false, now).unwrap();
    assert_eq!(state(&shard.feed, &second, now), late);
    assert!(shard.feed.is_live());
    shard.feed.delivered(&second, &taken(), now);
    // Nothing is behind the last, so with it the hub knows all.
    let last = shard.feed.parcel(false, now).unwrap();
    assert_eq!(
        (last.events.len(), state(&shard.feed, &last, now)),
        (2, live)
    );
    shard.feed.delivered(&last, &taken(), now);
    assert!(shard.feed.parcel(false, now).is_none());
}

#[test]
fn a_guild_that_owes_a_snapshot_is_told_as_catching_up() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    assert_eq!(shard.feed.parcel(false, 1).unwrap().events.len(), 1);
    // Its payment is queued behind what is in flight.
    let mark = shard.feed.guilds[&guild(1)].mark();
    shard.feed.outbox.owe(guild(1), "test", mark);
    let flying = shard.feed.parcel(false, 1).unwrap();
    let told = &flying.report.gateway.guilds[&guild(1)];
    assert_eq!(
        (
            told.state,
            told.reason.as_deref(),
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
    // The delivery that brings it tells of it.
    let paid = shard.feed.parcel(false, 1).unwrap();
    assert_eq!(paid.events.len(), 1);
    assert!(paid.report.gateway.guilds.is_empty());
    assert_eq!(paid.report.link.to, shard.feed.stream.reached());
}

/// A worker that takes over from one that had this memory left at the hub.
fn successor(guilds: &[u64], claimed: Claimed) -> Shard {
    successor_with(LIMITS, guilds, claimed)
}

fn successor_with(limits: Limits, guilds: &[u64], claimed: Claimed) -> Shard {
    let mut shard = Shard::new(guilds, limits);
    shard.feed = Feed::new(shard.feed.setting.clone());
    shard.feed.claim(claimed, 1);
    shard
}

/// The hub knows everything of the worker up to `known`, and acknowledged up to `acked`.
fn remembered(shard: &Shard, known: (u64, u32), acked: u64) -> Claimed {
    let session = shard.feed.stream.session().unwrap().clone();
    let guilds = shard.feed.guilds.values().map(|followed| KnownGuild {
        mark: Mark::from((session.number, known.0, known.1)),
        absent: None,
        roster: followed.roster.snapshot("claimed"),
    });
    Claimed {
        guilds: guilds.collect(),
        checkpoint: Some(Checkpoint {
            sequence: acked,
            session: session.clone(),
            fingerprint: "f".to_owned(),
        }),
        last_session: session.number,
        ..memory(30)
    }
}

#[test]
fn what_the_hub_knows_is_replayed_silently_and_what_comes_then_is_told() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    before.join(1, 6);
    let mut shard = successor(&[1], remembered(&before, (4, 0), 2));
    assert_eq!(shard.feed.resume().map(|(_, sequence)| sequence), Some(2));
    let beat = shard.feed.parcel(true, 1).unwrap();
    let gateway = &beat.report.gateway;
    assert_eq!(
        (gateway.state, gateway.reason.as_deref()),
        (GatewayState::Resuming, Some("catching_up"))
    );
    assert_eq!(beat.report.link.to, (10, 2).into());
    shard.session = 1;
    shard.sequence = 2;
    assert_eq!(shard.join(1, 5).known, 0, "it is so already");
    shard.join(1, 6);
    assert!(shard.feed.parcel(false, 1).unwrap().events.is_empty());
    shard.join(1, 7);
    shard.hear("RESUMED", &json!({}));
    let parcel = shard.feed.parcel(false, 1).unwrap();
    assert_eq!(
        parcel.events.iter().map(name).collect::<Vec<_>>(),
        ["1 joined"]
    );
    assert_eq!(parcel.events[0].at, Some(Mark::from((10, 5, 0))));
    assert_eq!(parcel.report.link.to, (10, 6).into());
    assert_eq!(parcel.report.gateway.state, GatewayState::Live);
}

#[test]
fn a_replay_is_over_when_it_has_passed_what_the_hub_knows_whatever_was_resumed_in_between() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    before.hear("RESUMED", &json!({}));
    before.join(1, 6);
    let mut shard = successor(&[1], remembered(&before, (6, 0), 3));
    shard.session = 1;
    shard.sequence = 3;
    shard.join(1, 5);
    // Of a connection of the worker before: whoever is there since has not left again.
    shard.hear("RESUMED", &json!({}));
    assert!(shard.deliver(&[]).is_empty());
    shard.join(1, 6);
    shard.hear("RESUMED", &json!({}));
    assert!(shard.deliver(&[]).is_empty());
    assert_eq!(shard.state(1), None);
}

#[test]
fn a_replay_that_fills_the_outbox_again_and_again_costs_each_guild_one_snapshot() {
    let before = Shard::live(&[1, 2]);
    let tight = Limits {
        events_max: 6,
        batch_events_max: 2,
        ..LIMITS
    };
    let mut shard = successor_with(tight, &[1, 2], remembered(&before, (3, 0), 3));
    shard.session = 1;
    shard.sequence = 3;
    let (mut told, mut full) = (Vec::new(), 0);
    for user in 1..100 {
        full += shard.join(1 + user % 2, user).full;
        // The hub takes less than Discord tells.
        if user % 5 == 0
            && let Some(parcel) = shard.feed.parcel(true, 1)
        {
            told.extend(parcel.events.iter().map(name));
            shard.join(1, 1_000 + user);
            shard.feed.delivered(&parcel, &taken(), 1);
        }
    }
    assert_eq!(full, 2);
    shard.hear("RESUMED", &json!({}));
    told.extend(shard.deliver(&[]));
    told.retain(|event| !event.ends_with("joined"));
    assert_eq!(told, ["1 outbox_full 68", "2 outbox_full 50"]);
    let health = shard.feed.health(1);
    assert_eq!(health.acknowledged_to, health.read);
}

#[test]
fn what_the_hub_should_know_and_does_not_is_told_when_the_replay_has_passed() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    before.join(1, 6);
    let mut claimed = remembered(&before, (5, 0), 3);
    // It refused one of them, and the worker died before it could tell it otherwise.
    claimed.guilds[0].roster.voices.remove(0);
    let mut shard = successor(&[1], claimed);
    shard.session = 1;
    shard.sequence = 3;
    assert_eq!(shard.join(1, 5).known, 1);
    shard.join(1, 6);
    shard.join(1, 7);
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let marks: Vec<_> = parcel.events.iter().map(|event| event.at).collect();
    assert_eq!(
        marks,
        [(10, 5, 1), (10, 6, 0)].map(|mark| Some(Mark::from(mark)))
    );
    assert_eq!(parcel.report.link.to, (10, 6).into());
}

#[test]
fn a_question_that_was_open_is_asked_again_and_nothing_older_is_told_meanwhile() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    let mut claimed = remembered(&before, (5, 1), 3);
    claimed.guilds[0].roster.voices.clear();
    let mut shard = successor(&[1], claimed);
    shard.session = 1;
    shard.sequence = 3;
    shard.join(1, 5);
    shard.hear(
        "VOICE_STATE_UPDATE",
        &json!({"guild_id": "1", "user_id": "5"}),
    );
    assert!(shard.feed.question().is_none(), "the answer may still come");
    shard.hear("RESUMED", &json!({}));
    // The hub knows something newer of that user than what is replayed.
    let parcel = shard.feed.parcel(false, 1).unwrap();
    assert!(parcel.events.is_empty());
    assert_eq!(
        parcel.report.link.to,
        (10, 3).into(),
        "the question holds it"
    );
    shard.feed.delivered(&parcel, &taken(), 1);
    let question = shard.feed.question().unwrap();
    shard.feed.answer(question, Finding::Voice(None), 1);
    let parcel = shard.feed.parcel(true, 1).unwrap();
    assert!(parcel.events.is_empty());
    assert_eq!(parcel.report.link.to, (10, 6).into());
}

#[test]
fn a_session_that_can_not_be_resumed_is_passed_over_and_guild_create_tells_the_difference() {
    let mut before = Shard::live(&[1]);
    before.join(1, 5);
    let whole = remembered(&before, (4, 0), 4);
    let changed = |change: fn(&mut Claimed)| {
        let mut claimed = whole.clone();
        change(&mut claimed);
        successor(&[1], claimed).feed.resume().is_some()
    };
    assert!(changed(|_| {}));
    assert!(!changed(|claimed| claimed.checkpoint = None));
    assert!(!changed(|claimed| claimed.guilds.clear()));
    assert!(!changed(
        |claimed| claimed.guilds[0].mark = (11, 1, 0).into()
    ));
    assert!(!changed(|claimed| {
        claimed.checkpoint.as_mut().unwrap().fingerprint = "g".to_owned();
    }));
    // And one that Discord has forgotten.
    for (fingerprint, known) in [("g", (4, 0)), ("f", (4, 0)), ("f", (9, 0))] {
        let mut claimed = remembered(&before, known, 4);
        claimed.checkpoint.as_mut().unwrap().fingerprint = fingerprint.to_owned();
        let mut shard = successor(&[1], claimed);
        shard.session = 1;
        shard.identify(&[1]);
        assert_eq!(shard.state(1).unwrap().1, "guild_awaited");
        shard.guild_create(1);
        let parcel = shard.feed.parcel(false, 1).unwrap();
        assert_eq!(
            parcel.events.iter().map(name).collect::<Vec<_>>(),
            ["1 left"]
        );
        assert_eq!(parcel.events[0].at, Some(Mark::from((30, 2, 0))));
        assert_eq!(parcel.report.link.to, (30, 2).into());
    }
}

#[test]
fn a_worker_that_another_one_has_overtaken_begins_anew_from_what_the_hub_has() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    let question = {
        shard.hear(
            "VOICE_STATE_UPDATE",
            &json!({"guild_id": "1", "user_id": "7"}),
        );
        shard.feed.question().unwrap()
    };
    // The other one has read a later session, in which somebody else is there.
    let mut other = Shard::live(&[1]);
    other.join(1, 6);
    let mut claimed = remembered(&other, (7, 0), 7);
    claimed.guilds[0].mark = Mark::from((25, 7, 0));
    let checkpoint = claimed.checkpoint.as_mut().unwrap();
    checkpoint.session.number = 25;
    checkpoint.session.id = "other".to_owned();
    claimed.last_session = 25;
    shard.feed.claim(claimed, 1);
    assert!(shard.feed.wants_identify() && shard.feed.resume().is_none());
    // Nothing of its own is told any more, nor anything of its old session, nor an old answer.
    shard.feed.answer(question, Finding::Voice(None), 1);
    assert!(shard.join(1, 8).repeated);
    let parcel = shard.feed.parcel(true, 1).unwrap();
    assert!(parcel.events.is_empty());
    let link = &parcel.report.link;
    assert_eq!(
        (link.generation, link.from, link.to),
        (30, (25, 7).into(), (25, 7).into())
    );
    shard.feed.delivered(&parcel, &taken(), 1);
    shard.identify(&[1, 2]);
    shard.guild_create(1);
    shard.guild_create(2);
    assert!(!shard.feed.wants_identify());
    assert_eq!(shard.deliver(&[]), ["1 left", "2 worker_started 0"]);
    assert_eq!(shard.feed.health(1).acknowledged_to, (30, 3).into());
}

#[test]
fn a_guild_that_was_not_there_is_not_there_for_the_next_worker_either() {
    let before = Shard::live(&[1, 2]);
    let mut claimed = remembered(&before, (3, 0), 3);
    claimed.guilds[1].absent = Some(Absence::Outage);
    let mut shard = successor(&[1, 2], claimed);
    shard.session = 1;
    shard.sequence = 3;
    shard.hear("RESUMED", &json!({}));
    let parcel = shard.feed.parcel(false, 1).unwrap();
    assert_eq!(parcel.report.link.absent[&guild(2)], Absence::Outage);
    assert_eq!(shard.state(2).unwrap().1, "outage");
    assert_eq!(shard.state(1), None);
}
