//! Channels: list, create, read, change, delete (`resources/guild.mdx`, `resources/channel.mdx`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Call;
use super::audit::{self, Action, Entry};
use super::errors::{Problem, Reply, Served};
use super::form::{Form, nest};
use crate::snowflake::Id;
use crate::state::permissions as may;
use crate::state::{
    APPLICATION_ID, Channel, ChannelKind, Guild, Overwrite, OverwriteKind, normalise_name,
};
use crate::{Sim, render};

/// "The write action you are performing on the channel has hit the write rate limit".
const WRITE_LIMIT: u32 = 20028;
/// Within which renames of a channel are counted, milliseconds.
const RENAME_WINDOW_MS: u64 = 600_000;

pub(super) fn list(sim: &Sim, call: &Call) -> Served {
    let world = sim.world();
    let guild = world.state.guild(call.id(0)?)?;
    let obfuscate = sim.settings().sim_obfuscate;
    Reply::ok(
        guild
            .channels
            .values()
            .filter(|channel| !obfuscate || may::views(guild, channel, APPLICATION_ID))
            .map(|channel| render::channel(guild, channel))
            .collect(),
    )
}

pub(super) fn create(sim: &Sim, call: &Call) -> Served {
    let guild_id = call.id(0)?;
    let reason = audit::reason(&call.headers)?;
    let fields = call.object()?;
    let mut world = sim.world();
    let guild = world.state.guild(guild_id)?;
    let bot_may = may::in_guild(guild, APPLICATION_ID);
    if bot_may & may::MANAGE_CHANNELS == 0 {
        return Err(Problem::missing_permissions());
    }
    let mut form = Form::new(&fields);
    form.require("name");
    let kind = read_kind(&mut form, ChannelKind::Text);
    let blank = Channel::new(guild_id, kind, "");
    let channel = read(&mut form, guild, blank);
    let mut channel = form.finish(channel)?;
    allowed_overwrites(&channel, bot_may)?;
    if let Some(parent) = channel.parent_id.and_then(|id| guild.channels.get(&id)) {
        if may::in_channel(guild, parent, APPLICATION_ID) & may::MANAGE_CHANNELS == 0 {
            return Err(Problem::missing_permissions());
        }
        // Without overwrites of its own a channel is synced to its category.
        if fields
            .get("permission_overwrites")
            .is_none_or(Value::is_null)
        {
            channel.overwrites.clone_from(&parent.overwrites);
        }
    }
    let made = world.act(|state| state.create_channel(guild_id, channel, call.now_ms))?;
    let created = made.iter().find_map(|transition| match &transition.change {
        crate::state::Change::ChannelCreated(channel) => Some(channel.clone()),
        _ => None,
    });
    let created = created.ok_or_else(|| Problem::unknown(10003, "Channel"))?;
    let entry_id = world.state.next_id(call.now_ms);
    let shown = render::channel(world.state.guild(guild_id)?, &created);
    sim.rest().audit.note(Entry {
        id: entry_id,
        action: Action::ChannelCreate,
        guild: guild_id,
        target: created.id,
        reason,
        changes: audit::channel_changes(None, Some(&shown)),
    });
    Reply::created(shown)
}

pub(super) fn read_one(guild: &Guild, id: Id, needs: u64) -> Result<&Channel, Problem> {
    let channel = guild
        .channels
        .get(&id)
        .ok_or_else(|| Problem::unknown(10003, "Channel"))?;
    if !may::views(guild, channel, APPLICATION_ID) {
        return Err(Problem::missing_access());
    }
    if may::in_channel(guild, channel, APPLICATION_ID) & needs != needs {
        return Err(Problem::missing_permissions());
    }
    Ok(channel)
}

pub(super) fn read_route(sim: &Sim, call: &Call) -> Served {
    let world = sim.world();
    let guild = world.state.guild_of(call.id(0)?)?;
    Reply::ok(render::channel(guild, read_one(guild, call.id(0)?, 0)?))
}

