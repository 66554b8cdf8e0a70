//! Slash commands: one function a command, each calling the same methods of [`Rooms`] as REST.
//!
//! Only the user of the command sees the response. It notifies nobody and shows names as they are
//! written: Markdown and mentions in them are escaped.

pub mod definition;
pub mod registration;

use std::fmt::Write as _;

use proto::frame::SnapshotRoom;
use proto::problem::Code;
use proto::rest::CreateRoom;
use proto::{ChannelId, GuildId};
use serde::Deserialize;
use serde_json::Value;

use crate::auth::Principal;
use crate::error::ApiError;
use crate::rooms::Rooms;

/// The longest list, in characters. A message has at most 2,000 (Discord's documentation, "Create
/// Message"), and the last line of the list needs some.
const LIST_CHARS_MAX: usize = 1_900;

/// A command with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `/room create`.
    Create {
        /// The room's name.
        name: Option<String>,
        /// The most members of the room.
        limit: Option<u32>,
    },
    /// `/room list`.
    List,
    /// `/room end`.
    End {
        /// The room's channel.
        room: ChannelId,
    },
}

#[derive(Deserialize)]
struct OptionValue {
    name: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    options: Vec<Self>,
}

impl Command {
    /// The command of an interaction's `data`. `None` if the command or its form is unknown: a user's
    /// client may have an older form.
    pub fn read(data: Value) -> Option<Self> {
        let command: OptionValue = serde_json::from_value(data).ok()?;
        let [sub] = &command.options[..] else {
            return None;
        };
        let given = |name: &str| {
            sub.options
                .iter()
                .find(|option| option.name == name)
                .map(|option| &option.value)
        };
        match (command.name.as_str(), sub.name.as_str()) {
            ("room", "create") => Some(Self::Create {
                name: given("name")
                    .map(|value| value.as_str().map(str::to_owned).ok_or(()))
                    .transpose()
                    .ok()?,
                limit: given("limit")
                    .map(|value| {
                        value
                            .as_u64()
                            .and_then(|limit| limit.try_into().ok())
                            .ok_or(())
                    })
                    .transpose()
                    .ok()?,
            }),
            ("room", "list") => Some(Self::List),
            ("room", "end") => Some(Self::End {
                room: given("room")?.as_str()?.parse().ok()?,
            }),
            _ => None,
        }
    }

    /// Executes the command for a principal in a guild, and returns the message for them.
    pub async fn run(
        self,
        rooms: &Rooms,
        actor: &Principal,
        guild: GuildId,
        interaction: u64,
    ) -> String {
        let outcome = match self {
            Self::Create { name, limit } => {
                create(rooms, actor, guild, interaction, name, limit).await
            }
            Self::List => list(rooms, actor, guild),
            Self::End { room } => end(rooms, actor, room).await,
        };
        outcome.unwrap_or_else(|error| error_text(&error))
    }
}

async fn create(
    rooms: &Rooms,
    actor: &Principal,
    guild: GuildId,
    interaction: u64,
    name: Option<String>,
    limit: Option<u32>,
) -> Result<String, ApiError> {
    // The other commands may be repeated: a second time they have no second effect.
    if !rooms.note_interaction(interaction).await? {
        return Ok("Roomwire has answered this already.".to_owned());
    }
    let wish = CreateRoom {
        name,
        parent_id: None,
        user_limit: limit,
        guild_id: Some(guild),
    };
    let created = rooms.create(actor, &wish, None).await?;
    Ok(format!(
        "**{}** is open: <#{}>",
        escape(&created.name),
        created.channel_id
    ))
}

fn list(rooms: &Rooms, actor: &Principal, guild: GuildId) -> Result<String, ApiError> {
    let listed = rooms.list(actor, guild, None)?;
    Ok(write_list(&listed.rooms))
}

async fn end(rooms: &Rooms, actor: &Principal, room: ChannelId) -> Result<String, ApiError> {
    rooms.end(actor, room).await?;
    Ok("The room is closed.".to_owned())
}

fn write_list(rooms: &[SnapshotRoom]) -> String {
    if rooms.is_empty() {
        return "There are no rooms. `/room create` opens one.".to_owned();
    }
    let mut text = String::new();
    for (index, room) in rooms.iter().enumerate() {
        let mut line = format!(
            "**{}** <#{}> · {}",
            escape(&room.room.name),
            room.room.channel_id,
            room.members.len()
        );
        // Writing into a String does not fail.
        let _written = match room.room.user_limit {
            0 => Ok(()),
            limit => write!(line, " of {limit}"),
        };
        line.push_str(if room.opening { " · opening\n" } else { "\n" });
        if text.chars().count() + line.chars().count() > LIST_CHARS_MAX {
            let _written = write!(text, "… and {} more", rooms.len() - index);
            break;
        }
        text.push_str(&line);
    }
    text
}

