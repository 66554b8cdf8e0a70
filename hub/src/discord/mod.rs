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
mod pace;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method};
use launch::Secret;
use metrics::{counter, histogram};
use proto::{ChannelId, GuildId};
use reqwest::redirect;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, Semaphore};
use twilight_http::API_VERSION;
use twilight_http::request::{Request, RequestBuilder};
use twilight_http::routing::Route;
use twilight_model::id::Id;
use twilight_model::id::marker::ApplicationMarker;
use url::Url;

use self::pace::Pace;

/// The form that Discord wants ("User Agent" in its API reference).
const OUR_NAME: &str = concat!(
    "DiscordBot (https://roomwire.invalid, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);
/// Discord's channel type of a voice channel ("Channel Types").
const VOICE_CHANNEL: u8 = 2;

/// An application of Discord's developer portal.
pub type ApplicationId = Id<ApplicationMarker>;

/// Where Discord is, who we are there, and the bounds of asking it.
#[derive(Debug, Clone)]
pub struct DiscordSettings {
    /// Where the API is; see [`parse_api_url`].
    pub api_url: Url,
    /// The bot's token.
    pub bot_token: Secret,
    /// The bot's application; asked of Discord when first needed if it is not given.
    pub application_id: Option<ApplicationId>,
    /// How long one call may take as a whole, in ms, waiting for its turn included.
    pub timeout_ms: u64,
    /// How many calls are under way at most.
    pub concurrent_max: usize,
    /// How many calls wait for their turn at most; one more is refused.
    pub waiting_max: usize,
    /// How many calls a second at most.
    pub per_second_max: u32,
    /// After how many answers of 401, 403 and 429 in 10 minutes Discord is left alone.
    pub invalid_answers_max: usize,
    /// The largest answer that is read, in bytes.
    pub answer_bytes_max: usize,
}

impl DiscordSettings {
    /// [`DiscordSettings::timeout_ms`]: Discord answers within a fraction of it; a person waits.
    pub const TIMEOUT_MS: u64 = 5_000;
    /// [`DiscordSettings::concurrent_max`]: at Discord's usual 100 to 200 ms a call, more than its
    /// 50 calls a second need.
    pub const CONCURRENT_MAX: usize = 16;
    /// [`DiscordSettings::waiting_max`]: what is through within the timeout.
    pub const WAITING_MAX: usize = 64;
    /// [`DiscordSettings::per_second_max`]: Discord allows a bot 50, and the worker needs a few.
    pub const PER_SECOND_MAX: u32 = 45;
    /// [`DiscordSettings::invalid_answers_max`]: 1 % of the 10,000 at which Discord bans an address.
    pub const INVALID_ANSWERS_MAX: usize = 100;
    /// [`DiscordSettings::answer_bytes_max`]: a list of 100 commands is well below it.
    pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

    /// The settings with every bound at its default.
    pub fn new(api_url: Url, bot_token: Secret) -> Self {
        Self {
            api_url,
            bot_token,
            application_id: None,
            timeout_ms: Self::TIMEOUT_MS,
            concurrent_max: Self::CONCURRENT_MAX,
            waiting_max: Self::WAITING_MAX,
            per_second_max: Self::PER_SECOND_MAX,
            invalid_answers_max: Self::INVALID_ANSWERS_MAX,
            answer_bytes_max: Self::ANSWER_BYTES_MAX,
        }
    }
}

/// Reads the setting `DISCORD_API_URL`: http or https, a host, and no path, since Discord's own
/// follows it.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_api_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain && anonymous {
        Ok(url)
    } else {
        Err("an http or https address without a path, as in https://discord.com".to_owned())
    }
}

/// Why Discord did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscordError {
    /// It does not know what was named.
    #[error("Discord does not know it")]
    NotFound,
    /// It does not let the bot do this. Waiting does not help.
    #[error("Discord does not allow it")]
    Forbidden,
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
}

/// What came of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone now.
    Now,
    /// It was gone before.
    Before,
}

/// What may be asked of Discord; each is paced by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    CreateChannel(GuildId),
    DeleteChannel(ChannelId),
    Application,
    ListCommands(GuildId),
    PutCommand(GuildId),
    EditOriginal,
}

