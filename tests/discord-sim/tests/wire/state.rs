//! The state itself: its numbered transitions contain every change.

use std::collections::BTreeMap;

use discord_sim::snowflake::Id;
use discord_sim::state::{
    Change, Channel, ChannelKind, DiscordState, LOUNGE, STUDY_HALL, Voice, VoiceChange, guild_id,
    nth,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Deed {
    Voice {
        user: u64,
        channel: Option<Option<usize>>,
        self_mute: Option<bool>,
    },
    Create {
        name: String,
        stage: bool,
    },
    Delete(usize),
    Outage(bool),
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        6 => (1_u64..8, proptest::option::of(proptest::option::of(0_usize..8)), proptest::option::of(any::<bool>()))
            .prop_map(|(user, channel, self_mute)| Deed::Voice { user, channel, self_mute }),
        1 => ("[a-z]{1,8}", any::<bool>()).prop_map(|(name, stage)| Deed::Create { name, stage }),
        1 => (0_usize..8).prop_map(Deed::Delete),
        1 => any::<bool>().prop_map(Deed::Outage),
    ]
}

fn rooms(state: &DiscordState) -> Vec<Id> {
    state.guilds[&guild_id(0)]
        .channels
        .values()
        .filter(|c| c.kind.is_voice())
        .map(|c| c.id)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_transitions_reduce_to_the_truth_and_are_numbered_without_gaps(
        deeds in proptest::collection::vec(deed(), 1..60),
    ) {
        let guild = guild_id(0);
        let mut state = DiscordState::seeded(1, 0, 10_000, 100);
        let mut channels = state.guilds[&guild].channels.clone();
        let mut voices: BTreeMap<Id, Voice> = BTreeMap::new();
        for (now, deed) in deeds.into_iter().enumerate() {
            let now = 1_700_000_000_000 + now as u64;
            let list = rooms(&state);
            let pick = |n: usize| list.get(n % list.len().max(1)).copied().unwrap_or(Id::new(9));
            let before = state.clone();
            let made = match deed {
                Deed::Voice { user, channel, self_mute } => state.voice(
                    guild,
                    Id::new(user),
                    VoiceChange { channel: channel.map(|c| c.map(pick)), self_mute, ..VoiceChange::default() },
                    now,
                ),
                Deed::Create { name, stage } => {
                    let kind = if stage { ChannelKind::Stage } else { ChannelKind::Voice };
                    state.create_channel(guild, Channel::new(guild, kind, &name), now)
                }
                Deed::Delete(n) => state.delete_channel(pick(n), now),
                Deed::Outage(on) => state.set_outage(guild, on, now),
            };
            if made.is_err() {
                prop_assert_eq!(&state.guilds, &before.guilds, "a refusal changed something");
                prop_assert_eq!(state.seq(), before.seq());
            }
        }
        let (first, transitions) = state.transitions_since(0);
        prop_assert_eq!(first, 1);
        let mut expected = 1;
        for transition in transitions {
            prop_assert_eq!(transition.seq, expected);
            expected += 1;
            match &transition.change {
                Change::Voice { user, before, after } => {
                    prop_assert_eq!(voices.get(user), before.as_ref(), "before does not fit");
                    match after {
                        Some(voice) => voices.insert(*user, voice.clone()),
                        None => voices.remove(user),
                    };
                }
                Change::ChannelCreated(channel) | Change::ChannelUpdated(channel) => {
                    channels.insert(channel.id, channel.as_ref().clone());
                }
                Change::ChannelDeleted(channel) => {
                    channels.remove(&channel.id);
                }
                Change::ChannelStart { channel, since_s } => {
                    if let Some(channel) = channels.get_mut(channel) {
                        channel.voice_start_s = *since_s;
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(expected - 1, state.seq());
        prop_assert_eq!(&voices, &state.guilds[&guild].voice);
        prop_assert_eq!(&channels, &state.guilds[&guild].channels);
        for voice in voices.values() {
            prop_assert!(channels.contains_key(&voice.channel), "somebody sits in no channel");
        }
    }
}

#[test]
fn stage_audiences_are_suppressed_and_voice_members_are_not() {
    let mut state = DiscordState::seeded(1, 0, 100, 100);
    let guild = guild_id(0);
    state
        .create_channel(
            guild,
            Channel::new(guild, ChannelKind::Stage, "Stage"),
            1_700_000_000_000,
        )
        .unwrap();
    let stage = rooms(&state).into_iter().max().unwrap();
    let ada = Id::new(200_000_000_000_000_001);
    let go = |channel| VoiceChange {
        channel: Some(Some(channel)),
        ..VoiceChange::default()
    };
    state.voice(guild, ada, go(stage), 1).unwrap();
    assert!(state.guilds[&guild].voice[&ada].flags.suppress);
    state.voice(guild, ada, go(nth(guild, LOUNGE)), 2).unwrap();
    assert!(!state.guilds[&guild].voice[&ada].flags.suppress);
    state
        .voice(guild, ada, go(nth(guild, STUDY_HALL)), 3)
        .unwrap();
}
