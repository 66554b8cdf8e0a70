//! Discord's REST API: the only place that asks it anything. It reports meaning, not statuses.
//!
//! Requests are described with twilight's routes and sent by our own few lines, because twilight's
//! client (0.18) repeats a 429 by itself until it succeeds, which leaves a person waiting without
//! an answer, and because it names whole paths in its spans, and the path of an interaction holds
//! a token. Here every call ends within [`DiscordSettings::timeout_ms`], and one that Discord
//! wants to come later is refused at once with how long to wait ([`pace`]).
//!
//! Nothing is repeated here: whether a call may be made twice is known to whoever makes it.

mod answer;
mod audit;
mod call;
mod look;
mod pace;
mod settings;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use http::{HeaderName, HeaderValue};
use launch::Secret;
use proto::{ChannelId, GuildId};
use reqwest::redirect;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{OnceCell, Semaphore};
use twilight_http::request::{Request, RequestBuilder};
use twilight_http::routing::Route;
use twilight_model::id::Id;
use twilight_model::id::marker::ApplicationMarker;

pub use self::look::{Application, Channel, Guild, Member, Overwrite, Unseen};
pub use self::settings::DiscordSettings;

use self::call::Call;
use self::pace::Pace;

/// Discord's channel type of a voice channel ("Channel Types").
const VOICE_CHANNEL: u8 = 2;
/// Permission bit VIEW_CHANNEL ("Permissions").
const VIEW_CHANNEL: u128 = 1 << 10;

/// An application of Discord's developer portal.
pub type ApplicationId = Id<ApplicationMarker>;

/// Why Discord did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscordError {
    /// It does not know what was named.
    #[error("Discord does not know it")]
    NotFound(Unknown),
    /// It does not let the bot do this. Waiting does not help.
    #[error("Discord does not allow it: {0}")]
    Forbidden(Missing),
    /// It does not accept the bot's token. Waiting does not help.
    #[error("Discord does not accept DISCORD_BOT_TOKEN")]
    Unauthorized,
    /// It calls the request wrong.
    #[error("Discord calls the request wrong")]
    Invalid {
        /// Discord's names of the wrong fields, where it gives them.
        fields: BTreeSet<String>,
    },
    /// The guild holds 500 channels, or the category 50.
    #[error("no more channels fit")]
    Full,
    /// It asks to wait, or would.
    #[error("Discord asks to wait {retry_after_ms} ms")]
    RateLimited {
        /// How long to wait, in ms.
        retry_after_ms: u64,
    },
    /// It does not answer, or not as Discord does. Whether it was done is not known.
    #[error("Discord does not answer")]
    Unavailable,
}

/// What Discord does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The channel (error 10003).
    Channel,
    /// The guild (10004): the bot is not in it.
    Guild,
    /// Anything else, such as an interaction whose token is over.
    Other,
}

/// What the bot lacks for a call, by Discord's list of JSON error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// It may not view what the call is about, or not connect to it ("Missing access", 50001).
    #[error("the bot may not view it")]
    Access,
    /// It lacks the permission that the call needs ("You lack permissions to perform that action",
    /// 50013).
    #[error("the bot lacks the permission")]
    Permissions,
    /// The guild wants moderators to have two-factor authentication, and the owner of the bot's
    /// application has none (60003).
    #[error("the guild requires two-factor authentication")]
    TwoFactor,
}

/// A voice channel to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewChannel {
    /// 1 to 100 characters.
    pub name: String,
    /// The category that it stands in.
    pub parent_id: Option<ChannelId>,
    /// How many may be in it, to 99; 0: no limit.
    pub user_limit: u32,
}

/// A voice channel that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeChannel {
    /// Which it is.
    pub channel_id: ChannelId,
    /// What it is, as Discord took it.
    pub channel: NewChannel,
    /// Whether @everyone may not view it by an overwrite of its own: Discord copies those of the
    /// category ("Permissions", "Permission Syncing").
    pub denied_to_everyone: bool,
}

/// What came of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone now.
    Now,
    /// It was gone before.
    Before,
}

/// Discord. A clone is a reference.
#[derive(Clone)]
pub struct Discord(Arc<Shared>);

struct Shared {
    settings: DiscordSettings,
    http: reqwest::Client,
    /// What stands in `Authorization`; its value never prints.
    authorization: HeaderValue,
    pace: Mutex<Pace>,
    /// The zero of the pace's time.
    started: Instant,
    /// Calls that wait or are under way.
    admitted: Semaphore,
    /// Calls that are under way.
    under_way: Semaphore,
    application_id: OnceCell<ApplicationId>,
}

