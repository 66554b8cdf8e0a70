//! Keeps the Discord gateway session and posts what happens, signed, to the hub.
//!
//! The path of an event: `shards` (the sockets) → [`dispatch`] (the few dispatches that are read) →
//! [`roster`] (events) → [`outbox`] (bounded) → `deliver` (signed, in order). [`feed`] holds one
//! shard's rosters and outbox; `ops` serves health and metrics. Before it connects, a worker claims
//! its shards at the hub (`claim`), and continues where its predecessor stopped.
//!
//! Without the feature `program` only the pure half is built: dispatches in, batches out.

pub mod dispatch;
pub mod feed;
pub mod outbox;
pub mod roster;

#[cfg(feature = "program")]
pub mod check;
#[cfg(feature = "program")]
pub mod claim;
#[cfg(feature = "program")]
pub mod config;
#[cfg(feature = "program")]
pub mod deliver;
#[cfg(feature = "program")]
pub mod hub;
#[cfg(feature = "program")]
pub mod metrics;
#[cfg(feature = "program")]
pub mod ops;
#[cfg(feature = "program")]
pub mod program;
#[cfg(feature = "program")]
pub mod retry;
#[cfg(feature = "program")]
pub mod shards;
#[cfg(feature = "program")]
pub mod worker;
