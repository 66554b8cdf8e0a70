//! What the documents show is run: configurations, units, settings, shell commands and
//! alerts.

#![expect(clippy::unwrap_used, reason = "tests")]

mod proxy;
mod refused;
mod settings;
mod shells;
mod units;
mod watching;
