//! Errors as HTTP responses: problem documents (RFC 9457) and the request id.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proto::problem::{Code, FieldProblem, PROBLEM_MEDIA_TYPE, Problem};

use crate::error::{ApiError, ErrorLog};

/// The response header that names a request in the hub's log. The hub makes the value itself and
/// ignores the client's.
pub(super) const REQUEST_ID_HEADER: &str = "x-request-id";

/// What a problem names as wrong when no field of the request is to blame.
const WHOLE_REQUEST: &str = "request";

impl IntoResponse for ApiError {
    /// A status alone. [`write_problems`] knows the request's id and writes the body.
    fn into_response(self) -> Response {
        let mut response = status_of(self.code).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

fn status_of(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Middleware: gives the request an id, and writes every [`ApiError`] as a problem document. Error
/// statuses of the router or of a layer (404, 405, 408, 413, a caught panic) become problems too.
pub async fn write_problems(State(log): State<ErrorLog>, request: Request, next: Next) -> Response {
    let request_id = format!("{:016x}", rand::Rng::next_u64(&mut rand::rng()));
    let mut response = next.run(request).await;
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = error.or_else(|| error_of_bare_status(&response)) {
        log_error(&log, &error, response.status(), &request_id);
        response = problem_response(error, &request_id, &response);
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    response
}

/// The error of a response that has an error status and no [`ApiError`]. A layer's plain-text body
/// is replaced. A 404 that a handler gave a content type stays.
fn error_of_bare_status(response: &Response) -> Option<ApiError> {
    let status = response.status();
    let code = match status {
        StatusCode::NOT_FOUND => Code::NotFound,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::REQUEST_TIMEOUT => Code::BadRequest,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::INTERNAL_SERVER_ERROR => Code::Internal,
        _ => return None,
    };
    let has_type = response.headers().contains_key(header::CONTENT_TYPE);
    (!has_type || status != StatusCode::NOT_FOUND).then(|| ApiError::new(code, code.title()))
}

fn log_error(log: &ErrorLog, error: &ApiError, status: StatusCode, request_id: &str) {
    if let Some(unlogged) = log.admit() {
        let (code, status) = (error.code.name(), status.as_u16());
        let reason = error.reason_to_log();
        tracing::info!(request_id, code, status, reason, unlogged, "refused");
    }
}

/// The problem document of an error, with the status and the headers of the bare response.
fn problem_response(error: ApiError, request_id: &str, bare: &Response) -> Response {
    let (status, code, retry_after_ms) = (bare.status(), error.code, error.retry_after_ms);
    let body = Problem {
        status: status.as_u16(),
        ..problem(error, request_id)
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_MEDIA_TYPE)], body).into_response();
    let headers = response.headers_mut();
    if code == Code::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(ms) = retry_after_ms {
        let seconds = ms.div_ceil(1000).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in bare.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            headers.insert(name.clone(), value.clone());
        }
    }
    response
}

fn problem(error: ApiError, request_id: &str) -> Problem {
    let mut problem = Problem::new(error.code, error.detail, request_id);
    problem.errors = error.errors;
    if error.code == Code::BadRequest && problem.errors.is_empty() {
        // A client that shows errors field by field shows this one too.
        problem.errors.push(FieldProblem {
            field: WHOLE_REQUEST.to_owned(),
            detail: problem.detail.clone(),
        });
    }
    problem.retry_after_ms = error.retry_after_ms;
    problem.conflict = error.conflict;
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_for_whole_seconds_does_not_come_too_early() {
        for (ms, seconds) in [(0, "1"), (1, "1"), (1_000, "1"), (2_500, "3")] {
            let error = ApiError::new(Code::RateLimited, "too many").retry_after_ms(ms);
            let response = problem_response(error, "id", &Response::default());
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds, "{ms} ms");
        }
    }
}
