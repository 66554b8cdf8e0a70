//! What the state is made of: guilds and what they hold.

use std::collections::BTreeMap;

use crate::snowflake::Id;

/// One guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guild {
    /// Its id, and that of its @everyone role.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Who owns it, and may do everything.
    pub owner_id: Id,
    /// Roles by id; @everyone has the guild's id.
    pub roles: BTreeMap<Id, Role>,
    /// Channels by id.
    pub channels: BTreeMap<Id, Channel>,
    /// Members by user id.
    pub members: BTreeMap<Id, Member>,
    /// Who sits in voice, by user id.
    pub voice: BTreeMap<Id, Voice>,
    /// An outage: nothing is dispatched about this guild until it ends.
    pub unavailable: bool,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: String,
    /// Permission bits.
    pub permissions: u64,
    /// Its place, 0 for @everyone.
    pub position: u32,
    /// Its colour, 0xRRGGBB; 0 for none.
    pub color: u32,
    /// The bot that it belongs to, if it came with one.
    pub bot_id: Option<Id>,
}

/// The types of channel that are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// `GUILD_TEXT`, 0.
    Text,
    /// `GUILD_VOICE`, 2.
    Voice,
    /// `GUILD_CATEGORY`, 4.
    Category,
    /// `GUILD_STAGE_VOICE`, 13.
    Stage,
}

impl ChannelKind {
    /// Discord's number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::Voice => 2,
            Self::Category => 4,
            Self::Stage => 13,
        }
    }

    /// The kind that Discord's number means, if it is simulated.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Text),
            2 => Some(Self::Voice),
            4 => Some(Self::Category),
            13 => Some(Self::Stage),
            _ => None,
        }
    }

    /// Whether members can sit in it.
    pub const fn is_voice(self) -> bool {
        matches!(self, Self::Voice | Self::Stage)
    }
}

/// A channel of a guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// Its id.
    pub id: Id,
    /// What kind it is.
    pub kind: ChannelKind,
    /// Its name, 1 to 100 characters.
    pub name: String,
    /// Sorting position.
    pub position: u32,
    /// The category it is in.
    pub parent_id: Option<Id>,
    /// Overwrites by the id of their role or member.
    pub overwrites: BTreeMap<Id, Overwrite>,
    /// How many may sit in it; 0 for no limit. Voice and stage only.
    pub user_limit: u32,
    /// Bits per second. Voice and stage only.
    pub bitrate: u32,
    /// Age-restricted.
    pub nsfw: bool,
    /// Seconds between two messages of a member.
    pub rate_limit_per_user: u32,
    /// A text channel's topic.
    pub topic: Option<String>,
    /// A voice region; none for automatic.
    pub rtc_region: Option<String>,
    /// 1 automatic, 2 full.
    pub video_quality_mode: u32,
    /// A voice channel's status line.
    pub status: Option<String>,
    /// Since when it has members, Unix seconds.
    pub voice_start_s: Option<u64>,
}

impl Channel {
    /// A channel with Discord's defaults.
    pub fn new(id: Id, kind: ChannelKind, name: &str) -> Self {
        Self {
            id,
            kind,
            name: normalise_name(kind, name),
            position: 0,
            parent_id: None,
            overwrites: BTreeMap::new(),
            user_limit: 0,
            bitrate: 64_000,
            nsfw: false,
            rate_limit_per_user: 0,
            topic: None,
            rtc_region: None,
            video_quality_mode: 1,
            status: None,
            voice_start_s: None,
        }
    }
}

/// A name as Discord keeps it: text channels are lower case with dashes, others are trimmed.
pub fn normalise_name(kind: ChannelKind, name: &str) -> String {
    let trimmed = name.trim();
    match kind {
        ChannelKind::Text => trimmed
            .to_lowercase()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join("-"),
        ChannelKind::Voice | ChannelKind::Category | ChannelKind::Stage => trimmed.to_owned(),
    }
}

/// The target of an overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverwriteKind {
    /// 0: a role.
    Role,
    /// 1: a member.
    Member,
}

/// What a channel allows and denies to one role or member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overwrite {
    /// The role or the member.
    pub id: Id,
    /// Which of both.
    pub kind: OverwriteKind,
    /// Permission bits that are allowed.
    pub allow: u64,
    /// Permission bits that are denied.
    pub deny: u64,
}

/// A user of Discord.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Their id.
    pub id: Id,
    /// Their unique name.
    pub username: String,
    /// The name that is shown.
    pub global_name: Option<String>,
    /// Their avatar's hash.
    pub avatar: Option<String>,
    /// Whether it is an application.
    pub bot: bool,
}

/// A user in a guild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Their name in this guild.
    pub nick: Option<String>,
    /// Their roles, without @everyone.
    pub roles: Vec<Id>,
    /// Since when they are here, Unix milliseconds.
    pub joined_ms: u64,
}

/// Somebody in a voice channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voice {
    /// Where.
    pub channel: Id,
    /// The id of their voice session.
    pub session_id: String,
    /// Their marks.
    pub flags: VoiceFlags,
}

/// The marks of a voice state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VoiceFlags {
    /// Muted by the server.
    pub mute: bool,
    /// Deafened by the server.
    pub deaf: bool,
    /// Muted by themselves.
    pub self_mute: bool,
    /// Deafened by themselves.
    pub self_deaf: bool,
    /// Camera on.
    pub self_video: bool,
    /// Streaming.
    pub self_stream: bool,
    /// Not allowed to speak (stages).
    pub suppress: bool,
}

/// A change of a voice state; `None` keeps the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VoiceChange {
    /// `Some(Some(_))` joins or moves, `Some(None)` leaves.
    pub channel: Option<Option<Id>>,
    /// Muted by the server.
    pub mute: Option<bool>,
    /// Deafened by the server.
    pub deaf: Option<bool>,
    /// Muted by themselves.
    pub self_mute: Option<bool>,
    /// Deafened by themselves.
    pub self_deaf: Option<bool>,
    /// Camera on.
    pub self_video: Option<bool>,
    /// Streaming.
    pub self_stream: Option<bool>,
    /// Not allowed to speak (stages).
    pub suppress: Option<bool>,
}