impl Discord {
    /// A client. Nothing is asked yet.
    ///
    /// # Errors
    /// When the token has characters that no header can carry, or when there is no TLS to be had.
    pub fn new(settings: DiscordSettings) -> anyhow::Result<Self> {
        let (concurrent_max, admitted_max) = settings.permits();
        let mut authorization =
            HeaderValue::from_str(&format!("Bot {}", settings.bot_token.expose())).map_err(
                |_| anyhow::anyhow!("DISCORD_BOT_TOKEN has characters that a token can not have"),
            )?;
        authorization.set_sensitive(true);
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self(Arc::new(Shared {
            http,
            authorization,
            pace: Mutex::new(Pace::new(
                settings.per_second_max,
                settings.invalid_answers_max,
            )),
            started: Instant::now(),
            admitted: Semaphore::new(admitted_max),
            under_way: Semaphore::new(concurrent_max),
            application_id: OnceCell::new_with(settings.application_id),
            settings,
        })))
    }

    /// Makes a voice channel. After [`DiscordError::Unavailable`] it may exist all the same.
    ///
    /// # Errors
    /// [`DiscordError`].
    pub async fn create_channel(
        &self,
        guild: GuildId,
        channel: NewChannel,
        reason: &str,
    ) -> Result<MadeChannel, DiscordError> {
        #[derive(Serialize)]
        struct Body<'a> {
            name: &'a str,
            r#type: u8,
            user_limit: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            parent_id: Option<ChannelId>,
        }
        #[derive(Deserialize)]
        struct Answer {
            id: ChannelId,
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            parent_id: Option<ChannelId>,
            #[serde(default)]
            user_limit: Option<u32>,
            // Read by itself, so that an odd form of it does not lose a channel that was made.
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
        let answer: Answer = self
            .call(Call::CreateChannel(guild), with_reason(request, reason))
            .await?;
        Ok(MadeChannel {
            channel_id: answer.id,
            channel: NewChannel {
                name: answer.name.unwrap_or(channel.name),
                parent_id: answer.parent_id,
                user_limit: answer.user_limit.unwrap_or(channel.user_limit),
            },
            denied_to_everyone: denies_everyone(&answer.permission_overwrites, guild),
        })
    }

    /// Deletes a channel, for ever. One that Discord does not know (error 10003) is a success. So is
    /// Discord's answer with the channel as it was. Any other answer leaves open what was done.
    ///
    /// # Errors
    /// [`DiscordError`], never [`DiscordError::NotFound`] of the channel.
    pub async fn delete_channel(
        &self,
        channel: ChannelId,
        reason: &str,
    ) -> Result<Deleted, DiscordError> {
        #[derive(Deserialize)]
        struct Answer {
            id: ChannelId,
        }
        let request = Request::builder(&Route::DeleteChannel {
            channel_id: channel.get(),
        });
        match self
            .call::<Answer>(Call::DeleteChannel(channel), with_reason(request, reason))
            .await
        {
            Ok(answer) if answer.id == channel => Ok(Deleted::Now),
            Ok(_) => Err(DiscordError::Unavailable),
            Err(DiscordError::NotFound(Unknown::Channel)) => Ok(Deleted::Before),
            Err(error) => Err(error),
        }
    }

    /// The bot's application: as set, or asked once.
    ///
    /// # Errors
    /// [`DiscordError`]; the next one asks again.
    pub async fn application_id(&self) -> Result<ApplicationId, DiscordError> {
        #[derive(Deserialize)]
        struct Application {
            id: ApplicationId,
        }
        let asked = || async {
            let request = Request::builder(&Route::GetCurrentUserApplicationInfo);
            let application: Application = self.call(Call::Application, request).await?;
            Ok(application.id)
        };
        self.0.application_id.get_or_try_init(asked).await.copied()
    }

    /// The application's commands in a guild, in the form that the caller reads.
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

    /// Makes a command in a guild, or replaces the one of that name. Others are not touched.
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

    /// Replaces the first answer to an interaction, within the 15 minutes that its token lives.
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
            // It would name another path than the one that is meant.
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

/// Whether a channel's overwrites deny @everyone, the role with the guild's id, viewing it. What is
/// denied counts first, then what is allowed ("Permission Overwrites"). What cannot be read denies
/// nothing: a deny that the worker reports later then counts as one that somebody added.
fn denies_everyone(overwrites: &Value, guild: GuildId) -> bool {
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
