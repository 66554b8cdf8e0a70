//! The worker's endpoint: signed claims, identify notices and deliveries for the log.
//!
//! The signature is verified over the raw bytes before they are parsed ([`form`]).

mod form;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use proto::chain::Conflict;
use proto::delivery::{Receipt, Report};
use proto::problem::Code;
use proto::signing::{ID_HEADER, Refused, SIGNATURE_HEADER, Signed, SigningKeys, TIMESTAMP_HEADER};

use self::form::{Bounds, Delivered};
use crate::error::{ApiError, outcome};
use crate::freshness::{Coverage, Freshness};
use crate::http::only;
use roomlog::dedup::{Admission, DedupWindow, WindowBounds};
use roomlog::{Log, NotTaken, Unavailable};

/// The endpoint. A clone is a reference.
#[derive(Clone)]
pub struct Ingest {
    /// The keys of the worker's signatures.
    pub keys: SigningKeys,
    /// The log that receives the events.
    pub log: Log,
    /// The state of the gateway connections.
    pub freshness: Freshness,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// The most events of one delivery.
    pub events_max: usize,
    /// The most guilds of one claim.
    pub guilds_max: usize,
    /// The newest deliveries whose report was applied.
    pub reports: Reports,
}

/// The ids of the newest deliveries, so that a repeated one reports nothing.
#[derive(Clone)]
pub struct Reports(Arc<Mutex<DedupWindow<String>>>);

impl Default for Reports {
    fn default() -> Self {
        // More than all shards send while a signature is valid, where there are a few. A report that
        // is repeated later is known by its checkpoint.
        let bounds = WindowBounds {
            age_ms: u64::MAX,
            entries_min: 0,
            entries_max: 512,
        };
        Self(Arc::new(Mutex::new(DedupWindow::new(bounds))))
    }
}

impl Reports {
    fn is_new(&self, id: &str) -> bool {
        // A panic while it was locked leaves a valid window.
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        window.admit(id.to_owned(), (), 0) != Admission::Repeat
    }
}

/// When to retry while the store cannot be written, in ms. The writer tries it every second.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

impl Ingest {
    /// `POST /api/internal/events`, `…/claim`, `…/identify`.
    pub fn router(self) -> Router {
        let limit = DefaultBodyLimit::max(self.body_bytes_max);
        Router::new()
            .route("/api/internal/events", post(deliver))
            .route(
                "/api/internal/claim",
                post(
                    |State(ingest): State<Self>, headers: HeaderMap, body: Bytes| async move {
                        ingest.claim(&headers, &body).await
                    },
                ),
            )
            .route(
                "/api/internal/identify",
                post(
                    |State(ingest): State<Self>, headers: HeaderMap, body: Bytes| async move {
                        ingest.identify(&headers, &body).await
                    },
                ),
            )
            .layer(limit)
            .with_state(self)
    }
}

async fn deliver(
    State(ingest): State<Ingest>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let answer = ingest.take(&headers, &body).await;
    let outcome = outcome(&answer);
    metrics::counter!("hub_ingest_deliveries_total", "outcome" => outcome).increment(1);
    answer
}

impl Ingest {
    async fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, ApiError> {
        let delivery_id = self.verify(headers, body)?;
        launch::mutation::pass("verified");
        let newest = || self.log.newest_number().max(launch::clock::now_ms());
        let Delivered {
            report,
            events,
            mut refused,
        } = form::delivery(body, self.bounds(), newest)?;
        let mut appended = match &report {
            None => self
                .log
                .append(events)
                .await
                .map_err(|Unavailable| unavailable())?,
            Some(report) => {
                let mut link = report.link.clone();
                if !refused.is_empty() {
                    // The unreadable events must be replayed if this worker ends before it has
                    // repaired them.
                    (link.to, link.session) = (link.from, None);
                }
                let taken = self.log.deliver(link, events).await;
                taken.map_err(not_taken)?
            }
        };
        refused.append(&mut appended.refused);
        metrics::counter!("hub_ingest_events_total", "outcome" => "accepted")
            .increment(appended.accepted);
        metrics::counter!("hub_ingest_events_total", "outcome" => "duplicate")
            .increment(appended.duplicates);
        metrics::counter!("hub_ingest_events_total", "outcome" => "refused")
            .increment(refused.len() as u64);
        if let Some(report) = &report
            && self.is_news(&delivery_id, report)
        {
            self.report(report);
        }
        Ok(Json(Receipt {
            accepted: appended.accepted,
            duplicates: appended.duplicates,
            duplicate: appended.accepted == 0 && appended.duplicates > 0,
            refused,
            wanted: report.map_or_else(Vec::new, |report| self.log.wanted(report.link.shard.0)),
        })
        .into_response())
    }

