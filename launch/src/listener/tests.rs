use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Instant;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower::service_fn;

use super::*;

/// How long a fact may take to become true on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
const MS: Duration = Duration::from_millis(1);
const NAMES: MetricNames = MetricNames {
    accept_failures: "test_accept_failures_total",
    lingering: "test_lingering_connections",
    linger_cut: "test_linger_cut_total",
};
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn bounds() -> Bounds {
    Bounds {
        connections_max: 8,
        header_timeout: DEADLINE,
        write_timeout: DEADLINE,
        finish_timeout: DEADLINE,
        linger: LingerBounds {
            time_max: DEADLINE,
            bytes_max: 8 * 1024 * 1024,
            connections_max: 8,
        },
    }
}

/// A listener that answers `ok`, and its end. `/held` is answered after `release`.
struct Served {
    address: SocketAddr,
    end: CancellationToken,
    arrived: Arc<Notify>,
    release: Arc<Notify>,
    serving: tokio::task::JoinHandle<()>,
}

async fn serve_with(change: impl FnOnce(&mut Bounds)) -> Served {
    let mut bounds = bounds();
    change(&mut bounds);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let end = CancellationToken::new();
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let held = (Arc::clone(&arrived), Arc::clone(&release));
    let service = service_fn(move |request: Request<RequestBody>| {
        let (arrived, release) = held.clone();
        async move {
            match request.uri().path() {
                "/held" => {
                    arrived.notify_one();
                    release.notified().await;
                }
                "/read" => {
                    let answer = match read_body(request.into_body()).await {
                        Ok(length) => format!("{length} bytes ok"),
                        Err(_) => "cut ok".to_owned(),
                    };
                    return Ok(Response::new(answer));
                }
                _ => {}
            }
            let Peer(peer) = request.extensions().get().copied().unwrap();
            assert!(peer.ip().is_loopback());
            Ok::<_, Infallible>(Response::new("ok".to_owned()))
        }
    });
    let serving = tokio::spawn(serve(listener, service, bounds, NAMES, end.clone()));
    Served {
        address,
        end,
        arrived,
        release,
        serving,
    }
}

async fn read_body(mut body: RequestBody) -> Result<usize, hyper::Error> {
    let mut length = 0;
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        length += frame?.data_ref().map_or(0, bytes::Bytes::len);
    }
    Ok(length)
}

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// What comes until the listener closes its half; an error where it resets the connection.
async fn read_to_end(stream: &mut TcpStream) -> io::Result<String> {
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer));
    read.await.expect("still open at the deadline")?;
    Ok(String::from_utf8(answer).unwrap())
}

async fn read_answer(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    while !answer.ends_with("ok") {
        let mut some = [0; 512];
        let read = timeout(DEADLINE, stream.read(&mut some)).await.unwrap();
        let read = read.unwrap();
        assert_ne!(read, 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&some[..read]).unwrap());
    }
    answer
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_has_no_more_time() {
    let served = serve_with(|bounds| bounds.header_timeout = 300 * MS).await;
    let mut stream = send(served.address, "GET / HTTP/1.1\r\nlong: ").await;
    let began = Instant::now();
    // The write fails some time after the listener has closed.
    while stream.write_all(b"x").await.is_ok() {
        assert!(began.elapsed() < DEADLINE, "still open");
        tokio::time::sleep(20 * MS).await;
    }
}

#[tokio::test]
async fn a_request_after_an_idle_time_has_as_much_time_as_the_first() {
    let timeout = 3_000 * MS;
    let served = serve_with(|bounds| bounds.header_timeout = timeout).await;
    let mut stream = send(served.address, REQUEST).await;
    read_answer(&mut stream).await;
    tokio::time::sleep(timeout * 2 / 3).await;
    stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    tokio::time::sleep(timeout * 2 / 3).await;
    stream.write_all(b"\r\n").await.unwrap();
    read_answer(&mut stream).await;
}

