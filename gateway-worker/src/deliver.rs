//! Signed deliveries to the hub: one at a time for each shard, in order, until they are taken.
//!
//! A delivery keeps its id and its body over all attempts; every attempt is signed afresh. While
//! the hub does not answer, everything waits in the outbox; and when meanwhile the state is another
//! than the delivery says, its events go into a new one, so that the hub never hears an old state.

mod answer;
mod http_date;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::delivery::{DELIVERY_TYPE, Delivery};
use proto::signing::{ID_HEADER, SIGNATURE_HEADER, SigningKeys, TIMESTAMP_HEADER};
use rand::RngExt as _;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, Url};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, DeliverySettings, ms};
use crate::feed::{Desk, Parcel};
use crate::retry::Backoff;
use answer::Answer;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a clock that is off is complained of.
const SKEW_ALARM_EVERY: Duration = Duration::from_secs(60);
/// Deliveries in a row that are dropped as malformed before it waits between them.
const REJECTED_AT_ONCE: u32 = 3;

/// How the delivery of one shard stands, for health and readiness.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// The last attempt was taken.
    taken: AtomicBool,
    /// When the hub last took one, in ms since the Unix epoch; 0: never.
    at_ms: AtomicU64,
}

impl Acknowledged {
    /// Whether the hub took the last delivery.
    pub fn is_current(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }

    /// When the hub last took one, in ms since the Unix epoch.
    pub fn at_ms(&self) -> Option<u64> {
        Some(self.at_ms.load(Ordering::Relaxed)).filter(|at| *at > 0)
    }
}

/// The way to the hub. A clone is a reference.
#[derive(Debug, Clone)]
pub struct Hub {
    client: Client,
    endpoint: Url,
    keys: SigningKeys,
}

impl Hub {
    /// The hub of these settings.
    ///
    /// # Errors
    /// If this machine can not speak TLS.
    pub fn new(config: &Config) -> reqwest::Result<Self> {
        Ok(Self {
            client: Client::builder()
                .timeout(ms(config.delivery.hub_timeout_ms))
                .redirect(reqwest::redirect::Policy::none())
                // The environment is read by the config alone.
                .no_proxy()
                .build()?,
            endpoint: config.hub_endpoint.clone(),
            keys: config.hub_secret.clone(),
        })
    }
}

/// Delivers what one shard has to tell.
#[derive(Debug)]
pub struct Courier {
    hub: Hub,
    desk: Arc<Desk>,
    acknowledged: Arc<Acknowledged>,
    settings: DeliverySettings,
    retry: Backoff,
    rejected: u32,
    stale: u32,
    skew_alarm_due: Instant,
}

/// How a parcel ended.
enum Settled {
    /// The hub has taken it, and knows the state.
    Told,
    /// It has not, and hears of the state with the next.
    Untold,
}

/// What an attempt leads to.
enum Next {
    /// The hub has taken the parcel.
    Taken,
    /// The parcel is dropped; the next waits this long.
    Dropped(Duration),
    /// The same parcel again, after this.
    Again(Duration),
}

impl Courier {
    /// A courier for one shard.
    pub fn new(
        hub: Hub,
        desk: Arc<Desk>,
        acknowledged: Arc<Acknowledged>,
        settings: DeliverySettings,
    ) -> Self {
        Self {
            hub,
            desk,
            acknowledged,
            retry: Backoff::new(ms(settings.retry_min_ms), ms(settings.retry_max_ms)),
            settings,
            rejected: 0,
            stale: 0,
            skew_alarm_due: Instant::now(),
        }
    }

