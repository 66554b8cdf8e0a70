//! Frames whose bytes many connections share: each receiver holds a reference, and adds its own number.

use bytes::Bytes;
use imbl::Vector;
use proto::frame::ServerFrame;

/// What a receiver's number adds to a frame, in bytes.
pub(super) const NUMBER_BYTES: usize = 28;

/// One frame in an outbox. Every connection that gets it shares its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// JSON text; for a numbered frame without its closing brace.
    body: Bytes,
    n: Option<u64>,
}

impl Frame {
    /// A frame without a number.
    pub fn complete(body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            n: None,
        }
    }

    /// A frame with its receiver's number: `body` comes from [`strip_closing_brace`].
    pub fn numbered(body: Bytes, n: u64) -> Self {
        Self { body, n: Some(n) }
    }

    /// The JSON text.
    pub fn text(&self) -> Bytes {
        match self.n {
            None => self.body.clone(),
            Some(n) => {
                let mut text = Vec::with_capacity(self.body.len() + NUMBER_BYTES);
                text.extend_from_slice(&self.body);
                text.extend_from_slice(b",\"n\":");
                text.extend_from_slice(n.to_string().as_bytes());
                text.push(b'}');
                text.into()
            }
        }
    }

    #[cfg(test)]
    pub(super) fn number(&self) -> Option<u64> {
        self.n
    }

    /// What it counts for in an outbox.
    pub(super) fn queued_bytes(&self) -> usize {
        queued_bytes(&self.body)
    }
}

/// The JSON text of a frame.
pub(super) fn encode(frame: &ServerFrame) -> Vec<u8> {
    // Strings, numbers and lists always serialize.
    serde_json::to_vec(frame).unwrap_or_default()
}

/// The text of an event frame as [`Frame::numbered`] takes it.
pub fn strip_closing_brace(mut json: Vec<u8>) -> Bytes {
    if json.last() == Some(&b'}') {
        json.pop();
    }
    json.into()
}

/// Frames in order that many connections share: each receiver holds a reference, and numbers them
/// for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameBatch {
    /// As [`Frame::numbered`] takes them.
    bodies: Vector<Bytes>,
    next_n: u64,
    /// 0: all frames have the same number.
    step: u64,
    bytes: usize,
}

impl FrameBatch {
    /// The parts of a snapshot, all of the number 0.
    pub fn snapshot(parts: Vector<Bytes>) -> Self {
        Self::new(parts, 0, 0)
    }

    /// Missed events, numbered from 1; `bytes` is the sum of their [`queued_bytes`].
    pub fn missed(bodies: Vector<Bytes>, bytes: usize) -> Self {
        Self {
            bodies,
            next_n: 1,
            step: 1,
            bytes,
        }
    }

    pub(super) fn new(bodies: Vector<Bytes>, next_n: u64, step: u64) -> Self {
        let bytes = bodies.iter().map(queued_bytes).sum();
        Self {
            bodies,
            next_n,
            step,
            bytes,
        }
    }

    /// What the frames count for in an outbox.
    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes
    }

    /// The number of frames.
    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Whether there are no frames.
    pub fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    #[cfg(test)]
    pub(super) fn into_frames(mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.pop()).collect()
    }

    /// Takes the first frame.
    pub(super) fn pop(&mut self) -> Option<Frame> {
        let body = self.bodies.pop_front()?;
        let frame = Frame::numbered(body, self.next_n);
        self.next_n += self.step;
        self.bytes -= frame.queued_bytes();
        Some(frame)
    }
}

/// What a frame of this body counts for in an outbox, with its number.
pub fn queued_bytes(body: &Bytes) -> usize {
    body.len() + NUMBER_BYTES
}
