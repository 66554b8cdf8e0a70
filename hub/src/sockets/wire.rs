//! Frames to and from the socket: the only file that knows the WebSocket library.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use proto::close::CloseCode;
use proto::problem::Code;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::framing::Framing;
use crate::error::ApiError;

/// The library reads into a buffer of this size, one a connection.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// What is fed to the library before it is flushed in any case, in bytes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// A request to become a WebSocket, checked (RFC 6455, section 4.2.1).
pub(super) struct Handshake {
    accept: String,
    upgrade: hyper::upgrade::OnUpgrade,
}

impl Handshake {
    /// Reads the handshake of a GET request.
    ///
    /// # Errors
    /// 426 for another version than 13; 400 for anything else that is not a handshake.
    pub(super) fn read(request: &mut Request) -> Result<Self, Unfit> {
        let accept = check(request.version(), request.headers())?;
        let upgrade = request
            .extensions_mut()
            .remove::<hyper::upgrade::OnUpgrade>()
            .ok_or(Unfit::Malformed("This connection cannot be upgraded."))?;
        Ok(Self { accept, upgrade })
    }

    /// The answer 101, and the connection once it was written.
    pub(super) fn accept(
        self,
        message_bytes_max: usize,
        message_timeout: Duration,
    ) -> (Response, impl Future<Output = Option<Wire>>) {
        let response = (
            StatusCode::SWITCHING_PROTOCOLS,
            [
                (header::CONNECTION, HeaderValue::from_static("upgrade")),
                (header::UPGRADE, HeaderValue::from_static("websocket")),
                (
                    header::SEC_WEBSOCKET_ACCEPT,
                    HeaderValue::from_str(&self.accept).unwrap_or(HeaderValue::from_static("")),
                ),
            ],
        );
        let opened = async move {
            let upgraded = self.upgrade.await.ok()?;
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER_BYTES)
                .write_buffer_size(WRITE_BUFFER_BYTES)
                .max_write_buffer_size(usize::MAX)
                .max_message_size(Some(message_bytes_max))
                .max_frame_size(Some(message_bytes_max));
            let progress = Arc::new(Progress::new());
            let socket = Followed {
                inner: TokioIo::new(upgraded),
                progress: Arc::clone(&progress),
            };
            let stream = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
            let (sink, stream) = stream.split();
            Some(Wire {
                reader: Reader {
                    stream,
                    progress,
                    message_timeout,
                    listening_since: Instant::now(),
                },
                writer: Writer {
                    sink,
                    pending: VecDeque::new(),
                },
            })
        };
        (response.into_response(), opened)
    }
}

