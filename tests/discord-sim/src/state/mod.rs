//! The state of the simulated Discord: guilds, roles, channels, members and voice states.
//!
//! Pure: no socket, no clock, no randomness. Every change goes through one method of [`DiscordState`], which
//! either refuses and changes nothing, or returns the [`Transition`]s it made, numbered by `seq`
//! without gaps and kept in a bounded history. The dispatches of a
//! transition are made in `gateway/publish.rs`.

pub mod permissions;
mod seed;
mod shapes;
mod transition;
mod voice;

use std::collections::{BTreeMap, VecDeque};

pub use seed::{
    APPLICATION_ID, CATEGORY, LOUNGE, OWNER_ID, STAFF_ROOM, STUDY_HALL, TEXT_CHANNEL, guild_id,
    nth, people,
};

pub use shapes::{
    Channel, ChannelKind, Guild, Member, Overwrite, OverwriteKind, Role, User, Voice, VoiceChange,
    VoiceFlags, normalise_name,
};
pub use transition::{Change, Refusal, Transition};

use crate::snowflake::Id;

/// Channels of one guild, categories included (error 30013 above it).
pub const CHANNELS_MAX: usize = 500;
/// Roles of one guild (error 30005 above it).
pub const ROLES_MAX: usize = 250;
/// Channels of one category.
pub const CATEGORY_CHILDREN_MAX: usize = 50;

/// Everything that exists in the simulated Discord.
#[derive(Debug, Clone)]
pub struct DiscordState {
    /// The guilds that the bot is in, by id.
    pub guilds: BTreeMap<Id, Guild>,
    /// Everybody who was ever seen, the bot included, by id.
    pub users: BTreeMap<Id, User>,
    seq: u64,
    last_id: Id,
    history: VecDeque<Transition>,
    history_max: usize,
    members_max: usize,
}

impl DiscordState {
    /// A world of `guilds` guilds with their channels and people; no member is in voice.
    pub fn seeded(guilds: u32, now_ms: u64, history_max: usize, members_max: usize) -> Self {
        let mut state = Self {
            guilds: BTreeMap::new(),
            users: BTreeMap::new(),
            seq: 0,
            last_id: Id::new(1),
            history: VecDeque::new(),
            history_max,
            members_max,
        };
        seed::furnish(&mut state, guilds, now_ms);
        state
    }

    /// The same world, in which the bot's role allows exactly `permissions`. It is part of the seed:
    /// no transition is made.
    #[must_use]
    pub fn with_bot_permissions(mut self, permissions: u64) -> Self {
        for guild in self.guilds.values_mut() {
            for role in guild.roles.values_mut() {
                if role.bot_id == Some(APPLICATION_ID) {
                    role.permissions = permissions;
                }
            }
        }
        self
    }

    /// The number of the last transition.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The transitions after `since`, oldest first, and the oldest number that is still kept.
    pub fn transitions_since(&self, since: u64) -> (u64, impl Iterator<Item = &Transition>) {
        let first = self.history.front().map_or(self.seq + 1, |kept| kept.seq);
        let skip =
            usize::try_from(since.saturating_add(1).saturating_sub(first)).unwrap_or(usize::MAX);
        (first, self.history.iter().skip(skip))
    }

    /// A fresh id.
    pub fn next_id(&mut self, now_ms: u64) -> Id {
        self.last_id = Id::at(now_ms, self.last_id);
        self.last_id
    }

    /// One guild.
    ///
    /// # Errors
    /// [`Refusal::UnknownGuild`].
    pub fn guild(&self, guild: Id) -> Result<&Guild, Refusal> {
        self.guilds.get(&guild).ok_or(Refusal::UnknownGuild)
    }

    fn guild_mut(&mut self, guild: Id) -> Result<&mut Guild, Refusal> {
        self.guilds.get_mut(&guild).ok_or(Refusal::UnknownGuild)
    }

    /// The guild that a channel belongs to.
    ///
    /// # Errors
    /// [`Refusal::UnknownChannel`].
    pub fn guild_of(&self, channel: Id) -> Result<&Guild, Refusal> {
        self.guilds
            .values()
            .find(|guild| guild.channels.contains_key(&channel))
            .ok_or(Refusal::UnknownChannel)
    }

