//! The audit log: what the bot did, and the reason it gave (`X-Audit-Log-Reason`).

use std::collections::{BTreeSet, VecDeque};

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::Call;
use super::errors::{Problem, Reply, Served};
use super::form::Form;
use crate::snowflake::Id;
use crate::state::{APPLICATION_ID, permissions as may};
use crate::{Sim, render};

/// The longest reason, in characters.
const REASON_CHARS_MAX: usize = 512;

/// What was done (`resources/audit-log.mdx`, "Audit Log Events").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    ChannelCreate = 10,
    ChannelUpdate = 11,
    ChannelDelete = 12,
    MemberUpdate = 24,
    InviteCreate = 40,
}

/// Every `action_type` that Discord has (its OpenAPI, `AuditLogActionTypes`).
const ACTION_TYPES: &[u32] = &[
    1, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 31, 32, 40, 41, 42, 50, 51,
    52, 60, 61, 62, 72, 73, 74, 75, 80, 81, 82, 83, 84, 85, 90, 91, 92, 100, 101, 102, 110, 111,
    112, 121, 130, 131, 132, 140, 141, 142, 143, 144, 145, 146, 150, 151, 163, 164, 165, 166, 167,
    171, 172, 180, 190, 191, 192, 193, 200, 201, 202, 211,
];

/// What Discord shows of a channel's changes, of those that are simulated.
const CHANNEL_KEYS: [&str; 8] = [
    "name",
    "type",
    "permission_overwrites",
    "nsfw",
    "rate_limit_per_user",
    "topic",
    "bitrate",
    "user_limit",
];

/// How many entries an answer has at most, unless the query says (1 to 100).
const LIMIT_DEFAULT: u32 = 50;

/// One thing that the bot did.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) action: Action,
    pub(crate) guild: Id,
    pub(crate) target: Id,
    pub(crate) reason: Option<String>,
    /// Audit log change objects.
    pub(crate) changes: Vec<Value>,
}

impl Entry {
    fn render(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "action_type": self.action as u8,
            "user_id": APPLICATION_ID,
            "target_id": self.target,
            "changes": self.changes,
        });
        if let Some(reason) = &self.reason {
            object["reason"] = json!(reason);
        }
        object
    }
}

/// The last entries, oldest first.
#[derive(Debug)]
pub(crate) struct AuditLog {
    entries: VecDeque<Entry>,
    most: usize,
}

impl AuditLog {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            most,
        }
    }

    /// Adds an entry, whose id is above all others.
    pub(crate) fn note(&mut self, entry: Entry) {
        if self.entries.len() >= self.most {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    pub(crate) fn describe(&self) -> Value {
        self.entries
            .iter()
            .map(|entry| {
                json!({
                    "actionType": entry.action as u8,
                    "guildId": entry.guild,
                    "targetId": entry.target,
                    "reason": entry.reason,
                    "ts": entry.id.created_ms(),
                })
            })
            .collect()
    }

    /// The entries of a guild that a query asks for, in its order.
    fn select(&self, guild: Id, filter: &EntryFilter) -> Vec<&Entry> {
        let fitting = self.entries.iter().filter(|entry| {
            entry.guild == guild
                && filter.user.is_none_or(|user| user == APPLICATION_ID)
                && filter.target.is_none_or(|target| target == entry.target)
                && filter
                    .action
                    .is_none_or(|action| action == entry.action as u32)
                && filter.before.is_none_or(|before| entry.id.get() < before)
                && filter.after.is_none_or(|after| entry.id.get() > after)
        });
        // "If `after` is used, the list is reversed and appears in ascending order."
        if filter.after.is_some() {
            fitting.take(filter.limit).collect()
        } else {
            fitting.rev().take(filter.limit).collect()
        }
    }
}

/// What a query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct EntryFilter {
    user: Option<Id>,
    target: Option<Id>,
    action: Option<u32>,
    /// Only ids below it.
    before: Option<u64>,
    /// Only ids above it.
    after: Option<u64>,
    /// How many at most.
    limit: usize,
}

