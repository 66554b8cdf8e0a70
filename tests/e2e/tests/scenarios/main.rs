//! The scenarios of the world: each test is a sentence about the running whole.

#![expect(clippy::unwrap_used, reason = "tests")]

mod check;
mod commands;
mod deliveries;
mod gateway_away;
mod guilds;
mod hidden_by_staff;
mod listeners;
mod lost_sessions;
mod metrics;
mod out_of_view;
mod pages;
mod privacy;
mod recovery;
mod refusals;
mod restarts;
mod settings;
mod shards;
mod store;
mod strangers;
mod tokens;
mod wire;