    /// Makes a channel as given, with a fresh id and at the end of the list.
    ///
    /// # Errors
    /// Unknown guild, not a category, or a limit.
    pub fn create_channel(
        &mut self,
        guild_id: Id,
        mut channel: Channel,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild(guild_id)?;
        if guild.channels.len() >= CHANNELS_MAX {
            return Err(Refusal::TooManyChannels);
        }
        check_parent(guild, &channel)?;
        if channel.position == 0 {
            let peers = guild.channels.values().filter(|peer| {
                peer.kind.is_voice() == channel.kind.is_voice()
                    && (peer.kind == ChannelKind::Category)
                        == (channel.kind == ChannelKind::Category)
            });
            channel.position = u32::try_from(peers.count()).unwrap_or(u32::MAX);
        }
        channel.id = self.next_id(now_ms);
        Ok(vec![self.put_channel(guild_id, channel, now_ms)])
    }

    fn put_channel(&mut self, guild_id: Id, channel: Channel, now_ms: u64) -> Transition {
        let known = self
            .guilds
            .get_mut(&guild_id)
            .and_then(|guild| guild.channels.insert(channel.id, channel.clone()));
        let change = match known {
            None => Change::ChannelCreated(Box::new(channel)),
            Some(_) => Change::ChannelUpdated(Box::new(channel)),
        };
        self.record(guild_id, change, now_ms)
    }

    /// Replaces a channel by a changed version of itself.
    ///
    /// # Errors
    /// Unknown channel, not a category, a full category, or nothing would change.
    pub fn update_channel(
        &mut self,
        channel: Channel,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild_of(channel.id)?;
        let guild_id = guild.id;
        let before = guild
            .channels
            .get(&channel.id)
            .ok_or(Refusal::UnknownChannel)?;
        if *before == channel {
            return Err(Refusal::Unchanged);
        }
        if before.parent_id != channel.parent_id {
            check_parent(guild, &channel)?;
        }
        Ok(vec![self.put_channel(guild_id, channel, now_ms)])
    }

    /// Deletes a channel. Who sat in it leaves voice; a category's channels lose their parent.
    ///
    /// # Errors
    /// [`Refusal::UnknownChannel`].
    pub fn delete_channel(
        &mut self,
        channel_id: Id,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild_id = self.guild_of(channel_id)?.id;
        let guild = self.guild_mut(guild_id)?;
        let channel = guild
            .channels
            .remove(&channel_id)
            .ok_or(Refusal::UnknownChannel)?;
        let sat: Vec<Id> = guild
            .voice
            .iter()
            .filter(|(_, voice)| voice.channel == channel_id)
            .map(|(user, _)| *user)
            .collect();
        let orphans: Vec<Channel> = guild
            .channels
            .values()
            .filter(|child| child.parent_id == Some(channel_id))
            .cloned()
            .collect();
        let mut made =
            vec![self.record(guild_id, Change::ChannelDeleted(Box::new(channel)), now_ms)];
        for user in sat {
            made.extend(self.seat(guild_id, user, None, now_ms));
        }
        for mut orphan in orphans {
            orphan.parent_id = None;
            made.push(self.put_channel(guild_id, orphan, now_ms));
        }
        Ok(made)
    }

    /// Sets a voice channel's status line.
    ///
    /// # Errors
    /// Unknown channel, not a voice channel, or nothing would change.
    pub fn set_status(
        &mut self,
        channel_id: Id,
        status: Option<String>,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild_id = self.guild_of(channel_id)?.id;
        let channel = self
            .guilds
            .get_mut(&guild_id)
            .and_then(|guild| guild.channels.get_mut(&channel_id))
            .ok_or(Refusal::UnknownChannel)?;
        if !channel.kind.is_voice() {
            return Err(Refusal::NotVoice);
        }
        if channel.status == status {
            return Err(Refusal::Unchanged);
        }
        channel.status.clone_from(&status);
        Ok(vec![self.record(
            guild_id,
            Change::ChannelStatus {
                channel: channel_id,
                status,
            },
            now_ms,
        )])
    }