#[tokio::test]
async fn a_head_that_begins_behind_another_request_has_no_more_time() {
    let timeout = 3_000 * MS;
    let served = serve_with(|bounds| bounds.header_timeout = timeout).await;
    let get = REQUEST;
    let with_body = "POST /read HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
    let chunked = "POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    // What is sent in two parts, and how many answers it has.
    let cases = [
        (format!("{get}G"), "", 1),
        (get.to_owned(), "G", 1),
        (format!("{get}{get}G"), "", 2),
        (get.replace('\r', "") + "\n\nG", "", 1),
        (format!("{with_body}abcG"), "", 1),
        (with_body.to_owned(), "abcG", 1),
        (format!("{chunked}0\r\n\r\nG"), "", 1),
    ];
    let mut clients = tokio::task::JoinSet::new();
    for (first, second, answers) in cases {
        let address = served.address;
        clients.spawn(async move {
            let mut stream = send(address, &first).await;
            stream.write_all(second.as_bytes()).await.unwrap();
            let began = Instant::now();
            tokio::time::sleep(timeout * 2 / 3).await;
            stream.write_all(b"E").await.unwrap();
            let text = read_to_end(&mut stream).await.unwrap_or_default();
            let took = began.elapsed();
            assert_eq!(text.matches("HTTP/1.1 200").count(), answers, "{first:?}");
            assert!(took < timeout * 4 / 3, "{first:?} {second:?}: {took:?}");
        });
    }
    clients.join_all().await;
}

