//! Reads for the command `check`. Nothing here changes anything at Discord.

use std::time::Duration;

use proto::{ChannelId, GuildId, UserId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use twilight_http::request::Request;
use twilight_http::routing::Route;

use super::call::Call;
use super::client::Discord;
use super::settings::ApplicationId;

/// How often a rate-limited read is tried.
const ATTEMPTS_MAX: u32 = 3;
/// The longest wait before the next attempt, in ms.
const WAIT_MAX_MS: u64 = 10_000;

/// Why a read failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// 401: the token is wrong.
    Token,
    /// 403 or 404: the bot may not read it, or it does not exist.
    Hidden,
    /// No response in time, or none in Discord's form.
    NoResponse,
    /// Another status.
    Status(u16),
}

/// The bot's user ("User Object").
#[derive(Debug, Deserialize)]
pub struct BotUser {
    /// Its id.
    pub id: UserId,
}

/// The application ("Application Object").
#[derive(Debug, Deserialize)]
pub struct Application {
    /// Its id.
    pub id: ApplicationId,
    /// The key of its requests, in hex.
    pub verify_key: String,
    /// Where Discord sends interactions; none: over the gateway.
    #[serde(default)]
    pub interactions_endpoint_url: Option<String>,
}

/// A guild ("Guild Object").
#[derive(Debug, Deserialize)]
pub struct Guild {
    /// Its id, which is also that of the role @everyone.
    pub id: GuildId,
    /// Whose it is: the owner has every permission.
    pub owner_id: UserId,
    /// Its roles.
    pub roles: Vec<Role>,
}

/// A role ("Role Object").
#[derive(Debug, Deserialize)]
pub struct Role {
    /// Its id.
    pub id: String,
    /// Its permissions, as a decimal number.
    pub permissions: String,
}

/// A member of a guild ("Guild Member Object").
#[derive(Debug, Deserialize)]
pub struct Member {
    /// The ids of its roles, without @everyone.
    pub roles: Vec<String>,
}

/// A channel that the bot may view ("Channel Object").
#[derive(Debug, Deserialize)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Its type.
    pub r#type: u32,
    /// Its exceptions from the guild's permissions.
    #[serde(default)]
    pub permission_overwrites: Vec<Overwrite>,
}

/// An exception from a guild's permissions ("Overwrite Object").
#[derive(Debug, Deserialize)]
pub struct Overwrite {
    /// The id of the role or member.
    pub id: String,
    /// The allowed permissions, as a decimal number.
    pub allow: String,
    /// The denied permissions, as a decimal number.
    pub deny: String,
}

impl Discord {
    /// The bot's own user, which exists if the token is right.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn bot_user(&self) -> Result<BotUser, ReadError> {
        self.read(&Route::GetCurrentUser).await
    }

    /// The bot's application.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn application(&self) -> Result<Application, ReadError> {
        self.read(&Route::GetCurrentUserApplicationInfo).await
    }

    /// A guild with its roles.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Hidden`] if the bot is not in it.
    pub async fn guild(&self, guild: GuildId) -> Result<Guild, ReadError> {
        let route = Route::GetGuild {
            guild_id: guild.get(),
            with_counts: false,
        };
        self.read(&route).await
    }

    /// A member of a guild.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn member(&self, guild: GuildId, user: UserId) -> Result<Member, ReadError> {
        let route = Route::GetMember {
            guild_id: guild.get(),
            user_id: user.get(),
        };
        self.read(&route).await
    }

    /// The channels of a guild, as far as the bot may view them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn channels(&self, guild: GuildId) -> Result<Vec<Channel>, ReadError> {
        let route = Route::GetChannels {
            guild_id: guild.get(),
        };
        self.read(&route).await
    }

    /// Whether the application may have slash commands in a guild: it may not if the bot was
    /// invited without the scope `applications.commands`.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Hidden`] if it may not.
    pub async fn may_have_commands(
        &self,
        application: ApplicationId,
        guild: GuildId,
    ) -> Result<(), ReadError> {
        let route = Route::GetGuildCommands {
            application_id: application.get(),
            guild_id: guild.get(),
            with_localizations: None,
        };
        let serde::de::IgnoredAny = self.read(&route).await?;
        Ok(())
    }

    async fn read<T: DeserializeOwned>(&self, route: &Route<'_>) -> Result<T, ReadError> {
        let mut attempts = 1;
        loop {
            let sent = self.send(Call::Check, Request::builder(route));
            let Ok(Ok((limits, body))) = tokio::time::timeout(self.timeout(), sent).await else {
                return Err(ReadError::NoResponse);
            };
            match (limits.status, limits.retry_after_ms) {
                (200, _) => {
                    return serde_json::from_slice(&body).map_err(|_| ReadError::NoResponse);
                }
                (401, _) => return Err(ReadError::Token),
                (403 | 404, _) => return Err(ReadError::Hidden),
                (429, Some(wait_ms)) if attempts < ATTEMPTS_MAX && wait_ms <= WAIT_MAX_MS => {
                    attempts += 1;
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                (status, _) => return Err(ReadError::Status(status)),
            }
        }
    }
}