    /// Gives a role other permissions; an unknown role id makes a role.
    ///
    /// # Errors
    /// Unknown guild, too many roles, or nothing would change.
    pub fn set_role(
        &mut self,
        guild_id: Id,
        role: Role,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild_mut(guild_id)?;
        if guild.roles.len() >= ROLES_MAX && !guild.roles.contains_key(&role.id) {
            return Err(Refusal::TooManyRoles);
        }
        let change = match guild.roles.insert(role.id, role.clone()) {
            Some(before) if before == role => return Err(Refusal::Unchanged),
            Some(_) => Change::RoleUpdated(role),
            None => Change::RoleCreated(role),
        };
        Ok(vec![self.record(guild_id, change, now_ms)])
    }

    /// Deletes a role; members and overwrites lose it.
    ///
    /// # Errors
    /// Unknown guild, unknown role, or @everyone.
    pub fn delete_role(
        &mut self,
        guild_id: Id,
        role: Id,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild_mut(guild_id)?;
        if role == guild_id || guild.roles.remove(&role).is_none() {
            return Err(Refusal::UnknownRole);
        }
        for member in guild.members.values_mut() {
            member.roles.retain(|held| *held != role);
        }
        let touched: Vec<Channel> = guild
            .channels
            .values_mut()
            .filter_map(|channel| channel.overwrites.remove(&role).map(|_| channel.clone()))
            .collect();
        let mut made = vec![self.record(guild_id, Change::RoleDeleted(role), now_ms)];
        for channel in touched {
            made.push(self.put_channel(guild_id, channel, now_ms));
        }
        Ok(made)
    }

    /// Gives a member exactly these roles; unknown users become members.
    ///
    /// # Errors
    /// Unknown guild or role, a full guild, or nothing would change.
    pub fn set_member_roles(
        &mut self,
        guild_id: Id,
        user: Id,
        roles: Vec<Id>,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild(guild_id)?;
        if roles
            .iter()
            .any(|role| *role == guild_id || !guild.roles.contains_key(role))
        {
            return Err(Refusal::UnknownRole);
        }
        if guild
            .members
            .get(&user)
            .is_some_and(|member| member.roles == roles)
        {
            return Err(Refusal::Unchanged);
        }
        let mut made = self.admit(guild_id, user, now_ms)?;
        if let Some(member) = self
            .guilds
            .get_mut(&guild_id)
            .and_then(|guild| guild.members.get_mut(&user))
        {
            member.roles = roles;
        }
        made.push(self.record(guild_id, Change::MemberUpdated(user), now_ms));
        Ok(made)
    }

    /// Renames a guild.
    ///
    /// # Errors
    /// Unknown guild, or nothing would change.
    pub fn rename_guild(
        &mut self,
        guild_id: Id,
        name: &str,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild_mut(guild_id)?;
        if guild.name == name {
            return Err(Refusal::Unchanged);
        }
        name.clone_into(&mut guild.name);
        Ok(vec![self.record(guild_id, Change::GuildUpdated, now_ms)])
    }

    /// Begins or ends an outage.
    ///
    /// # Errors
    /// Unknown guild, or no change.
    pub fn set_outage(
        &mut self,
        guild_id: Id,
        unavailable: bool,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild_mut(guild_id)?;
        if guild.unavailable == unavailable {
            return Err(Refusal::Unchanged);
        }
        guild.unavailable = unavailable;
        let change = if unavailable {
            Change::Unavailable
        } else {
            Change::Available
        };
        Ok(vec![self.record(guild_id, change, now_ms)])
    }

    fn record(&mut self, guild: Id, change: Change, at_ms: u64) -> Transition {
        self.seq += 1;
        let transition = Transition {
            seq: self.seq,
            at_ms,
            guild,
            change,
        };
        if self.history.len() >= self.history_max {
            self.history.pop_front();
        }
        self.history.push_back(transition.clone());
        transition
    }
}

fn check_parent(guild: &Guild, channel: &Channel) -> Result<(), Refusal> {
    let Some(parent) = channel.parent_id else {
        return Ok(());
    };
    let is_category = guild
        .channels
        .get(&parent)
        .is_some_and(|parent| parent.kind == ChannelKind::Category);
    if !is_category || channel.kind == ChannelKind::Category {
        return Err(Refusal::NotACategory);
    }
    let children = guild
        .channels
        .values()
        .filter(|child| child.parent_id == Some(parent) && child.id != channel.id);
    if children.count() >= CATEGORY_CHILDREN_MAX {
        return Err(Refusal::CategoryFull);
    }
    Ok(())
}
