//! The worker's requests to Discord's REST: the gateway's URL and budget, a voice state, a channel, a
//! guild. Answers are read tolerantly, by our own types.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::{ChannelId, GuildId, UserId};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};
use twilight_gateway::API_VERSION;

use super::budget::Ledger;
use crate::config::{DiscordSettings, ms};
use crate::dispatch::{self, Channel, VoiceState};
use crate::retry::Backoff;

/// The form that Discord wants ("User Agent" in its API reference).
const OUR_NAME: &str = concat!(
    "DiscordBot (https://roomwire.invalid, ",
    env!("CARGO_PKG_VERSION"),
    ")"
);
/// The largest answer that is read, in bytes: the largest is a channel with 100 overwrites.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The pause after a 429 without Retry-After: at first, and at most.
const LIMITED_MIN: Duration = Duration::from_secs(1);
const LIMITED_MAX: Duration = Duration::from_secs(30);
/// The longest pause that is accepted.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// `GET /gateway/bot`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct GatewayBot {
    /// Where to connect.
    pub(crate) url: String,
    /// How many shards Discord recommends.
    #[serde(default = "one")]
    pub(crate) shards: u32,
    /// The budget of identifies.
    pub(crate) session_start_limit: Ledger,
}

fn one() -> u32 {
    1
}

/// Why no usable answer came. Without bodies, which must not be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The token is wrong or was reset, as Discord itself says.
    #[error("Discord refuses the token (401)")]
    Unauthorized,
    /// It does not exist (any more), as Discord itself says.
    #[error("not found (404)")]
    NotFound,
    /// The bot may not see it, as Discord itself says.
    #[error("not allowed (403)")]
    Forbidden,
    /// Any other status, or one of these without Discord's own JSON: a page of a proxy.
    #[error("status {0}")]
    Status(u16),
    /// No answer, in time.
    #[error("no answer")]
    Silent,
    /// An answer that cannot be read.
    #[error("an answer that cannot be read")]
    Unreadable,
}

/// The routes that are asked; Discord limits each by itself ("Rate Limits" in its documentation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Gateway,
    VoiceState,
    Channel,
    Guild,
}

/// The bot's REST client. A clone is a reference.
#[derive(Debug, Clone)]
pub(crate) struct Rest(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None: this machine cannot speak TLS.
    client: Option<Client>,
    /// None: the token does not fit into a header.
    authorization: Option<HeaderValue>,
    api: Url,
    /// Until when each route is paused.
    paused: Mutex<[Option<Instant>; 4]>,
}

impl Rest {
    pub(crate) fn new(settings: &DiscordSettings) -> Self {
        let token = settings.discord_bot_token.expose();
        let mut authorization = HeaderValue::try_from(format!("Bot {token}")).ok();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let client = Client::builder()
            .timeout(ms(settings.discord_timeout_ms))
            .redirect(reqwest::redirect::Policy::none())
            // The environment is read by the config alone.
            .no_proxy()
            .user_agent(OUR_NAME)
            .build();
        Self(Arc::new(Inner {
            client: client.ok(),
            authorization,
            api: settings.discord_api_url.clone(),
            paused: Mutex::new([None; 4]),
        }))
    }

    pub(crate) async fn gateway_bot(&self) -> Result<GatewayBot, Failure> {
        let body = self.get(Route::Gateway, "gateway/bot").await?;
        serde_json::from_slice(&body).map_err(|_| Failure::Unreadable)
    }

    pub(crate) async fn voice_state(
        &self,
        guild: GuildId,
        user: UserId,
    ) -> Result<VoiceState, Failure> {
        let path = format!("guilds/{guild}/voice-states/{user}");
        let body = self.get(Route::VoiceState, &path).await?;
        dispatch::read_voice_state(&body)
            .filter(|state| state.user_id == user)
            .ok_or(Failure::Unreadable)
    }

    pub(crate) async fn channel(
        &self,
        guild: GuildId,
        channel: ChannelId,
    ) -> Result<Channel, Failure> {
        let body = self
            .get(Route::Channel, &format!("channels/{channel}"))
            .await?;
        dispatch::read_channel(&body, guild)
            .filter(|found| found.id == channel)
            .ok_or(Failure::Unreadable)
    }

