//! The truth: guilds, roles, channels, members and who sits in which voice channel.
//!
//! Pure: no socket, no clock, no luck. Every change goes through one method of [`Truth`], which
//! either refuses and changes nothing, or returns the [`Transition`]s it made, numbered by `seq`
//! without gaps and kept in a bounded history. What Discord would tell a bot about a transition is
//! decided elsewhere.

pub mod permissions;
mod seed;

use std::collections::{BTreeMap, VecDeque};

pub use seed::{
    APPLICATION_ID, CATEGORY, LOUNGE, OWNER_ID, STAFF_ROOM, STUDY_HALL, TEXT_CHANNEL, guild_id,
    nth, people,
};

use crate::snowflake::{Id, hash_of};

/// Channels of one guild, categories included (error 30013 above it).
pub const CHANNELS_MAX: usize = 500;
/// Channels of one category.
pub const CATEGORY_CHILDREN_MAX: usize = 50;

/// Everything that is so.
#[derive(Debug, Clone)]
pub struct Truth {
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
    /// An outage: nothing is told about this guild until it ends.
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
    /// Since when somebody sits in it, Unix seconds.
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

/// Whom an overwrite is for.
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

/// What somebody does with their voice state; `None` keeps what is.
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

/// One change of the truth.
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
        /// What it says now.
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

/// Why the truth did not change.
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
    /// Marks can not change: they are in no voice channel.
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
    /// The guild has as many members as it may.
    #[error("the guild is full (SIM_MEMBERS_MAX)")]
    TooManyMembers,
    /// It is so already.
    #[error("nothing would change")]
    Unchanged,
}

impl Truth {
    /// A world of `guilds` guilds with their channels and people; nobody is in voice.
    pub fn seeded(guilds: u32, now_ms: u64, history_max: usize, members_max: usize) -> Self {
        let mut truth = Self {
            guilds: BTreeMap::new(),
            users: BTreeMap::new(),
            seq: 0,
            last_id: Id::new(1),
            history: VecDeque::new(),
            history_max,
            members_max,
        };
        seed::furnish(&mut truth, guilds, now_ms);
        truth
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

    /// Somebody joins, moves, changes their marks, or leaves. Unknown users become members; a new
    /// join clears the marks that are not given.
    ///
    /// # Errors
    /// Unknown guild or channel, not a voice channel, not in voice, or nothing would change.
    pub fn voice(
        &mut self,
        guild_id: Id,
        user: Id,
        wish: VoiceChange,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild(guild_id)?;
        let before = guild.voice.get(&user).cloned();
        let target = match wish.channel {
            None => Some(before.as_ref().ok_or(Refusal::NotInVoice)?.channel),
            Some(target) => target,
        };
        let after = match target {
            None => None,
            Some(channel) => {
                let place = guild
                    .channels
                    .get(&channel)
                    .ok_or(Refusal::UnknownChannel)?;
                if !place.kind.is_voice() {
                    return Err(Refusal::NotVoice);
                }
                let moved = before
                    .as_ref()
                    .is_none_or(|before| before.channel != channel);
                let was = before
                    .as_ref()
                    .map_or_else(VoiceFlags::default, |before| before.flags);
                let stage_audience = moved && place.kind == ChannelKind::Stage;
                Some(Voice {
                    channel,
                    session_id: before.as_ref().map_or_else(
                        || hash_of(&[user.get(), guild_id.get(), self.seq]),
                        |before| before.session_id.clone(),
                    ),
                    flags: VoiceFlags {
                        mute: wish.mute.unwrap_or(was.mute),
                        deaf: wish.deaf.unwrap_or(was.deaf),
                        self_mute: wish.self_mute.unwrap_or(was.self_mute),
                        self_deaf: wish.self_deaf.unwrap_or(was.self_deaf),
                        self_video: wish.self_video.unwrap_or(was.self_video),
                        self_stream: wish.self_stream.unwrap_or(was.self_stream),
                        suppress: wish.suppress.unwrap_or(if moved {
                            stage_audience
                        } else {
                            was.suppress
                        }),
                    },
                })
            }
        };
        if before == after {
            return Err(Refusal::Unchanged);
        }
        let mut made = self.admit(guild_id, user, now_ms)?;
        made.extend(self.seat(guild_id, user, after, now_ms));
        Ok(made)
    }

    /// Makes `user` a member, if they are not one yet.
    fn admit(&mut self, guild_id: Id, user: Id, now_ms: u64) -> Result<Vec<Transition>, Refusal> {
        let guild = self
            .guilds
            .get_mut(&guild_id)
            .ok_or(Refusal::UnknownGuild)?;
        if guild.members.contains_key(&user) {
            return Ok(Vec::new());
        }
        if guild.members.len() >= self.members_max {
            return Err(Refusal::TooManyMembers);
        }
        guild.members.insert(
            user,
            Member {
                nick: None,
                roles: Vec::new(),
                joined_ms: now_ms,
            },
        );
        self.users
            .entry(user)
            .or_insert_with(|| seed::stranger(user));
        Ok(vec![self.record(
            guild_id,
            Change::MemberAdded(user),
            now_ms,
        )])
    }

    /// Puts `user` where `after` says; the channels' voice sessions begin and end with it.
    fn seat(
        &mut self,
        guild_id: Id,
        user: Id,
        after: Option<Voice>,
        now_ms: u64,
    ) -> Vec<Transition> {
        let Some(guild) = self.guilds.get_mut(&guild_id) else {
            return Vec::new();
        };
        let before = match &after {
            Some(voice) => guild.voice.insert(user, voice.clone()),
            None => guild.voice.remove(&user),
        };
        let touched =
            [before.as_ref(), after.as_ref()].map(|voice| voice.map(|voice| voice.channel));
        let mut changes = vec![Change::Voice {
            user,
            before,
            after,
        }];
        for channel in touched.into_iter().flatten() {
            let since_s = guild
                .voice
                .values()
                .any(|voice| voice.channel == channel)
                .then_some(now_ms / 1_000);
            if let Some(place) = guild.channels.get_mut(&channel)
                && place.voice_start_s.is_some() != since_s.is_some()
            {
                place.voice_start_s = since_s;
                changes.push(Change::ChannelStart { channel, since_s });
            }
        }
        changes
            .into_iter()
            .map(|change| self.record(guild_id, change, now_ms))
            .collect()
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
        let guild = self
            .guilds
            .get_mut(&guild_id)
            .ok_or(Refusal::UnknownGuild)?;
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
    /// Unknown guild, or nothing would change.
    pub fn set_role(
        &mut self,
        guild_id: Id,
        role: Role,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self
            .guilds
            .get_mut(&guild_id)
            .ok_or(Refusal::UnknownGuild)?;
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
        let guild = self
            .guilds
            .get_mut(&guild_id)
            .ok_or(Refusal::UnknownGuild)?;
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
        let guild = self
            .guilds
            .get_mut(&guild_id)
            .ok_or(Refusal::UnknownGuild)?;
        if guild.name == name {
            return Err(Refusal::Unchanged);
        }
        name.clone_into(&mut guild.name);
        Ok(vec![self.record(guild_id, Change::GuildUpdated, now_ms)])
    }

    /// Begins or ends an outage.
    ///
    /// # Errors
    /// Unknown guild, or it is so already.
    pub fn set_outage(
        &mut self,
        guild_id: Id,
        unavailable: bool,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self
            .guilds
            .get_mut(&guild_id)
            .ok_or(Refusal::UnknownGuild)?;
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
