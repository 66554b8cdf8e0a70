//! hub

pub mod auth;
