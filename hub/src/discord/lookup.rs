//! What the hub reads to find out what became of a create whose answer it did not get.

use proto::{ChannelId, GuildId, UserId};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use twilight_http::request::Request;
use twilight_http::routing::Route;

use super::call::Call;
use super::client::Discord;
use super::error::{DiscordError, Missing, Unknown};
use super::requests::{CreatedChannel, NewChannel, VOICE_CHANNEL, denies_everyone};

/// The audit log's event of a new channel (`CHANNEL_CREATE`, "Audit Log Events").
const CHANNEL_CREATE: u64 = 10;
/// The most entries of one answer ("Get Guild Audit Log").
const PAGE_ENTRIES: u16 = 100;
/// How many answers are read: far more channels than a bot may create in the time of one create.
const PAGES_MAX: usize = 10;
/// So much earlier than asked for an entry may be, in ms: the hub's clock may be ahead of Discord's.
const CLOCK_AHEAD_MAX_MS: u64 = 2 * 60 * 60 * 1000;
/// The first ms of Discord's ids, since the Unix epoch ("Snowflakes").
const DISCORD_EPOCH_MS: u64 = 1_420_070_400_000;
/// The bits of an id below its time.
const TIME_BITS: u32 = 22;

/// A channel that the bot created, by the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// The channel. It may be gone by now.
    pub channel_id: ChannelId,
    /// The reason that the hub gave.
    pub reason: String,
}

/// When Discord made an id, in ms since the Unix epoch ("Snowflakes").
pub fn made_ms(id: u64) -> u64 {
    (id >> TIME_BITS) + DISCORD_EPOCH_MS
}

/// Those elements of a list that have the expected form.
fn readable<'de, T, D>(list: D) -> Result<Vec<T>, D::Error>
where
    T: serde::de::DeserializeOwned,
    D: Deserializer<'de>,
{
    let list = Vec::<Value>::deserialize(list)?;
    let read = list
        .into_iter()
        .filter_map(|one| serde_json::from_value(one).ok());
    Ok(read.collect())
}

impl Discord {
    /// The channels that the bot created since a moment (ms since the Unix epoch), newest first, and
    /// some that it created before.
    ///
    /// # Errors
    /// [`DiscordError`]; [`DiscordError::Forbidden`] if it lacks the permission View Audit Log.
    pub async fn creations(
        &self,
        guild: GuildId,
        since_ms: u64,
    ) -> Result<Vec<Creation>, DiscordError> {
        #[derive(Deserialize)]
        struct AuditLog {
            #[serde(deserialize_with = "readable")]
            audit_log_entries: Vec<Entry>,
        }
        #[derive(Deserialize)]
        struct Entry {
            id: String,
            #[serde(default)]
            target_id: Option<ChannelId>,
            #[serde(default)]
            reason: Option<String>,
        }
        let user_id = self.user_id().await?.get();
        let first_ms = since_ms.saturating_sub(CLOCK_AHEAD_MAX_MS);
        let (mut before, mut creations) = (None, Vec::new());
        for _ in 0..PAGES_MAX {
            let request = Request::builder(&Route::GetAuditLogs {
                action_type: Some(CHANNEL_CREATE),
                after: None,
                before,
                guild_id: guild.get(),
                limit: Some(PAGE_ENTRIES),
                user_id: Some(user_id),
            });
            let page: AuditLog = self.call(Call::AuditLog(guild), request).await?;
            let entries = page.audit_log_entries;
            let oldest: Option<u64> = entries
                .iter()
                .filter_map(|entry| entry.id.parse().ok())
                .min();
            let is_last = entries.len() < usize::from(PAGE_ENTRIES);
            creations.extend(entries.into_iter().filter_map(|entry| {
                Some(Creation {
                    channel_id: entry.target_id?,
                    reason: entry.reason?,
                })
            }));
            if is_last || oldest.is_none_or(|oldest| made_ms(oldest) < first_ms) {
                break;
            }
            before = oldest;
        }
        Ok(creations)
    }

    /// The voice channels of a guild, as far as the bot may view them.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn voice_channels(
        &self,
        guild: GuildId,
    ) -> Result<Vec<CreatedChannel>, DiscordError> {
        #[derive(Deserialize)]
        struct Channels(#[serde(deserialize_with = "readable")] Vec<Channel>);
        #[derive(Deserialize)]
        struct Channel {
            id: ChannelId,
            r#type: u8,
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            parent_id: Option<ChannelId>,
            #[serde(default)]
            user_limit: u32,
            #[serde(default)]
            permission_overwrites: Value,
        }
        let request = Request::builder(&Route::GetChannels {
            guild_id: guild.get(),
        });
        let Channels(channels) = self.call(Call::ListChannels(guild), request).await?;
        let voice = channels
            .into_iter()
            .filter(|channel| channel.r#type == VOICE_CHANNEL);
        Ok(voice
            .map(|channel| CreatedChannel {
                channel_id: channel.id,
                denied_to_everyone: denies_everyone(&channel.permission_overwrites, guild),
                channel: NewChannel {
                    name: channel.name.unwrap_or_default(),
                    parent_id: channel.parent_id,
                    user_limit: channel.user_limit,
                },
            })
            .collect())
    }

    /// Whether a channel exists, although the bot may not view it.
    ///
    /// # Errors
    /// [`DiscordError`], never [`DiscordError::NotFound`] of the channel.
    pub async fn channel_exists(&self, channel: ChannelId) -> Result<bool, DiscordError> {
        let request = Request::builder(&Route::GetChannel {
            channel_id: channel.get(),
        });
        match self
            .call::<serde::de::IgnoredAny>(Call::ReadChannel(channel), request)
            .await
        {
            Ok(_) | Err(DiscordError::Forbidden(Missing::Access)) => Ok(true),
            Err(DiscordError::NotFound(Unknown::Channel)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The bot's user, from one call.
    async fn user_id(&self) -> Result<UserId, DiscordError> {
        #[derive(Deserialize)]
        struct User {
            id: UserId,
        }
        let fetch = || async {
            let request = Request::builder(&Route::GetCurrentUser);
            let user: User = self.call(Call::User, request).await?;
            Ok(user.id)
        };
        self.known_user().get_or_try_init(fetch).await.copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_time() {
        // The example of "Snowflakes" in Discord's reference.
        let id = 175_928_847_299_117_063;
        assert_eq!(made_ms(id), 1_462_015_105_796);
    }
}
