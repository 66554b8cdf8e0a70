//! The worker's door: signed deliveries into the log.
//!
//! The signature is verified over the raw bytes before anything of them is read.

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use proto::chain::{
    CLAIM_TYPE, Claim, Conflict, IDENTIFY_TYPE, IdentifyNoted, IdentifyNotice, Link, NAME_BYTES_MAX,
};
use proto::delivery::{DELIVERY_TYPE, Receipt, ReceivedDelivery, RefusedEvent, Report};
use proto::event::{EVENT_ID_BYTES_MAX, Event};
use proto::problem::Code;
use proto::signing::{ID_HEADER, Refused, SIGNATURE_HEADER, Signed, SigningKeys, TIMESTAMP_HEADER};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::freshness::{Followed, Freshness};
use crate::log::{Fights, Log, NotTaken, Unavailable};
use crate::refusal::Refusal;
use crate::sockets::fanout::Fanout;

/// The door. A clone is a reference.
#[derive(Clone)]
pub struct Ingest {
    /// Who may tell.
    pub keys: SigningKeys,
    /// Where it is told to.
    pub log: Log,
    /// What a delivery says of the gateway connection.
    pub freshness: Freshness,
    /// Who is told of a change of it.
    pub fanout: Fanout,
    /// The largest body, in bytes.
    pub body_bytes_max: usize,
    /// The most events of one delivery.
    pub events_max: usize,
    /// The most guilds of one claim.
    pub guilds_max: usize,
    /// The workers that were fenced lately.
    pub fights: Arc<Mutex<Fights>>,
}

/// When to come back to a store that can not be written, in ms: it is tried every second.
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
) -> Result<Response, Refusal> {
    let answer = ingest.take(&headers, &body).await;
    let outcome = answer
        .as_ref()
        .map_or_else(|refusal| refusal.code.name(), |_| "ok");
    metrics::counter!("hub_ingest_deliveries_total", "outcome" => outcome).increment(1);
    answer
}

