//! Connections of one request each, so that one time bounds all of it: the wait for the first byte,
//! the head, and a reader that does not read.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// After a failed accept (out of descriptors) the loop takes a breath.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How many are open; more wait to be accepted.
    pub(super) connections_max: usize,
    /// How long one lasts, from its beginning; then it is cut.
    pub(super) time_max: Duration,
}

/// Accepts connections until `end`; those that are open then are cut.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    end: CancellationToken,
) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            Some(_ended) = open.join_next(), if !open.is_empty() => {}
            accepted = listener.accept(), if open.len() < bounds.connections_max => match accepted {
                Ok((stream, _)) => {
                    let exchange = timeout(bounds.time_max, answer(stream, router.clone()));
                    open.spawn(async move { exchange.await.is_ok() });
                }
                Err(error) => {
                    tracing::warn!(%error, "can not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    let exchange = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = exchange.await {
        tracing::debug!(%error, "a connection ended badly");
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    async fn serve(bounds: Bounds) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/healthz", get(|| async { "ok" }));
        tokio::spawn(accept(listener, router, bounds, CancellationToken::new()));
        address
    }

    async fn say(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// All that comes until the other side closes.
    async fn hear(stream: &mut TcpStream) -> String {
        let mut text = Vec::new();
        // One that is cut with bytes unread is reset; that is an end as well.
        let heard = timeout(DEADLINE, stream.read_to_end(&mut text)).await;
        assert!(heard.is_ok(), "still open");
        String::from_utf8(text).unwrap()
    }

    const WHOLE: &str = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test]
    async fn a_connection_ends_in_time_whatever_it_says() {
        let bounds = Bounds {
            connections_max: 8,
            time_max: Duration::from_millis(200),
        };
        let address = serve(bounds).await;
        for said in ["", "GET /healthz HTTP/1.1\r\nhost"] {
            assert_eq!(hear(&mut say(address, said).await).await, "");
        }
        let answer = hear(&mut say(address, WHOLE).await).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn no_more_than_the_bound_are_open_and_the_next_waits_its_turn() {
        let bounds = Bounds {
            connections_max: 2,
            time_max: DEADLINE,
        };
        let address = serve(bounds).await;
        let silent = [say(address, "").await, say(address, "").await];
        let mut third = say(address, WHOLE).await;
        let mut byte = [0];
        let early = timeout(Duration::from_millis(200), third.read(&mut byte)).await;
        assert!(early.is_err(), "answered beyond the bound");
        drop(silent);
        assert!(hear(&mut third).await.ends_with("ok"));
    }
}