    /// Delivers until `last` is cancelled and then until everything was told that can be told; how
    /// long that may take is the caller's affair.
    pub async fn run(mut self, last: CancellationToken) {
        let beat = ms(self.settings.beat_ms);
        let mut beat_at = Instant::now();
        loop {
            let beat_due = beat_at <= Instant::now();
            let now = launch::clock::now_ms();
            let Some(parcel) = self.desk.take(|feed| feed.parcel(beat_due, now)) else {
                if last.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = self.desk.to_deliver() => {}
                    () = sleep_until(beat_at) => {}
                    () = last.cancelled() => {}
                }
                continue;
            };
            beat_at = match self.deliver(&parcel).await {
                Settled::Told => Instant::now() + beat,
                Settled::Untold => Instant::now(),
            };
            let now = launch::clock::now_ms();
            if last.is_cancelled() && self.desk.look(|feed| feed.is_drained(now)) {
                return;
            }
        }
    }

    /// Tries until the parcel is settled. An empty one, or one whose state is no longer so, is not
    /// worth a second attempt: the next has the same events and is newer.
    async fn deliver(&mut self, parcel: &Parcel) -> Settled {
        let body = match body_of(parcel) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(%error, "ALARM: a delivery can not be written; its guilds owe snapshots");
                self.desk.with(|feed| feed.give_up(launch::clock::now_ms()));
                return Settled::Untold;
            }
        };
        let id = format!("msg_{:032x}", rand::rng().random::<u128>());
        loop {
            let started = Instant::now();
            let answer = self.attempt(&id, body.clone()).await;
            metrics::counter!("worker_deliveries_total", "answer" => answer.label()).increment(1);
            metrics::histogram!("worker_delivery_seconds").record(started.elapsed().as_secs_f64());
            self.acknowledged
                .taken
                .store(matches!(answer, Answer::Taken(_)), Ordering::Relaxed);
            match self.settle(&id, parcel, answer) {
                Next::Taken => return Settled::Told,
                Next::Dropped(pause) => {
                    sleep(pause).await;
                    return Settled::Untold;
                }
                Next::Again(pause) => {
                    sleep(pause).await;
                    let now = launch::clock::now_ms();
                    let current = self.desk.look(|feed| feed.is_current(parcel, now));
                    if parcel.events.is_empty() || !current {
                        return Settled::Untold;
                    }
                }
            }
        }
    }

    async fn attempt(&mut self, id: &str, body: Bytes) -> Answer {
        let now_s = launch::clock::now_ms() / 1_000;
        let signature = self.hub.keys.sign(id, now_s, &body);
        let sent = self
            .hub
            .client
            .post(self.hub.endpoint.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id)
            .header(TIMESTAMP_HEADER, now_s)
            .header(SIGNATURE_HEADER, signature)
            .body(body)
            .send()
            .await;
        let response = match sent {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Answer::Retry("timeout", None),
            Err(_) => return Answer::Retry("network", None),
        };
        let status = response.status();
        let retry_after = self.retry_after(status, response.headers());
        self.watch_clock(response.headers());
        match read_bounded(response).await {
            Some(text) => answer::judge(status.as_u16(), &text, retry_after),
            None => Answer::Retry("half_an_answer", None),
        }
    }

    fn settle(&mut self, id: &str, parcel: &Parcel, answer: Answer) -> Next {
        let now = launch::clock::now_ms();
        let events = parcel.events.len();
        if !matches!(answer, Answer::Stale) {
            self.stale = 0;
        }
        match answer {
            Answer::Taken(receipt) => {
                if self.retry.failures() > 0 {
                    tracing::info!(
                        delivery = id,
                        failures = self.retry.failures(),
                        "the hub takes deliveries again"
                    );
                }
                self.retry.reset();
                self.rejected = 0;
                self.acknowledged.at_ms.store(now, Ordering::Relaxed);
                metrics::counter!("worker_events_delivered_total").increment(receipt.accepted);
                metrics::counter!("worker_events_duplicate_total").increment(receipt.duplicates);
                let refused = self.desk.with(|feed| feed.delivered(parcel, receipt, now));
                if refused > 0 {
                    metrics::counter!("worker_events_refused_total")
                        .increment(u64::try_from(refused).unwrap_or(u64::MAX));
                    tracing::warn!(delivery = id, refused, "the hub refused events");
                }
                Next::Taken
            }
            Answer::OtherStore(store) => {
                tracing::warn!(
                    delivery = id,
                    "the hub's store is another one; every guild owes a snapshot"
                );
                metrics::counter!("worker_store_changes_total").increment(1);
                self.desk.with(|feed| feed.change_store(store, now));
                // Two hubs behind one address would answer so for ever.
                Next::Dropped(self.retry.after_failure(&mut rand::rng()))
            }
            Answer::Stale => {
                self.stale += 1;
                if self.stale == 1 {
                    return Next::Again(Duration::ZERO);
                }
                self.again(id, events, "stale_timestamp", None)
            }
            Answer::Rejected(status) => {
                self.rejected += 1;
                tracing::error!(
                    delivery = id,
                    status,
                    events,
                    "ALARM: the hub refused a delivery as malformed; it is dropped and its guilds owe snapshots"
                );
                metrics::counter!("worker_deliveries_dropped_total").increment(1);
                self.desk.with(|feed| feed.give_up(now));
                if self.rejected <= REJECTED_AT_ONCE && events > 0 {
                    Next::Dropped(Duration::ZERO)
                } else {
                    Next::Dropped(self.retry.after_failure(&mut rand::rng()))
                }
            }
            Answer::Retry(why, after) => self.again(id, events, why, after),
        }
    }

    fn again(&mut self, id: &str, events: usize, why: &str, after: Option<Duration>) -> Next {
        let jittered = self.retry.after_failure(&mut rand::rng());
        let pause = after.map_or(jittered, |after| {
            jittered.max(after.min(ms(self.settings.retry_after_max_ms)))
        });
        let failures = self.retry.failures();
        // The first says that it began, every power of two that it goes on.
        if failures.is_power_of_two() {
            tracing::warn!(
                delivery = id,
                events,
                failures,
                why,
                wait_ms = pause.as_millis(),
                "the hub does not take deliveries; trying again"
            );
        }
        Next::Again(pause)
    }

    fn retry_after(&self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        if status.is_success() {
            return None;
        }
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let at = http_date::parse(text)?;
        Some(Duration::from_secs(
            at.saturating_sub(launch::clock::now_ms() / 1_000),
        ))
    }

    /// The hub's `Date` shows how far its clock is from ours, to a second.
    fn watch_clock(&mut self, headers: &HeaderMap) {
        let Some(hub_s) = headers
            .get(DATE)
            .and_then(|date| date.to_str().ok())
            .and_then(http_date::parse)
        else {
            return;
        };
        let skew_s = hub_s.abs_diff(launch::clock::now_ms() / 1_000);
        #[expect(clippy::cast_precision_loss, reason = "a gauge of seconds")]
        metrics::gauge!("worker_clock_skew_seconds").set(skew_s as f64);
        if ms(self.settings.clock_skew_alarm_ms) <= Duration::from_secs(skew_s)
            && self.skew_alarm_due <= Instant::now()
        {
            self.skew_alarm_due = Instant::now() + SKEW_ALARM_EVERY;
            tracing::error!(
                skew_s,
                "ALARM: the hub's clock and this one differ; past a minute it refuses every delivery"
            );
        }
    }
}

fn body_of(parcel: &Parcel) -> serde_json::Result<Bytes> {
    let delivery = Delivery {
        r#type: DELIVERY_TYPE,
        report: parcel.report.clone(),
        events: &parcel.events,
    };
    serde_json::to_vec(&delivery).map(Bytes::from)
}

/// `None`: it broke off, or is larger than any answer.
async fn read_bounded(mut response: reqwest::Response) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Some(text),
            Ok(Some(chunk)) if text.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                text.extend_from_slice(&chunk);
            }
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}
