//! What a command must be, and what Discord fills in.

use serde_json::{Map, Value, json};

use crate::rest::errors::Problem;
use crate::rest::form::{Form, nest};

/// Options of one command, and choices of one option.
const OPTIONS_MAX: usize = 25;
/// The options that hold options: a subcommand, and a group of them.
const SUBCOMMAND: u32 = 1;
const SUBCOMMAND_GROUP: u32 = 2;

/// A command as it will be kept, its defaults filled in.
pub(super) fn read_command(fields: &Map<String, Value>) -> Result<Value, Problem> {
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
