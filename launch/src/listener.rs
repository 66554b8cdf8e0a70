//! A listener: accepts connections under its bounds, serves HTTP/1 on them, and lets them go.
//!
//! All programs of Roomwire share it. It speaks HTTP/1 alone: a connection that begins with the
//! preface of HTTP/2 is refused like any other head that is not one of HTTP/1.

mod head;
mod linger;
mod request;
mod requests;
mod settings;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};

use self::head::{Head, HeadTimer};
use self::linger::LingerPool;
use self::socket::Socket;

pub use self::linger::LingerBounds;
pub use self::request::RequestBody;
pub use self::requests::HttpMetrics;
pub use self::settings::ListenerSettings;

/// Pause after a failed accept (out of descriptors): other connections have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The largest request head, in bytes: hyper refuses a larger one with 431.
const HEAD_BYTES_MAX: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once. Further ones wait in the kernel's queue. A connection that was upgraded
    /// (WebSocket) does not count any more: its new owner counts it.
    pub connections_max: usize,
    /// From the first byte of a request's head, whatever byte it is, to the end of that head. A
    /// connection that sends no byte is closed after the same time.
    pub header_timeout: Duration,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// How long a request that is being answered may still take after the shutdown began.
    pub finish_timeout: Duration,
    /// The bounds of reading on after an answer.
    pub linger: LingerBounds,
}

/// The names of a listener's metrics.
#[derive(Debug, Clone, Copy)]
pub struct MetricNames {
    /// Counter: connections that could not be accepted.
    pub accept_failures: &'static str,
    /// Gauge: connections that have their last answer and are read until the client closes.
    pub lingering: &'static str,
    /// Counter, by `why` (`time`, `bytes`, `full`): connections that were closed before that. At
    /// `full` it was the oldest one, for the sake of a new one.
    pub linger_cut: &'static str,
}

/// The address of the connection's other end, among the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Serves `service` until `end`. Then it closes connections on which no request is being answered,
/// lets the others finish within [`Bounds::finish_timeout`], and returns when every connection has
/// ended, those that were upgraded too.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    bounds: Bounds,
    names: MetricNames,
    end: CancellationToken,
) where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<BoxError>,
{
    let connections_max = bounds.connections_max.min(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(connections_max));
    let sockets = TaskTracker::new();
    let lingering = Arc::new(LingerPool::new(bounds.linger, names, end.clone()));
    let mut failures: u64 = 0;
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = end.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                failures += 1;
                metrics::counter!(names.accept_failures).increment(1);
                // The first line says that it began, one at every power of two that it goes on.
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let _delayed = stream.set_nodelay(true);
        let head = Arc::new(Head::default());
        let socket = Socket::new(
            stream,
            bounds.write_timeout,
            Arc::clone(&head),
            Arc::clone(&lingering),
            sockets.token(),
        );
        let connection = converse(
            socket,
            head,
            Peer(peer),
            service.clone(),
            bounds,
            end.clone(),
        );
        sockets.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    sockets.close();
    sockets.wait().await;
}

/// Serves one connection until its end. An error that ends it is the client's business, or was
/// logged where it arose.
async fn converse<S, B>(
    socket: Socket,
    head: Arc<Head>,
    peer: Peer,
    service: S,
    bounds: Bounds,
    end: CancellationToken,
) where
    S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Buf + Send,
    B::Error: Into<BoxError>,
{
    let requests = Arc::clone(&head);
    let answering = service_fn(move |request: Request<Incoming>| {
        requests.complete(request.body().size_hint().exact());
        answer(service.clone(), request, peer, Arc::clone(&requests))
    });
    let connection = http1::Builder::new()
        // A client may close its half behind its request and wait for the answer (RFC 9112, section
        // 9.6). A client that is gone is noticed when the answer is written.
        .half_close(true)
        .timer(HeadTimer::new(Arc::clone(&head), bounds.header_timeout))
        .header_read_timeout(bounds.header_timeout)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), answering)
        .with_upgrades();
    let mut connection = Box::pin(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            if head.is_awaited() {
                // No request waits for an answer. A head that is half sent is not waited for.
                return;
            }
            connection.as_mut().graceful_shutdown();
            match timeout(bounds.finish_timeout, connection).await {
                Ok(ended) => ended,
                Err(_late) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

async fn answer<S, B>(
    service: S,
    request: Request<Incoming>,
    peer: Peer,
    head: Arc<Head>,
) -> Result<Response<B>, S::Error>
where
    S: Service<Request<RequestBody>, Response = Response<B>>,
{
    let (mut request, unread) = request::watch(request);
    request.extensions_mut().insert(peer);
    let mut response = service.oneshot(request).await?;
    head.answer();
    if unread.is_left() {
        // hyper closes the connection when a body was not read. A client that reuses connections
        // has to know that before it sends the next request (RFC 9112, section 9.6).
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
