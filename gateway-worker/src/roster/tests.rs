use proto::event::Audience;
use serde_json::json;

use super::*;
use crate::dispatch::{Profile, Read, read};

fn guild() -> GuildId {
    GuildId::new(1).unwrap()
}

fn user(id: u64) -> UserId {
    UserId::new(id).unwrap()
}

fn channel_id(id: u64) -> ChannelId {
    ChannelId::new(id).unwrap()
}

fn room(id: u64) -> Channel {
    Channel {
        name: format!("room {id}"),
        obfuscated: false,
        ..Channel::hidden(channel_id(id))
    }
}

fn staff(id: u64) -> Channel {
    Channel {
        overwrite: Overwrite::Deny,
        ..room(id)
    }
}

fn in_room(id: u64, room: u64) -> VoiceState {
    VoiceState {
        user_id: user(id),
        channel_id: Some(channel_id(room)),
        flags: VoiceFlags::default(),
        profile: None,
    }
}

fn state(channels: Vec<Channel>, voices: Vec<VoiceState>) -> GuildState {
    GuildState {
        guild_id: guild(),
        everyone: Everyone::View,
        channels,
        voices,
        unreadable: Vec::new(),
    }
}

fn roster(channels: Vec<Channel>, voices: Vec<VoiceState>) -> Roster {
    let setting = RosterSetting {
        cdn: "https://cdn".into(),
        tombstones_max: 2,
    };
    let mut roster = Roster::new(guild(), setting);
    let change = roster.apply(Dispatch::GuildCreated(state(channels, voices)));
    assert!(change.began && change.facts.is_empty());
    roster
}

fn audience(roster: &Roster, room: u64) -> Audience {
    let state = roster.snapshot("");
    let room = state
        .rooms
        .iter()
        .find(|found| found.channel_id == channel_id(room));
    room.unwrap().audience
}

/// `+room`, `~room`, `-room`, `>user@room`, `<user@room`, `=user@room`.
fn short(facts: &[Fact]) -> Vec<String> {
    facts
        .iter()
        .map(|fact| match fact {
            Fact::RoomCreated(room) => format!("+{}", room.channel_id),
            Fact::RoomUpdated(room) => format!("~{}", room.channel_id),
            Fact::RoomDeleted(room) => format!("-{}", room.channel_id),
            Fact::VoiceJoined(voice) => format!(">{}@{}", voice.user_id, voice.channel_id),
            Fact::VoiceLeft(voice) => format!("<{}@{}", voice.user_id, voice.channel_id),
            Fact::VoiceStateChanged(voice) => format!("={}@{}", voice.user_id, voice.channel_id),
            Fact::GuildUpdated(access) => format!("!{:?}", access.everyone),
            Fact::Snapshot(_) => "snapshot".to_owned(),
        })
        .collect()
}

#[test]
fn a_move_is_a_leave_and_a_join_that_name_each_other() {
    let mut roster = roster(vec![room(10), room(11)], vec![in_room(1, 10)]);
    let change = roster.apply(Dispatch::VoiceChanged(guild(), in_room(1, 11)));
    assert_eq!(short(&change.facts), ["<1@10", ">1@11"]);
    let [Fact::VoiceLeft(left), Fact::VoiceJoined(joined)] = &change.facts[..] else {
        panic!("{change:?}")
    };
    assert_eq!(left.moved_to, Some(channel_id(11)));
    assert_eq!(joined.moved_from, Some(channel_id(10)));
    let again = roster.apply(Dispatch::VoiceChanged(guild(), in_room(1, 11)));
    assert_eq!(again, Change::default());
}

#[test]
fn a_new_guild_state_becomes_its_difference_and_leaves_no_ghost() {
    let mut roster = roster(
        vec![room(10), room(11), room(12)],
        vec![in_room(1, 10), in_room(2, 11), in_room(3, 12)],
    );
    let change = roster.apply(Dispatch::GuildCreated(state(
        vec![room(10), staff(11), room(13)],
        vec![in_room(1, 13), in_room(4, 10)],
    )));
    assert_eq!(
        short(&change.facts),
        [
            "~11", "+13", "<1@10", ">1@13", ">4@10", "<2@11", "<3@12", "-12"
        ]
    );
}

