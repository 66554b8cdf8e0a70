//! The calls of Discord's API that the hub makes.

use proto::{ChannelId, GuildId};

/// A call. Discord limits the rate of each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    CreateChannel(GuildId),
    DeleteChannel(ChannelId),
    CreateInvite(ChannelId),
    Application,
    User,
    ListChannels(GuildId),
    ReadChannel(ChannelId),
    AuditLog(GuildId),
    ListCommands(GuildId),
    PutCommand(GuildId),
    EditOriginal,
    /// One of the reads of the command `check`.
    Check,
}

impl Call {
    /// The name of the call, for the log and for metrics.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::CreateChannel(_) => "create_channel",
            Self::DeleteChannel(_) => "delete_channel",
            Self::CreateInvite(_) => "create_invite",
            Self::Application => "application",
            Self::User => "user",
            Self::ListChannels(_) => "list_channels",
            Self::ReadChannel(_) => "read_channel",
            Self::AuditLog(_) => "audit_log",
            Self::ListCommands(_) => "list_commands",
            Self::PutCommand(_) => "put_command",
            Self::EditOriginal => "edit_original",
            Self::Check => "look",
        }
    }

    /// Whether the bot's global limit applies. It does not apply to interaction endpoints ("Global
    /// Rate Limit").
    pub(super) fn is_globally_limited(self) -> bool {
        self != Self::EditOriginal
    }
}
