//! The scenarios of the running whole (`tests/scenarios`), and the tests that run what the documents
//! show (`tests/documents`). The programs start in [`world::World`].

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed step ends the test, with the reason"
)]

pub mod documents;
pub mod nginx;
pub mod tools;

pub use nginx::Nginx;
