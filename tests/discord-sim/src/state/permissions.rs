//! What a member may do, as Discord computes it (`topics/permissions.mdx`).

use super::{Channel, Guild, OverwriteKind};
use crate::snowflake::Id;

/// May make invites to a channel.
pub const CREATE_INSTANT_INVITE: u64 = 1;
/// Everything, with any roles.
pub const ADMINISTRATOR: u64 = 1 << 3;
/// May create, change and delete channels.
pub const MANAGE_CHANNELS: u64 = 1 << 4;
/// May read the audit log.
pub const VIEW_AUDIT_LOG: u64 = 1 << 7;
/// May see a channel.
pub const VIEW_CHANNEL: u64 = 1 << 10;
/// May join a voice channel.
pub const CONNECT: u64 = 1 << 20;
/// May mute members.
pub const MUTE_MEMBERS: u64 = 1 << 22;
/// May deafen members.
pub const DEAFEN_MEMBERS: u64 = 1 << 23;
/// May move and disconnect members.
pub const MOVE_MEMBERS: u64 = 1 << 24;
/// May change roles, and the overwrites of channels.
pub const MANAGE_ROLES: u64 = 1 << 28;
/// May set the status line of a voice channel.
pub const SET_VOICE_CHANNEL_STATUS: u64 = 1 << 48;
/// All bits that are known today.
pub const ALL: u64 = (1 << 53) - 1;

/// What a new guild's @everyone may do: the usual, without managing anything.
/// (By bit: invite, react, stream, view, write, embed, attach, read history, foreign emoji, connect,
/// speak, voice activity, own nickname, application commands, ask to speak.)
pub const EVERYONE_DEFAULT: u64 = 1
    | 1 << 6
    | 1 << 9
    | VIEW_CHANNEL
    | 1 << 11
    | 1 << 14
    | 1 << 15
    | 1 << 16
    | 1 << 18
    | CONNECT
    | 1 << 21
    | 1 << 25
    | 1 << 26
    | 1 << 31
    | 1 << 32;

/// What the bot's role allows unless a setting says otherwise: all that Roomwire uses.
pub const BOT_DEFAULT: u64 = EVERYONE_DEFAULT
    | MANAGE_CHANNELS
    | VIEW_AUDIT_LOG
    | MUTE_MEMBERS
    | DEAFEN_MEMBERS
    | MOVE_MEMBERS
    | MANAGE_ROLES
    | SET_VOICE_CHANNEL_STATUS;

/// What `user` may do in the guild, before any channel's overwrites.
pub fn in_guild(guild: &Guild, user: Id) -> u64 {
    if guild.owner_id == user {
        return ALL;
    }
    let everyone = guild
        .roles
        .get(&guild.id)
        .map_or(0, |role| role.permissions);
    let granted = guild.members.get(&user).map_or(everyone, |member| {
        member
            .roles
            .iter()
            .filter_map(|id| guild.roles.get(id))
            .fold(everyone, |sum, role| sum | role.permissions)
    });
    if granted & ADMINISTRATOR != 0 {
        ALL
    } else {
        granted
    }
}

/// What `user` may do in one channel. Who may not view a channel, or not connect to a voice
/// channel, may do nothing else there.
pub fn in_channel(guild: &Guild, channel: &Channel, user: Id) -> u64 {
    let base = in_guild(guild, user);
    if base & ADMINISTRATOR != 0 {
        return ALL;
    }
    let mut allowed = base;
    if let Some(everyone) = channel.overwrites.get(&guild.id) {
        allowed = allowed & !everyone.deny | everyone.allow;
    }
    if let Some(member) = guild.members.get(&user) {
        let (allow, deny) = member
            .roles
            .iter()
            .filter_map(|role| channel.overwrites.get(role))
            .filter(|overwrite| overwrite.kind == OverwriteKind::Role)
            .fold((0, 0), |(allow, deny), overwrite| {
                (allow | overwrite.allow, deny | overwrite.deny)
            });
        allowed = allowed & !deny | allow;
    }
    if let Some(own) = channel
        .overwrites
        .get(&user)
        .filter(|overwrite| overwrite.kind == OverwriteKind::Member)
    {
        allowed = allowed & !own.deny | own.allow;
    }
    if allowed & VIEW_CHANNEL == 0 {
        return 0;
    }
    if channel.kind.is_voice() && allowed & CONNECT == 0 {
        return allowed & VIEW_CHANNEL;
    }
    allowed
}

/// Whether `user` may view the channel: by permission, by sitting in it, or, for a category, by
/// viewing anything inside it.
pub fn views(guild: &Guild, channel: &Channel, user: Id) -> bool {
    in_channel(guild, channel, user) & VIEW_CHANNEL != 0
        || guild
            .voice
            .get(&user)
            .is_some_and(|voice| voice.channel == channel.id)
        || (channel.kind == super::ChannelKind::Category
            && guild
                .channels
                .values()
                .any(|child| child.parent_id == Some(channel.id) && views(guild, child, user)))
}
