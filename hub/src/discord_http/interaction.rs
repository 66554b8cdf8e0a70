//! Interactions as Discord sends them, and the responses. Pure.
//!
//! Only the needed fields are read, tolerantly: an unknown form of another field must not keep a
//! command from its response.

use launch::Secret;
use proto::{GuildId, UserId};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::auth::{Principal, Rights, Subject};
use crate::discord::ApplicationId;

/// Discord's permission bits ("Permissions"): everything, and channels.
const ADMINISTRATOR: u64 = 1 << 3;
const MANAGE_CHANNELS: u64 = 1 << 4;
/// A message that only the user of the command can see ("Message Flags").
const EPHEMERAL: u32 = 1 << 6;

/// Interaction types ("Interaction Type").
pub(super) const PING: u64 = 1;
pub(super) const COMMAND: u64 = 2;
pub(super) const AUTOCOMPLETE: u64 = 4;

/// A signed request of Discord.
#[derive(Debug, Deserialize)]
pub(super) struct Interaction {
    pub(super) r#type: u64,
    /// Of every type but a ping; unique.
    #[serde(default, deserialize_with = "number")]
    pub(super) id: Option<u64>,
    #[serde(default)]
    pub(super) application_id: Option<ApplicationId>,
    /// The token for a later response.
    #[serde(default, deserialize_with = "secret")]
    pub(super) token: Option<Secret>,
    #[serde(default)]
    pub(super) guild_id: Option<GuildId>,
    #[serde(default)]
    member: Option<Member>,
    #[serde(default)]
    pub(super) data: Value,
}

#[derive(Debug, Deserialize)]
struct Member {
    user: User,
    /// What the member may do in the channel, overwrites included, as a decimal string.
    #[serde(default)]
    permissions: String,
}

#[derive(Debug, Deserialize)]
struct User {
    id: UserId,
}

impl Interaction {
    /// The principal and the guild; `None` outside of guilds. Discord's signature proves both, and
    /// the permissions: a member who may manage channels in Discord may manage
    /// rooms here.
    pub(super) fn actor(&self) -> Option<(Principal, GuildId)> {
        let guild = self.guild_id?;
        let member = self.member.as_ref()?;
        let permissions: u64 = member.permissions.parse().unwrap_or(0);
        let principal = Principal {
            subject: Subject::new(format!("discord:{}", member.user.id))?,
            guilds: Some(vec![guild]),
            rights: Rights {
                manage: permissions & (ADMINISTRATOR | MANAGE_CHANNELS) != 0,
                ..Rights::MEMBER
            },
            // It is used once, now.
            expires_at_ms: u64::MAX,
        };
        Some((principal, guild))
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

/// The response to a ping.
pub(super) fn pong() -> Value {
    json!({ "type": 1 })
}

/// A text that only the user of the command sees.
pub(super) fn message(text: &str) -> Value {
    let mut data = content(text);
    data["flags"] = EPHEMERAL.into();
    json!({ "type": 4, "data": data })
}

/// "Thinking …", until the response replaces it.
pub(super) fn deferred() -> Value {
    json!({ "type": 5, "data": { "flags": EPHEMERAL } })
}

/// No suggestions.
pub(super) fn no_choices() -> Value {
    json!({ "type": 8, "data": { "choices": [] } })
}

/// A message that notifies nobody.
pub(super) fn content(text: &str) -> Value {
    json!({ "content": text, "allowed_mentions": { "parse": [] } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Interaction {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn rights_follow_from_the_signed_permissions_alone() {
        for (permissions, manage) in [
            ("0", false),
            ("8", true),
            ("16", true),
            ("24", true),
            ("2147483647", true),
            ("2199023255511", true),
            ("4", false),
            ("32", false),
            ("", false),
            ("all", false),
            ("-1", false),
            ("99999999999999999999", false),
        ] {
            let interaction = read(json!({
                "type": 2, "id": "5", "guild_id": "1",
                "member": {"user": {"id": "7", "username": "x"}, "permissions": permissions, "roles": ["8"]},
                "data": {"name": "room", "permissions": "8"},
            }));
            let (principal, guild) = interaction.actor().unwrap();
            assert_eq!(
                principal.rights,
                Rights {
                    manage,
                    ..Rights::MEMBER
                },
                "{permissions:?}"
            );
            assert_eq!(principal.subject.as_str(), "discord:7");
            assert_eq!(principal.guilds, Some(vec![guild]));
        }
    }

    #[test]
    fn an_interaction_outside_of_a_guild_has_no_principal() {
        for value in [
            json!({"type": 2, "id": "5", "user": {"id": "7"}}),
            json!({"type": 2, "id": "5", "guild_id": "1", "user": {"id": "7"}}),
            json!({"type": 2, "id": "5", "member": {"user": {"id": "7"}, "permissions": "8"}}),
        ] {
            assert!(read(value).actor().is_none());
        }
    }

    #[test]
    fn a_ping_needs_nothing_but_its_type() {
        let ping = read(json!({"type": 1}));
        assert!(ping.type_is(PING) && ping.id.is_none());
    }

    #[test]
    fn a_token_does_not_print() {
        let interaction = read(json!({"type": 2, "id": "5", "token": "hunter2"}));
        assert!(!format!("{interaction:?}").contains("hunter2"));
    }

    impl Interaction {
        fn type_is(&self, kind: u64) -> bool {
            self.r#type == kind
        }
    }
}
