//! How the hub says no: one type for every door, written as a problem (RFC 9457).

mod log;

use std::borrow::Cow;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proto::chain::Conflict;
use proto::problem::{Code, FieldProblem, PROBLEM_MEDIA_TYPE, Problem};

pub use log::RefusalLog;

/// The header that names a request in the hub's log; always the hub's own, never the client's.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// What a problem calls wrong when no field of the request is to blame.
const WHOLE_REQUEST: &str = "request";

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the client acts on.
    pub code: Code,
    /// What it is this time.
    pub detail: Cow<'static, str>,
    /// Which fields are wrong.
    pub errors: Vec<FieldProblem>,
    /// How long to wait, where waiting helps.
    pub retry_after_ms: Option<u64>,
    /// Why a delivery does not fit, for the worker.
    pub conflict: Option<Conflict>,
    /// More than the client may know, for the log. No part of a token stands in it.
    pub reason: Option<Box<str>>,
}

impl Refusal {
    /// A refusal of this code.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_ms: None,
            conflict: None,
            reason: None,
        }
    }

    /// Names a field that is wrong.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldProblem {
            field: field.into(),
            detail: detail.into(),
        });
        self
    }

    /// Says how long to wait.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// Says to the log why, and to the client nothing.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<Box<str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    fn problem(self, request_id: &str) -> Problem {
        let mut problem = Problem::new(self.code, self.detail, request_id);
        problem.errors = self.errors;
        if self.code == Code::BadRequest && problem.errors.is_empty() {
            // Whoever shows what is wrong field by field finds it there as well.
            problem.errors.push(FieldProblem {
                field: WHOLE_REQUEST.to_owned(),
                detail: problem.detail.clone(),
            });
        }
        problem.retry_after_ms = self.retry_after_ms;
        problem.conflict = self.conflict;
        problem
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        // `write_refusals` knows the request's id and writes the body.
        response.extensions_mut().insert(self);
        response
    }
}

/// Middleware: names the request, and writes every refusal as a problem, also those that the
/// router or a layer made without one (404, 405, 408, 413, a caught panic).
pub async fn write_refusals(
    State(log): State<RefusalLog>,
    request: Request,
    next: Next,
) -> Response {
    let request_id = format!("{:016x}", rand::Rng::next_u64(&mut rand::rng()));
    let mut response = next.run(request).await;
    let refusal = response.extensions_mut().remove::<Refusal>().or_else(|| {
        bare(
            response.status(),
            response.headers().contains_key(header::CONTENT_TYPE),
        )
    });
    if let Some(refusal) = refusal {
        let retry_after_ms = refusal.retry_after_ms;
        // What a client wrote does not go into the log: a detail of our own words does.
        let reason = match (&refusal.reason, &refusal.detail) {
            (Some(reason), _) => Some(reason.clone()),
            (None, Cow::Borrowed(detail)) => Some((*detail).into()),
            (None, Cow::Owned(_)) => None,
        };
        let status = response.status();
        let problem = refusal.problem(&request_id);
        let problem_code = problem.code;
        if let Some(unlogged) = log.admit() {
            let (code, status) = (problem.code.name(), status.as_u16());
            let reason = reason.as_deref();
            tracing::info!(request_id, code, status, reason, unlogged, "refused");
        }
        let body = serde_json::to_vec(&Problem {
            status: status.as_u16(),
            ..problem
        })
        .unwrap_or_default();
        let mut written =
            (status, [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response();
        if problem_code == Code::Unauthorized {
            written
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(ms) = retry_after_ms {
            written.headers_mut().insert(
                header::RETRY_AFTER,
                HeaderValue::from(ms.div_ceil(1000).max(1)),
            );
        }
        for (name, value) in response.headers() {
            if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
                written.headers_mut().insert(name.clone(), value.clone());
            }
        }
        response = written;
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
}

/// The refusal of a response that says no in a status alone.
fn bare(status: StatusCode, has_type: bool) -> Option<Refusal> {
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => Code::BadRequest,
        StatusCode::REQUEST_TIMEOUT => Code::BadRequest,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::INTERNAL_SERVER_ERROR => Code::Internal,
        _ => return None,
    };
    // A layer's own plain-text body gives way; an answer that some handler typed stays.
    (!has_type || status != StatusCode::NOT_FOUND).then(|| Refusal::new(code, code.title()))
}
