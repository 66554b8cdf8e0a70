use serde_json::{Value, json};

use super::reading::READ;
use super::*;

fn guild() -> GuildId {
    GuildId::new(1).unwrap()
}

fn voice(change: impl FnOnce(&mut Value)) -> Read {
    let mut data = json!({
        "guild_id": "1", "channel_id": "2", "user_id": "3", "session_id": "x",
        "deaf": false, "mute": true, "self_deaf": false, "self_mute": false,
        "self_video": false, "suppress": false, "request_to_speak_timestamp": null,
        "member": {"nick": null, "avatar": null, "roles": [],
            "user": {"id": "3", "username": "ada", "global_name": "Ada", "avatar": "a_00ff"}},
    });
    change(&mut data);
    read("VOICE_STATE_UPDATE", &data.to_string())
}

fn room(change: impl FnOnce(&mut Value)) -> Read {
    let mut data = json!({
        "id": "2", "guild_id": "1", "type": 2, "name": "Lounge", "parent_id": null,
        "user_limit": 5, "flags": 0,
        "permission_overwrites": [{"id": "1", "type": 0, "allow": "0", "deny": "1024"}],
    });
    change(&mut data);
    read("CHANNEL_UPDATE", &data.to_string())
}

fn unreadable(subject: Subject, redaction: Redaction) -> Read {
    Read::Unreadable {
        guild: Some(guild()),
        subject,
        redaction,
    }
}

#[test]
fn a_voice_state_is_read_with_its_member() {
    let Read::Known(Dispatch::VoiceChanged(of, state)) = voice(|_| ()) else {
        panic!("not read")
    };
    assert_eq!(of, guild());
    assert!(state.flags.mute && !state.flags.deaf);
    let profile = state.profile.unwrap();
    assert_eq!(profile.display_name, "Ada");
    assert_eq!(profile.user_avatar.as_deref(), Some("a_00ff"));
}

#[test]
fn what_is_optional_in_a_voice_state_may_be_null_absent_or_odd() {
    let changes: [fn(&mut Value); 7] = [
        |data| data["member"] = Value::Null,
        |data| data["member"] = json!("odd"),
        |data| data["self_stream"] = Value::Null,
        |data| data["session_id"] = json!(7),
        |data| data["unheard_of"] = json!({"a": []}),
        |data| data["member"]["user"]["avatar"] = json!("../../x"),
        |data| data["user_id"] = json!(3),
    ];
    for change in changes {
        let read = voice(change);
        assert!(
            matches!(read, Read::Known(Dispatch::VoiceChanged(..))),
            "{read:?}"
        );
    }
}

#[test]
fn a_voice_state_without_what_is_needed_names_its_user_where_it_can() {
    let user = Subject::Voice(UserId::new(3).unwrap());
    type Alter = fn(&mut Value);
    let changes: [(Alter, Subject); 5] = [
        (
            |data| drop(data.as_object_mut().unwrap().remove("channel_id")),
            user,
        ),
        (|data| data["channel_id"] = json!({}), user),
        (|data| data["mute"] = Value::Null, user),
        (|data| data["self_stream"] = json!("yes"), user),
        (
            |data| {
                data["user_id"] = json!([]);
                data["member"] = Value::Null;
            },
            Subject::Guild,
        ),
    ];
    for (change, subject) in changes {
        assert_eq!(voice(change), unreadable(subject, Redaction::Nothing));
    }
    assert_eq!(
        voice(|data| data["guild_id"] = Value::Null),
        Read::Unreadable {
            guild: None,
            subject: user,
            redaction: Redaction::Nothing,
        }
    );
}

