//! The requests of a listener as metrics.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

/// Which metrics count the requests of a listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpMetrics {
    /// The counter of requests, by listener, method, route and status.
    pub requests: &'static str,
    /// The histogram of their duration, by listener, method and route.
    pub seconds: &'static str,
    /// The label `listener`.
    pub listener: &'static str,
}

impl HttpMetrics {
    /// The router with its requests counted. A request counts when the head of its answer is ready;
    /// the answer's body and an upgraded connection are not part of its duration.
    pub fn count(self, router: Router) -> Router {
        router.layer(from_fn_with_state(self, count))
    }
}

async fn count(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let HttpMetrics {
        requests,
        seconds,
        listener,
    } = metrics;
    let method = known(request.method());
    // The route as the program wrote it, `/api/rooms/{channel}`: never the path of the request.
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!(seconds, "listener" => listener, "method" => method, "route" => route.clone())
        .record(began.elapsed());
    metrics::counter!(requests, "listener" => listener, "method" => method, "route" => route, "status" => status)
        .increment(1);
    response
}

/// The method as a label: a client may write any word there.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
