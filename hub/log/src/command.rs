//! Everything that the log can be asked, as data, and what it answers.
//!
//! A command carries its id and its randomness, so that it can be executed again on a newer state.

use std::sync::Arc;

use proto::chain::{Claim, Claimed, Conflict, IdentifyNotice, Link};
use proto::delivery::RefusedEvent;
use proto::event::Event;
use proto::{ChannelId, GuildId};

use crate::state::Change;

/// A request to the log.
#[derive(Debug, Clone)]
pub enum Command {
    /// A worker takes a shard. Repeated under its id, the claim is answered again.
    Claim {
        /// Names the request.
        id: Arc<str>,
        /// The claim.
        claim: Claim,
    },
    /// A worker's bot identifies. Counted once for an id.
    Identify {
        /// Names the request.
        id: Arc<str>,
        /// The notice.
        notice: IdentifyNotice,
    },
    /// A worker delivers events, which are appended as a whole or not at all.
    Deliver {
        /// Where the delivery stands in the chain.
        link: Link,
        /// The events, in order.
        events: Vec<Event>,
    },
    /// Somebody appends events by hand, or by a program of their own.
    Append {
        /// The events, in order. An id that is known is a repeat.
        events: Vec<Event>,
    },
    /// Rooms of the ledger are stored, with changes that no event reports: all of it or nothing.
    Keep {
        /// The rows.
        rooms: Vec<LedgerRow>,
        /// The changes, in order.
        changes: Vec<(GuildId, Change)>,
    },
    /// Ends in a panic, after it has changed the state.
    #[cfg(test)]
    Panic,
}

/// The answer to a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Command::Claim`].
    Claimed(Result<Claimed, Conflict>),
    /// To [`Command::Identify`]: how often the bot identified in the last 24 h.
    Identified(Result<u32, Conflict>),
    /// To [`Command::Deliver`].
    Delivered(Result<Appended, Conflict>),
    /// To [`Command::Append`].
    Appended {
        /// The outcome of the events.
        appended: Appended,
        /// How many ids of events were forgotten before their time.
        forgotten_early: u64,
    },
    /// To [`Command::Keep`].
    Kept,
}

/// The outcome of some events.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// How many are new.
    pub accepted: u64,
    /// How many were known.
    pub duplicates: u64,
    /// Which were refused.
    pub refused: Vec<RefusedEvent>,
}

/// A room of the ledger as it is stored. The log does not know what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its channel.
    pub channel: ChannelId,
    /// The room. None: it is forgotten.
    pub room: Option<Vec<u8>>,
}
