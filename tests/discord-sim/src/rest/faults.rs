//! Scripted faults: what REST is to do to the next requests of a route.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use super::routes::ROUTES;

/// Marks a response that is never sent: the connection is cut instead.
#[derive(Clone, Copy)]
pub(crate) struct Cut;

/// One scripted fault.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Fault {
    /// `METHOD /path` below `/api/v10`, where `*` stands for one segment.
    #[serde(rename = "match")]
    pattern: String,
    /// The status to answer with, instead of doing anything.
    #[serde(default)]
    pub(crate) status: Option<u16>,
    /// The JSON error code of that answer; without it the one that Discord usually gives.
    #[serde(default)]
    pub(crate) code: Option<u32>,
    /// That answer's body, which is not Discord's JSON: a page of a proxy.
    #[serde(default)]
    pub(crate) body: Option<String>,
    /// What the body is called.
    #[serde(default = "html")]
    pub(crate) content_type: String,
    /// For how many requests.
    #[serde(default = "once")]
    times: u32,
    /// Seconds in the answer's `retry_after`.
    #[serde(default)]
    pub(crate) retry_after: Option<f64>,
    /// Milliseconds before anything happens.
    #[serde(default)]
    delay_ms: u64,
    /// Milliseconds between the deed and its answer: it is done, and the answer comes late.
    #[serde(default)]
    answer_delay_ms: u64,
    /// Whether the connection is cut instead of an answer.
    #[serde(default)]
    pub(crate) drop: Option<Drop>,
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Drop {
    /// Before anything was done.
    Before,
    /// After it was done; only the answer is lost.
    After,
}

fn once() -> u32 {
    1
}

fn html() -> String {
    "text/html".to_owned()
}

impl Fault {
    /// What is wrong with it, if anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (method, path) = self.pattern.split_once(' ').ok_or("match: METHOD /path")?;
        if method.parse::<http::Method>().is_err() || !path.starts_with('/') {
            return Err("match: METHOD /path".to_owned());
        }
        if !ROUTES.iter().any(|route| route.may_match(method, path)) {
            let known: Vec<String> = super::routes::routes().collect();
            return Err(format!(
                "match: no route is {:?}. The routes: {}",
                self.pattern,
                known.join(", ")
            ));
        }
        if self.times == 0 {
            return Err("times: at least 1".to_owned());
        }
        let lowest = if self.body.is_some() { 200 } else { 400 };
        if self
            .status
            .is_some_and(|status| !(lowest..=599).contains(&status))
        {
            return Err("status: 400 to 599, or with a body from 200".to_owned());
        }
        if self.status.is_none() && (self.code.is_some() || self.body.is_some()) {
            return Err("code and body: only with a status".to_owned());
        }
        if self.code.is_some() && self.body.is_some() {
            return Err("code or body, not both".to_owned());
        }
        if http::HeaderValue::from_str(&self.content_type).is_err() {
            return Err("contentType: a header's value".to_owned());
        }
        if self.status.is_some() && self.drop.is_some() {
            return Err("status or drop, not both".to_owned());
        }
        if self.status.is_none()
            && self.drop.is_none()
            && self.delay_ms == 0
            && self.answer_delay_ms == 0
        {
            return Err("one of status, delayMs, answerDelayMs, drop".to_owned());
        }
        if self
            .retry_after
            .is_some_and(|seconds| !(0.0..=86_400.0).contains(&seconds))
        {
            return Err("retryAfter: 0 to 86400 seconds".to_owned());
        }
        if self.delay_ms > 600_000 || self.answer_delay_ms > 600_000 {
            return Err("delayMs and answerDelayMs: at most 600000".to_owned());
        }
        if self.answer_delay_ms > 0 && (self.status.is_some() || self.drop == Some(Drop::Before)) {
            return Err(
                "answerDelayMs: not with a status or drop before, which do nothing".to_owned(),
            );
        }
        Ok(())
    }

    /// How long to wait first.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms)
    }

    /// How long the answer is held back once the deed is done.
    pub(crate) fn answer_delay(&self) -> Duration {
        Duration::from_millis(self.answer_delay_ms)
    }

    fn hits(&self, method: &str, path: &str) -> bool {
        let Some((wanted, pattern)) = self.pattern.split_once(' ') else {
            return false;
        };
        wanted.eq_ignore_ascii_case(method)
            && pattern.split('/').count() == path.split('/').count()
            && pattern
                .split('/')
                .zip(path.split('/'))
                .all(|(pattern, segment)| pattern == "*" || pattern == segment)
    }
}

