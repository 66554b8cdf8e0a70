//! What the hub asks Discord to do.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue};
use launch::Secret;
use proto::{ChannelId, GuildId};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use twilight_http::request::{Request, RequestBuilder};
use twilight_http::routing::Route;
use twilight_model::util::Timestamp;

use super::audit;
use super::call::Call;
use super::client::Discord;
use super::error::{DiscordError, Unknown};
use super::settings::ApplicationId;

/// Discord's channel type of a voice channel ("Channel Types").
pub(super) const VOICE_CHANNEL: u8 = 2;
/// Permission bit VIEW_CHANNEL ("Permissions").
const VIEW_CHANNEL: u128 = 1 << 10;

/// A voice channel to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChannel {
    /// 1 to 100 characters.
    pub name: String,
    /// Its category.
    pub parent_id: Option<ChannelId>,
    /// The most members, up to 99. 0 is no limit.
    pub user_limit: u32,
}

/// A created voice channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedChannel {
    /// Its id.
    pub channel_id: ChannelId,
    /// Its properties, as Discord stored them.
    pub channel: NewChannel,
    /// Whether an overwrite of the channel denies @everyone viewing it. Discord copies the category's
    /// overwrites ("Permissions", "Permission Syncing").
    pub denied_to_everyone: bool,
}

/// An invite to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvite {
    /// After how many seconds it ends. 0: never. None: Discord's default.
    pub max_age_s: Option<u32>,
    /// How often it may be used. 0: no limit.
    pub max_uses: u32,
}

/// A created invite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedInvite {
    /// Its code.
    pub code: String,
    /// When it ends, in ms since the Unix epoch. None: never.
    pub expires_at_ms: Option<u64>,
}

/// The outcome of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// The call deleted it.
    Now,
    /// It did not exist.
    Before,
}

impl Discord {
    /// Creates a voice channel. After [`DiscordError::Unavailable`] it may exist.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn create_channel(
        &self,
        guild: GuildId,
        channel: NewChannel,
        reason: &str,
    ) -> Result<CreatedChannel, DiscordError> {
        #[derive(Serialize)]
        struct Body<'a> {
            name: &'a str,
            r#type: u8,
            user_limit: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent_id: Option<ChannelId>,
        }
        #[derive(Deserialize)]
        struct Created {
            id: ChannelId,
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            parent_id: Option<ChannelId>,
            #[serde(default)]
            user_limit: Option<u32>,
            // Read separately: an unknown form must not lose a channel that was created.
            #[serde(default)]
            permission_overwrites: Value,
        }
        let request = Request::builder(&Route::CreateChannel {
            guild_id: guild.get(),
        })
        .json(&Body {
            name: &channel.name,
            r#type: VOICE_CHANNEL,
            user_limit: channel.user_limit,
            parent_id: channel.parent_id,
        });
        let created: Created = self
            .call(Call::CreateChannel(guild), with_reason(request, reason))
            .await?;
        Ok(CreatedChannel {
            channel_id: created.id,
            channel: NewChannel {
                name: created.name.unwrap_or(channel.name),
                parent_id: created.parent_id,
                user_limit: created.user_limit.unwrap_or(channel.user_limit),
            },
            denied_to_everyone: denies_everyone(&created.permission_overwrites, guild),
        })
    }

    /// Deletes a channel permanently. A channel that Discord does not know (error 10003) is a success,
    /// and so is a response with the deleted channel. After any other response the channel may exist.
    ///
    /// # Errors
    /// [`DiscordError`], never [`DiscordError::NotFound`] of the channel.
    pub async fn delete_channel(
        &self,
        channel: ChannelId,
        reason: &str,
    ) -> Result<Deleted, DiscordError> {
        #[derive(Deserialize)]
        struct DeletedChannel {
            id: ChannelId,
        }
        let request = Request::builder(&Route::DeleteChannel {
            channel_id: channel.get(),
        });
        match self
            .call::<DeletedChannel>(Call::DeleteChannel(channel), with_reason(request, reason))
            .await
        {
            Ok(deleted) if deleted.id == channel => Ok(Deleted::Now),
            Ok(_) => Err(DiscordError::Unavailable),
            Err(DiscordError::NotFound(Unknown::Channel)) => Ok(Deleted::Before),
            Err(error) => Err(error),
        }
    }

    /// Creates an invite to a channel. Without a limit of uses Discord may return one that exists.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn create_invite(
        &self,
        channel: ChannelId,
        invite: &NewInvite,
        reason: &str,
    ) -> Result<CreatedInvite, DiscordError> {
        #[derive(Serialize)]
        struct Body {
            #[serde(skip_serializing_if = "Option::is_none")]
            max_age: Option<u32>,
            max_uses: u32,
            /// One that may be used so often is its recipient's alone.
            unique: bool,
        }
        #[derive(Deserialize)]
        struct Created {
            code: String,
            #[serde(default)]
            expires_at: Option<String>,
        }
        let request = Request::builder(&Route::CreateInvite {
            channel_id: channel.get(),
        })
        .json(&Body {
            max_age: invite.max_age_s,
            max_uses: invite.max_uses,
            unique: invite.max_uses > 0,
        });
        let created: Created = self
            .call(Call::CreateInvite(channel), with_reason(request, reason))
            .await?;
        let is_code = |code: &str| {
            code.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if created.code.is_empty() || !is_code(&created.code) {
            return Err(DiscordError::Unavailable);
        }
        let expires_at = created.expires_at.as_deref();
        let expires_at = expires_at.and_then(|text| Timestamp::parse(text).ok());
        Ok(CreatedInvite {
            code: created.code,
            expires_at_ms: expires_at.and_then(|at| u64::try_from(at.as_micros() / 1_000).ok()),
        })
    }

    /// The application's commands in a guild, as the caller's type.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn guild_commands<T: DeserializeOwned>(
        &self,
        guild: GuildId,
    ) -> Result<Vec<T>, DiscordError> {
        let route = Route::GetGuildCommands {
            application_id: self.application_id().await?.get(),
            guild_id: guild.get(),
            with_localizations: None,
        };
        self.call(Call::ListCommands(guild), Request::builder(&route))
            .await
    }

    /// Creates a command in a guild, or replaces the one of that name. Other commands stay.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn put_guild_command(
        &self,
        guild: GuildId,
        command: &impl Serialize,
    ) -> Result<(), DiscordError> {
        let route = Route::CreateGuildCommand {
            application_id: self.application_id().await?.get(),
            guild_id: guild.get(),
        };
        let request = Request::builder(&route).json(command);
        let IgnoredAny = self.call(Call::PutCommand(guild), request).await?;
        Ok(())
    }

    /// Replaces the first response to an interaction. Its token is valid for 15 minutes.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn edit_original(
        &self,
        application: ApplicationId,
        interaction_token: &Secret,
        message: &impl Serialize,
    ) -> Result<(), DiscordError> {
        let token = interaction_token.expose();
        let plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'=');
        if token.starts_with('.') || !token.bytes().all(plain) {
            // Such a token would change the path.
            return Err(DiscordError::Invalid {
                fields: BTreeSet::new(),
            });
        }
        let route = Route::UpdateInteractionOriginal {
            application_id: application.get(),
            interaction_token: token,
        };
        let request = Request::builder(&route)
            .json(message)
            .use_authorization_token(false);
        let IgnoredAny = self.call(Call::EditOriginal, request).await?;
        Ok(())
    }
}

