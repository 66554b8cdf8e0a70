//! What the hub's answer to a delivery means. Pure.

use std::time::Duration;

use proto::chain::Conflict;
use proto::delivery::Receipt;
use proto::problem::Code;

use crate::hub::Problem;
use crate::outbox::FailureReason;

/// What an answer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Taken.
    Taken(Receipt),
    /// Not taken: it does not fit the hub's state.
    Conflict(Conflict),
    /// Not taken: the signature is valid, its timestamp is not.
    Stale,
    /// Not taken, and never will be.
    Rejected(FailureReason),
    /// Not taken for this reason, and worth a retry; the hub may say how long to wait.
    Retry(&'static str, Option<Duration>),
}

impl Answer {
    /// One of a fixed set, for the counter.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Taken(_) => "taken",
            Self::Conflict(Conflict::Fenced) => "fenced",
            Self::Conflict(Conflict::Unclaimed) => "unclaimed",
            Self::Conflict(Conflict::Gap { .. }) => "gap",
            Self::Stale => "stale_timestamp",
            Self::Rejected(FailureReason::Refused) => "malformed",
            Self::Rejected(FailureReason::TooLarge) => "too_large",
            Self::Retry(why, _) => why,
        }
    }
}

/// Judges an answer by its status and body.
pub(super) fn judge(status: u16, body: &[u8], retry_after: Option<Duration>) -> Answer {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let code = problem.as_ref().and_then(|problem| problem.code);
    match status {
        200 => match serde_json::from_slice::<Receipt>(body) {
            Ok(receipt) => Answer::Taken(receipt),
            Err(_) => Answer::Retry("unreadable_receipt", None),
        },
        409 => match problem.and_then(|problem| problem.conflict) {
            Some(conflict) => Answer::Conflict(conflict),
            None => Answer::Retry("conflict", retry_after),
        },
        401 if code == Some(Code::StaleTimestamp) => Answer::Stale,
        401 => Answer::Retry("bad_signature", retry_after),
        400 => Answer::Rejected(FailureReason::Refused),
        413 => Answer::Rejected(FailureReason::TooLarge),
        403 | 404 => Answer::Retry("wrong_door", retry_after),
        429 => Answer::Retry("rate_limited", retry_after),
        500..=599 => Answer::Retry("hub_error", retry_after),
        _ => Answer::Retry("unexpected_status", retry_after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged_by_status_and_code() {
        let receipt = br#"{"accepted":1,"duplicates":0,"refused":[]}"#;
        let stale = br#"{"code":"STALE_TIMESTAMP"}"#;
        let fenced = br#"{"code":"CONFLICT","conflict":{"kind":"fenced"}}"#;
        let gap = br#"{"code":"CONFLICT","conflict":{"kind":"gap","reached":[3,4],"taken":2}}"#;
        let second = Some(Duration::from_secs(1));
        for (status, body, label) in [
            (200, &receipt[..], "taken"),
            (200, b"<html>", "unreadable_receipt"),
            (200, b"{\"accepted\":1}", "unreadable_receipt"),
            (409, fenced, "fenced"),
            (409, br#"{"conflict":{"kind":"unclaimed"}}"#, "unclaimed"),
            (409, gap, "gap"),
            (409, br#"{"conflict":{"kind":"new"}}"#, "conflict"),
            (409, b"{}", "conflict"),
            (401, stale, "stale_timestamp"),
            (401, b"{\"code\":\"BAD_SIGNATURE\"}", "bad_signature"),
            (401, b"", "bad_signature"),
            (400, b"", "malformed"),
            (413, b"", "too_large"),
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
        let reached = (3, 4).into();
        assert_eq!(
            judge(409, gap, None),
            Answer::Conflict(Conflict::Gap { reached, taken: 2 })
        );
    }
}