/// The faults that wait for their request, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    waiting: VecDeque<Fault>,
}

impl Faults {
    /// Adds one; refused when there are `most` already.
    pub(crate) fn add(&mut self, fault: Fault, most: usize) -> Result<(), String> {
        fault.check()?;
        if self.waiting.len() >= most {
            return Err("too many faults wait (SIM_FAULTS_MAX)".to_owned());
        }
        self.waiting.push_back(fault);
        Ok(())
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The fault that this request meets, used up once.
    pub(crate) fn meet(&mut self, method: &str, path: &str) -> Option<Fault> {
        let place = self
            .waiting
            .iter()
            .position(|fault| fault.hits(method, path))?;
        let fault = self.waiting.get_mut(place)?;
        fault.times -= 1;
        let met = fault.clone();
        if met.times == 0 {
            self.waiting.remove(place);
        }
        Some(met)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fault(value: serde_json::Value) -> Fault {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn faults_that_make_no_sense_are_refused() {
        for bad in [
            json!({"match": "POST", "status": 500}),
            json!({"match": "POST /x"}),
            json!({"match": "POST /x", "status": 200}),
            json!({"match": "POST /x", "status": 500, "times": 0}),
            json!({"match": "POST /x", "status": 500, "drop": "after"}),
            json!({"match": "POST /x", "status": 429, "retryAfter": -1}),
            json!({"match": "POST /x", "answerDelayMs": 600_001}),
            json!({"match": "POST /x", "answerDelayMs": 1, "status": 500}),
            json!({"match": "POST /x", "answerDelayMs": 1, "drop": "before"}),
        ]
        .into_iter()
        .map(|mut bad| {
            let named = bad["match"]
                .as_str()
                .unwrap()
                .replace("/x", "/guilds/*/channels");
            bad["match"] = named.into();
            bad
        }) {
            assert!(fault(bad.clone()).check().is_err(), "{bad}");
        }
        let mut faults = Faults::default();
        let good = fault(json!({"match": "GET /gateway", "drop": "before"}));
        assert!(faults.add(good.clone(), 1).is_ok());
        assert!(faults.add(good, 1).is_err());
    }

    #[test]
    fn a_match_that_no_route_has_is_refused_and_the_routes_are_named() {
        let check = |pattern: &str| fault(json!({"match": pattern, "status": 500})).check();
        for good in [
            "POST /guilds/*/channels",
            "post /guilds/100000000000000001/channels",
            "GET /guilds/*/voice-states/*",
            "GET /guilds/*/voice-states/@me",
            "POST /interactions/*/*/callback",
            "POST /interactions/*/some-token/callback",
            "GET /*",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "POST /guilds/*/chanels",
            "PUT /guilds/*/channels",
            "POST /guilds/*/channels/",
            "POST /api/v10/guilds/*/channels",
            "GET /guilds/{guild_id}/channels",
            "GET /guilds/**/channels",
            "GET /guilds/lounge/channels",
            "GET /",
            "BREW /gateway",
        ] {
            let why = check(bad).unwrap_err();
            assert!(why.contains(bad), "{why}");
            for route in crate::rest::routes::routes() {
                assert!(why.contains(&route), "{why}");
            }
        }
    }
}
