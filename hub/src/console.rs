//! The console: a page that shows the rooms, embedded into the hub, with its configuration. `sdk.js`
//! is the SDK as one module, for pages of other origins without a bundler.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use proto::GuildId;
use proto::rest::{ConsoleConfig, SignIn};
use rust_embed::RustEmbed;
use url::Url;

#[derive(RustEmbed)]
#[folder = "../web/console/dist"]
struct Files;

/// The pages, `/console.json`, and their content security policy: it allows `issuer` for tokens (demo)
/// and `images` for pictures.
pub fn router(guild_ids: Vec<GuildId>, issuer: Option<&Url>, images: &Url) -> Router {
    let origin = |url: &Url| url.origin().ascii_serialization();
    let sign_in = issuer.map_or(SignIn::Token, |url| SignIn::Demo {
        issuer_url: origin(url),
    });
    let config = ConsoleConfig { sign_in, guild_ids };
    let policy = format!(
        "default-src 'self'; connect-src 'self' {}; img-src 'self' data: {}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        issuer.map(origin).unwrap_or_default(),
        origin(images),
    );
    let policy =
        HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'self'"));
    Router::new()
        .route(
            "/console.json",
            get(move || async move { ([(header::CACHE_CONTROL, "no-store")], Json(config)) }),
        )
        .fallback(move |method: Method, uri: Uri| async move {
            // An unknown path is 404 for every method.
            if method == Method::GET || method == Method::HEAD {
                file(uri.path(), policy)
            } else {
                StatusCode::NOT_FOUND.into_response()
            }
        })
}

fn file(path: &str, policy: HeaderValue) -> Response {
    let path = match path.trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let Some(file) = Files::get(path) else {
        if path == "index.html" {
            let text = "The console was not built into this hub: run `make console`, then build the hub again.\n";
            return (
                StatusCode::NOT_FOUND,
                [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
                text,
            )
                .into_response();
        }
        return StatusCode::NOT_FOUND.into_response();
    };
    // The bundler names these files by their content, so they never change.
    let cache = if path.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = file.data.into_response();
    let headers = response.headers_mut();
    if let Ok(media_type) = HeaderValue::from_str(file.metadata.mimetype()) {
        headers.insert(header::CONTENT_TYPE, media_type);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    response
}
