//! Parses the bodies of signed requests and checks their values. Pure: the state is given.

use std::collections::BTreeSet;

use proto::GuildId;
use proto::chain::{
    CLAIM_TYPE, Claim, GatewaySession, IDENTIFY_TYPE, IdentifyNotice, NAME_BYTES_MAX, Reached,
};
use proto::delivery::{DELIVERY_TYPE, ReceivedDelivery, RefusedEvent, Report};
use proto::event::{EVENT_ID_BYTES_MAX, Event};
use proto::problem::Code;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ApiError;

/// How far the number of a gateway session may be ahead of every number that is known. Sessions are
/// numbered by the time of day in ms where nothing higher is known, so this is 34 years. A wrong
/// clock does not reach it, and an accepted number leaves room for later ones.
const SESSIONS_AHEAD_MAX: u64 = 1 << 40;
/// The highest sequence of a session: every reader of JSON knows it exactly (RFC 8259, section 6).
const SEQUENCE_MAX: u64 = (1 << 53) - 1;

/// The bounds of one body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Events of a delivery.
    pub(super) events_max: usize,
    /// Guilds of a claim, and absent ones of a delivery.
    pub(super) guilds_max: usize,
}

/// A delivery.
pub(super) struct Delivered {
    /// The worker's report. Manual events have none.
    pub(super) report: Option<Report>,
    /// The readable events.
    pub(super) events: Vec<Event>,
    /// The unreadable events.
    pub(super) refused: Vec<RefusedEvent>,
}

/// Parses a delivery. `newest` is the highest known number of a session or a generation, or the time
/// of day in ms since the Unix epoch if that is higher.
pub(super) fn delivery(
    body: &[u8],
    bounds: Bounds,
    newest: impl FnOnce() -> u64,
) -> Result<Delivered, ApiError> {
    let delivery: ReceivedDelivery = Some(body)
        .filter(|body| is_object(body))
        .and_then(|body| serde_json::from_slice(body).ok())
        .ok_or_else(|| ApiError::new(Code::BadRequest, "The body is not a delivery in JSON."))?;
    if delivery.r#type.is_some_and(|named| named != DELIVERY_TYPE) {
        return Err(
            ApiError::new(Code::BadRequest, "The body is not a delivery of events.")
                .field("type", "must be `events` or absent"),
        );
    }
    delivery.shard.map_or(Ok(()), shard)?;
    if delivery.events.len() > bounds.events_max {
        return Err(ApiError::new(
            Code::TooLarge,
            format!("A delivery has at most {} events.", bounds.events_max),
        ));
    }
    let report = delivery.shard.map(|_| report(body, bounds)).transpose()?;
    let (events, refused) = events(&delivery.events, report.is_some());
    if let Some(report) = &report {
        let session_max = newest().saturating_add(SESSIONS_AHEAD_MAX);
        let marks = events.iter().filter_map(|event| event.at);
        let marks = marks.map(|mark| ("at", mark.reached));
        let lost = Reached {
            session: report.link.lost,
            sequence: 0,
        };
        for (field, reached) in marks.chain([("to", report.link.to), ("lost", lost)]) {
            check_reached(reached, session_max).map_err(|why| wrong().field(field, why))?;
        }
    }
    Ok(Delivered {
        report,
        events,
        refused,
    })
}

/// Numbers of sessions only rise. One bad body must not raise them beyond every later number.
fn check_reached(reached: Reached, session_max: u64) -> Result<(), String> {
    if reached.session > session_max {
        return Err(format!("a session of at most {session_max}"));
    }
    if reached.sequence > SEQUENCE_MAX {
        return Err(format!("a sequence of at most {SEQUENCE_MAX}"));
    }
    Ok(())
}

