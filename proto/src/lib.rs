//! The messages between the parts of Roomwire, and how they are signed and encrypted.
//!
//! Pure: no I/O, no clock, no runtime. [`event`], [`mark`], [`delivery`] and [`chain`] are between the
//! worker and the hub, [`frame`], [`rest`] and [`problem`] between the hub and browsers. [`signing`]
//! signs the first; [`position`] is a place in a guild's log, as browsers get it.

pub mod chain;
pub mod close;
pub mod delivery;
pub mod event;
pub mod frame;
pub mod gateway;
pub mod ids;
pub mod mark;
pub mod position;
pub mod problem;
pub mod rest;
pub mod signing;

pub use ids::{ChannelId, GuildId, UserId};