pub(super) fn change(sim: &Sim, call: &Call) -> Served {
    let id = call.id(0)?;
    let reason = audit::reason(&call.headers)?;
    let fields = call.object()?;
    let mut world = sim.world();
    let guild = world.state.guild_of(id)?;
    let guild_id = guild.id;
    let overwrites = fields
        .get("permission_overwrites")
        .is_some_and(|value| !value.is_null());
    let needs = may::MANAGE_CHANNELS | if overwrites { may::MANAGE_ROLES } else { 0 };
    let before = read_one(guild, id, needs)?;
    let shown_before = render::channel(guild, before);
    let mut form = Form::new(&fields);
    let changed = read(&mut form, guild, before.clone());
    let changed = form.finish(changed)?;
    allowed_overwrites(&changed, may::in_guild(guild, APPLICATION_ID))?;
    if changed.name != before.name {
        let limit_state = sim.rest().limits.take(
            "rename",
            &id.to_string(),
            sim.settings().sim_renames,
            RENAME_WINDOW_MS,
            call.now_ms,
        );
        if limit_state.exceeded {
            return Err(Problem::limited(
                WRITE_LIMIT,
                limit_state.ends_ms.saturating_sub(call.now_ms),
            ));
        }
    }
    world.act(|state| state.update_channel(changed.clone(), call.now_ms))?;
    let entry_id = world.state.next_id(call.now_ms);
    let shown = render::channel(world.state.guild(guild_id)?, &changed);
    sim.rest().audit.note(Entry {
        id: entry_id,
        action: Action::ChannelUpdate,
        guild: guild_id,
        target: id,
        reason,
        changes: audit::channel_changes(Some(&shown_before), Some(&shown)),
    });
    Reply::ok(shown)
}

pub(super) fn delete(sim: &Sim, call: &Call) -> Served {
    let id = call.id(0)?;
    let reason = audit::reason(&call.headers)?;
    let mut world = sim.world();
    let guild = world.state.guild_of(id)?;
    let guild_id = guild.id;
    let answer = render::channel(guild, read_one(guild, id, may::MANAGE_CHANNELS)?);
    world.act(|state| state.delete_channel(id, call.now_ms))?;
    let entry_id = world.state.next_id(call.now_ms);
    sim.rest().audit.note(Entry {
        id: entry_id,
        action: Action::ChannelDelete,
        guild: guild_id,
        target: id,
        reason,
        changes: audit::channel_changes(Some(&answer), None),
    });
    Reply::ok(answer)
}

/// The status line of a voice channel.
pub(super) fn set_status(sim: &Sim, call: &Call) -> Served {
    let id = call.id(0)?;
    let fields = call.object()?;
    let mut form = Form::new(&fields);
    let status = form
        .text("status", 0, 500)
        .filter(|status| !status.is_empty())
        .map(str::to_owned);
    let status = form.finish(status)?;
    let mut world = sim.world();
    read_one(world.state.guild_of(id)?, id, may::SET_VOICE_CHANNEL_STATUS)?;
    world.act(|state| state.set_status(id, status, call.now_ms))?;
    Reply::no_content()
}

fn read_kind(form: &mut Form<'_>, default: ChannelKind) -> ChannelKind {
    let Some(value) = form.get("type") else {
        return default;
    };
    match value.as_u64().and_then(ChannelKind::from_number) {
        Some(kind) => kind,
        None => {
            form.wrong(
                "type",
                "BASE_TYPE_CHOICES",
                "Value must be one of (0, 2, 4, 13).",
            );
            default
        }
    }
}

/// Reads the fields of a channel over what it is already.
fn read(form: &mut Form<'_>, guild: &Guild, mut channel: Channel) -> Channel {
    if let Some(name) = form.text("name", 1, 100) {
        channel.name = normalise_name(channel.kind, name);
    }
    if let Some(position) = form.number("position", 0, i32::MAX.unsigned_abs()) {
        channel.position = position;
    }
    let stage = channel.kind == ChannelKind::Stage;
    if channel.kind.is_voice() {
        if let Some(limit) = form.number("user_limit", 0, if stage { 10_000 } else { 99 }) {
            channel.user_limit = limit;
        }
        if let Some(bitrate) = form.number("bitrate", 8_000, if stage { 64_000 } else { 96_000 }) {
            channel.bitrate = bitrate;
        }
        if form.has("rtc_region") {
            channel.rtc_region = form.text("rtc_region", 0, 64).map(str::to_owned);
        }
        if let Some(mode) = form.number("video_quality_mode", 1, 2) {
            channel.video_quality_mode = mode;
        }
    }
    if channel.kind == ChannelKind::Text && form.has("topic") {
        channel.topic = form.text("topic", 0, 1_024).map(str::to_owned);
    }
    if let Some(seconds) = form.number("rate_limit_per_user", 0, 21_600) {
        channel.rate_limit_per_user = seconds;
    }
    if let Some(nsfw) = form.flag("nsfw") {
        channel.nsfw = nsfw;
    }
    if form.has("parent_id") {
        channel.parent_id = form.id("parent_id");
    }
    if let Some(list) = form.list("permission_overwrites", 100) {
        channel.overwrites = read_overwrites(form, guild, list);
    }
    channel
}