impl Ingest {
    async fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        let delivery_id = self.verify(headers, body)?;
        crate::faults::pass("verified");
        let delivery: ReceivedDelivery = Some(body)
            .filter(|body| is_object(body))
            .and_then(|body| serde_json::from_slice(body).ok())
            .ok_or_else(|| Refusal::new(Code::BadRequest, "not a delivery as JSON"))?;
        if delivery.r#type.is_some_and(|named| named != DELIVERY_TYPE) {
            return Err(Refusal::new(Code::BadRequest, "not a delivery of events")
                .field("type", "must be `events` or absent"));
        }
        delivery.shard.map_or(Ok(()), check_shard)?;
        if delivery.events.len() > self.events_max {
            return Err(Refusal::new(
                Code::TooLarge,
                format!("at most {} events a delivery", self.events_max),
            ));
        }
        let report = match delivery.shard {
            None => None,
            Some(_) => Some(self.read_report(body)?),
        };
        let told = delivery.events.len();
        let (mut events, mut refused) = (Vec::with_capacity(told), Vec::new());
        for raw in delivery.events {
            let event = serde_json::from_str::<Event>(raw.get())
                .ok()
                .filter(|_| is_object(raw.get().as_bytes()));
            // Where a worker's event stands is how it is known as a repeat.
            let is_whole = |event: &Event| {
                (1..=EVENT_ID_BYTES_MAX).contains(&event.id.len())
                    && (report.is_none() || event.at.is_some())
            };
            match event {
                Some(event) if is_whole(&event) => events.push(event),
                _ => refused.push(RefusedEvent {
                    id: id_of(raw.get()),
                    code: Code::BadRequest,
                }),
            }
        }
        let mut appended = match &report {
            None => self
                .log
                .append(events, self.fanout.elapsed_ms())
                .await
                .map_err(|Unavailable| unavailable())?,
            Some(report) => {
                let mut link = report.link.clone();
                if !refused.is_empty() {
                    // What can not be read must come again, should this worker end before it has
                    // made up for it.
                    (link.to, link.session) = (link.from, None);
                }
                let taken = self.log.deliver(link, events).await;
                taken.map_err(|why| self.not_taken(why, &report.link))?
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

    /// What a worker says of itself, if it is of the documented form.
    fn read_report(&self, body: &[u8]) -> Result<Report, Refusal> {
        let wrong = || Refusal::new(Code::BadRequest, "not a worker's delivery");
        let report: Report = serde_json::from_slice(body)
            .map_err(|error| wrong().field("shard", error.to_string()))?;
        let link = &report.link;
        if link.from > link.to {
            return Err(wrong().field("to", "not before `from`"));
        }
        let moves = link.to > link.from;
        let session = link.session.as_ref();
        if session.map_or(moves, |session| session.number != link.to.session) {
            return Err(wrong().field("session", "the one of `to`"));
        }
        let is_name = |name: &str| name.len() <= NAME_BYTES_MAX;
        let names = session.is_none_or(|session| {
            is_name(&session.id) && session.resume_url.as_deref().is_none_or(is_name)
        });
        if !names || !is_name(&link.fingerprint) {
            return Err(wrong().field(
                "session",
                format!("names of at most {NAME_BYTES_MAX} bytes"),
            ));
        }
        if link.absent.len() > self.guilds_max {
            return Err(wrong().field("absent", format!("at most {} guilds", self.guilds_max)));
        }
        Ok(report)
    }

    /// Whether what a delivery says of the gateway was not said before, nor is older than what was.
    fn is_news(&self, id: &str, report: &Report) -> bool {
        let holder = self.log.holder(report.link.shard.0);
        let late = holder.is_some_and(|holder| holder.reached > report.link.to);
        let known = !self.with_fights(|fights| fights.hears(id));
        !late && !known
    }

    fn report(&self, report: &Report) {
        let holder = self.log.holder(report.link.shard.0);
        let followed = |guild| {
            if holder.as_ref().is_some_and(|holder| holder.follows(guild)) {
                let told = self.log.read(guild, |state, _| state.known) == Some(true);
                if told {
                    Followed::Told
                } else {
                    Followed::Untold
                }
            } else {
                Followed::Not
            }
        };
        let changed = self.freshness.report(
            report.link.shard,
            &report.gateway,
            followed,
            self.fanout.elapsed_ms(),
        );
        self.fanout.tell_freshness(&self.log, &changed);
    }

    async fn claim(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        let id = self.verify(headers, body)?;
        let answer = self.take_claim(id, body).await;
        let outcome = answer
            .as_ref()
            .map_or_else(|refusal| refusal.code.name(), |_| "ok");
        metrics::counter!("hub_ingest_claims_total", "outcome" => outcome).increment(1);
        answer
    }

    async fn take_claim(&self, id: String, body: &[u8]) -> Result<Response, Refusal> {
        let claim: Claim = read(body, CLAIM_TYPE, |claim: &Claim| &claim.r#type)?;
        check_shard(claim.shard)?;
        let wrong = || Refusal::new(Code::BadRequest, "not a worker's claim");
        if !(1..=NAME_BYTES_MAX).contains(&claim.worker.len()) {
            return Err(wrong().field("worker", format!("1 to {NAME_BYTES_MAX} bytes")));
        }
        if claim.guilds.len() > self.guilds_max {
            return Err(wrong().field("guilds", format!("at most {}", self.guilds_max)));
        }
        let (shard, now_ms) = (claim.shard.0, self.fanout.elapsed_ms());
        let holder = self.log.holder(shard);
        let wait_ms = match holder {
            Some(holder) if holder.worker == claim.worker => None,
            Some(holder) if holder.of == claim.shard.1 => {
                self.with_fights(|fights| fights.wait_ms(shard, now_ms))
            }
            // Whoever counts the shards otherwise takes all of them.
            _ => self.with_fights(|fights| fights.wait_any_ms(now_ms)),
        };
        if let Some(wait_ms) = wait_ms {
            let detail = "two workers take this shard from one another: one of them must stop";
            return Err(Refusal::new(Code::RateLimited, detail).retry_after_ms(wait_ms));
        }
        let (worker, guilds) = (claim.worker.clone(), claim.guilds.len());
        let claimed = self.log.claim(id, claim).await.map_err(|why| match why {
            NotTaken::Conflict(conflict) => conflicting(conflict),
            NotTaken::Unavailable => unavailable(),
        })?;
        tracing::info!(
            shard,
            worker,
            guilds,
            generation = claimed.generation,
            "a worker has the shard"
        );
        Ok(Json(claimed).into_response())
    }

    async fn identify(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        let id = self.verify(headers, body)?;
        let notice: IdentifyNotice = read(body, IDENTIFY_TYPE, |notice: &IdentifyNotice| {
            &notice.r#type
        })?;
        check_shard(notice.shard)?;
        let noted = self.log.identify(id, notice).await;
        let identifies = noted.map_err(|why| match why {
            NotTaken::Conflict(conflict) => conflicting(conflict),
            NotTaken::Unavailable => unavailable(),
        })?;
        Ok(Json(IdentifyNoted { identifies }).into_response())
    }

    fn not_taken(&self, why: NotTaken, link: &Link) -> Refusal {
        let NotTaken::Conflict(conflict) = why else {
            return unavailable();
        };
        if conflict == Conflict::Fenced {
            let (shard, now_ms) = (link.shard.0, self.fanout.elapsed_ms());
            if self.with_fights(|fights| fights.fenced(shard, link.generation, now_ms)) {
                tracing::error!(
                    shard,
                    "ALARM: two workers fight for this shard; the one that has it keeps it for now"
                );
            }
        }
        conflicting(conflict)
    }

    fn with_fights<T>(&self, with: impl FnOnce(&mut Fights) -> T) -> T {
        // A panic while it was held leaves whole entries behind.
        with(&mut self.fights.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The id of what is truly signed.
    fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<String, Refusal> {
        let signed = Signed {
            id: only(headers, ID_HEADER),
            timestamp: only(headers, TIMESTAMP_HEADER),
            signature: only(headers, SIGNATURE_HEADER),
        };
        self.keys
            .verify(signed, body, launch::clock::now_ms() / 1000)
            .map_err(|refused| match refused {
                Refused::BadSignature => Refusal::new(Code::BadSignature, "not truly signed"),
                Refused::StaleTimestamp => Refusal::new(
                    Code::StaleTimestamp,
                    "sign it again, with this moment's timestamp",
                ),
            })?;
        Ok(signed.id.unwrap_or_default().to_owned())
    }
}

fn unavailable() -> Refusal {
    Refusal::new(Code::Unavailable, "nothing can be stored right now")
        .retry_after_ms(UNAVAILABLE_RETRY_MS)
}

fn conflicting(conflict: Conflict) -> Refusal {
    let detail = match conflict {
        Conflict::Fenced => "a newer worker has this shard",
        Conflict::Unclaimed => "this store is older than the claim: claim anew",
        Conflict::Gap { .. } => "something before this is missing here: tell every guild anew",
    };
    let mut refusal = Refusal::new(Code::Conflict, detail);
    refusal.conflict = Some(conflict);
    refusal
}

fn check_shard((shard, count): (u32, u32)) -> Result<(), Refusal> {
    if shard < count {
        return Ok(());
    }
    Err(Refusal::new(Code::BadRequest, "no such shard").field("shard", "[shard, number of shards]"))
}

/// Reads a signed body of this type.
fn read<T: DeserializeOwned>(
    body: &[u8],
    named: &str,
    name: impl Fn(&T) -> &String,
) -> Result<T, Refusal> {
    Some(body)
        .filter(|body| is_object(body))
        .and_then(|body| serde_json::from_slice(body).ok())
        .filter(|read| name(read) == named)
        .ok_or_else(|| Refusal::new(Code::BadRequest, format!("not a body of type `{named}`")))
}

/// An array can be read as the fields of an object in their order; that is nobody's form.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// A header's value if it stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The id of an event that can not be read otherwise; empty when not even that can.
fn id_of(raw: &str) -> String {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    serde_json::from_str::<Named>(raw)
        .ok()
        .filter(|named| named.id.len() <= EVENT_ID_BYTES_MAX)
        .map_or_else(String::new, |named| named.id)
}
