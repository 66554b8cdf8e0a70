//! What a client says, as text, read into frames; and the frames that wait until what was asked
//! for before them is done.

use std::collections::VecDeque;

use proto::frame::{CORRELATION_BYTES_MAX, ClientFrame, Correlation};
use serde::Deserialize;

/// A client's frame, and what its answer carries.
pub(super) type Said = (ClientFrame, Option<Correlation>);

/// Why a text is no frame.
pub(super) enum Illegible {
    /// It is not a JSON object with a `type`.
    NoFrame,
    /// Its `id` is neither a whole number from 0 to 2^64 - 1 nor a short text.
    Id,
    /// Nothing of this version has that `type`.
    Type(Option<Correlation>),
    /// A field is missing, or not of its form.
    Field(Option<Correlation>),
}

/// Reads a frame.
///
/// # Errors
/// [`Illegible`].
pub(super) fn read(text: &str) -> Result<Said, Illegible> {
    // Read whole first: the envelope alone would pass over a field of any depth.
    // (And an array is no object, though it could be read as one.)
    let legible = serde_json::from_str(text).is_ok_and(|json: serde_json::Value| json.is_object());
    let envelope = serde_json::from_str(text).ok().filter(|_| legible);
    let Envelope { r#type, id } = envelope.ok_or(Illegible::NoFrame)?;
    let re = read_correlation(id).ok_or(Illegible::Id)?;
    if !["auth", "refresh", "subscribe", "unsubscribe", "ping"].contains(&r#type.as_str()) {
        return Err(Illegible::Type(re));
    }
    match serde_json::from_str(text) {
        Ok(frame) => Ok((frame, re)),
        Err(_) => Err(Illegible::Field(re)),
    }
}

/// What is read of a frame before its type is known.
#[derive(Deserialize)]
struct Envelope {
    r#type: String,
    #[serde(default)]
    id: serde_json::Value,
}

/// The `id` of a frame, if it has one; `None` if it is not of the form.
fn read_correlation(id: serde_json::Value) -> Option<Option<Correlation>> {
    if id.is_null() {
        return Some(None);
    }
    match serde_json::from_value(id) {
        Ok(Correlation::Text(text)) if text.len() > CORRELATION_BYTES_MAX => None,
        Ok(id) => Some(Some(id)),
        Err(_) => None,
    }
}

/// Frames that wait, in their order.
pub(super) struct HeldBack {
    frames: VecDeque<(Said, usize)>,
    /// Of their texts.
    bytes: usize,
    bytes_max: usize,
}

impl HeldBack {
    /// Nothing waits. As soon as the texts of what does are of `bytes_max`, it is full.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            frames: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Whether nothing more is to be read.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Adds a frame of a text of so many bytes.
    pub(super) fn push(&mut self, said: Said, bytes: usize) {
        self.frames.push_back((said, bytes));
        self.bytes += bytes;
        if self.is_full() {
            metrics::counter!("hub_sockets_held_back_full_total").increment(1);
        }
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Said> {
        let (said, bytes) = self.frames.pop_front()?;
        self.bytes -= bytes;
        Some(said)
    }
}
