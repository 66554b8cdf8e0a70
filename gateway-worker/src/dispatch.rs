//! The few dispatches that the worker reads.
//!
//! Discord's objects grow, and single fields come as null, as a number instead of a string, or not
//! at all. So only what the roster needs is read, field by field (`reading` by dispatch, `objects` by
//! object, `fields` by field). Optional fields may be absent. A needed field that cannot be read makes
//! the dispatch *unreadable*: the worker asks for it over REST instead of guessing.
//! Shapes: Discord's documentation, "Gateway Events", "Voice Resource", "Channel Resource", "Guild
//! Resource".

mod fields;
mod objects;
mod reading;

use proto::event::{Everyone, Overwrite, RoomKind, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};

pub use objects::{read_channel, read_voice_state};
pub use reading::{label, read};

/// A dispatch that changes the state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// A new gateway session.
    Ready(SessionStart),
    /// The gateway session was resumed; everything that was missed came before this.
    Resumed,
    /// Everything of one guild.
    GuildCreated(GuildState),
    /// What @everyone may do, from a guild or role update.
    EveryoneChanged(GuildId, Everyone),
    /// An outage: Discord sends nothing about this guild until it ends.
    GuildUnavailable(GuildId),
    /// The bot is no longer in this guild.
    GuildRemoved(GuildId),
    /// A channel was made.
    ChannelCreated(GuildId, Channel),
    /// A channel is different.
    ChannelUpdated(GuildId, Channel),
    /// A channel is gone.
    ChannelDeleted(GuildId, ChannelId),
    /// One user's voice state, whole.
    VoiceChanged(GuildId, VoiceState),
}

impl Dispatch {
    /// The guild that it is about; none for those that are about the gateway session.
    pub fn guild_id(&self) -> Option<GuildId> {
        match self {
            Self::Ready(_) | Self::Resumed => None,
            Self::GuildCreated(state) => Some(state.guild_id),
            Self::EveryoneChanged(guild, _)
            | Self::GuildUnavailable(guild)
            | Self::GuildRemoved(guild)
            | Self::ChannelCreated(guild, _)
            | Self::ChannelUpdated(guild, _)
            | Self::ChannelDeleted(guild, _)
            | Self::VoiceChanged(guild, _) => Some(*guild),
        }
    }

    /// What would have to be asked for if this dispatch could not be used.
    pub fn subject(&self) -> Subject {
        match self {
            Self::ChannelCreated(_, channel) | Self::ChannelUpdated(_, channel) => {
                Subject::Channel(channel.id)
            }
            Self::ChannelDeleted(_, channel) => Subject::Channel(*channel),
            Self::VoiceChanged(_, voice) => Subject::Voice(voice.user_id),
            _ => Subject::Guild,
        }
    }
}

/// A gateway session, from READY.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionStart {
    /// The guilds that the bot is in; each GUILD_CREATE follows.
    pub guilds: Vec<GuildId>,
    /// Where Discord wants the session resumed.
    pub resume_url: Option<String>,
}

/// A guild, from GUILD_CREATE.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GuildState {
    /// Which.
    pub guild_id: GuildId,
    /// What @everyone may do.
    pub everyone: Everyone,
    /// Its channels; those that are neither room nor category are left out.
    pub channels: Vec<Channel>,
    /// Who is in voice.
    pub voices: Vec<VoiceState>,
    /// Channels and voice states in it that could not be read.
    pub unreadable: Vec<Subject>,
}

/// A channel, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Which.
    pub id: ChannelId,
    /// The kind of room; `None` for text channels, threads and all other channels.
    pub kind: Option<RoomKind>,
    /// Empty for obfuscated channels.
    pub name: String,
    /// The category that it stands in.
    pub parent_id: Option<ChannelId>,
    /// 0: no limit.
    pub user_limit: u32,
    /// What its overwrite for @everyone says of viewing it.
    pub overwrite: Overwrite,
    /// The bot may not view it.
    pub obfuscated: bool,
}

impl Channel {
    /// A channel that the bot may not view, known only from a voice state in it.
    pub fn hidden(id: ChannelId) -> Self {
        Self {
            id,
            kind: Some(RoomKind::Voice),
            name: String::new(),
            parent_id: None,
            user_limit: 0,
            overwrite: Overwrite::None,
            obfuscated: true,
        }
    }
}

/// One user's voice state in one guild.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VoiceState {
    /// Who.
    pub user_id: UserId,
    /// Where; `None`: nowhere.
    pub channel_id: Option<ChannelId>,
    /// Muted, on camera, …
    pub flags: VoiceFlags,
    /// Name and pictures, if the dispatch has them.
    pub profile: Option<Profile>,
}

/// A member's name and pictures.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Nickname, else display name, else user name.
    pub display_name: String,
    /// The hash of the picture chosen for this guild.
    pub guild_avatar: Option<String>,
    /// The hash of the user's own picture.
    pub user_avatar: Option<String>,
    /// The number behind the name, which bots still have; 0: none. The default picture depends on it.
    pub discriminator: u16,
}

/// What the worker may have to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One channel. Asked for before voice states, so that the rooms of these are known.
    Channel(ChannelId),
    /// One user's voice state.
    Voice(UserId),
    /// The whole guild, which only GUILD_CREATE contains.
    Guild,
}

impl Subject {
    /// Its kind, for logs. Its id may be private.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Channel(_) => "channel",
            Self::Voice(_) => "user",
            Self::Guild => "guild",
        }
    }
}

/// The result of reading a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// It changes the state.
    Known(Dispatch),
    /// The worker does not need it.
    Ignored,
    /// The worker needs it, and cannot read it.
    Unreadable {
        /// Its guild; `None`: that cannot be read either, so it may concern any guild.
        guild: Option<GuildId>,
        /// What has to be asked for.
        subject: Subject,
        /// What it may have denied to @everyone: denied until the answer comes.
        redaction: Redaction,
    },
}

/// What an unreadable dispatch may have hidden from @everyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Redaction {
    /// Nothing.
    Nothing,
    /// This channel, by its overwrites.
    Channel(ChannelId),
    /// Any channel, by its overwrites.
    Channels,
    /// The permissions of the role.
    Role,
    /// The channels and the role.
    Everything,
}

impl Redaction {
    /// Whether it includes the role.
    pub fn has_role(self) -> bool {
        matches!(self, Self::Role | Self::Everything)
    }

    /// Whether it includes this channel.
    pub fn has_channel(self, id: ChannelId) -> bool {
        match self {
            Self::Nothing | Self::Role => false,
            Self::Channel(one) => one == id,
            Self::Channels | Self::Everything => true,
        }
    }
}

#[cfg(test)]
mod tests;
