//! Chaos: the real programs under seeded faults, and the checker that judges what subscribers received.
//!
//! [`checker`] is pure: the simulated Discord's numbered transitions and everything that each
//! subscriber received go in; what was lost, doubled, reordered, invented or leaked comes out. It
//! shares no code with the SDK, the hub or the model's judge: a shared mistake would hide a fault.
//! [`sessions`] is pure as well and judges the identifies.
//!
//! Around them: [`subscriber`]s that connect, leave and recover; [`traffic`] in Discord; a [`proxy`]
//! between the worker and the hub; a [`cable`] between the worker and the gateway; an
//! [`environment`] with the real programs; the [`fault`]s; one [`run`] with its [`audience`], a
//! [`campaign`] of runs, and named [`scenarios`].

#![expect(
    clippy::unwrap_used,
    reason = "a program for tests: what goes wrong ends the run, with the reason"
)]

mod access;
pub mod audience;
pub mod cable;
pub mod campaign;
pub mod checker;
pub mod client;
pub mod discord;
pub mod environment;
pub mod fault;
pub mod late;
pub mod proxy;
pub mod run;
pub mod scenarios;
pub mod sessions;
pub mod settings;
pub mod store_files;
pub mod subscriber;
pub mod traffic;