    /// Whether the bot is in a guild.
    pub(crate) async fn guild(&self, guild: GuildId) -> Result<(), Failure> {
        let path = format!("guilds/{guild}");
        self.get(Route::Guild, &path).await.map(drop)
    }

    /// Asks until there is an answer other than 429.
    async fn get(&self, route: Route, path: &str) -> Result<Vec<u8>, Failure> {
        let mut backoff = Backoff::new(LIMITED_MIN, LIMITED_MAX);
        loop {
            while let Some(until) = self.paused(route) {
                sleep_until(until).await;
            }
            let answer = self.attempt(path).await?;
            let after = if answer.status == 429 {
                // Not every 429 has Retry-After: a proxy's may lack it.
                let unstated = backoff.after_failure_in_full();
                Some(
                    answer
                        .retry_after
                        .map_or(unstated, |stated| stated.max(LIMITED_MIN)),
                )
            } else {
                answer.exhausted
            };
            if let Some(after) = after {
                self.pause(route, after.min(PAUSE_MAX));
            }
            match answer.status {
                200..=299 => return Ok(answer.body),
                429 => {
                    metrics::counter!("worker_rate_limited_total").increment(1);
                    tracing::info!(?route, "Discord's REST asks to wait");
                }
                status => {
                    let error: Option<ApiError> = serde_json::from_slice(&answer.body).ok();
                    return Err(meaning(status, error.map(|error| error.code)));
                }
            }
        }
    }

    async fn attempt(&self, path: &str) -> Result<Answer, Failure> {
        let Inner {
            client,
            authorization,
            api,
            ..
        } = &*self.0;
        let client = client.as_ref().ok_or(Failure::Silent)?;
        let authorization = authorization.clone().ok_or(Failure::Unauthorized)?;
        let url = api
            .join(&format!("/api/v{API_VERSION}/{path}"))
            .map_err(|_| Failure::Silent)?;
        let sent = client.get(url).header(AUTHORIZATION, authorization).send();
        let mut response = sent.await.map_err(|_| Failure::Silent)?;
        let status = response.status().as_u16();
        let seconds = |name: &str| {
            let text = response.headers().get(name)?.to_str().ok()?;
            to_duration(text.trim().parse().ok()?)
        };
        let retry_after = seconds("retry-after");
        let remaining = response.headers().get("x-ratelimit-remaining");
        let exhausted = remaining
            .filter(|left| left.as_bytes() == b"0")
            .and_then(|_| seconds("x-ratelimit-reset-after"));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| Failure::Silent)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::Unreadable);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status,
            body,
            retry_after,
            exhausted,
        })
    }

    fn paused(&self, route: Route) -> Option<Instant> {
        let paused = self.0.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused[route as usize].filter(|until| *until > Instant::now())
    }

    fn pause(&self, route: Route, time: Duration) {
        let mut paused = self.0.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused[route as usize] = Some(Instant::now() + time);
    }
}

/// An answer, not judged yet.
struct Answer {
    status: u16,
    body: Vec<u8>,
    /// Its Retry-After.
    retry_after: Option<Duration>,
    /// The route's limit is spent for so long.
    exhausted: Option<Duration>,
}

/// Discord's own form of an error ("Error Messages" in its API reference).
#[derive(Deserialize)]
struct ApiError {
    code: u64,
    #[expect(
        dead_code,
        reason = "Discord's errors have one, those of others may not"
    )]
    message: String,
}

fn to_duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

/// What Discord itself answers a wrong token: "General error", "Unauthorized", "Invalid
/// authentication token provided" (its documentation, "JSON Error Codes").
const UNAUTHORIZED: [u64; 3] = [0, 40_001, 50_014];
/// "Missing Access" and "Missing Permissions": the bot may not see the object. Other codes in a 403 mean
/// something else: a proxy's own JSON, or 40333, "Cloudflare is blocking your request".
const NO_ACCESS: [u64; 2] = [50_001, 50_013];
/// "Unknown …": the object does not exist.
const UNKNOWN: std::ops::Range<u64> = 10_000..20_000;

