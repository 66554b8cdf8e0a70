//! The few dispatches that are read, and what they say.
//!
//! Discord's objects grow, and single fields come as null, as a number instead of a string, or not
//! at all. So only what the roster needs is read, field by field (`reading` by dispatch, `objects` by
//! object, `fields` by field); what is optional may be absent, and what is needed and can not be
//! read makes the dispatch *illegible*: it is then asked for over REST instead of being guessed.
//! Shapes: Discord's documentation, "Gateway Events", "Voice Resource", "Channel Resource", "Guild
//! Resource".

mod fields;
mod objects;
mod reading;

use proto::event::{Everyone, Overwrite, RoomKind, VoiceFlags};
use proto::{ChannelId, GuildId, UserId};

pub use objects::{read_channel, read_voice_state};
pub use reading::{label, read};

/// A dispatch that changes what is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Dispatch {
    /// A new gateway session.
    Ready(SessionStart),
    /// The old gateway session goes on; what was missed came before this.
    Resumed,
    /// Everything of one guild.
    GuildCreated(GuildState),
    /// What @everyone may do, as a guild or role update tells it.
    EveryoneChanged(GuildId, Everyone),
    /// An outage: nothing is told of this guild for a while.
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

    /// What would have to be read anew if this dispatch could not be used.
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

/// A gateway session as READY tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionStart {
    /// The guilds that the bot is in; each GUILD_CREATE follows.
    pub guilds: Vec<GuildId>,
    /// Where Discord wants the session resumed.
    pub resume_url: Option<String>,
}

/// A guild as GUILD_CREATE tells it.
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
    pub illegible: Vec<Subject>,
}

/// A channel, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Channel {
    /// Which.
    pub id: ChannelId,
    /// What sort of room; `None` for text channels, threads and whatever else there is.
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
    /// A channel that the bot may not view, of which only a voice state in it told.
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
    /// Name and pictures, where told.
    pub profile: Option<Profile>,
}

/// What a member looks like.
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

/// What can not be known without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One channel; before the voice states, so that who is in it finds it known.
    Channel(ChannelId),
    /// One user's voice state.
    Voice(UserId),
    /// The guild as a whole; only GUILD_CREATE tells that.
    Guild,
}

impl Subject {
    /// Of what sort it is, for logs: which one may be nobody's business.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Channel(_) => "channel",
            Self::Voice(_) => "user",
            Self::Guild => "guild",
        }
    }
}

/// What became of the text of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Read {
    /// It says something that is followed.
    Known(Dispatch),
    /// It says nothing that matters here.
    PassedOver,
    /// It should say something, and can not be read.
    Illegible {
        /// Whose it is; `None`: not even that can be read, so it may be anybody's.
        guild: Option<GuildId>,
        /// What has to be asked for.
        subject: Subject,
        /// Whom it may have denied what: until the answer is there, it counts as denied.
        hides: Hides,
    },
}

/// What something illegible may have taken out of @everyone's sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hides {
    /// Nothing.
    Nothing,
    /// This channel, by its overwrites.
    Channel(ChannelId),
    /// Any channel, by its overwrites.
    Channels,
    /// What the role may view.
    Role,
    /// The channels and the role.
    Everything,
}

impl Hides {
    /// Whether it may have been the role.
    pub fn has_role(self) -> bool {
        matches!(self, Self::Role | Self::Everything)
    }

    /// Whether it may have been this channel.
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
