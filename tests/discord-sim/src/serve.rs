//! The simulator's listener, and which part of the simulator a path belongs to.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri};
use launch::listener::{self, Bounds, LingerBounds, MetricNames, RequestBody};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use crate::gateway::connection::{self, Negotiated};
use crate::rest::faults::Cut;
use crate::{Settings, Sim, avatars, control, people, rest};

/// The longest message that a gateway client may send before its connection is cut, in bytes;
/// from 4,096 on it is answered with 4002.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How long open connections may take to end after the shutdown.
const DRAIN: Duration = Duration::from_secs(3);
/// How long a client may accept nothing of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
const LINGER: LingerBounds = LingerBounds {
    time_max: Duration::from_secs(10),
    bytes_max: 8 * 1024 * 1024,
    connections_max: 1_024,
};
/// They are not exported.
const METRICS: MetricNames = MetricNames {
    accept_failures: "sim_accept_failures_total",
    lingering: "sim_lingering_connections",
    linger_cut: "sim_linger_cut_total",
};

/// The reason for which hyper ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a scripted fault cut the connection")]
struct WasCut;

/// Serves the simulated Discord on `listener` until `shutdown`.
///
/// # Errors
/// When the listener's address cannot be read, or the HTTP client cannot be built.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let bounds = Bounds {
        connections_max: usize::try_from(settings.sim_connections_max).unwrap_or(usize::MAX),
        header_timeout: Duration::from_secs(settings.sim_header_s),
        write_timeout: WRITE_TIMEOUT,
        finish_timeout: DRAIN,
        linger: LINGER,
    };
    let quiet = settings.sim_quiet;
    let sim = Sim::new(settings, address, shutdown.clone())?;
    let tasks = sim.tasks().clone();
    if !quiet {
        tasks.spawn(people::live(sim.clone()));
    }
    tasks.spawn(expire_sessions(sim.clone()));
    tracing::info!(%address, quiet, "the simulated Discord is up");
    let answering = service_fn({
        let sim = sim.clone();
        move |request: http::Request<RequestBody>| answer(sim.clone(), request.map(Body::new))
    });
    let serving = listener::serve(listener, answering, bounds, METRICS, shutdown.clone());
    let (mut serving, ended) = (pin!(serving), shutdown.cancelled());
    tokio::select! {
        () = &mut serving => {}
        () = ended => {
            tasks.close();
            let end = async { tokio::join!(serving, tasks.wait()) };
            if tokio::time::timeout(DRAIN, end).await.is_err() {
                tracing::warn!("some connections did not end in time");
            }
        }
    }
    Ok(())
}

/// Removes ended sessions once a second, so that they do not wait for the next identify.
async fn expire_sessions(sim: Sim) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = sim.shutdown().cancelled() => return,
            _ = tick.tick() => {
                let now_ms = sim.now_ms();
                sim.world().gateway.remove_ended(now_ms);
            }
        }
    }
}

async fn answer(sim: Sim, request: Request) -> Result<Response, WasCut> {
    let response = route(sim, request).await;
    if response.extensions().get::<Cut>().is_some() {
        return Err(WasCut);
    }
    Ok(response)
}

async fn route(sim: Sim, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/" {
        upgrade(sim, request).await
    } else if path.starts_with("/_sim/") {
        control::answer(sim, request).await
    } else if path == "/api" || path.starts_with("/api/") {
        rest::answer(sim, request).await
    } else if request.method() == Method::GET {
        avatars::answer(path)
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// The gateway's endpoint.
async fn upgrade(sim: Sim, request: Request) -> Response {
    let negotiated = match negotiated_of(request.uri()) {
        Ok(negotiated) => negotiated,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .max_message_size(MESSAGE_BYTES_MAX)
            .max_frame_size(MESSAGE_BYTES_MAX)
            .on_upgrade(move |socket| {
                let tasks = sim.tasks().clone();
                tasks.track_future(connection::serve(socket, negotiated, sim))
            }),
        Err(refusal) => refusal.into_response(),
    }
}

/// Reads `v`, `encoding` and `compress` (`gateway.mdx`, "Connecting").
fn negotiated_of(uri: &Uri) -> Result<Negotiated, &'static str> {
    let mut negotiated = Negotiated::WrongVersion;
    let mut packed = false;
    for (key, value) in uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
    {
        match (key, value) {
            ("v", "10") => negotiated = Negotiated::Plain,
            ("encoding", "json") => {}
            ("encoding", _) => return Err("this simulator has only JSON (encoding=json)"),
            ("compress", "zlib-stream") => packed = true,
            ("compress", "" | "false") => {}
            ("compress", _) => {
                return Err("this simulator compresses with compress=zlib-stream only");
            }
            _ => {}
        }
    }
    Ok(if packed && negotiated == Negotiated::Plain {
        Negotiated::ZlibStream
    } else {
        negotiated
    })
}
