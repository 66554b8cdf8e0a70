//! Events as the worker sends them to the hub, and as the hub stores them: everything, hidden rooms
//! included. A new field needs a default, or no stored log can be read any more.
//!
//! These types never reach a browser. Those of [`crate::frame`] do, and have no field for what a viewer
//! may not know.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::mark::Mark;
use crate::{ChannelId, GuildId, UserId};

/// The longest event id, in bytes.
pub const EVENT_ID_BYTES_MAX: usize = 128;

/// One fact about one guild, past tense.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// Always unique: a second event with the same id is a repeat and is dropped. The worker's are
    /// the parts of [`Event::at`] and the guild: `<session number>:<sequence>:<n>:<guild>`.
    pub id: String,
    /// What happened, as the two fields `event` and `payload`.
    #[serde(flatten)]
    pub fact: Fact,
    /// When the worker read it, in ms since the Unix epoch.
    pub ts: u64,
    /// Where it stands among its guild's events, if a worker sent it: an event that is not above the
    /// guild's newest is a repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Mark>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "event", content = "payload")]
pub enum Fact {
    /// A room exists that did not.
    #[serde(rename = "room.created")]
    RoomCreated(Room),
    /// A room's name, place, limit or audience changed.
    #[serde(rename = "room.updated")]
    RoomUpdated(Room),
    /// A room is gone, and with it everybody in it.
    #[serde(rename = "room.deleted")]
    RoomDeleted(RoomGone),
    /// Somebody came into a room.
    #[serde(rename = "voice.joined")]
    VoiceJoined(Voice),
    /// Somebody left a room.
    #[serde(rename = "voice.left")]
    VoiceLeft(Voice),
    /// Somebody in a room was muted, turned a camera on, …
    #[serde(rename = "voice.state_changed")]
    VoiceStateChanged(Voice),
    /// What @everyone may do in the guild changed. Only the worker needs to remember it.
    #[serde(rename = "guild.updated")]
    GuildUpdated(GuildAccess),
    /// The guild as a whole: replaces what was known of it.
    #[serde(rename = "guild.snapshot")]
    Snapshot(Roster),
}

impl Fact {
    /// The guild that this is about.
    pub fn guild_id(&self) -> GuildId {
        match self {
            Self::RoomCreated(room) | Self::RoomUpdated(room) => room.guild_id,
            Self::RoomDeleted(gone) => gone.guild_id,
            Self::VoiceJoined(voice) | Self::VoiceLeft(voice) | Self::VoiceStateChanged(voice) => {
                voice.guild_id
            }
            Self::GuildUpdated(access) => access.guild_id,
            Self::Snapshot(roster) => roster.guild_id,
        }
    }
}

/// What sort of channel a room is. Categories are known so that a new room can be put into one;
/// they are never shown as rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoomKind {
    /// A voice channel (Discord's channel type 2).
    #[default]
    Voice,
    /// A stage channel (13).
    Stage,
    /// A category (4): a place for rooms, not a room.
    Category,
}

/// Who may view a channel, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// @everyone may view it, by the role's permissions and the channel's overwrites.
    #[default]
    Everyone,
    /// Only some may.
    Restricted,
    /// The bot itself may not, so that Discord sends a placeholder instead of a name: shown to nobody.
    Obfuscated,
}

/// What @everyone may do in every channel of a guild whose overwrites do not say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Everyone {
    /// Not view it.
    #[default]
    Nothing,
    /// View it.
    View,
    /// Everything, whatever the overwrites say (Discord's permission ADMINISTRATOR).
    Administer,
}

/// What a channel's overwrite for @everyone says of viewing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overwrite {
    /// Nothing: the guild's [`Everyone`] decides.
    #[default]
    None,
    /// They may.
    Allow,
    /// They may not.
    Deny,
}

/// What @everyone may do in a guild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuildAccess {
    /// The guild.
    pub guild_id: GuildId,
    /// What they may.
    pub everyone: Everyone,
}

/// A channel as the worker knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Whose channel it is.
    pub guild_id: GuildId,
    /// Which channel.
    pub channel_id: ChannelId,
    /// 1 to 100 characters; empty when only a member's voice state made the room known.
    #[serde(default)]
    pub name: String,
    /// The category that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<ChannelId>,
    /// How many may be in it; 0: no limit. Discord's own bound is 99, and 10,000 for stages.
    #[serde(default)]
    pub user_limit: u32,
    /// Voice, stage or category.
    #[serde(default)]
    pub kind: RoomKind,
    /// Who may view it.
    #[serde(default)]
    pub audience: Audience,
    /// What the audience follows from, with the guild's [`Everyone`]: for the worker's memory, and by
    /// which the hub sees that staff hide a room of Roomwire's own.
    #[serde(default)]
    pub overwrite: Overwrite,
}

/// A channel that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomGone {
    /// Whose channel it was.
    pub guild_id: GuildId,
    /// Which channel.
    pub channel_id: ChannelId,
}

/// One user's voice state in one room (Discord's voice resource).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Voice {
    /// The guild.
    pub guild_id: GuildId,
    /// The room: that was joined, that was left, that the user is in.
    pub channel_id: ChannelId,
    /// The user.
    pub user_id: UserId,
    /// Name and picture, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// Muted, deafened, on camera, …
    #[serde(flatten)]
    pub flags: VoiceFlags,
    /// `voice.left` of a move: where to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<ChannelId>,
    /// `voice.joined` of a move: where from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<ChannelId>,
}

/// What can be seen of a user without knowing them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// The name as this guild sees it: nickname, else display name, else user name.
    pub display_name: String,
    /// Where the picture is.
    pub avatar_url: String,
}

/// The marks of a voice state. What is absent is false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", default)]
pub struct VoiceFlags {
    /// Muted by the guild.
    pub mute: bool,
    /// Deafened by the guild.
    pub deaf: bool,
    /// Muted by themselves.
    pub self_mute: bool,
    /// Deafened by themselves.
    pub self_deaf: bool,
    /// Camera on.
    pub self_video: bool,
    /// Streaming ("Go Live").
    pub self_stream: bool,
    /// Not allowed to speak, as the audience of a stage.
    pub suppress: bool,
}

/// One guild's channels and who is in them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Roster {
    /// The guild.
    pub guild_id: GuildId,
    /// Every voice channel, stage and category, hidden ones included.
    pub rooms: Vec<Room>,
    /// Everybody who is in one of them.
    pub voices: Vec<Voice>,
    /// Why a snapshot and not events, in a fixed word such as `worker_started`.
    pub reason: String,
    /// What @everyone may do: for the worker's memory.
    #[serde(default)]
    pub everyone: Everyone,
    /// Channels that were deleted, oldest first: updates of them come late and mean nothing. For the
    /// worker's memory, and for the hub's ledger.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tombstones: Vec<ChannelId>,
}
