//! The door: one accept loop, and which part of the simulator a path belongs to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::gateway::connection::{self, Wish};
use crate::{Settings, Sim, avatars, control, people, rest};

/// The longest message that a gateway client may send before its connection is cut, in bytes;
/// from 4,096 on it is answered with 4002.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How long open connections may take to end after the shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// Put on a response that is never to be sent: the connection is cut instead.
#[derive(Clone, Copy)]
pub(crate) struct Cut;

/// The reason for which hyper ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("a scripted fault cut the connection")]
struct WasCut;

/// Serves the simulated Discord on `listener` until `shutdown`.
///
/// # Errors
/// When the listener's address can not be read, or the HTTP client can not be built.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let permits = usize::try_from(settings.sim_connections_max).unwrap_or(Semaphore::MAX_PERMITS);
    let connections = Arc::new(Semaphore::new(permits));
    let header_time = Duration::from_secs(settings.sim_header_s);
    let quiet = settings.sim_quiet;
    let sim = Sim::new(settings, address, shutdown.clone())?;
    let tasks = sim.tasks().clone();
    if !quiet {
        tasks.spawn(people::live(sim.clone()));
    }
    tasks.spawn(bury(sim.clone()));
    tracing::info!(%address, quiet, "the simulated Discord is up");
    let router = Router::new().fallback({
        let sim = sim.clone();
        move |request: Request| route(sim, request)
    });
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            Ok(permit) = Arc::clone(&connections).acquire_owned() => permit,
        };
        let stream = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: others must end first.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tasks.spawn(async move {
            serve_connection(stream, router, header_time, shutdown).await;
            drop(permit);
        });
    }
    tasks.close();
    if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    Ok(())
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    header_time: Duration,
    shutdown: CancellationToken,
) {
    // Small frames must not wait for each other.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        async move {
            let response = match tower::ServiceExt::oneshot(router, request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<Cut>().is_some() {
                Err(WasCut)
            } else {
                Ok(response)
            }
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_time)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// Forgets dead sessions once a second, so that they do not wait for the next identify.
async fn bury(sim: Sim) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = sim.shutdown().cancelled() => return,
            _ = tick.tick() => {
                let now_ms = sim.now_ms();
                sim.world().gateway.forget_the_dead(now_ms);
            }
        }
    }
}

async fn route(sim: Sim, request: Request) -> Result<Response, Infallible> {
    let path = request.uri().path();
    let response = if path == "/" {
        upgrade(sim, request).await
    } else if path.starts_with("/_sim/") {
        control::answer(sim, request).await
    } else if path == "/api" || path.starts_with("/api/") {
        rest::answer(sim, request).await
    } else if request.method() == Method::GET {
        avatars::answer(path)
    } else {
        StatusCode::NOT_FOUND.into_response()
    };
    Ok(response)
}

/// The gateway's door.
async fn upgrade(sim: Sim, request: Request) -> Response {
    let wish = match wish_of(request.uri()) {
        Ok(wish) => wish,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade
            .max_message_size(MESSAGE_BYTES_MAX)
            .max_frame_size(MESSAGE_BYTES_MAX)
            .on_upgrade(move |socket| {
                let tasks = sim.tasks().clone();
                tasks.track_future(connection::serve(socket, wish, sim))
            }),
        Err(refusal) => refusal.into_response(),
    }
}

/// Reads `v`, `encoding` and `compress` (`gateway.mdx`, "Connecting").
fn wish_of(uri: &Uri) -> Result<Wish, &'static str> {
    let mut wish = Wish::WrongVersion;
    let mut packed = false;
    for (key, value) in uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
    {
        match (key, value) {
            ("v", "10") => wish = Wish::Plain,
            ("encoding", "json") => {}
            ("encoding", _) => return Err("this simulator speaks JSON only (encoding=json)"),
            ("compress", "zlib-stream") => packed = true,
            ("compress", "" | "false") => {}
            ("compress", _) => return Err("this simulator packs with compress=zlib-stream only"),
            _ => {}
        }
    }
    Ok(if packed && wish == Wish::Plain {
        Wish::ZlibStream
    } else {
        wish
    })
}
