//! Asks Discord's REST the feed's questions, one at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::rest::{Failure, Rest};
use crate::config::{GatewaySettings, ms};
use crate::dispatch::Subject;
use crate::feed::{ChannelFinding, Feed, Finding, Question, SharedFeed};
use crate::retry::Backoff;
use proto::{ChannelId, GuildId};

/// The questions of one shard.
pub(crate) struct Questions {
    rest: Rest,
    feed: Arc<SharedFeed>,
    every: Duration,
    attempts_max: u32,
}

impl Questions {
    pub(crate) fn new(rest: Rest, feed: Arc<SharedFeed>, settings: &GatewaySettings) -> Self {
        Self {
            rest,
            feed,
            every: ms(settings.question_every_ms),
            attempts_max: settings.question_attempts_max,
        }
    }

    /// Asks forever.
    pub(crate) async fn run(self) {
        loop {
            let Some(question) = self.feed.read(Feed::question) else {
                self.feed.to_ask().await;
                continue;
            };
            // The feed drops the answer if something newer was read meanwhile.
            if let Some(finding) = self.ask(question).await {
                let unknown = finding == Finding::Unknown;
                let now = launch::clock::now_ms();
                let tally = self.feed.update(|feed| feed.answer(question, finding, now));
                tally.record();
                let result = if unknown { "unknown" } else { "answered" };
                metrics::counter!("worker_questions_total", "result" => result).increment(1);
            }
            sleep(self.every).await;
        }
    }

    /// `None` if the question is no longer open.
    async fn ask(&self, question: Question) -> Option<Finding> {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
        loop {
            let why = match self.find(question).await {
                Ok(finding) => return Some(finding),
                Err(why) => why,
            };
            if !self.feed.read(|feed| feed.is_open(question)) {
                return None;
            }
            let wait = backoff.after_failure(&mut rand::rng());
            if backoff.failures() >= self.attempts_max {
                tracing::warn!(guild = %question.guild, about = question.subject.kind(), %why, "Discord's REST has no usable answer; the guild is read again by identifying");
                return Some(Finding::Unknown);
            }
            sleep(wait).await;
        }
    }

    async fn find(&self, question: Question) -> Result<Finding, Failure> {
        let guild = question.guild;
        match question.subject {
            Subject::Guild => Ok(Finding::Unknown),
            Subject::Channel(channel) => Ok(Finding::Channel(self.channel(guild, channel).await?)),
            Subject::Voice(user) => {
                match self.rest.voice_state(guild, user).await {
                    Ok(state) => Ok(Finding::Voice(Some(state))),
                    // 10065, Unknown Voice State: not in voice.
                    Err(Failure::NotFound) => Ok(Finding::Voice(None)),
                    // In a channel where the bot lacks CONNECT (Discord's documentation, "Get User
                    // Voice State"): the user is not shown, and a retry would not help.
                    Err(Failure::Forbidden) => Ok(Finding::Voice(None)),
                    Err(why) => Err(why),
                }
            }
        }
    }

    async fn channel(&self, guild: GuildId, channel: ChannelId) -> Result<ChannelFinding, Failure> {
        match self.rest.channel(guild, channel).await {
            Ok(found) => Ok(ChannelFinding::There(found)),
            Err(Failure::NotFound) => Ok(ChannelFinding::Gone(channel)),
            Err(Failure::Forbidden) => Ok(ChannelFinding::Hidden(channel)),
            Err(why) => Err(why),
        }
    }
}

#[cfg(test)]
mod tests;
