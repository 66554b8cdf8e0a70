//! Everything that the log can be asked, as data, and what it answers.
//!
//! A command carries what it needs of chance (a ticket, for example), so that it can be executed
//! again on a newer state.

use std::sync::Arc;

use proto::ChannelId;
use proto::chain::{Claim, Claimed, Conflict, IdentifyNoted, IdentifyNotice, Link};
use proto::delivery::RefusedEvent;
use proto::event::Event;

use crate::dedup::Admission;
use crate::ledger::{Begun, CreateOutcome, CreateRefused, CreateTicket, NewCreate, NotPending};

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
    /// A create begins: Discord is to be asked for a room once this is stored.
    BeginCreate {
        /// Names the create.
        ticket: CreateTicket,
        /// What it creates.
        create: NewCreate,
    },
    /// A create ends, by what Discord answered.
    FinishCreate {
        /// Names the create.
        ticket: CreateTicket,
        /// How it ended.
        outcome: CreateOutcome,
    },
    /// A room ends: Discord has deleted its channel.
    EndRoom {
        /// The channel.
        channel: ChannelId,
    },
    /// Discord's interaction is about to be answered: once for an id.
    NoteInteraction {
        /// Names the interaction.
        id: Arc<str>,
    },
    /// The ledger is brought in line with its bounds and with every guild, after each start.
    ReconcileRooms,
    /// Ends in a panic, after it has changed the state.
    #[cfg(test)]
    Panic,
}

/// The answer to a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Command::Claim`].
    Claimed(Result<Claimed, ClaimRefused>),
    /// To [`Command::Identify`].
    Identified(Result<Identified, Conflict>),
    /// To [`Command::Deliver`].
    Delivered(Result<Appended, DeliveryRefused>),
    /// To [`Command::Append`].
    Appended(Appended),
    /// To [`Command::BeginCreate`].
    CreateBegun(Result<Begun, CreateRefused>),
    /// To [`Command::FinishCreate`].
    CreateFinished(Result<Finished, NotPending>),
    /// To [`Command::EndRoom`] and [`Command::ReconcileRooms`].
    Done,
    /// To [`Command::NoteInteraction`].
    InteractionNoted(Admission),
}

/// A create that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// How many answers to requests with a key were forgotten before their time.
    pub forgotten_early: u64,
}

/// Why a claim is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimRefused {
    /// It does not fit to what is known.
    Conflict(Conflict),
    /// Two workers take the shard from one another.
    Contended {
        /// When to claim again.
        wait_ms: u64,
    },
}

/// An identify that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identified {
    /// What the worker gets, if it gets it at once.
    pub noted: IdentifyNoted,
    /// When the shard's slot is, in ms since the Unix epoch.
    pub slot_ms: Option<u64>,
}

/// Why a delivery is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeliveryRefused {
    /// It does not fit to what is known.
    pub conflict: Conflict,
    /// Whether a contention for the shard begins with it.
    pub begins_contention: bool,
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
    /// How many ids of events by hand were forgotten before their time.
    pub forgotten_early: u64,
}