#[test]
fn members_of_a_hidden_room_leave_before_it_becomes_visible() {
    let mut roster = roster(
        vec![staff(10), room(11), room(12)],
        vec![in_room(1, 10), in_room(2, 10), in_room(3, 12)],
    );
    let change = roster.apply(Dispatch::GuildCreated(state(
        vec![room(10), room(11), staff(12)],
        vec![in_room(2, 11), in_room(4, 10), in_room(5, 12)],
    )));
    assert_eq!(
        short(&change.facts),
        [
            "~12", "<2@10", ">2@11", ">4@10", ">5@12", "<1@10", "<3@12", "~10"
        ]
    );
}

#[test]
fn members_of_a_denied_room_leave_before_the_deny_is_removed() {
    // The role lacks View Channel: with and without the deny only some may view the channel, but
    // one of Roomwire's own is hidden by the deny alone.
    let blind = |channels, voices| GuildState {
        everyone: Everyone::Nothing,
        ..state(channels, voices)
    };
    let mut roster = roster(Vec::new(), Vec::new());
    for (hidden, shown) in [
        (staff(10), room(10)),
        (Channel::hidden(channel_id(10)), room(10)),
    ] {
        roster.apply(Dispatch::GuildCreated(blind(
            vec![hidden.clone()],
            vec![in_room(1, 10), in_room(2, 10)],
        )));
        let shown = Dispatch::GuildCreated(blind(vec![shown], vec![in_room(2, 10)]));
        assert_eq!(short(&roster.apply(shown).facts), ["<1@10", "~10"]);
        let hidden = Dispatch::GuildCreated(blind(vec![hidden], vec![in_room(1, 10)]));
        assert_eq!(
            short(&roster.apply(hidden).facts),
            ["~10", ">1@10", "<2@10"]
        );
    }
}

#[test]
fn members_leave_a_deleted_channel_first_and_it_stays_deleted() {
    let mut roster = roster(vec![room(10)], vec![in_room(1, 10), in_room(2, 10)]);
    let change = roster.apply(Dispatch::ChannelDeleted(guild(), channel_id(10)));
    assert_eq!(short(&change.facts), ["<1@10", "<2@10", "-10"]);
    let late = roster.apply(Dispatch::ChannelUpdated(guild(), room(10)));
    assert_eq!(late, Change::default());
    let made = roster.apply(Dispatch::ChannelCreated(guild(), room(10)));
    assert_eq!(made.gaps, [Subject::Channel(channel_id(10))]);
    let joined = roster.apply(Dispatch::VoiceChanged(guild(), in_room(1, 10)));
    assert_eq!(joined, Change::gap(Subject::Voice(user(1))));
}

#[test]
fn tombstones_are_bounded_and_a_forgotten_one_costs_a_question() {
    let mut roster = roster(vec![room(10), room(11), room(12)], Vec::new());
    for id in [10, 11, 12] {
        roster.apply(Dispatch::ChannelDeleted(guild(), channel_id(id)));
    }
    assert_eq!(roster.tombstones.len(), 2);
    let late = roster.apply(Dispatch::ChannelUpdated(guild(), room(10)));
    assert_eq!(late, Change::gap(Subject::Channel(channel_id(10))));
}

#[test]
fn no_member_is_put_into_a_category() {
    let category = Channel {
        kind: Some(RoomKind::Category),
        ..room(9)
    };
    let mut roster = roster(vec![category], Vec::new());
    let change = roster.apply(Dispatch::VoiceChanged(guild(), in_room(1, 9)));
    assert_eq!(change, Change::gap(Subject::Voice(user(1))));
}

