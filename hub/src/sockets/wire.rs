//! Frames to and from the socket: the only file that knows the WebSocket library.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use proto::close::CloseCode;
use proto::problem::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::refusal::Refusal;

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
    /// Reads the handshake of a request.
    ///
    /// # Errors
    /// 400 for what is not a WebSocket handshake of version 13.
    pub(super) fn read(request: &mut Request) -> Result<Self, Refusal> {
        let headers = request.headers();
        let named = |name, token: &str| {
            headers.get_all(name).iter().any(|value| {
                value.to_str().is_ok_and(|value| {
                    value
                        .split(',')
                        .any(|word| word.trim().eq_ignore_ascii_case(token))
                })
            })
        };
        if !named(header::CONNECTION, "upgrade") || !named(header::UPGRADE, "websocket") {
            return Err(Refusal::new(
                Code::BadRequest,
                "this address speaks WebSocket",
            ));
        }
        if headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_none_or(|version| version != "13")
        {
            return Err(Refusal::new(
                Code::BadRequest,
                "WebSocket version 13 is spoken here",
            ));
        }
        let accept = accept_key(headers)
            .ok_or_else(|| Refusal::new(Code::BadRequest, "no valid Sec-WebSocket-Key"))?;
        let upgrade = request
            .extensions_mut()
            .remove::<hyper::upgrade::OnUpgrade>()
            .ok_or_else(|| Refusal::new(Code::BadRequest, "this connection can not be upgraded"))?;
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
            let begun = Begun::default();
            let socket = Patient {
                inner: TokioIo::new(upgraded),
                begun: begun.clone(),
            };
            let stream = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
            let (sink, stream) = stream.split();
            Some(Wire {
                reader: Reader {
                    stream,
                    begun,
                    message_timeout,
                },
                writer: Writer { sink },
            })
        };
        (response.into_response(), opened)
    }
}

fn accept_key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    // Sixteen bytes in base64.
    (key.len() == 24).then(|| derive_accept_key(key))
}

type Socket = WebSocketStream<Patient<TokioIo<hyper::upgrade::Upgraded>>>;

/// Both directions of a connection, which move independently.
pub(super) struct Wire {
    /// What comes.
    pub reader: Reader,
    /// What goes.
    pub writer: Writer,
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
    begun: Begun,
    message_timeout: Duration,
}

impl Reader {
    /// The next message. One that is not whole in time after its first byte is a policy violation.
    pub(super) async fn receive(&mut self) -> Received {
        let begun = self.begun.clone();
        let message = tokio::select! {
            message = self.stream.next() => message,
            () = begun.overdue(self.message_timeout) => return Received::Wrong(CloseCode::Policy),
        };
        self.begun.clear();
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
                Error::Protocol(_) => Received::Wrong(CloseCode::ProtocolError),
                _ => Received::Gone,
            },
        }
    }
}

/// The writing direction.
pub(super) struct Writer {
    sink: SplitSink<Socket, Message>,
}

impl Writer {
    /// Writes texts, in one go where the socket takes them.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn write(
        &mut self,
        texts: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), Error> {
        for text in texts {
            // What the hub writes comes from serde_json and is UTF-8.
            if let Ok(text) = Utf8Bytes::try_from(text) {
                self.sink.feed(Message::Text(text)).await?;
            }
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

/// When the first byte of a message came that is not whole yet: nanoseconds since `origin`, 0 if none.
#[derive(Clone)]
struct Begun {
    origin: Instant,
    at: Arc<AtomicU64>,
}

impl Default for Begun {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            at: Arc::default(),
        }
    }
}

impl Begun {
    fn note(&self) {
        let now = u64::try_from(self.origin.elapsed().as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        let _known = self
            .at
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.at.store(0, Ordering::Relaxed);
    }

    /// Returns when a message has been incomplete for `timeout`.
    async fn overdue(&self, timeout: Duration) {
        loop {
            let wait = match self.at.load(Ordering::Relaxed) {
                // Nothing has begun; what begins meanwhile is noticed half a timeout late at most.
                0 => timeout / 2,
                at => {
                    let until = Duration::from_nanos(at) + timeout;
                    match until.checked_sub(self.origin.elapsed()) {
                        Some(left) => left,
                        None => return,
                    }
                }
            };
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }
}

/// A socket that notes when the bytes of a message begin to come.
struct Patient<S> {
    inner: S,
    begun: Begun,
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.begun.note();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
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
