//! The way to the hub: signed POSTs to its internal doors.
//!
//! Every attempt is signed afresh; what an answer means is its receiver's affair. The doors stand
//! beside each other: `…/events` (the configured one), `…/claim` and `…/identify`.

mod http_date;

use std::time::Duration;

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

/// Which door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Events,
    Claim,
    Identify,
}

/// An answer, whatever it means.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// How long the hub asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The hub's clock, in seconds since the Unix epoch.
    pub(crate) clock_s: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    Timeout,
    Network,
    HalfAnAnswer,
    TooLarge,
}

impl Silence {
    /// One of a fixed set, for logs and counters.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::HalfAnAnswer => "half_an_answer",
            Self::TooLarge => "answer_too_large",
        }
    }
}

/// What became of an identify notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It stands in the ledger.
    Counted {
        /// So many in the last 24 h.
        identifies: u32,
        /// How long it is until the bucket's turn, if the hub gives turns.
        turn: Option<Duration>,
    },
    /// A newer worker has the shard.
    Fenced,
    /// The hub does not know of this worker's claim: its store is older.
    Unclaimed,
    /// The hub could not be asked, or did not understand.
    Unheard,
}

/// The members of a problem that matter here; the others may be missing.
#[derive(Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: Option<Code>,
    pub(crate) conflict: Option<Conflict>,
}

impl Hub {
    /// The hub of these settings.
    ///
    /// # Errors
    /// If this machine can not speak TLS.
    pub fn new(config: &Config) -> reqwest::Result<Self> {
        let events = config.hub_endpoint.clone();
        // A base and a plain word always make a URL.
        let beside = |door: &str| events.join(door).unwrap_or_else(|_| events.clone());
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

    /// A new id for what is posted: it stays the same over all attempts.
    pub(crate) fn id() -> String {
        format!("msg_{:032x}", rand::rng().random::<u128>())
    }

    /// One attempt, signed now.
    pub(crate) async fn post(
        &self,
        door: Door,
        id: &str,
        body: Bytes,
        answer_bytes_max: usize,
    ) -> Result<Reply, Silence> {
        let url = match door {
            Door::Events => &self.events,
            Door::Claim => &self.claim,
            Door::Identify => &self.identify,
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
            Err(error) if error.is_timeout() => return Err(Silence::Timeout),
            Err(_) => return Err(Silence::Network),
        };
        let status = response.status();
        let retry_after = if status.is_success() {
            None
        } else {
            retry_after(response.headers())
        };
        let clock_s = text(response.headers(), &DATE).and_then(http_date::parse);
        Ok(Reply {
            status: status.as_u16(),
            body: read_bounded(response, answer_bytes_max).await?,
            retry_after,
            clock_s,
        })
    }

    /// Tells that a shard is about to identify, when its bucket has its turn; no bucket: that it has.
    /// It is counted once for an id, however often it is told. Nobody waits long for the answer.
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
            return Noted::Unheard;
        };
        let posted = self.post(Door::Identify, id, body.into(), ANSWER_BYTES_MAX);
        let Ok(Ok(reply)) = tokio::time::timeout(self.notice_timeout, posted).await else {
            return Noted::Unheard;
        };
        match reply.status {
            200 => serde_json::from_slice::<IdentifyNoted>(&reply.body).map_or(
                Noted::Unheard,
                |noted| Noted::Counted {
                    identifies: noted.identifies,
                    turn: noted.after_ms.map(ms),
                },
            ),
            409 => match conflict_of(&reply.body) {
                Some(Conflict::Fenced) => Noted::Fenced,
                Some(Conflict::Unclaimed) => Noted::Unclaimed,
                _ => Noted::Unheard,
            },
            _ => Noted::Unheard,
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

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = text(headers, &RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date::parse(text)?;
    Some(Duration::from_secs(
        at.saturating_sub(launch::clock::now_ms() / 1_000),
    ))
}

async fn read_bounded(
    mut response: reqwest::Response,
    bytes_max: usize,
) -> Result<Vec<u8>, Silence> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => {
                body.extend_from_slice(&chunk);
            }
            Ok(Some(_)) => return Err(Silence::TooLarge),
            Err(error) if error.is_timeout() => return Err(Silence::Timeout),
            Err(_) => return Err(Silence::HalfAnAnswer),
        }
    }
}