#[test]
fn who_may_view_a_room_follows_the_role_then_the_denial_then_the_permission() {
    for (everyone, overwrite, expected) in [
        (Everyone::View, Overwrite::None, Audience::Everyone),
        (Everyone::Nothing, Overwrite::None, Audience::Restricted),
        (Everyone::View, Overwrite::Deny, Audience::Restricted),
        (Everyone::Nothing, Overwrite::Allow, Audience::Everyone),
        (Everyone::Administer, Overwrite::Deny, Audience::Everyone),
        (Everyone::Nothing, Overwrite::Deny, Audience::Restricted),
    ] {
        let channel = Channel {
            overwrite,
            ..room(10)
        };
        let mut roster = roster(vec![channel], Vec::new());
        roster.apply(Dispatch::EveryoneChanged(guild(), everyone));
        assert_eq!(
            audience(&roster, 10),
            expected,
            "{everyone:?} {overwrite:?}"
        );
    }
}

#[test]
fn a_changed_role_updates_only_the_rooms_whose_audience_changes() {
    let open = Channel {
        overwrite: Overwrite::Allow,
        ..room(12)
    };
    let mut roster = roster(vec![room(10), staff(11), open], Vec::new());
    let change = roster.apply(Dispatch::EveryoneChanged(guild(), Everyone::Nothing));
    assert_eq!(short(&change.facts), ["!Nothing", "~10"]);
    let change = roster.apply(Dispatch::EveryoneChanged(guild(), Everyone::Nothing));
    assert!(change.facts.is_empty());
}

#[test]
fn permissions_and_overwrites_that_change_together_never_show_a_staff_room() {
    // Before, @everyone saw nothing; now they see all but the staff room.
    let mut roster = roster(vec![room(10), room(11)], Vec::new());
    roster.apply(Dispatch::EveryoneChanged(guild(), Everyone::Nothing));
    let change = roster.apply(Dispatch::GuildCreated(state(
        vec![room(10), staff(11)],
        Vec::new(),
    )));
    assert_eq!(short(&change.facts), ["!View", "~11", "~10"]);
    assert_eq!(audience(&roster, 11), Audience::Restricted);
    // And if its overwrites cannot be read, it stays hidden.
    roster.apply(Dispatch::EveryoneChanged(guild(), Everyone::Nothing));
    let unreadable = GuildState {
        unreadable: vec![Subject::Channel(channel_id(10))],
        ..state(vec![staff(11)], Vec::new())
    };
    let change = roster.apply(Dispatch::GuildCreated(unreadable));
    assert_eq!(short(&change.facts), ["!View", "~10"]);
    assert_eq!(change.gaps, [Subject::Channel(channel_id(10))]);
    assert_eq!(audience(&roster, 10), Audience::Restricted);
}

#[test]
fn a_room_with_unreadable_overwrites_is_hidden_for_every_role() {
    let mut roster = roster(vec![room(10), room(11)], vec![in_room(1, 11)]);
    let unreadable = || GuildState {
        unreadable: vec![Subject::Channel(channel_id(11))],
        ..state(vec![room(10)], vec![in_room(1, 11)])
    };
    let change = roster.apply(Dispatch::GuildCreated(unreadable()));
    assert_eq!(short(&change.facts), ["~11"]);
    assert_eq!(change.gaps, [Subject::Channel(channel_id(11))]);
    assert_eq!(audience(&roster, 11), Audience::Restricted);
    // Again and again it stays so, until it can be read.
    let again = roster.apply(Dispatch::GuildCreated(unreadable()));
    assert!(again.facts.is_empty());
    assert_eq!(short(&roster.put_channel(room(11))), ["~11"]);
    assert_eq!(audience(&roster, 11), Audience::Everyone);
}

#[test]
fn an_obfuscated_room_is_shown_to_nobody_and_has_no_name() {
    let mut roster = roster(vec![room(10)], vec![in_room(1, 10)]);
    let facts = roster.hide_channel(channel_id(10));
    let [Fact::RoomUpdated(hidden)] = &facts[..] else {
        panic!("{facts:?}")
    };
    assert_eq!(
        (hidden.audience, hidden.name.as_str()),
        (Audience::Obfuscated, "")
    );
    roster.apply(Dispatch::EveryoneChanged(guild(), Everyone::Administer));
    assert_eq!(audience(&roster, 10), Audience::Obfuscated);
    assert!(roster.hide_channel(channel_id(99)).is_empty());
}