/// An error as a text for users. It contains no more than the problem document does.
fn error_text(error: &ApiError) -> String {
    let mut text = match error.code {
        Code::NotFound => "That is not a room that you opened here.".to_owned(),
        Code::RateLimited => "That was too many rooms in a short time.".to_owned(),
        _ => {
            // A detail may end with a full stop.
            let detail = error.detail.trim_end_matches('.');
            let mut text = format!("That did not work: {detail}.");
            for problem in &error.errors {
                let _written = write!(text, "\n`{}`: {}", problem.field, problem.detail);
            }
            text
        }
    };
    if let Some(ms) = error.retry_after_ms {
        let _written = write!(text, " Try again in {} s.", ms.div_ceil(1000).max(1));
    }
    text
}

/// A name in Markdown that Discord shows as it is written. A backslash escapes any punctuation.
fn escape(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for char in name.chars() {
        if char.is_ascii_punctuation() {
            text.push('\\');
        }
        text.push(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::frame::RoomPayload;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_command_is_read_with_its_options() {
        let sub = |name: &str, options: Value| json!({"id": "1", "name": "room", "type": 1, "options": [{"name": name, "type": 1, "options": options}]});
        let one = |sub_name: &str, name: &str, value: Value| {
            sub(sub_name, json!([{"name": name, "type": 3, "value": value}]))
        };
        let create = |name: Option<&str>, limit| {
            Some(Command::Create {
                name: name.map(str::to_owned),
                limit,
            })
        };
        let end = |room: &str| {
            Some(Command::End {
                room: room.parse().unwrap(),
            })
        };
        let both =
            json!([{"name": "limit", "type": 4, "value": 2}, {"name": "name", "value": "a"}]);
        for (data, command) in [
            (sub("create", json!([])), create(None, None)),
            (sub("create", both), create(Some("a"), Some(2))),
            (one("create", "limit", json!(-1)), None),
            (one("create", "limit", json!("2")), None),
            (one("create", "name", json!(2)), None),
            (sub("list", json!([])), Some(Command::List)),
            (one("end", "room", json!("11")), end("11")),
            (one("end", "room", json!("0")), None),
            (sub("end", json!([])), None),
            (sub("unheard-of", json!([])), None),
            (json!({"name": "other", "options": []}), None),
            (json!({"name": "room"}), None),
            (json!(null), None),
        ] {
            assert_eq!(Command::read(data.clone()), command, "{data}");
        }
    }

    #[test]
    fn a_name_is_shown_as_it_is_written() {
        for (name, text) in [
            ("Kitchen 2", "Kitchen 2"),
            ("**@everyone**", "\\*\\*\\@everyone\\*\\*"),
            ("<@&1> [a](b)", "\\<\\@\\&1\\> \\[a\\]\\(b\\)"),
            ("Zoë · 名", "Zoë · 名"),
            ("\\*", "\\\\\\*"),
        ] {
            assert_eq!(escape(name), text);
        }
    }

    fn room(id: u64, name: &str, user_limit: u32, opening: bool) -> SnapshotRoom {
        let room = RoomPayload {
            guild_id: "1".parse().unwrap(),
            channel_id: ChannelId::new(id).unwrap(),
            name: name.to_owned(),
            parent_id: None,
            user_limit,
            join_url: String::new(),
        };
        SnapshotRoom {
            room,
            opening,
            members: Vec::new(),
        }
    }

    #[test]
    fn a_list_shows_the_members_of_each_room_and_fits_into_a_message() {
        assert_eq!(
            write_list(&[]),
            "There are no rooms. `/room create` opens one."
        );
        let text = write_list(&[room(1, "A", 4, false), room(2, "B", 0, true)]);
        assert_eq!(text, "**A** <#1> · 0 of 4\n**B** <#2> · 0 · opening\n");
        let many: Vec<_> = (1..=500)
            .map(|id| room(id, &"*".repeat(100), 4, false))
            .collect();
        let text = write_list(&many);
        assert!(text.chars().count() <= 2_000, "{}", text.len());
        assert!(text.ends_with(" more"), "{text}");
    }

    #[test]
    fn an_error_says_what_is_wrong_and_when_to_retry() {
        let error = ApiError::new(Code::BadRequest, "some fields are wrong")
            .field("name", "at most 100 characters");
        assert_eq!(
            error_text(&error),
            "That did not work: some fields are wrong.\n`name`: at most 100 characters"
        );
        let error = ApiError::new(Code::RateLimited, "…").retry_after_ms(1_001);
        assert_eq!(
            error_text(&error),
            "That was too many rooms in a short time. Try again in 2 s."
        );
    }
}
