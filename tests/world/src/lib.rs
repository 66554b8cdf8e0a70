//! One world for all tests that run the real programs: `tests/e2e`, `tests/chaos`, `tests/load`
//! and the hub's own tests.
//!
//! - [`World`] starts the simulator, the development issuer, the hub and the worker on free
//!   loopback ports. Dropping it ends them.
//! - [`Process`] is one program; [`Launch`] says how it starts.
//! - [`Simulator`] and [`Issuer`] are clients of the simulated Discord's control side and of the
//!   development issuer.
//! - [`Socket`] is the only WebSocket client of the tests; [`Browser`] is a socket that keeps every
//!   frame.
//! - [`roster`] and [`reducer`] turn frames into a guild's state, by `docs/protocol.md` alone.
//!
//! Nothing here sleeps for a fixed time: every wait is for a fact, with a deadline.
//!
//! The checker of `tests/chaos`, the judge of `tests/model` and the counts of `tests/load` are not here.
//! They share no code with the SDK or with one another: a shared mistake would hide the fault that they
//! look for. The load generator reads frames by itself for another reason too: it must cost little.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed step ends the test, with the reason"
)]

mod addresses;
mod browser;
mod compare;
mod folder;
mod http;
mod issuer;
mod process;
pub mod reducer;
pub mod roster;
mod scrape;
mod settings;
mod simulator;
mod socket;
mod waiting;
mod world;

pub use addresses::free_addresses;
pub use browser::Browser;
pub use compare::assert_has;
pub use folder::Folder;
pub use http::pooled;
pub use issuer::Issuer;
pub use process::{Launch, Output, Process, built_at, program};
pub use rustix::process::Signal;
pub use scrape::{Family, Scrape};
pub use settings::{Addresses, SECRET, borrowed, hub_settings};
pub use simulator::{
    ADA, BOT_ROLE, BOT_TOKEN, CATEGORY, GRACE, GUILD, LOUNGE, STAFF, STUDY, Simulator,
};
pub use socket::{ConnectError, Ended, Socket};
pub use waiting::{DEADLINE, LOOK, eventually, within, within_async};
pub use world::{Plan, Side, World};
