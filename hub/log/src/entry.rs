//! An entry of one guild's log, and its position.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::state::{Change, GuildState};

/// A place in one guild's continuous history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which continuous history.
    pub epoch: u64,
    /// How many entries it holds.
    pub offset: u64,
    /// Names the entry there and all before it: another history has another check here.
    pub check: u32,
}

/// One entry of a guild's log.
#[derive(Debug)]
pub struct Entry {
    /// Where the log stands with it.
    pub position: Position,
    /// What changed.
    pub change: Change,
    /// When the worker read it, or when the hub changed the ledger, in ms since the Unix epoch.
    pub ts: u64,
}

/// An entry that is published, with the guild's state on both sides of it: followers apply nothing.
/// The states share what they have in common, so that each costs next to nothing.
#[derive(Debug)]
pub struct Applied {
    /// The entry.
    pub entry: Arc<Entry>,
    /// The guild before the entry.
    pub before: GuildState,
    /// The guild with the entry.
    pub after: GuildState,
}
