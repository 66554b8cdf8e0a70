//! A room that Roomwire created, as it is stored.

use std::sync::Arc;

use proto::{ChannelId, GuildId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::state::Change;

/// Who created a room: the subject of a principal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Owner(Arc<str>);

impl Owner {
    /// The owner of this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Owner {
    fn from(name: String) -> Self {
        Self(name.into())
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.as_str().to_owned()
    }
}

/// Where a room is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomStatus {
    /// Discord created it, and nothing says that it is gone.
    Open,
    /// The worker reported it as deleted, or reported the guild without it. It may still come: the
    /// report may be older than the room.
    Missing,
    /// Its channel is deleted, by Discord's own answer.
    Ended,
}

/// A room that Roomwire created. Beside its channel it is stored with older names, and the rows of
/// older forms lack some of its fields.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnedRoom {
    /// Its guild.
    #[serde(rename = "guild")]
    pub guild_id: GuildId,
    /// Its channel.
    #[serde(rename = "channel", skip_serializing)]
    pub channel_id: ChannelId,
    /// Who created it.
    #[serde(rename = "creator")]
    pub owner: Owner,
    /// Its name, as Discord accepted it.
    pub name: String,
    /// Its category.
    #[serde(rename = "parent")]
    pub parent_id: Option<ChannelId>,
    /// How many people may be in it. 0: no limit.
    #[serde(rename = "limit")]
    pub user_limit: u32,
    /// Where it is in its life.
    #[serde(rename = "standing")]
    pub status: RoomStatus,
    /// Since when, in ms since the Unix epoch.
    #[serde(default)]
    pub since_ms: u64,
    /// The epoch of its guild's log when it was created. A later snapshot has another one.
    pub epoch: u64,
    /// Its channel was created with a deny of @everyone viewing it, as its category has it, and has
    /// had it ever since: nobody added the deny to hide the room.
    #[serde(default)]
    pub inherits_deny: bool,
}

impl OwnedRoom {
    /// The change that publishes the room as Roomwire's own.
    pub fn owned(&self) -> Change {
        if self.inherits_deny {
            Change::OwnedUnderDeny(self.channel_id)
        } else {
            Change::Owned(self.channel_id)
        }
    }

    /// The room with another status.
    pub(super) fn turned(&self, status: RoomStatus, since_ms: u64) -> Self {
        Self {
            status,
            since_ms,
            ..self.clone()
        }
    }

    /// Its place among the rooms that are not open.
    pub(super) fn past_key(&self) -> Option<(u64, ChannelId)> {
        (self.status != RoomStatus::Open).then_some((self.since_ms, self.channel_id))
    }

    /// The room as it is stored, beside its channel.
    pub(crate) fn row(&self) -> Vec<u8> {
        // Strings and numbers: serializing them does not fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The room of a stored row. None: the row has no known form.
    pub(crate) fn read(channel_id: ChannelId, row: &[u8]) -> Option<Self> {
        let mut row: serde_json::Map<String, Value> = serde_json::from_slice(row).ok()?;
        row.insert("channel".to_owned(), channel_id.to_string().into());
        serde_json::from_value(row.into()).ok()
    }
}
