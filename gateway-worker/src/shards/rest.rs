//! What the worker asks Discord's REST: the gateway's address and budget, one voice state, one
//! channel. Answers are read tolerantly, by our own types.

use proto::{ChannelId, GuildId, UserId};
use reqwest::Url;
use serde::Deserialize;
use twilight_http::Client;
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
    /// The token is wrong or was reset.
    #[error("Discord refuses the token (401)")]
    Unauthorized,
    /// There is no such thing, or no longer.
    #[error("not found (404)")]
    NotFound,
    /// The bot may not see it.
    #[error("not allowed (403)")]
    Forbidden,
    /// Any other status.
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
            .timeout(ms(settings.discord_timeout_ms));
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

fn failure(kind: &ErrorType) -> Failure {
    match kind {
        ErrorType::Unauthorized => Failure::Unauthorized,
        ErrorType::Response { status, .. } => match status.get() {
            401 => Failure::Unauthorized,
            403 => Failure::Forbidden,
            404 => Failure::NotFound,
            other => Failure::Status(other),
        },
        ErrorType::Parsing { .. } => Failure::Illegible,
        _ => Failure::Silent,
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
}