#[tokio::test]
async fn a_client_that_closes_its_half_behind_its_request_receives_the_answer() {
    let served = serve_with(|_| {}).await;
    for request in [
        "GET /held HTTP/1.1\r\n\r\n",
        "GET /held HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /held HTTP/1.0\r\n\r\n",
        "POST /held HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        "GET / HTTP/1.1\r\n\r\nGET /held HTTP/1.1\r\n\r\n",
    ] {
        let mut stream = send(served.address, request).await;
        stream.shutdown().await.unwrap();
        timeout(DEADLINE, served.arrived.notified()).await.unwrap();
        // Time for the listener to notice the end.
        tokio::time::sleep(50 * MS).await;
        served.release.notify_one();
        let answer = read_to_end(&mut stream).await.unwrap();
        assert!(answer.ends_with("ok"), "{request:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_within_a_body_has_sent_no_body() {
    let served = serve_with(|_| {}).await;
    for request in [
        "POST /read HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        "POST /read HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut stream = send(served.address, request).await;
        stream.shutdown().await.unwrap();
        let answer = read_to_end(&mut stream).await.unwrap();
        assert!(answer.ends_with("\r\ncut ok"), "{request:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_without_a_request_is_closed_at_once() {
    let served = serve_with(|_| {}).await;
    for beginning in ["", "GET / HT", REQUEST] {
        let mut stream = send(served.address, beginning).await;
        if beginning == REQUEST {
            read_answer(&mut stream).await;
        }
        let began = Instant::now();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await.unwrap();
        let took = began.elapsed();
        assert!(took < DEADLINE / 2, "{beginning:?}: {took:?}");
    }
}

#[tokio::test]
async fn a_client_that_is_gone_keeps_its_place_only_until_its_request_is_answered() {
    let served = serve_with(|bounds| bounds.connections_max = 1).await;
    for is_reset in [false, true] {
        let gone = send(served.address, "GET /held HTTP/1.1\r\n\r\n").await;
        timeout(DEADLINE, served.arrived.notified()).await.unwrap();
        if is_reset {
            gone.set_zero_linger().unwrap();
        }
        drop(gone);
        served.release.notify_one();
        read_answer(&mut send(served.address, REQUEST).await).await;
    }
}

#[tokio::test]
async fn no_more_connections_than_the_bound_are_open_and_the_next_one_waits() {
    let served = serve_with(|bounds| bounds.connections_max = 2).await;
    let silent = [
        send(served.address, "").await,
        send(served.address, "").await,
    ];
    let mut third = send(served.address, REQUEST).await;
    let early = timeout(200 * MS, third.read(&mut [0])).await;
    assert!(early.is_err(), "answered beyond the bound");
    drop(silent);
    read_answer(&mut third).await;
}

#[tokio::test]
async fn a_refused_client_that_stays_keeps_nobody_out() {
    let served = serve_with(|bounds| bounds.connections_max = 1).await;
    let unread = "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
    let mut refused = send(served.address, unread).await;
    read_to_end(&mut refused).await.unwrap();
    read_answer(&mut send(served.address, REQUEST).await).await;
}

#[tokio::test]
async fn refused_clients_that_stay_take_the_refusal_from_nobody() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let served = serve_with(|_| {}).await;
    let mut staying = Vec::new();
    for _ in 0..3 * bounds().linger.connections_max {
        let mut stream = send(served.address, "x\r\n\r\n").await;
        let refusal = read_to_end(&mut stream).await.unwrap();
        assert!(refusal.starts_with("HTTP/1.1 400 "), "{refusal}");
        staying.push(stream);
    }
    let head = format!("POST / HTTP/1.1\r\nContent-Length: {LENGTH}\r\n\r\n");
    let mut refused = send(served.address, &head).await;
    refused.write_all(&vec![b'x'; LENGTH]).await.unwrap();
    let refusal = read_to_end(&mut refused).await.unwrap();
    assert!(refusal.ends_with("ok"), "{refusal}");
    // No more than the bound are still read, and those are the newest.
    for (index, stream) in staying.iter_mut().rev().enumerate() {
        let is_read = index + 1 < bounds().linger.connections_max;
        let wait = if is_read { 100 * MS } else { DEADLINE };
        let closed = async {
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(MS).await;
            }
        };
        let is_closed = timeout(wait, closed).await.is_ok();
        assert_eq!(is_closed, !is_read, "{index}");
    }
}

#[tokio::test]
async fn a_client_whose_body_is_not_read_learns_that_its_connection_ends() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let served = serve_with(|_| {}).await;
    let body = "x".repeat(LENGTH);
    let chunks = format!("{LENGTH:x}\r\n{body}\r\n0\r\n\r\n");
    let length = format!("Content-Length: {LENGTH}");
    for (headers, body) in [
        (length.as_str(), &body),
        ("Transfer-Encoding: chunked", &chunks),
        (
            &format!("Connection: upgrade\r\nUpgrade: other\r\n{length}"),
            &body,
        ),
    ] {
        let head = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
        let mut stream = send(served.address, &head).await;
        stream.write_all(body.as_bytes()).await.unwrap();
        let answer = read_to_end(&mut stream).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_sends_on_after_an_upgrade_ended_receives_the_last_word() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = service_fn(|mut request: Request<RequestBody>| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut upgraded = TokioIo::new(upgrade.await.unwrap());
            upgraded.write_all(b"goodbye").await.unwrap();
        });
        let mut response = Response::new(String::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        Ok::<_, Infallible>(response)
    });
    let end = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, service, bounds(), NAMES, end.clone()));
    let upgrade = "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
    let mut stream = send(address, upgrade).await;
    stream.write_all(&vec![0; 4 * 1024 * 1024]).await.unwrap();
    let answer = read_to_end(&mut stream).await.unwrap();
    assert!(answer.ends_with("goodbye"), "{answer}");
    drop(stream);
    end.cancel();
    timeout(DEADLINE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn reading_on_ends_at_either_bound() {
    let unread = "POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n";
    let served = serve_with(|bounds| bounds.linger.time_max = 200 * MS).await;
    let mut slow = send(served.address, unread).await;
    read_to_end(&mut slow).await.unwrap();
    let began = Instant::now();
    while slow.write_all(b"x").await.is_ok() {
        assert!(began.elapsed() < DEADLINE, "read for ever");
        tokio::time::sleep(20 * MS).await;
    }

    let served = serve_with(|bounds| bounds.linger.bytes_max = 100_000).await;
    let mut large = send(served.address, unread).await;
    read_to_end(&mut large).await.unwrap();
    let sent = large.write_all(&vec![0; 64 * 1024 * 1024]).await;
    assert!(sent.is_err(), "read without a bound");
}

#[tokio::test]
async fn a_request_that_is_being_answered_is_answered_before_the_end() {
    let served = serve_with(|_| {}).await;
    let mut stream = send(served.address, "GET /held HTTP/1.1\r\n\r\n").await;
    timeout(DEADLINE, served.arrived.notified()).await.unwrap();
    served.end.cancel();
    served.release.notify_one();
    let answer = read_to_end(&mut stream).await.unwrap();
    assert!(answer.ends_with("ok"), "{answer}");
    drop(stream);
    timeout(DEADLINE, served.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_that_is_never_answered_delays_the_end_by_its_bound() {
    let served = serve_with(|bounds| bounds.finish_timeout = 200 * MS).await;
    let _held = send(served.address, "GET /held HTTP/1.1\r\n\r\n").await;
    timeout(DEADLINE, served.arrived.notified()).await.unwrap();
    served.end.cancel();
    timeout(DEADLINE, served.serving).await.unwrap().unwrap();
}
