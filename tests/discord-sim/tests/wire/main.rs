//! The simulator over real sockets: what a bot's connection, its REST calls and a test's control
//! calls meet.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what a test's client cannot do fails the test"
)]

mod client;
mod control;
mod gateway;
mod interactions;
mod rest;
mod resume;
mod state;
