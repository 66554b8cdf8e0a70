//! The worker's endpoint: the body of one signed POST, and its receipt.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::GuildId;
use crate::chain::Link;
use crate::event::Event;
use crate::gateway::GatewayState;
use crate::problem::Code;

/// The one value of a delivery's `type`: inside the signed body, it binds the body to this endpoint.
pub const DELIVERY_TYPE: &str = "events";

/// A delivery as the worker writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery<'a> {
    /// Always [`DELIVERY_TYPE`].
    pub r#type: &'static str,
    /// The state of its sender.
    #[serde(flatten)]
    pub report: Report,
    /// In order.
    pub events: &'a [Event],
}

/// A worker's state, beside its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where the delivery stands in the chain.
    #[serde(flatten)]
    pub link: Link,
    /// The gateway connection of this shard.
    pub gateway: GatewayReport,
}

/// The state of one shard's gateway connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GatewayReport {
    /// The state of the shard's guilds.
    pub state: GatewayState,
    /// Why, in a fixed word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Guilds that differ from it: an outage at Discord, a state that is being read again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guilds: BTreeMap<GuildId, GuildReport>,
}

/// The state of one guild that differs from its shard's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuildReport {
    /// The state.
    pub state: GatewayState,
    /// Why, in a fixed word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A delivery as the hub reads it: each event stays raw, so that one bad event does not fail the rest.
#[derive(Debug, Deserialize)]
pub struct ReceivedDelivery<'a> {
    /// [`DELIVERY_TYPE`] or absent.
    pub r#type: Option<&'a str>,
    /// Only a worker's delivery has it; a manual one has no [`Report`] at all.
    pub shard: Option<(u32, u32)>,
    /// In order.
    #[serde(borrow)]
    pub events: Vec<&'a RawValue>,
}

/// The answer to a delivery, with 200.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// How many events were appended.
    pub accepted: u64,
    /// How many were known already.
    pub duplicates: u64,
    /// Which were refused, and why.
    pub refused: Vec<RefusedEvent>,
    /// There were events, and none of them was new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
    /// Followed guilds of the shard whose whole state the hub lacks: the worker owes a snapshot of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<GuildId>,
}

/// An event that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RefusedEvent {
    /// Its id; empty when even that could not be read.
    pub id: String,
    /// Why: `BAD_REQUEST` (not of the form), `FORBIDDEN` (not a guild of this hub).
    pub code: Code,
}
