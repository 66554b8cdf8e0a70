//! Both ends of the wire read the same fixtures: these tests, and those of the TypeScript SDK.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use proto::chain::{Claim, Claimed, IdentifyNoted, IdentifyNotice};
use proto::close::{Advice, advice};
use proto::delivery::{Delivery, ReceivedDelivery, Report};
use proto::event::Event;
use proto::frame::{ClientFrame, ServerFrame};
use proto::problem::Problem;
use proto::signing::SigningKeys;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn fixture<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Reads, writes and compares: nothing is lost on the way, nothing added.
fn same_both_ways<T: DeserializeOwned + serde::Serialize>(value: &Value) {
    let read: T =
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"));
    assert_eq!(&serde_json::to_value(&read).unwrap(), value);
}

#[derive(serde::Deserialize)]
struct Named {
    frame: Value,
}

#[test]
fn server_frames_are_the_same_both_ways() {
    let frames: Vec<Named> = fixture("server-frames");
    assert!(frames.len() > 20);
    for Named { frame } in frames {
        same_both_ways::<ServerFrame>(&frame);
    }
}

#[test]
fn client_frames_are_the_same_both_ways_and_bad_ones_are_refused() {
    #[derive(serde::Deserialize)]
    struct Frames {
        good: Vec<Named>,
        bad: Vec<String>,
    }
    let frames: Frames = fixture("client-frames");
    for Named { frame } in frames.good {
        same_both_ways::<ClientFrame>(&frame);
    }
    for text in frames.bad {
        assert!(
            serde_json::from_str::<ClientFrame>(&text).is_err(),
            "{text}"
        );
    }
}

#[test]
fn unknown_fields_of_a_client_frame_are_ignored() {
    let frame: ClientFrame =
        serde_json::from_str(r#"{"type":"ping","id":"x","later":true}"#).unwrap();
    assert_eq!(frame, ClientFrame::Ping);
}

#[test]
fn every_close_code_has_its_advice() {
    #[derive(serde::Deserialize)]
    struct Row {
        code: u16,
        advice: Advice,
    }
    let table: Vec<Row> = fixture("close-codes");
    for row in &table {
        assert_eq!(advice(row.code), row.advice, "{}", row.code);
    }
    for known in proto::close::CloseCode::ALL {
        assert!(
            table.iter().any(|row| row.code == known.code()),
            "{known:?} is not in the fixture"
        );
    }
}

#[test]
fn problems_are_the_same_both_ways() {
    for problem in fixture::<Vec<Value>>("problems") {
        same_both_ways::<Problem>(&problem);
        let read: Problem = serde_json::from_value(problem).unwrap();
        assert_eq!(read.status, read.code.status());
        assert_eq!(
            read,
            Problem {
                detail: read.detail.clone(),
                errors: read.errors.clone(),
                retry_after_ms: read.retry_after_ms,
                conflict: read.conflict,
                ..Problem::new(read.code, "", read.request_id.clone())
            }
        );
    }
}

#[test]
fn deliveries_are_read_and_written_the_same() {
    #[derive(serde::Deserialize)]
    struct Body {
        name: String,
        body: String,
    }
    for Body { name, body } in fixture::<Vec<Body>>("deliveries") {
        let read: ReceivedDelivery<'_> =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
        let events: Vec<Event> = read
            .events
            .iter()
            .map(|raw| serde_json::from_str(raw.get()).unwrap())
            .collect();
        if read.shard.is_some() {
            let report: Report =
                serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
            let written = serde_json::to_value(Delivery {
                r#type: "events",
                report,
                events: &events,
            })
            .unwrap();
            assert_eq!(
                written,
                serde_json::from_str::<Value>(&body).unwrap(),
                "{name}"
            );
        }
    }
}

#[test]
fn claims_and_their_answers_are_the_same_both_ways() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Claims {
        claims: Vec<Value>,
        claimed: Vec<Value>,
        identify_notices: Vec<Value>,
        identify_noted: Vec<Value>,
    }
    let fixture: Claims = fixture("claims");
    for value in &fixture.claims {
        same_both_ways::<Claim>(value);
    }
    for value in &fixture.claimed {
        same_both_ways::<Claimed>(value);
    }
    for value in &fixture.identify_notices {
        same_both_ways::<IdentifyNotice>(value);
    }
    for value in &fixture.identify_noted {
        same_both_ways::<IdentifyNoted>(value);
    }
}

#[test]
fn signatures_are_those_of_any_standard_webhooks_library() {
    #[derive(serde::Deserialize)]
    struct Vector {
        secret: String,
        id: String,
        timestamp: String,
        body: String,
        signature: String,
    }
    for vector in fixture::<Vec<Vector>>("signatures") {
        let keys = SigningKeys::parse(&vector.secret).unwrap();
        let timestamp = vector.timestamp.parse().unwrap();
        assert_eq!(
            keys.sign(&vector.id, timestamp, vector.body.as_bytes()),
            vector.signature
        );
    }
}
