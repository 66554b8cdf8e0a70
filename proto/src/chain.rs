//! How a worker and the hub keep each other's memory: claims, the chain of deliveries, watermarks.
//!
//! The hub's acknowledgement is the worker's checkpoint. Discord replays everything after it to the
//! worker that resumes from there. So a worker needs no memory of its own, and a delivery may be lost,
//! late or repeated. docs/protocol.md, "The chain", has the duties that each field brings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::GuildId;
use crate::event::Roster;
pub use crate::mark::{Mark, Reached};

/// The one value of a claim's `type`.
pub const CLAIM_TYPE: &str = "claim";
/// The one value of an identify notice's `type`.
pub const IDENTIFY_TYPE: &str = "identify";
/// The longest name of a worker, gateway session id, resume URL or fingerprint, in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// One of Discord's gateway sessions, as a worker resumes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySession {
    /// Its number, see [`Reached`].
    pub number: u64,
    /// Discord's id of it.
    pub id: String,
    /// Where Discord wants it resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume_url: Option<String>,
}

/// Why a followed guild is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Absence {
    /// Its GUILD_CREATE is still to come.
    Awaited,
    /// Discord has an outage that concerns it.
    Outage,
    /// The bot is not a member of it.
    Removed,
}

/// Where a worker that takes over a shard continues.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Which session to resume.
    pub session: GatewaySession,
    /// From which sequence.
    pub sequence: u64,
    /// What the rosters depend on, besides Discord's dispatches. A worker with another one does not
    /// resume, because RESUME brings no GUILD_CREATE.
    pub fingerprint: String,
    /// RESUMEs of this session that were sent since RESUMED last came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumes: u32,
}

impl Checkpoint {
    /// How far the stream was read.
    pub fn reached(&self) -> Reached {
        Reached {
            session: self.session.number,
            sequence: self.sequence,
        }
    }
}

/// A worker takes a shard: no other may deliver for it from now on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Claim {
    /// [`CLAIM_TYPE`].
    pub r#type: String,
    /// The shard and the number of shards, as in Discord's IDENTIFY.
    pub shard: (u32, u32),
    /// Names this process, at random: a claim that is repeated is no second worker.
    pub worker: String,
    /// The guilds that this worker follows on this shard.
    pub guilds: Vec<GuildId>,
    /// Whether the answer is to hold the guilds and the checkpoint. Without them a worker identifies;
    /// one asks so when the answer is larger than it takes.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub memory: bool,
}

fn yes() -> bool {
    true
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes so")]
fn is_true(flag: &bool) -> bool {
    *flag
}

/// The answer to a claim: the worker's memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// Orders the workers of a shard; stands in every delivery.
    pub generation: u64,
    /// Where to resume; none: identify.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// The highest number of a session that this hub knows: the next one is higher.
    pub last_session: u64,
    /// Identifies of this shard's bot in the last 24 h, as far as this hub was notified.
    pub identifies: u32,
    /// The claimed guilds of which the hub knows everything.
    pub guilds: Vec<KnownGuild>,
    /// The claimed guilds that the hub does not serve: it takes no events of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<GuildId>,
}

/// One guild as the hub knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KnownGuild {
    /// The guild's newest event here: what is not above it is in the roster.
    pub mark: Mark,
    /// Why it is absent, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<Absence>,
    /// Everything, hidden rooms included.
    pub roster: Roster,
}

/// A worker is about to identify.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdentifyNotice {
    /// [`IDENTIFY_TYPE`].
    pub r#type: String,
    /// The shard and the number of shards.
    pub shard: (u32, u32),
    /// The worker's generation.
    pub generation: u64,
    /// The bucket whose next slot it needs; none: it needs no slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<Bucket>,
}

/// Shards of a bot that must not identify at the same time (Discord's documentation, "Sharding for
/// Large Bots").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// The shard modulo Discord's `max_concurrency`.
    pub number: u32,
    /// Between two identifies of it, in ms.
    pub every_ms: u64,
}

/// The answer to an identify notice: it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentifyNoted {
    /// Identifies in the last 24 h, this one included.
    pub identifies: u32,
    /// The time until the slot of the shard's bucket, in ms; none: the hub gives no slots, or was not
    /// asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_ms: Option<u64>,
}

/// A link of the chain: stands in every delivery of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Link {
    /// The shard and the number of shards.
    pub shard: (u32, u32),
    /// The generation of the worker's claim.
    pub generation: u64,
    /// The checkpoint that the worker knows the hub to have. If the hub has less, something between is
    /// missing there.
    pub from: Reached,
    /// Deliveries with events of this generation that the worker knows to have been taken. Some of them
    /// did not move the checkpoint, so `from` alone does not show that they are missing.
    pub taken: u64,
    /// The checkpoint once this delivery is taken.
    pub to: Reached,
    /// The session of `to`; none while nothing was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<GatewaySession>,
    /// See [`Checkpoint::fingerprint`].
    pub fingerprint: String,
    /// See [`Checkpoint::resumes`]; of `session`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub resumes: u32,
    /// Discord does not resume the session with this number, nor any before it: the hub keeps no
    /// checkpoint of them. 0: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// Followed guilds that are absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub absent: BTreeMap<GuildId, Absence>,
}

/// Why a delivery does not fit (409), and what the worker does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Conflict {
    /// A newer worker has the shard: close it resumably and end.
    Fenced,
    /// The hub's store is older than the claim: claim again, and send a snapshot of every guild.
    Unclaimed,
    /// The hub lacks what the delivery builds on: send a snapshot of every guild, from here.
    Gap {
        /// What the hub has.
        reached: Reached,
        /// How many deliveries with events of this generation it has taken.
        taken: u64,
    },
}
