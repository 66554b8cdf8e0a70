//! What the documents show is run: configurations, units, settings and shell commands.

#![expect(clippy::unwrap_used, reason = "tests")]

mod proxy;
mod settings;
mod shells;
mod units;
