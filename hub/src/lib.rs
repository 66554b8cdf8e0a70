//! The hub: everything that browsers and Discord's HTTP touch. ARCHITECTURE.md has the map.

pub mod access;
pub mod app;
pub mod auth;
pub mod config;
pub mod console;
pub mod freshness;
pub mod ingest;
pub mod log;
pub mod ops;
pub mod refusal;
pub mod sockets;
pub mod view;
