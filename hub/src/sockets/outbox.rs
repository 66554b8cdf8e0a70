//! The frames that wait for one connection: bounded in bytes. A slow consumer is closed (1013).
//!
//! The bound applies to the frames that already wait when another one comes. A *batch* of frames
//! that many connections share (a snapshot in parts, missed events) does not count while no other
//! batch waits. So a batch of any length reaches a client that reads, and live frames queue behind
//! it. One connection holds at most the bound, one batch, one frame, and the current write
//! ([`WRITE_BYTES`] and one frame).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::close::CloseCode;
use tokio::sync::Notify;

use super::frames::{Frame, FrameBatch};

/// The size of one write, in bytes; one frame may exceed it.
pub const WRITE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Waiting {
    Frame(Frame),
    /// Counts against the bound, or not.
    Batch(FrameBatch, bool),
}

/// The frames that wait for one connection.
#[derive(Debug)]
struct Backlog {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// The part of `bytes` that counts against the bound.
    counted: usize,
    bytes_max: usize,
    /// The number of waiting batches.
    batches: usize,
    close: Option<CloseCode>,
}

impl Backlog {
    fn push(&mut self, frame: Frame) {
        if self.admit() {
            self.bytes += frame.queued_bytes();
            self.counted += frame.queued_bytes();
            self.waiting.push_back(Waiting::Frame(frame));
        }
    }

    fn push_batch(&mut self, batch: FrameBatch) {
        if !batch.is_empty() && self.admit() {
            let counts = self.batches > 0;
            self.bytes += batch.queued_bytes();
            self.counted += if counts { batch.queued_bytes() } else { 0 };
            self.batches += 1;
            self.waiting.push_back(Waiting::Batch(batch, counts));
        }
    }

    /// Whether another frame is accepted. Beyond the bound the connection is marked for its close,
    /// and the outbox accepts nothing more.
    fn admit(&mut self) -> bool {
        if self.close.is_none() && self.counted > self.bytes_max {
            self.close = Some(CloseCode::Overloaded);
            self.waiting.clear();
            (self.bytes, self.counted, self.batches) = (0, 0, 0);
            metrics::counter!("hub_sockets_outbox_full_total").increment(1);
        }
        self.close.is_none()
    }

    fn take(&mut self, bytes_max: usize) -> Vec<Frame> {
        let (mut frames, mut bytes) = (Vec::new(), 0_usize);
        while bytes < bytes_max
            && let Some(frame) = self.pop()
        {
            bytes += frame.queued_bytes();
            frames.push(frame);
        }
        self.bytes -= bytes;
        frames
    }

    /// The next frame; still in `bytes`, but not in `counted`.
    fn pop(&mut self) -> Option<Frame> {
        if let Waiting::Batch(batch, counts) = self.waiting.front_mut()? {
            let frame = batch.pop()?;
            self.counted -= if *counts { frame.queued_bytes() } else { 0 };
            if batch.is_empty() {
                self.waiting.pop_front();
                self.batches -= 1;
            }
            return Some(frame);
        }
        let Waiting::Frame(frame) = self.waiting.pop_front()? else {
            return None;
        };
        self.counted -= frame.queued_bytes();
        Some(frame)
    }
}

/// The outbox of one connection: many tasks push, the connection takes. A clone is a reference.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    backlog: Mutex<Backlog>,
    pushed: Notify,
    drained: Notify,
    closed: Notify,
}

