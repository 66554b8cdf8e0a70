//! A crowd that moves by itself: people come, change rooms, mute, deafen, stream, and go.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Sim;
use crate::snowflake::Id;
use crate::state::{
    DiscordState, Guild, LOUNGE, Refusal, STAFF_ROOM, STUDY_HALL, VoiceChange, guild_id, nth,
    people, permissions,
};

/// The shortest and the longest pause between two moves, milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 900..2_800;
/// How many sit in voice at the start.
const AT_START: usize = 5;

/// Lets the people of the first guild live until the shutdown.
pub(crate) async fn live(sim: Sim) {
    let mut luck = StdRng::seed_from_u64(sim.settings().sim_seed);
    for person in people().take(AT_START) {
        step(&sim, person, &mut luck, true);
    }
    loop {
        let pause = Duration::from_millis(luck.random_range(PAUSE_MS));
        tokio::select! {
            () = sim.shutdown().cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let crowd: Vec<Id> = people().collect();
        if let Some(person) = crowd.get(luck.random_range(0..crowd.len())) {
            step(&sim, *person, &mut luck, false);
        }
    }
}

fn step(sim: &Sim, person: Id, luck: &mut StdRng, only_join: bool) {
    let now_ms = sim.now_ms();
    let mut world = sim.world();
    let Some(wish) = wish(&world.state, person, luck, only_join) else {
        return;
    };
    match world.act(|state| state.voice(guild_id(0), person, wish, now_ms)) {
        Ok(_) | Err(Refusal::UnknownChannel | Refusal::NotInVoice) => {}
        Err(refusal) => tracing::debug!(%refusal, "somebody could not move"),
    }
}

/// What a person feels like doing.
fn wish(
    state: &DiscordState,
    person: Id,
    luck: &mut StdRng,
    only_join: bool,
) -> Option<VoiceChange> {
    let guild = state.guilds.get(&guild_id(0))?;
    let Some(voice) = guild.voice.get(&person) else {
        return Some(VoiceChange {
            channel: Some(Some(room_for(guild, person, luck)?)),
            self_mute: luck.random_bool(0.3).then_some(true),
            ..VoiceChange::default()
        });
    };
    if only_join {
        return None;
    }
    let flags = voice.flags;
    let still = VoiceChange::default();
    Some(match luck.random_range(0..100) {
        0..35 => VoiceChange {
            self_mute: Some(!flags.self_mute),
            ..still
        },
        35..45 => VoiceChange {
            // A deafened user is muted too, as in Discord's client.
            self_deaf: Some(!flags.self_deaf),
            self_mute: Some(!flags.self_deaf),
            ..still
        },
        45..55 => VoiceChange {
            self_stream: Some(!flags.self_stream),
            ..still
        },
        55..63 => VoiceChange {
            self_video: Some(!flags.self_video),
            ..still
        },
        63..82 => VoiceChange {
            channel: Some(Some(room_for(guild, person, luck)?)),
            ..still
        },
        _ => VoiceChange {
            channel: Some(None),
            ..still
        },
    })
}

/// A room that this person may enter; the seeded ones are liked best, and new ones are tried.
fn room_for(guild: &Guild, person: Id, luck: &mut StdRng) -> Option<Id> {
    let liked = [LOUNGE, LOUNGE, STUDY_HALL, STAFF_ROOM].map(|offset| nth(guild.id, offset));
    let rooms: Vec<Id> = liked
        .into_iter()
        .chain(guild.channels.keys().copied())
        .filter_map(|id| guild.channels.get(&id))
        .filter(|channel| channel.kind.is_voice())
        .filter(|channel| {
            let may = permissions::in_channel(guild, channel, person);
            let sitting = guild
                .voice
                .values()
                .filter(|voice| voice.channel == channel.id)
                .count();
            let full = channel.user_limit > 0
                && u32::try_from(sitting).is_ok_and(|sitting| sitting >= channel.user_limit);
            may & permissions::CONNECT != 0 && !full
        })
        .map(|channel| channel.id)
        .collect();
    rooms.get(luck.random_range(0..rooms.len().max(1))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crowd_keeps_moving_and_only_staff_enters_the_staff_room() {
        let mut state = DiscordState::seeded(1, 0, 10_000, 100);
        let mut luck = StdRng::seed_from_u64(7);
        let crowd: Vec<Id> = people().collect();
        let staff = nth(guild_id(0), STAFF_ROOM);
        let mut seen_in_staff = 0;
        for n in 0..2_000 {
            let person = crowd[luck.random_range(0..crowd.len())];
            if let Some(wish) = wish(&state, person, &mut luck, false) {
                // A person who is already there stays: nothing changes.
                let _same = state.voice(guild_id(0), person, wish, n);
            }
            let guild = state.guild(guild_id(0)).unwrap();
            for (user, voice) in &guild.voice {
                let channel = &guild.channels[&voice.channel];
                assert!(permissions::in_channel(guild, channel, *user) & permissions::CONNECT != 0);
                seen_in_staff += usize::from(voice.channel == staff);
            }
        }
        assert!(state.seq() > 1_000, "hardly anybody moved");
        assert!(seen_in_staff > 0, "nobody ever sat in the staff room");
    }
}
