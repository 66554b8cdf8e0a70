//! Rooms over both of their doors, against the simulated Discord: the answers of REST and of the
//! slash commands, and the state of Discord afterwards.
#![expect(
    clippy::unwrap_used,
    reason = "the steps that tests share may fail like tests"
)]

mod answer_comes_last;
mod discord;
mod interactions;
mod rest;
mod restart;
mod worker;
mod world;