impl EntryFilter {
    fn read(parameters: &Map<String, Value>) -> Result<Self, Problem> {
        let mut form = Form::new(parameters);
        let action = form.number("action_type", 0, u32::MAX);
        if action.is_some_and(|action| !ACTION_TYPES.contains(&action)) {
            let known: Vec<String> = ACTION_TYPES.iter().map(u32::to_string).collect();
            let message = format!("Value must be one of ({}).", known.join(", "));
            form.wrong("action_type", "BASE_TYPE_CHOICES", &message);
        }
        let limit = form.number("limit", 1, 100).unwrap_or(LIMIT_DEFAULT);
        let filter = Self {
            user: form.id("user_id"),
            target: form.id("target_id"),
            action,
            before: form.id_or_zero("before"),
            after: form.id_or_zero("after"),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        };
        form.finish(filter)
    }
}

/// Answers with the audit log of a guild ("Get Guild Audit Log").
pub(super) fn read(sim: &Sim, call: &Call) -> Served {
    let guild_id = call.id(0)?;
    let world = sim.world();
    let guild = world.state.guild(guild_id)?;
    if may::in_guild(guild, APPLICATION_ID) & may::VIEW_AUDIT_LOG == 0 {
        return Err(Problem::missing_permissions());
    }
    let filter = EntryFilter::read(&call.parameters())?;
    let books = sim.rest();
    let entries = books.audit.select(guild_id, &filter);
    // The bot, and the members that it changed.
    let people: BTreeSet<Id> = entries
        .iter()
        .flat_map(|entry| [APPLICATION_ID, entry.target])
        .collect();
    let users: Vec<Value> = people
        .iter()
        .filter_map(|id| world.state.users.get(id))
        .map(render::user)
        .collect();
    let entries: Vec<Value> = entries.into_iter().map(Entry::render).collect();
    Reply::ok(json!({
        "application_commands": [],
        "audit_log_entries": entries,
        "auto_moderation_rules": [],
        "guild_scheduled_events": [],
        "integrations": [],
        "threads": [],
        "users": users,
        "webhooks": [],
    }))
}

/// The changes between two states of a channel, each as Discord renders it; none: there is no channel.
/// A value that is null, or a list that is empty, counts as left out.
pub(super) fn channel_changes(before: Option<&Value>, after: Option<&Value>) -> Vec<Value> {
    let value = |object: Option<&Value>, key: &str| {
        object
            .and_then(|object| object.get(key))
            .filter(|value| {
                !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
            })
            .cloned()
    };
    CHANNEL_KEYS
        .into_iter()
        .filter_map(|key| {
            let (old, new) = (value(before, key), value(after, key));
            if old == new {
                return None;
            }
            let mut change = json!({ "key": key });
            if let Some(old) = old {
                change["old_value"] = old;
            }
            if let Some(new) = new {
                change["new_value"] = new;
            }
            Some(change)
        })
        .collect()
}

