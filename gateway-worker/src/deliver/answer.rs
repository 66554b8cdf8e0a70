//! What the hub's answer to a delivery means. Pure.

use std::time::Duration;

use proto::delivery::Receipt;
use proto::problem::Code;
use serde::Deserialize;

/// The longest store id that is believed, in bytes.
const STORE_BYTES_MAX: usize = 256;

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken.
    Taken(Receipt),
    /// Not taken: the hub has another store than the one that was built on, namely this.
    OtherStore(String),
    /// Not taken: the signature is good and its time is not.
    Stale,
    /// Not taken, and never will be, with this status.
    Rejected(u16),
    /// Not taken, this time, for this reason; the hub may say how long to wait.
    Retry(&'static str, Option<Duration>),
}

impl Answer {
    /// One of a fixed set, for the counter.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Taken(_) => "taken",
            Self::OtherStore(_) => "other_store",
            Self::Stale => "stale_timestamp",
            Self::Rejected(_) => "rejected",
            Self::Retry(why, _) => why,
        }
    }
}

/// The members of a problem that matter here; the others may be missing.
#[derive(Deserialize)]
struct Refusal {
    code: Option<Code>,
    store: Option<String>,
}

/// Judges an answer by its status and body.
pub(super) fn judge(status: u16, body: &[u8], retry_after: Option<Duration>) -> Answer {
    let refusal: Option<Refusal> = serde_json::from_slice(body).ok();
    let code = refusal.as_ref().and_then(|refusal| refusal.code);
    match status {
        200 => match serde_json::from_slice::<Receipt>(body) {
            Ok(receipt) if is_store(&receipt.store) => Answer::Taken(receipt),
            _ => Answer::Retry("unreadable_receipt", None),
        },
        409 => match refusal
            .and_then(|refusal| refusal.store)
            .filter(|store| is_store(store))
        {
            Some(store) => Answer::OtherStore(store),
            None => Answer::Retry("conflict", retry_after),
        },
        401 if code == Some(Code::StaleTimestamp) => Answer::Stale,
        401 => Answer::Retry("bad_signature", retry_after),
        400 | 413 => Answer::Rejected(status),
        403 | 404 => Answer::Retry("wrong_door", retry_after),
        429 => Answer::Retry("rate_limited", retry_after),
        500..=599 => Answer::Retry("hub_error", retry_after),
        _ => Answer::Retry("unexpected_status", retry_after),
    }
}

fn is_store(store: &str) -> bool {
    !store.is_empty() && store.len() <= STORE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        let receipt = br#"{"accepted":1,"duplicates":0,"refused":[],"store":"s"}"#;
        let stale = br#"{"code":"STALE_TIMESTAMP"}"#;
        let store = br#"{"code":"CONFLICT","store":"t"}"#;
        let second = Some(Duration::from_secs(1));
        for (status, body, label) in [
            (200, &receipt[..], "taken"),
            (200, b"<html>", "unreadable_receipt"),
            (200, b"{\"accepted\":1}", "unreadable_receipt"),
            (409, store, "other_store"),
            (409, b"{}", "conflict"),
            (401, stale, "stale_timestamp"),
            (401, b"{\"code\":\"BAD_SIGNATURE\"}", "bad_signature"),
            (401, b"", "bad_signature"),
            (400, b"", "rejected"),
            (413, b"", "rejected"),
            (403, b"", "wrong_door"),
            (404, b"", "wrong_door"),
            (429, b"", "rate_limited"),
            (503, b"", "hub_error"),
            (301, b"", "unexpected_status"),
            (204, b"", "unexpected_status"),
        ] {
            let answer = judge(status, body, second);
            assert_eq!(answer.label(), label, "{status}");
        }
        assert_eq!(
            judge(429, b"", second),
            Answer::Retry("rate_limited", second)
        );
        assert_eq!(judge(409, store, None), Answer::OtherStore("t".to_owned()));
    }
}