impl Outbox {
    /// An empty outbox that holds at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        let backlog = Backlog {
            waiting: VecDeque::new(),
            bytes: 0,
            counted: 0,
            bytes_max,
            batches: 0,
            close: None,
        };
        Self(Arc::new(Shared {
            backlog: Mutex::new(backlog),
            pushed: Notify::new(),
            drained: Notify::new(),
            closed: Notify::new(),
        }))
    }

    /// Queues a frame, or marks the connection for its close beyond the bound.
    pub fn push(&self, frame: Frame) {
        self.push_together([frame]);
    }

    /// As [`Outbox::push`], for several frames. No other frame comes between them.
    pub fn push_together(&self, frames: impl IntoIterator<Item = Frame>) {
        self.add(|backlog| frames.into_iter().for_each(|frame| backlog.push(frame)));
    }

    /// As [`Outbox::push`], for a batch.
    pub fn push_batch(&self, batch: FrameBatch) {
        self.add(|backlog| backlog.push_batch(batch));
    }

    fn add(&self, add: impl FnOnce(&mut Backlog)) {
        let mut backlog = self.lock();
        add(&mut backlog);
        if backlog.close.is_some() {
            self.0.closed.notify_one();
        }
        drop(backlog);
        self.0.pushed.notify_one();
    }

    /// The next frames, about [`WRITE_BYTES`] of them, as soon as there is one.
    pub async fn take(&self) -> Vec<Frame> {
        loop {
            let frames = self.lock().take(WRITE_BYTES);
            if !frames.is_empty() {
                self.0.drained.notify_one();
                return frames;
            }
            self.0.pushed.notified().await;
        }
    }

    /// Whether there is room for a long answer: less waits than one write, and than half the bound.
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

    /// All waiting frames.
    pub fn take_now(&self) -> Vec<Frame> {
        self.lock().take(usize::MAX)
    }

    /// The code that the connection closes with, as soon as there is one.
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
    use bytes::Bytes;
    use imbl::Vector;

    use super::super::frames::strip_closing_brace;
    use super::*;

    #[tokio::test]
    async fn frames_come_in_order_and_the_bound_ends_the_connection() {
        let outbox = Outbox::new(200);
        let large = Frame::complete("x".repeat(WRITE_BYTES));
        outbox.push(Frame::complete("a"));
        outbox.push(large.clone());
        assert_eq!(outbox.take().await, [Frame::complete("a"), large.clone()]);
        outbox.push(large.clone());
        assert_eq!(
            outbox.take().await,
            std::slice::from_ref(&large),
            "a client that reads gets a frame of any size"
        );
        outbox.push(large);
        outbox.push(Frame::complete("b"));
        assert_eq!(outbox.closed().await, CloseCode::Overloaded);
        outbox.push(Frame::complete("c"));
        assert!(
            outbox.take_now().is_empty(),
            "the outbox keeps nothing for a connection that closes"
        );
    }

    fn bodies(frames: usize, bytes: usize) -> Vector<Bytes> {
        std::iter::repeat_n(strip_closing_brace(vec![b'x'; bytes]), frames).collect()
    }

    #[tokio::test]
    async fn a_batch_of_any_length_reaches_a_client_that_reads_and_live_frames_follow() {
        let outbox = Outbox::new(200);
        outbox.push(Frame::complete("subscribed"));
        outbox.push_batch(FrameBatch::snapshot(bodies(40, WRITE_BYTES / 4)));
        assert!(!outbox.has_room());
        outbox.push(Frame::numbered(bodies(1, 9)[0].clone(), 1));
        outbox.push_batch(FrameBatch::missed(bodies(2, 10), 2 * (10 + 28)));
        let mut received = Vec::new();
        while received.len() < 44 {
            let frames = outbox.take().await;
            assert!(frames.len() <= 5, "paced");
            received.extend(frames);
        }
        let numbers: Vec<_> = received.iter().map(Frame::number).collect();
        assert_eq!(numbers[0], None);
        assert!(numbers[1..41].iter().all(|n| *n == Some(0)));
        assert_eq!(numbers[41..], [Some(1), Some(1), Some(2)]);
        assert!(outbox.has_room());
        let backlog = outbox.lock();
        assert_eq!((backlog.bytes, backlog.counted, backlog.batches), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_closed_even_if_a_batch_waits_first() {
        for second_batch in [false, true] {
            let outbox = Outbox::new(200);
            outbox.push_batch(FrameBatch::snapshot(bodies(40, WRITE_BYTES)));
            if second_batch {
                outbox.push_batch(FrameBatch::snapshot(bodies(40, WRITE_BYTES)));
            } else {
                for _ in 0..6 {
                    outbox.push(Frame::complete("a live frame"));
                }
            }
            assert!(outbox.lock().close.is_none());
            outbox.push(Frame::complete("one more"));
            assert_eq!(outbox.closed().await, CloseCode::Overloaded);
        }
    }

    #[test]
    fn frames_that_are_pushed_together_stay_together_between_those_of_others() {
        let outbox = Outbox::new(usize::MAX);
        let [live, error, named] = ["live", "error", "named"].map(Frame::complete);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..10_000).for_each(|_| outbox.push(live.clone())));
            for _ in 0..10_000 {
                outbox.push_together([error.clone(), named.clone()]);
            }
        });
        let frames = outbox.take_now();
        let errors = frames.iter().enumerate().filter(|(_, one)| **one == error);
        assert!(
            errors
                .map(|(at, _)| &frames[at + 1])
                .eq(vec![&named; 10_000])
        );
    }
}
