//! Every interleaving, within bounds, of what the chain between a worker and the hub is made of:
//! the worker's real [`Feed`](gateway_worker::feed::Feed) and the hub's real
//! [`LogState`](roomlog::LogState), between a Discord and a network that lose, delay and repeat.
//!
//! In every state: no guild's log has a transition twice, out of order, or with a gap that no
//! snapshot covers; the checkpoint does not pass what is not in the log; marks rise; what a worker
//! restores is what the hub has. From every state the world comes to rest by itself once nothing
//! more goes wrong, and then the hub has what Discord has and the checkpoint has followed.

pub mod bounds;
pub mod discord;
pub mod hub;
mod interned;
pub mod judge;
pub mod search;
pub mod worker;
pub mod world;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value as the other side reads it.
#[expect(
    clippy::expect_used,
    reason = "a wire that does not carry is a finding"
)]
pub(crate) fn over_the_wire<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_string(value).expect("it can be written");
    serde_json::from_str(&json).expect("it can be read")
}