/// Why a request is no handshake.
#[derive(Debug)]
pub(super) enum Unfit {
    /// It asks for another version of the protocol.
    Version,
    /// Something else is wrong: 400, with this detail.
    Malformed(&'static str),
}

impl IntoResponse for Unfit {
    fn into_response(self) -> Response {
        match self {
            Self::Malformed(detail) => ApiError::new(Code::BadRequest, detail).into_response(),
            Self::Version => {
                let detail = "Use version 13 of the WebSocket protocol.";
                let headers = [
                    (header::SEC_WEBSOCKET_VERSION, "13"),
                    (header::UPGRADE, "websocket"),
                    (header::CONNECTION, "upgrade"),
                ];
                let refusal = Extension(ApiError::new(Code::BadRequest, detail));
                (StatusCode::UPGRADE_REQUIRED, headers, refusal).into_response()
            }
        }
    }
}

/// The value of `Sec-WebSocket-Accept` for a handshake with these headers (RFC 6455, sections 4.2.1
/// and 4.2.2).
fn check(version: Version, headers: &HeaderMap) -> Result<String, Unfit> {
    let wrong = |detail| Err(Unfit::Malformed(detail));
    if version != Version::HTTP_11 {
        return wrong("A WebSocket handshake needs HTTP/1.1.");
    }
    if !lists(headers, &header::CONNECTION, "upgrade")
        || !lists(headers, &header::UPGRADE, "websocket")
    {
        return wrong(
            "This endpoint accepts only WebSocket upgrade requests: Connection: Upgrade, Upgrade: websocket.",
        );
    }
    let is_authority = |host: &&str| host.parse::<Authority>().is_ok() && !host.contains('@');
    if only(headers, &header::HOST).filter(is_authority).is_none() {
        return wrong("A WebSocket handshake needs one Host header.");
    }
    // Bytes of a body would be read as frames.
    let length = headers.get(header::CONTENT_LENGTH);
    if headers.contains_key(header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0")
    {
        return wrong("A WebSocket handshake has no body.");
    }
    if headers
        .get_all(header::SEC_WEBSOCKET_VERSION)
        .iter()
        .count()
        > 1
    {
        return wrong("A WebSocket handshake has one Sec-WebSocket-Version.");
    }
    if only(headers, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(Unfit::Version);
    }
    let key = only(headers, &header::SEC_WEBSOCKET_KEY).filter(|key| {
        let nonce = STANDARD.decode(key);
        nonce.is_ok_and(|nonce| nonce.len() == 16)
    });
    let Some(key) = key else {
        return wrong("A WebSocket handshake needs one Sec-WebSocket-Key: 16 bytes in base64.");
    };
    Ok(derive_accept_key(key.as_bytes()))
}

/// Whether a header that is a list contains this token, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter();
    let mut words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

type Socket = WebSocketStream<Followed<TokioIo<hyper::upgrade::Upgraded>>>;

/// Both directions of a connection, which move independently.
pub(super) struct Wire {
    /// What comes.
    pub reader: Reader,
    /// What goes.
    pub writer: Writer,
}

impl Wire {
    /// Ends the sending direction, then reads and drops what the peer still sends, until it ends.
    /// A socket that is closed with unread bytes is reset, and a reset may destroy the Close frame
    /// before the peer or a proxy has read it. The caller bounds the time.
    pub(super) async fn discard(self) {
        let Ok(mut stream) = self.reader.stream.reunite(self.writer.sink) else {
            return;
        };
        let socket = stream.get_mut();
        if socket.shutdown().await.is_err() {
            return;
        }
        let mut dropped = [0; READ_BUFFER_BYTES];
        while socket.read(&mut dropped).await.is_ok_and(|bytes| bytes > 0) {}
    }
}

/// What came.
pub(super) enum Received {
    /// A text message.
    Text(Utf8Bytes),
    /// A ping or pong; pings are answered by the library.
    Control {
        /// It was a pong.
        pong: bool,
    },
    /// The peer closed; the library has its answer ready, see [`Writer::flush`].
    Closed,
    /// The connection broke, or is at its end.
    Gone,
    /// The connection is to end with this code.
    Wrong(CloseCode),
}

/// The reading direction.
pub(super) struct Reader {
    stream: SplitStream<Socket>,
    progress: Arc<Progress>,
    message_timeout: Duration,
    /// Since when it is listened without a pause.
    listening_since: Instant,
}

impl Reader {
    /// The next message. One that is not whole in time after its first byte, or comes in endless
    /// fragments, is against the policy; one that announces more than `bytes_max` bytes is not
    /// waited for.
    pub(super) async fn receive(&mut self, bytes_max: usize) -> Received {
        let (stream, progress) = (&mut self.stream, &self.progress);
        let message = poll_fn(|context| match stream.poll_next_unpin(context) {
            Poll::Ready(message) => Poll::Ready(Ok(message)),
            // All that is whole was heard: what has begun is what would be heard next.
            Poll::Pending if progress.announces_more_than(bytes_max) => {
                Poll::Ready(Err(CloseCode::TooBig))
            }
            Poll::Pending => Poll::Pending,
        });
        let message = tokio::select! {
            // What has come already is heard before anything is judged that has not.
            biased;
            message = message => match message {
                Ok(message) => message,
                Err(code) => return Received::Wrong(code),
            },
            () = progress.overdue(self.message_timeout, self.listening_since) => {
                return Received::Wrong(CloseCode::Policy);
            }
        };
        match message {
            Some(Ok(Message::Text(text))) => Received::Text(text),
            Some(Ok(Message::Binary(_))) => Received::Wrong(CloseCode::Unsupported),
            Some(Ok(Message::Ping(_))) => Received::Control { pong: false },
            Some(Ok(Message::Pong(_))) => Received::Control { pong: true },
            Some(Ok(Message::Close(_))) => Received::Closed,
            Some(Ok(Message::Frame(_))) | None => Received::Gone,
            Some(Err(error)) => match error {
                Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                    Received::Wrong(CloseCode::TooBig)
                }
                Error::Utf8(_) => Received::Wrong(CloseCode::InvalidText),
                Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Received::Gone,
                Error::Protocol(_) => Received::Wrong(CloseCode::ProtocolError),
                _ => Received::Gone,
            },
        }
    }

    /// Nothing was received for a while, of the hub's own will: it is not the peer who was slow.
    pub(super) fn listen_again(&mut self) {
        self.listening_since = Instant::now();
    }
}

/// The writing direction.
pub(super) struct Writer {
    sink: SplitSink<Socket, Message>,
    pending: VecDeque<Bytes>,
}

impl Writer {
    /// Queues texts behind those of a write that was given up half-way.
    pub(super) fn queue(&mut self, texts: impl IntoIterator<Item = Bytes>) {
        self.pending.extend(texts);
    }

    /// Writes what is queued, in one go where the socket takes it. Given up half-way, what is left
    /// stays queued: nothing that comes later overtakes it.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn write(&mut self) -> Result<(), Error> {
        while let Some(text) = self.pending.front() {
            // What the hub writes comes from serde_json and is UTF-8.
            if let Ok(text) = Utf8Bytes::try_from(text.clone()) {
                self.sink.feed(Message::Text(text)).await?;
            }
            self.pending.pop_front();
        }
        self.sink.flush().await
    }

    /// Writes what the library itself has to say.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        self.sink.flush().await
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn ping(&mut self) -> Result<(), Error> {
        self.sink.send(Message::Ping(Bytes::new())).await
    }

