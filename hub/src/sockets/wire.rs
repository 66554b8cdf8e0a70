//! Frames to and from the socket: only this file and the handshake know the WebSocket library.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use proto::close::CloseCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::progress::{MeteredStream, Progress, metered};

/// The library's read buffer of one connection, in bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The library flushes at the latest after so many bytes.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

type Socket = WebSocketStream<MeteredStream<TokioIo<Upgraded>>>;

/// Both directions of a connection, which are independent.
pub(super) struct Wire {
    /// The reading direction.
    pub reader: Reader,
    /// The writing direction.
    pub writer: Writer,
}

impl Wire {
    /// The WebSocket on an upgraded connection.
    pub(super) async fn open(
        upgraded: Upgraded,
        message_bytes_max: usize,
        message_timeout: Duration,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(usize::MAX)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let progress = Arc::new(Progress::new());
        let socket = metered(TokioIo::new(upgraded), Arc::clone(&progress));
        let stream = WebSocketStream::from_raw_socket(socket, Role::Server, Some(config)).await;
        let (sink, stream) = stream.split();
        Self {
            reader: Reader {
                stream,
                progress,
                message_timeout,
                reading_since: Instant::now(),
            },
            writer: Writer {
                sink,
                pending: VecDeque::new(),
            },
        }
    }

    /// Ends the sending direction, then reads and drops the peer's bytes until its end.
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

/// What the peer sent.
pub(super) enum Received {
    /// A text message.
    Text(Utf8Bytes),
    /// A ping or pong. The library answers pings.
    Control {
        /// Whether it is a pong.
        pong: bool,
    },
    /// A Close. The library has its answer ready, see [`Writer::flush`].
    Closed,
    /// Nothing: the connection broke, or is at its end.
    Gone,
    /// An error: the connection closes with this code.
    Invalid(CloseCode),
}

/// The reading direction.
pub(super) struct Reader {
    stream: SplitStream<Socket>,
    progress: Arc<Progress>,
    message_timeout: Duration,
    /// When reading began, or resumed.
    reading_since: Instant,
}

impl Reader {
    /// The next message. One that takes too long after its first byte, or has endless fragments,
    /// violates the policy. One that announces more than `bytes_max` bytes is too big at once.
    pub(super) async fn receive(&mut self, bytes_max: usize) -> Received {
        let (stream, progress) = (&mut self.stream, &self.progress);
        let message = poll_fn(|context| match stream.poll_next_unpin(context) {
            Poll::Ready(message) => Poll::Ready(Ok(message)),
            // All complete messages were returned, so the current one would be the next.
            Poll::Pending if progress.announces_more_than(bytes_max) => {
                Poll::Ready(Err(CloseCode::TooBig))
            }
            Poll::Pending => Poll::Pending,
        });
        let message = tokio::select! {
            // A message that is here already is not late.
            biased;
            message = message => match message {
                Ok(message) => message,
                Err(code) => return Received::Invalid(code),
            },
            () = progress.overdue(self.message_timeout, self.reading_since) => {
                return Received::Invalid(CloseCode::Policy);
            }
        };
        match message {
            Some(Ok(Message::Text(text))) => Received::Text(text),
            Some(Ok(Message::Binary(_))) => Received::Invalid(CloseCode::Unsupported),
            Some(Ok(Message::Ping(_))) => Received::Control { pong: false },
            Some(Ok(Message::Pong(_))) => Received::Control { pong: true },
            Some(Ok(Message::Close(_))) => Received::Closed,
            Some(Ok(Message::Frame(_))) | None => Received::Gone,
            Some(Err(error)) => match error {
                Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                    Received::Invalid(CloseCode::TooBig)
                }
                Error::Utf8(_) => Received::Invalid(CloseCode::InvalidText),
                Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Received::Gone,
                Error::Protocol(_) => Received::Invalid(CloseCode::ProtocolError),
                _ => Received::Gone,
            },
        }
    }

    /// The hub reads again after a pause of its own, which does not count as the peer's delay.
    pub(super) fn resume(&mut self) {
        self.reading_since = Instant::now();
    }
}

/// The writing direction.
pub(super) struct Writer {
    sink: SplitSink<Socket, Message>,
    pending: VecDeque<Bytes>,
}

impl Writer {
    /// Queues texts behind those of a cancelled write.
    pub(super) fn queue(&mut self, texts: impl IntoIterator<Item = Bytes>) {
        self.pending.extend(texts);
    }

    /// Writes all queued texts, in one step where the socket accepts it. If the future is dropped,
    /// the remaining texts stay queued, in order.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) async fn write(&mut self) -> Result<(), Error> {
        while let Some(text) = self.pending.front() {
            // The texts come from serde_json and are UTF-8.
            if let Ok(text) = Utf8Bytes::try_from(text.clone()) {
                self.sink.feed(Message::Text(text)).await?;
            }
            self.pending.pop_front();
        }
        self.sink.flush().await
    }

    /// Writes the frames of the library itself.
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
