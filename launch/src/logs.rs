//! Logs: one line an event on standard error, as text or as JSON.
//!
//! At level `trace`, libraries print what goes over the wires: a page's token in the first frame of
//! its WebSocket, the bot's token in an IDENTIFY. So `trace` is of our own crates alone, whatever
//! the filter asks for.

use std::io::IsTerminal as _;

use clap::{Args, ValueEnum};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, registry};

/// The crates whose `trace` is printed: those of this workspace.
const OWN_CRATES: [&str; 7] = [
    "hub",
    "roomlog",
    "gateway_worker",
    "proto",
    "launch",
    "discord_sim",
    "dev_issuer",
];

/// The settings of the log, to be flattened into a process's own.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogSettings {
    /// error, warn, info, debug or trace; trace of our own parts only
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = parse_level)]
    pub log_level: Level,
    /// A filter by module, as in `hub=debug,info`; stands above LOG_LEVEL
    #[arg(long, env = "RUST_LOG", value_parser = parse_filter)]
    pub rust_log: Option<String>,
    /// pretty: for people; json: one object a line, for machines
    #[arg(long, env = "LOG_FORMAT", default_value = "pretty")]
    pub log_format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

fn parse_level(text: &str) -> Result<Level, String> {
    text.parse()
        .map_err(|_| "It must be one of: error, warn, info, debug, trace.".to_owned())
}

fn parse_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|_| "It must be levels and modules with levels, as in hub=debug,info.".to_owned())
}

/// Starts the process's log. The first call wins; later ones change nothing.
pub fn init(settings: &LogSettings) {
    let filter = settings
        .rust_log
        .clone()
        .unwrap_or_else(|| settings.log_level.to_string());
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = fmt::layer()
        // Colours are for a terminal; in a file they are noise.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let lines = match settings.log_format {
        LogFormat::Pretty => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // A second start in one process (tests) keeps the first log.
    let _started = registry()
        .with(lines.with_filter(filter_fn(hides_wire_data)))
        .with(filter)
        .try_init();
}

fn hides_wire_data(line: &Metadata<'_>) -> bool {
    let from = line.target().split("::").next().unwrap_or_default();
    *line.level() != Level::TRACE || OWN_CRATES.contains(&from)
}
