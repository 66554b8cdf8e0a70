//! The layers of both listeners: problems, caught panics, CORS, compression.

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate as _, SizeAbove};

use super::cors;
use super::problem::write_problems;
use crate::error::ErrorLog;

/// Smaller responses are not compressed: they fit into one packet.
const COMPRESSED_FROM_BYTES: u64 = 1_024;

/// The layers of the internal listener, outermost last.
pub(crate) fn internal(router: Router, errors: ErrorLog) -> Router {
    catch_panics(router).layer(from_fn_with_state(errors, write_problems))
}

/// The layers of the public listener, outermost last. Pages of these origins can read every
/// response, also the one to a request that panicked.
pub(crate) fn public(router: Router, errors: ErrorLog, origins: &[String]) -> Router {
    // Compression reveals the length of a response to an observer of the connection (BREACH). That
    // is harmless here: no response contains a token or another secret, and no cookies exist.
    let large = SizeAbove::new(COMPRESSED_FROM_BYTES).and(NotForContentType::IMAGES);
    cors::allow(catch_panics(router), origins)
        .layer(from_fn_with_state(errors, write_problems))
        .layer(CompressionLayer::new().compress_when(large))
}

fn catch_panics(router: Router) -> Router {
    router.layer(CatchPanicLayer::custom(|_| {
        metrics::counter!("hub_panics_total").increment(1);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{HeaderValue, Request, header};
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn a_large_answer_is_compressed_for_clients_that_ask_for_it() {
        let text = |length| get(move || async move { "x".repeat(length) });
        let router = Router::new()
            .route("/large", text(5_000))
            .route("/small", text(500));
        let router = public(router, ErrorLog::new(1), &[]);
        for (path, accepted, encoding) in [
            ("/large", "br, gzip", Some("gzip")),
            ("/large", "identity", None),
            ("/small", "gzip", None),
        ] {
            let request = Request::get(path).header(header::ACCEPT_ENCODING, accepted);
            let answer = router.clone().oneshot(request.body(Body::empty()).unwrap());
            let answer = answer.await.unwrap();
            let found = answer.headers().get(header::CONTENT_ENCODING);
            assert_eq!(
                found.map(HeaderValue::as_bytes),
                encoding.map(str::as_bytes)
            );
            let varies = answer.headers().get_all(header::VARY).iter();
            let named = varies.filter(|value| *value == "accept-encoding").count();
            assert_eq!(named, usize::from(path == "/large"), "{path} {accepted}");
        }
    }

    #[tokio::test]
    #[expect(clippy::unreachable, reason = "the route panics")]
    async fn a_page_can_read_that_the_hub_has_a_fault() {
        const ORIGIN: &str = "https://rooms.example.org";
        let broken = Router::new().route("/", get(|| async { unreachable!("a fault") as () }));
        let router = public(broken, ErrorLog::new(1), &[ORIGIN.to_owned()]);
        let request = Request::get("/").header(header::ORIGIN, ORIGIN);
        let answer = router.oneshot(request.body(Body::empty()).unwrap());
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let allowed = &answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN];
        assert_eq!(allowed, ORIGIN);
    }
}
