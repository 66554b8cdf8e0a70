//! REST, v10: the route of a request, and what all routes share.

pub(crate) mod audit;
mod callbacks;
mod channels;
pub(crate) mod commands;
pub(crate) mod errors;
pub(crate) mod faults;
mod form;
mod guilds;
pub(crate) mod invites;
mod itself;
mod limits;
mod routes;

use std::collections::BTreeMap;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::Sim;
use crate::settings::Settings;
use crate::snowflake::{Id, hash_of};
use errors::{Problem, Reply, json_response};
use faults::{Cut, Drop, Fault, Faults};
use limits::{LimitState, Limits, Scope, too_many};
use routes::{Caller, ROUTES, Route};

/// What REST keeps about its requests.
pub(crate) struct RestState {
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) faults: Faults,
    pub(crate) audit: audit::AuditLog,
    pub(crate) commands: commands::Commands,
    pub(crate) invites: invites::Invites,
    limits: Limits,
}

impl RestState {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            counts: BTreeMap::new(),
            faults: Faults::default(),
            audit: audit::AuditLog::new(
                usize::try_from(settings.sim_records_max).unwrap_or(usize::MAX),
            ),
            commands: commands::Commands::default(),
            invites: invites::Invites::default(),
            limits: Limits::default(),
        }
    }
}

/// A request of a known route.
pub(crate) struct Call {
    /// Its path below the version.
    path: String,
    /// The ids of its path, in order.
    ids: Vec<Id>,
    /// The free segments of its path, in order.
    words: Vec<String>,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    pub(crate) now_ms: u64,
}

impl Call {
    /// The `index`th id of the path.
    fn id(&self, index: usize) -> Result<Id, Problem> {
        // The route has as many as its handler reads.
        self.ids
            .get(index)
            .copied()
            .ok_or_else(|| Problem::plain(StatusCode::INTERNAL_SERVER_ERROR))
    }

    fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    fn asks(&self, key: &str) -> bool {
        self.query
            .split('&')
            .any(|pair| matches!(pair.split_once('='), Some((name, "true" | "1" | "True")) if name == key))
    }

    /// The parameters of the query, decoded; of a repeated one the last counts.
    fn parameters(&self) -> Map<String, Value> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        self.query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), Value::String(decoded(value))))
            .collect()
    }

    /// The body, as JSON.
    fn json(&self) -> Result<Value, Problem> {
        let json = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value
                    .split(';')
                    .next()
                    .is_some_and(|kind| kind.trim() == "application/json")
            });
        if !json {
            let mut errors = Map::new();
            let inner = errors::field_error(
                "CONTENT_TYPE_INVALID",
                "Expected \"Content-Type\" header to be one of {'application/json'}.",
            );
            if let Some(list) = inner.get("_errors") {
                errors.insert("_errors".to_owned(), list.clone());
            }
            return Err(Problem::invalid_form(errors));
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| Problem::bad(50109, "The request body contains invalid JSON."))
    }

    /// The body, as a JSON object.
    fn object(&self) -> Result<Map<String, Value>, Problem> {
        match self.json()? {
            Value::Object(fields) => Ok(fields),
            _ => {
                let mut errors = Map::new();
                errors.insert(
                    "_errors".to_owned(),
                    serde_json::json!([{"code": "DICT_TYPE_CONVERT",
                        "message": "Only dictionaries may be used in a DictType"}]),
                );
                Err(Problem::invalid_form(errors))
            }
        }
    }
}

/// Answers one request below `/api`.
pub(crate) async fn answer(sim: Sim, request: Request) -> Response {
    let mut response = attend(&sim, request).await;
    // Discord's proxy adds it to each answer. Libraries take an answer without it for a ban at the
    // edge.
    response
        .headers_mut()
        .insert(header::VIA, HeaderValue::from_static("1.1 google"));
    response
}

async fn attend(sim: &Sim, request: Request) -> Response {
    let now_ms = sim.now_ms();
    let whole = request.uri().path().to_owned();
    let Some(path) = versioned(&whole) else {
        return Problem::bad(50041, "Invalid API version").into_response();
    };
    let method = request.method().clone();
    let Some(route) = ROUTES
        .iter()
        .find(|route| route.method == method && route.matches(path))
    else {
        let known = ROUTES.iter().any(|route| route.matches(path));
        let status = if known {
            StatusCode::METHOD_NOT_ALLOWED
        } else {
            StatusCode::NOT_FOUND
        };
        return Problem::plain(status).into_response();
    };
    let fault = {
        let mut books = sim.rest();
        *books.counts.entry(route.name()).or_default() += 1;
        books.faults.meet(method.as_str(), path)
    };
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.delay()).await;
        if fault.drop == Some(Drop::Before) {
            return cut();
        }
        if let Some(answer) = scripted(fault, route, sim.now_ms()) {
            return answer;
        }
    }
    let response = serve(sim, route, path, request, now_ms).await;
    let Some(fault) = fault else {
        return response;
    };
    tokio::time::sleep(fault.answer_delay()).await;
    if fault.drop == Some(Drop::After) {
        cut()
    } else {
        response
    }
}