fn read_overwrites(form: &mut Form<'_>, guild: &Guild, list: &[Value]) -> BTreeMap<Id, Overwrite> {
    let mut overwrites = BTreeMap::new();
    for (index, entry) in list.iter().enumerate() {
        let empty = Map::new();
        let mut inner = Form::new(entry.as_object().unwrap_or(&empty));
        inner.require("id");
        let id = inner.id("id");
        // The type may be left out where the id determines it.
        let kind = match inner.number("type", 0, 1) {
            Some(1) => OverwriteKind::Member,
            Some(_) => OverwriteKind::Role,
            None if id.is_some_and(|id| guild.roles.contains_key(&id)) => OverwriteKind::Role,
            None => OverwriteKind::Member,
        };
        let (allow, deny) = (inner.bits("allow"), inner.bits("deny"));
        nest(
            &mut form.errors,
            "permission_overwrites",
            index,
            inner.errors,
        );
        if let Some(id) = id {
            overwrites.insert(
                id,
                Overwrite {
                    id,
                    kind,
                    allow,
                    deny,
                },
            );
        }
    }
    overwrites
}

/// "Only permissions your bot has in the guild can be allowed/denied."
fn allowed_overwrites(channel: &Channel, bot_may: u64) -> Result<(), Problem> {
    let foreign = |overwrite: &Overwrite| (overwrite.allow | overwrite.deny) & !bot_may != 0;
    if bot_may & may::ADMINISTRATOR == 0 && channel.overwrites.values().any(foreign) {
        return Err(Problem::missing_permissions());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{DiscordState, guild_id};

    fn errors_of(body: &Value) -> Value {
        let state = DiscordState::seeded(1, 0, 10, 10);
        let guild = state.guild(guild_id(0)).unwrap();
        let fields = body.as_object().unwrap().clone();
        let mut form = Form::new(&fields);
        form.require("name");
        let kind = read_kind(&mut form, ChannelKind::Text);
        let channel = read(&mut form, guild, Channel::new(guild.id, kind, ""));
        match form.finish(channel) {
            Ok(_) => Value::Null,
            Err(problem) => problem.errors.unwrap(),
        }
    }

    #[test]
    fn what_is_wrong_stands_at_its_field() {
        for (body, path, code) in [
            (serde_json::json!({}), "/name", "BASE_TYPE_REQUIRED"),
            (
                serde_json::json!({"name": ""}),
                "/name",
                "BASE_TYPE_BAD_LENGTH",
            ),
            (
                serde_json::json!({"name": "x".repeat(101)}),
                "/name",
                "BASE_TYPE_BAD_LENGTH",
            ),
            (
                serde_json::json!({"name": "x", "type": 99}),
                "/type",
                "BASE_TYPE_CHOICES",
            ),
            (
                serde_json::json!({"name": "x", "type": 2, "user_limit": 100}),
                "/user_limit",
                "NUMBER_TYPE_MAX",
            ),
            (
                serde_json::json!({"name": "x", "type": 2, "user_limit": -1}),
                "/user_limit",
                "NUMBER_TYPE_MIN",
            ),
            (
                serde_json::json!({"name": "x", "type": 2, "bitrate": 7_999}),
                "/bitrate",
                "NUMBER_TYPE_MIN",
            ),
            (
                serde_json::json!({"name": "x", "parent_id": "no"}),
                "/parent_id",
                "NUMBER_TYPE_COERCE",
            ),
            (
                serde_json::json!({"name": "x", "nsfw": "yes"}),
                "/nsfw",
                "BOOLEAN_TYPE_CONVERT",
            ),
            (
                serde_json::json!({"name": "x", "permission_overwrites": [{"id": "1"}, {"allow": "z"}]}),
                "/permission_overwrites/1/allow",
                "NUMBER_TYPE_COERCE",
            ),
        ] {
            let errors = errors_of(&body);
            let found = errors.pointer(&format!("{path}/_errors/0/code"));
            assert_eq!(
                found.and_then(Value::as_str),
                Some(code),
                "{body} gave {errors}"
            );
        }
    }

    #[test]
    fn a_good_body_has_no_errors() {
        let body = serde_json::json!({
            "name": " Room ", "type": 2, "user_limit": 99, "bitrate": 96_000, "parent_id": null,
            "permission_overwrites": [{"id": "1", "type": 1, "allow": "1024", "deny": null}],
        });
        assert_eq!(errors_of(&body), Value::Null);
    }
}
