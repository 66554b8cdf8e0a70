//! How fresh what a browser sees is: the state of the connection to Discord.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// What the gateway connection of a guild's shard is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum GatewayState {
    /// Connected: what is shown is what Discord says.
    Live,
    /// Cut off and coming back by resume: nothing will be missing.
    Resuming,
    /// The whole state is being read again: what is shown may be old.
    Rebuilding,
    /// No connection, or no delivery of the worker: what is shown is old.
    Down,
}

/// A gateway state with its age, as browsers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct GatewayPayload {
    /// The state.
    pub state: GatewayState,
    /// While live: since the worker's last delivery; otherwise since the state began. In ms.
    #[ts(type = "number")]
    pub age_ms: u64,
    /// Why, in one of a few fixed words, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub reason: Option<String>,
}
