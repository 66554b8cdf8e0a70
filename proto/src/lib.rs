//! What the parts of Roomwire say to each other, and how it is sealed.
//!
//! Pure: no I/O, no clock, no runtime. [`event`], [`delivery`] and [`chain`] are spoken between the
//! worker and the hub, [`frame`], [`rest`] and [`problem`] between the hub and browsers; [`signing`]
//! seals the first, [`position`] names a place in what the second was told.

pub mod chain;
pub mod close;
pub mod delivery;
pub mod event;
pub mod frame;
pub mod gateway;
pub mod ids;
pub mod position;
pub mod problem;
pub mod rest;
pub mod signing;

pub use ids::{ChannelId, GuildId, UserId};
