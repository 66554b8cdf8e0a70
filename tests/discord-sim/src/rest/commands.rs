//! Application commands, global and of a guild (`interactions/application-commands.mdx`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Call;
use super::errors::{Problem, Reply, Served};
use super::form::{Form, nest};
use crate::Sim;
use crate::snowflake::Id;
use crate::truth::APPLICATION_ID;

/// Commands of one scope by type: chat input, user, message, and the entry point.
const MOST_BY_TYPE: [(u32, usize); 4] = [(1, 100), (2, 15), (3, 15), (4, 1)];
/// Commands that may be created in one scope within a day.
const CREATES_A_DAY: u32 = 200;
const DAY_MS: u64 = 86_400_000;
/// Options of one command, and choices of one option.
const OPTIONS_MAX: usize = 25;
/// The options that hold options: a subcommand, and a group of them.
const SUBCOMMAND: u32 = 1;
const SUBCOMMAND_GROUP: u32 = 2;

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
        .truth
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
    let fresh = sim.world().truth.next_id(call.now_ms);
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
        let fresh = world.truth.next_id(call.now_ms);
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
    let version = sim.world().truth.next_id(call.now_ms);
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

/// A command as it will be kept, its defaults filled in.
fn read_command(fields: &Map<String, Value>) -> Result<Value, Problem> {
    let mut form = Form::new(fields);
    form.require("name");
    let kind = form.number("type", 1, 4).unwrap_or(1);
    let name = read_name(&mut form, kind == 1);
    let description = if kind == 1 || kind == 4 {
        form.require("description");
        form.text("description", 1, 100).unwrap_or_default()
    } else {
        if form
            .text("description", 0, 100)
            .is_some_and(|text| !text.is_empty())
        {
            form.wrong(
                "description",
                "APPLICATION_COMMAND_CONTEXT_MENU_DESCRIPTION_NOT_ALLOWED",
                "Context menu commands cannot have description",
            );
        }
        ""
    };
    let mut command = json!({
        "type": kind,
        "name": name,
        "name_localizations": form.get("name_localizations"),
        "description": description,
        "description_localizations": form.get("description_localizations"),
        "default_member_permissions": form.get("default_member_permissions").map(|value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        }),
        "dm_permission": form.flag("dm_permission").unwrap_or(true),
        "contexts": form.get("contexts"),
        "integration_types": form.get("integration_types").cloned().unwrap_or_else(|| json!([0])),
        "nsfw": form.flag("nsfw").unwrap_or(false),
    });
    if let Some(options) = form
        .list("options", OPTIONS_MAX)
        .filter(|list| !list.is_empty())
    {
        let read = read_options(&mut form.errors, options, 0);
        command["options"] = read;
    }
    form.finish(command)
}

fn read_name<'a>(form: &mut Form<'a>, slash: bool) -> &'a str {
    let Some(name) = form.text("name", 1, 32) else {
        return "";
    };
    let fits = |letter: char| {
        (letter.is_alphanumeric() && !letter.is_uppercase()) || matches!(letter, '-' | '_' | '\'')
    };
    if slash && !name.chars().all(fits) {
        form.wrong(
            "name",
            "APPLICATION_COMMAND_INVALID_NAME",
            "Command name is invalid",
        );
    }
    name
}

/// Options as they will be kept. Subcommands stand at most under one group.
fn read_options(errors: &mut Map<String, Value>, options: &[Value], depth: u32) -> Value {
    let mut read = Vec::new();
    let mut optional_seen = false;
    for (index, entry) in options.iter().enumerate() {
        let empty = Map::new();
        let mut form = Form::new(entry.as_object().unwrap_or(&empty));
        for field in ["type", "name", "description"] {
            form.require(field);
        }
        let kind = form.number("type", 1, 11).unwrap_or(3);
        let name = read_name(&mut form, true);
        let description = form.text("description", 1, 100).unwrap_or_default();
        let mut option = json!({"type": kind, "name": name, "description": description});
        let nests = kind == SUBCOMMAND || kind == SUBCOMMAND_GROUP;
        if (kind == SUBCOMMAND_GROUP && depth > 0) || (kind == SUBCOMMAND && depth > 1) {
            form.wrong("type", "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID",
                "Sub-command and sub-command group option types are mutually exclusive to all other types");
        }
        if nests {
            let list = form.list("options", OPTIONS_MAX).unwrap_or_default();
            let mut inner = Map::new();
            let below = if kind == SUBCOMMAND { 2 } else { depth + 1 };
            option["options"] = read_options(&mut inner, list, below);
            if !inner.is_empty() {
                form.errors.append(&mut inner);
            }
        } else {
            let required = form.flag("required").unwrap_or(false);
            if required && optional_seen {
                form.wrong(
                    "required",
                    "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID",
                    "Required options must be placed before non-required options",
                );
            }
            optional_seen |= !required;
            option["required"] = required.into();
            form.list("choices", OPTIONS_MAX);
            for field in [
                "choices",
                "autocomplete",
                "channel_types",
                "min_value",
                "max_value",
                "min_length",
                "max_length",
            ] {
                if let Some(value) = form.get(field) {
                    option[field] = value.clone();
                }
            }
        }
        for field in ["name_localizations", "description_localizations"] {
            if let Some(value) = form.get(field) {
                option[field] = value.clone();
            }
        }
        nest(errors, "options", index, form.errors);
        read.push(option);
    }
    Value::Array(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &Value) -> Result<Value, Problem> {
        read_command(value.as_object().unwrap())
    }

    #[test]
    fn a_command_gets_its_defaults() {
        let room = json!({"name": "room", "description": "Voice rooms", "options": [
            {"type": 1, "name": "create", "description": "Open a room", "options": [
                {"type": 3, "name": "name", "description": "Its name", "max_length": 100},
            ]},
            {"type": 1, "name": "list", "description": "Which rooms are open"},
        ]});
        let read = read(&room).unwrap();
        assert_eq!(read["type"], 1);
        assert_eq!(read["default_member_permissions"], Value::Null);
        assert_eq!(read["options"][0]["options"][0]["required"], false);
        assert_eq!(read["options"][1]["options"], json!([]));
    }

    #[test]
    fn commands_that_discord_would_refuse_are_refused_at_their_field() {
        for (bad, path) in [
            (json!({"description": "x"}), "/name"),
            (json!({"name": "Room", "description": "x"}), "/name"),
            (json!({"name": "a b", "description": "x"}), "/name"),
            (json!({"name": "room"}), "/description"),
            (
                json!({"name": "room", "type": 2, "description": "x"}),
                "/description",
            ),
            (
                json!({"name": "room", "description": "x", "type": 9}),
                "/type",
            ),
            (
                json!({"name": "r", "description": "x", "options": [{"type": 3, "name": "n"}]}),
                "/options/0/description",
            ),
            (
                json!({"name": "r", "description": "x", "options": [
                {"type": 3, "name": "a", "description": "x"},
                {"type": 3, "name": "b", "description": "x", "required": true}]}),
                "/options/1/required",
            ),
            (
                json!({"name": "r", "description": "x", "options": [
                {"type": 1, "name": "a", "description": "x", "options": [
                    {"type": 1, "name": "b", "description": "x"}]}]}),
                "/options/0/options/0/type",
            ),
        ] {
            let errors = read(&bad).unwrap_err().errors.unwrap();
            assert!(
                errors.pointer(&format!("{path}/_errors")).is_some(),
                "{bad} gave {errors}"
            );
        }
    }
}
