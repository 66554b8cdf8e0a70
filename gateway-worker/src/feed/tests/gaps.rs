//! Unreadable dispatches: questions, redaction, and identifies.

use proto::{ChannelId, UserId};

use super::*;
use crate::dispatch::Subject;

#[test]
fn unreadable_dispatches_are_asked_for_and_too_many_lead_to_an_identify() {
    let mut shard = Shard::live(&[1]);
    let garbled = |user: u32| json!({"guild_id": "1", "user_id": user.to_string()});
    assert!(shard.receive("VOICE_STATE_UPDATE", &garbled(5)).unreadable);
    assert_eq!(
        shard.state(1),
        Some((GatewayState::Rebuilding, "illegible".to_owned()))
    );
    let question = shard.feed.question().unwrap();
    assert_eq!(question.subject, Subject::Voice(UserId::new(5).unwrap()));
    // A newer dispatch about the same user makes the answer obsolete.
    shard.join(1, 5);
    assert!(shard.feed.question().is_none() && shard.state(1).is_none());
    shard.feed.answer(question, Finding::Voice(None), 1);
    assert_eq!(shard.deliver(&[]), ["1 joined"]);
    assert!(!shard.feed.wants_identify());
    for user in 10..14 {
        shard.receive("VOICE_STATE_UPDATE", &garbled(user));
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
    shard.receive("VOICE_STATE_UPDATE", &state);
    assert_eq!(shard.feed.health(1).gaps, 2);
}

#[test]
fn a_room_known_only_from_a_voice_state_is_hidden() {
    let mut shard = Shard::live(&[1]);
    let state = json!({
        "guild_id": "1", "channel_id": "77", "user_id": "5", "deaf": false, "mute": false,
        "self_deaf": false, "self_mute": false, "self_video": false, "suppress": false,
    });
    shard.receive("VOICE_STATE_UPDATE", &state);
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
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let [room, joined] = &batch.events[..] else {
        panic!("{batch:?}")
    };
    assert!(matches!(&room.fact, Fact::RoomCreated(room)
        if room.audience == proto::event::Audience::Obfuscated && room.name.is_empty()));
    assert!(matches!(&joined.fact, Fact::VoiceJoined(_)));
}

#[test]
fn an_unreadable_payload_has_every_guild_read_again() {
    let mut shard = Shard::live(&[1, 2]);
    shard.feed.on_unreadable(1);
    assert!(shard.feed.wants_identify());
    assert!(shard.state(1).is_some() && shard.state(2).is_some());
}

#[test]
fn contradicting_answers_end_with_an_identify() {
    let mut shard = Shard::live(&[1]);
    let state = json!({
        "guild_id": "1", "channel_id": "77", "user_id": "5", "deaf": false, "mute": false,
        "self_deaf": false, "self_mute": false, "self_video": false, "suppress": false,
    });
    shard.receive("VOICE_STATE_UPDATE", &state);
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

fn audiences(shard: &mut Shard) -> Vec<String> {
    let batch = shard.feed.next_batch(false, 1).unwrap();
    let sent = batch.events.iter().map(|event| {
        let event = serde_json::to_value(event).unwrap();
        let of = &event["payload"];
        let what = of.get("audience").or(of.get("everyone"));
        let what = what.and_then(|what| what.as_str()).unwrap_or("");
        format!("{} {what}", event["event"].as_str().unwrap())
    });
    let sent: Vec<String> = sent.collect();
    shard.feed.delivered(&batch, &taken(), 1);
    sent
}

#[test]
fn a_room_whose_overwrites_are_unreadable_is_hidden_before_the_next_join() {
    let mut shard = Shard::live(&[1]);
    let update = |deny: serde_json::Value| {
        json!({"guild_id": "1", "id": "11", "type": 2, "name": "Lounge",
            "permission_overwrites": [{"id": "1", "type": 0, "allow": "0", "deny": deny}]})
    };
    let tally = shard.receive("CHANNEL_UPDATE", &update(json!(["1024"])));
    assert!(tally.unreadable);
    shard.join(1, 5);
    assert_eq!(
        audiences(&mut shard),
        ["room.updated restricted", "voice.joined "]
    );
    assert!(shard.feed.question().is_some());
    // A newer dispatch that can be read is the answer.
    shard.receive("CHANNEL_UPDATE", &update(json!("0")));
    assert_eq!(audiences(&mut shard), ["room.updated everyone"]);
}

#[test]
fn everyone_with_unreadable_permissions_may_view_nothing_until_the_next_identify() {
    let role = json!({"guild_id": "1", "role": {"id": "1", "permissions": {}}});
    let guild = json!({"id": "1", "roles": [{"id": "1", "permissions": null}]});
    let nobodys = json!({"role": {"id": "1", "permissions": "0"}});
    for (name, data) in [
        ("GUILD_ROLE_UPDATE", role),
        ("GUILD_UPDATE", guild),
        ("GUILD_ROLE_UPDATE", nobodys),
    ] {
        let mut shard = Shard::live(&[1]);
        assert!(shard.receive(name, &data).unreadable);
        shard.join(1, 5);
        assert_eq!(
            audiences(&mut shard),
            [
                "guild.updated nothing",
                "room.updated restricted",
                "voice.joined "
            ],
            "{name}"
        );
        assert!(shard.feed.wants_identify());
        shard.identify(&[1]);
        shard.guild_create(1);
        assert_eq!(
            audiences(&mut shard).last().unwrap(),
            "room.updated everyone"
        );
    }
}

/// A lounge that @everyone may view by its own overwrite, and a room that they may by their role.
fn open_guild() -> serde_json::Value {
    let allow = json!([{"id": "1", "type": 0, "allow": "1024", "deny": "0"}]);
    json!({
        "id": "1", "roles": [{"id": "1", "permissions": "1024"}], "voice_states": [],
        "channels": [
            {"id": "11", "type": 2, "name": "Lounge", "permission_overwrites": allow},
            {"id": "12", "type": 2, "name": "Den", "permission_overwrites": []},
        ],
    })
}

fn open_shard() -> Shard {
    let mut shard = Shard::live(&[1]);
    shard.receive("GUILD_CREATE", &open_guild());
    shard.deliver(&[]);
    shard
}

const ALL_HIDDEN: [&str; 2] = ["room.updated restricted", "room.updated restricted"];

/// The rooms are published as hidden, once, and as they are after the next identify.
fn assert_hidden_until_identified(mut shard: Shard, again: impl Fn(&mut Shard), hidden: &[&str]) {
    shard.join(1, 5);
    let sent = audiences(&mut shard);
    assert_eq!(sent.split_last().unwrap().1, hidden);
    for _ in 0..3 {
        again(&mut shard);
    }
    assert_eq!(shard.deliver(&[]), [""; 0], "it is hidden already");
    assert!(shard.feed.wants_identify());
    shard.identify(&[1]);
    shard.receive("GUILD_CREATE", &open_guild());
    let sent = audiences(&mut shard);
    let shown = sent.iter().filter(|one| *one == "room.updated everyone");
    assert_eq!(shown.count(), 2, "{sent:?}");
    assert!(!shard.feed.wants_identify() && shard.state(1).is_none());
}

#[test]
fn an_update_without_its_channel_hides_all_channels_and_not_the_role() {
    let nameless = json!({"guild_id": "1", "id": null, "type": 2, "name": "Lounge"});
    let again = |shard: &mut Shard| {
        assert!(shard.receive("CHANNEL_UPDATE", &nameless).unreadable);
    };
    let mut shard = open_shard();
    again(&mut shard);
    assert_hidden_until_identified(shard, again, &ALL_HIDDEN);
}

#[test]
fn an_update_without_its_guild_hides_its_channel_alone() {
    let update = |id: &str| json!({"guild_id": null, "id": id, "type": 2, "name": "Lounge"});
    let mut shard = open_shard();
    shard.receive("CHANNEL_UPDATE", &update("11"));
    assert_eq!(audiences(&mut shard), ["room.updated restricted"]);
    shard.receive("CHANNEL_UPDATE", &update("99"));
    assert_eq!(shard.deliver(&[]), [""; 0]);
}

const ALL_HIDDEN_AND_THE_ROLE: [&str; 3] = ["guild.updated nothing", ALL_HIDDEN[0], ALL_HIDDEN[1]];

#[test]
fn an_unreadable_guild_create_hides_everything() {
    let again = |shard: &mut Shard| {
        assert!(
            shard
                .receive("GUILD_CREATE", &json!({"id": "1"}))
                .unreadable
        );
    };
    let mut shard = open_shard();
    again(&mut shard);
    assert_hidden_until_identified(shard, again, &ALL_HIDDEN_AND_THE_ROLE);
}

#[test]
fn an_unreadable_payload_hides_everything() {
    let again = |shard: &mut Shard| {
        shard.feed.on_unreadable(1);
    };
    let mut shard = open_shard();
    again(&mut shard);
    assert_hidden_until_identified(shard, again, &ALL_HIDDEN_AND_THE_ROLE);
    // Before the first session nothing is published.
    let mut shard = Shard::new(&[1], LIMITS);
    assert_eq!(shard.feed.on_unreadable(1), Tally::default());
    assert!(shard.feed.wants_identify());
}

#[test]
fn a_channel_that_stays_unreadable_over_an_identify_stays_hidden() {
    let mut unreadable = open_guild();
    unreadable["channels"][0]["permission_overwrites"] = json!("odd");
    let mut shard = open_shard();
    shard.identify(&[1]);
    shard.receive("GUILD_CREATE", &unreadable);
    shard.join(1, 5);
    assert_eq!(
        audiences(&mut shard),
        ["room.updated restricted", "voice.joined "]
    );
    // REST has no usable answer either.
    let question = shard.feed.question().unwrap();
    shard.feed.answer(question, Finding::Unknown, 1);
    assert!(shard.feed.wants_identify());
    shard.identify(&[1]);
    shard.receive("GUILD_CREATE", &unreadable);
    assert_eq!(shard.deliver(&[]), ["1 left"]);
    shard.identify(&[1]);
    shard.receive("GUILD_CREATE", &open_guild());
    assert_eq!(audiences(&mut shard), ["room.updated everyone"]);
}

#[test]
fn an_answer_from_before_something_hid_the_channel_does_not_show_it() {
    let mut shard = open_shard();
    let nameless = json!({"guild_id": "1", "id": "11", "type": 2, "name": null});
    shard.receive("CHANNEL_UPDATE", &nameless);
    let question = shard.feed.question().unwrap();
    shard.receive("CHANNEL_UPDATE", &json!({"guild_id": "1", "id": null}));
    audiences(&mut shard);
    let lounge = open_guild()["channels"][0].to_string();
    let lounge = dispatch::read_channel(lounge.as_bytes(), guild(1)).unwrap();
    let found = Finding::Channel(ChannelFinding::There(lounge));
    shard.feed.answer(question, found.clone(), 1);
    assert_eq!(shard.deliver(&[]), [""; 0]);
    // It is asked for again, and that answer is of the present.
    let question = shard.feed.question().unwrap();
    shard.feed.answer(question, found, 1);
    assert_eq!(audiences(&mut shard), ["room.updated everyone"]);
}
