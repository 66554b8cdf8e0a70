//! What the hub reads to find out the outcome of a create whose answer it did not get.

use proto::{ChannelId, GuildId, UserId};
use serde::Deserialize;
use serde_json::Value;
use twilight_http::request::Request;
use twilight_http::routing::Route;

use super::call::Call;
use super::client::Discord;
use super::error::{DiscordError, Unknown};
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

/// What was read of the channels that the bot created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creations {
    /// Each with its reason, newest first.
    pub found: Vec<Creation>,
    /// Whether none is missing since the asked moment.
    pub is_complete: bool,
}

/// When Discord made an id, in ms since the Unix epoch ("Snowflakes").
pub fn made_ms(id: u64) -> u64 {
    (id >> TIME_BITS) + DISCORD_EPOCH_MS
}

impl Discord {
    /// The channels that the bot created since a moment (ms since the Unix epoch), and some that it
    /// created before.
    ///
    /// # Errors
    /// [`DiscordError`]; [`DiscordError::Forbidden`] if it lacks the permission View Audit Log.
    pub async fn creations(
        &self,
        guild: GuildId,
        since_ms: u64,
    ) -> Result<Creations, DiscordError> {
        #[derive(Deserialize)]
        struct AuditLog {
            audit_log_entries: Vec<Value>,
        }
        #[derive(Deserialize)]
        struct Entry {
            target_id: ChannelId,
            reason: String,
        }
        let user_id = self.user_id().await?.get();
        let first_ms = since_ms.saturating_sub(CLOCK_AHEAD_MAX_MS);
        let (mut before, mut found) = (None, Vec::new());
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
            let is_last = entries.len() < usize::from(PAGE_ENTRIES);
            let ids = entries.iter().filter_map(|entry| entry["id"].as_str());
            let oldest: Option<u64> = ids.filter_map(|id| id.parse().ok()).min();
            // An entry without a reason, or of another form, is not one of a create of Roomwire.
            let read = entries
                .into_iter()
                .filter_map(|entry| serde_json::from_value::<Entry>(entry).ok());
            found.extend(read.map(|entry| Creation {
                channel_id: entry.target_id,
                reason: entry.reason,
            }));
            if is_last || oldest.is_none_or(|oldest| made_ms(oldest) < first_ms) {
                let is_complete = true;
                return Ok(Creations { found, is_complete });
            }
            before = oldest;
        }
        let is_complete = false;
        Ok(Creations { found, is_complete })
    }

    /// The voice channels of a guild, as far as the bot may view them.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn voice_channels(
        &self,
        guild: GuildId,
    ) -> Result<Vec<CreatedChannel>, DiscordError> {
        let request = Request::builder(&Route::GetChannels {
            guild_id: guild.get(),
        });
        let channels: Vec<Value> = self.call(Call::ListChannels(guild), request).await?;
        Ok(channels
            .into_iter()
            .filter_map(|channel| read_voice_channel(channel, guild))
            .collect())
    }

    /// A voice channel. None: it does not exist, or is another kind of channel.
    ///
    /// # Errors
    /// [`DiscordError`], never [`DiscordError::NotFound`] of the channel.
    pub async fn voice_channel(
        &self,
        guild: GuildId,
        channel: ChannelId,
    ) -> Result<Option<CreatedChannel>, DiscordError> {
        let request = Request::builder(&Route::GetChannel {
            channel_id: channel.get(),
        });
        match self.call(Call::ReadChannel(channel), request).await {
            Ok(read) => Ok(read_voice_channel(read, guild)),
            Err(DiscordError::NotFound(Unknown::Channel)) => Ok(None),
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

/// A channel as Discord writes it, if it is a voice channel.
fn read_voice_channel(channel: Value, guild: GuildId) -> Option<CreatedChannel> {
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
    let channel: Channel = serde_json::from_value(channel).ok()?;
    (channel.r#type == VOICE_CHANNEL).then(|| CreatedChannel {
        channel_id: channel.id,
        denied_to_everyone: denies_everyone(&channel.permission_overwrites, guild),
        channel: NewChannel {
            name: channel.name.unwrap_or_default(),
            parent_id: channel.parent_id,
            user_limit: channel.user_limit,
        },
    })
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
