//! The browsers' door: who is let in, and under which bounds.

mod audience;
pub mod client_address;
mod connection;
pub mod fanout;
pub mod frames;
mod framing;
pub mod history;
pub mod outbox;
pub mod pen;
mod recovery;
pub mod registry;
pub mod session;
mod watched;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use launch::clock::Monotonic;
use launch::listener::Peer;
use proto::problem::Code;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::client_address::{Client, Network, client};
use self::fanout::Fanout;
use self::registry::{Full, Registry};
use self::session::SessionLimits;
use self::wire::Handshake;
use crate::access::Access;
use crate::auth::Verifier;
use crate::error::{ApiError, ErrorLog};

/// The bounds of the door.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// The bounds of one connection's conversation.
    pub session: SessionLimits,
    /// The largest message, in bytes.
    pub message_bytes_max: usize,
    /// How long a message may take from its first byte to its last, in ms.
    pub message_timeout_ms: u64,
    /// What may wait for one connection, in bytes.
    pub outbox_bytes_max: usize,
    /// How long the goodbye may take, in ms.
    pub close_timeout_ms: u64,
    /// On draining, clients are told to come back spread over this time, in ms.
    pub reconnect_spread_ms: u64,
    /// The proxies whose word on a client's address counts.
    pub trusted_proxies: Vec<Network>,
}

/// The door. A clone is a reference.
#[derive(Clone)]
pub struct Sockets(Arc<Shared>);

struct Shared {
    verifier: Verifier,
    access: Access,
    fanout: Fanout,
    registry: Registry,
    refusals: ErrorLog,
    origins: Vec<String>,
    limits: SocketLimits,
    draining: CancellationToken,
    connections: TaskTracker,
    clock: Monotonic,
    has_said_unknown: AtomicBool,
}

impl Sockets {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is another part of the hub that the door needs, and is handed over once"
    )]
    /// A door for browsers of these origins. When `draining` is cancelled, every connection is
    /// told when to come back, and closed.
    pub fn new(
        verifier: Verifier,
        access: Access,
        fanout: Fanout,
        registry: Registry,
        refusals: ErrorLog,
        origins: Vec<String>,
        limits: SocketLimits,
        draining: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            verifier,
            access,
            fanout,
            registry,
            refusals,
            origins,
            limits,
            draining,
            connections: TaskTracker::new(),
            clock: Monotonic::start(),
            has_said_unknown: AtomicBool::new(false),
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
    /// Where a request comes from. Says once, if so, that no limit by address applies.
    fn client(&self, request: &Request) -> Client {
        let Some(Peer(peer)) = request.extensions().get().copied() else {
            return Client::Unknown;
        };
        let client = client(peer, request.headers(), &self.limits.trusted_proxies);
        if client == Client::Unknown && !self.has_said_unknown.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %peer,
                "browsers come from a private network, perhaps through a proxy: no limit by address applies. Set TRUSTED_PROXIES to the addresses of your proxies"
            );
        }
        client
    }

    /// Milliseconds since the hub started: the clock of the connections.
    fn now_ms(&self) -> u64 {
        self.clock.elapsed_ms()
    }
}

async fn open(State(sockets): State<Sockets>, mut request: Request) -> Result<Response, ApiError> {
    let shared = &sockets.0;
    // A route for GET would answer HEAD too.
    if request.method() != Method::GET {
        let refusal = ApiError::new(Code::BadRequest, "Use GET: this endpoint is a WebSocket.");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Ok((status, [(header::ALLOW, "GET")], Extension(refusal)).into_response());
    }
    // Browsers name their page in `Origin`, and pages can not forge it. Whoever omits it is no
    // browser, and has no ambient credentials to abuse either: a token is asked of everybody.
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let known = |origin: &str| shared.origins.iter().any(|known| known == origin);
    match (origins.next(), origins.next()) {
        (None, _) => {}
        (Some(origin), None) if origin.to_str().is_ok_and(known) => {}
        _ => return Err(ApiError::new(Code::Forbidden, "not an allowed origin")),
    }
    // Addresses end up in logs and histories.
    if request.uri().query().is_some_and(|query| !query.is_empty()) {
        return Err(ApiError::new(
            Code::BadRequest,
            "nothing goes into the address; a token goes into the first frame",
        ));
    }
    let handshake = match Handshake::read(&mut request) {
        Ok(handshake) => handshake,
        Err(unfit) => return Ok(unfit.into_response()),
    };
    if shared.draining.is_cancelled() {
        return Err(ApiError::new(Code::Unavailable, "draining").retry_after_ms(1_000));
    }
    let place = shared
        .registry
        .admit(shared.client(&request))
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
    let message_timeout = Duration::from_millis(shared.limits.message_timeout_ms);
    let (response, opened) = handshake.accept(shared.limits.message_bytes_max, message_timeout);
    let connection = sockets.clone();
    shared.connections.spawn(async move {
        if let Some(wire) = opened.await {
            connection::live(&connection.0, place, wire).await;
        }
    });
    Ok(response.into_response())
}

#[cfg(test)]
mod tests;
