//! A guild, its roles, its members and their voice states.

use serde_json::json;

use super::Call;
use super::audit::{self, Action, Entry};
use super::errors::{Problem, Reply, Served};
use super::form::Form;
use crate::snowflake::Id;
use crate::state::{APPLICATION_ID, VoiceChange, permissions as may};
use crate::{Sim, render};

pub(super) fn guild(sim: &Sim, call: &Call) -> Served {
    let world = sim.world();
    let guild = world.state.guild(call.id(0)?)?;
    let mut object = render::guild(guild);
    if call.asks("with_counts") {
        object["approximate_member_count"] = json!(guild.members.len());
        object["approximate_presence_count"] = json!(guild.voice.len());
    }
    Reply::ok(object)
}

pub(super) fn roles(sim: &Sim, call: &Call) -> Served {
    let world = sim.world();
    let guild = world.state.guild(call.id(0)?)?;
    Reply::ok(guild.roles.values().map(render::role).collect())
}

pub(super) fn member(sim: &Sim, call: &Call) -> Served {
    let world = sim.world();
    let guild = world.state.guild(call.id(0)?)?;
    let user = call.id(1)?;
    if !world.state.users.contains_key(&user) {
        return Err(Problem::unknown(10013, "User"));
    }
    let member = render::member(&world.state, guild, user);
    Reply::ok(member.ok_or_else(|| Problem::unknown(10007, "Member"))?)
}

pub(super) fn own_voice_state(sim: &Sim, call: &Call) -> Served {
    voice_state_of(sim, call.id(0)?, APPLICATION_ID)
}

pub(super) fn voice_state(sim: &Sim, call: &Call) -> Served {
    voice_state_of(sim, call.id(0)?, call.id(1)?)
}

fn voice_state_of(sim: &Sim, guild: Id, user: Id) -> Served {
    let world = sim.world();
    let guild = world.state.guild(guild)?;
    let voice = guild
        .voice
        .get(&user)
        .ok_or_else(|| Problem::unknown(10065, "Voice State"))?;
    // The bot needs CONNECT where the user sits (`resources/voice.mdx`, since June 2026).
    let place = guild.channels.get(&voice.channel);
    let own = place.map_or(0, |place| may::in_channel(guild, place, APPLICATION_ID));
    if user != APPLICATION_ID && own & may::CONNECT == 0 {
        return Err(if own & may::VIEW_CHANNEL == 0 {
            Problem::missing_access()
        } else {
            Problem::missing_permissions()
        });
    }
    Reply::ok(render::full_voice_state(
        &world.state,
        guild,
        user,
        Some(voice),
        None,
    ))
}

/// Moves, disconnects, mutes or deafens a member.
pub(super) fn change_member(sim: &Sim, call: &Call) -> Served {
    let (guild_id, user) = (call.id(0)?, call.id(1)?);
    let reason = audit::reason(&call.headers)?;
    let fields = call.object()?;
    let mut form = Form::new(&fields);
    let change = VoiceChange {
        channel: if form.has("channel_id") {
            Some(form.id("channel_id"))
        } else {
            None
        },
        mute: form.flag("mute"),
        deaf: form.flag("deaf"),
        ..VoiceChange::default()
    };
    let change = form.finish(change)?;
    let mut world = sim.world();
    let guild = world.state.guild(guild_id)?;
    if !guild.members.contains_key(&user) {
        return Err(Problem::unknown(10007, "Member"));
    }
    let bot_may = may::in_guild(guild, APPLICATION_ID);
    let needed = [
        (change.channel.is_some(), may::MOVE_MEMBERS),
        (change.mute.is_some(), may::MUTE_MEMBERS),
        (change.deaf.is_some(), may::DEAFEN_MEMBERS),
    ];
    if needed
        .iter()
        .any(|(asked, bit)| *asked && bot_may & bit == 0)
    {
        return Err(Problem::missing_permissions());
    }
    if change != VoiceChange::default() {
        if !guild.voice.contains_key(&user) {
            return Err(Problem::bad(
                40032,
                "Target user is not connected to voice.",
            ));
        }
        let before = guild.voice.get(&user).map(|voice| voice.flags);
        let before = before.unwrap_or_default();
        let changes = [
            ("mute", before.mute, change.mute),
            ("deaf", before.deaf, change.deaf),
        ];
        if let Some(Some(channel)) = change.channel {
            let place = guild
                .channels
                .get(&channel)
                .ok_or_else(|| Problem::unknown(10003, "Channel"))?;
            if may::in_channel(guild, place, APPLICATION_ID) & may::CONNECT == 0 {
                return Err(Problem::missing_permissions());
            }
        }
        world.act(|state| state.voice(guild_id, user, change, call.now_ms))?;
        let entry_id = world.state.next_id(call.now_ms);
        sim.rest().audit.note(Entry {
            id: entry_id,
            action: Action::MemberUpdate,
            guild: guild_id,
            target: user,
            reason,
            changes: changes
                .into_iter()
                .filter_map(|(key, old, new)| Some((key, old, new?)))
                .filter(|(_, old, new)| old != new)
                .map(|(key, old, new)| json!({"key": key, "old_value": old, "new_value": new}))
                .collect(),
        });
    }
    let guild = world.state.guild(guild_id)?;
    let member = render::member(&world.state, guild, user);
    Reply::ok(member.ok_or_else(|| Problem::unknown(10007, "Member"))?)
}
