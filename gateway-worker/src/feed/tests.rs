use proto::delivery::RefusedEvent;
use proto::problem::Code;
use serde_json::json;

use super::*;
use crate::dispatch;

const LIMITS: Limits = Limits {
    events_max: 1_000,
    bytes_max: 1_000_000,
    batch_events_max: 100,
    batch_bytes_max: 100_000,
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
        };
        Self {
            feed: Feed::new(setting),
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
        shard.deliver("a", &[]);
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
    fn deliver(&mut self, store: &str, refused: &[u64]) -> Vec<String> {
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
            let receipt = Receipt {
                accepted: 0,
                duplicates: 0,
                refused,
                duplicate: false,
                store: store.to_owned(),
            };
            self.feed.delivered(&parcel, receipt, 1);
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
        store: "a".to_owned(),
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
    assert_eq!(shard.deliver("a", &[]), ["1 worker_started 0", "1 joined"]);
    assert_eq!(shard.state(1), None);
    assert!(shard.feed.parcel(false, 1).is_none());
    let beat = shard.feed.parcel(true, 1).unwrap();
    assert!(beat.events.is_empty());
    assert_eq!(beat.report.store.as_deref(), Some("a"));
}

#[test]
fn a_guild_that_is_not_followed_is_counted_and_dropped() {
    let mut shard = Shard::live(&[1]);
    assert!(shard.join(7, 5).foreign);
    assert!(shard.deliver("a", &[]).is_empty());
}

#[test]
fn a_guild_that_ready_no_longer_lists_is_emptied() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    shard.identify(&[2]);
    assert_eq!(shard.deliver("a", &[]), ["1 joined", "1 left", "1 deleted"]);
    assert_eq!(
        shard.state(1),
        Some((GatewayState::Down, "removed".to_owned()))
    );
    // And one that was never there is told as empty, because the hub may remember it.
    let mut shard = Shard::new(&[1], LIMITS);
    shard.identify(&[]);
    assert_eq!(shard.deliver("a", &[]), ["1 guild_removed 0"]);
}

#[test]
fn an_outage_empties_nothing() {
    let mut shard = Shard::live(&[1]);
    shard.join(1, 5);
    shard.hear("GUILD_DELETE", &json!({"id": "1", "unavailable": true}));
    assert_eq!(shard.deliver("a", &[]), ["1 joined"]);
    assert_eq!(
        shard.state(1),
        Some((GatewayState::Down, "outage".to_owned()))
    );
    shard.guild_create(1);
    assert_eq!(shard.deliver("a", &[]), ["1 left"]);
    assert_eq!(shard.state(1), None);
}

#[test]
fn another_store_is_owed_every_guild() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    // A receipt tells of it: what was taken was taken into a store that lacks what came before.
    assert_eq!(
        shard.deliver("b", &[]),
        ["1 joined", "1 store_changed 1", "2 store_changed 0"]
    );
    assert!(shard.deliver("b", &[]).is_empty());
    // A refusal tells of it: what was in flight is in the snapshot.
    shard.join(1, 6);
    assert_eq!(shard.feed.parcel(false, 1).unwrap().events.len(), 1);
    shard.feed.change_store("c".to_owned(), 1);
    assert_eq!(
        shard.deliver("c", &[]),
        ["1 store_changed 2", "2 store_changed 0"]
    );
}

#[test]
fn a_guild_that_the_hub_refuses_owes_one_snapshot_and_no_more() {
    let mut shard = Shard::live(&[1, 2]);
    shard.join(1, 5);
    shard.join(2, 5);
    assert_eq!(
        shard.deliver("a", &[1]),
        ["1 joined", "2 joined", "1 refused 1"]
    );
    shard.join(1, 6);
    assert_eq!(shard.deliver("a", &[1]), ["1 joined"]);
    // Once a snapshot was taken, the next refusal is a new one.
    shard.feed.owe_all("test");
    shard.feed.settle(1);
    assert_eq!(shard.deliver("a", &[]).len(), 2);
    shard.join(1, 7);
    assert_eq!(shard.deliver("a", &[1]), ["1 joined", "1 refused 3"]);
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
    assert_eq!(shard.deliver("a", &[]), ["1 joined"]);
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
fn a_guild_too_large_for_one_delivery_is_told_in_several() {
    let small = Limits {
        batch_bytes_max: 4_000,
        ..LIMITS
    };
    let mut shard = Shard::new(&[1], small);
    shard.identify(&[1]);
    shard.guild_create(1);
    for user in 1..=40 {
        shard.join(1, user);
    }
    shard.deliver("a", &[]);
    shard.feed.owe_all("test");
    shard.feed.settle(1);
    let mut voices = 0;
    let mut parcels = 0;
    while let Some(parcel) = shard.feed.parcel(false, 1) {
        parcels += 1;
        assert!(json_bytes(&parcel.events) <= 4_100);
        for event in &parcel.events {
            match &event.fact {
                Fact::Snapshot(state) => voices += state.voices.len(),
                Fact::VoiceJoined(_) => voices += 1,
                other => panic!("{other:?}"),
            }
        }
        // It is live only by the delivery that completes it.
        let told = parcel.report.gateway.guilds.get(&guild(1));
        assert_eq!(told.is_none(), voices == 40, "{told:?}");
        shard.feed.delivered(&parcel, taken(), 1);
    }
    assert_eq!(voices, 40);
    assert!(parcels > 1);
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
    shard.deliver("a", &[]);
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
    shard.feed.delivered(&again, taken(), now);
    let second = shard.feed.parcel(false, now).unwrap();
    assert_eq!(state(&shard.feed, &second, now), late);
    assert!(shard.feed.is_live());
    shard.feed.delivered(&second, taken(), now);
    // Nothing is behind the last, so with it the hub knows all.
    let last = shard.feed.parcel(false, now).unwrap();
    assert_eq!(
        (last.events.len(), state(&shard.feed, &last, now)),
        (2, live)
    );
    shard.feed.delivered(&last, taken(), now);
    assert!(shard.feed.parcel(false, now).is_none());
}

#[test]
fn a_guild_that_owes_a_snapshot_is_told_as_catching_up() {
    let mut shard = Shard::live(&[1, 2]);
    // One that does not fit is owed for good.
    shard.feed.outbox.owe(guild(1), "test");
    let beat = shard.feed.parcel(false, 1).unwrap();
    let told = &beat.report.gateway.guilds[&guild(1)];
    assert_eq!(
        (
            told.state,
            told.reason.as_deref(),
            beat.report.gateway.state
        ),
        (
            GatewayState::Rebuilding,
            Some("catching_up"),
            GatewayState::Live
        )
    );
    assert_eq!(shard.state(2), None);
    shard.feed.delivered(&beat, taken(), 1);
    // Its payment was queued meanwhile, and the delivery that brings it tells of it.
    let paid = shard.feed.parcel(false, 1).unwrap();
    assert_eq!(paid.events.len(), 1);
    assert!(paid.report.gateway.guilds.is_empty());
}