impl Call {
    fn label(self) -> &'static str {
        match self {
            Self::CreateChannel(_) => "create_channel",
            Self::DeleteChannel(_) => "delete_channel",
            Self::Application => "application",
            Self::ListCommands(_) => "list_commands",
            Self::PutCommand(_) => "put_command",
            Self::EditOriginal => "edit_original",
        }
    }

    /// Interaction endpoints are not bound to the bot's global limit ("Global Rate Limit").
    fn counts_for_the_bot(self) -> bool {
        self != Self::EditOriginal
    }
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
            admitted: Semaphore::new(settings.concurrent_max + settings.waiting_max),
            under_way: Semaphore::new(settings.concurrent_max),
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
        })
    }

    /// Deletes a channel, for ever. One that Discord does not know (error 10003) is a success.
    ///
    /// # Errors
    /// [`DiscordError`], never [`DiscordError::NotFound`].
    pub async fn delete_channel(
        &self,
        channel: ChannelId,
        reason: &str,
    ) -> Result<Deleted, DiscordError> {
        let request = Request::builder(&Route::DeleteChannel {
            channel_id: channel.get(),
        });
        match self
            .call(Call::DeleteChannel(channel), with_reason(request, reason))
            .await
        {
            Ok(IgnoredAny) => Ok(Deleted::Now),
            Err(DiscordError::NotFound) => Ok(Deleted::Before),
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

    /// Makes a call, if it may be made now, and counts what became of it.
    async fn call<T: DeserializeOwned>(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<T, DiscordError> {
        let began = Instant::now();
        let limit = Duration::from_millis(self.0.settings.timeout_ms);
        let result = match tokio::time::timeout(limit, self.take_turn(call, request)).await {
            Ok(result) => result,
            Err(_) => {
                tracing::warn!(
                    call = call.label(),
                    timeout_ms = self.0.settings.timeout_ms,
                    "Discord did not answer in time"
                );
                Err(DiscordError::Unavailable)
            }
        };
        let outcome = match &result {
            Ok(_) => "ok",
            Err(DiscordError::NotFound) => "not_found",
            Err(DiscordError::Forbidden) => "forbidden",
            Err(DiscordError::Invalid { .. }) => "invalid",
            Err(DiscordError::Full) => "full",
            Err(DiscordError::RateLimited { .. }) => "rate_limited",
            Err(DiscordError::Unavailable) => "unavailable",
        };
        counter!("hub_discord_calls_total", "call" => call.label(), "outcome" => outcome)
            .increment(1);
        histogram!("hub_discord_call_seconds", "call" => call.label())
            .record(began.elapsed().as_secs_f64());
        result
    }

    async fn take_turn<T: DeserializeOwned>(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<T, DiscordError> {
        let Ok(_admitted) = self.0.admitted.try_acquire() else {
            tracing::warn!(call = call.label(), "too many calls wait for Discord");
            return Err(DiscordError::Unavailable);
        };
        let Ok(_under_way) = self.0.under_way.acquire().await else {
            return Err(DiscordError::Unavailable);
        };
        // Asked after the wait: what the calls before it were told counts.
        if let Err(retry_after_ms) = self.pace(|pace, now_ms| pace.admit(call, now_ms)) {
            tracing::debug!(
                call = call.label(),
                retry_after_ms,
                "not asked: Discord wants it later"
            );
            return Err(DiscordError::RateLimited { retry_after_ms });
        }
        let (said, body) = self.send(call, request).await?;
        if self.pace(|pace, now_ms| pace.note(call, said, now_ms)) {
            tracing::error!(
                "so many answers of 401, 403 and 429 that Discord is left alone until they are 10 minutes old"
            );
        }
        if !(200..300).contains(&said.status) {
            let error = answer::meaning(said, &body);
            tracing::warn!(call = call.label(), status = said.status, %error, "Discord refused");
            return Err(error);
        }
        // A 204 has no body; what nobody reads is null.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| {
            tracing::warn!(
                call = call.label(),
                status = said.status,
                line = error.line(),
                column = error.column(),
                "an answer of Discord is not of its documented form"
            );
            DiscordError::Unavailable
        })
    }

    async fn send(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<(pace::Said, Vec<u8>), DiscordError> {
        // An error's text could hold the address, and an interaction's address holds its token.
        let lost = |error: reqwest::Error| {
            tracing::warn!(call = call.label(), error = %error.without_url(), "Discord could not be reached");
            DiscordError::Unavailable
        };
        let mut answer = self
            .0
            .http
            .execute(self.http_request(call, request)?)
            .await
            .map_err(lost)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > self.0.settings.answer_bytes_max {
                tracing::warn!(call = call.label(), "an answer of Discord is too large");
                return Err(DiscordError::Unavailable);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((
            answer::said(answer.status().as_u16(), answer.headers(), &body),
            body,
        ))
    }

    fn http_request(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<reqwest::Request, DiscordError> {
        let unsendable = |what: &'static str| {
            tracing::error!(call = call.label(), what, "a request could not be written");
            DiscordError::Unavailable
        };
        let request = request.build().map_err(|_| unsendable("body"))?;
        let url = self
            .0
            .settings
            .api_url
            .join(&format!("/api/v{API_VERSION}/{}", request.path()))
            .map_err(|_| unsendable("address"))?;
        let method = Method::from_bytes(request.method().name().as_bytes())
            .map_err(|_| unsendable("method"))?;
        let mut sent = reqwest::Request::new(method, url);
        let headers = sent.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        if request.use_authorization_token() {
            headers.insert(AUTHORIZATION, self.0.authorization.clone());
        }
        if let Some(given) = request.headers() {
            headers.extend(given.clone());
        }
        if let Some(body) = request.body() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *sent.body_mut() = Some(body.to_vec().into());
        }
        Ok(sent)
    }

    fn pace<T>(&self, use_it: impl FnOnce(&mut Pace, u64) -> T) -> T {
        let now_ms = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A panic while it was held leaves a pace that is still a pace.
        use_it(
            &mut self.0.pace.lock().unwrap_or_else(PoisonError::into_inner),
            now_ms,
        )
    }
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
