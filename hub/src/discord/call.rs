//! One call of Discord's API: when it may be made, how it is sent, and what its answer means.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method};
use metrics::{counter, histogram};
use proto::{ChannelId, GuildId};
use serde::de::DeserializeOwned;
use twilight_http::API_VERSION;
use twilight_http::request::RequestBuilder;

use super::answer;
use super::pace::{self, Pace};
use super::{Discord, DiscordError};

/// The form that Discord wants ("User Agent" in its API reference).
const OUR_NAME: &str = concat!(
    "DiscordBot (https://roomwire.invalid, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// What may be asked of Discord; each is paced by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Call {
    CreateChannel(GuildId),
    DeleteChannel(ChannelId),
    Application,
    ListCommands(GuildId),
    PutCommand(GuildId),
    EditOriginal,
    /// One of the reads of the command `check`.
    Look,
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
            Self::Look => "look",
        }
    }

    /// Interaction endpoints are not bound to the bot's global limit ("Global Rate Limit").
    pub(super) fn counts_for_the_bot(self) -> bool {
        self != Self::EditOriginal
    }
}

impl Discord {
    /// Makes a call, if it may be made now, and counts what became of it.
    pub(super) async fn call<T: DeserializeOwned>(
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
            Err(DiscordError::NotFound(_)) => "not_found",
            Err(DiscordError::Forbidden(_)) => "forbidden",
            Err(DiscordError::Unauthorized) => "unauthorized",
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
        if !(200..300).contains(&said.status) {
            let error = answer::meaning(said, &body);
            tracing::warn!(
                call = call.label(),
                status = said.status,
                code = answer::code(&body),
                %error,
                "Discord refused"
            );
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

    pub(super) async fn send(
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
        // Discord counts by the status alone: so is it counted, also where the body never comes.
        let status = answer.status().as_u16();
        let head = answer::said(status, answer.headers(), b"");
        if self.pace(|pace, now_ms| pace.count(head, now_ms)) {
            tracing::error!(
                "so many answers of 401, 403 and 429 that Discord is left alone until they are 10 minutes old"
            );
        }
        let headers = answer.headers().clone();
        let mut body = Vec::new();
        let read = async {
            while let Some(chunk) = answer.chunk().await.map_err(lost)? {
                if body.len() + chunk.len() > self.0.settings.answer_bytes_max {
                    tracing::warn!(
                        call = call.label(),
                        status,
                        "an answer of Discord is too large"
                    );
                    return Err(DiscordError::Unavailable);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let read = read.await;
        let said = answer::said(status, &headers, &body);
        self.pace(|pace, now_ms| pace.wait(call, said, now_ms));
        read.map(|()| (said, body))
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
