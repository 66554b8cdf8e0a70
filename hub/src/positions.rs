//! Positions as text: the log's places, sealed for the viewers of one view.

use proto::position::{PositionKey, ViewPosition};

use roomlog::Position;

/// Seals positions, and opens what browsers send back. A clone is a reference.
#[derive(Clone)]
pub struct Positions(PositionKey);

impl Positions {
    /// Positions under this key.
    pub fn new(key: PositionKey) -> Self {
        Self(key)
    }

    /// The text of a place in the view of this fingerprint. `step` is that of a [`ViewPosition`].
    pub fn seal(&self, position: Position, step: u16, view: u32) -> String {
        let position = ViewPosition {
            epoch: position.epoch,
            offset: position.offset,
            check: position.check,
            step,
            view,
        };
        let nonce = rand::RngExt::random(&mut rand::rng());
        self.0.seal(position, nonce)
    }

    /// The position of a text; `None` if this hub did not seal it.
    pub fn open(&self, text: &str) -> Option<ViewPosition> {
        self.0.open(text)
    }
}