async fn serve(sim: &Sim, route: &Route, path: &str, request: Request, now_ms: u64) -> Response {
    let (parts, body) = request.into_parts();
    if route.caller == Caller::Bot && !is_bot(sim, &parts.headers) {
        return Problem::plain(StatusCode::UNAUTHORIZED).into_response();
    }
    let settings = sim.settings();
    let limit_state = {
        let mut books = sim.rest();
        if route.caller != Caller::Interaction
            && let Err(wait_ms) = books.limits.take_global(settings.sim_global_per_s, now_ms)
        {
            return too_many(wait_ms, Scope::Global, 0);
        }
        books.limits.take(
            &bucket_of(&route.name()),
            resource_of(path),
            settings.sim_route_requests,
            settings.sim_route_window_ms,
            now_ms,
        )
    };
    let mut response = if limit_state.exceeded {
        too_many(limit_state.ends_ms.saturating_sub(now_ms), Scope::User, 0)
    } else {
        let most = usize::try_from(settings.sim_body_bytes_max).unwrap_or(usize::MAX);
        match to_bytes(body, most).await {
            Ok(body) => {
                let query = parts.uri.query().unwrap_or_default().to_owned();
                finish(sim, route, path, query, parts.headers, body, now_ms)
            }
            Err(_) => Problem::plain(StatusCode::PAYLOAD_TOO_LARGE).into_response(),
        }
    };
    limit_state.write(&mut response, now_ms);
    response
}

fn finish(
    sim: &Sim,
    route: &Route,
    path: &str,
    query: String,
    headers: HeaderMap,
    body: Bytes,
    now_ms: u64,
) -> Response {
    let served = route.values(path).and_then(|(ids, words)| {
        (route.serve)(
            sim,
            &Call {
                path: path.to_owned(),
                ids,
                words,
                query,
                headers,
                body,
                now_ms,
            },
        )
    });
    match served {
        Ok(Reply {
            status,
            body: Some(body),
        }) => json_response(status, &body),
        Ok(Reply { status, body: None }) => {
            let mut response = Response::default();
            *response.status_mut() = status;
            response
        }
        Err(Problem {
            wait_ms: Some(wait_ms),
            code,
            ..
        }) => too_many(wait_ms, Scope::Shared, code),
        Err(problem) => problem.into_response(),
    }
}

/// The path below the version; without a version it is v10's.
fn versioned(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/api")?;
    match rest.strip_prefix("/v") {
        Some(version) if version.starts_with(|first: char| first.is_ascii_digit()) => {
            let below = version.strip_prefix("10")?;
            (below.is_empty() || below.starts_with('/')).then_some(below)
        }
        _ => Some(rest),
    }
}

fn is_bot(sim: &Sim, headers: &HeaderMap) -> bool {
    headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bot "))
        .is_some_and(|token| sim.world().gateway.accepts(token))
}

/// A bucket's name: it depends on the route alone.
fn bucket_of(name: &str) -> String {
    let bytes: Vec<u64> = name.bytes().map(u64::from).collect();
    hash_of(&bytes)
}

/// The top-level resource of a path: the guild, the channel, the interaction, or the webhook with
/// its token.
fn resource_of(path: &str) -> &str {
    let below = path.trim_start_matches('/');
    let segments = match below.split('/').next() {
        Some("guilds" | "channels" | "interactions") => 2,
        Some("webhooks") => 3,
        _ => return "",
    };
    let ends = below
        .match_indices('/')
        .nth(segments - 1)
        .map_or(below.len(), |(at, _)| at);
    &below[..ends]
}

fn scripted(fault: &Fault, route: &Route, now_ms: u64) -> Option<Response> {
    let status = StatusCode::from_u16(fault.status?).ok()?;
    if let Some(body) = &fault.body {
        let mut response = Response::new(Body::from(body.clone()));
        *response.status_mut() = status;
        // Its form was checked.
        if let Ok(kind) = HeaderValue::from_str(&fault.content_type) {
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        return Some(response);
    }
    if let Some(code) = fault.code {
        let body = serde_json::json!({"message": "a scripted fault", "code": code});
        return Some(json_response(status, &body));
    }
    Some(match status {
        StatusCode::TOO_MANY_REQUESTS => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked to be 0 to 86,400 seconds"
            )]
            let wait_ms = (fault.retry_after.unwrap_or(0.5) * 1_000.0) as u64;
            let limit_state = LimitState {
                limit: 1,
                remaining: 0,
                ends_ms: now_ms.saturating_add(wait_ms),
                bucket: bucket_of(&route.name()),
                exceeded: true,
            };
            let mut response = too_many(wait_ms, Scope::User, 0);
            limit_state.write(&mut response, now_ms);
            response
        }
        StatusCode::FORBIDDEN => Problem::missing_permissions().into_response(),
        other => Problem::plain(other).into_response(),
    })
}

fn cut() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(Cut);
    response
}
