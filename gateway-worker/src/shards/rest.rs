//! What the worker asks Discord's REST: the gateway's address and budget, one voice state, one
//! channel. Answers are read tolerantly, by our own types.

use proto::{ChannelId, GuildId, UserId};
use reqwest::Url;
use serde::Deserialize;
use twilight_http::Client;
use twilight_http::api_error::ApiError;
use twilight_http::error::ErrorType;
use twilight_http::request::{Method, RequestBuilder};

use super::budget::Ledger;
use crate::config::{DiscordSettings, ms};
use crate::dispatch::{self, Channel, VoiceState};

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

/// Why there is no answer that can be used. Without bodies: they are not ours to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The token is wrong or was reset, as Discord itself says.
    #[error("Discord refuses the token (401)")]
    Unauthorized,
    /// There is no such thing, or no longer, as Discord itself says.
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
    /// An answer that can not be read.
    #[error("an answer that can not be read")]
    Illegible,
}

/// The bot's REST client. A clone is a reference.
#[derive(Debug, Clone)]
pub(crate) struct Rest(std::sync::Arc<Client>);

impl Rest {
    pub(crate) fn new(settings: &DiscordSettings) -> Self {
        let mut client = Client::builder()
            .token(settings.discord_bot_token.expose().to_owned())
            .timeout(ms(settings.discord_timeout_ms))
            // A single 401, of a proxy perhaps, would silence this client for good.
            .remember_invalid_token(false);
        if let Some(host) = host_of(&settings.discord_api_url) {
            client = client.proxy(host, settings.discord_api_url.scheme() == "http");
        }
        Self(std::sync::Arc::new(client.build()))
    }

    pub(crate) async fn gateway_bot(&self) -> Result<GatewayBot, Failure> {
        let body = self.get("gateway/bot".to_owned()).await?;
        serde_json::from_slice(&body).map_err(|_| Failure::Illegible)
    }

    pub(crate) async fn voice_state(
        &self,
        guild: GuildId,
        user: UserId,
    ) -> Result<VoiceState, Failure> {
        let body = self
            .get(format!("guilds/{guild}/voice-states/{user}"))
            .await?;
        dispatch::read_voice_state(&body)
            .filter(|state| state.user_id == user)
            .ok_or(Failure::Illegible)
    }

    pub(crate) async fn channel(
        &self,
        guild: GuildId,
        channel: ChannelId,
    ) -> Result<Channel, Failure> {
        let body = self.get(format!("channels/{channel}")).await?;
        dispatch::read_channel(&body, guild)
            .filter(|found| found.id == channel)
            .ok_or(Failure::Illegible)
    }

    async fn get(&self, path: String) -> Result<Vec<u8>, Failure> {
        let request = RequestBuilder::raw(Method::Get, path)
            .build()
            .map_err(|_| Failure::Illegible)?;
        let response = self
            .0
            .request::<twilight_http::response::marker::EmptyBody>(request)
            .await
            .map_err(|error| failure(error.kind()))?;
        response.bytes().await.map_err(|_| Failure::Silent)
    }
}

/// `None` for Discord itself.
fn host_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    if url.scheme() == "https" && host == "discord.com" && url.port().is_none() {
        return None;
    }
    Some(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// What Discord itself answers a wrong token: "General error", "Unauthorized", "Invalid
/// authentication token provided" (its documentation, "JSON Error Codes").
const UNAUTHORIZED: [u64; 3] = [0, 40_001, 50_014];
/// "Cloudflare is blocking your request": not about what was asked for.
const BLOCKED: u64 = 40_333;
/// "Unknown …": the codes of what does not exist.
const UNKNOWN: std::ops::Range<u64> = 10_000..20_000;

fn failure(kind: &ErrorType) -> Failure {
    match kind {
        ErrorType::Response { status, error, .. } => {
            // Any other JSON object is read as one of the other forms.
            let code = match error {
                ApiError::General(error) => Some(error.code),
                _ => None,
            };
            meaning(status.get(), code)
        }
        ErrorType::Parsing { .. } => Failure::Illegible,
        _ => Failure::Silent,
    }
}

/// What a status means with this code of Discord's JSON; without one, Discord did not answer.
fn meaning(status: u16, code: Option<u64>) -> Failure {
    match (status, code) {
        (401, Some(code)) if UNAUTHORIZED.contains(&code) => Failure::Unauthorized,
        (403, Some(code)) if code != BLOCKED => Failure::Forbidden,
        (404, Some(code)) if UNKNOWN.contains(&code) => Failure::NotFound,
        _ => Failure::Status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_host_is_a_proxy() {
        for (url, host) in [
            ("https://discord.com", None),
            ("http://discord.com", Some("discord.com")),
            ("http://127.0.0.1:3900", Some("127.0.0.1:3900")),
            ("https://discord.com:8443", Some("discord.com:8443")),
        ] {
            assert_eq!(host_of(&Url::parse(url).unwrap()).as_deref(), host, "{url}");
        }
    }

    #[test]
    fn only_discord_itself_refuses_a_token_or_says_that_something_is_hidden_or_gone() {
        for (status, code, meant) in [
            (401, Some(0), Failure::Unauthorized),
            (401, Some(50_014), Failure::Unauthorized),
            (401, Some(401), Failure::Status(401)),
            (401, None, Failure::Status(401)),
            (403, Some(50_001), Failure::Forbidden),
            (403, Some(50_013), Failure::Forbidden),
            (403, Some(40_333), Failure::Status(403)),
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
}
