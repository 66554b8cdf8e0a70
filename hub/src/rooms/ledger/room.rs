//! A room that Roomwire made, and the row in which it is kept.

use proto::{ChannelId, GuildId};
use serde::{Deserialize, Serialize};

use crate::auth::Subject;
use roomlog::{Change, LedgerRow};

/// Where a room is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// Discord made it, and nothing says that it is gone.
    Open,
    /// The worker told that it is gone, or told of the whole guild, and it was not there. It may
    /// come: what was told may be older than the room.
    Missing,
    /// It is gone for good.
    Ended,
}

/// A room that Roomwire made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedRoom {
    /// Its guild.
    pub guild_id: GuildId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// Who wished for it.
    pub creator: Subject,
    /// Its name, as Discord took it.
    pub name: String,
    /// Its category.
    pub parent_id: Option<ChannelId>,
    /// How many may be in it; 0: no limit.
    pub user_limit: u32,
    /// Where it is in its life.
    pub standing: Standing,
    /// The epoch of its guild's log when it was made: what was told as a whole since has another.
    pub epoch: u64,
    /// Its channel was created with a deny of @everyone viewing it, as its category has it, and has
    /// had it ever since: nobody added the deny to hide the room.
    pub inherits_deny: bool,
}

/// A room as it is kept, besides its channel.
#[derive(Serialize, Deserialize)]
struct KeptRoom {
    guild: GuildId,
    creator: String,
    name: String,
    parent: Option<ChannelId>,
    limit: u32,
    standing: Standing,
    epoch: u64,
    /// Absent from rooms that were made before it was kept: a deny of theirs counts as added.
    #[serde(default)]
    inherits_deny: bool,
}

impl OwnedRoom {
    /// What publishes that the room is Roomwire's own.
    pub fn owned(&self) -> Change {
        if self.inherits_deny {
            Change::OwnedUnderDeny(self.channel_id)
        } else {
            Change::Owned(self.channel_id)
        }
    }

    /// The room as it is kept.
    pub fn row(&self) -> LedgerRow {
        let kept = KeptRoom {
            guild: self.guild_id,
            creator: self.creator.as_str().to_owned(),
            name: self.name.clone(),
            parent: self.parent_id,
            limit: self.user_limit,
            standing: self.standing,
            epoch: self.epoch,
            inherits_deny: self.inherits_deny,
        };
        LedgerRow {
            channel: self.channel_id,
            // Strings and numbers: nothing of it can fail to be written.
            room: serde_json::to_vec(&kept).ok(),
        }
    }

    /// The room of a row; none: it is forgotten, or its row is of no known form.
    pub(super) fn read(row: &LedgerRow) -> Option<Self> {
        let kept: KeptRoom = serde_json::from_slice(row.room.as_deref()?).ok()?;
        Some(Self {
            guild_id: kept.guild,
            channel_id: row.channel,
            creator: Subject::new(kept.creator)?,
            name: kept.name,
            parent_id: kept.parent,
            user_limit: kept.limit,
            standing: kept.standing,
            epoch: kept.epoch,
            inherits_deny: kept.inherits_deny,
        })
    }
}