/// The reason that a request gives, decoded.
pub(crate) fn reason(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("x-audit-log-reason") else {
        return Ok(None);
    };
    let reason = percent_decode_str(&String::from_utf8_lossy(value.as_bytes()))
        .decode_utf8_lossy()
        .into_owned();
    let length = reason.chars().count();
    if length > REASON_CHARS_MAX {
        return Err(Problem::invalid_field(
            "reason",
            "BASE_TYPE_BAD_LENGTH",
            &format!("Must be between 1 and {REASON_CHARS_MAX} in length."),
        ));
    }
    Ok((length > 0).then_some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert("x-audit-log-reason", value.parse().unwrap());
        reason(&headers)
    }

    #[test]
    fn a_reason_is_decoded_and_bounded() {
        assert_eq!(reason(&HeaderMap::new()), Ok(None));
        assert_eq!(read("caf%C3%A9%20%231"), Ok(Some("café #1".to_owned())));
        assert!(read(&"%C3%A9".repeat(512)).is_ok());
        assert!(read(&"a".repeat(513)).is_err());
    }

    fn parameters(pairs: &[(&str, &str)]) -> Map<String, Value> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect()
    }

    fn log(most: usize) -> AuditLog {
        let mut log = AuditLog::new(most);
        for (id, action, guild, target) in [
            (11, Action::ChannelCreate, 1, 101),
            (12, Action::ChannelUpdate, 1, 101),
            (13, Action::ChannelCreate, 2, 102),
            (14, Action::ChannelDelete, 1, 101),
            (15, Action::ChannelCreate, 1, 103),
        ] {
            log.note(Entry {
                id: Id::new(id),
                action,
                guild: Id::new(guild),
                target: Id::new(target),
                reason: None,
                changes: Vec::new(),
            });
        }
        log
    }

    fn ids(log: &AuditLog, pairs: &[(&str, &str)]) -> Vec<u64> {
        let filter = EntryFilter::read(&parameters(pairs)).unwrap();
        let selected = log.select(Id::new(1), &filter);
        selected.iter().map(|entry| entry.id.get()).collect()
    }

    #[test]
    fn a_query_selects_and_orders_the_entries_of_its_guild() {
        let log = log(10);
        let bot = APPLICATION_ID.to_string();
        for (pairs, expected) in [
            (&[][..], &[15, 14, 12, 11][..]),
            (&[("limit", "2")], &[15, 14]),
            (&[("before", "14")], &[12, 11]),
            (&[("before", "0")], &[]),
            (&[("after", "0")], &[11, 12, 14, 15]),
            (&[("after", "11"), ("limit", "2")], &[12, 14]),
            (&[("after", "11"), ("before", "15")], &[12, 14]),
            (&[("action_type", "10")], &[15, 11]),
            (&[("action_type", "1")], &[]),
            (&[("target_id", "101"), ("limit", "1")], &[14]),
            (&[("user_id", bot.as_str())], &[15, 14, 12, 11]),
            (&[("user_id", "7")], &[]),
        ] {
            assert_eq!(ids(&log, pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_oldest_entries_make_room() {
        assert_eq!(ids(&log(2), &[]), [15, 14]);
    }

    #[test]
    fn a_bad_query_is_refused_by_field() {
        for (name, value, code) in [
            ("limit", "0", "NUMBER_TYPE_MIN"),
            ("limit", "101", "NUMBER_TYPE_MAX"),
            ("limit", "many", "NUMBER_TYPE_COERCE"),
            ("action_type", "9", "BASE_TYPE_CHOICES"),
            ("action_type", "x", "NUMBER_TYPE_COERCE"),
            ("before", "x", "NUMBER_TYPE_COERCE"),
            ("after", "-1", "NUMBER_TYPE_COERCE"),
            ("user_id", "0", "NUMBER_TYPE_COERCE"),
            ("target_id", "", "NUMBER_TYPE_COERCE"),
        ] {
            let errors = EntryFilter::read(&parameters(&[(name, value)]))
                .unwrap_err()
                .errors
                .unwrap();
            assert_eq!(errors[name]["_errors"][0]["code"], code, "{name}={value}");
        }
    }

    #[test]
    fn a_channels_changes_leave_out_what_was_and_stays_empty() {
        let old = json!({"name": "a", "type": 2, "topic": null, "permission_overwrites": []});
        let new = json!({"name": "b", "type": 2, "topic": "t", "permission_overwrites": []});
        assert_eq!(
            channel_changes(Some(&old), Some(&new)),
            [
                json!({"key": "name", "old_value": "a", "new_value": "b"}),
                json!({"key": "topic", "new_value": "t"}),
            ]
        );
        assert_eq!(
            channel_changes(None, Some(&old)),
            [
                json!({"key": "name", "new_value": "a"}),
                json!({"key": "type", "new_value": 2}),
            ]
        );
        assert_eq!(
            channel_changes(Some(&old), None),
            [
                json!({"key": "name", "old_value": "a"}),
                json!({"key": "type", "old_value": 2}),
            ]
        );
    }
}
