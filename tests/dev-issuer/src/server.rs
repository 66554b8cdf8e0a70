//! The HTTP side.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tower_http::cors::CorsLayer;

use crate::DEMO_ORIGINS;
use crate::keys::{Generation, Ring, SigningAlgorithm};
use crate::token::{TokenQuery, TokenRequest};

/// The largest request body, in bytes: room for claims that a test makes too large on purpose.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a browser may remember the answer to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

pub(crate) struct Issuer {
    issuer: String,
    ring: RwLock<Ring>,
}

impl Issuer {
    pub(crate) fn new(issuer: String, ring: Ring) -> Self {
        Self {
            issuer,
            ring: RwLock::new(ring),
        }
    }
}

/// The routes, open to pages of the demo's origins and of `more_origins`.
pub(crate) fn router(issuer: Arc<Issuer>, more_origins: &[String]) -> anyhow::Result<Router> {
    let origins = DEMO_ORIGINS
        .into_iter()
        .chain(more_origins.iter().map(String::as_str))
        .map(|origin| HeaderValue::from_str(origin).context("an origin"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([CONTENT_TYPE])
        .max_age(PREFLIGHT_AGE);
    Ok(Router::new()
        .route("/.well-known/jwks.json", get(key_set))
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/token", post(token).get(token_text))
        .route("/rotate", post(rotate))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(cors)
        .with_state(issuer))
}

async fn key_set(State(issuer): State<Arc<Issuer>>) -> impl IntoResponse {
    let ring = issuer.ring.read().unwrap_or_else(PoisonError::into_inner);
    fresh(ring.key_set())
}

async fn configuration(State(issuer): State<Arc<Issuer>>) -> impl IntoResponse {
    let address = &issuer.issuer;
    fresh(json!({
        "issuer": address,
        "jwks_uri": format!("{address}/.well-known/jwks.json"),
        "token_endpoint": format!("{address}/token"),
        "id_token_signing_alg_values_supported": SigningAlgorithm::ALL.map(SigningAlgorithm::name),
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
    }))
}

async fn token(
    State(issuer): State<Arc<Issuer>>,
    request: Result<Json<TokenRequest>, JsonRejection>,
) -> Response {
    let request = match request {
        Ok(Json(request)) => request,
        Err(why) => return refused(&why),
    };
    let ring = issuer.ring.read().unwrap_or_else(PoisonError::into_inner);
    match request.issue(&issuer.issuer, &ring, launch::clock::now_ms()) {
        Ok(token) => fresh(json!({ "token": token })).into_response(),
        Err(error) => failed(&error),
    }
}

/// The token alone, as text: what a page's `getToken` can return as it is.
async fn token_text(
    State(issuer): State<Arc<Issuer>>,
    query: Result<Query<TokenQuery>, QueryRejection>,
) -> Response {
    let request = match query {
        Ok(Query(query)) => TokenRequest::from(query),
        Err(why) => return problem(StatusCode::BAD_REQUEST, "BAD_REQUEST", &why.body_text()),
    };
    let ring = issuer.ring.read().unwrap_or_else(PoisonError::into_inner);
    match request.issue(&issuer.issuer, &ring, launch::clock::now_ms()) {
        Ok(token) => ([(CACHE_CONTROL, "no-store")], token).into_response(),
        Err(error) => failed(&error),
    }
}

async fn rotate(State(issuer): State<Arc<Issuer>>) -> Response {
    // Made outside the lock: meanwhile the old keys go on to serve.
    let next = match tokio::task::spawn_blocking(Generation::generate).await {
        Ok(Ok(next)) => next,
        Ok(Err(error)) => return failed(&error),
        Err(error) => return failed(&error.into()),
    };
    let rotation = issuer
        .ring
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .rotate(next);
    tracing::info!(
        published = rotation.published.len(),
        removed = rotation.removed.len(),
        "rotated"
    );
    fresh(rotation).into_response()
}

/// An answer that nobody may keep: a cached key set would hide a rotation from a test.
fn fresh<T>(body: T) -> impl IntoResponse
where
    Json<T>: IntoResponse,
{
    ([(CACHE_CONTROL, "no-store")], Json(body))
}

/// What is no token request is 400, as the hub answers what is not of the documented form; too long is 413.
fn refused(why: &JsonRejection) -> Response {
    let (status, code) = match why.status() {
        StatusCode::PAYLOAD_TOO_LARGE => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE"),
        _ => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
    };
    problem(status, code, &why.body_text())
}

fn failed(error: &anyhow::Error) -> Response {
    tracing::error!("{error:#}");
    problem(
        StatusCode::INTERNAL_SERVER_ERROR,
        "INTERNAL",
        "see the issuer's log",
    )
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body: Value = json!({
        "type": format!("urn:roomwire:{}", code.to_lowercase()),
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "code": code,
        "detail": detail,
    });
    (
        status,
        [(CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}
