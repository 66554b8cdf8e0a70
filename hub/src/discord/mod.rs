//! Discord's REST API. No other module calls it. Errors say what a response means, not its status.
//!
//! Requests are described with twilight's routes and sent by [`client`]. twilight's client (0.18)
//! retries a 429 until it succeeds, so a person would wait without an answer. It also names whole
//! paths in its spans, and the path of an interaction contains a token. Here every call ends within
//! [`DiscordSettings::discord_timeout_ms`]. A call that Discord's rate limits do not admit is rejected at once
//! with the time to wait ([`rate_limiter`]).
//!
//! Nothing is retried here: only the caller knows whether a call may be made twice.

mod audit;
mod call;
mod check;
mod client;
mod error;
mod lookup;
mod rate_limiter;
mod requests;
mod response;
mod settings;

pub use check::{Application, Channel, Guild, Member, Overwrite, ReadError};
pub use client::Discord;
pub use error::{DiscordError, Missing, Unknown};
pub use lookup::{Creation, Creations, made_ms};
pub use requests::{CreatedChannel, CreatedInvite, Deleted, NewChannel, NewInvite};
pub use settings::{ApplicationId, DiscordSettings};