    /// Whether a delivery's report is neither a repeat nor older than the newest one.
    fn is_news(&self, id: &str, report: &Report) -> bool {
        let holder = self.log.holder(report.link.shard.0);
        let late = holder.is_some_and(|holder| holder.progress.reached > report.link.to);
        self.reports.is_new(id) && !late
    }

    fn report(&self, report: &Report) {
        let holder = self.log.holder(report.link.shard.0);
        let coverage = |guild| {
            if !holder.as_ref().is_some_and(|holder| holder.follows(guild)) {
                Coverage::NotFollowed
            } else if self.log.read(guild, |state, _| state.known) == Some(true) {
                Coverage::Complete
            } else {
                Coverage::NoSnapshot
            }
        };
        let freshness = &self.freshness;
        freshness.report(report.link.shard, &report.gateway, coverage);
    }

    async fn claim(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, ApiError> {
        let id = self.verify(headers, body)?;
        let answer = self.take_claim(id, body).await;
        let outcome = outcome(&answer);
        metrics::counter!("hub_ingest_claims_total", "outcome" => outcome).increment(1);
        answer
    }

    async fn take_claim(&self, id: String, body: &[u8]) -> Result<Response, ApiError> {
        let claim = form::claim(body, self.bounds())?;
        let shard = claim.shard.0;
        let (worker, guilds) = (claim.worker.clone(), claim.guilds.len());
        let claimed = self.log.claim(id, claim).await.map_err(not_taken)?;
        tracing::info!(
            shard,
            worker,
            guilds,
            generation = claimed.generation,
            "a worker has the shard"
        );
        Ok(Json(claimed).into_response())
    }

    async fn identify(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, ApiError> {
        let id = self.verify(headers, body)?;
        let notice = form::identify_notice(body)?;
        let noted = self.log.identify(id, notice).await.map_err(not_taken)?;
        Ok(Json(noted).into_response())
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            events_max: self.events_max,
            guilds_max: self.guilds_max,
        }
    }

    /// The id of a request whose signature matches.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, ApiError> {
        let signed = Signed {
            id: only(headers, ID_HEADER),
            timestamp: only(headers, TIMESTAMP_HEADER),
            signature: only(headers, SIGNATURE_HEADER),
        };
        self.keys
            .verify(signed, body, launch::clock::now_ms() / 1000)
            .map_err(|refused| match refused {
                Refused::BadSignature => ApiError::new(Code::BadSignature, "The signature does not match."),
                Refused::StaleTimestamp => ApiError::new(
                    Code::StaleTimestamp,
                    "The timestamp is outside the window. Sign the request again with the current time.",
                ),
            })?;
        Ok(signed.id.unwrap_or_default().to_owned())
    }
}

fn not_taken(why: NotTaken) -> ApiError {
    match why {
        NotTaken::Conflict(conflict) => conflicting(conflict),
        NotTaken::Contended { wait_ms } => {
            let detail = "Two workers claim this shard in turn. Stop one of them.";
            ApiError::new(Code::RateLimited, detail).retry_after_ms(wait_ms)
        }
        NotTaken::Unavailable => unavailable(),
    }
}

fn unavailable() -> ApiError {
    ApiError::new(Code::Unavailable, "The log cannot store events now.")
        .retry_after_ms(UNAVAILABLE_RETRY_MS)
}

fn conflicting(conflict: Conflict) -> ApiError {
    let detail = match conflict {
        Conflict::Fenced => "A newer worker has this shard.",
        Conflict::Unclaimed => "The store is older than the claim. Claim the shard again.",
        Conflict::Gap { .. } => {
            "Events before this delivery are missing. Send a snapshot of every guild."
        }
    };
    let mut error = ApiError::new(Code::Conflict, detail);
    error.conflict = Some(conflict);
    error
}
