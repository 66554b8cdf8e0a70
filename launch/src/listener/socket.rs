//! The socket of one connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::head::Head;
use super::linger::LingerPool;

/// A socket that lingers when it is dropped behind an answer: the service's, one of hyper's own, or
/// whatever an upgraded connection said. Without an answer (a deadline passed, the client is gone,
/// the service failed) it closes at once. It also does so where the client has closed its half.
pub(super) struct Socket {
    /// `None` only while it is dropped.
    stream: Option<Pin<Box<TimeoutStream<TcpStream>>>>,
    head: Arc<Head>,
    /// hyper has closed it in order. It does so behind its own answers too, but not where a request
    /// to upgrade was refused.
    is_shut: bool,
    /// The client has closed its half, so that nothing is left to read.
    is_ended: bool,
    lingering: Arc<LingerPool>,
    /// The listener waits for it at its end.
    token: TaskTrackerToken,
}

impl Socket {
    pub(super) fn new(
        stream: TcpStream,
        write_timeout: Duration,
        head: Arc<Head>,
        lingering: Arc<LingerPool>,
        token: TaskTrackerToken,
    ) -> Self {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(write_timeout));
        Self {
            stream: Some(Box::pin(stream)),
            head,
            is_shut: false,
            is_ended: false,
            lingering,
            token,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TimeoutStream<TcpStream>>> {
        let stream = self.stream.as_mut().map(Pin::as_mut);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.is_ended
            && (self.is_shut || self.head.is_answered())
            && let Some(stream) = self.stream.take()
        {
            self.lingering.linger(stream, self.token.clone());
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let has_room = buffer.remaining() > 0;
        let polled = self.stream()?.poll_read(context, buffer);
        match buffer.filled().get(before..) {
            Some(received) if !received.is_empty() => self.head.receive(received),
            _ => self.is_ended |= has_room && matches!(polled, Poll::Ready(Ok(()))),
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        let vectored = |stream: &Pin<Box<TimeoutStream<TcpStream>>>| stream.is_write_vectored();
        self.stream.as_ref().is_some_and(vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        self.stream()?.poll_shutdown(context)
    }
}
