//! The client of Discord's REST API: when a call is made, how it is sent, what its response means.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method};
use launch::clock::Monotonic;
use metrics::{counter, histogram};
use proto::UserId;
use reqwest::redirect;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, Semaphore};
use twilight_http::API_VERSION;
use twilight_http::request::{Request, RequestBuilder};
use twilight_http::routing::Route;

use super::call::Call;
use super::error::DiscordError;
use super::rate_limiter::{RateLimiter, ResponseLimits};
use super::response;
use super::settings::{ApplicationId, DiscordSettings};

/// In the form that Discord requires ("User Agent" in its API reference).
const USER_AGENT_VALUE: &str = concat!(
    "DiscordBot (https://roomwire.invalid, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);

/// The client. A clone is a reference.
#[derive(Clone)]
pub struct Discord(Arc<Shared>);

struct Shared {
    settings: DiscordSettings,
    http: reqwest::Client,
    /// The value of `Authorization`. It never prints.
    authorization: HeaderValue,
    rate_limiter: Mutex<RateLimiter>,
    /// The rate limiter's.
    clock: Monotonic,
    /// Calls that wait or are in progress.
    admitted: Semaphore,
    /// Calls that are in progress.
    in_progress: Semaphore,
    application_id: OnceCell<ApplicationId>,
    user_id: OnceCell<UserId>,
}

impl Discord {
    /// A client. No call is made yet.
    ///
    /// # Errors
    /// The token has characters that no header can contain, or TLS is not available.
    pub fn new(settings: DiscordSettings) -> anyhow::Result<Self> {
        let concurrent_max = settings.discord_concurrent_max;
        let admitted_max = concurrent_max.saturating_add(settings.discord_waiting_max);
        let mut authorization =
            HeaderValue::from_str(&format!("Bot {}", settings.discord_bot_token.expose()))
                .map_err(|_| {
                    anyhow::anyhow!("DISCORD_BOT_TOKEN has characters that no token has")
                })?;
        authorization.set_sensitive(true);
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self(Arc::new(Shared {
            http,
            authorization,
            rate_limiter: Mutex::new(RateLimiter::new(
                settings.discord_per_second_max,
                settings.discord_invalid_answers_max,
            )),
            clock: Monotonic::start(),
            admitted: Semaphore::new(admitted_max),
            in_progress: Semaphore::new(concurrent_max),
            application_id: OnceCell::new_with(settings.discord_application_id),
            user_id: OnceCell::new(),
            settings,
        })))
    }

    /// The bot's application: from the settings, or from one call.
    ///
    /// # Errors
    /// [`DiscordError`]. The next use calls again.
    pub async fn application_id(&self) -> Result<ApplicationId, DiscordError> {
        #[derive(Deserialize)]
        struct Application {
            id: ApplicationId,
        }
        let fetch = || async {
            let request = Request::builder(&Route::GetCurrentUserApplicationInfo);
            let application: Application = self.call(Call::Application, request).await?;
            Ok(application.id)
        };
        self.0.application_id.get_or_try_init(fetch).await.copied()
    }

    pub(super) fn known_user(&self) -> &OnceCell<UserId> {
        &self.0.user_id
    }

    /// Makes a call if the rate limiter admits it, and counts its outcome.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<T, DiscordError> {
        let began = Instant::now();
        let is_sent = AtomicBool::new(false);
        let called = self.call_in_turn(call, request, &is_sent);
        let result = match tokio::time::timeout(self.timeout(), called).await {
            Ok(result) => result,
            Err(_elapsed) => {
                tracing::warn!(
                    call = call.label(),
                    timeout_ms = self.0.settings.discord_timeout_ms,
                    "Discord did not answer in time"
                );
                if is_sent.into_inner() {
                    Err(DiscordError::Unavailable)
                } else {
                    Err(DiscordError::Unreached)
                }
            }
        };
        let outcome = result.as_ref().map_or_else(DiscordError::label, |_| "ok");
        counter!("hub_discord_calls_total", "call" => call.label(), "outcome" => outcome)
            .increment(1);
        histogram!("hub_discord_call_seconds", "call" => call.label())
            .record(began.elapsed().as_secs_f64());
        result
    }

    async fn call_in_turn<T: DeserializeOwned>(
        &self,
        call: Call,
        request: RequestBuilder,
        is_sent: &AtomicBool,
    ) -> Result<T, DiscordError> {
        let Ok(_admitted) = self.0.admitted.try_acquire() else {
            tracing::warn!(call = call.label(), "too many calls wait for Discord");
            return Err(DiscordError::Unreached);
        };
        let Ok(_slot) = self.0.in_progress.acquire().await else {
            return Err(DiscordError::Unreached);
        };
        // After the wait, so that the responses to earlier calls count.
        let admitted = self.limit(|limiter, now_ms| limiter.admit(call, now_ms));
        if let Err(retry_after_ms) = admitted {
            tracing::debug!(
                call = call.label(),
                retry_after_ms,
                "not called: Discord asks to wait"
            );
            return Err(DiscordError::RateLimited { retry_after_ms });
        }
        is_sent.store(true, Ordering::Relaxed);
        let (limits, body) = self.send(call, request).await?;
        if !(200..300).contains(&limits.status) {
            let error = response::error(limits, &body);
            tracing::warn!(
                call = call.label(),
                status = limits.status,
                code = response::code(&body),
                %error,
                "Discord refused"
            );
            return Err(error);
        }
        // A 204 has no body. It is read as null.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(body).map_err(|error| {
            tracing::warn!(
                call = call.label(),
                status = limits.status,
                line = error.line(),
                column = error.column(),
                "a response of Discord does not have its documented form"
            );
            DiscordError::Unavailable
        })
    }

    pub(super) async fn send(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<(ResponseLimits, Vec<u8>), DiscordError> {
        // The text of an error can contain the URL, and an interaction's URL contains its token.
        let lost = |error: reqwest::Error| {
            let is_unsent = error.is_connect();
            tracing::warn!(call = call.label(), error = %error.without_url(), "Discord cannot be reached");
            if is_unsent {
                DiscordError::Unreached
            } else {
                DiscordError::Unavailable
            }
        };
        let mut response = self
            .0
            .http
            .execute(self.http_request(call, request)?)
            .await
            .map_err(lost)?;
        // Discord counts by the status alone, so the body is not needed here.
        let status = response.status().as_u16();
        let head = response::limits(status, response.headers(), b"");
        if self.limit(|limiter, now_ms| limiter.count_invalid(head, now_ms)) {
            tracing::error!(
                "too many responses 401, 403 and 429: no call is made until they are 10 minutes old"
            );
        }
        let headers = response.headers().clone();
        let mut body = Vec::new();
        let read = async {
            while let Some(chunk) = response.chunk().await.map_err(lost)? {
                if body.len() + chunk.len() > self.0.settings.discord_answer_bytes_max {
                    tracing::warn!(
                        call = call.label(),
                        status,
                        "a response of Discord is too large"
                    );
                    return Err(DiscordError::Unavailable);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let read = read.await;
        let limits = response::limits(status, &headers, &body);
        self.limit(|limiter, now_ms| limiter.record(call, limits, now_ms));
        read.map(|()| (limits, body))
    }

    fn http_request(
        &self,
        call: Call,
        request: RequestBuilder,
    ) -> Result<reqwest::Request, DiscordError> {
        let unbuildable = |what: &'static str| {
            tracing::error!(call = call.label(), what, "a request cannot be built");
            DiscordError::Unreached
        };
        let request = request.build().map_err(|_| unbuildable("body"))?;
        let url = self
            .0
            .settings
            .discord_api_url
            .join(&format!("/api/v{API_VERSION}/{}", request.path()))
            .map_err(|_| unbuildable("address"))?;
        let method = Method::from_bytes(request.method().name().as_bytes())
            .map_err(|_| unbuildable("method"))?;
        let mut sent = reqwest::Request::new(method, url);
        let headers = sent.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
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

    /// How long after a create its channel may still appear, in ms.
    pub fn settle_ms(&self) -> u64 {
        let settings = &self.0.settings;
        settings
            .discord_settle_ms
            .max(settings.discord_timeout_ms.saturating_mul(2))
    }

    /// How long one call may take in all.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.0.settings.discord_timeout_ms)
    }

    fn limit<T>(&self, with: impl FnOnce(&mut RateLimiter, u64) -> T) -> T {
        let now_ms = self.0.clock.elapsed_ms();
        let limiter = self.0.rate_limiter.lock();
        // A panic while it was locked leaves a valid state.
        with(&mut limiter.unwrap_or_else(PoisonError::into_inner), now_ms)
    }
}