#[test]
fn a_channel_is_read_or_asked_for_never_guessed() {
    let Read::Known(Dispatch::ChannelUpdated(_, channel)) = room(|_| ()) else {
        panic!("not read")
    };
    assert_eq!(
        (channel.user_limit, channel.overwrite),
        (5, Overwrite::Deny)
    );
    let id = ChannelId::new(2).unwrap();
    let asked = unreadable(Subject::Channel(id), Redaction::Channel(id));
    let changes: [fn(&mut Value); 6] = [
        |data| data["permission_overwrites"] = Value::Null,
        |data| data["permission_overwrites"][0]["deny"] = json!([]),
        |data| data["permission_overwrites"][0]["id"] = Value::Null,
        |data| data["name"] = Value::Null,
        |data| data["type"] = json!("voice"),
        |data| data["parent_id"] = json!(true),
    ];
    for change in changes {
        assert_eq!(room(change), asked);
    }
    assert_eq!(
        room(|data| data["id"] = Value::Null),
        unreadable(Subject::Guild, Redaction::Channels)
    );
    assert_eq!(
        room(|data| data["guild_id"] = Value::Null),
        Read::Unreadable {
            guild: None,
            subject: Subject::Guild,
            redaction: Redaction::Channel(id),
        }
    );
}

#[test]
fn an_obfuscated_channel_has_no_name() {
    let changes: [fn(&mut Value); 2] = [
        |data| data["flags"] = json!(1 << 17),
        |data| data["name"] = json!("___hidden___"),
    ];
    for change in changes {
        let Read::Known(Dispatch::ChannelUpdated(_, channel)) = room(change) else {
            panic!("not read")
        };
        assert!(channel.obfuscated);
        assert_eq!(channel.name, "");
    }
}

#[test]
fn a_guild_is_taken_without_the_channels_and_voices_that_cannot_be_read() {
    let state = json!({
        "id": "1", "roles": [{"id": "1", "permissions": "1024"}],
        "channels": [
            {"id": "2", "type": 2, "name": "Lounge", "permission_overwrites": []},
            {"id": "4", "type": 0, "name": "text"},
            {"id": "5", "type": 13, "name": null, "permission_overwrites": []},
        ],
        "members": [{"nick": "Countess", "user": {"id": "3", "username": "ada"}}, null, {}],
        "voice_states": [
            {"user_id": "3", "channel_id": "2", "deaf": false, "mute": false,
             "self_deaf": false, "self_mute": false, "self_video": false, "suppress": false},
            {"user_id": "6", "channel_id": "2"},
        ],
    });
    let Read::Known(Dispatch::GuildCreated(state)) = read("GUILD_CREATE", &state.to_string())
    else {
        panic!("not read")
    };
    assert_eq!(state.channels.len(), 1);
    assert_eq!(
        state.voices[0].profile.as_ref().unwrap().display_name,
        "Countess"
    );
    assert_eq!(
        state.unreadable,
        [
            Subject::Channel(ChannelId::new(5).unwrap()),
            Subject::Voice(UserId::new(6).unwrap())
        ]
    );
}

#[test]
fn a_guild_without_its_everyone_role_is_unreadable() {
    for roles in [
        json!([]),
        json!(null),
        json!([{"id": "1", "permissions": {}}]),
    ] {
        let state = json!({"id": "1", "roles": roles, "channels": [], "voice_states": []});
        assert_eq!(
            read("GUILD_CREATE", &state.to_string()),
            unreadable(Subject::Guild, Redaction::Everything)
        );
    }
}

#[test]
fn outage_and_removal_are_distinguished() {
    for (data, expected) in [
        (
            json!({"id": "1", "unavailable": true}),
            Dispatch::GuildUnavailable(guild()),
        ),
        (json!({"id": "1"}), Dispatch::GuildRemoved(guild())),
        (
            json!({"id": "1", "unavailable": null}),
            Dispatch::GuildRemoved(guild()),
        ),
    ] {
        assert_eq!(
            read("GUILD_DELETE", &data.to_string()),
            Read::Known(expected)
        );
    }
}

#[test]
fn unknown_names_are_counted_under_one_label() {
    assert_eq!(label("VOICE_STATE_UPDATE"), "VOICE_STATE_UPDATE");
    assert_eq!(
        label("VOICE_CHANNEL_STATUS_UPDATE"),
        "VOICE_CHANNEL_STATUS_UPDATE"
    );
    assert_eq!(label("X\"} 1\n"), "other");
    assert_eq!(read("X", "{}"), Read::Ignored);
    assert_eq!(read("VOICE_CHANNEL_STATUS_UPDATE", "?"), Read::Ignored);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_fall(name in 0..READ.len(), text in ".{0,200}") {
        let _read = read(READ[name], &text);
    }
}
