//! The claim: a worker takes its shard at the hub and gets its memory back. It does so before it
//! connects to the gateway, and again when the hub's store turns out to be older.

use std::time::Duration;

use bytes::Bytes;
use proto::GuildId;
use proto::chain::{CLAIM_TYPE, Checkpoint, Claim, Claimed, NAME_BYTES_MAX};
use rand::RngExt as _;
use reqwest::Url;
use tokio::time::sleep;

use crate::config::{DeliverySettings, ms};
use crate::hub::{Endpoint, Hub, NoAnswer, Reply};
use crate::retry::Backoff;

/// How often the hub may answer with too much although the claim asked for no memory. A hub of an
/// older version always does so, and so may a proxy.
const TOO_LARGE_MAX: u32 = 5;

/// Why a shard cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotClaimed {
    /// Another worker has claimed since the first attempt, and that one may have been taken.
    #[error("a newer worker has taken over")]
    Fenced,
    /// The hub's answer is larger than this, in bytes, also without its memory.
    #[error(
        "the hub answers a claim with more than {0} bytes, although it was asked to leave its memory out: raise CLAIM_BYTES_MAX, or run a hub of this version"
    )]
    TooLarge(usize),
}

/// This process, as it claims shards. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Claimant {
    hub: Hub,
    /// A random name of this process.
    worker: String,
    retry: (Duration, Duration),
    retry_after_max: Duration,
    answer_bytes_max: usize,
}

impl Claimant {
    /// This process, with a new random name.
    pub fn new(hub: Hub, settings: &DeliverySettings) -> Self {
        Self {
            hub,
            worker: format!("{:032x}", rand::rng().random::<u128>()),
            retry: (ms(settings.retry_min_ms), ms(settings.retry_max_ms)),
            retry_after_max: ms(settings.retry_after_max_ms),
            answer_bytes_max: usize::try_from(settings.claim_bytes_max).unwrap_or(usize::MAX),
        }
    }

    /// Claims a shard, again and again until the hub answers.
    ///
    /// # Errors
    /// [`NotClaimed`], when asking again does not help.
    pub async fn claim(
        &self,
        shard: (u32, u32),
        guilds: Vec<GuildId>,
    ) -> Result<Claimed, NotClaimed> {
        let mut too_large = 0;
        let mut backoff = Backoff::new(self.retry.0, self.retry.1);
        let mut id = Hub::id();
        let mut claim = Claim {
            r#type: CLAIM_TYPE.to_owned(),
            shard,
            worker: self.worker.clone(),
            guilds,
            memory: true,
        };
        loop {
            let (why, after) = match self.attempt(&id, &claim).await {
                Ok(reply) if reply.status == 200 => match read(&reply.body) {
                    Some(claimed) => return Ok(claimed),
                    None => ("unreadable_answer", None),
                },
                Ok(reply) if reply.status == 409 => return Err(NotClaimed::Fenced),
                Ok(reply) => (refusal(reply.status), reply.retry_after),
                Err(NoAnswer::TooLarge) if claim.memory => {
                    metrics::counter!("worker_claims_too_large_total").increment(1);
                    tracing::error!(
                        shard = shard.0,
                        bound = self.answer_bytes_max,
                        "ALARM: the hub's memory of this shard is larger than CLAIM_BYTES_MAX; identifying instead"
                    );
                    // The hub still gets the followed guilds. Another body needs another id.
                    claim.memory = false;
                    id = Hub::id();
                    continue;
                }
                Err(no_answer) => {
                    too_large += u32::from(no_answer == NoAnswer::TooLarge);
                    if too_large >= TOO_LARGE_MAX {
                        return Err(NotClaimed::TooLarge(self.answer_bytes_max));
                    }
                    (no_answer.label(), None)
                }
            };
            metrics::counter!("worker_claims_total", "answer" => why).increment(1);
            let pause = backoff.after_refusal(&mut rand::rng(), after, self.retry_after_max);
            if backoff.failures().is_power_of_two() {
                tracing::warn!(
                    shard = shard.0,
                    why,
                    failures = backoff.failures(),
                    wait_ms = pause.as_millis(),
                    "waiting for the hub: it does not answer the claim"
                );
            }
            sleep(pause).await;
        }
    }

    async fn attempt(&self, id: &str, claim: &Claim) -> Result<Reply, NoAnswer> {
        let body = serde_json::to_vec(claim).map_err(|_| NoAnswer::Network)?;
        let posted = self
            .hub
            .post(
                Endpoint::Claim,
                id,
                Bytes::from(body),
                self.answer_bytes_max,
            )
            .await?;
        if posted.status == 200 {
            metrics::counter!("worker_claims_total", "answer" => "claimed").increment(1);
        }
        Ok(posted)
    }
}

fn refusal(status: u16) -> &'static str {
    match status {
        400 => "malformed",
        401 => "bad_signature",
        403 | 404 => "wrong_door",
        429 => "rate_limited",
        500..=599 => "hub_error",
        _ => "unexpected_status",
    }
}

fn read(body: &[u8]) -> Option<Claimed> {
    let mut claimed: Claimed = serde_json::from_slice(body).ok()?;
    claimed.checkpoint = claimed.checkpoint.filter(is_usable);
    if let Some(checkpoint) = &mut claimed.checkpoint {
        let session = &mut checkpoint.session;
        session.resume_url = session.resume_url.take().filter(|url| is_gateway(url));
    }
    Some(claimed)
}

fn is_usable(checkpoint: &Checkpoint) -> bool {
    let id = &checkpoint.session.id;
    !id.is_empty() && id.len() <= NAME_BYTES_MAX && checkpoint.session.number > 0
}

/// Whether the worker can connect to this URL.
fn is_gateway(url: &str) -> bool {
    url.len() <= NAME_BYTES_MAX
        && Url::parse(url)
            .is_ok_and(|url| matches!(url.scheme(), "ws" | "wss") && url.host_str().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_cannot_be_resumed_is_ignored() {
        let body = |session: &str| {
            format!(
                r#"{{"generation":5,"lastSession":3,"identifies":0,"guilds":[],"checkpoint":{{"session":{session},"sequence":9,"fingerprint":"f"}}}}"#
            )
        };
        for (session, usable, url) in [
            (r#"{"number":3,"id":"s"}"#, true, None),
            (
                r#"{"number":3,"id":"s","resumeUrl":"wss://gateway.discord.gg"}"#,
                true,
                Some("wss://gateway.discord.gg"),
            ),
            (
                r#"{"number":3,"id":"s","resumeUrl":"file:///x"}"#,
                true,
                None,
            ),
            (
                r#"{"number":3,"id":"s","resumeUrl":"nonsense"}"#,
                true,
                None,
            ),
            (r#"{"number":3,"id":""}"#, false, None),
            (r#"{"number":0,"id":"s"}"#, false, None),
        ] {
            let claimed = read(body(session).as_bytes()).unwrap();
            assert_eq!(claimed.checkpoint.is_some(), usable, "{session}");
            let found = claimed.checkpoint.and_then(|one| one.session.resume_url);
            assert_eq!(found.as_deref(), url, "{session}");
        }
        assert!(read(b"{}").is_none());
    }
}