    /// Sends the Close frame with the code's reason.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn close(&mut self, code: CloseCode) -> Result<(), Error> {
        let frame = CloseFrame {
            code: WireCode::from(code.code()),
            reason: Utf8Bytes::from_static(code.reason()),
        };
        self.sink.send(Message::Close(Some(frame))).await
    }
}

/// How the message that is coming stands: shared by the reader, who waits for it, and the socket,
/// which sees its bytes.
struct Progress {
    framing: Mutex<Framing>,
    origin: Instant,
    /// When the message that is not whole yet began: nanoseconds since `origin`, 0 if none.
    begun_at: AtomicU64,
    flood: Notify,
}

impl Progress {
    fn new() -> Self {
        Self {
            framing: Mutex::default(),
            origin: Instant::now(),
            begun_at: AtomicU64::new(0),
            flood: Notify::new(),
        }
    }

    fn saw(&self, bytes: &[u8]) {
        let mut framing = self.framing.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = framing.take(bytes);
        if framing.is_flood() {
            self.flood.notify_one();
        }
        if !framing.is_begun() {
            self.begun_at.store(0, Ordering::Relaxed);
        } else if ended || self.begun_at.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.begun_at.store(now.max(1), Ordering::Relaxed);
        }
    }

    fn announces_more_than(&self, bytes: usize) -> bool {
        let framing = self.framing.lock().unwrap_or_else(PoisonError::into_inner);
        framing.announced() > bytes as u64
    }

    /// Returns when a message has been incomplete for `timeout` of the time `since` then, or has too
    /// many fragments.
    async fn overdue(&self, timeout: Duration, since: Instant) {
        let since = since.saturating_duration_since(self.origin);
        loop {
            let wait = match self.begun_at.load(Ordering::Relaxed) {
                // Nothing has begun; what begins meanwhile is noticed half a timeout late at most.
                0 => timeout / 2,
                at => {
                    let until = Duration::from_nanos(at).max(since) + timeout;
                    match until.checked_sub(self.origin.elapsed()) {
                        Some(left) => left,
                        None => return,
                    }
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
                () = self.flood.notified() => return,
            }
        }
    }
}

/// A socket whose incoming bytes are followed.
struct Followed<S> {
    inner: S,
    progress: Arc<Progress>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.saw(&buffer.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDSHAKE: &[(&str, &str)] = &[
        ("host", "hub.example:3000"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The status for the handshake with some of its headers replaced, removed or added.
    fn status_of(version: Version, changes: &[(&str, &[&str])]) -> u16 {
        let mut headers = HeaderMap::new();
        let kept = HANDSHAKE
            .iter()
            .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name))
            .copied();
        let changed = changes
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (*name, *value)));
        for (name, value) in kept.chain(changed) {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        match check(version, &headers) {
            // RFC 6455, section 1.3, has the key and what follows from it.
            Ok(accept) => {
                assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                101
            }
            Err(refusal) => refusal.into_response().status().as_u16(),
        }
    }

    #[test]
    fn a_handshake_is_what_rfc_6455_says() {
        const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
        let rows: &[(&str, &[&str], u16)] = &[
            ("host", &["hub.example"], 101),
            ("host", &["[::1]:3000"], 101),
            ("host", &[], 400),
            ("host", &[""], 400),
            ("host", &["a", "a"], 400),
            ("host", &["a b"], 400),
            ("host", &["user@a"], 400),
            ("connection", &["keep-alive, Upgrade"], 101),
            ("connection", &["keep-alive", "UPGRADE"], 101),
            ("connection", &["keep-alive,upgrade ,x"], 101),
            ("connection", &[], 400),
            ("connection", &["keep-alive"], 400),
            ("connection", &["upgraded"], 400),
            ("upgrade", &["WebSocket"], 101),
            ("upgrade", &["h2c, websocket"], 101),
            ("upgrade", &[], 400),
            ("upgrade", &["h2c"], 400),
            ("upgrade", &["websocket2"], 400),
            ("sec-websocket-version", &[], 426),
            ("sec-websocket-version", &["8"], 426),
            ("sec-websocket-version", &["14"], 426),
            ("sec-websocket-version", &["013"], 426),
            ("sec-websocket-version", &["13, 8"], 426),
            ("sec-websocket-version", &["13", "13"], 400),
            ("sec-websocket-key", &[KEY], 101),
            ("sec-websocket-key", &[], 400),
            ("sec-websocket-key", &[""], 400),
            ("sec-websocket-key", &[KEY, KEY], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j"], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZTEyMw=="], 400),
            ("sec-websocket-key", &["dGhlIHNhbXBsZSBub25j!Q=="], 400),
            ("content-length", &["0"], 101),
            ("content-length", &["5"], 400),
            ("transfer-encoding", &["chunked"], 400),
            ("sec-websocket-protocol", &["chat"], 101),
            ("sec-websocket-extensions", &["permessage-deflate"], 101),
        ];
        for (name, values, status) in rows {
            let got = status_of(Version::HTTP_11, &[(*name, *values)]);
            assert_eq!(got, *status, "{name}: {values:?}");
        }
        assert_eq!(status_of(Version::HTTP_10, &[]), 400);
        assert_eq!(status_of(Version::HTTP_11, &[]), 101);
    }
}
