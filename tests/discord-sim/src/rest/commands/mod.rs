//! Application commands, global and of a guild (`interactions/application-commands.mdx`).

mod reading;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Call;
use super::errors::{Problem, Reply, Served};
use crate::Sim;
use crate::snowflake::Id;
use crate::state::APPLICATION_ID;
use reading::read_command;

/// Commands of one scope by type: chat input, user, message, and the entry point.
const MOST_BY_TYPE: [(u32, usize); 4] = [(1, 100), (2, 15), (3, 15), (4, 1)];
/// Commands that may be created in one scope within a day.
const CREATES_A_DAY: u32 = 200;
const DAY_MS: u64 = 86_400_000;
/// All commands, by scope: none is global.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    scopes: BTreeMap<Option<Id>, Scope>,
}

#[derive(Debug, Default)]
struct Scope {
    commands: BTreeMap<Id, Value>,
    creates: u32,
    creates_from_ms: u64,
}

impl Scope {
    fn named(&self, command: &Value) -> Option<Id> {
        self.commands
            .iter()
            .find(|(_, known)| known["name"] == command["name"] && known["type"] == command["type"])
            .map(|(id, _)| *id)
    }

    /// Counts a creation; false: too many today.
    fn may_create(&mut self, now_ms: u64) -> bool {
        if now_ms >= self.creates_from_ms.saturating_add(DAY_MS) {
            self.creates = 0;
            self.creates_from_ms = now_ms;
        }
        self.creates += 1;
        self.creates <= CREATES_A_DAY
    }

    fn is_full(&self, kind: u32) -> bool {
        let most = MOST_BY_TYPE
            .iter()
            .find(|(of, _)| *of == kind)
            .map_or(0, |(_, most)| *most);
        self.commands
            .values()
            .filter(|known| known["type"] == kind)
            .count()
            >= most
    }
}

impl Commands {
    /// Every command, for the control side: by scope (`global` or a guild's id).
    pub(crate) fn describe(&self) -> Value {
        let scopes: Map<String, Value> = self
            .scopes
            .iter()
            .map(|(scope, held)| {
                let name = scope.map_or_else(|| "global".to_owned(), |guild| guild.to_string());
                (name, held.commands.values().cloned().collect())
            })
            .collect();
        Value::Object(scopes)
    }
}

/// The scope that a path means: global, or a guild of the bot.
fn scope_of(sim: &Sim, call: &Call) -> Result<Option<Id>, Problem> {
    if call.id(0)? != APPLICATION_ID {
        return Err(Problem::missing_access());
    }
    if !call.path.contains("/guilds/") {
        return Ok(None);
    }
    let guild = call.id(1)?;
    sim.world()
        .state
        .guild(guild)
        .map_err(|_| Problem::missing_access())?;
    Ok(Some(guild))
}

fn command_of(call: &Call, scope: Option<Id>) -> Result<Id, Problem> {
    call.id(if scope.is_some() { 2 } else { 1 })
}

fn unknown() -> Problem {
    Problem::unknown(10063, "application command")
}

pub(super) fn list(sim: &Sim, call: &Call) -> Served {
    let scope = scope_of(sim, call)?;
    let books = sim.rest();
    let commands = books.commands.scopes.get(&scope);
    Reply::ok(commands.map_or_else(
        || json!([]),
        |scope| {
            scope
                .commands
                .values()
                .map(|command| shown(call, command))
                .collect()
        },
    ))
}

/// Translations come along only when they are asked for.
fn shown(call: &Call, command: &Value) -> Value {
    let mut command = command.clone();
    if !call.asks("with_localizations")
        && let Some(fields) = command.as_object_mut()
    {
        fields.remove("name_localizations");
        fields.remove("description_localizations");
    }
    command
}

pub(super) fn read(sim: &Sim, call: &Call) -> Served {
    let scope = scope_of(sim, call)?;
    let id = command_of(call, scope)?;
    let books = sim.rest();
    let command = books
        .commands
        .scopes
        .get(&scope)
        .and_then(|held| held.commands.get(&id));
    Reply::ok(command.cloned().ok_or_else(unknown)?)
}

