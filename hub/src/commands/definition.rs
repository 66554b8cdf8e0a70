//! The slash commands as they are registered at Discord (Discord's documentation, "Application
//! Commands").
//!
//! Only these fields are compared. Fields that Discord adds (ids, versions, defaults) and
//! translations from the portal are ignored.

use serde::{Deserialize, Serialize};

/// A subcommand.
const SUBCOMMAND: u8 = 1;
/// An option that is text.
const STRING: u8 = 3;
/// An option that is a whole number.
const INTEGER: u8 = 4;
/// An option that is a channel.
const CHANNEL: u8 = 7;
/// A command that is typed.
const CHAT_INPUT: u8 = 1;
/// The channel type of a voice channel.
const VOICE_CHANNEL: u8 = 2;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Its name, unique among those of its kind.
    pub name: String,
    /// How it is called up.
    #[serde(rename = "type", default = "chat_input")]
    pub kind: u8,
    /// What it does, for people; empty for kinds that are not typed.
    #[serde(default)]
    pub description: String,
    /// What can be given to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionDefinition>,
}

/// An option of a command, or a subcommand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptionDefinition {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: u8,
    /// What it means, for people.
    pub description: String,
    /// Whether it must be given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// Of a text: its most characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// Of a number: the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_value: Option<i64>,
    /// Of a number: the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_value: Option<i64>,
    /// Of a channel: which types can be chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channel_types: Vec<u8>,
    /// Of a subcommand: what can be given to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Self>,
}

fn chat_input() -> u8 {
    CHAT_INPUT
}

/// `/room create`, `/room list`, `/room end`.
pub fn room() -> Definition {
    Definition {
        name: "room".to_owned(),
        kind: CHAT_INPUT,
        description: "Voice rooms: open one, see them, close one".to_owned(),
        options: vec![
            OptionDefinition {
                options: vec![
                    OptionDefinition {
                        max_length: Some(100),
                        ..option(STRING, "name", "What the room is called")
                    },
                    OptionDefinition {
                        min_value: Some(0),
                        max_value: Some(99),
                        ..option(
                            INTEGER,
                            "limit",
                            "How many people fit; 0 means no limit (4 if you do not say)",
                        )
                    },
                ],
                ..option(SUBCOMMAND, "create", "Open a voice room")
            },
            option(
                SUBCOMMAND,
                "list",
                "See the rooms and how many people are in them",
            ),
            OptionDefinition {
                options: vec![OptionDefinition {
                    required: true,
                    channel_types: vec![VOICE_CHANNEL],
                    ..option(CHANNEL, "room", "The room to close")
                }],
                ..option(SUBCOMMAND, "end", "Close a room that you opened")
            },
        ],
    }
}

fn option(kind: u8, name: &str, description: &str) -> OptionDefinition {
    OptionDefinition {
        name: name.to_owned(),
        kind,
        description: description.to_owned(),
        required: false,
        max_length: None,
        min_value: None,
        max_value: None,
        channel_types: Vec::new(),
        options: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What Discord adds when it gives a command back.
    fn given_back(definition: &Definition) -> Value {
        let mut value = serde_json::to_value(definition).unwrap();
        for (key, added) in [
            ("id", json!("1")),
            ("application_id", json!("2")),
            ("guild_id", json!("3")),
            ("version", json!("4")),
            ("default_member_permissions", Value::Null),
            ("dm_permission", json!(true)),
            ("nsfw", json!(false)),
            ("description_localizations", json!({"de": "…"})),
        ] {
            value[key] = added;
        }
        for option in value["options"].as_array_mut().unwrap() {
            option["required"] = json!(false);
        }
        value
    }

    #[test]
    fn a_command_that_discord_returns_equals_the_registered_one() {
        let back: Definition = serde_json::from_value(given_back(&room())).unwrap();
        assert_eq!(back, room());
    }

    #[test]
    fn any_difference_in_what_is_written_here_is_one() {
        let pristine = given_back(&room());
        for (pointer, other) in [
            ("/description", json!("x")),
            ("/type", json!(2)),
            ("/options/0/name", json!("make")),
            ("/options/0/options/0/max_length", json!(99)),
            ("/options/0/options/1/max_value", json!(10)),
            ("/options/2/options/0/required", json!(false)),
            ("/options/2/options/0/channel_types", json!([2, 13])),
        ] {
            let mut value = pristine.clone();
            *value.pointer_mut(pointer).unwrap() = other;
            let other: Definition = serde_json::from_value(value).unwrap();
            assert_ne!(other, room(), "{pointer}");
        }
    }

    #[test]
    fn commands_of_other_kinds_can_be_read() {
        let user = json!({"id": "1", "type": 2, "name": "Report", "description": ""});
        assert_eq!(serde_json::from_value::<Definition>(user).unwrap().kind, 2);
    }

    #[test]
    fn the_definition_keeps_discords_limits() {
        fn check(options: &[OptionDefinition]) {
            assert!(options.len() <= 25);
            for option in options {
                assert!(
                    (1..=32).contains(&option.name.len())
                        && option.name.bytes().all(|byte| byte.is_ascii_lowercase())
                );
                assert!(
                    (1..=100).contains(&option.description.chars().count()),
                    "{}",
                    option.name
                );
                check(&option.options);
            }
        }
        let room = room();
        assert!((1..=100).contains(&room.description.chars().count()));
        check(&room.options);
    }
}
