//! The audit log: what the bot did, and the reason it gave (`X-Audit-Log-Reason`).

use std::collections::VecDeque;

use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::errors::Problem;
use crate::snowflake::Id;

/// The longest reason, in characters.
const REASON_CHARS_MAX: usize = 512;

/// What was done (`resources/audit-log.mdx`, "Audit Log Events").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    ChannelCreate = 10,
    ChannelUpdate = 11,
    ChannelDelete = 12,
    MemberUpdate = 24,
}

#[derive(Debug)]
struct Entry {
    action: Action,
    guild: Id,
    target: Id,
    reason: Option<String>,
    at_ms: u64,
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

    pub(crate) fn note(
        &mut self,
        action: Action,
        guild: Id,
        target: Id,
        reason: Option<String>,
        at_ms: u64,
    ) {
        if self.entries.len() >= self.most {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry {
            action,
            guild,
            target,
            reason,
            at_ms,
        });
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
                    "ts": entry.at_ms,
                })
            })
            .collect()
    }
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
}
