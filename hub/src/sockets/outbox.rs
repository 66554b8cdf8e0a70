//! What waits to be written to one connection: bounded in bytes; a receiver that stays behind
//! the bound is closed (1013).
//!
//! The bound is on what waits already when another frame comes: a snapshot that is larger than it
//! reaches whoever reads. So one connection holds at most the bound, one frame, and what is
//! being written ([`WRITE_BYTES`] and one frame).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use proto::close::CloseCode;
use tokio::sync::Notify;

/// What is taken to be written at once, in bytes; one frame may pass it.
pub const WRITE_BYTES: usize = 64 * 1024;

/// One frame that waits. Its body is shared by every connection that gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// JSON text; for a numbered frame without its closing brace.
    body: Bytes,
    n: Option<u64>,
}

impl Frame {
    /// A frame as it stands.
    pub fn whole(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            n: None,
        }
    }

    /// A frame whose number is its receiver's own: `body` lacks the closing brace, see [`unnumbered`].
    pub fn numbered(body: Bytes, n: u64) -> Self {
        Self { body, n: Some(n) }
    }

    /// The JSON text.
    pub fn text(&self) -> Bytes {
        match self.n {
            None => self.body.clone(),
            Some(n) => {
                let mut text = Vec::with_capacity(self.body.len() + 28);
                text.extend_from_slice(&self.body);
                text.extend_from_slice(b",\"n\":");
                text.extend_from_slice(n.to_string().as_bytes());
                text.push(b'}');
                text.into()
            }
        }
    }

    fn bytes(&self) -> usize {
        self.body.len() + 28
    }
}

/// The text of an event frame as [`Frame::numbered`] takes it.
pub fn unnumbered(mut json: Vec<u8>) -> Bytes {
    if json.last() == Some(&b'}') {
        json.pop();
    }
    json.into()
}

/// The frames that wait for one connection.
#[derive(Debug)]
struct Backlog {
    frames: VecDeque<Frame>,
    bytes: usize,
    bytes_max: usize,
    close: Option<CloseCode>,
}

impl Backlog {
    /// Takes a frame, unless what waits is past the bound already: then the connection is to be
    /// closed, and nothing more is taken.
    fn push(&mut self, frame: Frame) {
        if self.close.is_some() {
            return;
        }
        if self.bytes > self.bytes_max {
            self.close = Some(CloseCode::Overloaded);
            self.frames.clear();
            self.bytes = 0;
            metrics::counter!("hub_sockets_outbox_full_total").increment(1);
            return;
        }
        self.bytes += frame.bytes();
        self.frames.push_back(frame);
    }

    fn take(&mut self, bytes_max: usize) -> Vec<Frame> {
        let (mut frames, mut bytes) = (Vec::new(), 0_usize);
        while bytes < bytes_max
            && let Some(frame) = self.frames.pop_front()
        {
            bytes += frame.bytes();
            frames.push(frame);
        }
        self.bytes -= bytes;
        frames
    }
}

/// The outbox of one connection: many push, the connection alone takes. A clone is a reference.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backlog: Mutex<Backlog>,
    moved: Notify,
    drained: Notify,
    closed: Notify,
}

impl Outbox {
    /// An empty outbox that holds at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        let backlog = Backlog {
            frames: VecDeque::new(),
            bytes: 0,
            bytes_max,
            close: None,
        };
        Self(Arc::new(Shared {
            backlog: Mutex::new(backlog),
            moved: Notify::new(),
            drained: Notify::new(),
            closed: Notify::new(),
        }))
    }

    /// Queues a frame, or marks the connection for its end when the bound is reached.
    pub fn push(&self, frame: Frame) {
        let mut backlog = self.lock();
        backlog.push(frame);
        if backlog.close.is_some() {
            self.0.closed.notify_one();
        }
        drop(backlog);
        self.0.moved.notify_one();
    }

    /// Asks the connection to end with this code after what waits is written.
    pub fn close(&self, code: CloseCode) {
        self.lock().close.get_or_insert(code);
        self.0.closed.notify_one();
    }

    /// The next frames, about [`WRITE_BYTES`] of them, as soon as there is one.
    pub async fn take(&self) -> Vec<Frame> {
        loop {
            let frames = self.lock().take(WRITE_BYTES);
            if !frames.is_empty() {
                self.0.drained.notify_one();
                return frames;
            }
            self.0.moved.notified().await;
        }
    }

    /// Whether more can be put in without a thought: less waits than is written at once, and than
    /// half the bound.
    pub fn has_room(&self) -> bool {
        let backlog = self.lock();
        backlog.bytes < WRITE_BYTES.min(backlog.bytes_max / 2)
    }

    /// Returns as soon as [`Outbox::has_room`].
    pub async fn room(&self) {
        while !self.has_room() {
            self.0.drained.notified().await;
        }
    }

    /// What waits now.
    pub fn take_now(&self) -> Vec<Frame> {
        self.lock().take(usize::MAX)
    }

    /// The code that the connection is to end with, as soon as there is one.
    pub async fn closed(&self) -> CloseCode {
        loop {
            if let Some(code) = self.lock().close {
                return code;
            }
            self.0.closed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.0
            .backlog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_frame_is_the_shared_body_with_its_receivers_number() {
        let body = unnumbered(br#"{"v":1,"ts":0}"#.to_vec());
        assert_eq!(
            Frame::numbered(body.clone(), 7).text(),
            r#"{"v":1,"ts":0,"n":7}"#
        );
        assert_eq!(Frame::numbered(body, 8).text(), r#"{"v":1,"ts":0,"n":8}"#);
    }

    #[tokio::test]
    async fn frames_come_in_order_and_the_bound_ends_the_connection() {
        let outbox = Outbox::new(200);
        let large = Frame::whole("x".repeat(WRITE_BYTES));
        outbox.push(Frame::whole("a"));
        outbox.push(large.clone());
        assert_eq!(outbox.take().await, [Frame::whole("a"), large.clone()]);
        outbox.push(large.clone());
        assert_eq!(
            outbox.take().await,
            std::slice::from_ref(&large),
            "whoever reads gets it, however large"
        );
        outbox.push(large);
        outbox.push(Frame::whole("b"));
        assert_eq!(outbox.closed().await, CloseCode::Overloaded);
        outbox.push(Frame::whole("c"));
        assert!(
            outbox.take_now().is_empty(),
            "nothing is kept for a connection that ends"
        );
    }

    #[tokio::test]
    async fn the_first_reason_to_close_stays() {
        let outbox = Outbox::new(200);
        outbox.push(Frame::whole("last words"));
        outbox.close(CloseCode::Unauthorized);
        outbox.close(CloseCode::GoingAway);
        assert_eq!(outbox.closed().await, CloseCode::Unauthorized);
        assert_eq!(outbox.take_now().len(), 1);
    }
}