/// Parses events one by one: an unreadable one does not fail those of other guilds.
///
/// A worker's events of one guild are refused together. They build on one another: a guild of which
/// only a part was stored would be restored wrong, and its marks would drop the rest as repeats.
fn events(raw: &[&RawValue], from_worker: bool) -> (Vec<Event>, Vec<RefusedEvent>) {
    let (mut events, mut refused) = (Vec::with_capacity(raw.len()), Vec::new());
    // A repeat of a worker's event is recognised by its mark.
    let is_complete = |event: &Event| {
        (1..=EVENT_ID_BYTES_MAX).contains(&event.id.len()) && (!from_worker || event.at.is_some())
    };
    let mut guilds = BTreeSet::new();
    for raw in raw {
        let event = serde_json::from_str::<Event>(raw.get())
            .ok()
            .filter(|_| is_object(raw.get().as_bytes()));
        match event {
            Some(event) if is_complete(&event) => events.push(event),
            _ => {
                let (event, named) = unreadable(raw.get());
                refused.push(event);
                guilds.insert(named);
            }
        }
    }
    if from_worker {
        let is_readable = |event: &Event| {
            !guilds.contains(&None) && !guilds.contains(&Some(event.fact.guild_id()))
        };
        let (readable, others) = events.into_iter().partition(is_readable);
        events = readable;
        refused.extend(others.into_iter().map(|event: Event| RefusedEvent {
            id: event.id,
            code: Code::BadRequest,
        }));
    }
    (events, refused)
}

/// Parses the worker's report.
fn report(body: &[u8], bounds: Bounds) -> Result<Report, ApiError> {
    let report: Report =
        serde_json::from_slice(body).map_err(|error| wrong().field("shard", error.to_string()))?;
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
    let is_named = |session: &GatewaySession| {
        is_name(&session.id) && session.resume_url.as_deref().is_none_or(is_name)
    };
    if !session.is_none_or(is_named) || !is_name(&link.fingerprint) {
        return Err(wrong().field(
            "session",
            format!("names of at most {NAME_BYTES_MAX} bytes"),
        ));
    }
    if link.absent.len() > bounds.guilds_max {
        return Err(wrong().field("absent", format!("at most {} guilds", bounds.guilds_max)));
    }
    Ok(report)
}

/// Parses a claim.
pub(super) fn claim(body: &[u8], bounds: Bounds) -> Result<Claim, ApiError> {
    let claim: Claim = read(body, CLAIM_TYPE, |claim: &Claim| &claim.r#type)?;
    shard(claim.shard)?;
    let wrong = || ApiError::new(Code::BadRequest, "The body is not a worker's claim.");
    if !(1..=NAME_BYTES_MAX).contains(&claim.worker.len()) {
        return Err(wrong().field("worker", format!("1 to {NAME_BYTES_MAX} bytes")));
    }
    if claim.guilds.len() > bounds.guilds_max {
        return Err(wrong().field("guilds", format!("at most {}", bounds.guilds_max)));
    }
    Ok(claim)
}

/// Parses an identify notice.
pub(super) fn identify_notice(body: &[u8]) -> Result<IdentifyNotice, ApiError> {
    let notice: IdentifyNotice = read(body, IDENTIFY_TYPE, |notice: &IdentifyNotice| {
        &notice.r#type
    })?;
    shard(notice.shard)?;
    Ok(notice)
}

fn wrong() -> ApiError {
    ApiError::new(Code::BadRequest, "The body is not a worker's delivery.")
}

fn shard((shard, count): (u32, u32)) -> Result<(), ApiError> {
    if shard < count {
        return Ok(());
    }
    Err(ApiError::new(Code::BadRequest, "The shard does not exist.")
        .field("shard", "[shard, number of shards]"))
}

/// Parses a signed body of this type.
fn read<T: DeserializeOwned>(
    body: &[u8],
    named: &str,
    name: impl Fn(&T) -> &String,
) -> Result<T, ApiError> {
    Some(body)
        .filter(|body| is_object(body))
        .and_then(|body| serde_json::from_slice(body).ok())
        .filter(|read| name(read) == named)
        .ok_or_else(|| {
            ApiError::new(
                Code::BadRequest,
                format!("The body is not of the type `{named}`."),
            )
        })
}

/// serde reads an array as the fields of an object in their order. That is no documented form.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// An event that cannot be read: its id, empty if that cannot be read either, and its guild if its
/// payload names one.
fn unreadable(raw: &str) -> (RefusedEvent, Option<GuildId>) {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(default)]
        id: Value,
        #[serde(default)]
        payload: Value,
    }
    let outline = serde_json::from_str::<Outline>(raw).ok();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let id = text(outline.as_ref().map(|outline| &outline.id));
    let guild = outline.and_then(|outline| text(outline.payload.get("guildId")));
    let event = RefusedEvent {
        id: id
            .filter(|id| id.len() <= EVENT_ID_BYTES_MAX)
            .unwrap_or_default(),
        code: Code::BadRequest,
    };
    (event, guild.and_then(|guild| guild.parse().ok()))
}
