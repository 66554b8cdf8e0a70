//! The hub: everything that browsers and Discord's HTTP touch. ARCHITECTURE.md has the map.

pub mod access;
pub mod app;
pub mod auth;
pub mod check;
pub mod commands;
pub mod config;
pub mod console;
pub mod discord;
pub mod discord_http;
pub mod error;
mod faults;
pub mod freshness;
pub mod http;
pub mod ingest;
mod lifecycle;
mod metrics;
pub mod ops;
pub mod positions;
pub mod program;
pub mod rooms;
pub mod sockets;
pub mod view;
