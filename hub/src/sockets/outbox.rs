//! What waits to be written to one connection: bounded in bytes; a receiver that stays behind
//! the bound is closed (1013).
//!
//! The bound is on what waits already when another frame comes. A *run* of frames that many
//! connections share (a snapshot in parts, what a returning browser missed) does not count while
//! no other run waits: however long it is, it reaches whoever reads, and live frames queue behind
//! it. So one connection holds at most the bound, one run, one frame, and what is being written
//! ([`WRITE_BYTES`] and one frame).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::close::CloseCode;
use tokio::sync::Notify;

use super::frames::{Frame, Run};

/// What is taken to be written at once, in bytes; one frame may pass it.
pub const WRITE_BYTES: usize = 64 * 1024;

#[derive(Debug)]
enum Waiting {
    Frame(Frame),
    /// Counts against the bound, or not.
    Run(Run, bool),
}

/// The frames that wait for one connection.
#[derive(Debug)]
struct Backlog {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Of `bytes`, what counts against the bound.
    counted: usize,
    bytes_max: usize,
    /// How many runs wait.
    runs: usize,
    close: Option<CloseCode>,
}

impl Backlog {
    fn push(&mut self, frame: Frame) {
        if self.admit() {
            self.bytes += frame.bytes();
            self.counted += frame.bytes();
            self.waiting.push_back(Waiting::Frame(frame));
        }
    }

    fn push_run(&mut self, run: Run) {
        if !run.is_empty() && self.admit() {
            let counts = self.runs > 0;
            self.bytes += run.bytes();
            self.counted += if counts { run.bytes() } else { 0 };
            self.runs += 1;
            self.waiting.push_back(Waiting::Run(run, counts));
        }
    }

    /// Whether more is taken. If what waits is past the bound already, the connection is to be
    /// closed, and nothing more is taken.
    fn admit(&mut self) -> bool {
        if self.close.is_none() && self.counted > self.bytes_max {
            self.close = Some(CloseCode::Overloaded);
            self.waiting.clear();
            (self.bytes, self.counted, self.runs) = (0, 0, 0);
            metrics::counter!("hub_sockets_outbox_full_total").increment(1);
        }
        self.close.is_none()
    }

    fn take(&mut self, bytes_max: usize) -> Vec<Frame> {
        let (mut frames, mut bytes) = (Vec::new(), 0_usize);
        while bytes < bytes_max
            && let Some(frame) = self.pop()
        {
            bytes += frame.bytes();
            frames.push(frame);
        }
        self.bytes -= bytes;
        frames
    }

    /// The next frame; still in `bytes`, but not in `counted`.
    fn pop(&mut self) -> Option<Frame> {
        if let Waiting::Run(run, counts) = self.waiting.front_mut()? {
            let frame = run.take()?;
            self.counted -= if *counts { frame.bytes() } else { 0 };
            if run.is_empty() {
                self.waiting.pop_front();
                self.runs -= 1;
            }
            return Some(frame);
        }
        let Waiting::Frame(frame) = self.waiting.pop_front()? else {
            return None;
        };
        self.counted -= frame.bytes();
        Some(frame)
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
            waiting: VecDeque::new(),
            bytes: 0,
            counted: 0,
            bytes_max,
            runs: 0,
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
        self.push_together([frame]);
    }

    /// Queues frames, likewise; no other comes between them.
    pub fn push_together(&self, frames: impl IntoIterator<Item = Frame>) {
        self.add(|backlog| frames.into_iter().for_each(|frame| backlog.push(frame)));
    }

    /// Queues a run of frames, likewise.
    pub fn push_run(&self, run: Run) {
        self.add(|backlog| backlog.push_run(run));
    }

    fn add(&self, add: impl FnOnce(&mut Backlog)) {
        let mut backlog = self.lock();
        add(&mut backlog);
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
    use bytes::Bytes;
    use imbl::Vector;

    use super::super::frames::unnumbered;
    use super::*;

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

    fn run(frames: usize, bytes: usize) -> Vector<Bytes> {
        std::iter::repeat_n(unnumbered(vec![b'x'; bytes]), frames).collect()
    }

    #[tokio::test]
    async fn a_run_reaches_whoever_reads_however_long_and_live_frames_follow_it() {
        let outbox = Outbox::new(200);
        outbox.push(Frame::whole("subscribed"));
        outbox.push_run(Run::snapshot(run(40, WRITE_BYTES / 4)));
        assert!(!outbox.has_room());
        outbox.push(Frame::numbered(run(1, 9)[0].clone(), 1));
        outbox.push_run(Run::missed(run(2, 10), 2 * (10 + 28)));
        let mut heard = Vec::new();
        while heard.len() < 44 {
            let frames = outbox.take().await;
            assert!(frames.len() <= 5, "paced");
            heard.extend(frames);
        }
        let numbers: Vec<_> = heard.iter().map(Frame::number).collect();
        assert_eq!(numbers[0], None);
        assert!(numbers[1..41].iter().all(|n| *n == Some(0)));
        assert_eq!(numbers[41..], [Some(1), Some(1), Some(2)]);
        assert!(outbox.has_room());
        let backlog = outbox.lock();
        assert_eq!((backlog.bytes, backlog.counted, backlog.runs), (0, 0, 0));
    }

    #[tokio::test]
    async fn whoever_does_not_read_is_closed_whatever_waits_first() {
        for second_run in [false, true] {
            let outbox = Outbox::new(200);
            outbox.push_run(Run::snapshot(run(40, WRITE_BYTES)));
            if second_run {
                outbox.push_run(Run::snapshot(run(40, WRITE_BYTES)));
            } else {
                for _ in 0..6 {
                    outbox.push(Frame::whole("a live frame"));
                }
            }
            assert!(outbox.lock().close.is_none());
            outbox.push(Frame::whole("one more"));
            assert_eq!(outbox.closed().await, CloseCode::Overloaded);
        }
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
