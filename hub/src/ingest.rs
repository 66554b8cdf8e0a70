//! The worker's door: signed deliveries into the log.
//!
//! The signature is verified over the raw bytes before anything of them is read.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use proto::delivery::{DELIVERY_TYPE, Receipt, ReceivedDelivery, RefusedEvent};
use proto::event::{EVENT_ID_BYTES_MAX, Event};
use proto::problem::Code;
use proto::signing::{ID_HEADER, Refused, SIGNATURE_HEADER, Signed, SigningKeys, TIMESTAMP_HEADER};
use serde::Deserialize;

use crate::freshness::Freshness;
use crate::log::{Log, Teller};
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
}

impl Ingest {
    /// `POST /api/internal/events`.
    pub fn router(self) -> Router {
        let limit = DefaultBodyLimit::max(self.body_bytes_max);
        Router::new()
            .route("/api/internal/events", post(deliver))
            .layer(limit)
            .with_state(self)
    }
}

async fn deliver(
    State(ingest): State<Ingest>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let now_ms = launch::clock::now_ms();
    let answer = ingest.take(&headers, &body, now_ms);
    let outcome = answer
        .as_ref()
        .map_or_else(|refusal| refusal.code.name(), |_| "ok");
    metrics::counter!("hub_ingest_deliveries_total", "outcome" => outcome).increment(1);
    answer
}

impl Ingest {
    fn take(&self, headers: &HeaderMap, body: &[u8], now_ms: u64) -> Result<Response, Refusal> {
        let signed = Signed {
            id: only(headers, ID_HEADER),
            timestamp: only(headers, TIMESTAMP_HEADER),
            signature: only(headers, SIGNATURE_HEADER),
        };
        self.keys
            .verify(signed, body, now_ms / 1000)
            .map_err(|refused| match refused {
                Refused::BadSignature => Refusal::new(Code::BadSignature, "not truly signed"),
                Refused::StaleTimestamp => Refusal::new(
                    Code::StaleTimestamp,
                    "sign it again, with this moment's timestamp",
                ),
            })?;
        let delivery: ReceivedDelivery = Some(body)
            .filter(|body| is_object(body))
            .and_then(|body| serde_json::from_slice(body).ok())
            .ok_or_else(|| Refusal::new(Code::BadRequest, "not a delivery as JSON"))?;
        if delivery.r#type.is_some_and(|named| named != DELIVERY_TYPE) {
            return Err(Refusal::new(Code::BadRequest, "not a delivery of events")
                .field("type", "must be `events` or absent"));
        }
        if delivery.shard.is_some_and(|(shard, count)| shard >= count) {
            return Err(Refusal::new(Code::BadRequest, "no such shard")
                .field("shard", "[shard, number of shards]"));
        }
        if delivery.events.len() > self.events_max {
            return Err(Refusal::new(
                Code::TooLarge,
                format!("at most {} events a delivery", self.events_max),
            ));
        }
        if delivery
            .store
            .as_ref()
            .is_some_and(|store| store != self.log.store())
        {
            // What these events build on is not here: nothing of them may be shown before a snapshot.
            let mut refusal = Refusal::new(Code::Conflict, "another store: tell every guild anew");
            refusal.store = Some(self.log.store().to_owned());
            return Err(refusal);
        }
        let teller = if delivery.shard.is_some() {
            Teller::Worker
        } else {
            Teller::Hand
        };
        let told = delivery.events.len();
        let (mut events, mut refused) = (Vec::with_capacity(told), Vec::new());
        for raw in delivery.events {
            let event = serde_json::from_str::<Event>(raw.get())
                .ok()
                .filter(|_| is_object(raw.get().as_bytes()));
            match event {
                Some(event) if !event.id.is_empty() && event.id.len() <= EVENT_ID_BYTES_MAX => {
                    events.push(event);
                }
                _ => refused.push(RefusedEvent {
                    id: id_of(raw.get()),
                    code: Code::BadRequest,
                }),
            }
        }
        let mut appended = self.log.append(events, teller, self.fanout.elapsed_ms());
        refused.append(&mut appended.refused);
        metrics::counter!("hub_ingest_events_total", "outcome" => "accepted")
            .increment(appended.accepted);
        metrics::counter!("hub_ingest_events_total", "outcome" => "duplicate")
            .increment(appended.duplicates);
        metrics::counter!("hub_ingest_events_total", "outcome" => "refused")
            .increment(refused.len() as u64);
        if let (Some(shard), Some(report)) = (delivery.shard, &delivery.gateway) {
            let is_known = |guild| self.log.read(guild, |state, _| state.known) == Some(true);
            let changed = self
                .freshness
                .report(shard, report, is_known, self.fanout.elapsed_ms());
            self.fanout.tell_freshness(&self.log, &changed);
        }
        Ok(Json(Receipt {
            accepted: appended.accepted,
            duplicates: appended.duplicates,
            duplicate: appended.accepted == 0 && appended.duplicates > 0,
            refused,
            store: self.log.store().to_owned(),
        })
        .into_response())
    }
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