/// Creates a command, or replaces the one of the same name and type.
pub(super) fn upsert(sim: &Sim, call: &Call) -> Served {
    let scope = scope_of(sim, call)?;
    let command = read_command(&call.object()?)?;
    let fresh = sim.world().state.next_id(call.now_ms);
    let mut books = sim.rest();
    let held = books.commands.scopes.entry(scope).or_default();
    let known = held.named(&command);
    if known.is_none() {
        let kind = command["type"]
            .as_u64()
            .and_then(|kind| u32::try_from(kind).ok())
            .unwrap_or(1);
        if held.is_full(kind) {
            return Err(Problem::bad(
                30032,
                "Maximum number of application commands reached (100).",
            ));
        }
        if !held.may_create(call.now_ms) {
            return Err(Problem::bad(
                30034,
                "Max number of daily application command creates has been reached (200)",
            ));
        }
    }
    let id = known.unwrap_or(fresh);
    let whole = whole(id, fresh, scope, command);
    held.commands.insert(id, whole.clone());
    if known.is_some() {
        Reply::ok(whole)
    } else {
        Reply::created(whole)
    }
}

/// Replaces all commands of the scope; those whose name and type stay keep their ids.
pub(super) fn overwrite(sim: &Sim, call: &Call) -> Served {
    let scope = scope_of(sim, call)?;
    let body = call.json()?;
    let Some(list) = body.as_array() else {
        return Err(Problem::invalid_field(
            "_errors",
            "LIST_TYPE_CONVERT",
            "Only iterables may be used in a ListType",
        ));
    };
    let mut commands = Vec::new();
    let mut errors = Map::new();
    for (index, entry) in list.iter().enumerate() {
        match read_command(entry.as_object().unwrap_or(&Map::new())) {
            Ok(command) => commands.push(command),
            Err(problem) => {
                errors.insert(index.to_string(), problem.errors.unwrap_or_default());
            }
        }
    }
    for (index, command) in commands.iter().enumerate() {
        let same =
            |other: &&Value| other["name"] == command["name"] && other["type"] == command["type"];
        if commands.iter().take(index).any(|other| same(&other)) {
            let message = "Application command names must be unique";
            errors.insert(
                index.to_string(),
                json!({"name": super::errors::field_error(
                "APPLICATION_COMMANDS_DUPLICATE_NAME", message)}),
            );
        }
    }
    if !errors.is_empty() {
        return Err(Problem::invalid_form(errors));
    }
    for (kind, most) in MOST_BY_TYPE {
        if commands
            .iter()
            .filter(|command| command["type"] == kind)
            .count()
            > most
        {
            return Err(Problem::bad(
                30032,
                "Maximum number of application commands reached (100).",
            ));
        }
    }
    let mut world = sim.world();
    let mut books = sim.rest();
    let held = books.commands.scopes.entry(scope).or_default();
    let mut kept = BTreeMap::new();
    for command in commands {
        let fresh = world.state.next_id(call.now_ms);
        let known = held.named(&command);
        if known.is_none() && !held.may_create(call.now_ms) {
            return Err(Problem::bad(
                30034,
                "Max number of daily application command creates has been reached (200)",
            ));
        }
        let id = known.unwrap_or(fresh);
        kept.insert(id, whole(id, fresh, scope, command));
    }
    held.commands = kept;
    Reply::ok(held.commands.values().cloned().collect())
}

pub(super) fn change(sim: &Sim, call: &Call) -> Served {
    let scope = scope_of(sim, call)?;
    let id = command_of(call, scope)?;
    let fields = call.object()?;
    let version = sim.world().state.next_id(call.now_ms);
    let mut books = sim.rest();
    let held = books.commands.scopes.entry(scope).or_default();
    let known = held.commands.get(&id).ok_or_else(unknown)?;
    let mut merged = known.as_object().cloned().unwrap_or_default();
    for (key, value) in fields.iter().filter(|(key, _)| *key != "type") {
        merged.insert(key.clone(), value.clone());
    }
    let changed = whole(id, version, scope, read_command(&merged)?);
    held.commands.insert(id, changed.clone());
    Reply::ok(changed)
}

pub(super) fn delete(sim: &Sim, call: &Call) -> Served {
    let scope = scope_of(sim, call)?;
    let id = command_of(call, scope)?;
    let mut books = sim.rest();
    let held = books.commands.scopes.entry(scope).or_default();
    held.commands.remove(&id).ok_or_else(unknown)?;
    Reply::no_content()
}

/// What was read, with what Discord adds.
fn whole(id: Id, version: Id, scope: Option<Id>, mut command: Value) -> Value {
    command["id"] = json!(id);
    command["application_id"] = json!(APPLICATION_ID);
    command["version"] = json!(version);
    if let Some(guild) = scope {
        command["guild_id"] = json!(guild);
        // What only global commands have.
        if let Some(fields) = command.as_object_mut() {
            for global in ["contexts", "dm_permission", "integration_types"] {
                fields.remove(global);
            }
        }
    }
    command
}
