//! Which pages may read the hub's responses: the CORS protocol of the Fetch standard
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::map_response;
use axum::response::Response;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::problem::REQUEST_ID_HEADER;

/// How long a browser may cache the response to a preflight.
const PREFLIGHT_AGE: Duration = Duration::from_secs(600);

/// Lets pages of these origins read every response of these routes, errors and unknown paths
/// included. A page of another origin gets no CORS header.
pub(crate) fn allow(router: Router, origins: &[String]) -> Router {
    router
        .layer(layer(origins))
        .layer(map_response(remove_headers_for_others))
}

fn layer(origins: &[String]) -> CorsLayer {
    let origins = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("x-idempotency-key"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            HeaderName::from_static(REQUEST_ID_HEADER),
        ])
        .max_age(PREFLIGHT_AGE)
}

/// The layer names methods and headers to every page. Without an allowed origin they mean nothing.
async fn remove_headers_for_others(mut response: Response) -> Response {
    let headers = response.headers_mut();
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        for name in [
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            header::ACCESS_CONTROL_MAX_AGE,
        ] {
            headers.remove(name);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_page_of_an_allowed_origin_may_send_an_idempotency_key() {
        let router = allow(Router::new(), &["https://app.example".to_owned()]);
        let preflight = Request::options("/api/create-room")
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .body(Body::empty())
            .unwrap();
        let response = router.oneshot(preflight).await.unwrap();
        let allowed = response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS]
            .to_str()
            .unwrap();
        let mut names: Vec<_> = allowed.split(',').map(str::trim).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "authorization",
                "content-type",
                "idempotency-key",
                "x-idempotency-key"
            ]
        );
    }
}
