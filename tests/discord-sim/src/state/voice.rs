//! Who sits where: joins, moves, marks and leaves.

use super::{
    Change, ChannelKind, DiscordState, Member, Refusal, Transition, Voice, VoiceChange, VoiceFlags,
    seed,
};
use crate::snowflake::{Id, hash_of};

impl DiscordState {
    /// Somebody joins, moves, changes their marks, or leaves. Unknown users become members; a new
    /// join clears the marks that are not given.
    ///
    /// # Errors
    /// Unknown guild or channel, not a voice channel, not in voice, or nothing would change.
    pub fn voice(
        &mut self,
        guild_id: Id,
        user: Id,
        change: VoiceChange,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let guild = self.guild(guild_id)?;
        let before = guild.voice.get(&user).cloned();
        let target = match change.channel {
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
                        mute: change.mute.unwrap_or(was.mute),
                        deaf: change.deaf.unwrap_or(was.deaf),
                        self_mute: change.self_mute.unwrap_or(was.self_mute),
                        self_deaf: change.self_deaf.unwrap_or(was.self_deaf),
                        self_video: change.self_video.unwrap_or(was.self_video),
                        self_stream: change.self_stream.unwrap_or(was.self_stream),
                        suppress: change.suppress.unwrap_or(if moved {
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
    pub(super) fn admit(
        &mut self,
        guild_id: Id,
        user: Id,
        now_ms: u64,
    ) -> Result<Vec<Transition>, Refusal> {
        let members_max = self.members_max;
        let guild = self.guild_mut(guild_id)?;
        if guild.members.contains_key(&user) {
            return Ok(Vec::new());
        }
        if guild.members.len() >= members_max {
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
    pub(super) fn seat(
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
}
