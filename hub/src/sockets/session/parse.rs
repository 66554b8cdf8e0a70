//! A client's texts, parsed into frames; and the frames that wait for an operation before them.

use std::collections::VecDeque;

use proto::frame::{CORRELATION_BYTES_MAX, ClientFrame, Correlation};
use serde::Deserialize;

/// A client's frame, and the id that its answer carries.
pub(super) type ParsedFrame = (ClientFrame, Option<Correlation>);

/// Why a text is no frame.
pub(super) enum ParseError {
    /// It is not a JSON object with a `type`.
    NoFrame,
    /// Its `id` is neither a whole number from 0 to 2^64 - 1 nor a short text.
    Id,
    /// Nothing of this version has that `type`.
    Type(Option<Correlation>),
    /// A field is missing, or not of its form.
    Field(Option<Correlation>),
}

/// Parses a frame.
///
/// # Errors
/// [`ParseError`].
pub(super) fn parse(text: &str) -> Result<ParsedFrame, ParseError> {
    // The whole text first: the envelope alone would skip a field of any depth.
    // (And an array is no object, though it could be read as one.)
    let is_object =
        serde_json::from_str(text).is_ok_and(|json: serde_json::Value| json.is_object());
    let envelope = serde_json::from_str(text).ok().filter(|_| is_object);
    let Envelope { r#type, id } = envelope.ok_or(ParseError::NoFrame)?;
    let re = parse_correlation(id).ok_or(ParseError::Id)?;
    if !["auth", "refresh", "subscribe", "unsubscribe", "ping"].contains(&r#type.as_str()) {
        return Err(ParseError::Type(re));
    }
    match serde_json::from_str(text) {
        Ok(frame) => Ok((frame, re)),
        Err(_) => Err(ParseError::Field(re)),
    }
}

/// The fields that every frame has.
#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    id: serde_json::Value,
}

/// The `id` of a frame, if it has one; `None` if it is malformed.
fn parse_correlation(id: serde_json::Value) -> Option<Option<Correlation>> {
    if id.is_null() {
        return Some(None);
    }
    match serde_json::from_value(id) {
        Ok(Correlation::Text(text)) if text.len() > CORRELATION_BYTES_MAX => None,
        Ok(id) => Some(Some(id)),
        Err(_) => None,
    }
}

/// Frames that wait for an operation, in order.
pub(super) struct DeferredFrames {
    frames: VecDeque<(ParsedFrame, usize)>,
    /// The size of their texts.
    bytes: usize,
    bytes_max: usize,
}

impl DeferredFrames {
    /// No frames. They are full when their texts reach `bytes_max`.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Whether the connection reads no more frames.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Adds a frame whose text has so many bytes.
    pub(super) fn push(&mut self, frame: ParsedFrame, bytes: usize) {
        self.frames.push_back((frame, bytes));
        self.bytes += bytes;
        if self.is_full() {
            metrics::counter!("hub_sockets_held_back_full_total").increment(1);
        }
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<ParsedFrame> {
        let (frame, bytes) = self.frames.pop_front()?;
        self.bytes -= bytes;
        Some(frame)
    }
}