/// The meaning of a status with this code of Discord's JSON. Without a code, Discord did not answer.
fn meaning(status: u16, code: Option<u64>) -> Failure {
    match (status, code) {
        (401, Some(code)) if UNAUTHORIZED.contains(&code) => Failure::Unauthorized,
        (403, Some(code)) if NO_ACCESS.contains(&code) => Failure::Forbidden,
        (404, Some(code)) if UNKNOWN.contains(&code) => Failure::NotFound,
        _ => Failure::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Config;

    #[test]
    fn only_discords_own_json_refuses_a_token_or_hides_or_deletes_something() {
        for (status, code, meant) in [
            (401, Some(0), Failure::Unauthorized),
            (401, Some(50_014), Failure::Unauthorized),
            (401, Some(401), Failure::Status(401)),
            (401, None, Failure::Status(401)),
            (403, Some(50_001), Failure::Forbidden),
            (403, Some(50_013), Failure::Forbidden),
            (403, Some(40_333), Failure::Status(403)),
            (403, Some(403), Failure::Status(403)),
            (403, Some(0), Failure::Status(403)),
            (403, Some(20_028), Failure::Status(403)),
            (403, None, Failure::Status(403)),
            (404, Some(10_065), Failure::NotFound),
            (404, Some(0), Failure::Status(404)),
            (404, None, Failure::Status(404)),
            (407, Some(0), Failure::Status(407)),
            (500, Some(0), Failure::Status(500)),
        ] {
            assert_eq!(meaning(status, code), meant, "{status} {code:?}");
        }
    }

    /// A REST that gives these answers, one after the other, and counts them.
    async fn rest_that_answers(answers: Vec<Response>) -> (Rest, Arc<Mutex<VecDeque<Response>>>) {
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let left = Arc::new(Mutex::new(VecDeque::from(answers)));
        let script = Arc::clone(&left);
        let answer = move || {
            let next = script.lock().unwrap().pop_front();
            async move { next.unwrap_or_else(|| StatusCode::IM_A_TEAPOT.into_response()) }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let config: Config = launch::settings::example(&[("DISCORD_API_URL", &url)]).unwrap();
        (Rest::new(&config.discord), left)
    }

    fn gateway() -> String {
        let limit = r#"{"total":1000,"remaining":999,"reset_after":0,"max_concurrency":1}"#;
        format!(r#"{{"url":"wss://x","shards":1,"session_start_limit":{limit}}}"#)
    }

    #[tokio::test]
    async fn a_429_without_retry_after_is_not_retried_at_once() {
        let page = (StatusCode::TOO_MANY_REQUESTS, "<html>slow down</html>").into_response();
        let (rest, left) = rest_that_answers(vec![page, gateway().into_response()]).await;
        let began = Instant::now();
        assert_eq!(rest.gateway_bot().await.unwrap().shards, 1);
        assert!(began.elapsed() >= LIMITED_MIN);
        assert!(left.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_route_whose_limit_is_spent_pauses_and_the_others_do_not() {
        let spent = [
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset-after", "0.7"),
        ];
        let answers = vec![
            (spent, gateway()).into_response(),
            StatusCode::NOT_FOUND.into_response(),
            gateway().into_response(),
        ];
        let (rest, _) = rest_that_answers(answers).await;
        let began = Instant::now();
        assert!(rest.gateway_bot().await.is_ok());
        let id = "1".parse().unwrap();
        let channel = rest.channel(id, "2".parse().unwrap()).await;
        assert_eq!(channel, Err(Failure::Status(404)));
        assert!(rest.gateway_bot().await.is_ok());
        assert!(began.elapsed() >= Duration::from_millis(700));
    }

    #[tokio::test]
    async fn an_endless_answer_is_not_buffered() {
        let endless = "x".repeat(ANSWER_BYTES_MAX + 1).into_response();
        let (rest, _) = rest_that_answers(vec![endless]).await;
        assert_eq!(rest.gateway_bot().await.unwrap_err(), Failure::Unreadable);
    }
}