/// Whether a channel's overwrites deny viewing to @everyone, the role with the guild's id. An allow
/// takes precedence over a deny ("Permission Overwrites"). An unreadable overwrite denies nothing: a
/// deny that the worker reports later then counts as added by staff.
pub(super) fn denies_everyone(overwrites: &Value, guild: GuildId) -> bool {
    let views = |bits: &Value| {
        bits.as_str()
            .and_then(|bits| bits.parse::<u128>().ok())
            .is_some_and(|bits| bits & VIEW_CHANNEL != 0)
    };
    let guild = guild.to_string();
    overwrites
        .as_array()
        .into_iter()
        .flatten()
        .filter(|overwrite| overwrite["id"] == guild.as_str())
        .any(|overwrite| views(&overwrite["deny"]) && !views(&overwrite["allow"]))
}

fn with_reason(request: RequestBuilder, reason: &str) -> RequestBuilder {
    let value = audit::reason_value(reason).and_then(|value| HeaderValue::from_str(&value).ok());
    match value {
        Some(value) => request.headers(std::iter::once((
            HeaderName::from_static(audit::REASON_HEADER),
            value,
        ))),
        None => request,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_channel_is_denied_to_everyone_only_by_the_overwrite_of_the_guilds_own_role() {
        let overwrite = |id: &str, allow: &str, deny: &str| json!({"id": id, "type": 0, "allow": allow, "deny": deny});
        for (overwrites, denied) in [
            (json!([overwrite("1", "0", "1024")]), true),
            (
                json!([overwrite("2", "1024", "0"), overwrite("1", "0", "3072")]),
                true,
            ),
            (json!([overwrite("1", "1024", "1024")]), false),
            (json!([overwrite("1", "0", "1048576")]), false),
            (json!([overwrite("2", "0", "1024")]), false),
            (json!([]), false),
            (json!(null), false),
            (
                json!([{"id": "1", "deny": 1024}, {"id": 1, "deny": "1024"}, 5]),
                false,
            ),
            (json!({"1": "1024"}), false),
        ] {
            assert_eq!(
                denies_everyone(&overwrites, GuildId::new(1).unwrap()),
                denied,
                "{overwrites}"
            );
        }
    }
}
