//! What could not be read, and what is done about it.

use proto::{ChannelId, UserId};

use super::*;
use crate::dispatch::Subject;

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

fn audiences(shard: &mut Shard) -> Vec<String> {
    let parcel = shard.feed.parcel(false, 1).unwrap();
    let told = parcel.events.iter().map(|event| {
        let event = serde_json::to_value(event).unwrap();
        let of = &event["payload"];
        let what = of.get("audience").or(of.get("everyone"));
        let what = what.and_then(|what| what.as_str()).unwrap_or("");
        format!("{} {what}", event["event"].as_str().unwrap())
    });
    let told: Vec<String> = told.collect();
    shard.feed.delivered(&parcel, &taken(), 1);
    told
}

#[test]
fn a_room_whose_overwrites_became_illegible_is_hidden_before_anybody_is_told_in_it() {
    let mut shard = Shard::live(&[1]);
    let update = |deny: serde_json::Value| {
        json!({"guild_id": "1", "id": "11", "type": 2, "name": "Lounge",
            "permission_overwrites": [{"id": "1", "type": 0, "allow": "0", "deny": deny}]})
    };
    let tally = shard.hear("CHANNEL_UPDATE", &update(json!(["1024"])));
    assert!(tally.illegible);
    shard.join(1, 5);
    assert_eq!(
        audiences(&mut shard),
        ["room.updated restricted", "voice.joined "]
    );
    assert!(shard.feed.question().is_some());
    // A newer word that can be read is the answer.
    shard.hear("CHANNEL_UPDATE", &update(json!("0")));
    assert_eq!(audiences(&mut shard), ["room.updated everyone"]);
}

#[test]
fn an_everyone_that_became_illegible_may_view_nothing_until_the_guild_is_read_anew() {
    let role = json!({"guild_id": "1", "role": {"id": "1", "permissions": {}}});
    let guild = json!({"id": "1", "roles": [{"id": "1", "permissions": null}]});
    let nobodys = json!({"role": {"id": "1", "permissions": "0"}});
    for (name, data) in [
        ("GUILD_ROLE_UPDATE", role),
        ("GUILD_UPDATE", guild),
        ("GUILD_ROLE_UPDATE", nobodys),
    ] {
        let mut shard = Shard::live(&[1]);
        assert!(shard.hear(name, &data).illegible);
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
