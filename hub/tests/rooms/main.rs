//! Rooms over both of their doors, against the simulated Discord: what REST and the slash
//! commands answer, and what is then so in Discord.
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
