//! Signed POSTs to the hub's internal endpoints: `…/events` (the configured one), and beside it
//! `…/claim` and `…/identify`.
//!
//! Every attempt gets its own signature. The callers judge the answers.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use proto::chain::{Bucket, Conflict, IDENTIFY_TYPE, IdentifyNoted, IdentifyNotice};
use proto::problem::Code;
use proto::signing::{ID_HEADER, SIGNATURE_HEADER, SigningKeys, TIMESTAMP_HEADER};
use rand::RngExt as _;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, Url};
use serde::Deserialize;

use crate::config::{Config, ms};

/// The largest answer that is read, in bytes; that to a claim has its own bound.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The hub. A clone is a reference.
#[derive(Debug, Clone)]
pub struct Hub {
    client: Client,
    events: Url,
    claim: Url,
    identify: Url,
    keys: SigningKeys,
    notice_timeout: Duration,
}

/// An endpoint of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Events,
    Claim,
    Identify,
}

/// An answer, not judged yet.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// How long the hub asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The hub's clock, in seconds since the Unix epoch.
    pub(crate) clock_s: Option<u64>,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    Timeout,
    Network,
    Truncated,
    TooLarge,
}

impl NoAnswer {
    /// One of a fixed set, for logs and counters.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::Truncated => "half_an_answer",
            Self::TooLarge => "answer_too_large",
        }
    }
}

/// The hub's answer to an identify notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is counted.
    Counted {
        /// So many in the last 24 h.
        identifies: u32,
        /// The time until the bucket's slot, if the hub gives slots.
        slot_in: Option<Duration>,
    },
    /// A newer worker has the shard.
    Fenced,
    /// The hub does not know of this worker's claim: its store is older.
    Unclaimed,
    /// The hub did not answer, or not in this protocol.
    Unanswered,
}

/// The fields of a problem that the worker needs; others may be missing.
#[derive(Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: Option<Code>,
    pub(crate) conflict: Option<Conflict>,
}

impl Hub {
    /// The hub of these settings.
    ///
    /// # Errors
    /// If no TLS client can be built on this machine.
    pub fn new(config: &Config) -> reqwest::Result<Self> {
        let events = config.hub_endpoint.clone();
        // A base URL and a plain word always make a URL.
        let beside = |endpoint: &str| events.join(endpoint).unwrap_or_else(|_| events.clone());
        Ok(Self {
            client: Client::builder()
                .timeout(ms(config.delivery.hub_timeout_ms))
                .redirect(reqwest::redirect::Policy::none())
                // The environment is read by the config alone.
                .no_proxy()
                .build()?,
            claim: beside("claim"),
            identify: beside("identify"),
            events,
            keys: config.hub_secret.clone(),
            notice_timeout: ms(config.delivery.identify_notice_timeout_ms),
        })
    }

    /// A new id for a request. It stays the same over all attempts.
    pub(crate) fn id() -> String {
        format!("msg_{:032x}", rand::rng().random::<u128>())
    }

    /// One attempt, signed now.
    pub(crate) async fn post(
        &self,
        endpoint: Endpoint,
        id: &str,
        body: Bytes,
        answer_bytes_max: usize,
    ) -> Result<Reply, NoAnswer> {
        let url = match endpoint {
            Endpoint::Events => &self.events,
            Endpoint::Claim => &self.claim,
            Endpoint::Identify => &self.identify,
        };
        let now_s = launch::clock::now_ms() / 1_000;
        let signature = self.keys.sign(id, now_s, &body);
        let sent = self
            .client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id)
            .header(TIMESTAMP_HEADER, now_s)
            .header(SIGNATURE_HEADER, signature)
            .body(body)
            .send()
            .await;
        launch::mutation::pass("posted");
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Err(NoAnswer::Timeout),
            Err(_) => return Err(NoAnswer::Network),
        };
        let status = response.status();
        let retry_after = if status.is_success() {
            None
        } else {
            retry_after(response.headers())
        };
        let clock_s = text(response.headers(), &DATE).and_then(date_s);
        Ok(Reply {
            status: status.as_u16(),
            body: read_bounded(response, answer_bytes_max).await?,
            retry_after,
            clock_s,
        })
    }

    /// Sends the notice that a shard is about to identify, and asks for a slot of its bucket; without a
    /// bucket: that it has identified. The hub counts an id once, however often it is sent. The wait
    /// for the answer is short.
    pub(crate) async fn note_identify(
        &self,
        id: &str,
        shard: (u32, u32),
        generation: u64,
        bucket: Option<Bucket>,
    ) -> Noted {
        let notice = IdentifyNotice {
            r#type: IDENTIFY_TYPE.to_owned(),
            shard,
            generation,
            bucket,
        };
        let Ok(body) = serde_json::to_vec(&notice) else {
            return Noted::Unanswered;
        };
        let posted = self.post(Endpoint::Identify, id, body.into(), ANSWER_BYTES_MAX);
        let Ok(Ok(reply)) = tokio::time::timeout(self.notice_timeout, posted).await else {
            return Noted::Unanswered;
        };
        match reply.status {
            200 => serde_json::from_slice::<IdentifyNoted>(&reply.body).map_or(
                Noted::Unanswered,
                |noted| Noted::Counted {
                    identifies: noted.identifies,
                    slot_in: noted.after_ms.map(ms),
                },
            ),
            409 => match conflict_of(&reply.body) {
                Some(Conflict::Fenced) => Noted::Fenced,
                Some(Conflict::Unclaimed) => Noted::Unclaimed,
                _ => Noted::Unanswered,
            },
            _ => Noted::Unanswered,
        }
    }
}

/// What a 409 says.
pub(crate) fn conflict_of(body: &[u8]) -> Option<Conflict> {
    serde_json::from_slice::<Problem>(body).ok()?.conflict
}

fn text<'a>(headers: &'a HeaderMap, name: &reqwest::header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// An HTTP date in seconds since the Unix epoch.
fn date_s(text: &str) -> Option<u64> {
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text(headers, &RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = date_s(text)?;
    Some(Duration::from_secs(
        at.saturating_sub(launch::clock::now_ms() / 1_000),
    ))
}

async fn read_bounded(
    mut response: reqwest::Response,
    bytes_max: usize,
) -> Result<Vec<u8>, NoAnswer> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err(NoAnswer::TooLarge),
            Err(error) if error.is_timeout() => return Err(NoAnswer::Timeout),
            Err(_) => return Err(NoAnswer::Truncated),
        }
    }
}
