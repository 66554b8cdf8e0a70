//! The browsers' endpoint: `GET /api/ws`.

mod answers;
pub mod client_address;
mod connection;
pub mod fanout;
mod frame_encoder;
pub mod frames;
mod framing;
mod guild_fanout;
mod handshake;
mod history;
pub mod limits;
pub mod outbox;
mod progress;
mod recovery;
pub mod registry;
mod replay;
pub mod session;
mod subscriptions;
mod view_group;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use launch::listener::Peer;
use proto::problem::Code;
use tokio_util::task::TaskTracker;

pub use self::connection::Context;

use self::client_address::{Client, client};
use self::handshake::Handshake;
use self::registry::{Full, Registry};
use self::wire::Wire;
use crate::error::ApiError;

/// The endpoint. A clone is a reference.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    context: Context,
    registry: Registry,
    origins: Vec<String>,
    connections: TaskTracker,
    has_warned_unknown: AtomicBool,
}

impl Sockets {
    /// An endpoint for browsers of these origins.
    pub fn new(context: Context, registry: Registry, origins: Vec<String>) -> Self {
        Self(Arc::new(Shared {
            context,
            registry,
            origins,
            connections: TaskTracker::new(),
            has_warned_unknown: AtomicBool::new(false),
        }))
    }

    /// `GET /api/ws`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/api/ws", any(open))
            .with_state(self.clone())
    }

    /// Waits until every connection has ended; call it after `draining` was cancelled.
    pub async fn drained(&self) {
        self.0.connections.close();
        self.0.connections.wait().await;
    }
}

impl Shared {
    /// The client of a request. Logs once if no limit by address applies.
    fn client(&self, request: &Request) -> Client {
        let Some(Peer(peer)) = request.extensions().get().copied() else {
            return Client::Unknown;
        };
        let client = client(
            peer,
            request.headers(),
            &self.context.limits.trusted_proxies,
        );
        if client == Client::Unknown && !self.has_warned_unknown.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "browsers come from a private network, perhaps through a proxy: no limit by address applies. Set TRUSTED_PROXIES to the addresses of your proxies"
            );
        }
        client
    }
}

async fn open(State(sockets): State<Sockets>, mut request: Request) -> Result<Response, ApiError> {
    let shared = &sockets.0;
    // A route for GET would answer HEAD too.
    if request.method() != Method::GET {
        let error = ApiError::new(Code::BadRequest, "Use GET: this endpoint is a WebSocket.");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Ok((status, [(header::ALLOW, "GET")], Extension(error)).into_response());
    }
    // Browsers name their page in `Origin`, and pages cannot forge it. A client that omits it is no
    // browser, and has no ambient credentials: every client needs a token.
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let known = |origin: &str| shared.origins.iter().any(|known| known == origin);
    match (origins.next(), origins.next()) {
        (None, _) => {}
        (Some(origin), None) if origin.to_str().is_ok_and(known) => {}
        _ => return Err(ApiError::new(Code::Forbidden, "not an allowed origin")),
    }
    // URLs are stored in logs and histories.
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(ApiError::new(
            Code::BadRequest,
            "nothing goes into the address; a token goes into the first frame",
        ));
    }
    let handshake = match Handshake::read(&mut request) {
        Ok(handshake) => handshake,
        Err(error) => return Ok(error.into_response()),
    };
    if shared.context.draining.is_cancelled() {
        return Err(ApiError::new(Code::Unavailable, "draining").retry_after_ms(1_000));
    }
    let registration = shared
        .registry
        .register(shared.client(&request))
        .map_err(|full| {
            let (why, detail) = match full {
                Full::Hub => ("full", "too many connections"),
                Full::Address => (
                    "address",
                    "Too many connections of this address have not sent a token yet. Connect again later.",
                ),
            };
            metrics::counter!("hub_sockets_refused_total", "why" => why).increment(1);
            ApiError::new(Code::Unavailable, detail).retry_after_ms(5_000)
        })?;
    let (response, upgraded) = handshake.accept();
    let shared = Arc::clone(&sockets.0);
    sockets.0.connections.spawn(async move {
        if let Some(upgraded) = upgraded.await {
            let context = &shared.context;
            let bytes_max = context.limits.message_bytes_max;
            let timeout = Duration::from_millis(context.limits.message_timeout_ms);
            let wire = Wire::open(upgraded, bytes_max, timeout).await;
            connection::serve(context, registration, wire).await;
        }
    });
    Ok(response.into_response())
}

#[cfg(test)]
mod tests;
