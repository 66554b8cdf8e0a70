//! Chaos: the real programs under seeded faults, and the checker that judges what subscribers saw.
//!
//! [`checker`] is pure and stands by itself: the simulated Discord's numbered transitions and
//! everything that each subscriber received go in, what was lost, doubled, reordered, invented or
//! leaked comes out. Around it: [`subscriber`]s that come, go and recover; a [`mover`] that makes
//! things happen in Discord; a [`proxy`] between the worker and the hub, a [`cable`] between the worker
//! and the gateway; a [`stage`] with the real
//! processes; the [`fault`]s; what Discord says of [`sessions`], by which identifies are judged; one
//! [`run`] before its [`audience`], and a [`storm`] of them.

#![expect(
    clippy::unwrap_used,
    reason = "a program for tests: what goes wrong ends the run, with the reason"
)]

pub mod audience;
pub mod cable;
pub mod checker;
pub mod client;
pub mod discord;
pub mod fault;
pub mod late;
pub mod mover;
pub mod proxy;
pub mod run;
pub mod sessions;
pub mod settings;
pub mod shows;
pub mod stage;
pub mod store_files;
pub mod storm;
pub mod subscriber;
mod waiting;
