//! Discord's address, the bot's identity, and the bounds of calls.

use launch::Secret;
use tokio::sync::Semaphore;
use twilight_model::id::Id;
use twilight_model::id::marker::ApplicationMarker;
use url::Url;

/// An application of Discord's developer portal.
pub type ApplicationId = Id<ApplicationMarker>;

/// Discord's address, the bot's identity, and the bounds of calls.
#[derive(Debug, Clone)]
pub struct DiscordSettings {
    /// The API's address: scheme and host, without a path.
    pub api_url: Url,
    /// The bot's token.
    pub bot_token: Secret,
    /// The bot's application. Without it the hub asks Discord when it first needs it.
    pub application_id: Option<ApplicationId>,
    /// How long one call may take in all, in ms, with the wait in the queue.
    pub timeout_ms: u64,
    /// The most calls in progress.
    pub concurrent_max: usize,
    /// The most calls that wait. One more is rejected.
    pub waiting_max: usize,
    /// The most calls a second.
    pub per_second_max: u32,
    /// After this many responses 401, 403 and 429 in 10 minutes no call is made.
    pub invalid_answers_max: usize,
    /// The largest response that is read, in bytes.
    pub answer_bytes_max: usize,
}

impl DiscordSettings {
    /// [`DiscordSettings::timeout_ms`]: Discord answers within a fraction of it; a person waits.
    pub const TIMEOUT_MS: u64 = 5_000;
    /// [`DiscordSettings::concurrent_max`]: at Discord's usual 100 to 200 ms a call, more than its
    /// 50 calls a second need.
    pub const CONCURRENT_MAX: usize = 16;
    /// [`DiscordSettings::waiting_max`]: as many as finish within the timeout.
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

    /// The most calls in progress, and the most in progress or waiting, as far as a semaphore can
    /// count.
    pub(super) fn permits(&self) -> (usize, usize) {
        let countable = |permits: usize| permits.min(Semaphore::MAX_PERMITS);
        let admitted_max = self.concurrent_max.saturating_add(self.waiting_max);
        (countable(self.concurrent_max), countable(admitted_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_be_made_with_any_bounds() {
        let url = Url::parse("http://127.0.0.1:1").unwrap();
        for (concurrent_max, waiting_max) in
            [(usize::MAX, 64), (16, usize::MAX), (usize::MAX, usize::MAX)]
        {
            let mut settings = DiscordSettings::new(url.clone(), Secret::new("x"));
            (settings.concurrent_max, settings.waiting_max) = (concurrent_max, waiting_max);
            assert!(crate::discord::Discord::new(settings).is_ok());
        }
    }
}
