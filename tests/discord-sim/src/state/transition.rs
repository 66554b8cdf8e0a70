//! What can happen to the state, and why it may not.

use super::{Channel, Role, Voice};
use crate::snowflake::Id;

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Its number: the first is 1, without gaps.
    pub seq: u64,
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// In which guild.
    pub guild: Id,
    /// What.
    pub change: Change,
}

/// What a transition changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Somebody joined, moved, changed their marks, or left (`after` is none).
    Voice {
        /// Who.
        user: Id,
        /// Where and how before; none: not in voice.
        before: Option<Voice>,
        /// Where and how since; none: not in voice.
        after: Option<Voice>,
    },
    /// A channel was made.
    ChannelCreated(Box<Channel>),
    /// A channel is different now.
    ChannelUpdated(Box<Channel>),
    /// A channel is gone; this is what it was.
    ChannelDeleted(Box<Channel>),
    /// The status line of a voice channel changed.
    ChannelStatus {
        /// Which.
        channel: Id,
        /// The new text.
        status: Option<String>,
    },
    /// The voice session of a channel began or ended.
    ChannelStart {
        /// Which.
        channel: Id,
        /// Unix seconds of the beginning; none: it ended.
        since_s: Option<u64>,
    },
    /// A role was made.
    RoleCreated(Role),
    /// A role is different now.
    RoleUpdated(Role),
    /// A role is gone.
    RoleDeleted(Id),
    /// The guild's own fields changed.
    GuildUpdated,
    /// Somebody is a member since now.
    MemberAdded(Id),
    /// A member's roles or name changed.
    MemberUpdated(Id),
    /// An outage began.
    Unavailable,
    /// An outage ended.
    Available,
}

/// Why the state did not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such guild.
    #[error("unknown guild")]
    UnknownGuild,
    /// No such channel.
    #[error("unknown channel")]
    UnknownChannel,
    /// No such role.
    #[error("unknown role")]
    UnknownRole,
    /// Not a channel that one can sit in.
    #[error("not a voice channel")]
    NotVoice,
    /// Marks cannot change: they are in no voice channel.
    #[error("the user is in no voice channel")]
    NotInVoice,
    /// The parent is not a category of this guild.
    #[error("the parent is not a category of this guild")]
    NotACategory,
    /// The guild has [`CHANNELS_MAX`] channels.
    #[error("maximum number of guild channels reached (500)")]
    TooManyChannels,
    /// The category has [`CATEGORY_CHILDREN_MAX`] channels.
    #[error("maximum number of channels in category reached (50)")]
    CategoryFull,
    /// The guild has [`ROLES_MAX`] roles.
    #[error("maximum number of guild roles reached (250)")]
    TooManyRoles,
    /// The guild has as many members as it may.
    #[error("the guild is full (SIM_MEMBERS_MAX)")]
    TooManyMembers,
    /// No change.
    #[error("nothing would change")]
    Unchanged,
}