#[test]
fn a_changed_name_or_picture_is_a_fact_with_discords_url() {
    let mut roster = roster(vec![room(10)], Vec::new());
    let mut join = |guild_avatar: Option<&str>, user_avatar: Option<&str>| {
        let profile = Profile {
            display_name: "Ada".to_owned(),
            guild_avatar: guild_avatar.map(str::to_owned),
            user_avatar: user_avatar.map(str::to_owned),
            discriminator: 0,
        };
        let state = VoiceState {
            profile: Some(profile),
            ..in_room(5 << 22, 10)
        };
        let change = roster.apply(Dispatch::VoiceChanged(guild(), state));
        match &change.facts[..] {
            [Fact::VoiceJoined(voice) | Fact::VoiceStateChanged(voice)] => {
                voice.member.clone().unwrap().avatar_url
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(join(None, None), "https://cdn/embed/avatars/5.png");
    assert_eq!(
        join(None, Some("a_1")),
        "https://cdn/avatars/20971520/a_1.png"
    );
    assert_eq!(
        join(Some("b"), Some("a_1")),
        "https://cdn/guilds/1/users/20971520/avatars/b.png"
    );
    // A voice state without its member does not forget the name.
    let again = roster.apply(Dispatch::VoiceChanged(guild(), in_room(5 << 22, 10)));
    assert_eq!(again, Change::default());
}

#[test]
fn the_default_picture_of_a_user_with_a_discriminator_follows_from_it() {
    for (user, discriminator, index) in [
        (5_u64 << 22, json!("0"), 5),
        (5 << 22, json!("0000"), 5),
        (5 << 22, json!(null), 5),
        (5 << 22, json!("x"), 5),
        (5 << 22, json!("4242"), 2),
        (5 << 22, json!("0001"), 1),
        (5 << 22, json!("9999"), 4),
        (5 << 22, json!("0005"), 0),
    ] {
        let mut roster = roster(vec![room(10)], Vec::new());
        let state = json!({
            "guild_id": "1", "channel_id": "10", "user_id": user.to_string(),
            "mute": false, "deaf": false, "self_mute": false, "self_deaf": false,
            "self_video": false, "suppress": false,
            "member": {"nick": null, "avatar": null, "user": {
                "id": user.to_string(), "username": "bot", "avatar": null,
                "discriminator": discriminator,
            }},
        });
        let Read::Known(dispatch) = read("VOICE_STATE_UPDATE", &state.to_string()) else {
            panic!("{state} is unreadable");
        };
        let change = roster.apply(dispatch);
        let [Fact::VoiceJoined(voice)] = &change.facts[..] else {
            panic!("{change:?}");
        };
        assert_eq!(
            voice.member.clone().unwrap().avatar_url,
            format!("https://cdn/embed/avatars/{index}.png"),
            "{discriminator}"
        );
    }
}

#[test]
fn a_guild_that_the_bot_lost_is_emptied() {
    let mut roster = roster(vec![room(10), room(11)], vec![in_room(1, 10)]);
    let change = roster.apply(Dispatch::GuildRemoved(guild()));
    assert_eq!(short(&change.facts), ["<1@10", "-10", "-11"]);
}

#[test]
fn a_roster_is_restored_from_its_snapshot() {
    let mut roster = roster(
        vec![
            room(10),
            staff(11),
            Channel::hidden(channel_id(12)),
            room(13),
        ],
        vec![in_room(1, 10), in_room(2, 11)],
    );
    roster.apply(Dispatch::ChannelDeleted(guild(), channel_id(13)));
    let again = Roster::restore(roster.setting.clone(), roster.snapshot("test"));
    assert_eq!(again, roster);
    // If the overwrites do not lead to the stored audience, the stored audience holds.
    for (stored, everyone) in [
        (Audience::Restricted, Everyone::View),
        (Audience::Everyone, Everyone::Nothing),
    ] {
        let mut state = roster.snapshot("test");
        state.everyone = everyone;
        state.rooms[0].audience = stored;
        let again = Roster::restore(roster.setting.clone(), state);
        assert_eq!(audience(&again, 10), stored);
    }
}
