//! The log: the ordered events of each guild. Append is publish.
//!
//! A guild's log holds the guild's whole state, hidden rooms included; what a viewer may see of it is
//! decided where it is read (the hub's `view`). Everything that adds to the log is a [`Command`]; the
//! expiry of old entries is none. One thread executes commands on a copy of the [`LogState`], stores
//! the [`Record`] of what they add, and only then publishes it and sends the replies.
//!
//! What holds for every backend:
//!
//! - *Append is publish.* An entry that is stored is seen by every reader and follower, in its order,
//!   once.
//! - *Durable before visible.* Nothing is published, read or acknowledged before it is stored.
//! - *All or nothing.* The commands of a group become durable together, or none of them does. A
//!   command that panics adds nothing. A refused one adds at most what its refusal costs: a budget, or
//!   the count of a fenced delivery.
//! - *Effects only.* `absorb(before, record) == after`: a record needs no judgement to be applied.
//! - *Together stays together.* A reader of a guild never sees a part of one delivery. A follower gets its entries
//!   one by one, and by the place that readers see it knows which of them belong together.
//! - *Damage is noticed.* A store is read back whole and checked, or it is set aside.
//!
//! A durable backend (SQLite) gives all of it back after any death of the process; after a power cut
//! it may give back an older state, which the chain between worker and hub notices. The memory backend
//! gives back nothing.

pub mod address;
mod backend;
pub mod command;
pub mod contention;
pub mod dedup;
pub mod entry;
#[cfg(test)]
mod fixture;
mod group;
mod health;
pub mod ledger;
mod log;
pub mod log_state;
mod open;
mod published;
pub mod reach;
pub mod record;
mod settings;
pub mod slots;
pub mod state;
pub mod tail;
pub mod workers;
mod writer;

pub use self::backend::StoreError;
pub use self::command::{Appended, Command, Reply};
pub use self::entry::{Applied, Entry, Position};
pub use self::health::Health;
pub use self::log::{Following, Log, NotTaken, Unavailable};
pub use self::log_state::{GuildRecord, LogState};
pub use self::record::{NewEntry, Record};
pub use self::settings::LogSettings;
pub use self::state::{Change, GuildState, Source};
