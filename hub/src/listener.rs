//! A listener: accepts connections under its bounds, serves HTTP/1 on them, and lets them go.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// After a failed accept (out of descriptors) the loop takes a breath.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServeLimits {
    /// Connections at once; further ones wait in the kernel's queue.
    pub connections_max: usize,
    /// From a connection's first byte, or its beginning, to the end of a request's head.
    pub header_timeout: Duration,
    /// How long a write may be stuck.
    pub write_timeout: Duration,
    /// How long a request that is being answered may still take at the end.
    pub finish_timeout: Duration,
}

/// Accepts until `shutdown`, then lets the requests that are being answered finish.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(64 * 1024);
    let (builder, places, connections) = (
        Arc::new(builder),
        Arc::new(Semaphore::new(limits.connections_max)),
        TaskTracker::new(),
    );
    let mut failures: u64 = 0;
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = shutdown.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                failures += 1;
                metrics::counter!("hub_accept_failures_total").increment(1);
                // The first says that it began, every power of two that it goes on.
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "can not accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _delayed = stream.set_nodelay(true);
        let (builder, service, shutdown) = (
            Arc::clone(&builder),
            TowerToHyperService::new(router.clone()),
            shutdown.clone(),
        );
        connections.spawn(async move {
            converse(stream, &builder, service, limits, shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// One connection, until its end: its peer's, or that of the hub. Why it ended is its peer's business.
async fn converse(
    stream: TcpStream,
    builder: &Builder<TokioExecutor>,
    service: TowerToHyperService<Router>,
    limits: ServeLimits,
    shutdown: CancellationToken,
) {
    // The timeout of a request's head runs from its first byte; who never sends one waits here.
    let mut first = [0];
    let spoke = tokio::select! {
        spoke = timeout(limits.header_timeout, stream.peek(&mut first)) => spoke,
        () = shutdown.cancelled() => return,
    };
    if !matches!(spoke, Ok(Ok(1))) {
        return;
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let connection =
        builder.serve_connection_with_upgrades(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let _ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // A head that is still half-sent is not waited for.
            match timeout(limits.finish_timeout, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
}
